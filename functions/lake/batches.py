"""Rows of the batches table, and the conditional writes that move a batch from state to state.

``OPEN -> READY -> STARTED -> PUBLISHED | FAILED | FAILED_QUALITY``, or ``OPEN -> ABANDONED``. Whatever is written
here is written under a condition on the state (and the attempt) that it leaves: the sparse index ``unfinished``
and every row read before may be out of date, the conditions are not. See docs/batch-claim.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, Key

from lake import names, rows
from lake.clock import parse, stamp
from lake.engines import GLUE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

UNFINISHED_INDEX = "unfinished"
ABANDONED_KEPT = timedelta(days=90)
"""Only rows of batches that came to nothing expire, long after every message that could name their objects."""
LONGEST_REASON = 1000


class State(StrEnum):
    """Where a batch stands. From ``READY`` on, its objects are its own for good."""

    OPEN = "OPEN"
    READY = "READY"
    STARTED = "STARTED"
    PUBLISHED = "PUBLISHED"
    FAILED = "FAILED"
    FAILED_QUALITY = "FAILED_QUALITY"
    ABANDONED = "ABANDONED"


COMMITTED = frozenset(State) - {State.OPEN, State.ABANDONED}
FINISHED = frozenset({State.PUBLISHED, State.FAILED, State.FAILED_QUALITY})
STATISTICS = ("rows_in", "rows_out", "files", "bytes", "partitions", "transform_seconds", "quality_seconds")
"""What finishing an attempt tells of its work, as far as it is known; the next attempt begins without it."""


class NotInStateError(Exception):
    """A batch is not in a state, or not at the attempt, that the write leaves from."""


@dataclass(frozen=True)
class Batch:
    """One attempt of a batch, and what runs its transform.

    ``manifest`` is the key of its manifest where it is not the first attempt's. ``missing`` are the datasets that had
    not published when the wait for them was over: the first attempt then fails.
    """

    team: str
    dataset: str
    batch_id: str
    attempt: int = 1
    manifest: str | None = None
    engine: str = GLUE
    missing: tuple[str, ...] = ()

    @property
    def key(self) -> dict[str, str]:
        """Key of its row."""
        return row_key(self.team, self.dataset, self.batch_id)

    @property
    def execution_name(self) -> str:
        """Name of the execution that runs this attempt."""
        return names.execution_name(self.batch_id, self.attempt)

    @property
    def manifest_key(self) -> str:
        """Key of its manifest in the stage bucket."""
        return self.manifest or names.manifest_key(self.team, self.dataset, self.batch_id)


@dataclass(frozen=True)
class Contents:
    """What an attempt takes: the key of its manifest, how many objects that lists and their bytes, whether the result
    is judged, and what runs its transform.
    """

    manifest: str
    objects: int
    size: int
    has_rules: bool
    engine: str = GLUE


def row_key(team: str, dataset: str, batch_id: str) -> dict[str, str]:
    """Key of a batch's row."""
    return {"owner": names.owner_key(team, dataset), "batch_id": batch_id}


def new_id(now: datetime) -> str:
    """An id that nobody else has: the time, so that ids sort by age, and 48 random bits.

    It names nothing that is in the batch: it must exist before the first object is claimed.
    """
    return f"{now:%Y%m%dt%H%M%S}-{secrets.token_hex(6)}"


def of_row(row: Mapping[str, Any]) -> Batch:
    """The batch, at the attempt, that a row is about; one that an earlier version has committed names no engine."""
    return Batch(
        str(row["team"]),
        str(row["dataset"]),
        str(row["batch_id"]),
        int(row["attempt"]),
        row.get("manifest"),
        str(row.get("engine", GLUE)),
        tuple(row.get("missing") or ()),
    )


def open_batch(table: Table, batch: Batch, now: datetime) -> None:
    """Write the ``OPEN`` row, before the first claim."""
    row = {
        **batch.key,
        "schema": rows.SCHEMA,
        "team": batch.team,
        "dataset": batch.dataset,
        "state": State.OPEN,
        "attempt": batch.attempt,
        "created_at": stamp(now),
        "unfinished": batch.key["owner"],
    }
    try:
        rows.put(table, row, Attr("batch_id").not_exists())
    except rows.ConditionFailedError as error:
        if error.row.get("created_at") != row["created_at"]:
            raise  # somebody else's, against all odds; else the answer to our first try was lost


def state_of(table: Table, team: str, dataset: str, batch_id: str) -> State | None:
    """The state of a batch, read consistently; None where there is no row (any more), or none of a batch's states."""
    row = rows.get(table, row_key(team, dataset, batch_id)) or {}
    return State(row["state"]) if row.get("state") in set(State) else None


def commit(table: Table, batch: Batch, now: datetime, *, objects: int, size: int, has_rules: bool) -> bool:
    """``OPEN -> READY``, the commit: from here on the manifest's objects are in this batch and in no other.

    False when the batch was abandoned in the meantime: then its writer has nothing, and must delete no message.
    """
    contents = Contents(batch.manifest_key, objects, size, has_rules, batch.engine)
    missing = list(batch.missing) or None
    values = {"state": State.READY, "committed_at": stamp(now), "missing": missing, **vars(contents)}
    try:
        rows.update(table, batch.key, values, condition=Attr("state").eq(State.OPEN))
    except rows.ConditionFailedError as error:
        # Only its own writer commits a batch: if it is committed, the answer to our first try was lost.
        return error.row.get("state") in COMMITTED
    return True


