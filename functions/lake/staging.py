"""What follows a transform: rows of the object catalog, and messages to the dataset's queue.

Per staged object, in this order: the staged row (put if absent), the message, the raw row. A crash between any
two of them leaves the raw row ``LANDED`` and the pipeline's message in its queue, and the next try does what is
missing. With the router's write these are three writes, none of them transactional.

Whether a newer version has landed is read before anything is written (one call for the group), and is the
condition of the last write: a version that was overtaken in between retires its own staged object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr
from botocore.exceptions import BotoCoreError, ClientError

from lake import catalog, names, queues, rows, waiting
from lake.hop_items import Item, Outcome, Result
from lake.observability import logger
from lake.queues import Message
from lake.raw_file import cut

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_lambda.client import LambdaClient
    from mypy_boto3_sqs.client import SQSClient

SUPERSEDED_REASON = "superseded"
REFUSALS = (Outcome.QUARANTINED, Outcome.TOO_LARGE)
FAILS_ALONE = (ClientError, BotoCoreError, rows.ConditionFailedError, catalog.UnreadableRowError)
"""What is wrong with one object, and must not keep the others of its group."""


class UnknownObjectError(Exception):
    """The object catalog has no row of this version, though the router writes it before it sends the message."""


@dataclass(frozen=True)
class Clients:
    """What recording works with."""

    objects: Table
    sqs: SQSClient
    functions: LambdaClient


@dataclass(frozen=True)
class Destination:
    """Where a dataset's staged objects go: bucket, queue, and the function to wake when ``max_items`` wait there."""

    team: str
    dataset: str
    stage_bucket: str
    queue_url: str
    max_items: int
    start_batch_function: str


@dataclass(frozen=True)
class Settled:
    """What the starter is told of one object."""

    id: str
    outcome: Outcome
    reason: str = ""

    def told(self) -> dict[str, str]:
        """The outcome as the machine carries it."""
        return {"id": self.id, "outcome": self.outcome.value, "reason": self.reason}


class _Next(Enum):
    """What is left to do for a staged object whose row stands."""

    SEND = auto()
    MARK = auto()
    """It is claimed: only the raw row may still be behind."""
    NOTHING = auto()
    """A newer version of its raw object has landed, or a person discarded this one."""


def record(
    clients: Clients, destination: Destination, items: Iterable[Item], results: Mapping[str, Result], now: datetime
) -> list[Settled]:
    """Record what a transform told of ``items``; one that it told nothing of has failed.

    An object whose AWS call fails has failed alone.
    """
    settled: dict[str, Settled] = {}
    staged: dict[str, Item] = {}
    told: dict[str, Result] = {}
    for item in items:
        result = results.get(item.id) or Result(item.id, Outcome.FAILED, "the transform told nothing of it")
        try:
            for sequencer in item.older:
                _supersede(clients.objects, destination, replace(item, sequencer=sequencer), catalog.REPLACED, now)
            told[item.id] = _in_view_of_earlier_tries(clients.objects, destination, item, result)
        except FAILS_ALONE as error:
            settled[item.id] = _failed(item.id, error)
            continue
        if told[item.id].outcome == Outcome.STAGED:
            staged[item.id] = item
        else:
            settled[item.id] = _refuse(clients.objects, destination, item, told[item.id], now)
    if staged:
        settled |= _stage(clients, destination, staged, told, now)
    return list(settled.values())


def announcement(tag: str, row: Mapping[str, Any]) -> Message:
    """What the dataset's queue is told of a staged object with this row."""
    told = {name: row.get(name) for name in ("id", "team", "dataset", "size", "sequencer", "version_id")}
    return Message(tag, {"schema": rows.SCHEMA, **told}, f"{row['team']}/{row['dataset']}")


def _supersede(objects: Table, destination: Destination, item: Item, reason: str, now: datetime) -> None:
    """A version that is its raw object's no longer goes no further, whoever staged it or is about to.

    An earlier try may have staged it and died before the raw row named it, and its message is settled now: nobody else
    would retire it. One that is late finds the row that stands here.
    """
    row = _staged_row(destination, item) | {"state": catalog.SUPERSEDED, "reason": reason}
    try:
        rows.put(objects, row, Attr("id").not_exists())
    except rows.ConditionFailedError:
        catalog.retire(objects, row["id"], reason, now)


def _staged_row(destination: Destination, item: Item) -> dict[str, Any]:
    """What the row of a staged object says of where it comes from, whatever became of it."""
    return {
        "id": names.object_id(destination.stage_bucket, item.stage_key),
        "schema": rows.SCHEMA,
        "zone": "stage",
        "team": destination.team,
        "dataset": destination.dataset,
        "sequencer": item.sequencer,
        "source_id": item.id,
    }


