"""What ``tarn reconcile --fix`` does: what the lake itself would do, had nothing been lost.

Each repair may be made again, or stop anywhere: it is a message that the lake takes twice without harm, or a write
under a condition.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from boto3.dynamodb.conditions import Attr

from lake import attempts, batches, catalog, events, queues, rows, staging
from lake.batches import NotInStateError
from lake.outcomes import OutcomeMismatchError, OutcomeMissingError
from lake.queues import Message
from tarn.reconcile import Announcement, Event, Finding, NewAttempt, Restoration, Wake
from tarn.survey import Survey

if TYPE_CHECKING:
    from mypy_boto3_lambda.client import LambdaClient
    from mypy_boto3_sqs.client import SQSClient

RECONCILED = "Reconciled"
"""The kind of creation or removal that the router is told of."""
MESSAGES_AT_ONCE = 1000


@dataclass
class Repairer:
    """Makes the repairs of findings; ``made`` counts them, ``refused`` has those that came to nothing, with why."""

    survey: Survey
    now: datetime
    made: int = 0
    refused: list[tuple[Finding, str]] = field(default_factory=list)
    _messages: dict[str, dict[str, tuple[Finding, Message]]] = field(default_factory=dict)
    _woken: Counter[tuple[str, str]] = field(default_factory=Counter)
    _run_again: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._sqs: SQSClient = self.survey.session.client("sqs")
        self._lambda: LambdaClient = self.survey.session.client("lambda")
        self._attempts = attempts.Clients(
            self.survey.objects, self.survey.batches, self.survey.s3, self.survey.buckets["stage"]
        )
        self._ingest = self.survey.lake.contract.foundations("ingest-queue/url")

    def repair(self, found: Iterable[Finding]) -> Iterable[Finding]:
        """Make the repair of each finding that has one; gives every finding on."""
        for one in found:
            self._repair(one)
            self._say()
            yield one
        for url in list(self._messages):
            self._send(url)
            self._say()
        for team, dataset in self._woken:
            self._wake(team, dataset)

    def _say(self) -> None:
        self.survey.say(f"repairs sent: {self.made}")

    def _repair(self, found: Finding) -> None:
        match found.repair:
            case Event() as event:
                for former in event.retired:
                    catalog.retire(self.survey.objects, former, catalog.REPLACED, self.now)
                name = f"{events.REMOVED if event.removed else events.CREATED}{RECONCILED}"
                self._add(self._ingest, found, Message(found.id, events.notification(event.thing, name), found.place))
            case Announcement(row):
                address = self.survey.lake.contract.address(str(row["team"]), str(row["dataset"]))
                url = str(self.survey.registrations[address]["queue_url"])
                self._add(url, found, staging.announcement(found.id, row))
            case Restoration():
                self._restore(found.repair)
                self.made += 1
            case NewAttempt():
                self._new_attempt(found, found.repair)
            case Wake(team, dataset):
                self._woken[team, dataset] += 1
                self.made += 1

    def _add(self, url: str, found: Finding, message: Message) -> None:
        waiting = self._messages.setdefault(url, {})
        waiting[message.tag] = (found, message)
        if len(waiting) == MESSAGES_AT_ONCE:
            self._send(url)

    def _send(self, url: str) -> None:
        waiting = self._messages.pop(url)
        failed = queues.send(self._sqs, url, [message for _, message in waiting.values()])
        self.refused += [(waiting[tag][0], reason) for tag, reason in failed.items()]
        self.made += len(waiting) - len(failed)

    def _restore(self, restoration: Restoration) -> None:
        row = {"schema": rows.SCHEMA, "zone": "stage", **restoration.row}
        try:
            rows.put(self.survey.objects, row, Attr("id").not_exists())
        except rows.ConditionFailedError:
            return  # it has come back by itself
        if restoration.replaced:
            catalog.retire(self.survey.objects, str(row["id"]), catalog.REPLACED, self.now)

    def _new_attempt(self, found: Finding, wanted: NewAttempt) -> None:
        """The one place where a batch is run again."""
        if wanted.batch_id in self._run_again:
            return
        self._run_again.add(wanted.batch_id)
        row = rows.get(self.survey.batches, batches.row_key(wanted.team, wanted.dataset, wanted.batch_id))
        if row is None:
            self.refused.append((found, "the batch's row is gone"))
            return
        registration = self.survey.registrations[self.survey.lake.contract.address(wanted.team, wanted.dataset)]
        try:
            attempts.make(self._attempts, attempts.plan(self._attempts, row, registration), self.now)
        except (NotInStateError, OutcomeMissingError, OutcomeMismatchError) as error:
            self.refused.append((found, str(error)))
            return
        self._woken[wanted.team, wanted.dataset] += 1
        self.made += 1

    def _wake(self, team: str, dataset: str) -> None:
        address = self.survey.lake.contract.address(team, dataset)
        self._lambda.invoke(
            FunctionName=self.survey.lake.contract.pipeline(team, address.pipeline, "start-batch/arn"),
            InvocationType="Event",
            Payload=json.dumps({"team": team, "dataset": dataset, "claim": False}).encode(),
        )
