"""What is deployed is what the templates say: properties read back from the services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarn import templates

ZONES = ["raw", "stage", "analytics"]
TABLES = ["objects", "datasets", "batches"]


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_is_versioned_encrypted_and_closed(demo, zone) -> None:
    s3, bucket = demo.session.client("s3"), demo.lake.contract.foundations(f"{zone}-bucket/name")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    rule = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": demo.lake.contract.foundations("key/arn"),
    }
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]


def test_the_raw_zone_tells_of_what_comes_and_goes(demo) -> None:
    bucket = demo.lake.contract.foundations("raw-bucket/name")
    told = demo.session.client("s3").get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert sorted(event for one in told for event in one["Events"]) == ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_keys_and_indexes_of_its_template(demo, table) -> None:
    dynamodb, name = demo.session.client("dynamodb"), demo.lake.contract.foundations(f"{table}-table/name")
    resource = templates.load(Path("foundations/catalog.yaml"))["Resources"][f"{table.capitalize()}Table"]["Properties"]
    found = dynamodb.describe_table(TableName=name)["Table"]
    assert found["KeySchema"] == resource["KeySchema"]
    assert {one["IndexName"] for one in found.get("GlobalSecondaryIndexes", [])} == {
        one["IndexName"] for one in resource.get("GlobalSecondaryIndexes", [])
    }
    assert found["SSEDescription"]["SSEType"] == "KMS"
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert expiry.get("AttributeName") == resource.get("TimeToLiveSpecification", {}).get("AttributeName")


def test_every_role_of_the_pipeline_is_bounded(demo) -> None:
    iam = demo.session.client("iam")
    boundaries = {team: demo.lake.contract.team(team, "boundary/arn") for team in ("air", "sky")}
    pages = iam.get_paginator("list_roles").paginate()
    everybody = [role["RoleName"] for page in pages for role in page["Roles"]]
    for team, boundary in boundaries.items():
        names = [name for name in everybody if f"{team.capitalize()}MainPipelineStack" in name]
        assert len(names) >= 9
        roles = [iam.get_role(RoleName=name)["Role"] for name in names]
        bounded = {role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn") for role in roles}
        assert bounded == {boundary}


def test_each_deployed_machine_executes(demo) -> None:
    """A definition that deploys and cannot run is no machine: both have run to their end."""
    states = demo.session.client("stepfunctions")
    machines = {one["type"]: one["stateMachineArn"] for one in states.list_state_machines()["stateMachines"]}
    answer = states.start_sync_execution(stateMachineArn=machines["EXPRESS"], input='{"schema": 1, "groups": []}')
    assert (answer["status"], answer["output"]) == ("SUCCEEDED", "[]")
    ended = states.list_executions(stateMachineArn=machines["STANDARD"], statusFilter="SUCCEEDED")["executions"]
    assert ended