def _in_view_of_earlier_tries(objects: Table, destination: Destination, item: Item, result: Result) -> Result:
    """The result; but a try that staged this version and died before the raw row named it is ended, not refused.

    The dataset may have been deployed anew since, or its Python taken longer: what was staged may be published already.
    """
    if result.outcome not in REFUSALS:
        return result
    staged_id = names.object_id(destination.stage_bucket, item.stage_key)
    found = rows.get_many(objects, [item.id, staged_id])
    staged = found.get(staged_id)
    if staged is None or catalog.readable(staged, ["state"])["state"] == catalog.SUPERSEDED:
        return result
    if found.get(item.id, {}).get("staged_id") == staged_id:
        return result
    return Result(
        item.id,
        Outcome.STAGED,
        cut(f"by an earlier try; {result.outcome} now: {result.reason}"),
        size=int(staged["size"]),
        etag=str(staged["etag"]),
        version_id=staged.get("version_id"),
        rows=None if staged.get("rows") is None else int(staged["rows"]),
    )


def _stage(
    clients: Clients,
    destination: Destination,
    staged: Mapping[str, Item],
    results: Mapping[str, Result],
    now: datetime,
) -> dict[str, Settled]:
    """Rows and messages of what was staged; tells what came of each."""
    raw_rows = _raw_rows(clients.objects, staged)
    settled = {identity: Settled(identity, Outcome.STAGED, results[identity].reason) for identity in staged}
    next_steps: dict[str, _Next] = {}
    for identity, item in staged.items():
        try:
            next_steps[identity] = _put_staged(
                clients.objects, destination, item, results[identity], raw_row=raw_rows.get(identity), now=now
            )
        except (*FAILS_ALONE, UnknownObjectError) as error:
            settled[identity] = _failed(identity, error)
    to_send = [staged[identity] for identity, step in next_steps.items() if step is _Next.SEND]
    unsent = _send(clients.sqs, destination, to_send, results)
    settled |= {identity: Settled(identity, Outcome.FAILED, reason) for identity, reason in unsent.items()}
    for identity, step in next_steps.items():
        if step is _Next.NOTHING:
            settled[identity] = Settled(identity, Outcome.STAGED, SUPERSEDED_REASON)
        elif identity not in unsent:
            try:
                if not _mark_raw(clients.objects, destination, staged[identity], now):
                    settled[identity] = Settled(identity, Outcome.STAGED, SUPERSEDED_REASON)
            except FAILS_ALONE as error:
                settled[identity] = _failed(identity, error)
    if len(to_send) > len(unsent):
        _wake_when_full(clients, destination)
    return settled


def _raw_rows(objects: Table, staged: Mapping[str, Item]) -> dict[str, Mapping[str, Any]]:
    """The raw rows of a group, in one call; a row that DynamoDB did not get to is missing, and its object fails."""
    answer = objects.meta.client.batch_get_item(
        RequestItems={objects.name: {"Keys": [{"id": identity} for identity in staged], "ConsistentRead": True}}
    )
    return {str(row["id"]): row for row in answer["Responses"].get(objects.name, [])}


def _put_staged(
    objects: Table,
    destination: Destination,
    item: Item,
    result: Result,
    *,
    raw_row: Mapping[str, Any] | None,
    now: datetime,
) -> _Next:
    """Put the staged object's row, if none stands; what was staged from the version before is retired.

    Raises:
        UnknownObjectError: the raw row does not know this version.
        UnreadableRowError: somebody has edited a row.
    """
    if raw_row is None or catalog.readable(raw_row)["sequencer"] < item.sequencer:
        raise UnknownObjectError("the object catalog does not know this version, or could not be read")
    if raw_row["state"] == catalog.DISCARDED and raw_row["sequencer"] == item.sequencer:
        return _Next.NOTHING
    overtaken = raw_row["sequencer"] > item.sequencer
    row = _staged_row(destination, item) | {
        "size": result.size,
        "etag": result.etag,
        "version_id": result.version_id,
        "event_time": None if overtaken else raw_row.get("event_time"),
        "state": catalog.SUPERSEDED if overtaken else catalog.STAGED,
        "reason": catalog.REPLACED if overtaken else None,
        "source_version_id": item.version_id,
        "rows": result.rows,
    }
    staged_id = row["id"]
    standing: Mapping[str, Any] = row
    try:
        rows.put(objects, row, Attr("id").not_exists())
    except rows.ConditionFailedError as error:
        standing = _as_it_is_now(objects, row, catalog.readable(error.row, ["state"]))
    if overtaken:
        if standing["state"] != catalog.SUPERSEDED:
            catalog.retire(objects, staged_id, catalog.REPLACED, now)
        return _Next.NOTHING
    former = raw_row.get("staged_id")
    if former is not None and former != staged_id:
        catalog.retire(objects, str(former), catalog.REPLACED, now)
    if "batch_id" in standing:
        return _Next.MARK
    return _Next.SEND if standing["state"] == catalog.STAGED else _Next.NOTHING


