"""Protocol 3 as a property: each version of a raw object is staged once under its own key, whatever its messages do.

A state machine lands and removes versions of a key, of which the real router tells, and hands their messages to the
real functions of the first hop: several at once, twice, late. Each run of these stands still before each of its calls
to AWS until a rule lets it go on, makes it die before or after that call, or loses the call's answer; meanwhile other
runs, batches and versions come. When every message has been settled, the version that lives has been staged and
announced, once, or its raw object says why not, and nothing else is alive.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from boto3.dynamodb.conditions import Attr
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lake import clock, names, object_transform, routing, rows
from lake.datasets import Registry
from tests.integration.batch_claim_world import DiedError, Held, hold
from tests.integration.first_hop_world import DATASET, NOON, REGISTRATION, TEAM, Hop
from tests.integration.tables import open_lake, receive_all
from tests.unit.batch_claim_machine import exploring

GOOD, BAD = "carrier,delay\nua,{}\n", "carrier,delay\nua,late {}\n"
STRICT = [*REGISTRATION["columns"], {"name": "gate", "type": "string", "required": True}]
"""Columns that no file has: a dataset that refuses what it took before."""
ALIVE = ("STAGED", "BATCHED")
REFUSED = ("QUARANTINED",)
EVENTS = (
    *("land", "land", "land a bad one", "remove", "other columns", "own columns", "own columns"),
    *("deliver", "deliver", "deliver", "deliver any", "deliver any", "go on", "go on", "claim", "claim"),
)
HOWS = ("stand", "repeat", "die before", "die after")
"""What a run does at a call: it stands still, makes the call twice for it lost the answer, or dies."""
MOST_VERSIONS = 4
MOST_RUNS = 2
MOST_ROUNDS = 4
MOST_CALLS = 1000


@dataclass
class Site:
    """The first hop of one lake, shared by all examples: each has keys of its own."""

    hop: Hop
    moment: datetime = NOON
    examples: Iterator[int] = field(default_factory=count)

    @property
    def lake(self) -> Any:
        return self.hop.lake


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Functions whose clocks stand still, each of whose runs has a folder of its own, as it has a process on AWS."""
    with open_lake() as lake, pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        opened = Site(Hop(lake, patch))
        hop = opened.hop
        patch.setattr(clock, "now", lambda: opened.moment)
        patch.setattr(object_transform, "working_folder", lambda _parent: Path(tempfile.mkdtemp(dir=folder)))
        settle = hop.machine._settle

        def settle_or_die(group: dict[str, Any]) -> Any:
            """A function that died is an error to its state, and the group's outcomes are none."""
            try:
                return settle(group)
            except DiedError:
                return []

        patch.setattr(hop.machine, "_settle", settle_or_die)
        hold(hop.transform.S3, hop.record.CLIENTS.objects.meta.client, hop.record.CLIENTS.sqs)
        yield opened


