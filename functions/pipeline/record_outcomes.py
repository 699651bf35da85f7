"""Record what a transform told of a group of raw objects.

Woken by the Express machine with ``{"team", "dataset", "items", "results"}``. Changes the object catalog; sends
messages to the dataset's queue; wakes start_batch when a full batch waits. Returns
``{"outcomes": [{"id", "outcome", "reason"}]}``, one for each item.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from lake import clock, settings, staging
from lake.hop_items import Item, MalformedMessageError, Result
from lake.observability import logger
from lake.registrations import Registrations

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True)
class Settings:
    """Set by pipeline/raw_to_stage.yaml."""

    objects_table_name: str
    datasets_table_name: str
    stage_bucket_name: str
    start_batch_function_arn: str


SETTINGS = settings.read(Settings)
_tables = boto3.resource("dynamodb")
DATASETS = Registrations(_tables.Table(SETTINGS.datasets_table_name))
CLIENTS = staging.Clients(
    objects=_tables.Table(SETTINGS.objects_table_name), sqs=boto3.client("sqs"), functions=boto3.client("lambda")
)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The group's items and results -> rows and messages -> an outcome for each item."""
    team, dataset = event["team"], event["dataset"]
    registration = DATASETS.get(team, dataset, clock.now())
    destination = staging.Destination(
        team=team,
        dataset=dataset,
        stage_bucket=SETTINGS.stage_bucket_name,
        queue_url=str(registration["queue_url"]),
        max_items=int(registration["max_items"]),
        start_batch_function=SETTINGS.start_batch_function_arn,
    )
    items = [Item.of(one) for one in event["items"]]
    settled = staging.record(CLIENTS, destination, items, _results(event["results"]), clock.now())
    logger.info(
        "outcomes recorded",
        extra={"team": team, "dataset": dataset, "outcomes": Counter(one.outcome.value for one in settled)},
    )
    return {"outcomes": [one.told() for one in settled]}


def _results(told: list[dict[str, Any]]) -> dict[str, Result]:
    """The results by id; one that cannot be read is left out, so that its object fails alone."""
    results = {}
    for one in told:
        try:
            result = Result.of(one)
        except MalformedMessageError as error:
            logger.error("result refused", extra={"error": str(error)})
        else:
            results[result.id] = result
    return results
