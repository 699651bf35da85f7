"""The real functions in moto as a world for tests/unit/batch_claim_machine.py.

Each run is a thread that stands still before each of its calls to AWS: botocore's own events are where it is
held, where it dies (before the call, or after it was carried out), and where the answer of a call gets lost, so that
botocore sends it again. Nothing of the functions is replaced, but for the mutants.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Key
from botocore.config import Config
from moto.backends import get_backend

from lake import batches, claim, names
from lake.executions import Machine
from tests.integration.tables import ACCOUNT, REGION, Lake, open_lake

TEAM = "air"
TIMEOUT = timedelta(seconds=300)
MAX_ITEMS = 3
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class DiedError(BaseException):
    """The function is gone; no ``except Exception`` of its own sees it."""


class Held(threading.Thread):
    """A run that makes one call to AWS each time it is told to."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.told = threading.Semaphore(0)
        self.stands = threading.Semaphore(0)
        self.order = ""
        self.call = ""
        self.dead = False
        self.error: BaseException | None = None
        self.answer: Any = None

    def run(self) -> None:
        try:
            self.answer = self.work()
        except DiedError:
            self.dead = True
        except Exception as error:  # noqa: BLE001 - it is raised again where the test sees it
            self.error = error
        finally:
            self.call = ""
            self.stands.release()

    def before(self, call: str) -> None:
        if self.dead:
            raise DiedError
        self.call = call
        self.stands.release()
        self.told.acquire()
        if self.order == "die before":
            self.dead = True
            raise DiedError

    def after(self) -> None:
        if self.dead:
            raise DiedError
        if self.order == "die after":
            self.dead = True
            raise DiedError

    def again(self) -> int | None:
        """Botocore's question whether to send a call again: seconds to wait, or None."""
        if self.order != "repeat":
            return None
        self.order = "go"
        return 0

    def tell(self, order: str) -> bool:
        """False when it has ended."""
        if not self.call:
            return False
        self.order = order
        self.told.release()
        self.stands.acquire()
        if self.error is not None:
            raise self.error
        return bool(self.call)


def hold(*clients: Any) -> None:
    """Let threads that are ``Held`` stand still at each call of these clients."""

    def held() -> Held | None:
        thread = threading.current_thread()
        return thread if isinstance(thread, Held) else None

    def before(model: Any, **_: Any) -> None:
        if (thread := held()) is not None:
            thread.before(model.name)

    def after(**_: Any) -> None:
        if (thread := held()) is not None:
            thread.after()

    def again(**_: Any) -> int | None:
        return None if (thread := held()) is None else thread.again()

    for client in clients:
        client.meta.events.register_first("before-call", before)
        client.meta.events.register_last("after-call", after)
        client.meta.events.register_first("needs-retry", again)


@dataclass
class Site:
    """A lake in moto with a state machine, shared by many worlds, each with a dataset of its own."""

    lake: Lake
    clients: claim.Clients
    place: claim.Place
    numbers: Iterator[int] = field(default_factory=count)


@contextmanager
def open_site() -> Iterator[Site]:
    """A site whose queues answer at once."""
    with open_lake() as lake, pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim, "LONG_POLL_SECONDS", 0)
        once = Config(parameter_validation=False, retries={"total_max_attempts": 2})
        dynamodb = boto3.resource("dynamodb", region_name=REGION, config=once)
        sqs, s3 = (boto3.client(name, region_name=REGION, config=once) for name in ("sqs", "s3"))
        states = boto3.client("stepfunctions", region_name=REGION, config=once)
        arn = states.create_state_machine(
            name="stage-to-analytics",
            definition=json.dumps({"StartAt": "Wait", "States": {"Wait": {"Type": "Succeed"}}}),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/states",
        )["stateMachineArn"]
        hold(dynamodb.meta.client, sqs, s3, states)
        yield Site(
            lake,
            claim.Clients(
                objects=dynamodb.Table(lake.objects.name),
                datasets=dynamodb.Table(lake.datasets.name),
                batches=dynamodb.Table(lake.batches.name),
                sqs=sqs,
                s3=s3,
                states=states,
            ),
            claim.Place(Machine(arn, lake.stage_bucket, lake.analytics_bucket), lake.asset_bucket, TIMEOUT),
        )


