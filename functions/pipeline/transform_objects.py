"""Light transform of a group of raw objects of one dataset.

Woken by the Express machine with ``{"team", "dataset", "items"}``. Writes stage objects under their immutable keys,
and nothing else. Returns ``{"results": [{"id", "outcome", "reason", "size", "etag", "version_id", "rows"}]}``. An
object's fault is its outcome; what concerns the whole group (no registration, no transform) is raised, and the whole
group comes back.

It is deployed once for all datasets of a pipeline whose transform is SQL (raw_to_stage.yaml), and once for each dataset
whose transform is Python (light_function.yaml), with a role that reaches this dataset alone.
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
KEPT_MIB = 384
"""What this process keeps of the function's memory while a dataset's Python runs beside it."""


class WrongFunctionError(Exception):
    """The group is another function's: a dataset's Python runs in its own, whose role reaches nothing else."""


@dataclass(frozen=True)
class Settings:
    """Set by pipeline/raw_to_stage.yaml and pipeline/light_function.yaml; ``dataset_name`` is empty in the first."""

    dataset_name: str
    datasets_table_name: str
    raw_bucket_name: str
    stage_bucket_name: str
    duckdb_memory_mib: int
    duckdb_spill_mib: int
    duckdb_threads: int


SETTINGS = settings.read(Settings)
S3 = boto3.client("s3")
DATASETS = Registrations(boto3.resource("dynamodb").Table(SETTINGS.datasets_table_name))
TEXTS = object_transform.TransformTexts(S3)
FOLDER = object_transform.working_folder(Path(tempfile.gettempdir()))


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Each item of the group -> a stage object, or the reason why there is none."""
    team, dataset = event["team"], event["dataset"]
    registration = DATASETS.get(team, dataset, clock.now())
    place = object_transform.Place(
        raw_bucket=SETTINGS.raw_bucket_name,
        stage_bucket=SETTINGS.stage_bucket_name,
        folder=FOLDER,
        limits=Limits(SETTINGS.duckdb_memory_mib, SETTINGS.duckdb_spill_mib, SETTINGS.duckdb_threads, seconds=0),
        python_mib=int(context.memory_limit_in_mb) - KEPT_MIB,
    )
    made = object_transform.recipe(registration, *TEXTS.of(registration))
    if SETTINGS.dataset_name != (dataset if made.is_python else ""):
        raise WrongFunctionError(f"dataset {dataset}: {made.name} does not run in {context.function_name}")
    items = [Item.of(one) for one in event["items"]]

    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / 1000 - KEPT_SECONDS

    results = []
    for result in object_transform.transform_all(S3, place, made, items, seconds_left):
        # The one line of each object: the Express machine keeps no history.
        logger.info("object transformed", extra={"team": team, "dataset": dataset, **result.told()})
        results.append(result.told())
    return {"results": results}
