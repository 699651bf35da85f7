"""Datasets that wait for others: which have not published yet, how long the wait has been, and circles of names.

When a dataset last published stands in its tick row (``lake.freshness``). A wait is noted in the waiting dataset's own
tick row, as ``held_by`` and ``held_since``, and nothing stays open meanwhile: each run of start_batch looks again. A
wait that lasts too long ends in one batch that fails by name, and the next wait begins: with what is left in the queue,
or with what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from lake import clock, rows, waiting

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

HELD_BY, HELD_SINCE = "held_by", "held_since"


@dataclass(frozen=True)
class Wait:
    """The datasets (TEAM/DATASET) that have not published in the window, and whether they were waited for in full."""

    missing: tuple[str, ...] = ()
    is_over: bool = False


def look(table: Table, registration: Mapping[str, Any], now: datetime) -> Wait:
    """Whom a dataset waits for ``now``, which is also noted in its tick row."""
    named = registration.get("depends_on") or []
    if not named:
        return Wait()
    window = timedelta(hours=int(registration["depends_on_hours"]))
    missing = tuple(name for name in named if not _has_published(table, name, now - window))
    team, dataset = str(registration["team"]), str(registration["dataset"])
    tick = rows.get(table, waiting.tick_key(team, dataset)) or {}
    since = waited_since(tick) or now
    if missing:
        hold(table, team, dataset, missing, since)
    elif HELD_BY in tick:
        rows.update(table, waiting.tick_key(team, dataset), {}, remove=[HELD_BY, HELD_SINCE])
    limit = timedelta(hours=int(registration["depends_on_max_wait_hours"]))
    return Wait(missing, bool(missing) and now - since >= limit)


def waited_since(tick: Mapping[str, Any]) -> datetime | None:
    """Since when a dataset has waited for others; None where its tick row notes no wait.

    A noted time outlives its wait when that emptied the queue, or when the dataset stopped to name others: no wait is
    older than what waits.
    """
    if HELD_SINCE not in tick:
        return None
    return max(clock.parse(str(moment)) for moment in (tick[HELD_SINCE], tick.get("waiting_since")) if moment)


def hold(table: Table, team: str, dataset: str, missing: Sequence[str], since: datetime) -> None:
    """Note whom a dataset waits for, and since when."""
    waiting.note_in_tick(table, team, dataset, {HELD_BY: list(missing), HELD_SINCE: clock.stamp(since)})


def _has_published(table: Table, name: str, since: datetime) -> bool:
    team, _, dataset = name.partition("/")
    moment = (rows.get(table, waiting.tick_key(team, dataset)) or {}).get("published_at")
    return moment is not None and clock.parse(str(moment)) >= since


def circle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Names that wait for each other, each for the next one, the first at both ends; empty where there are none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]  # each one waited for by the next
        return found[::-1]
    return []
