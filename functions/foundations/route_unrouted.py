"""route_unrouted: objects that landed before their dataset was registered are routed, once it is.

Woken by the tick. Sends a notification again to the ingest queue, so that there is one way into the lake; changes
nothing itself. Returns how many it sent, by dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from lake import clock, routing, settings
from lake.datasets import Registry
from lake.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True)
class Settings:
    """The function's environment; ``most_objects`` bounds what one tick sends."""

    objects_table_name: str
    datasets_table_name: str
    ingest_queue_url: str
    most_objects: int


SETTINGS = settings.read(Settings)
DYNAMODB = boto3.resource("dynamodb")
DATASETS = DYNAMODB.Table(SETTINGS.datasets_table_name)
CLIENTS = routing.Clients(
    objects=DYNAMODB.Table(SETTINGS.objects_table_name),
    registry=Registry(DATASETS),
    s3=boto3.client("s3"),
    sqs=boto3.client("sqs"),
)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Send again what waits for a dataset that now exists."""
    sent = routing.resend_unrouted(CLIENTS, DATASETS, SETTINGS.ingest_queue_url, SETTINGS.most_objects, clock.now())
    logger.info("sent again", extra={"sent": sent})
    return {"sent": sent}