class FirstHop(RuleBasedStateMachine):
    """A key of a dataset, the messages of its versions, and the runs that take these."""

    site: Site

    def __init__(self) -> None:
        super().__init__()
        self.hop, self.lake = self.site.hop, self.site.lake
        self.key = f"{TEAM}/{DATASET}/{next(self.site.examples)}.csv"
        self.messages: list[dict[str, Any]] = []
        self.unsettled: set[int] = set()
        self.newest: str | None = None
        self.runs: list[tuple[Held, list[int]]] = []
        self.claimed: set[str] = set()
        self.was_strict = False
        self.redeploy(strict=False)

    @rule(what=st.sampled_from(EVENTS), calls=st.integers(0, 7), then=st.sampled_from(HOWS), data=st.data())
    def happens(self, what: str, calls: int, then: str, data: st.DataObject) -> None:
        """One of many things; rules of their own would be left out of whole examples."""
        match what:
            case "land" | "land a bad one" if len(self.messages) < MOST_VERSIONS:
                self.land(BAD if what.endswith("bad one") else GOOD)
            case "remove":
                self.remove()
            case "other columns" | "own columns":
                self.redeploy(strict=what == "other columns")
            case "deliver" if self.unsettled and len(self.runs) < MOST_RUNS:
                self.begin(sorted(self.unsettled))
                self.go_on(-1, calls, then)
            case "deliver any" if self.messages and len(self.runs) < MOST_RUNS:
                known = st.integers(0, len(self.messages) - 1)
                self.begin(data.draw(st.lists(known, min_size=1, max_size=3, unique=True), label="messages"))
                self.go_on(-1, calls, then)
            case "go on" if self.runs:
                self.go_on(data.draw(st.integers(0, len(self.runs) - 1), label="run"), calls, then)
            case "claim":
                self.claim()

    # What happens to the raw zone, and to the dataset

    def land(self, text: str) -> None:
        """A version."""
        body = text.format(len(self.messages)).encode()
        answer = self.lake.s3.put_object(Bucket=self.lake.raw_bucket, Key=self.key, Body=body)
        self.newest = text
        self._route("ObjectCreated:Put", size=len(body), eTag=answer["ETag"], versionId=answer["VersionId"])

    def remove(self) -> None:
        """Every version goes, so that what is under way finds nothing."""
        if self.newest is not None:
            for one in self.lake.s3.list_object_versions(Bucket=self.lake.raw_bucket, Prefix=self.key)["Versions"]:
                self.lake.s3.delete_object(Bucket=self.lake.raw_bucket, Key=self.key, VersionId=one["VersionId"])
            self.newest = None
            self._route("ObjectRemoved:Delete")

    def redeploy(self, strict: bool) -> None:
        """The dataset declares other columns, and functions believe what they know for no longer."""
        self.hop.register(columns=STRICT if strict else REGISTRATION["columns"])
        self.site.moment += timedelta(minutes=2)
        self.was_strict |= strict

    def claim(self) -> None:
        """A batch takes what was announced."""
        for told in receive_all(self.lake.sqs, self.lake.dataset_queue_url):
            try:
                claimed = {"state": "BATCHED", "batch_id": "b"}
                free = Attr("state").eq("STAGED") & Attr("batch_id").not_exists()
                rows.update(self.lake.objects, {"id": told["id"]}, claimed, condition=free)
            except rows.ConditionFailedError:
                continue
            assert told["id"] not in self.claimed, "in two batches"
            self.claimed.add(told["id"])

    # What the functions do

    def begin(self, some: list[int]) -> None:
        """A message batch of these comes to the starter; the run stands before its first call."""
        bodies = [self.messages[one] for one in some]
        run = Held(lambda: self.hop.go(*bodies))
        run.start()
        run.stands.acquire()
        self.runs.append((run, some))

    def go_on(self, place: int, calls: int, then: str = "stand") -> None:
        """So many calls, and what happens at the next."""
        run, some = self.runs[place]
        for order in [*["go"] * calls, *([then] if then != "stand" else [])]:
            if not run.tell(order):
                self.runs.pop(place)
                self._end(run, some)
                return

    # What must hold

    @invariant()
    def no_message_goes_before_its_object_is_settled(self) -> None:
        """The version that lives is staged, or refused with its reason, or a message is there."""
        row = self.lake.row(names.object_id(self.lake.raw_bucket, self.key))
        if self.newest is not None and not self.unsettled:
            assert row["state"] in ("STAGED", *REFUSED), row
            assert row["state"] == "STAGED" or row["reason"]

    def teardown(self) -> None:
        """The late ones wake up and end, every message is settled; then the rows are as the version that lives."""
        for _ in range(MOST_ROUNDS):
            while self.runs:
                self.go_on(0, MOST_CALLS)
            if self.unsettled:
                self.begin(sorted(self.unsettled))
        assert not self.unsettled
        self.claim()
        self._check_stage_keys()
        if self.messages:
            self._check_rows()

    def _check_rows(self) -> None:
        identity = names.object_id(self.lake.raw_bucket, self.key)
        row = self.lake.row(identity)
        staged = self.lake.objects.scan(FilterExpression=Attr("source_id").eq(identity))["Items"]
        alive = [one for one in staged if one["state"] in ALIVE]
        if self.newest is None:
            assert (row["state"], alive) == ("DELETED", [])
        elif row["state"] in REFUSED:
            assert self.was_strict or self.newest == BAD, row
            assert alive == [], row
        else:
            assert row["state"] == "STAGED", row
            assert [(one["id"], one["state"]) for one in alive] == [(row["staged_id"], "BATCHED")], "once, and told of"
            assert alive[0]["source_version_id"] == row["version_id"]

    def _check_stage_keys(self) -> None:
        """A stage key holds one version's rows, however often it was written."""
        found = self.lake.s3.list_object_versions(Bucket=self.lake.stage_bucket, Prefix=self.key)
        contents: dict[str, set[str]] = {}
        for one in found.get("Versions", []):
            contents.setdefault(one["Key"], set()).add(one["ETag"])
        assert set(contents) <= {names.stage_key(one["key"], one["sequencer"]) for one in self.messages}
        assert {len(etags) for etags in contents.values()} <= {1}

    # How it is done

    def _end(self, run: Held, some: list[int]) -> None:
        """Messages that the starter does not give back are deleted."""
        run.join()
        self.unsettled -= {one for at, one in enumerate(some) if f"m{at}" not in run.answer}

    def _route(self, name: str, **thing: Any) -> None:
        self.hop._sequence += 1
        told = {"key": quote_plus(self.key), "sequencer": f"{self.hop._sequence:018X}", **thing}
        bucket = {"name": self.lake.raw_bucket}
        record = {
            "eventName": name,
            "eventTime": "2026-11-23T11:59:00.000Z",
            "s3": {"bucket": bucket, "object": told},
        }
        clients = routing.Clients(self.lake.objects, Registry(self.lake.datasets), self.lake.s3, self.lake.sqs)
        bodies = {"m": json.dumps({"Records": [record]})}
        assert routing.route(clients, self.lake.raw_bucket, bodies, self.site.moment).failed == {}
        sent = receive_all(self.lake.sqs, self.lake.pipeline_queue_url)
        self.unsettled |= set(range(len(self.messages), len(self.messages) + len(sent)))
        self.messages += sent


def test_each_version_is_staged_once_whatever_its_messages_do(site: Site) -> None:
    machine = type("FirstHopHere", (FirstHop,), {"site": site})
    run_state_machine_as_test(machine, settings=exploring(examples=25, steps=40))
