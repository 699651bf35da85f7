"""What an operator does while the lake is under faults: redrive dead letters, and try failed batches again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key

from lake import batches, names
from tarn.lake import Lake
from tarn.local import faults
from tests.soak.lake import wake
from tests.soak.load import DATASETS, JUDGED, TEAM

STATES = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
UNFINISHED = ("OPEN", "READY", "STARTED")


@dataclass
class Operator:
    """Looks after one lake; ``did`` counts what was done by hand, ``held`` what may stay as it is."""

    lake: Lake
    state: Path
    did: Counter[str] = field(default_factory=Counter)
    blocked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._sqs = boto3.client("sqs")
        name = self.lake.contract.foundations("batches-table/name")
        self._batches = boto3.resource("dynamodb").Table(name)

    def look_after(self) -> None:
        """One round: every dead letter goes back, every failed batch gets its next attempt."""
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
        found = {}
        for place, url in self.lake.contract.queues().items():
            told = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(STATES))["Attributes"]
            if depth := sum(int(told[name]) for name in STATES):
                found[place] = depth
        return found

    def first_hop(self) -> int:
        """Messages that are not staged yet."""
        depths = self.depths()
        return depths.get("foundations/ingest-queue", 0) + depths.get("pipeline/air/main/queue", 0)

    def unrest(self) -> dict[str, int]:
        """What still moves or needs a hand, by its name; nothing when the lake is quiet."""
        counted = Counter(row["state"] for row in self.batches())
        moving = {state: counted[state] for state in (*UNFINISHED, "FAILED") if counted[state]}
        held = faults.counts(self.state).get("held", 0)
        return {**self.depths(), **moving, **({"held": held} if held else {})}

    def _redrive(self) -> None:
        """By hand: a message is sent to where it came from before it is taken out of the dead letters."""
        queues = self.lake.contract.queues()
        for place, url in queues.items():
            if "dead-letter" not in place:
                continue
            while got := self._sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=30, AttributeNames=["All"]
            ).get("Messages", []):
                for message in got:
                    target = self._source(place, message)
                    if target is not None:
                        self._sqs.send_message(QueueUrl=target, MessageBody=message["Body"])
                    self.did["redriven" if target else "dead ticks"] += 1
                    self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def _source(self, place: str, message: dict[str, Any]) -> str | None:
        """Where a dead letter came from; None for an event of start_batch, whose work the next tick does."""
        arn = message.get("Attributes", {}).get("DeadLetterQueueSourceArn")
        if arn is None:
            assert "start-batch" in place, f"a dead letter of nobody in {place}: {message['Body'][:200]}"
            return None
        return str(self._sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])

    def _retry(self) -> None:
        for row in self.batches():
            if row["state"] == "FAILED":
                batches.new_attempt(self._batches, batches.of_row(row), datetime.now(UTC))
                self.did["retried"] += 1
                wake(self.lake, str(row["dataset"]))


def told(rows: list[dict[str, Any]]) -> str:
    """Batches by state, in a line."""
    return json.dumps(Counter(str(row["state"]) for row in rows))
