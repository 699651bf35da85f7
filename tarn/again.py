"""What an operator runs again: a batch that failed, or the batches that hold some objects.

Both make new attempts (``lake.attempts``) and wake ``start_batch``. An attempt makes the batch's published prefix equal
to what it wrote, so that a table ends the same however often its batches run.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from lake import attempts, batches, catalog, datasets, first_hop, names, outcomes, queues, rows
from lake.attempts import Made, Planned
from lake.batches import NotInStateError, State
from lake.hop_items import Item, Landed, Outcome
from tarn.contract import DatasetAddress
from tarn.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

GROUPS_AT_ONCE = 4
READ_TIMEOUT_SECONDS = 310
"""Longer than an execution of the first hop may take; one that is under way is not started a second time."""
STAGED_AGAIN = (catalog.STAGED, catalog.LANDED, catalog.QUARANTINED, catalog.TOO_LARGE)
"""States of raw objects that the first hop may take again; what it refused gets its second chance."""
UNDER_WAY = (State.OPEN, State.READY, State.STARTED)
"""States of a batch that has not ended."""

Advance = Callable[[str, int], None]
"""Is told of progress: what is being done, and how many more are done."""


class RefusedError(Exception):
    """What was asked for cannot be done as things stand; the message says how they stand, and what to do."""


@dataclass(frozen=True)
class Retried:
    """What came of a retry: the attempt's execution name and state; ``planned`` where it was not under way already."""

    execution_name: str
    state: str
    planned: Planned | None = None


