"""What an operator does while the lake is under faults: redrive dead letters, and try failed batches again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key

from lake import attempts, names
from tarn import dead_letters
from tarn.again import Again
from tarn.lake import Lake
from tarn.local import faults
from tests.soak.lake import wake
from tests.soak.load import DATASETS, JUDGED, REPLACING, TEAM

STATES = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
FIRST_HOP = ("foundations/ingest-queue", "pipeline/air/main/queue")
UNFINISHED = ("OPEN", "READY", "STARTED")
POISON = "no message that anyone can read"
POISONED = ("foundations/ingest-dead-letter-queue", f"pipeline/{TEAM}/main/dead-letter-queue")
"""Where the first hop's two unreadable messages end: they wait for a hand that throws them away."""


@dataclass
class Operator:
    """Looks after one lake; ``did`` counts what was done by hand."""

    lake: Lake
    state: Path
    session: boto3.Session
    did: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._sqs = self.session.client("sqs")
        self._again = Again(self.lake, self.session)
        self._batches, self._objects = (
            self.session.resource("dynamodb").Table(self.lake.contract.foundations(f"{thing}-table/name"))
            for thing in ("batches", "objects")
        )
        queues = self.lake.contract.queues()
        self._first_hop = {place: queues[place] for place in FIRST_HOP}
        self._staged = {place: url for place, url in queues.items() if place.startswith(f"dataset/{TEAM}/")}

    def poison(self) -> None:
        """Send each queue of the first hop a message that no version can read."""
        for url in self._first_hop.values():
            self._sqs.send_message(QueueUrl=url, MessageBody=POISON)

    def poisoned(self) -> dict[str, list[str]]:
        """What each dead-letter queue holds at the end, as ``tarn redrive`` tells it; empty queues are left out."""
        held = [one for one in self._dead_letters() if one.depth.visible]
        return {one.place: dead_letters.peek(self.lake, self._sqs, one) for one in held}

    def look_after(self) -> None:
        """One round: every dead letter that can be read goes back, every failed batch gets its next attempt."""
        self._redrive()
        self._retry()
        wake(self.lake)

    def batches(self) -> list[dict[str, Any]]:
        """Every batch row of the datasets."""
        found: list[dict[str, Any]] = []
        for dataset in (*DATASETS, JUDGED):
            arguments: dict[str, Any] = {"KeyConditionExpression": Key("owner").eq(names.owner_key(TEAM, dataset))}
            while True:
                page = self._batches.query(**arguments)
                found += page["Items"]
                if "LastEvaluatedKey" not in page:
                    break
                arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        return found

    def depths(self) -> dict[str, int]:
        """Messages by queue, whatever their state, of the queues that hold any."""
        return self._depths(self.lake.contract.queues())

    def _depths(self, queues: Mapping[str, str]) -> dict[str, int]:
        found = {}
        for place, url in queues.items():
            told = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(STATES))["Attributes"]
            if depth := sum(int(told[name]) for name in STATES):
                found[place] = depth
        return found

    def first_hop(self) -> int:
        """Messages that are not staged yet."""
        return sum(self._depths(self._first_hop).values())

    def staged(self) -> int:
        """Messages that are not in a batch yet."""
        return sum(self._depths(self._staged).values())

    def unrest(self) -> dict[str, int]:
        """What still moves or needs a hand, by its name; nothing when the lake is quiet."""
        counted = Counter(row["state"] for row in self.batches())
        moving = {state: counted[state] for state in (*UNFINISHED, "FAILED") if counted[state]}
        held = faults.counts(self.state).get("held", 0)
        changed = int(attempts.has_changed(self._objects, TEAM, REPLACING))
        others = {"held": held, "changed": changed}
        depths = Counter(self.depths()) - Counter(POISONED)
        return {**depths, **moving, **{name: count for name, count in others.items() if count}}

    def _redrive(self) -> None:
        for letters in self._dead_letters():
            if letters.are_calls:  # what they asked for, the next tick does
                self.did["dead ticks"] += letters.depth.visible
                self._sqs.purge_queue(QueueUrl=letters.url)
            elif letters.depth.visible and not self._is_poison(letters):  # alone, it would only come back
                moved = dead_letters.move(self._sqs, letters, None, lambda _moved, _of: None, poll_seconds=0.2)
                self.did["redriven"] += moved.messages

    def _dead_letters(self) -> list[dead_letters.DeadLetters]:
        return dead_letters.find(self.lake, self._sqs)

    def _is_poison(self, letters: dead_letters.DeadLetters) -> bool:
        return letters.depth.visible == 1 and is_poison(dead_letters.peek(self.lake, self._sqs, letters))

    def _retry(self) -> None:
        for row in self.batches():
            if row["state"] == "FAILED":
                self._again.retry(str(row["batch_id"]), datetime.now(UTC))
                self.did["retried"] += 1


def is_poison(told: list[str]) -> bool:
    """Whether ``tarn redrive`` says of a queue that there is one dead letter, and that nobody can read it."""
    return len(told) == 1 and told[0].startswith("unreadable:")


def told(rows: list[dict[str, Any]]) -> str:
    """Batches by state, in a line."""
    return json.dumps(Counter(str(row["state"]) for row in rows))
