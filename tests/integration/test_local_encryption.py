"""Who uses what is encrypted must be allowed to use the key: stock MiniStack 1.5.33 does not ask."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local_world import Roles, Stacks, allowing, policy

Client = Callable[[str], Any]
ACCOUNT = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
    "Action": "kms:*",
    "Resource": "*",
}


def _service(name: str) -> dict[str, Any]:
    actions = ["kms:GenerateDataKey*", "kms:Decrypt"]
    return {"Effect": "Allow", "Principal": {"Service": name}, "Action": actions, "Resource": "*"}


def _key(client: Client, *statements: dict[str, Any]) -> str:
    return str(client("kms").create_key(Policy=policy(ACCOUNT, *statements))["KeyMetadata"]["Arn"])


@pytest.fixture(scope="module")
def encrypted(client: Client) -> dict[str, str]:
    """A queue, a topic, a bucket and a table under one key, which the account's policies decide about."""
    suffix, key = uuid.uuid4().hex[:8], _key(client)
    bucket, table = f"encrypted-{suffix}", f"encrypted-{suffix}"
    client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    client("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [default]})
    client("s3").put_object(Bucket=bucket, Key="a", Body=b"1")
    client("dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
    )
    attributes = {"KmsMasterKeyId": key}
    return {
        "key": key,
        "queue": client("sqs").create_queue(QueueName=f"encrypted-{suffix}", Attributes=attributes)["QueueUrl"],
        "topic": client("sns").create_topic(Name=f"encrypted-{suffix}", Attributes=attributes)["TopicArn"],
        "bucket": bucket,
        "table": table,
    }


CALLS: dict[str, tuple[str, str, Callable[[Any, dict[str, str]], Any]]] = {
    "send": ("sqs", "kms:GenerateDataKey", lambda sqs, of: sqs.send_message(QueueUrl=of["queue"], MessageBody="x")),
    "receive": ("sqs", "kms:Decrypt", lambda sqs, of: sqs.receive_message(QueueUrl=of["queue"])),
    "publish": ("sns", "kms:GenerateDataKey", lambda sns, of: sns.publish(TopicArn=of["topic"], Message="x")),
    "put object": ("s3", "kms:GenerateDataKey", lambda s3, of: s3.put_object(Bucket=of["bucket"], Key="b", Body=b"")),
    "get object": ("s3", "kms:Decrypt", lambda s3, of: s3.get_object(Bucket=of["bucket"], Key="a")),
    "get item": (
        "dynamodb",
        "kms:Decrypt",
        lambda ddb, of: ddb.get_item(TableName=of["table"], Key={"id": {"S": "1"}}),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_role_needs_the_key(roles: Roles, encrypted: dict[str, str], name: str) -> None:
    service, action, call = CALLS[name]
    role = roles.create(allowing(f"{service}:*"))
    with pytest.raises(ClientError, match=f"not authorized to perform: {action} on resource: {encrypted['key']}"):
        call(roles.client(role, service), encrypted)
    roles.allow(
        role, allowing(f"{service}:*"), allowing("kms:Decrypt", "kms:GenerateDataKey", resource=encrypted["key"])
    )
    call(roles.client(role, service), encrypted)


def _notify(client: Client, *statements: dict[str, Any]) -> None:
    """A bucket that notifies a queue under a key with these statements."""
    name = f"notify-{uuid.uuid4().hex[:8]}"
    arn = f"arn:aws:sqs:eu-west-1:000000000000:{name}"
    admits = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    attributes = {"KmsMasterKeyId": _key(client, *statements), "Policy": policy(admits)}
    client("sqs").create_queue(QueueName=name, Attributes=attributes)
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    client("s3").put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)


def test_s3_needs_the_key_of_the_queue(client: Client) -> None:
    with pytest.raises(ClientError, match="Unable to validate the following destination configurations"):
        _notify(client)
    _notify(client, _service("s3.amazonaws.com"))


def test_a_log_group_needs_a_key_that_admits_it(client: Client, stacks: Stacks) -> None:
    def template(key: str) -> str:
        return json.dumps({"Resources": {"Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"KmsKeyId": key}}}})

    refused = stacks.create(template(_key(client)))
    assert refused["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "is not allowed to be used with arn:aws:logs:eu-west-1:000000000000:log-group:" in refused["Reasons"][0]
    admitted = stacks.create(template(_key(client, _service("logs.eu-west-1.amazonaws.com"))))
    assert admitted["StackStatus"] == "CREATE_COMPLETE"
