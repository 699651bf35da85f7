"""Protocol 7 as a property: whatever becomes a dead letter, and however often it is moved back, nothing is lost by it.

Notifications land in the ingest queue, the real router sends them on, the real recorder stages what the pipeline's
queue tells; in between come outages, deaths, messages that nobody can read, and an operator who moves dead letters back
at any time, also halfway. The queues are moto's, with the templates' receive counts. moto has no move tasks: a letter
is moved as SQS does it, first into its own queue and then out of the other (SQS's own move is in test_redrive.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from moto.backends import get_backend

from lake import first_hop, names, routing, staging
from lake.datasets import Registry
from lake.hop_items import Landed, MalformedMessageError, Outcome, Result
from tests.faults.killing import Death, dying
from tests.integration.first_hop_world import NOON, TEAM
from tests.integration.tables import ACCOUNT, REGION, Lake, create_queue, open_lake, properties
from tests.integration.test_route_object import notification, register
from tests.unit.batch_claim_machine import exploring

DATASET = "flights"
QUEUES = {
    "ingest": ("foundations/ingest.yaml", "IngestQueue"),
    "pipeline": ("pipeline/raw_to_stage.yaml", "RawToStageQueue"),
}
POISON = ("no JSON {}", '"text {}"', '{{"schema": 0, "number": {}}}', '{{"schema": 1, "number": {}}}')
EVENTS = (
    *("land", "land", "poison", "redrive", "redrive", "redrive halfway", "expire", "expire"),
    *("deliver", "deliver", "deliver", "deliver in an outage", "deliver in an outage", "die", "die"),
)
REFUSED = ("UpdateItem", "PutItem", "BatchGetItem", "SendMessageBatch")
MOST_OBJECTS = 5
MOST_ROUNDS = 8
"""More than a queue's receives."""


@dataclass(frozen=True)
class Site:
    """A lake whose two queues have dead letters, as the templates say; examples have objects of their own."""

    lake: Lake
    urls: dict[str, str]
    numbers: Iterator[int]

    def messages(self, queue: str) -> list[Any]:
        """moto's own messages of a queue, visible or not."""
        found: list[Any] = get_backend("sqs")[ACCOUNT][REGION].get_queue(queue)._messages
        return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with open_lake() as lake:
        urls = {}
        for queue, (template, logical_id) in QUEUES.items():
            urls[f"{queue}-dead"] = lake.sqs.create_queue(QueueName=f"{queue}-dead")["QueueUrl"]
            most = properties(template, logical_id)["RedrivePolicy"]["maxReceiveCount"]
            policy = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}-dead", "maxReceiveCount": most}
            attributes = {"RedrivePolicy": json.dumps(policy)}
            urls[queue] = create_queue(lake.sqs, logical_id, template, attributes, name=f"{queue}-work")
        register(lake, DATASET)
        lake.datasets.update_item(
            Key={"team": TEAM, "dataset": "pipeline#main"},
            UpdateExpression="SET queue_url = :url",
            ExpressionAttributeValues={":url": urls["pipeline"]},
        )
        yield Site(lake, urls, count())


