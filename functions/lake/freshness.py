"""How long ago a dataset published, for those whose registration says how fresh they must be.

The moment of the last publication stands in the dataset's tick row, which no stack update wipes: written by
finish_batch, read by the tick with the row that it reads anyway. Asking the batches table instead would read every
batch that failed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from lake import clock, rows
from lake.waiting import note_in_tick

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table


def published(table: Table, team: str, dataset: str, now: datetime) -> None:
    """A batch of the dataset was published ``now``; a later publication that is written down already stays."""
    moment = clock.stamp(now)
    earlier = Attr("published_at").not_exists() | Attr("published_at").lt(moment)
    try:
        note_in_tick(table, team, dataset, {"published_at": moment}, condition=earlier)
    except rows.ConditionFailedError:
        return


def since(tick: Mapping[str, Any]) -> datetime | None:
    """Since when a dataset has published nothing, by its tick row; None before the first tick that watched it.

    One that never published counts from that tick.
    """
    moment = tick.get("published_at") or tick.get("watched_since")
    return clock.parse(str(moment)) if moment else None


def hours(table: Table, registration: Mapping[str, Any], tick: Mapping[str, Any], now: datetime) -> float | None:
    """Hours since the dataset published; None where its registration does not watch it. ``tick`` as it was read."""
    if not limit(registration):
        return None
    moment = since(tick)
    if moment is None:
        team, dataset = str(registration["team"]), str(registration["dataset"])
        note_in_tick(table, team, dataset, {"watched_since": clock.stamp(now)})
        moment = now
    return max(now - moment, timedelta()) / timedelta(hours=1)


def limit(registration: Mapping[str, Any]) -> int:
    """After how many hours the dataset is stale; 0 where nobody watches it."""
    return int(registration.get("freshness_hours") or 0)
