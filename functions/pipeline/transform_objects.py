"""Light transform of a group of raw objects of one dataset.

Woken by the Express machine with ``{"team", "dataset", "items"}``. Writes stage objects under their immutable keys,
and nothing else. Returns ``{"results": [{"id", "outcome", "reason", "size", "etag", "version_id", "rows"}]}``; a
dataset's own function in its place returns the same. An object's fault is its outcome; what concerns the whole
group (no registration, no SQL) is raised, and the whole group comes back.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from lake import clock, object_transform, settings
from lake.hop_items import Item
from lake.light_transform import Limits
from lake.observability import logger
from lake.registrations import Registrations

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

KEPT_SECONDS = 15
"""What a run keeps of its time to upload the last object and to answer."""


@dataclass(frozen=True)
class Settings:
    """Set by pipeline/raw_to_stage.yaml."""

    datasets_table_name: str
    raw_bucket_name: str
    stage_bucket_name: str
    duckdb_memory_mib: int
    duckdb_spill_mib: int
    duckdb_threads: int


SETTINGS = settings.read(Settings)
S3 = boto3.client("s3")
DATASETS = Registrations(boto3.resource("dynamodb").Table(SETTINGS.datasets_table_name))
SQL_TEXTS = object_transform.SqlTexts(S3)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Each item of the group -> a stage object, or the reason why there is none."""
    team, dataset = event["team"], event["dataset"]
    registration = DATASETS.get(team, dataset, clock.now())
    place = object_transform.Place(
        raw_bucket=SETTINGS.raw_bucket_name,
        stage_bucket=SETTINGS.stage_bucket_name,
        folder=object_transform.working_folder(Path(tempfile.gettempdir())),
        limits=Limits(SETTINGS.duckdb_memory_mib, SETTINGS.duckdb_spill_mib, SETTINGS.duckdb_threads, seconds=0),
    )
    made = object_transform.recipe(registration, SQL_TEXTS.of(registration))
    items = [Item.of(one) for one in event["items"]]

    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / 1000 - KEPT_SECONDS

    results = []
    for result in object_transform.transform_all(S3, place, made, items, seconds_left):
        # The one line of each object: the Express machine keeps no history.
        logger.info("object transformed", extra={"team": team, "dataset": dataset, **result.told()})
        results.append(result.told())
    return {"results": results}
