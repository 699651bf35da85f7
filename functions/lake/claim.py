"""The batch claim: from a dataset's queue to started batches, each object in exactly one.

A run may die between any two of its calls, be late, or meet another run; the lease only saves work. What keeps
the promise are five rules, argued in docs/batch-claim.md:

1. the batch has an id and an ``OPEN`` row before its first claim;
2. an object is claimed by a conditional write on its own row, from nobody or from an ``ABANDONED`` batch;
3. the manifest lists what was won; the one conditional write ``OPEN -> READY`` is the commit;
4. a message is deleted only when its object is in a committed batch, or may be in none any more;
5. every run first starts each ``READY`` batch, by the same name, and abandons each ``OPEN`` one that is too old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, ConditionBase

from lake import attempts, batches, dependencies, executions, manifests, names, queues, rows, waiting
from lake.batches import Batch, NotInStateError, State
from lake.clock import parse, stamp
from lake.engines import GLUE
from lake.executions import Machine
from lake.outcomes import OutcomeMismatchError, OutcomeMissingError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_stepfunctions.client import SFNClient

LONG_POLL_SECONDS = 1
"""From one second on a receive asks every server of the queue, so that an empty answer means an empty queue:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html"""
MOST_BATCHES = 10
"""Batches that one run makes of a backlog; the next tick's run makes the next ones."""
KEPT_FOR_ENDING = timedelta(seconds=30)
"""What a run keeps of its time for the manifest, the commit, deleting and starting."""
MOST_REASONS = 10
"""Messages of one run whose reason to stay is logged."""
MOST_TRIES = 3
"""For one message in one run: an object passes on when the batch that holds it is abandoned meanwhile."""
RAN, LEASED, UNREGISTERED = "ran", "leased", "unregistered"
"""Outcomes of a run: done; left to the run that has the lease; the dataset is not registered here (any more)."""
CLAIMABLE = ("STAGED", "BATCHED")
GONE = ("SUPERSEDED", "STALE", "DELETED")
NOT_REGISTERED = "its dataset is not registered any more: register it again, then run the batch again (tarn retry)"


@dataclass(frozen=True)
class Clients:
    """What a run works with."""

    objects: Table
    datasets: Table
    batches: Table
    sqs: SQSClient
    s3: S3Client
    states: SFNClient


@dataclass(frozen=True)
class Place:
    """Where a run works: the machine with its buckets, the bucket of the jobs' assets, the function's own limit."""

    machine: Machine
    asset_bucket: str
    function_timeout: timedelta


@dataclass(frozen=True)
class Announced:
    """A message of the dataset's queue; ``id`` and ``sequencer`` are None where it is not one of ours."""

    receipt: str
    id: str | None = None
    sequencer: str = ""
    reason: str = ""
    """Why it is none of ours."""


class Claim(StrEnum):
    """What came of one message."""

    WON = "won"
    SETTLED = "settled"
    """The object is in a committed batch, or may be in none: the message has done its work."""
    HELD = "held"
    """The object is another open batch's, which is committed or abandoned first."""
    UNKNOWN = "unknown"
    """Not one of ours, or of no row: it stays, and comes to the dead letters in the end."""


@dataclass
class Report:
    """What a run did, for its log line and its answer."""

    outcome: str = RAN
    restarted: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    committed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    """New attempts without the objects that have changed since they were published."""
    not_replaced: dict[str, str] = field(default_factory=dict)
    """Published batches that hold such objects and could not run again, and why: they need a person."""
    messages: dict[str, int] = field(default_factory=dict)
    """How many came to what."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Why messages stay, and come to the dead letters in the end: by object, or by the message's beginning."""
    held_by: list[str] = field(default_factory=list)
    """The datasets that must publish before this one's batches are made."""
    drained: bool = False
    """The queue gave all it had, and none of that still waits for a batch."""