@dataclass
class Replayed:
    """What a replay found and did.

    ``objects`` counts the raw objects by state; ``staged`` what came of staging them again; ``made`` has the attempts
    by batch (of a dry run both tell what would be); ``under_way`` the batches that run anyway; ``failed`` what could
    not be done, by batch or object, with the reason.
    """

    objects: Counter[str] = field(default_factory=Counter)
    staged: Counter[str] = field(default_factory=Counter)
    made: dict[str, str] = field(default_factory=dict)
    under_way: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Raw objects of a dataset: those below a prefix of its folder that landed in a stretch of time."""

    prefix: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def has(self, moment: datetime) -> bool:
        """Whether an object that landed at ``moment`` is meant."""
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


class Again:
    """Runs again what stands in a lake."""

    def __init__(self, lake: Lake, session: boto3.Session | None = None) -> None:
        self._contract = lake.contract
        self._session = session or boto3.Session()
        self._dynamodb = self._session.resource("dynamodb")
        self._s3 = self._session.client("s3")
        self._states = self._session.client(
            "stepfunctions", config=Config(read_timeout=READ_TIMEOUT_SECONDS, retries={"total_max_attempts": 1})
        )
        self._clients = attempts.Clients(
            self._table("objects"), self._table("batches"), self._s3, self._contract.foundations("stage-bucket/name")
        )

    def retry(self, batch_id: str, now: datetime, *, dry_run: bool = False) -> Retried:
        """A new attempt of a batch that failed; nothing more of one whose new attempt waits or runs.

        Raises:
            RefusedError: there is no such batch, or it did not fail.
            ContractError: its pipeline is not deployed.
        """
        address, row = self._find(batch_id)
        batch, state = batches.of_row(row), State(row["state"])
        if state in (State.READY, State.STARTED):
            if state is State.READY and not dry_run:
                self._wake(address)
            return Retried(batch.execution_name, state)
        if state not in (State.FAILED, State.FAILED_QUALITY):
            hint = f": tarn replay {address} runs what is published again" if state is State.PUBLISHED else ""
            raise RefusedError(f"batch {batch_id} of {address} is {state}, and did not fail{hint}")
        planned = self._plan(address, row)
        name = names.execution_name(batch_id, batch.attempt + 1)
        if not dry_run:
            self._make(planned, now)
            self._wake(address)
        return Retried(name, State.READY, planned)

    def replay(
        self,
        address: DatasetAddress,
        selection: Selection,
        now: datetime,
        *,
        from_raw: bool = False,
        dry_run: bool = False,
        advance: Advance = lambda _what, _more: None,
    ) -> Replayed:
        """New attempts of the batches that hold the selected objects; ``from_raw`` stages the objects again first.

        Reads a page of the raw zone's listing at a time, and remembers nothing but the batches.

        Raises:
            RefusedError: the dataset is not registered.
            ContractError: its pipeline is not deployed.
        """
        report = Replayed()
        registration = self._registration(address)
        found: set[str] = set()
        for page in self._pages(address, selection):
            for raw, staged in page:
                report.objects[str(raw["state"])] += 1
                if staged is not None and "batch_id" in staged:
                    found.add(str(staged["batch_id"]))
            advance("look", len(page))
        ready = []
        for batch_id in sorted(found):
            state = batches.state_of(self._clients.batches, address.team, address.dataset, batch_id)
            if state in batches.FINISHED:
                ready.append(batch_id)
            elif state in UNDER_WAY:
                report.under_way.append(batch_id)
        if from_raw and dry_run:
            for page in self._pages(address, selection):
                report.staged["objects"] += len(_to_stage(page, report.under_way))
        elif from_raw:
            held_back = self._stage_again(address, selection, registration, report, advance)
            ready = [batch_id for batch_id in ready if batch_id not in held_back]
        for batch_id in ready:
            self._run_again(address, batch_id, report, now, dry_run=dry_run)
            advance("batches", 1)
        if report.made and not dry_run:
            self._wake(address)
        return report

    def _run_again(
        self, address: DatasetAddress, batch_id: str, report: Replayed, now: datetime, *, dry_run: bool
    ) -> None:
        row = rows.get(self._clients.batches, batches.row_key(address.team, address.dataset, batch_id)) or {}
        try:
            if row.get("state") not in batches.FINISHED:
                report.under_way.append(batch_id)
                return
            planned = self._plan(address, row)
            if not dry_run:
                self._make(planned, now)
        except RefusedError as error:
            report.failed[batch_id] = str(error)
        else:
            report.made[batch_id] = names.execution_name(batch_id, planned.former.attempt + 1)

    def _stage_again(
        self,
        address: DatasetAddress,
        selection: Selection,
        registration: Mapping[str, Any],
        report: Replayed,
        advance: Advance,
    ) -> set[str]:
        """Run the first hop over the selected objects once more; gives the batches of those that failed.

        Objects of batches that are under way are left alone: their jobs read the staged files just now.
        """
        held_back: set[str] = set()
        with ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
            for page in self._pages(address, selection):
                holders = {str(raw["id"]): (staged or {}).get("batch_id") for raw, staged in page}
                items = _to_stage(page, report.under_way)
                for told in pool.map(lambda some: self._first_hop(address, registration, some), _groups(items)):
                    for identity, (outcome, reason) in told.items():
                        report.staged[outcome] += 1
                        if outcome == Outcome.FAILED:
                            report.failed[identity] = reason
                            held_back.add(str(holders[identity]))
                    advance("stage", len(told))
        return held_back

    def _first_hop(
        self, address: DatasetAddress, registration: Mapping[str, Any], items: list[Item]
    ) -> dict[str, tuple[str, str]]:
        """Outcome and reason of each item, by one execution of the machine that also takes the queue's messages."""
        place = (address.team, address.pipeline)
        function = registration.get("transform_function_arn") or self._contract.pipeline(
            *place, "transform-objects/arn"
        )
        messages = {item.id: Landed(address.team, address.dataset, item) for item in items}
        document = first_hop.machine_input(messages, {(address.team, address.dataset): str(function)})
        name = f"replay-{secrets.token_hex(8)}"
        try:
            told = first_hop.run(self._states, self._contract.pipeline(*place, "raw-to-stage/arn"), name, document)
        except first_hop.MachineFailedError as error:
            return {item.id: (Outcome.FAILED.value, str(error)) for item in items}
        missing = (Outcome.FAILED.value, "the machine told nothing of it: tarn logs shows why")
        return {
            item.id: (told[item.id].outcome, told[item.id].reason) if item.id in told else missing for item in items
        }

    def _pages(
        self, address: DatasetAddress, selection: Selection
    ) -> Iterator[list[tuple[dict[str, Any], dict[str, Any] | None]]]:
        """Rows of the selected raw objects, each with that of what was staged from it, a page of the listing at a time.

        What the object catalog does not know yet is on its way, and left out.
        """
        bucket = self._contract.foundations("raw-bucket/name")
        prefix = f"{address.team}/{address.dataset}/{selection.prefix}"
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            landed = [one for one in page.get("Contents", []) if selection.has(one["LastModified"])]
            raw = rows.get_many(self._clients.objects, (names.object_id(bucket, one["Key"]) for one in landed))
            staged = rows.get_many(
                self._clients.objects, (str(row["staged_id"]) for row in raw.values() if "staged_id" in row)
            )
            yield [(row, staged.get(str(row.get("staged_id")))) for row in raw.values()]

    def _find(self, batch_id: str) -> tuple[DatasetAddress, dict[str, Any]]:
        for address in self._contract.datasets():
            row = rows.get(self._clients.batches, batches.row_key(address.team, address.dataset, batch_id))
            if row is not None:
                return address, row
        raise RefusedError(f"no dataset of this lake has a batch {batch_id}: tarn status shows the latest")

    def _registration(self, address: DatasetAddress) -> dict[str, Any]:
        row = rows.get(self._table("datasets"), {"team": address.team, "dataset": address.dataset})
        if row is None or row.get("kind") != datasets.DATASET:
            raise RefusedError(f"dataset {address} is not registered: nothing would start an attempt")
        return row

    def _plan(self, address: DatasetAddress, row: Mapping[str, Any]) -> Planned:
        try:
            return attempts.plan(self._clients, row, self._registration(address))
        except (outcomes.OutcomeMissingError, outcomes.OutcomeMismatchError) as error:
            raise RefusedError(f"batch {row['batch_id']} of {address} cannot run again: {error}") from error

    def _make(self, planned: Planned, now: datetime) -> Made:
        try:
            return attempts.make(self._clients, planned, now)
        except NotInStateError as error:
            raise RefusedError(f"somebody else was quicker: {error}") from error

    def _wake(self, address: DatasetAddress) -> None:
        """Have the attempts started now, and not at the next tick."""
        self._session.client("lambda").invoke(
            FunctionName=self._contract.pipeline(address.team, address.pipeline, "start-batch/arn"),
            InvocationType="Event",
            Payload=json.dumps({"team": address.team, "dataset": address.dataset, "claim": False}).encode(),
        )

    def _table(self, thing: str) -> Table:
        return self._dynamodb.Table(self._contract.foundations(f"{thing}-table/name"))


def _to_stage(page: Iterable[tuple[dict[str, Any], dict[str, Any] | None]], under_way: Iterable[str]) -> list[Item]:
    """What the first hop takes of a page again; objects of batches that are under way it leaves alone."""
    left_alone = set(under_way)
    return [
        _item(raw)
        for raw, staged in page
        if raw["state"] in STAGED_AGAIN and raw["size"] and (staged or {}).get("batch_id") not in left_alone
    ]


def _item(raw: Mapping[str, Any]) -> Item:
    identity = str(raw["id"])
    version = raw.get("version_id")
    return Item(
        identity,
        names.split_object_id(identity)[1],
        int(raw["size"]),
        None if version is None else str(version),
        str(raw["sequencer"]),
    )


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many as the first hop's own message batches have."""
    rest = iter(items)
    while some := list(islice(rest, queues.MOST_IN_A_CALL)):
        yield some
