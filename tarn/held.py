"""Raw objects that are held back (quarantined, too large, of no dataset), and what a person decides about them.

A release sends the pipeline's message first and writes the row after it, which is the other way round than everybody
else: the row says until then that the object is held, and the pipeline does not mind. Whatever dies in between, the
object is either still held, and released again, or on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.conditions import Attr, Key
from botocore.config import Config

from lake import catalog, clock, names, queues, routing, rows
from tarn.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_sqs.client import SQSClient

RELEASABLE = (catalog.QUARANTINED, catalog.TOO_LARGE)
DISCARDABLE = (*RELEASABLE, catalog.UNROUTED)
PAGE = 100
WRITES_AT_ONCE = 8


class HeldError(Exception):
    """What was named cannot be released or discarded; the message says what stands there."""


@dataclass(frozen=True)
class Settled:
    """What came of one object: in a word or two, and with what reason."""

    id: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Desk:
    """Where a person decides. ``now`` bounds what is looked at: what is held again after it waits for the next time."""

    lake: Lake
    session: boto3.Session
    now: datetime
    is_dry: bool = False

    def held(self, team: str, dataset: str) -> Iterator[dict[str, Any]]:
        """The rows of a dataset's objects that can be released, a hundred at a time."""
        for state in RELEASABLE:
            until = Key("attention_at").between(f"{state}#", f"{state}#{clock.stamp(self.now)}")
            for shard in range(names.ATTENTION_SHARDS):
                key = Key("attention").eq(names.attention_shard(team, dataset, shard))
                found = rows.query(self._objects, IndexName="attention", KeyConditionExpression=key & until, Limit=PAGE)
                for one in found:
                    row = rows.get(self._objects, {"id": one["id"]})
                    if row is not None and row["state"] == state:
                        yield row

    def release_dataset(self, team: str, dataset: str) -> Iterator[Settled]:
        """Send everything that is held of a dataset through its pipeline again.

        Raises:
            ContractError: the dataset is not deployed.
        """
        url = self._queue(team, dataset)
        for some in queues.tens(self.held(team, dataset)):
            yield from self._release(some, url)

    def release(self, identity: str) -> Settled:
        """Send one object through its pipeline again; one that is on its way already is only sent again.

        Raises:
            HeldError: it is not held, or has no row.
            ContractError: its dataset is not deployed.
        """
        row = self._row(identity)
        if row["state"] not in (*RELEASABLE, catalog.LANDED):
            raise HeldError(f"{identity} is {_standing(row)}: only what is held can be released")
        return next(iter(self._release([row], self._queue(str(row["team"]), str(row["dataset"])))))

    def discard(self, identity: str, reason: str | None) -> Settled:
        """This version of an object goes no further, by whose word and why; the object itself stays.

        Raises:
            HeldError: it is not held, or has no row, or has changed at this moment.
        """
        row = self._row(identity)
        if row["state"] == catalog.DISCARDED:
            return Settled(identity, "already discarded", _standing(row))
        if row["state"] not in DISCARDABLE:
            raise HeldError(f"{identity} is {_standing(row)}: only what is held can be discarded")
        if self.is_dry:
            return Settled(identity, "would be discarded", _standing(row))
        values = {
            "state": catalog.DISCARDED,
            "reason": reason or row.get("reason"),
            "discarded": {"by": self._who, "at": clock.stamp(self.now), "was": _standing(row)},
        }
        try:
            row = rows.update(
                self._objects,
                {"id": identity},
                values,
                remove=("attention", "attention_at"),
                condition=Attr("state").eq(row["state"]) & Attr("sequencer").eq(row["sequencer"]),
            )
        except rows.ConditionFailedError as error:
            raise HeldError(f"{identity} has just changed and is {_standing(error.row)}: look again") from error
        return Settled(identity, "discarded", _standing(row))

    def _release(self, found: Iterable[Mapping[str, Any]], url: str) -> list[Settled]:
        """Message, then row; ``found`` are at most ten rows."""
        by_id = {str(row["id"]): row for row in found}
        if self.is_dry:
            return [Settled(identity, "would be released", _standing(row)) for identity, row in by_id.items()]
        failed = queues.send(self._sqs, url, [routing.message(identity, row) for identity, row in by_id.items()])
        sent = [row for identity, row in by_id.items() if identity not in failed]
        with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
            settled = list(pool.map(self._land, sent))
        return settled + [Settled(identity, "not sent", why) for identity, why in failed.items()]

    def _land(self, row: Mapping[str, Any]) -> Settled:
        """The row says that the object is on its way, if it is still held for the same reason."""
        identity, was = str(row["id"]), _standing(row)
        if row["state"] == catalog.LANDED:
            return Settled(identity, "sent again", was)
        try:
            rows.update(
                self._objects,
                {"id": identity},
                {"state": catalog.LANDED},
                remove=("reason", "attention", "attention_at"),
                condition=Attr("sequencer").eq(row["sequencer"]) & Attr("attention_at").eq(row["attention_at"]),
            )
        except rows.ConditionFailedError as error:
            return Settled(identity, "released", f"{was}; it is {_standing(error.row)} by now")
        return Settled(identity, "released", was)

    def _row(self, identity: str) -> dict[str, Any]:
        row = rows.get(self._objects, {"id": identity})
        if row is None:
            raise HeldError(f"{identity} has no row in the object catalog")
        if row.get("zone") != catalog.RAW:
            raise HeldError(f"{identity} is no object of the raw zone")
        return dict(catalog.readable(row))

    def _queue(self, team: str, dataset: str) -> str:
        address = self.lake.contract.address(team, dataset)
        return self.lake.contract.pipeline(team, address.pipeline, "queue/url")

    @cached_property
    def _objects(self) -> Table:
        name = self.lake.contract.foundations("objects-table/name")
        return self.session.resource("dynamodb", config=Config(max_pool_connections=2 * WRITES_AT_ONCE)).Table(name)

    @cached_property
    def _sqs(self) -> SQSClient:
        return self.session.client("sqs")

    @cached_property
    def _who(self) -> str:
        return self.session.client("sts").get_caller_identity()["Arn"]


def _standing(row: Mapping[str, Any]) -> str:
    why = f": {row['reason']}" if row.get("reason") else ""
    by = f", discarded by {row['discarded']['by']} at {row['discarded']['at']}" if "discarded" in row else ""
    return f"{row.get('state', 'gone')}{why}{by}"


def split(target: str) -> tuple[str, str] | None:
    """Team and dataset of ``TEAM/DATASET``; None where ``target`` names an object.

    Raises:
        HeldError: it is neither.
    """
    if target.startswith("s3://"):
        return None
    team, _, dataset = target.partition("/")
    if not team or not dataset or "/" in dataset:
        raise HeldError(f"{target!r} is neither TEAM/DATASET nor s3://bucket/key")
    return team, dataset