@dataclass
class Run:
    """One run for a dataset, which may die between any two of its calls.

    ``clock`` tells the time; by ``deadline`` the function is ended, whatever it does.
    """

    clients: Clients
    place: Place
    team: str
    dataset: str
    clock: Callable[[], datetime]
    deadline: datetime
    report: Report = field(default_factory=Report)

    def go(self, holder: str, claims: bool = True) -> Report:
        """Take on what earlier runs left, then make batches of what waits (if it ``claims``).

        ``holder`` names the run in the lease.
        """
        began = self.clock()
        datasets = self.clients.datasets
        registration = rows.get(datasets, {"team": self.team, "dataset": self.dataset})
        if registration is None:
            self.report.outcome = UNREGISTERED
            self.recover(is_registered=False)
        elif not waiting.lease(
            datasets,
            self.team,
            self.dataset,
            holder=holder,
            pipeline=registration.get("pipeline"),
            now=began,
            length=self.place.function_timeout,
        ):
            self.report.outcome = LEASED
        else:
            try:
                self.recover()
                if attempts.replaces(registration):
                    self.replace(registration)
                if claims:
                    self.claim(registration)
                if self.report.drained and self.report.committed:
                    waiting.set_since(datasets, self.team, self.dataset, began)
            finally:
                waiting.release(datasets, self.team, self.dataset, holder)
        return self.report

    def recover(self, *, is_registered: bool = True) -> None:
        """Start what is committed, abandon what is open for too long, close what was stopped.

        Of a dataset that is not registered any more nothing is started: its committed batches fail, and say why.
        """
        for row in batches.unfinished(self.clients.batches, self.team, self.dataset):
            if (wrong := batches.unreadable(row)) is not None:
                if batches.close_unreadable(self.clients.batches, row, wrong, self.clock()):
                    self.report.failed.append(str(row["batch_id"]))
                continue
            batch = batches.of_row(row)
            if row["state"] == State.READY and not is_registered:
                if executions.fail(self.clients.batches, batch, NOT_REGISTERED, self.clock()) == State.FAILED:
                    self.report.failed.append(batch.execution_name)
            elif row["state"] == State.READY:
                self.report.restarted.append(batch.execution_name)
                self.start(batch, bool(row.get("has_rules")))
            elif row["state"] == State.STARTED:
                if executions.settle(self.clients.states, self.clients.batches, row, self.clock()) == State.FAILED:
                    self.report.failed.append(batch.execution_name)
            elif self.clock() - parse(str(row["created_at"])) >= self.place.function_timeout and batches.abandon(
                self.clients.batches, batch, "its run did not come to a commit in its time", self.clock()
            ):
                self.report.abandoned.append(batch.batch_id)

    def replace(self, registration: Mapping[str, Any]) -> None:
        """Run the published batches again whose raw objects have changed since, from what stands of them."""
        clients = attempts.Clients(
            self.clients.objects, self.clients.batches, self.clients.s3, self.place.machine.stage_bucket
        )
        for batch_id in attempts.changed_batches(clients.objects, self.team, self.dataset, self.clock()):
            if self.is_late():
                return
            try:
                made = attempts.replace(clients, registration, batch_id, self.clock())
            except (NotInStateError, OutcomeMissingError, OutcomeMismatchError) as error:
                self.report.not_replaced[batch_id] = str(error)
                continue
            if made is not None:
                self.report.replaced.append(made.batch.execution_name)
                self.start(made.batch, made.contents.has_rules)

    def claim(self, registration: Mapping[str, Any]) -> None:
        """One batch of what waits, and further ones as long as a full batch waits and there is time.

        None while the dataset waits for others; when that was too long, one that fails and says for whom it waited.
        """
        wait = dependencies.look(self.clients.datasets, registration, self.clock())
        self.report.held_by = list(wait.missing)
        if wait.missing:
            if wait.is_over:
                self.make_batch(registration, wait.missing)
                dependencies.hold(self.clients.datasets, self.team, self.dataset, wait.missing, self.clock())
            return
        for _ in range(MOST_BATCHES):
            if self.is_late():
                return
            self.make_batch(registration)
            depth = waiting.depth(self.clients.sqs, str(registration["queue_url"]))
            if depth.visible < int(registration["max_items"]):
                return

    def make_batch(self, registration: Mapping[str, Any], missing: tuple[str, ...] = ()) -> None:
        """Receive, open, claim, commit, delete, start: the order is the promise."""
        received = self.receive(registration)
        if not received:
            self.report.drained = True
            return
        opened_at = self.clock()
        engine = str(registration.get("engine", GLUE))
        batch = Batch(self.team, self.dataset, batches.new_id(opened_at), engine=engine, missing=missing)
        batches.open_batch(self.clients.batches, batch, opened_at)

        won: dict[str, Mapping[str, Any]] = {}
        receipts: dict[Claim, list[str]] = {came_of_it: [] for came_of_it in Claim}
        for message in received:
            if self.is_late():
                break
            receipts[self.claim_object(batch, message, won)].append(message.receipt)
        for came_of_it, some in receipts.items():
            if some:
                self.report.messages[came_of_it.value] = self.report.messages.get(came_of_it.value, 0) + len(some)

        done = receipts[Claim.SETTLED]
        committed = bool(won) and self.commit(batch, registration, won)
        if committed:
            self.report.committed.append(batch.execution_name)
            done = done + receipts[Claim.WON]
        else:
            batches.abandon(self.clients.batches, batch, "it won no object", self.clock())
        queues.delete(self.clients.sqs, str(registration["queue_url"]), done)
        if committed:
            self.start(batch, bool(registration.get("rules")))
        self.report.drained = len(received) < int(registration["max_items"]) and len(done) == len(received)

    def receive(self, registration: Mapping[str, Any]) -> list[Announced]:
        """Up to a full batch of messages; they stay hidden for longer than this function can run."""
        received: list[Announced] = []
        while (left := int(registration["max_items"]) - len(received)) > 0:
            got = self.clients.sqs.receive_message(
                QueueUrl=str(registration["queue_url"]),
                MaxNumberOfMessages=min(left, queues.MOST_IN_A_CALL),
                WaitTimeSeconds=LONG_POLL_SECONDS,
            ).get("Messages", [])
            if not got:
                break
            received += [self.read(message["Body"], message["ReceiptHandle"]) for message in got]
        return received

    def read(self, body: str, receipt: str) -> Announced:
        """The object that a message announces, if it is one of the dataset's own."""
        try:
            told = queues.read(body)
        except queues.UnreadableMessageError as error:
            return Announced(receipt, reason=str(error))
        match told:
            case {"schema": rows.SCHEMA, "team": self.team, "dataset": self.dataset, "id": str(), "sequencer": str()}:
                prefix = names.object_id(self.place.machine.stage_bucket, f"{self.team}/{self.dataset}/")
                if told["id"].startswith(prefix):
                    return Announced(receipt, told["id"], told["sequencer"])
        return Announced(receipt, reason=f"no message of schema {rows.SCHEMA} to this dataset: {body[:200]!r}")

    def claim_object(self, batch: Batch, message: Announced, won: dict[str, Mapping[str, Any]]) -> Claim:
        """Try to win one object for ``batch``; ``won`` gets its row.

        The version is held by its sequencer: stage keys are immutable and carry it, so that an equal sequencer is
        an equal content, however often S3 was given it.
        """
        if message.id is None:
            return self.unknown(message.reason, message.reason)
        if message.id in won:
            return Claim.WON
        held_by: str | None = None
        for _ in range(MOST_TRIES):
            try:
                won[message.id] = rows.update(
                    self.clients.objects,
                    {"id": message.id},
                    {"state": "BATCHED", "batch_id": batch.batch_id},
                    condition=_claimable(message.sequencer, held_by),
                )
            except rows.ConditionFailedError as error:
                row = error.row
            else:
                return Claim.WON
            held_by = row.get("batch_id")
            if held_by == batch.batch_id:
                won[message.id] = row  # the answer to our first try was lost
                return Claim.WON
            came_of_it = self.judge(row, message)
            if came_of_it is not None:
                return came_of_it
        return Claim.HELD

    def judge(self, row: Mapping[str, Any], message: Announced) -> Claim | None:
        """What comes of a message whose object could not be claimed; None where its holder is abandoned."""
        identity = str(message.id)
        if row.get("sequencer") != message.sequencer:
            stands = f"its row has sequencer {row.get('sequencer')!r}" if row else "it has no row"
            return self.unknown(identity, f"{stands}, the message {message.sequencer!r}")
        if row.get("state") in GONE:
            return Claim.SETTLED
        if "batch_id" not in row:
            kept = {name: row.get(name) for name in ("state", *manifests.KEPT)}
            return self.unknown(identity, f"its row is none that can be claimed: {kept}")
        holder = batches.state_of(self.clients.batches, self.team, self.dataset, str(row["batch_id"]))
        if holder is None:
            return self.unknown(identity, f"its batch {row['batch_id']} has no row that can be read")
        if holder in batches.COMMITTED:
            return Claim.SETTLED
        return Claim.HELD if holder == State.OPEN else None

    def unknown(self, what: str, reason: str) -> Claim:
        """A message stays; the log says why."""
        if len(self.report.unknown) < MOST_REASONS:
            self.report.unknown[what[:200]] = reason
        return Claim.UNKNOWN

    def commit(self, batch: Batch, registration: Mapping[str, Any], won: Mapping[str, Mapping[str, Any]]) -> bool:
        """Write the manifest, then commit; False when the batch was abandoned in the meantime."""
        now = self.clock()
        text = manifests.text(self.manifest(batch, registration, won, now))
        manifests.put(self.clients.s3, self.place.machine.stage_bucket, batch.manifest_key, text)
        return batches.commit(
            self.clients.batches,
            batch,
            now,
            objects=len(won),
            size=sum(int(row.get("size", 0)) for row in won.values()),
            has_rules=bool(registration.get("rules")),
        )

    def manifest(
        self, batch: Batch, registration: Mapping[str, Any], won: Mapping[str, Mapping[str, Any]], now: datetime
    ) -> dict[str, Any]:
        """What the batch's jobs read: its objects, and the registration as it was when they became a batch."""
        return {
            "schema": rows.SCHEMA,
            "team": self.team,
            "dataset": self.dataset,
            "batch_id": batch.batch_id,
            "created_at": stamp(now),
            "stage_bucket": self.place.machine.stage_bucket,
            "analytics_bucket": self.place.machine.analytics_bucket,
            "asset_bucket": self.place.asset_bucket,
            "registration": registration,
            "objects": [manifests.entry(identity, row) for identity, row in won.items()],
        }

    def start(self, batch: Batch, has_rules: bool) -> None:
        """Start a committed batch; by its name, it is started once."""
        led_to = executions.start(
            self.clients.states,
            self.clients.batches,
            self.place.machine,
            batch,
            has_rules=has_rules,
            now=self.clock(),
        )
        if led_to == State.FAILED:
            self.report.failed.append(batch.execution_name)

    def is_late(self) -> bool:
        """Whether what is left of the function's time belongs to the ending."""
        return self.clock() >= self.deadline - KEPT_FOR_ENDING


def _claimable(sequencer: str, held_by: str | None) -> ConditionBase:
    """Unclaimed, or held by exactly the batch that was found abandoned: of two runs that take it over, one wins."""
    free = Attr("batch_id").not_exists() if held_by is None else Attr("batch_id").eq(held_by)
    condition = Attr("sequencer").eq(sequencer) & Attr("state").is_in(list(CLAIMABLE)) & free
    for name, kind in manifests.KEPT.items():
        condition &= Attr(name).not_exists() | Attr(name).attribute_type(kind)
    return condition
