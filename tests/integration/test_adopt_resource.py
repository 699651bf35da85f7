"""Buckets and a key of somebody else's, in moto: what is checked, what is added, what is taken away again."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from lake import adoption, custom_resource
from tests.integration.tables import REGION, FakeContext, Lake, lake, load_handler

__all__ = ["lake"]

QUEUE = f"arn:aws:sqs:{REGION}:123456789012:ingest"
OTHERS = {
    "QueueConfigurations": [
        {"Id": "theirs", "QueueArn": QUEUE.replace("ingest", "a"), "Events": ["s3:ObjectTagging:*"]}
    ],
    "TopicConfigurations": [
        {"Id": "also-theirs", "TopicArn": QUEUE.replace("sqs", "sns"), "Events": ["s3:ObjectRestore:*"]}
    ],
}
SERVICES = ("s3", "cloudwatch", "events", f"logs.{REGION}")


class Adoption:
    """The function, an adopted bucket and an adopted key."""

    def __init__(self, lake: Lake, patch: pytest.MonkeyPatch) -> None:
        self.s3, self.kms = lake.s3, boto3.client("kms")
        self.module = load_handler("foundations.adopt_resource", {"ENVIRONMENT_NAME": "test", "REGION_NAME": REGION})
        patch.setattr(custom_resource.HTTP, "request", lambda *_, **__: None)
        self.s3.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": REGION})
        self.s3.put_bucket_versioning(Bucket="theirs", VersioningConfiguration={"Status": "Enabled"})
        self.encrypt("AES256")
        # moto knows most of a key's calls by its id alone
        given = {"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", "Policy": json.dumps(policy(SERVICES))}
        self.key = self.kms.create_key(**given)["KeyMetadata"]["KeyId"]

    def encrypt(self, algorithm: str, key: str | None = None) -> None:
        default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
        self.s3.put_bucket_encryption(
            Bucket="theirs",
            ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
        )

    def notify(self, configuration: dict[str, Any]) -> None:
        self.s3.put_bucket_notification_configuration(Bucket="theirs", NotificationConfiguration=configuration)

    def told(self) -> dict[str, Any]:
        answer = self.s3.get_bucket_notification_configuration(Bucket="theirs")
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    def request(self, kind: str, resource: str = adoption.BUCKET_TYPE, **properties: str) -> dict[str, Any]:
        given = {"BucketName": "theirs", "KeyArn": self.key, "QueueArn": QUEUE} | properties
        event = {
            "RequestType": kind,
            "ResponseURL": "https://example.com/answer?signed",
            "StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/tarn/1",
            "RequestId": "r1",
            "LogicalResourceId": "RawBucketAdoption",
            "ResourceType": resource,
            "ResourceProperties": {"ServiceToken": "arn", "ServiceTimeout": "120", **given},
        }
        if kind != "Create":
            event["PhysicalResourceId"] = given["BucketName"]
        return dict(self.module.handler(event, FakeContext()))


def policy(services: tuple[str, ...]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"},
            {
                "Effect": "Allow",
                "Principal": {"Service": [f"{one}.amazonaws.com" for one in services]},
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*",
            },
        ],
    }


@pytest.fixture
def world(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Adoption:
    return Adoption(lake, monkeypatch)


def test_our_notification_is_put_beside_the_others_and_taken_away_alone(world: Adoption) -> None:
    world.notify(OTHERS)
    before = world.told()
    for _ in range(2):  # a request may come twice
        answer = world.request("Create")
        assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "theirs")
    told = world.told()
    assert told["TopicConfigurations"] == before["TopicConfigurations"]
    [theirs, ours] = sorted(told["QueueConfigurations"], key=lambda one: one["Id"], reverse=True)
    assert theirs == before["QueueConfigurations"][0]
    assert (ours["Id"], ours["QueueArn"], sorted(ours["Events"])) == ("tarn-test", QUEUE, adoption.EVENTS)
    for _ in range(2):
        assert world.request("Delete")["Status"] == "SUCCESS"
        assert world.told() == before


def test_another_queue_takes_the_place_of_ours(world: Adoption) -> None:
    world.request("Create")
    assert world.request("Update", QueueArn=f"{QUEUE}2")["Status"] == "SUCCESS"
    assert [one["QueueArn"] for one in world.told()["QueueConfigurations"]] == [f"{QUEUE}2"]


def test_a_bucket_of_another_zone_is_checked_and_left_alone(world: Adoption) -> None:
    world.s3.put_bucket_versioning(Bucket="theirs", VersioningConfiguration={"Status": "Suspended"})
    world.notify(OTHERS)
    before = world.told()
    assert world.request("Create", QueueArn="")["Status"] == "SUCCESS"
    assert world.request("Delete", QueueArn="")["Status"] == "SUCCESS"
    assert world.told() == before


def test_what_is_missing_is_named_with_its_remedy_and_nothing_changes(world: Adoption) -> None:
    world.s3.put_bucket_versioning(Bucket="theirs", VersioningConfiguration={"Status": "Suspended"})
    other = world.kms.create_key()["KeyMetadata"]["Arn"]
    world.encrypt("aws:kms", other)
    taken = {"QueueConfigurations": [{"Id": "t", "QueueArn": f"{QUEUE}3", "Events": ["s3:ObjectCreated:Put"]}]}
    world.notify(taken)
    before = world.told()
    answer = world.request("Create")
    assert answer["Status"] == "FAILED"
    lines = answer["Reason"].splitlines()
    assert [all(word in line for word in words) for line, words in zip(lines, WORDS, strict=True)] == [True] * 3, lines
    assert other in lines[0]
    assert world.told() == before


WORDS = [
    ("encrypted with", "AdoptedKeyArn"),
    ("turn versioning on",),
    ("s3:ObjectCreated:Put", "EventBridge"),
]


def test_a_bucket_in_another_region_or_that_is_not_there_is_refused(world: Adoption) -> None:
    far = {"LocationConstraint": "eu-west-3"}
    boto3.client("s3", region_name="eu-west-3").create_bucket(Bucket="far", CreateBucketConfiguration=far)
    answer = world.request("Create", BucketName="far", QueueArn="")
    assert (answer["Status"], "it is in region eu-west-3" in answer["Reason"]) == ("FAILED", True)
    answer = world.request("Create", BucketName="nowhere")
    assert answer["Status"] == "FAILED"
    assert "bucket nowhere cannot be adopted" in answer["Reason"]
    assert world.request("Delete", BucketName="nowhere")["Status"] == "SUCCESS"


def test_a_key_that_lets_every_service_in_is_adopted(world: Adoption) -> None:
    assert world.request("Create", adoption.KEY_TYPE)["Status"] == "SUCCESS"
    world.encrypt("aws:kms", world.key)
    assert world.request("Create")["Status"] == "SUCCESS"


@pytest.mark.parametrize("missing", SERVICES)
def test_a_key_that_keeps_a_service_out_is_refused_by_the_services_name(world: Adoption, missing: str) -> None:
    left = tuple(one for one in SERVICES if one != missing)
    world.kms.put_key_policy(KeyId=world.key, PolicyName="default", Policy=json.dumps(policy(left)))
    answer = world.request("Create", adoption.KEY_TYPE)
    assert answer["Status"] == "FAILED"
    assert len(answer["Reason"].splitlines()) == 1
    assert f"does not let {missing}.amazonaws.com use kms:" in answer["Reason"]


def test_a_key_that_is_disabled_or_gone_is_refused(world: Adoption) -> None:
    world.kms.disable_key(KeyId=world.key)
    answer = world.request("Create", adoption.KEY_TYPE)
    assert (answer["Status"], "Disabled" in answer["Reason"]) == ("FAILED", True)
    gone = world.request("Create", adoption.KEY_TYPE, KeyArn=world.key[:-12] + "0" * 12)
    assert (gone["Status"], "NotFoundException" in gone["Reason"]) == ("FAILED", True)
