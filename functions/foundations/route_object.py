"""route_object: what S3 tells becomes a row of the object catalog and a message to the dataset's pipeline.

Woken by the ingest queue. Changes the object catalog (one write for an object) and sends to pipelines' queues.
Returns the messages that must come back, and no other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from lake import clock, queues, routing, settings
from lake.datasets import Registry
from lake.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True)
class Settings:
    """The function's environment."""

    objects_table_name: str
    datasets_table_name: str
    raw_bucket_name: str


SETTINGS = settings.read(Settings)
DYNAMODB = boto3.resource("dynamodb")
CLIENTS = routing.Clients(
    objects=DYNAMODB.Table(SETTINGS.objects_table_name),
    registry=Registry(DYNAMODB.Table(SETTINGS.datasets_table_name)),
    s3=boto3.client("s3"),
    sqs=boto3.client("sqs"),
)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route the objects of one message batch."""
    bodies = {record["messageId"]: record["body"] for record in event["Records"]}
    routed = routing.route(CLIENTS, SETTINGS.raw_bucket_name, bodies, clock.now())
    outcomes = Counter(outcome for _, outcome in routed.outcomes)
    logger.info("routed", extra={"outcomes": outcomes, "objects": routed.outcomes, "failed": routed.failed})
    return queues.partial_failure(routed.failed)