class DeadLetters(RuleBasedStateMachine):
    """Objects, messages that nobody can read, and an operator."""

    site: Site

    def __init__(self) -> None:
        super().__init__()
        self.lake = self.site.lake
        for queue in (*(f"{one}-{kind}" for one in QUEUES for kind in ("work", "dead")), "dataset"):
            self.site.messages(queue).clear()
        self.landed: set[str] = set()
        self.sent: dict[str, set[str]] = {queue: set() for queue in QUEUES}
        self.poison: dict[str, set[str]] = {queue: set() for queue in QUEUES}
        registry = Registry(self.lake.datasets)
        self.router = routing.Clients(self.lake.objects, registry, self.lake.s3, self.lake.sqs)
        self.recorder = staging.Clients(self.lake.objects, self.lake.sqs, boto3.client("lambda"))
        self.destination = staging.Destination(
            TEAM, DATASET, self.lake.stage_bucket, self.lake.dataset_queue_url, 10**6, "start_batch"
        )

    @rule(what=st.sampled_from(EVENTS), queue=st.sampled_from(sorted(QUEUES)), data=st.data())
    def happens(self, what: str, queue: str, data: st.DataObject) -> None:
        """One of many things; rules of their own would be left out of whole examples."""
        match what:
            case "land" if len(self.landed) < MOST_OBJECTS:
                key = f"{TEAM}/{DATASET}/n{next(self.site.numbers)}.csv"
                self.landed.add(key)
                self.send("ingest", json.dumps(notification(self.lake, key)))
            case "poison" if len(self.poison[queue]) < len(POISON):
                text = POISON[len(self.poison[queue])].format(next(self.site.numbers))
                self.poison[queue].add(text)
                self.send(queue, text)
            case "redrive" | "redrive halfway":
                self.redrive(queue, is_cut=what == "redrive halfway")
            case "expire":
                self.expire()
            case "deliver":
                self.deliver(queue)
            case "deliver in an outage":
                self.deliver_in_an_outage(queue, data.draw(st.sampled_from(REFUSED), label="refused"))
            case "die":
                with dying(Death(data.draw(st.integers(2, 8), label="call"), data.draw(st.booleans(), label="after"))):
                    self.deliver(queue)

    # What happens

    def send(self, queue: str, body: str) -> None:
        """What S3, or the router, sends."""
        self.sent[queue].add(body)
        self.lake.sqs.send_message(QueueUrl=self.site.urls[queue], MessageBody=body)

    def expire(self) -> None:
        """What is in flight shows again."""
        for queue in QUEUES:
            for message in self.site.messages(f"{queue}-work"):
                message.visible_at = 0

    def redrive(self, queue: str, is_cut: bool = False) -> None:
        """Every dead letter goes back to its own queue; one that is cut off has moved the first, and not removed it."""
        dead, work = self.site.urls[f"{queue}-dead"], self.site.urls[queue]
        while letters := self._receive(dead):
            for letter in letters:
                self.lake.sqs.send_message(QueueUrl=work, MessageBody=letter["Body"])
                if is_cut:
                    for message in self.site.messages(f"{queue}-dead"):
                        message.visible_at = 0
                    return
                self.lake.sqs.delete_message(QueueUrl=dead, ReceiptHandle=letter["ReceiptHandle"])

    def deliver(self, queue: str) -> None:
        """The queue wakes its function, and deletes what this does not give back."""
        url = self.site.urls[queue]
        received = {one["MessageId"]: one for one in self._receive(url)}
        if received:
            handle = self._route if queue == "ingest" else self._stage
            back = handle({name: one["Body"] for name, one in received.items()})
            for name in received.keys() - set(back):
                self.lake.sqs.delete_message(QueueUrl=url, ReceiptHandle=received[name]["ReceiptHandle"])

    def deliver_in_an_outage(self, queue: str, refused: str) -> None:
        """One operation is refused to whoever makes it."""
        real = BaseClient._make_api_call

        def call(client: BaseClient, operation: str, arguments: Any) -> Any:
            if operation == refused:
                raise ClientError({"Error": {"Code": "InternalServerError", "Message": "out"}}, operation)
            return real(client, operation, arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BaseClient, "_make_api_call", call)
            with suppress(ClientError):  # where the function raises it, every message comes back
                self.deliver(queue)

    # What must hold

    @invariant()
    def nothing_is_lost(self) -> None:
        """What is not staged has a message, alive or dead; and so has what nobody can read."""
        told = {queue: self._bodies(queue) for queue in (*QUEUES, *(f"{one}-dead" for one in QUEUES))}
        everything = "".join(body for bodies in told.values() for body in bodies)
        for key in self.landed:
            if self._row(key).get("state") != "STAGED":
                assert key.rpartition("/")[2] in everything, f"lost: {key}"
        for queue, texts in self.poison.items():
            assert texts <= {*told[queue], *told[f"{queue}-dead"]}, "lost: what could not be read"

    @invariant()
    def a_dead_letter_is_in_the_shape_of_its_own_queue(self) -> None:
        for body in self._bodies("ingest-dead"):
            assert body in self.sent["ingest"]
        for body in self._bodies("pipeline-dead"):
            assert body in self.poison["pipeline"] or Landed.of_body(body).item.key in self.landed

    def teardown(self) -> None:
        """The outage is over and all dead letters are moved back: what can be read is staged once, the rest is dead."""
        for queue in QUEUES:
            self.redrive(queue)
        for _ in range(MOST_ROUNDS):
            for queue in QUEUES:
                self.expire()
                self.deliver(queue)
        assert {queue: set(self._bodies(f"{queue}-dead")) for queue in QUEUES} == self.poison
        assert [self._bodies(queue) for queue in QUEUES] == [[], []]
        told = {json.loads(message.body)["id"] for message in self.site.messages("dataset")}
        assert told == {self._row(key)["staged_id"] for key in self.landed}
        for key in self.landed:
            prefix = names.object_id(self.lake.stage_bucket, f"{key}~")
            found = [row for row in self.lake.objects.scan()["Items"] if row["id"].startswith(prefix)]
            assert [row["state"] for row in found] == ["STAGED"]
        for row in self.lake.objects.scan()["Items"]:
            self.lake.objects.delete_item(Key={"id": row["id"]})

    # How it is done

    def _route(self, bodies: dict[str, str]) -> list[str]:
        return list(routing.route(self.router, self.lake.raw_bucket, bodies, NOON).failed)

    def _stage(self, bodies: dict[str, str]) -> list[str]:
        """As the starter and its machine do; each transform goes well."""
        messages, back = {}, []
        for name, body in bodies.items():
            try:
                messages[name] = Landed.of_body(body)
            except MalformedMessageError:
                back.append(name)
        items = first_hop.newest(messages)
        results = {one: Result(one, Outcome.STAGED, size=1, etag="e", rows=1) for one in items}
        settled = staging.record(self.recorder, self.destination, items.values(), results, NOON)
        told = {one.id: first_hop.Told(one.outcome, one.reason) for one in settled}
        return back + first_hop.failed_messages(messages, told)

    def _receive(self, url: str) -> list[Any]:
        return list(self.lake.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []))

    def _bodies(self, queue: str) -> list[str]:
        return [message.body for message in self.site.messages(f"{queue}-work" if queue in QUEUES else queue)]

    def _row(self, key: str) -> dict[str, Any]:
        return self.lake.row(names.object_id(self.lake.raw_bucket, key)) or {}


def test_dead_letters_lose_nothing_and_double_nothing(site: Site) -> None:
    machine = type("DeadLettersHere", (DeadLetters,), {"site": site})
    run_state_machine_as_test(machine, settings=exploring(examples=25, steps=40))