def abandon(table: Table, batch: Batch, reason: str, now: datetime) -> bool:
    """``OPEN -> ABANDONED``, for good: fences its writer, and frees its objects. False when it is not open."""
    values = {
        "state": State.ABANDONED,
        "reason": reason,
        "finished_at": stamp(now),
        "expires_at": int((now + ABANDONED_KEPT).timestamp()),
    }
    try:
        rows.update(table, batch.key, values, remove=["unfinished"], condition=Attr("state").eq(State.OPEN))
    except rows.ConditionFailedError:
        return False
    return True


def mark_started(table: Table, batch: Batch, execution_arn: str, now: datetime) -> bool:
    """``READY -> STARTED``. False when this attempt is no longer waiting to be started: somebody was quicker."""
    values = {"state": State.STARTED, "execution_arn": execution_arn, "started_at": stamp(now)}
    condition = Attr("state").eq(State.READY) & Attr("attempt").eq(batch.attempt)
    try:
        rows.update(table, batch.key, values, condition=condition)
    except rows.ConditionFailedError:
        return False
    return True


def finish(
    table: Table,
    batch: Batch,
    state: State,
    now: datetime,
    *,
    reason: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> None:
    """``STARTED -> PUBLISHED | FAILED | FAILED_QUALITY``, with further ``values`` in the same write.

    From ``READY`` too: an execution may end before its starter has written ``STARTED``. Finishing twice in the
    same state is finishing once.

    Raises:
        NotInStateError: the batch is at another attempt, or has finished otherwise.
    """
    written = {
        **(values or {}),
        "state": state,
        "reason": None if reason is None else reason[:LONGEST_REASON],
        "finished_at": stamp(now),
    }
    condition = Attr("attempt").eq(batch.attempt) & Attr("state").is_in([State.READY, State.STARTED])
    try:
        rows.update(table, batch.key, written, remove=["unfinished"], condition=condition)
    except rows.ConditionFailedError as error:
        if (error.row.get("state"), error.row.get("attempt")) != (state, batch.attempt):
            raise _not_in_state(batch, error.row) from error


def unreadable(row: Mapping[str, Any]) -> str | None:
    """What keeps an unfinished batch from being read out of its row; None where nothing does."""
    try:
        of_row(row)
        match State(row["state"]):
            case State.OPEN:
                parse(row["created_at"])
            case State.STARTED:
                parse(row["started_at"])
                str(row["execution_arn"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def close_unreadable(table: Table, row: Mapping[str, Any], why: str, now: datetime) -> bool:
    """A row that somebody has edited so that no batch can be read of it is ``FAILED``; False when it has changed.

    Its objects stay with it. A person puts right what ``why`` names and makes a new attempt.
    """
    values = {
        "state": State.FAILED,
        "reason": f"its row was edited and cannot be read: {why}"[:LONGEST_REASON],
        "finished_at": stamp(now),
    }
    condition = Attr("state").eq(row.get("state")) if "state" in row else Attr("state").not_exists()
    try:
        rows.update(
            table,
            {name: row[name] for name in ("owner", "batch_id")},
            values,
            remove=["unfinished"],
            condition=condition,
        )
    except rows.ConditionFailedError:
        return False
    return True


def new_attempt(table: Table, batch: Batch, now: datetime, contents: Contents | None = None) -> Batch:
    """A finished batch is ``READY`` again, at its next attempt: another execution name, and the manifest in
    ``contents``, or the same one. This write is the commit of the attempt. (``lake.attempts`` writes the manifest.)

    Raises:
        NotInStateError: the batch has not finished, or another attempt was made already.
    """
    given = {} if contents is None else {"manifest": contents.manifest, "engine": contents.engine}
    again = replace(batch, attempt=batch.attempt + 1, missing=(), **given)
    values = {
        "state": State.READY,
        "attempt": again.attempt,
        "committed_at": stamp(now),
        "unfinished": again.key["owner"],
        **({} if contents is None else vars(contents)),
    }
    condition = Attr("attempt").eq(batch.attempt) & Attr("state").is_in(sorted(FINISHED))
    stale = ("execution_arn", "started_at", "finished_at", "reason", "quality", "missing", *STATISTICS)
    try:
        rows.update(table, again.key, values, remove=stale, condition=condition)
    except rows.ConditionFailedError as error:
        stands = (error.row.get("attempt"), error.row.get("manifest"))
        if contents is None or stands != (again.attempt, contents.manifest):
            raise _not_in_state(batch, error.row) from error
        # The very same attempt: the answer to our first try was lost, or another run came to the same manifest.
    return again


def unfinished(table: Table, team: str, dataset: str) -> Iterator[dict[str, Any]]:
    """Rows that the sparse index shows as OPEN, READY or STARTED, oldest first; may be behind the table."""
    waiting = Key("unfinished").eq(names.owner_key(team, dataset))
    return rows.query(table, IndexName=UNFINISHED_INDEX, KeyConditionExpression=waiting)


def has_unfinished(table: Table, team: str, dataset: str) -> bool:
    """Whether the sparse index shows any; one row is read."""
    page = table.query(
        IndexName=UNFINISHED_INDEX,
        KeyConditionExpression=Key("unfinished").eq(names.owner_key(team, dataset)),
        Limit=1,
    )
    return bool(page["Items"])


def _not_in_state(batch: Batch, row: Mapping[str, Any]) -> NotInStateError:
    stands = f"is {row['state']} at attempt {row['attempt']}" if row else "has no row"
    return NotInStateError(
        f"batch {batch.batch_id} of {batch.team}/{batch.dataset} {stands}: not attempt {batch.attempt}'s to change"
    )
