"""Handing a dataset over to a stack that is nested in its owner, while files are on their way.

When a dataset's resources move into a nested stack, CloudFormation makes the new ones first and deletes the old ones
last. In between the row is the new stack's and remembers the row before it as ``former``. The old resource's Delete
completes the handover: what still waits in the old queue is moved into the new one. A roll-back deletes the new
resource instead, which puts the former row back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from lake import clock, names, queues, rows, waiting
from lake.datasets import BELIEVED_FOR
from lake.registration import RegistrationError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_sqs.client import SQSClient

FORMER = "former"
HANDED_OVER_AT = "handed_over_at"
SETTLED_AFTER = BELIEVED_FOR + timedelta(seconds=5)
"""Functions may send to the former queue for as long as they believe the former registration."""
PATIENCE = timedelta(seconds=100)
"""Less than the function's time limit: every path must answer."""
POLL_SECONDS = 2
_OWNER = re.compile(r"(?P<place>.+:stack/)(?P<name>[^/]+)/(?P<rest>.+)")


@dataclass(frozen=True)
class Mover:
    """What moves messages: a client, and the time."""

    sqs: SQSClient
    now: Callable[[], datetime] = clock.now


def is_nested_in(owner: str, former: str) -> bool:
    """Whether ``owner``'s stack is nested in ``former``'s, at any depth (both are StackId/LogicalId).

    CloudFormation names a nested stack after its parent, its logical id and twelve or more random characters:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-nested-stacks.html
    """
    own, old = _OWNER.fullmatch(owner), _OWNER.fullmatch(former)
    if own is None or old is None or own["place"] != old["place"]:
        return False
    return re.fullmatch(re.escape(old["name"]) + r"(-[A-Za-z0-9]+-[A-Z0-9]{12,})+", own["name"]) is not None


def take_over(table: Table, row: Mapping[str, Any], found: Mapping[str, Any], now: datetime) -> bool:
    """Write ``row`` over ``found``, which it remembers; False where its stack is not nested in that of ``found``.

    A repeated request of the new owner keeps what was remembered.

    Raises:
        ConditionFailedError: the row has changed since it was found.
    """
    if found.get("owner") == row["owner"] and FORMER in found:
        remembered = {name: found[name] for name in (FORMER, HANDED_OVER_AT)}
    elif is_nested_in(str(row["owner"]), str(found.get("owner"))) and FORMER not in found:
        remembered = {FORMER: dict(found), HANDED_OVER_AT: clock.stamp(now)}
    else:
        return False
    rows.put(table, {**row, **remembered}, Attr("owner").eq(found["owner"]))
    return True


def give_back(table: Table, mover: Mover, row: Mapping[str, Any]) -> None:
    """Roll back: the former row stands again, and what came to the new queue goes to the old one.

    Raises:
        RegistrationError: messages of the new queue stayed in flight.
    """
    former = row[FORMER]
    rows.put(table, former, Attr("owner").eq(row["owner"]))
    _move(mover, row, str(row["queue_url"]), str(former["queue_url"]), mover.now() + SETTLED_AFTER)


def complete(table: Table, mover: Mover, row: Mapping[str, Any]) -> None:
    """What still waits in the former queue goes to the new one; then the former row is forgotten.

    Raises:
        RegistrationError: messages of the former queue stayed in flight.
    """
    settled = clock.parse(str(row[HANDED_OVER_AT])) + SETTLED_AFTER
    _move(mover, row, str(row[FORMER]["queue_url"]), str(row["queue_url"]), settled)
    key = {name: row[name] for name in ("team", "dataset")}
    rows.update(table, key, {}, remove=[FORMER, HANDED_OVER_AT], condition=Attr("owner").eq(row["owner"]))


def _move(mover: Mover, row: Mapping[str, Any], source: str, target: str, settled: datetime) -> None:
    """Move until nobody sends to ``source`` any more and nothing is in it. A message may come twice: claims are not.

    Bodies go as they are: what cannot be read is for its reader to refuse, and must not hold up the others.
    """
    if source == target:
        return
    until = mover.now() + PATIENCE
    group = names.owner_key(str(row["team"]), str(row["dataset"]))
    while mover.now() < until:
        received = mover.sqs.receive_message(
            QueueUrl=source, MaxNumberOfMessages=queues.MOST_IN_A_CALL, WaitTimeSeconds=POLL_SECONDS
        ).get("Messages", [])
        by_id = {one["MessageId"]: one for one in received}
        failed = queues.send(
            mover.sqs,
            target,
            (queues.Message(tag, one["Body"], group) for tag, one in by_id.items()),
        )
        queues.delete(mover.sqs, source, [one["ReceiptHandle"] for tag, one in by_id.items() if tag not in failed])
        if not received and mover.now() >= settled and waiting.depth(mover.sqs, source) == waiting.Depth(0, 0):
            return
    raise RegistrationError(
        [f"messages of {source} are still in flight, and would be lost with it: delete again in six minutes"]
    )
