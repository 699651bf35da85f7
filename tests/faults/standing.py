"""A whole lake on the embedded AWS, with one dataset (air/airlines): what the tests of faults do with it.

Its rule fires once a day: a batch is made when a test wakes start_batch. Quality is off, so that a batch is one Spark
job; what is judged is tested end to end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.dynamodb.conditions import Attr

from lake import events
from tarn.lake import Lake
from tarn.local import faults
from tests.e2e.lake_world import wait_for

GOOD = b"carrier,name\nAA,American Airlines Inc.\n"
OVERRIDES = {
    "AirFlightsAssetPrefix": "",
    "AirAirportsAssetPrefix": "",
    "AirPlanesAssetPrefix": "",
    "SkyWeatherAssetPrefix": "",
    "TickExpression": "rate(1 day)",
}


EMULATOR = {faults.VARIABLE: "seed=1 throttle=1 kill_before=0.5 kill_after=0.5", "SFN_WAIT_SCALE": "0.05"}
"""Its faults strike where a test switches them on; a state machine waits a twentieth of AWS's time between retries."""


class Standing:
    """Put, notify, wait and look."""

    def __init__(self, session: boto3.Session, state: Path) -> None:
        self.session, self.state = session, state
        self.lake = Lake("local", session)
        self.s3, self.sqs, self.functions = (session.client(name) for name in ("s3", "sqs", "lambda"))
        self.raw_bucket = self.lake.contract.foundations("raw-bucket/name")
        self.ingest = self.lake.contract.foundations("ingest-queue/url")
        self.ingest_dead = self.lake.contract.foundations("ingest-dead-letter-queue/url")
        self.objects = session.resource("dynamodb").Table(self.lake.contract.foundations("objects-table/name"))
        self.staged_queue = self.lake.contract.queues()["dataset/air/main/airlines/staged-queue"]

    def identity(self, name: str) -> str:
        """The raw object of a file of air/airlines."""
        return f"s3://{self.raw_bucket}/air/airlines/{name}"

    def put(self, name: str, body: bytes = GOOD) -> str:
        """Land a file of air/airlines; gives its identity."""
        self.s3.put_object(Bucket=self.raw_bucket, Key=f"air/airlines/{name}", Body=body)
        return self.identity(name)

    def row(self, identity: str) -> dict[str, Any]:
        """An object's row; empty where there is none."""
        return self.lake.object_row(identity) or {}

    def wait_for_state(self, state: str, *identities: str) -> None:
        """Wait until every object's row is in ``state``."""
        for one in identities:
            wait_for(lambda one=one: self.row(one).get("state") == state or None, f"{one} is {self.row(one)}")

    def notification(self, identity: str, **changes: Any) -> dict[str, Any]:
        """S3's notification of the version that the row tells of, with parts of its object changed."""
        told = events.notification(self.row(identity))
        told["Records"][0]["s3"]["object"] |= changes
        return told

    def tell(self, body: Any, queue_url: str | None = None) -> None:
        """Send a message to the ingest queue, as S3 does, or to another."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.sqs.send_message(QueueUrl=queue_url or self.ingest, MessageBody=text)

    def depth(self, queue_url: str) -> int:
        """Messages of a queue, visible and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return sum(map(int, told.values()))

    def wait_until_empty(self, queue_url: str) -> None:
        """Wait until a queue has nothing, in flight or visible."""
        wait_for(lambda: self.depth(queue_url) == 0 or None, f"{queue_url} holds {self.depth(queue_url)}")

    def staged(self, name: str) -> list[dict[str, Any]]:
        """Rows of what was staged from the versions of a file."""
        found = self.objects.scan(FilterExpression=Attr("source_id").eq(self.identity(name)), ConsistentRead=True)
        return [dict(row) for row in found["Items"]]

    def wake(self) -> None:
        """Wake start_batch for air/airlines, and wait for its end, whatever that is."""
        function = self.lake.contract.pipeline("air", "main", "start-batch/arn")
        self.functions.invoke(FunctionName=function, Payload=json.dumps({"team": "air", "dataset": "airlines"}))

    def batches_of(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The batches that hold what was staged of these files, by id."""
        held = {row["batch_id"] for name in names for row in self.staged(name) if "batch_id" in row}
        return {one: self.lake.batch("air#airlines", one) for one in held}

    def wait_until_published(self, names: Iterable[str]) -> None:
        """Wait until every batch that holds what was staged of these files is published."""
        names = list(names)

        def published() -> bool | None:
            states = {row["state"] for row in self.batches_of(names).values()}
            assert "FAILED" not in states
            return states == {"PUBLISHED"} or None

        wait_for(published, "the batches are not published", seconds=300)

    def carriers(self, name: str) -> list[list[str | None]]:
        """Carriers of the published rows with this name, each with its count."""
        question = f"SELECT carrier, count(*) FROM airlines WHERE name = '{name}' GROUP BY carrier"  # noqa: S608 (ours)
        return sorted(self.lake.query(question, "air").rows)

    def struck(self, *modes: str) -> int:
        """How often these faults have struck."""
        counted = faults.counts(self.state)
        return sum(counted.get(mode, 0) for mode in modes)

    @contextmanager
    def hasty(self, queue_url: str, seconds: int = 1) -> Iterator[None]:
        """A queue whose failed messages come back after seconds instead of minutes."""
        before = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["VisibilityTimeout"])["Attributes"]
        self.sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"VisibilityTimeout": str(seconds)})
        try:
            yield
        finally:
            self.sqs.set_queue_attributes(QueueUrl=queue_url, Attributes=before)

    def function(self, handler: str) -> dict[str, Any]:
        """The configuration of the function with this handler; the shared one where datasets have their own too."""
        pages = self.functions.get_paginator("list_functions").paginate()
        found = [one for page in pages for one in page["Functions"] if one["Handler"] == f"{handler}.handler"]
        return dict(min(found, key=lambda one: len(one["Environment"]["Variables"].get("DATASET_NAME", ""))))

    @contextmanager
    def environment(self, handler: str, **changes: str) -> Iterator[None]:
        """A function with other environment variables."""
        function = self.function(handler)
        name, right = function["FunctionName"], function["Environment"]
        changed = {"Variables": {**right["Variables"], **changes}}
        self.functions.update_function_configuration(FunctionName=name, Environment=changed)
        try:
            yield
        finally:
            self.functions.update_function_configuration(FunctionName=name, Environment=right)
