"""The object catalog: what an event does to the row of an object (protocol 1).

The row of a raw object holds two places in the order of events. ``sequencer`` is the event by which its present
version was routed; messages, stage keys and outcomes name it. ``seen`` is present only where a later event told
nothing new (an old version was removed; the creation of a version that a removal's ``HeadObject`` had already
found): it keeps late events out without making work in flight look superseded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from botocore.exceptions import ClientError

from lake import clock, names, rows
from lake.events import Created, Removed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

LANDED = "LANDED"
STAGED = "STAGED"
UNROUTED = "UNROUTED"
QUARANTINED = "QUARANTINED"
TOO_LARGE = "TOO_LARGE"
DELETED = "DELETED"
BATCHED = "BATCHED"
PUBLISHED = "PUBLISHED"
SUPERSEDED = "SUPERSEDED"
STALE = "STALE"
DISCARDED = "DISCARDED"
"""A person has decided that this version of a raw object goes no further (``tarn discard``); a newer one does."""

NOBODY = "_"
"""Team and dataset, in attention keys alone, of an object whose key names neither; no team can be called so."""

RAW = "raw"
REPLACED = "a newer version of its raw object landed"
RAW_DELETED = "its raw object was deleted"
WAS_DISCARDED = "its raw object was discarded"


class UnreadableRowError(Exception):
    """A row of the object catalog is not as the lake writes it: somebody has edited it. What meets it fails alone."""


@dataclass(frozen=True)
class Verdict:
    """Where a version that landed stands: ``LANDED`` goes on; the other states need a person and say why."""

    state: str
    reason: str | None = None


@dataclass(frozen=True)
class Applied:
    """What an event did: ``outcome`` is a word for the log; ``row`` is what to send on, None when nothing is."""

    outcome: str
    row: Mapping[str, Any] | None = None


def attention(team: str | None, dataset: str | None, identity: str, state: str, moment: datetime) -> dict[str, str]:
    """The two attributes that put a row into the sparse ``attention`` index; remove both when the state is healthy."""
    return {
        "attention": names.attention_key(team or NOBODY, dataset or NOBODY, identity),
        "attention_at": f"{state}#{clock.stamp(moment)}",
    }


def readable(row: Mapping[str, Any], needed: Iterable[str] = ("state", "sequencer")) -> Mapping[str, Any]:
    """The row of an object, if what is ``needed`` of it is there, and a text as all that names or orders is.

    Raises:
        UnreadableRowError: naming what is wrong with it.
    """
    wrong = [name for name in needed if not isinstance(row.get(name), str)]
    wrong += [name for name in ("seen", "staged_id", "batch_id") if not isinstance(row.get(name, ""), str)]
    if wrong:
        raise UnreadableRowError(
            f"the row of {row.get('id')} was edited: {', '.join(f'{name} is {row.get(name)!r}' for name in wrong)}"
        )
    return row


def settle(s3: S3Client, removed: Removed) -> Created | Removed:
    """What stands after a removal: the live version under the removal's sequencer, or the removal itself.

    Deleting an old version or a delete marker sends a removal while the object lives, and bringing a version back
    sends no creation. The role needs ``s3:ListBucket``: without it S3 answers 403 where nothing stands.

    Raises:
        ClientError: S3 answered anything but 200 and 404.
    """
    try:
        head = s3.head_object(Bucket=removed.bucket, Key=removed.key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return removed
        raise
    return Created(
        bucket=removed.bucket,
        key=removed.key,
        size=head["ContentLength"],
        etag=head["ETag"].strip('"'),
        version_id=head.get("VersionId"),
        sequencer=removed.sequencer,
        event_time=clock.stamp(head["LastModified"]),
    )


def apply_created(objects: Table, created: Created, verdict: Verdict, moment: datetime) -> Applied:
    """Write the version that landed, under the condition that no later event was applied.

    One write for an object that is met the first time. An equal sequencer is sent on again while the row is
    ``LANDED`` (or ``STAGED`` and in no batch): the first handler may have died between the row and the queue.

    Raises:
        ConditionFailedError: another event of this key came between two looks; the message comes back.
        UnreadableRowError: somebody has edited the row.
    """
    place = names.locate(created.key)
    team, dataset = (place.team, place.dataset) if place else (None, None)
    healthy = verdict.state == LANDED
    values: dict[str, Any] = {
        "schema": rows.SCHEMA,
        "zone": RAW,
        "team": team,
        "dataset": dataset,
        "size": created.size,
        "etag": created.etag,
        "version_id": created.version_id,
        "sequencer": created.sequencer,
        "event_time": created.event_time,
        "state": verdict.state,
        "reason": verdict.reason,
        "seen": None,
        "discarded": None,
        "attention": None,
        "attention_at": None,
    }
    if not healthy:
        values |= attention(team, dataset, created.id, verdict.state, moment)
    try:
        row = rows.update(
            objects,
            {"id": created.id},
            values,
            condition=_is_new(created) | _is_judged_anew(created.sequencer, verdict.state),
        )
    except rows.ConditionFailedError as error:
        return _apply_again(objects, created, verdict, readable(error.row), moment)
    _retire_former(objects, row, created.sequencer, REPLACED, moment)
    return Applied(verdict.state, row if healthy else None)


def apply_removed(objects: Table, removed: Removed, moment: datetime) -> Applied:
    """Write that the object is gone; ``settle`` has looked. Its staged object is retired.

    Raises:
        ConditionFailedError: another event of this key came between two looks; the message comes back.
        UnreadableRowError: somebody has edited the row.
    """
    condition: ConditionBase = _is_later(removed.sequencer)
    if not removed.may_be_folder_marker:
        condition = Attr("id").not_exists() | condition
    place = names.locate(removed.key)
    values: dict[str, Any] = {
        "schema": rows.SCHEMA,
        "zone": RAW,
        "team": place.team if place else None,
        "dataset": place.dataset if place else None,
        "sequencer": removed.sequencer,
        "event_time": removed.event_time,
        "state": DELETED,
    }
    gone = ("etag", "version_id", "seen", "reason", "discarded", "attention", "attention_at")
    try:
        row = rows.update(objects, {"id": removed.id}, values, remove=gone, condition=condition)
    except rows.ConditionFailedError as error:
        if not error.row:
            return Applied("DROPPED")  # a folder marker that was never anybody's
        row = dict(readable(error.row))
        if row["state"] != DELETED or row["sequencer"] != removed.sequencer:
            return Applied("DROPPED")
    _retire_former(objects, row, removed.sequencer, RAW_DELETED, moment)
    return Applied(DELETED)


def retire(objects: Table, staged_id: str, reason: str, moment: datetime) -> str | None:
    """A staged object no longer tells what its raw object is; gives the state it ends in, None where none stands.

    In no batch it becomes ``SUPERSEDED``, which the batch claim skips. Claimed or published it becomes ``STALE``,
    in ``attention``: its dataset's ``OnChange`` decides. Safe to repeat.

    Raises:
        ConditionFailedError: a batch took or left the object between two looks; the caller's message comes back.
        UnreadableRowError: somebody has edited the row.
    """
    free = Attr("state").eq(STAGED) & Attr("batch_id").not_exists()
    try:
        rows.update(objects, {"id": staged_id}, {"state": SUPERSEDED, "reason": reason}, condition=free)
    except rows.ConditionFailedError as error:
        row = error.row
    else:
        return SUPERSEDED
    if not row:
        return None
    if readable(row, ["state"])["state"] in (SUPERSEDED, STALE):
        return str(row["state"])
    values = {"state": STALE, "reason": reason}
    values |= attention(row.get("team"), row.get("dataset"), staged_id, STALE, moment)
    rows.update(
        objects,
        {"id": staged_id},
        values,
        condition=Attr("state").eq(row["state"]) & Attr("batch_id").eq(row.get("batch_id")),
    )
    return STALE


def _apply_again(
    objects: Table, created: Created, verdict: Verdict, row: Mapping[str, Any], moment: datetime
) -> Applied:
    """An event that the row has met, or that it does not need to meet.

    Whoever wrote the row may have died before the version before it was retired, and nobody else retires it where
    the new version is never staged.
    """
    if row["sequencer"] != created.sequencer:
        if max(row["sequencer"], row.get("seen", "")) >= created.sequencer:
            return Applied("DROPPED")
        # Later, and of the version that stands: only its place in the order is new.
        row = rows.update(
            objects,
            {"id": created.id},
            {"seen": created.sequencer},
            condition=_is_later(created.sequencer) & Attr("version_id").eq(created.version_id),
        )
    _retire_former(objects, row, row["sequencer"], REPLACED, moment)
    if verdict.state != LANDED:
        return Applied("KNOWN")
    if row["state"] == LANDED:
        return Applied("SENT_AGAIN", row)
    if row["state"] == STAGED and "staged_id" in row:
        staged = rows.get(objects, {"id": row["staged_id"]})
        # A staged object that lost its row is staged again, under the same key.
        if staged is None or (readable(staged, ["state"])["state"] == STAGED and "batch_id" not in staged):
            return Applied("SENT_AGAIN", row)
    return Applied("KNOWN")


def _retire_former(objects: Table, row: Mapping[str, Any], sequencer: str, reason: str, moment: datetime) -> None:
    """Retire what was staged from the version before; ``record_outcomes`` may have staged this one meanwhile."""
    former = readable(row).get("staged_id")
    if former is not None and not former.endswith(names.stage_key("", sequencer)):
        retire(objects, former, reason, moment)


def _is_new(created: Created) -> ConditionBase:
    later: ConditionBase = _is_later(created.sequencer)
    if created.version_id is not None:
        later = later & (Attr("version_id").not_exists() | Attr("version_id").ne(created.version_id))
    return Attr("id").not_exists() | later


def _is_later(sequencer: str) -> ConditionBase:
    return Attr("sequencer").lt(sequencer) & (Attr("seen").not_exists() | Attr("seen").lt(sequencer))


def _is_judged_anew(sequencer: str, state: str) -> ConditionBase:
    """The same event, and its dataset has been registered, or taken away, since."""
    return Attr("sequencer").eq(sequencer) & Attr("state").is_in([LANDED, UNROUTED]) & Attr("state").ne(state)