class RealWorld:
    """One dataset of the site, its queue, its objects and its runs."""

    def __init__(self, site: Site, run_class: type[claim.Run] = claim.Run, leased: bool = False) -> None:
        self.site, self.run_class, self.leased = site, run_class, leased
        self.number = next(site.numbers)
        self.dataset = f"flights{self.number}"
        self.queue_url = site.lake.sqs.create_queue(QueueName=f"queue{self.number}")["QueueUrl"]
        self.queue = get_backend("sqs")[ACCOUNT][REGION].get_queue(f"queue{self.number}")
        self.now = NOON
        self.seen: list[dict[str, Any]] | None = None
        self.runs: list[Held] = []
        self.read: list[dict[str, Any]] | None = None
        self.manifests: dict[str, dict[str, Any]] = {}
        self.patch = pytest.MonkeyPatch()
        ids = count()
        # Ids that order batches alike each time (the same examples are the same calls), yet differ between worlds.
        self.patch.setattr(batches.secrets, "token_hex", lambda _size: f"{self.number:06x}{next(ids):06x}")
        unfinished = batches.unfinished
        self.patch.setattr(
            batches,
            "unfinished",
            lambda table, team, dataset: unfinished(table, team, dataset) if self.seen is None else iter(self.seen),
        )
        site.lake.datasets.put_item(
            Item={
                "team": TEAM,
                "dataset": self.dataset,
                "kind": "dataset",
                "pipeline": "main",
                "queue_url": self.queue_url,
                "min_items": 1,
                "max_items": MAX_ITEMS,
                "max_wait_minutes": 60,
                "rules": "rules.dqdl",
            }
        )

    def identity(self, thing: int) -> str:
        key = names.stage_key(f"{TEAM}/{self.dataset}/{thing}", names.padded_sequencer(f"{thing:x}"))
        return names.object_id(self.site.lake.stage_bucket, key)

    def thing(self, identity: str) -> int:
        return int(identity.rsplit("/", 1)[1].partition("~")[0])

    # What the machine does to it

    def land(self, thing: int) -> None:
        self.site.lake.objects.put_item(
            Item={
                "id": self.identity(thing),
                "schema": 1,
                "zone": "stage",
                "team": TEAM,
                "dataset": self.dataset,
                "size": 100 + thing,
                "rows": 10,
                "sequencer": names.padded_sequencer(f"{thing:x}"),
                "version_id": "v1",
                "state": "STAGED",
            }
        )
        self.send_again(thing)

    def send_again(self, thing: int) -> None:
        body = {
            "schema": 1,
            "id": self.identity(thing),
            "team": TEAM,
            "dataset": self.dataset,
            "size": 100 + thing,
            "sequencer": names.padded_sequencer(f"{thing:x}"),
            "version_id": "v1",
        }
        self.site.lake.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(body))

    def retire(self, thing: int) -> bool:
        """As record_outcomes does when a newer version was staged."""
        table = self.site.lake.objects
        try:
            table.update_item(
                Key={"id": self.identity(thing)},
                UpdateExpression="SET #s = :s",
                ConditionExpression="attribute_not_exists(batch_id)",
                ExpressionAttributeNames={"#s": "state"},
                ExpressionAttributeValues={":s": "SUPERSEDED"},
            )
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def begin(self) -> Held:
        """A run with time enough; unless the world is ``leased``, runs do not keep out of each other's way."""
        name = f"run{len(self.runs)}"
        run = self.run_class(
            self.site.clients, self.site.place, TEAM, self.dataset, lambda: self.now, self.now + timedelta(days=365)
        )

        def work() -> claim.Report:
            if self.leased:
                return run.go(name)
            registration = self.site.clients.datasets.get_item(Key={"team": TEAM, "dataset": self.dataset})["Item"]
            run.recover()
            run.make_batch(registration)
            return run.report

        held = Held(work)
        self.runs.append(held)
        held.start()
        held.stands.acquire()
        if held.error is not None:
            raise held.error
        return held

    def step(self, run: Held) -> bool:
        self.read = None
        return run.tell("go")

    def repeat(self, run: Held) -> bool:
        self.read = None
        return run.tell("repeat")

    def kill(self, run: Held, after: bool) -> None:
        self.read = None
        run.tell("die after" if after else "die before")
        run.join(timeout=10)
        assert not run.is_alive()

    def expire(self) -> None:
        for message in self.queue._messages:
            message.visible_at = 0

    def grow_old(self) -> None:
        self.now += TIMEOUT

    def lag(self, behind: bool) -> None:
        self.seen = list(batches.unfinished(self.site.lake.batches, TEAM, self.dataset)) if behind else None

    def abort(self) -> None:
        for execution in self.executions():
            if execution.status == "RUNNING":
                self.site.clients.states.stop_execution(executionArn=execution.execution_arn)

    # What the machine sees

    def executions(self) -> list[Any]:
        machine = get_backend("stepfunctions")[ACCOUNT][REGION].describe_state_machine(self.site.place.machine.arn)
        return [one for one in machine.executions if json.loads(one.execution_input)["dataset"] == self.dataset]

    def batches(self) -> list[dict[str, Any]]:
        """The batches' rows, read again when a run has made a call."""
        if self.read is None:
            key = Key("owner").eq(names.owner_key(TEAM, self.dataset))
            self.read = self.site.lake.batches.query(KeyConditionExpression=key, ConsistentRead=True)["Items"]
        return self.read

    def manifest(self, uri: str) -> dict[str, Any]:
        """A committed batch's manifest; it is written once."""
        if uri not in self.manifests:
            bucket, key = names.split_object_id(uri)
            self.manifests[uri] = json.loads(self.site.lake.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return self.manifests[uri]

    def started(self) -> list[tuple[str, list[int]]]:
        found = []
        for execution in self.executions():
            told = json.loads(execution.execution_input)
            objects = [self.thing(one["id"]) for one in self.manifest(told["manifest_uri"])["objects"]]
            found.append((told["batch_id"], objects))
        return found

    def unsettled(self) -> list[str]:
        ended = {one.execution_arn for one in self.executions() if one.status != "RUNNING"}
        return [
            row["batch_id"]
            for row in self.batches()
            if row["state"] in {"OPEN", "READY"} or (row["state"] == "STARTED" and row["execution_arn"] in ended)
        ]

    def waiting(self) -> set[int]:
        return {self.thing(json.loads(message.body)["id"]) for message in self.queue._messages}

    def committed(self) -> set[int]:
        """By the manifests of committed batches, not by the objects' rows."""
        stage = self.site.lake.stage_bucket
        return {
            self.thing(one["id"])
            for row in self.batches()
            if row["state"] not in {"OPEN", "ABANDONED"}
            for one in self.manifest(names.object_id(stage, row["manifest"]))["objects"]
        }

    def close(self) -> None:
        for run in self.runs:
            if run.call:
                self.kill(run, after=False)
        self.patch.undo()
        self.site.lake.sqs.delete_queue(QueueUrl=self.queue_url)
