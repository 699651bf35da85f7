"""Protocol 1 as a property: whatever happens to an object, and however S3's events come, its row ends as S3 is.

A state machine puts, overwrites, deletes and brings back versions of one key in a versioned bucket (moto's, which is
the model), and hands its events to the real router in any order, twice, late, with crashes between row, retirement
and queue, while the real recorder stages what was sent and batches take it. When all that was ever sent has been
handled, the row must show the version that lives, exactly that version must be staged once and alive, and nothing
else may be.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import quote_plus

import boto3
import pytest
from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lake import catalog, events, names, queues, routing, rows, staging
from lake.datasets import Registry
from lake.hop_items import Item, Outcome, Result
from tests.faults.killing import Death, dying
from tests.integration.tables import Lake, open_lake, receive_all

ALIVE = ("STAGED", "BATCHED")
NUMBERS = itertools.count()
ERRORS = st.sampled_from(["none", "none", "none", "before retiring", "before sending", "after sending"])
DEATHS = st.builds(Death, st.integers(1, 6), st.booleans())
"""Of the router, which makes up to five calls, and of the recorder."""
LIVES = st.builds(Death, st.just(99), st.just(False))


class OneObject(RuleBasedStateMachine):
    """One key of the raw zone, S3's events of it, and everything that handles them."""

    lake: Lake

    @initialize(registered=st.booleans(), newest_first=st.booleans())
    def begin(self, registered: bool, newest_first: bool) -> None:
        """A fresh dataset in the same lake."""
        lake = self.lake
        self.newest_first = newest_first
        self.dataset = f"d{next(NUMBERS)}"
        self.key = f"air/{self.dataset}/a +%.csv"
        self.id = names.object_id(lake.raw_bucket, self.key)
        self.moment = datetime(2026, 11, 23, tzinfo=UTC)
        self.sequence = 0xF0  # grows past a digit
        self.versions: list[str] = []
        self.pending: list[dict[str, Any]] = []
        self.handled: list[dict[str, Any]] = []
        self.clients = routing.Clients(lake.objects, Registry(lake.datasets), lake.s3, lake.sqs)
        self.recorder = staging.Clients(lake.objects, lake.sqs, boto3.client("lambda"))
        self.destination = staging.Destination(
            "air", self.dataset, lake.stage_bucket, lake.dataset_queue_url, 10**6, "start_batch"
        )
        for queue in (lake.pipeline_queue_url, lake.ingest_queue_url, lake.dataset_queue_url):
            receive_all(lake.sqs, queue)
        if registered:
            self.register()

    @rule()
    def register(self) -> None:
        """The dataset and its pipeline are registered."""
        self.lake.datasets.put_item(
            Item={"team": "air", "dataset": self.dataset, "kind": "dataset", "pipeline": self.dataset}
        )
        self.lake.datasets.put_item(
            Item={
                "team": "air",
                "dataset": f"pipeline#{self.dataset}",
                "kind": "pipeline",
                "pipeline": self.dataset,
                "queue_url": self.lake.pipeline_queue_url,
            }
        )

    @rule()
    def unregister(self) -> None:
        """Its stack is deleted."""
        self.lake.datasets.delete_item(Key={"team": "air", "dataset": self.dataset})

    @rule(empty=st.sampled_from([False, False, False, True]))
    def put(self, empty: bool) -> None:
        """A version lands."""
        body = b"" if empty else f"{len(self.versions)}".encode() * (len(self.versions) + 1)
        answer = self.lake.s3.put_object(Bucket=self.lake.raw_bucket, Key=self.key, Body=body)
        self.versions.append(answer["VersionId"])
        self._tell("ObjectCreated:Put", size=len(body), eTag=answer["ETag"], versionId=answer["VersionId"])

    @precondition(lambda self: self.versions)
    @rule()
    def delete(self) -> None:
        """A delete marker is put upon it."""
        answer = self.lake.s3.delete_object(Bucket=self.lake.raw_bucket, Key=self.key)
        self.versions.append(answer["VersionId"])
        self._tell("ObjectRemoved:DeleteMarkerCreated", versionId=answer["VersionId"])

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def delete_a_version(self, data: st.DataObject) -> None:
        """A version, or a delete marker, is removed; the object may live on, die, or come back."""
        version = self.versions.pop(data.draw(st.integers(0, len(self.versions) - 1)))
        self.lake.s3.delete_object(Bucket=self.lake.raw_bucket, Key=self.key, VersionId=version)
        self._tell("ObjectRemoved:Delete", versionId=version)

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), error=ERRORS, death=LIVES | DEATHS)
    def hear(self, data: st.DataObject, error: str, death: Death) -> None:
        """One of the events that nobody has handled, in any order; after a crash it comes again."""
        event = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        if self._route(event, error, death):
            self.pending.append(event)
        else:
            self.handled.append(event)

    @precondition(lambda self: self.handled)
    @rule(data=st.data(), error=ERRORS, death=LIVES | DEATHS)
    def hear_again(self, data: st.DataObject, error: str, death: Death) -> None:
        """An event that was handled comes once more."""
        event = self.handled[data.draw(st.integers(0, len(self.handled) - 1))]
        if self._route(event, error, death):
            self.pending.append(event)

    @rule()
    def tick(self) -> None:
        """What waits for its dataset is sent through the ingest queue again, and comes like any event."""
        routing.resend_unrouted(self.clients, self.lake.datasets, self.lake.ingest_queue_url, 10, self._later())
        self.pending += receive_all(self.lake.sqs, self.lake.ingest_queue_url)

    @rule(death=LIVES | DEATHS)
    def stage(self, death: Death) -> None:
        """The first hop stages what was sent; where it dies, all of its messages come back."""
        again = messages = receive_all(self.lake.sqs, self.lake.pipeline_queue_url)
        with dying(death):
            again = self._stage(messages)
        for message in again:
            self.lake.sqs.send_message(QueueUrl=self.lake.pipeline_queue_url, MessageBody=json.dumps(message))

    @rule()
    def claim(self) -> None:
        """A batch takes what is staged."""
        for row in self._staged():
            if row["state"] == "STAGED":
                rows.update(
                    self.lake.objects,
                    {"id": row["id"]},
                    {"state": "BATCHED", "batch_id": f"b{self.sequence}"},
                    condition=Attr("state").eq("STAGED"),
                )

    @invariant()
    def attention_is_of_those_who_need_it(self) -> None:
        """The sparse index holds a row when and only when its state asks for a person."""
        for row in [*self._staged(), *filter(None, [self.lake.row(self.id)])] if hasattr(self, "id") else []:
            asks = row["state"] in ("UNROUTED", "QUARANTINED", "TOO_LARGE", "STALE")
            assert ("attention" in row) == ("attention_at" in row) == asks, row
            assert not asks or (row["reason"] and row["attention_at"].startswith(f"{row['state']}#"))

    def teardown(self) -> None:
        """All that was ever sent is handled; then the catalog is what S3 is."""
        if not hasattr(self, "id"):
            return  # it never began
        self.register()
        for _ in range(3):
            for event in self.pending[:: -1 if self.newest_first else 1]:
                assert not self._route(event)
            self.pending = []
            assert self._stage(receive_all(self.lake.sqs, self.lake.pipeline_queue_url)) == []
            self.tick()
        assert self.pending == []
        self._check()
        for row in self.lake.objects.scan()["Items"]:
            self.lake.objects.delete_item(Key={"id": row["id"]})
        for row in self.lake.datasets.scan()["Items"]:
            self.lake.datasets.delete_item(Key={"team": row["team"], "dataset": row["dataset"]})

    def _check(self) -> None:
        row = self.lake.row(self.id)
        alive = [one["id"] for one in self._staged() if one["state"] in ALIVE]
        try:
            head = self.lake.s3.head_object(Bucket=self.lake.raw_bucket, Key=self.key)
        except ClientError:
            assert row is None or row["state"] == "DELETED"
            assert alive == []
            return
        assert row is not None
        assert row["version_id"] == head["VersionId"]
        assert row["size"] == head["ContentLength"]
        if head["ContentLength"] == 0:
            assert row["state"] == "QUARANTINED"
            assert alive == []
        else:
            assert row["state"] == "STAGED"
            assert alive == [row["staged_id"]]
            [staged] = [one for one in self._staged() if one["id"] == row["staged_id"]]
            assert staged["source_version_id"] == head["VersionId"]

    def _tell(self, name: str, **thing: Any) -> None:
        self.sequence += 7
        told = {"key": quote_plus(self.key), "sequencer": f"{self.sequence:X}", **thing}
        record = {
            "eventName": name,
            "eventTime": "2026-11-23T16:44:01.123Z",
            "s3": {"bucket": {"name": self.lake.raw_bucket}, "object": told},
        }
        self.pending.append({"Records": [record]})

    def _route(self, event: dict[str, Any], error: str = "none", death: Death | None = None) -> bool:
        """Whether the event must come again: a call of the router failed, or it died at one."""
        events.parse(json.dumps(event))
        real = queues.send
        with ExitStack() as stack:
            if error == "before retiring":
                stack.enter_context(mock.patch.object(catalog, "retire", side_effect=_broken()))
            if error == "before sending":
                stack.enter_context(mock.patch.object(queues, "send", side_effect=_broken()))
            if error == "after sending":

                def sent_and_lost(*arguments: Any) -> dict[str, str]:
                    real(*arguments)
                    raise _broken()

                stack.enter_context(mock.patch.object(queues, "send", sent_and_lost))
            failed: dict[str, str] = {"m": "died"}
            with dying(death or Death(99, after=False)):
                bodies = {"m": json.dumps(event)}
                failed = routing.route(self.clients, self.lake.raw_bucket, bodies, self._later()).failed
            return bool(failed)

    def _stage(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Record messages as the machine does, each alone; gives those that must come back."""
        again = []
        for message in messages:
            item = Item.of(message)
            result = Result(item.id, Outcome.STAGED, size=item.size, etag="e", rows=1)
            try:
                self.lake.s3.head_object(Bucket=self.lake.raw_bucket, Key=item.key, VersionId=item.version_id or "null")
            except ClientError:
                result = Result(item.id, Outcome.GONE, "that version is no longer there")
            [settled] = staging.record(self.recorder, self.destination, [item], {item.id: result}, self._later())
            if settled.outcome == Outcome.FAILED:
                again.append(message)
        return again

    def _staged(self) -> list[dict[str, Any]]:
        prefix = names.object_id(self.lake.stage_bucket, f"air/{self.dataset}/")
        found = self.lake.objects.scan(FilterExpression=Attr("id").begins_with(prefix))
        return [dict(row) for row in found["Items"]]

    def _later(self) -> datetime:
        """A moment at which nothing is believed any more."""
        self.moment += timedelta(seconds=61)
        return self.moment


def _broken() -> EndpointConnectionError:
    return EndpointConnectionError(endpoint_url="https://example.com")


@pytest.fixture(scope="module")
def shared_lake() -> Iterator[Lake]:
    """One lake for all examples: each has a dataset of its own."""
    with open_lake() as lake:
        yield lake


def test_the_row_ends_as_s3_is(shared_lake: Lake) -> None:
    machine = type("OneObjectHere", (OneObject,), {"lake": shared_lake})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 * int(os.environ.get("TARN_EXPLORE", "1")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
