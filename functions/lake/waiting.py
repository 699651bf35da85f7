"""What waits in a dataset's queue and since when, and the lease of the run that takes it.

Both stand in the dataset's tick row, a row of its own beside the registration, so that no stack update wipes it.
Correctness depends on neither: they decide when a run is worth its calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from lake import clock, rows

if TYPE_CHECKING:
    from boto3.dynamodb.conditions import ConditionBase
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_sqs.client import SQSClient

TICK = "tick"
"""Kind of a tick row."""


class Due(StrEnum):
    """Why a dataset gets a run."""

    FULL = "full"
    ENOUGH = "enough"
    WAITED = "waited"
    UNFINISHED = "unfinished"
    """Only to recover: what waits is neither enough nor old enough for a batch."""
    CHANGED = "changed"
    """Only to run batches again whose raw objects have changed since."""


@dataclass(frozen=True)
class Depth:
    """Approximate numbers of messages: to be received, and received but not deleted yet."""

    visible: int
    in_flight: int


def depth(sqs: SQSClient, queue_url: str) -> Depth:
    """How much a queue holds. Never learnt by receiving: each look would count as a failed delivery."""
    told = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    return Depth(int(told["ApproximateNumberOfMessages"]), int(told["ApproximateNumberOfMessagesNotVisible"]))


def due(
    registration: Mapping[str, Any], holds: Depth, since: datetime | None, unfinished: bool, now: datetime
) -> Due | None:
    """Whether a dataset gets a run now, and why; messages in flight can be received by nobody, and call for none."""
    if holds.visible >= int(registration["max_items"]):
        return Due.FULL
    if holds.visible and holds.visible >= int(registration["min_items"]):
        return Due.ENOUGH
    if holds.visible and since and now - since >= timedelta(minutes=int(registration["max_wait_minutes"])):
        return Due.WAITED
    return Due.UNFINISHED if unfinished else None


def dataset_of(tick_row: Mapping[str, Any]) -> str:
    """The dataset whose tick row it is."""
    return str(tick_row["dataset"]).removeprefix("tick#")


def tick_key(team: str, dataset: str) -> dict[str, str]:
    """Key of a dataset's tick row in the datasets table."""
    return {"team": team, "dataset": f"tick#{dataset}"}


def note_in_tick(
    table: Table, team: str, dataset: str, values: Mapping[str, Any], condition: ConditionBase | None = None
) -> None:
    """Set ``values`` in a dataset's tick row, which is made where there is none.

    Raises:
        ConditionFailedError: ``condition`` does not hold.
    """
    row = {"kind": TICK, "schema": rows.SCHEMA, **values}
    rows.update(table, tick_key(team, dataset), row, condition=condition)


def note(
    table: Table, team: str, dataset: str, *, holds: Depth, tick: Mapping[str, Any], now: datetime
) -> datetime | None:
    """Since when something waits: set by the first tick that sees messages, cleared by the one that sees none.

    SQS has no call for the age of a queue's oldest message. ``tick`` is the tick row as it was read.
    """
    since = tick.get("waiting_since")
    if holds.visible or holds.in_flight:
        if since is None:
            set_since(table, team, dataset, now)
            return now
        return clock.parse(str(since))
    if since is not None:
        rows.update(table, tick_key(team, dataset), {"waiting_since": None})
    return None


def set_since(table: Table, team: str, dataset: str, moment: datetime) -> None:
    """What waits now came at ``moment`` or later.

    A run that drained the queue says so too: in a dataset with a steady trickle no tick ever sees an empty queue,
    and the wait of the first object would make every later batch due at once.
    """
    note_in_tick(table, team, dataset, {"waiting_since": clock.stamp(moment)})


def lease(
    table: Table, team: str, dataset: str, *, holder: str, pipeline: str | None, now: datetime, length: timedelta
) -> bool:
    """Take the lease, so that two runs do not share out one queue; False where another run has it.

    The row keeps whose dataset it is: when its registration is gone, ``pipeline`` ends what is unfinished.
    """
    free = Attr("lease_until").not_exists() | Attr("lease_until").lt(clock.stamp(now)) | Attr("lease_holder").eq(holder)
    try:
        note_in_tick(
            table,
            team,
            dataset,
            {"lease_until": clock.stamp(now + length), "lease_holder": holder, "pipeline": pipeline},
            condition=free,
        )
    except rows.ConditionFailedError:
        return False
    return True


def release(table: Table, team: str, dataset: str, holder: str) -> None:
    """Give the lease back, if it is still ``holder``'s."""
    try:
        rows.update(
            table,
            tick_key(team, dataset),
            {},
            remove=["lease_until", "lease_holder"],
            condition=Attr("lease_holder").eq(holder),
        )
    except rows.ConditionFailedError:
        return  # it ran out, and another run took it