def _as_it_is_now(objects: Table, row: Mapping[str, Any], standing: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of an object that was staged again, which may hold other bytes than it did: its next attempt reads these.

    Raises:
        ConditionFailedError: the row was removed in between; the object's message comes back.
    """
    now = {name: row[name] for name in ("size", "etag", "version_id", "rows")}
    if now == {name: standing.get(name) for name in now}:
        return standing
    return rows.update(objects, {"id": row["id"]}, now, condition=Attr("id").exists())


def _send(sqs: SQSClient, destination: Destination, items: list[Item], results: Mapping[str, Result]) -> dict[str, str]:
    """Tell the dataset's queue of staged objects; gives the reason for each raw id that it did not take."""
    messages = [
        announcement(
            item.id,
            {
                "id": names.object_id(destination.stage_bucket, item.stage_key),
                "team": destination.team,
                "dataset": destination.dataset,
                "size": results[item.id].size,
                "sequencer": item.sequencer,
                "version_id": results[item.id].version_id,
            },
        )
        for item in items
    ]
    try:
        return queues.send(sqs, destination.queue_url, messages)
    except (ClientError, BotoCoreError) as error:
        # Some may have been sent; they are sent again, and the claim takes each object once.
        return {item.id: _failed(item.id, error).reason for item in items}


def _mark_raw(objects: Table, destination: Destination, item: Item, now: datetime) -> bool:
    """The raw row names what was staged from it.

    False when a newer version landed, or a person discarded this one, meanwhile: then what was staged is retired.
    """
    staged_id = names.object_id(destination.stage_bucket, item.stage_key)
    try:
        rows.update(
            objects,
            {"id": item.id},
            {"state": catalog.STAGED, "staged_id": staged_id},
            remove=("reason", "attention", "attention_at"),
            condition=Attr("sequencer").eq(item.sequencer) & Attr("state").ne(catalog.DISCARDED),
        )
    except rows.ConditionFailedError as error:
        is_discarded = catalog.readable(error.row)["sequencer"] == item.sequencer
        catalog.retire(objects, staged_id, catalog.WAS_DISCARDED if is_discarded else catalog.REPLACED, now)
        return False
    return True


def _refuse(objects: Table, destination: Destination, item: Item, result: Result, now: datetime) -> Settled:
    """A raw object that is not staged: what needs a person is put before them, the rest changes no row.

    What was staged already stands, and an object that a newer version has replaced needs nobody.
    """
    if result.outcome in REFUSALS:
        state = result.outcome.value
        values = {"state": state, "reason": result.reason}
        values |= catalog.attention(destination.team, destination.dataset, item.id, state, now)
        try:
            rows.update(
                objects,
                {"id": item.id},
                values,
                condition=Attr("sequencer").eq(item.sequencer)
                & ~Attr("state").is_in([catalog.STAGED, catalog.DISCARDED]),
            )
        except rows.ConditionFailedError:
            logger.info("the row has moved on", extra={"id": item.id, "outcome": state})
        except (ClientError, BotoCoreError) as error:
            return _failed(item.id, error)
    if result.outcome == Outcome.GONE:
        try:
            _supersede(objects, destination, item, catalog.RAW_DELETED, now)
        except FAILS_ALONE as error:
            return _failed(item.id, error)
    return Settled(item.id, result.outcome, result.reason)


def _wake_when_full(clients: Clients, destination: Destination) -> None:
    """Wake start_batch when a full batch waits. When this fails, the tick does it; a lease makes repeats harmless."""
    try:
        if waiting.depth(clients.sqs, destination.queue_url).visible >= destination.max_items:
            event = {"team": destination.team, "dataset": destination.dataset}
            clients.functions.invoke(
                FunctionName=destination.start_batch_function,
                InvocationType="Event",
                Payload=json.dumps(event).encode(),
            )
    except (ClientError, BotoCoreError) as error:
        logger.warning("start_batch is left to the tick", extra={"error": str(error)})


def _failed(identity: str, error: Exception) -> Settled:
    return Settled(identity, Outcome.FAILED, cut(f"{type(error).__name__}: {error}"))
