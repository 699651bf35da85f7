"""Foundations on a bucket and a key that stand already: used as they are, and left as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tarn import deployment, layers, removal, templates
from tarn.lake import Lake
from tests.e2e.lake_world import Demo, wait_for
from tests.e2e.own_emulator import own_emulator

AIRLINES = templates.ROOT / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"
BUCKET = "the-firms-landing-zone"
ACCOUNT = "000000000000"


def key_policy() -> dict[str, Any]:
    """As docs/deploying.md has it."""
    services = ["s3.amazonaws.com", "cloudwatch.amazonaws.com", "events.amazonaws.com"]
    use = ["kms:Decrypt", "kms:GenerateDataKey"]
    owner = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    logs = {"Service": "logs.eu-west-1.amazonaws.com"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": owner, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Allow", "Principal": {"Service": services}, "Action": use, "Resource": "*"},
            {"Effect": "Allow", "Principal": logs, "Action": ["kms:Encrypt*", *use, "kms:Describe*"], "Resource": "*"},
        ],
    }


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Iterator[boto3.Session]:
    """An account with a bucket that tells somebody else of tags, and a key."""
    with own_emulator(tmp_path_factory.mktemp("adoption")) as session:
        s3, sqs = session.client("s3"), session.client("sqs")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": session.region_name})
        queue = sqs.create_queue(QueueName="theirs")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        theirs = {"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectTagging:*"]}
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET,
            NotificationConfiguration={"QueueConfigurations": [theirs]},
            SkipDestinationValidation=True,
        )
        s3.put_object(Bucket=BUCKET, Key="air/airlines/before.csv", Body=b"carrier,name\nAA,x\n")
        yield session


def bucket_state(session: boto3.Session) -> dict[str, Any]:
    """All of the bucket that a lake could have touched."""
    s3 = session.client("s3")

    def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    state = {
        "notification": without_metadata(s3.get_bucket_notification_configuration(Bucket=BUCKET)),
        "versioning": without_metadata(s3.get_bucket_versioning(Bucket=BUCKET)),
    }
    for name, call in {
        "policy": s3.get_bucket_policy,
        "lifecycle": s3.get_bucket_lifecycle_configuration,
        "encryption": s3.get_bucket_encryption,
        "public": s3.get_public_access_block,
    }.items():
        try:
            state[name] = without_metadata(call(Bucket=BUCKET))
        except s3.exceptions.ClientError as error:
            state[name] = error.response["Error"]["Code"]
    return state


def deploy(**overrides: str) -> None:
    layers.deploy("local", "foundations", {}, quality=False, overrides=overrides)


def stacks(session: boto3.Session) -> set[str]:
    """What stands of the foundations."""
    found = session.client("cloudformation").describe_stacks()["Stacks"]
    return {
        one["StackName"]
        for one in found
        if one["StackName"].startswith("tarn-local-foundations") and one["StackStatus"] != "ROLLBACK_COMPLETE"
    }


def clear(session: boto3.Session) -> None:
    cloudformation = session.client("cloudformation")
    cloudformation.delete_stack(StackName="tarn-local-foundations")
    waiter = cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName="tarn-local-foundations", WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_one_bucket_for_two_zones_is_refused_before_anything_is_made(session) -> None:
    with pytest.raises(deployment.DeploymentError, match="each zone needs one of its own"):
        deploy(AdoptedRawBucketName=BUCKET, AdoptedStageBucketName=BUCKET)
    assert stacks(session) == set()
    assert session.client("kms").list_keys()["Keys"] == []


def test_a_bucket_without_versions_is_refused_with_the_remedy_and_left_alone(session) -> None:
    before = bucket_state(session)
    with pytest.raises(deployment.DeploymentError, match="turn versioning on"):
        deploy(AdoptedRawBucketName=BUCKET)
    assert bucket_state(session) == before
    clear(session)


def test_an_adopted_bucket_feeds_the_lake_and_is_left_as_it_was(session) -> None:
    s3 = session.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    before = bucket_state(session)
    key = session.client("kms").create_key(Policy=json.dumps(key_policy()))["KeyMetadata"]["Arn"]
    deploy(AdoptedRawBucketName=BUCKET, AdoptedKeyArn=key)

    lake = Demo(0, "", templates.ROOT, Lake("local", session), session).lake
    assert lake.contract.foundations("raw-bucket/name") == BUCKET
    assert lake.contract.foundations("key/arn") == key
    now = bucket_state(session)
    told = {one["Id"]: one for one in now.pop("notification")["QueueConfigurations"]}
    assert told.pop("tarn-local")["QueueArn"] == lake.contract.foundations("ingest-queue/arn")
    assert list(told.values()) == before["notification"]["QueueConfigurations"]
    assert now == {name: value for name, value in before.items() if name != "notification"}

    identity = lake.put("air", "airlines", AIRLINES)
    row = wait_for(lambda: lake.object_row(identity), f"{identity} is not catalogued")
    assert row["state"] == "UNROUTED"  # there is no dataset yet
    assert identity == f"s3://{BUCKET}/air/airlines/airlines.csv"

    deploy(AdoptedRawBucketName=BUCKET, AdoptedKeyArn=key, LogRetentionDays="14")  # changes nothing of the bucket
    left = removal.remove(removal.find("local", "foundations", {}))
    assert not [one for one in left if BUCKET in one or key.rpartition("/")[2] in one], "not ours to keep or to name"
    assert bucket_state(session) == before
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 2
