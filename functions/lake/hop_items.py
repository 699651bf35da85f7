"""What travels through the first hop: items on the way in, outcomes on the way out.

Ten items with the longest keys, and their outcomes, stay far below the 256 KiB that a state may hold:
nothing here grows with the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lake import names, queues, rows


class MalformedMessageError(ValueError):
    """A message, item or outcome is not of the shape that this version reads."""


class Outcome(StrEnum):
    """What came of one object."""

    STAGED = "STAGED"
    QUARANTINED = "QUARANTINED"
    TOO_LARGE = "TOO_LARGE"
    GONE = "GONE"
    """That version of the object is no longer there: its removal has an event of its own, which settles the row."""
    FAILED = "FAILED"
    """Transient: the message returns to the queue."""


@dataclass(frozen=True)
class Item:
    """One version of a raw object; ``size`` in bytes, ``version_id`` None in an unversioned bucket.

    ``older`` has the sequencers of its former versions whose messages are settled together with this one's.
    """

    id: str
    key: str
    size: int
    version_id: str | None
    sequencer: str
    older: tuple[str, ...] = ()

    @staticmethod
    def of(told: Mapping[str, Any]) -> Item:
        """The item in a message or in the machine's input.

        Raises:
            MalformedMessageError: something is missing, or of another type.
        """
        match told:
            case {
                "id": str(identity),
                "key": str(key),
                "size": int(size),
                "version_id": str() | None as version_id,
                "sequencer": str(sequencer),
            } if size >= 0 and identity.endswith(f"/{key}"):
                older = tuple(map(str, told.get("older", ())))
                return Item(identity, key, size, version_id, names.padded_sequencer(sequencer), older)
        raise MalformedMessageError(f"not an item of schema {rows.SCHEMA}: {json.dumps(told)[:500]}")

    @property
    def stage_key(self) -> str:
        """Where this version is staged, each time that it is."""
        return names.stage_key(self.key, self.sequencer)


@dataclass(frozen=True)
class Landed:
    """A message of the pipeline's queue: an item, and whose it is."""

    team: str
    dataset: str
    item: Item

    @staticmethod
    def of_body(body: str) -> Landed:
        """The message with this body.

        Raises:
            MalformedMessageError: not JSON, or of another schema.
        """
        try:
            told = queues.read(body)
        except queues.UnreadableMessageError as error:
            raise MalformedMessageError(str(error)) from error
        match told:
            case {"schema": rows.SCHEMA, "team": str(team), "dataset": str(dataset)} if team and dataset:
                return Landed(team, dataset, Item.of(told))
        raise MalformedMessageError(f"not a message of schema {rows.SCHEMA}: {body[:500]}")


@dataclass(frozen=True)
class Result:
    """What a transform tells of one item. What was staged has a size in bytes, an etag and, where known, rows."""

    id: str
    outcome: Outcome
    reason: str = ""
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    rows: int | None = None

    @staticmethod
    def of(told: Mapping[str, Any]) -> Result:
        """The result in a transform's answer, which may be a dataset's own function's.

        Raises:
            MalformedMessageError: no id, an unknown outcome, or a staged object without its size and etag.
        """
        try:
            result = Result(
                id=str(told["id"]),
                outcome=Outcome(told["outcome"]),
                reason=str(told.get("reason") or "")[:200],
                size=told.get("size"),
                etag=told.get("etag"),
                version_id=told.get("version_id"),
                rows=told.get("rows"),
            )
        except (KeyError, ValueError) as error:
            raise MalformedMessageError(f"not a transform's outcome: {json.dumps(told)[:500]}") from error
        if result.outcome == Outcome.STAGED and (result.size is None or result.etag is None):
            raise MalformedMessageError(f"{result.id} was staged without a size or an etag")
        return result

    def told(self) -> dict[str, Any]:
        """The result as the machine carries it, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}
