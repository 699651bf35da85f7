"""What a template says of a resource reads back from it, after a creation and after an update.

Stock MiniStack 1.5.33 drops each property that is asked for here, and deploys green.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.local_world import Stacks

STACK = "properties"
Client = Callable[[str], Any]
Values = dict[str, str]
LOOKS: dict[str, Callable[[Client, Values], Any]] = {
    "encryption of a bucket": lambda client, of: (
        client("s3").get_bucket_encryption(Bucket=of["BucketName"])["ServerSideEncryptionConfiguration"]["Rules"][0][
            "ApplyServerSideEncryptionByDefault"
        ]["KMSMasterKeyID"]
        == of["KeyArn"]
    ),
    "expiration of objects": lambda client, of: [
        rule["Expiration"]["Days"]
        for rule in client("s3").get_bucket_lifecycle_configuration(Bucket=of["BucketName"])["Rules"]
        if "Expiration" in rule
    ],
    "expiration of old versions": lambda client, of: client("s3").get_bucket_lifecycle_configuration(
        Bucket=of["BucketName"]
    )["Rules"][0]["NoncurrentVersionExpiration"],
    "versions": lambda client, of: client("s3").get_bucket_versioning(Bucket=of["BucketName"])["Status"],
    "public access": lambda client, of: all(
        client("s3").get_public_access_block(Bucket=of["BucketName"])["PublicAccessBlockConfiguration"].values()
    ),
    "access log": lambda client, of: (
        client("s3").get_bucket_logging(Bucket=of["BucketName"])["LoggingEnabled"]["TargetBucket"]
        == of["LogBucketName"]
    ),
    "tags of a bucket": lambda client, of: (
        {"Key": "zone", "Value": "raw"} in client("s3").get_bucket_tagging(Bucket=of["BucketName"])["TagSet"]
    ),
    "events of a bucket": lambda client, of: (
        "EventBridgeConfiguration" in client("s3").get_bucket_notification_configuration(Bucket=of["BucketName"])
    ),
    "policy of a bucket": lambda client, of: (
        "NothingWithoutTls" in client("s3").get_bucket_policy(Bucket=of["BucketName"])["Policy"]
    ),
    "time to live": lambda client, of: (
        client("dynamodb")
        .describe_time_to_live(TableName=of["TableName"])["TimeToLiveDescription"]
        .get("AttributeName")
    ),
    "point in time recovery": lambda client, of: client("dynamodb").describe_continuous_backups(
        TableName=of["TableName"]
    )["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
    "key of a table": lambda client, of: _table(client, of)["SSEDescription"]["KMSMasterKeyArn"] == of["KeyArn"],
    "protection of a table": lambda client, of: _table(client, of)["DeletionProtectionEnabled"],
    "dead letters": lambda client, of: (
        '"maxReceiveCount":5'
        in client("sqs").get_queue_attributes(QueueUrl=of["QueueUrl"], AttributeNames=["All"])["Attributes"][
            "RedrivePolicy"
        ]
    ),
    "key of a topic": lambda client, of: (
        client("sns").get_topic_attributes(TopicArn=of["TopicArn"])["Attributes"].get("KmsMasterKeyId") is not None
    ),
    "boundaries": lambda client, of: (
        {
            client("iam").get_role(RoleName=of[name])["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"]
            for name in ("BoundedRoleName", "FunctionRoleName", "StateMachineRoleName")
        }
        == {of["BoundaryArn"]}
    ),
    "reserved concurrency": lambda client, of: (
        client("lambda").get_function_concurrency(FunctionName=of["FunctionName"]).get("ReservedConcurrentExecutions")
    ),
    "dead letters of a function": lambda client, of: (
        "TargetArn" in client("lambda").get_function_configuration(FunctionName=of["FunctionName"])["DeadLetterConfig"]
    ),
    "key of a function": lambda client, of: (
        client("lambda").get_function_configuration(FunctionName=of["FunctionName"])["KMSKeyArn"] == of["KeyArn"]
    ),
    "concurrency of a mapping": lambda client, of: client("lambda").list_event_source_mappings(
        FunctionName=of["FunctionName"]
    )["EventSourceMappings"][0]["ScalingConfig"]["MaximumConcurrency"],
    "log of a machine": lambda client, of: _machine(client, of)["loggingConfiguration"]["level"],
    "log group of a machine": lambda client, of: (
        of["LogGroupName"]
        in _machine(client, of)["loggingConfiguration"]["destinations"][0]["cloudWatchLogsLogGroup"]["logGroupArn"]
    ),
    "trace of a machine": lambda client, of: _machine(client, of)["tracingConfiguration"]["enabled"],
    "limits of a job": lambda client, of: _job(client)["ExecutionProperty"]["MaxConcurrentRuns"],
    "timeout of a job": lambda client, of: _job(client)["Timeout"],
}
CREATED = {
    "expiration of objects": [30],
    "expiration of old versions": {"NoncurrentDays": 7},
    "versions": "Enabled",
    "time to live": "expires_at",
    "point in time recovery": "ENABLED",
    "protection of a table": False,
    "reserved concurrency": 3,
    "concurrency of a mapping": 4,
    "log of a machine": "ERROR",
    "limits of a job": 4,
    "timeout of a job": 60,
}


def _table(client: Client, of: Values) -> dict[str, Any]:
    return dict(client("dynamodb").describe_table(TableName=of["TableName"])["Table"])


def _machine(client: Client, of: Values) -> dict[str, Any]:
    return dict(client("stepfunctions").describe_state_machine(stateMachineArn=of["StateMachineArn"]))


def _job(client: Client) -> dict[str, Any]:
    return dict(client("glue").get_job(JobName="properties")["Job"])


@pytest.fixture(scope="module")
def deployed(stacks: Stacks) -> Iterator[Values]:
    done = stacks.sam_deploy("properties/template.yaml", STACK)
    assert done.returncode == 0, done.stdout + done.stderr
    yield stacks.settled(STACK)["Values"]
    stacks.api.delete_stack(StackName=STACK)


@pytest.mark.parametrize("look", LOOKS)
def test_a_property_reads_back(client: Client, deployed: Values, look: str) -> None:
    assert LOOKS[look](client, deployed) == CREATED.get(look, True)


def test_a_changed_property_is_changed_in_place(client: Client, deployed: Values, stacks: Stacks) -> None:
    updated = {"ExpirationDays": "5", "ReservedConcurrency": "2", "MaximumConcurrency": "7", "HasProtection": "true"}
    done = stacks.sam_deploy("properties/template.yaml", STACK, **updated)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stacks.settled(STACK)["Values"] == deployed
    assert LOOKS["expiration of objects"](client, deployed) == [5]
    assert LOOKS["reserved concurrency"](client, deployed) == 2
    assert LOOKS["concurrency of a mapping"](client, deployed) == 7
    assert LOOKS["limits of a job"](client, deployed) == 7
    assert LOOKS["protection of a table"](client, deployed) is True
    assert LOOKS["versions"](client, deployed) == "Enabled"


def test_what_is_protected_or_full_is_not_deleted_with_its_stack(
    client: Client, deployed: Values, stacks: Stacks
) -> None:
    assert stacks.sam_deploy("properties/template.yaml", STACK, HasProtection="true").returncode == 0
    client("s3").put_object(Bucket=deployed["BucketName"], Key="a", Body=b"1")
    refused = stacks.delete(STACK)
    assert refused["StackStatus"] == "DELETE_FAILED"
    assert any("DeletionProtectionEnabled" in reason for reason in refused["Reasons"])
    assert any("BucketNotEmpty" in reason for reason in refused["Reasons"])

    client("dynamodb").update_table(TableName=deployed["TableName"], DeletionProtectionEnabled=False)
    for version in client("s3").list_object_versions(Bucket=deployed["BucketName"])["Versions"]:
        client("s3").delete_object(Bucket=deployed["BucketName"], Key="a", VersionId=version["VersionId"])
    assert stacks.delete(STACK)["StackStatus"] == "DELETE_COMPLETE"


def test_a_property_that_is_taken_out_is_removed(client: Client, stacks: Stacks) -> None:
    head = "Resources:\n  Table:\n    Type: AWS::DynamoDB::Table\n    Properties:\n"
    keys = (
        "      BillingMode: PAY_PER_REQUEST\n"
        "      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]\n"
        "      KeySchema: [{AttributeName: id, KeyType: HASH}]\n"
    )
    ttl = "      TimeToLiveSpecification: {AttributeName: gone_at, Enabled: true}\n"
    outputs = "Outputs:\n  TableName:\n    Value: !Ref Table\n"
    created = stacks.create(head + keys + ttl + outputs)
    table = created["Values"]["TableName"]
    assert "ENABLED" in str(client("dynamodb").describe_time_to_live(TableName=table))
    stacks.update(head + keys + outputs, created["StackName"])
    assert "DISABLED" in str(client("dynamodb").describe_time_to_live(TableName=table))
