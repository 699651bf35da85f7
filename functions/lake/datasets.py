"""Where a dataset's objects go: its registration, and the pipeline that the registration names.

A registration names a pipeline, never a queue; the row that holds the queue's URL is written by the pipeline's own
stack. A hit is believed for a minute, a miss never: what was registered a second ago is routed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from lake import rows

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

DATASET: Literal["dataset"] = "dataset"
PIPELINE: Literal["pipeline"] = "pipeline"
TEAM: Literal["team"] = "team"
TEAM_KEY = "team#"
"""The sort key of a team's own row; a dataset cannot be called so."""
BELIEVED_FOR = timedelta(seconds=60)


@dataclass(frozen=True)
class Dataset:
    """What routing needs of a registration."""

    team: str
    dataset: str
    pipeline: str


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that is deployed, and the queue by which it is reached."""

    team: str
    pipeline: str
    queue_url: str


def pipeline_key(pipeline: str) -> str:
    """The sort key of a pipeline's row; a dataset cannot be called so."""
    return f"pipeline#{pipeline}"


def of_row(row: dict[str, Any]) -> Dataset | Pipeline | None:
    """The registration in a row of the datasets table; None for a row of another kind (a tick's)."""
    if row.get("kind") == DATASET:
        return Dataset(row["team"], row["dataset"], row["pipeline"])
    if row.get("kind") == PIPELINE:
        return Pipeline(row["team"], row["pipeline"], row["queue_url"])
    return None


class Registry:
    """Lookups in the datasets table, remembered for as long as the function's instance lives."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._found: dict[tuple[str, str], tuple[datetime, Dataset | Pipeline]] = {}

    def dataset(self, team: str, dataset: str, moment: datetime) -> Dataset | None:
        """The registration of a team's dataset."""
        found = self._look_up(team, dataset, moment)
        return found if isinstance(found, Dataset) else None

    def pipeline(self, team: str, pipeline: str, moment: datetime) -> Pipeline | None:
        """A team's pipeline."""
        found = self._look_up(team, pipeline_key(pipeline), moment)
        return found if isinstance(found, Pipeline) else None

    def _look_up(self, team: str, name: str, moment: datetime) -> Dataset | Pipeline | None:
        since, known = self._found.get((team, name), (None, None))
        if since is not None and moment - since < BELIEVED_FOR:
            return known
        row = rows.get(self._table, {"team": team, "dataset": name})
        found = None if row is None else of_row(row)
        if found is None:
            self._found.pop((team, name), None)
        else:
            self._found[team, name] = (moment, found)
        return found


def registered(table: Table) -> list[tuple[Dataset, Pipeline]]:
    """Every dataset whose pipeline is deployed, of every team, in order of their names.

    The one scan of the lake: of a table with a row for each dataset, by the foundations' own tick, which alone is
    allowed it.
    """
    found: list[Dataset | Pipeline | None] = []
    arguments: dict[str, Any] = {
        "ProjectionExpression": "team, dataset, #kind, pipeline, queue_url",
        "ExpressionAttributeNames": {"#kind": "kind"},
    }
    while True:
        page = table.scan(**arguments)
        found += [of_row(row) for row in page["Items"]]
        if "LastEvaluatedKey" not in page:
            break
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    pipelines = {(one.team, one.pipeline): one for one in found if isinstance(one, Pipeline)}
    pairs = [
        (one, pipelines[one.team, one.pipeline])
        for one in found
        if isinstance(one, Dataset) and (one.team, one.pipeline) in pipelines
    ]
    return sorted(pairs, key=lambda pair: (pair[0].team, pair[0].dataset))
