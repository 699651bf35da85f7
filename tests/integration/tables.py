"""Tables and queues for tests, created in moto from the templates' own properties.

A test that builds its own table can pass while the template's is wrong; here a wrong key schema, index or
visibility timeout in the template fails the tests of every function that relies on it.

Use it as ``from tests.integration.tables import lake`` (a fixture) or call ``create_table`` and ``create_queue``.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.mocked_aws import REGION, mocked_aws

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import DynamoDBServiceResource, Table
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

ROOT = Path(__file__).resolve().parents[2]
CATALOG = "foundations/catalog.yaml"
INGEST = "foundations/ingest.yaml"
ACCOUNT = "123456789012"
ENVIRONMENT = {"POWERTOOLS_SERVICE_NAME": "test", "POWERTOOLS_METRICS_DISABLED": "true"}
TABLE_PROPERTIES = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
QUEUE_ATTRIBUTES = ("VisibilityTimeout", "MessageRetentionPeriod", "DelaySeconds", "ReceiveMessageWaitTimeSeconds")


def bucket_name(zone: str) -> str:
    """The name that the templates compute for a zone (raw, stage, analytics, assets) in these tests."""
    return f"tarn-test-{zone}-{ACCOUNT}-{REGION}"


def properties(template: str, logical_id: str) -> dict[str, Any]:
    """Properties of a resource as its template (a path from the repository's root) declares them."""
    resources = yaml_parse((ROOT / template).read_text(encoding="utf-8"))["Resources"]
    return dict(resources[logical_id]["Properties"])


def create_table(dynamodb: DynamoDBServiceResource, logical_id: str, template: str = CATALOG) -> Table:
    """A table under its logical id, with the keys and indexes that the template declares."""
    declared = properties(template, logical_id)
    table = dynamodb.create_table(
        TableName=logical_id, **{name: declared[name] for name in TABLE_PROPERTIES if name in declared}
    )
    table.wait_until_exists()
    return table


def create_queue(
    sqs: SQSClient, logical_id: str, template: str, attributes: Mapping[str, Any] | None = None, name: str | None = None
) -> str:
    """URL of a queue with the times that the template declares; ``attributes`` stand above them.

    Encryption and redrive are left out: moto cannot show either at work.
    """
    declared = properties(template, logical_id)
    values = {key: declared[key] for key in QUEUE_ATTRIBUTES if key in declared} | dict(attributes or {})
    return sqs.create_queue(
        QueueName=name or logical_id, Attributes={key: str(value) for key, value in values.items()}
    )["QueueUrl"]


def receive_all(sqs: SQSClient, queue_url: str) -> list[dict[str, Any]]:
    """The bodies of all visible messages, which are deleted."""
    bodies = []
    while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages", []):
        for message in messages:
            bodies.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return bodies


def sqs_event(*bodies: Any) -> dict[str, Any]:
    """What Lambda hands to a function for these message bodies (text as it is, the rest as JSON): ids m0, m1, ..."""
    return {
        "Records": [
            {
                "messageId": f"m{place}",
                "receiptHandle": f"r{place}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "eventSource": "aws:sqs",
            }
            for place, body in enumerate(bodies)
        ]
    }


@dataclass(frozen=True)
class Lake:
    """The tables, zones and ingest queue of a lake in moto."""

    dynamodb: DynamoDBServiceResource
    s3: S3Client
    sqs: SQSClient
    objects: Table
    datasets: Table
    batches: Table
    raw_bucket: str
    stage_bucket: str
    analytics_bucket: str
    asset_bucket: str
    ingest_queue_url: str
    pipeline_queue_url: str
    """A queue named ``pipeline`` that stands for a team's pipeline queue."""
    dataset_queue_url: str
    """A queue named ``dataset`` that stands for a dataset's queue."""

    def row(self, identity: str) -> dict[str, Any] | None:
        """The object catalog's row of ``s3://bucket/key``."""
        row = self.objects.get_item(Key={"id": identity}, ConsistentRead=True).get("Item")
        return None if row is None else dict(row)

    def attention(self, state: str | None = None) -> list[dict[str, Any]]:
        """All rows of the sparse index, or those in ``state``."""
        found = self.objects.scan(IndexName="attention")["Items"]
        return [dict(row) for row in found if state is None or str(row["attention_at"]).startswith(f"{state}#")]


@contextmanager
def open_lake() -> Iterator[Lake]:
    """A lake in moto, for tests that need several (one for each example of a property)."""
    with mocked_aws() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        dynamodb = boto3.resource("dynamodb", region_name=REGION)
        s3 = boto3.client("s3", region_name=REGION)
        sqs = boto3.client("sqs", region_name=REGION)
        zones = {zone: bucket_name(zone) for zone in ("raw", "stage", "analytics", "assets")}
        for name in zones.values():
            s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        yield Lake(
            dynamodb=dynamodb,
            s3=s3,
            sqs=sqs,
            objects=create_table(dynamodb, "ObjectsTable"),
            datasets=create_table(dynamodb, "DatasetsTable"),
            batches=create_table(dynamodb, "BatchesTable"),
            raw_bucket=zones["raw"],
            stage_bucket=zones["stage"],
            analytics_bucket=zones["analytics"],
            asset_bucket=zones["assets"],
            ingest_queue_url=create_queue(sqs, "IngestQueue", INGEST),
            pipeline_queue_url=sqs.create_queue(QueueName="pipeline")["QueueUrl"],
            dataset_queue_url=sqs.create_queue(QueueName="dataset")["QueueUrl"],
        )


@pytest.fixture
def lake() -> Iterator[Lake]:
    """A fresh lake in moto for one test."""
    with open_lake() as opened:
        yield opened


def load_handler(module: str, environment: Mapping[str, str]) -> ModuleType:
    """A handler's module, imported anew (its clients are made at import) with ``environment`` on top."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        sys.modules.pop(module, None)
        return importlib.import_module(module)


class FakeContext:
    """What Lambda tells a handler of its own call, as far as a logger asks for it."""

    function_name = "test"
    memory_limit_in_mb = 512
    invoked_function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:test"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        """A whole minute, always."""
        return 60_000
