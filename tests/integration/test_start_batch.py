"""start_batch: when a dataset gets a run, and what a run does with what it finds."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from moto.backends import get_backend

from lake import batches, claim, clock, executions, freshness, names, ticks, waiting
from lake.batches import Batch, NotInStateError, State
from lake.executions import Machine
from tests.integration.tables import ACCOUNT, REGION, Lake, open_lake

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMEOUT = timedelta(seconds=300)
FUNCTION = "start-batch"


@dataclass
class Functions:
    """Lambda, as far as the tick needs it."""

    invoked: list[dict[str, Any]] = field(default_factory=list)

    def invoke(self, FunctionName: str, InvocationType: str, Payload: bytes) -> None:  # noqa: N803 - boto3's names
        assert (FunctionName, InvocationType) == (FUNCTION, "Event")
        self.invoked.append(json.loads(Payload))


@dataclass
class Site:
    """A lake with a state machine, and a clock that the test sets."""

    lake: Lake
    clients: claim.Clients
    place: claim.Place
    functions: Functions
    now: datetime = NOON

    def register(self, dataset: str = "flights", **changed: Any) -> str:
        """A dataset of pipeline main, with its queue; gives the queue's URL."""
        url = self.lake.sqs.create_queue(QueueName=dataset)["QueueUrl"]
        row = {
            "team": "air",
            "dataset": dataset,
            "kind": "dataset",
            "pipeline": "main",
            "queue_url": url,
            "min_items": 3,
            "max_items": 5,
            "max_wait_minutes": 60,
        }
        self.lake.datasets.put_item(Item=row | changed)
        return url

    def stage(self, *things: int, dataset: str = "flights", **changed: Any) -> None:
        """Staged objects, and their messages."""
        for thing in things:
            identity = self.identity(thing, dataset)
            row = {
                "id": identity,
                "team": "air",
                "dataset": dataset,
                "state": "STAGED",
                "size": 100,
                "rows": 10,
                "sequencer": names.padded_sequencer(f"{thing:x}"),
                "version_id": f"v{thing}",
            }
            self.lake.objects.put_item(Item=row | changed)
            body = {"schema": 1, **{name: row[name] for name in ("id", "team", "dataset", "size", "version_id")}}
            self.send({**body, "sequencer": names.padded_sequencer(f"{thing:x}")}, dataset)

    def identity(self, thing: int, dataset: str = "flights") -> str:
        key = names.stage_key(f"air/{dataset}/{thing}.csv", names.padded_sequencer(f"{thing:x}"))
        return names.object_id(self.lake.stage_bucket, key)

    def send(self, body: Any, dataset: str = "flights") -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.lake.sqs.send_message(QueueUrl=self.url(dataset), MessageBody=text)

    def url(self, dataset: str = "flights") -> str:
        return self.lake.sqs.get_queue_url(QueueName=dataset)["QueueUrl"]

    def left(self, dataset: str = "flights") -> int:
        depth = waiting.depth(self.lake.sqs, self.url(dataset))
        return depth.visible + depth.in_flight

    def tick(self) -> ticks.Report:
        clients = ticks.Clients(self.lake.datasets, self.lake.batches, self.lake.sqs, self.functions, self.lake.objects)
        return ticks.tick(clients, "air", "main", FUNCTION, self.now)

    def go(self, holder: str = "me", *, claims: bool = True, seconds: int = 300) -> claim.Report:
        deadline = self.now + timedelta(seconds=seconds)
        return claim.Run(self.clients, self.place, "air", "flights", lambda: self.now, deadline).go(holder, claims)

    def batches(self) -> list[dict[str, Any]]:
        return sorted(self.lake.batches.scan()["Items"], key=lambda row: row["batch_id"])

    def executions(self) -> list[Any]:
        backend = get_backend("stepfunctions")[ACCOUNT][REGION]
        return backend.describe_state_machine(self.place.machine.arn).executions

    def tick_row(self) -> dict[str, Any]:
        row = self.lake.datasets.get_item(Key=waiting.tick_key("air", "flights")).get("Item")
        return {} if row is None else dict(row)


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with open_lake() as lake, pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim, "LONG_POLL_SECONDS", 0)
        states = boto3.client("stepfunctions", region_name=REGION)
        arn = states.create_state_machine(
            name="stage-to-analytics",
            definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/states",
        )["stateMachineArn"]
        yield Site(
            lake,
            claim.Clients(lake.objects, lake.datasets, lake.batches, lake.sqs, lake.s3, states),
            claim.Place(Machine(arn, lake.stage_bucket, lake.analytics_bucket), lake.asset_bucket, TIMEOUT),
            Functions(),
        )


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The shared lake, empty again after each test: to build one takes longer than any test here."""
    yield replace(shared, functions=Functions())
    for table in get_backend("dynamodb")[ACCOUNT][REGION].tables.values():
        table.items.clear()
    for url in shared.lake.sqs.list_queues().get("QueueUrls", []):
        shared.lake.sqs.delete_queue(QueueUrl=url)
    shared.executions().clear()


# The tick


def test_too_few_that_have_not_waited_long_are_left(site: Site) -> None:
    site.register()
    site.stage(1, 2)
    assert site.tick().due == {}
    assert site.tick_row()["waiting_since"] == clock.stamp(NOON)
    assert site.functions.invoked == []


def test_min_items_make_a_dataset_due(site: Site) -> None:
    site.register()
    site.stage(1, 2, 3)
    assert site.tick().due == {"flights": "enough"}
    assert site.functions.invoked == [{"team": "air", "dataset": "flights", "claim": True}]


def test_a_full_batch_makes_a_dataset_due(site: Site) -> None:
    site.register(min_items=100, max_items=2)
    site.stage(1, 2)
    assert site.tick().due == {"flights": "full"}


def test_what_has_waited_long_enough_makes_a_dataset_due(site: Site) -> None:
    site.register()
    site.stage(1)
    site.tick()
    site.now += timedelta(minutes=59)
    assert site.tick().due == {}
    site.now += timedelta(minutes=1)
    assert site.tick().due == {"flights": "waited"}


def test_the_wait_ends_when_a_tick_sees_nothing(site: Site) -> None:
    url = site.register()
    site.stage(1)
    site.tick()
    site.lake.sqs.purge_queue(QueueUrl=url)
    site.tick()
    assert "waiting_since" not in site.tick_row()


def test_messages_in_flight_keep_the_wait_but_call_for_no_run(site: Site) -> None:
    url = site.register(min_items=1)
    site.stage(1)
    site.tick()
    site.lake.sqs.receive_message(QueueUrl=url, VisibilityTimeout=300)
    site.now += timedelta(hours=2)
    assert site.tick().due == {}
    assert site.tick_row()["waiting_since"] == clock.stamp(NOON)


def test_unfinished_batches_call_for_a_run_that_does_not_claim(site: Site) -> None:
    site.register()
    batches.open_batch(site.lake.batches, Batch("air", "flights", "b1"), NOON)
    assert site.tick().due == {"flights": "unfinished"}
    assert site.functions.invoked == [{"team": "air", "dataset": "flights", "claim": False}]


def test_a_tick_looks_at_its_own_pipeline_only(site: Site) -> None:
    site.register("flights", pipeline="other")
    site.register("airports")
    site.lake.datasets.put_item(Item={"team": "air", "dataset": "pipeline#main", "kind": "pipeline"})
    assert site.tick().datasets == 1


def test_a_queue_that_is_gone_does_not_hold_up_the_others(site: Site) -> None:
    site.register("airports", queue_url=f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/none")
    site.register("flights")
    site.stage(1, 2, 3)
    report = site.tick()
    assert report.due == {"flights": "enough"}
    assert list(report.failed) == ["airports"]


def test_a_tick_receives_nothing(site: Site) -> None:
    url = site.register()
    site.stage(1, 2, 3)
    for _ in range(5):
        site.tick()
    told = site.lake.sqs.receive_message(QueueUrl=url, AttributeNames=["ApproximateReceiveCount"])
    assert told["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"


# A run


def test_a_run_makes_a_batch_and_starts_it(site: Site) -> None:
    site.register(rules="rules.dqdl")
    site.stage(1, 2, 3)
    report = site.go()
    (row,) = site.batches()
    (execution,) = site.executions()
    batch_id = row["batch_id"]
    assert report.committed == [f"{batch_id}-1"] == [execution.name]
    assert (row["state"], row["attempt"], row["objects"], row["size"]) == ("STARTED", 1, 3, 300)
    assert row["execution_arn"] == execution.execution_arn
    stage, analytics = site.lake.stage_bucket, site.lake.analytics_bucket
    told = json.loads(execution.execution_input)
    assert told == {
        "schema": 1,
        "team": "air",
        "dataset": "flights",
        "batch_id": batch_id,
        "attempt": 1,
        "manifest_uri": f"s3://{stage}/air/_batches/flights/{batch_id}/manifest.json",
        "pending_uri": f"s3://{analytics}/air/_pending/{batch_id}/1/",
        "transform_outcome_uri": f"s3://{stage}/air/_batches/flights/{batch_id}/1/transform.json",
        "quality_outcome_uri": f"s3://{stage}/air/_batches/flights/{batch_id}/1/quality.json",
        "has_rules": True,
        "engine": "glue",
        "missing": [],
    }
    body = site.lake.s3.get_object(Bucket=stage, Key=row["manifest"])["Body"].read()
    manifest = json.loads(body)
    assert manifest["registration"]["max_items"] == 5
    assert manifest["asset_bucket"] == site.lake.asset_bucket
    assert sorted(manifest["objects"], key=lambda one: one["id"])[0] == {
        "id": site.identity(1),
        "key": names.split_object_id(site.identity(1))[1],
        "size": 100,
        "rows": 10,
        "sequencer": names.padded_sequencer("1"),
        "version_id": "v1",
    }
    assert site.lake.row(site.identity(1))["state"] == "BATCHED"
    assert site.left() == 0
    assert "lease_until" not in site.tick_row()


def test_a_run_that_drained_the_queue_starts_the_wait_anew(site: Site) -> None:
    site.register()
    site.stage(1, 2, 3)
    site.tick()
    site.now += timedelta(hours=3)
    site.go()
    site.stage(4)
    assert site.tick().due == {"flights": "unfinished"}
    site.now += timedelta(hours=1)
    assert site.tick().due == {"flights": "waited"}


def test_a_backlog_becomes_full_batches_in_one_run(site: Site) -> None:
    site.register(max_items=2)
    site.stage(1, 2, 3, 4, 5)
    assert len(site.go().committed) == 2
    assert [row["objects"] for row in site.batches()] == [2, 2]
    assert site.left() == 1


def test_a_run_without_time_claims_nothing(site: Site) -> None:
    site.register()
    site.stage(1, 2, 3)
    assert site.go(seconds=20).committed == []
    assert site.batches() == []


def test_a_run_without_an_order_to_claim_leaves_the_queue_alone(site: Site) -> None:
    site.register()
    site.stage(1, 2, 3)
    assert site.go(claims=False).committed == []
    assert waiting.depth(site.lake.sqs, site.url()).visible == 3


def test_the_lease_keeps_runs_apart_until_it_runs_out(site: Site) -> None:
    site.register()
    site.stage(1)
    assert waiting.lease(
        site.lake.datasets, "air", "flights", holder="other", pipeline="main", now=NOON, length=TIMEOUT
    )
    assert site.go().outcome == "leased"
    site.now += TIMEOUT + timedelta(seconds=1)
    assert site.go().committed


def test_only_its_holder_gives_the_lease_back(site: Site) -> None:
    site.register()
    waiting.lease(site.lake.datasets, "air", "flights", holder="other", pipeline="main", now=NOON, length=TIMEOUT)
    waiting.release(site.lake.datasets, "air", "flights", "me")
    assert site.tick_row()["lease_holder"] == "other"


def test_a_dataset_that_is_not_registered_gets_no_run(site: Site) -> None:
    assert site.go().outcome == "unregistered"


@pytest.mark.parametrize("state", ["SUPERSEDED", "STALE", "DELETED"])
def test_a_message_of_an_object_that_is_gone_is_deleted(site: Site, state: str) -> None:
    site.register()
    site.stage(1, state=state)
    assert site.go().messages == {"settled": 1}
    assert site.left() == 0
    assert [row["state"] for row in site.batches()] == ["ABANDONED"]


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        '"text"',
        {"schema": 2, "id": "x", "team": "air", "dataset": "flights", "sequencer": "1"},
        {"schema": 1, "id": "s3://elsewhere/air/flights/1", "team": "air", "dataset": "flights", "sequencer": "1"},
        {"schema": 1, "id": "x", "team": "sea", "dataset": "flights", "sequencer": "1"},
        {"schema": 1, "id": 7, "team": "air", "dataset": "flights", "sequencer": "1"},
    ],
)
def test_what_is_not_understood_is_left_for_the_dead_letters(site: Site, body: Any) -> None:
    site.register()
    site.send(body)
    site.stage(1)
    report = site.go()
    assert report.messages == {"unknown": 1, "won": 1}
    assert site.left() == 1


def test_a_message_without_a_row_or_of_another_version_is_left(site: Site) -> None:
    site.register()
    site.stage(1, sequencer=names.padded_sequencer("ff"))
    site.stage(2)
    site.lake.objects.delete_item(Key={"id": site.identity(2)})
    assert site.go().messages == {"unknown": 2}
    assert site.left() == 2


def test_an_object_of_an_open_batch_waits_and_is_taken_over_when_that_is_abandoned(site: Site) -> None:
    site.register()
    batches.open_batch(site.lake.batches, Batch("air", "flights", "b1"), NOON)
    site.stage(1, state="BATCHED", batch_id="b1")
    assert site.go().messages == {"held": 1}
    site.now += TIMEOUT
    site.stage(1, state="BATCHED", batch_id="b1")
    report = site.go()
    assert (report.abandoned, report.messages) == (["b1"], {"won": 1})
    assert site.batches()[-1]["expires_at"] == int((site.now + batches.ABANDONED_KEPT).timestamp())


@pytest.mark.parametrize("state", sorted(batches.COMMITTED))
def test_a_message_of_an_object_in_a_committed_batch_is_deleted(site: Site, state: State) -> None:
    site.register()
    site.lake.batches.put_item(
        Item=batches.row_key("air", "flights", "b1") | {"state": state, "attempt": 1, "team": "air"}
    )
    site.stage(1, state="BATCHED", batch_id="b1")
    assert site.go().messages == {"settled": 1}
    assert site.left() == 0


# What earlier runs left


def ready(site: Site) -> Batch:
    """A batch that was committed by a run that then died."""
    site.register()
    batch = Batch("air", "flights", "b1")
    batches.open_batch(site.lake.batches, batch, NOON)
    assert batches.commit(site.lake.batches, batch, NOON, objects=1, size=1, has_rules=False)
    return batch


def test_a_ready_batch_is_started(site: Site) -> None:
    ready(site)
    assert site.go(claims=False).restarted == ["b1-1"]
    assert [one.name for one in site.executions()] == ["b1-1"]
    assert site.batches()[0]["state"] == "STARTED"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("RUNNING", "STARTED"),
        ("SUCCEEDED", "STARTED"),
        ("FAILED", "FAILED"),
        ("TIMED_OUT", "FAILED"),
        ("ABORTED", "FAILED"),
    ],
)
def test_when_the_execution_exists_its_status_decides(site: Site, status: str, state: str) -> None:
    ready(site)
    machine = site.place.machine.arn
    site.clients.states.start_execution(stateMachineArn=machine, name="b1-1", input='{"another": "input"}')
    site.executions()[0].status = status
    report = site.go(claims=False)
    (row,) = site.batches()
    assert row["state"] == state
    assert len(site.executions()) == 1
    assert report.failed == (["b1-1"] if state == "FAILED" else [])
    if state == "FAILED":
        assert row["reason"].startswith(f"execution {status}")
        assert "unfinished" not in row


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("RUNNING", "STARTED"),
        ("SUCCEEDED", "STARTED"),
        ("FAILED", "FAILED"),
        ("TIMED_OUT", "FAILED"),
        ("ABORTED", "FAILED"),
    ],
)
def test_a_started_batch_whose_execution_was_stopped_is_failed_once(site: Site, status: str, state: str) -> None:
    ready(site)
    site.go(claims=False)
    site.executions()[0].status = status
    assert site.go(claims=False).failed == (["b1-1"] if state == "FAILED" else [])
    assert site.batches()[0]["state"] == state
    assert site.go(claims=False).failed == []


def test_an_execution_that_does_not_show_yet_is_waited_for(site: Site) -> None:
    ready(site)
    site.go(claims=False)
    site.executions().clear()
    assert site.go(claims=False).failed == []
    site.now += executions.SHOWS_WITHIN
    assert site.go(claims=False).failed == ["b1-1"]


# Attempts


def test_a_finished_batch_gets_another_attempt_under_another_name(site: Site) -> None:
    batch = ready(site)
    site.go(claims=False)
    with pytest.raises(NotInStateError, match="STARTED"):
        batches.new_attempt(site.lake.batches, batch, NOON)
    batches.finish(site.lake.batches, batch, State.FAILED, NOON, reason="x" * 5_000)
    again = batches.new_attempt(site.lake.batches, batch, NOON)
    with pytest.raises(NotInStateError, match="attempt 2"):
        batches.new_attempt(site.lake.batches, batch, NOON)
    site.go(claims=False)
    assert [one.name for one in site.executions()] == ["b1-1", "b1-2"]
    with pytest.raises(NotInStateError):
        batches.finish(site.lake.batches, batch, State.PUBLISHED, NOON)
    batches.finish(site.lake.batches, again, State.PUBLISHED, NOON, values={"rows_out": 7})
    batches.finish(site.lake.batches, again, State.PUBLISHED, NOON)
    (row,) = site.batches()
    assert (row["state"], row["rows_out"]) == ("PUBLISHED", 7)
    assert "reason" not in row


def test_an_abandoned_batch_gets_no_other_attempt(site: Site) -> None:
    batch = Batch("air", "flights", "b1")
    batches.open_batch(site.lake.batches, batch, NOON)
    assert batches.abandon(site.lake.batches, batch, "no", NOON)
    assert not batches.commit(site.lake.batches, batch, NOON, objects=1, size=1, has_rules=False)
    with pytest.raises(NotInStateError, match="ABANDONED"):
        batches.new_attempt(site.lake.batches, batch, NOON)


def test_an_execution_name_is_valid() -> None:
    name = Batch("air", "flights", batches.new_id(NOON), 99).execution_name
    assert len(name) <= 80
    assert name.replace("-", "").isalnum()


# Freshness


def test_only_a_dataset_that_is_watched_has_a_freshness(site: Site) -> None:
    site.register()
    site.register("airports", freshness_hours=0)
    assert site.tick().hours_since_published == {}
    assert site.tick_row() == {}


def test_a_dataset_that_never_published_counts_from_the_first_tick_that_watched_it(site: Site) -> None:
    site.register(freshness_hours=24)
    assert site.tick().hours_since_published == {"flights": 0}
    site.now += timedelta(hours=25, minutes=30)
    assert site.tick().hours_since_published == {"flights": 25.5}


def test_a_publication_starts_the_hours_anew(site: Site) -> None:
    site.register(freshness_hours=24)
    site.tick()
    site.now += timedelta(hours=30)
    freshness.published(site.lake.datasets, "air", "flights", site.now - timedelta(hours=2))
    assert site.tick().hours_since_published == {"flights": 2}
    freshness.published(site.lake.datasets, "air", "flights", site.now - timedelta(hours=9))
    assert site.tick().hours_since_published == {"flights": 2}, "an earlier one, written later"


def test_neither_a_wait_nor_a_lease_wipes_the_publication(site: Site) -> None:
    url = site.register(freshness_hours=24)
    freshness.published(site.lake.datasets, "air", "flights", NOON)
    site.stage(1)
    site.tick()
    site.go()
    site.lake.sqs.purge_queue(QueueUrl=url)
    site.now += timedelta(hours=1)
    assert site.tick().hours_since_published == {"flights": 1}


def test_a_dataset_whose_queue_cannot_be_read_is_as_stale_as_it_is(site: Site) -> None:
    site.register(freshness_hours=1, queue_url=f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/none")
    report = site.tick()
    assert report.failed.keys() == {"flights"}
    assert report.hours_since_published == {"flights": 0}


# The handler


@pytest.fixture
def function(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    settings = {
        "OBJECTS_TABLE_NAME": site.lake.objects.name,
        "DATASETS_TABLE_NAME": site.lake.datasets.name,
        "BATCHES_TABLE_NAME": site.lake.batches.name,
        "STAGE_BUCKET_NAME": site.lake.stage_bucket,
        "ANALYTICS_BUCKET_NAME": site.lake.analytics_bucket,
        "ASSET_BUCKET_NAME": site.lake.asset_bucket,
        "STATE_MACHINE_ARN": site.place.machine.arn,
        "ENVIRONMENT_NAME": "dev",
        "TEAM_NAME": "air",
        "PIPELINE_NAME": "main",
        "FUNCTION_TIMEOUT_SECONDS": "300",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    sys.modules.pop("pipeline.start_batch", None)
    module = importlib.import_module("pipeline.start_batch")
    module.TICK_CLIENTS = ticks.Clients(
        module.CLIENTS.datasets, module.CLIENTS.batches, module.CLIENTS.sqs, site.functions, module.CLIENTS.objects
    )
    yield module
    sys.modules.pop("pipeline.start_batch", None)


CONTEXT: Any = SimpleNamespace(
    function_name=FUNCTION,
    memory_limit_in_mb=512,
    invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION}",
    aws_request_id="r1",
    get_remaining_time_in_millis=lambda: 300_000,
)


def test_the_rule_wakes_the_tick_and_the_tick_wakes_the_run(site: Site, function: ModuleType) -> None:
    site.register()
    site.stage(1, 2, 3)
    rule = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    answer = function.handler(rule, CONTEXT)
    assert answer == {"datasets": 1, "due": {"flights": "enough"}, "failed": {}, "hours_since_published": {}}
    (event,) = site.functions.invoked
    answer = function.handler(event, CONTEXT)
    assert answer["outcome"] == "ran"
    assert answer["committed"] == [one.name for one in site.executions()]
    assert json.dumps(answer)


def test_the_tick_sends_how_fresh_each_watched_dataset_is(
    site: Site, function: ModuleType, monkeypatch, capsys
) -> None:
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED")
    site.register(freshness_hours=24)
    site.register("airports")
    function.handler({}, CONTEXT)
    (sent,) = [one for one in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in one]
    (directive,) = sent["_aws"]["CloudWatchMetrics"]
    assert directive == {
        "Namespace": "Tarn",
        "Dimensions": [["Environment", "Team", "Dataset"]],
        "Metrics": [{"Name": "HoursSincePublished", "Unit": "None"}],
    }
    assert (sent["Environment"], sent["Team"], sent["Dataset"]) == ("dev", "air", "flights")
    assert sent["HoursSincePublished"] == [0.0]


def test_another_team_is_refused(function: ModuleType) -> None:
    with pytest.raises(function.WrongTeamError):
        function.handler({"team": "sea", "dataset": "flights"}, CONTEXT)


def test_an_incomplete_tick_fails_after_it_has_done_the_rest(site: Site, function: ModuleType) -> None:
    site.register("airports", queue_url=f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/none")
    site.register("flights")
    site.stage(1, 2, 3)
    with pytest.raises(function.TickIncompleteError, match="airports"):
        function.handler({}, CONTEXT)
    assert [event["dataset"] for event in site.functions.invoked] == ["flights"]


# Engines, and datasets that wait for others


def waiting_site(site: Site, **changed: Any) -> Site:
    """Three staged objects of the flights, which wait for planes that published within six hours."""
    waits = {"depends_on": ["air/planes", "air/airlines"], "depends_on_hours": 6, "depends_on_max_wait_hours": 3}
    site.register(**waits | changed)
    site.stage(1, 2, 3)
    return site


def published(site: Site, dataset: str, moment: datetime) -> None:
    freshness.published(site.lake.datasets, "air", dataset, moment)


def test_a_batch_is_of_its_datasets_engine(site: Site) -> None:
    site.register(engine="fargate")
    site.stage(1, 2, 3)
    site.go()
    [row] = site.batches()
    [execution] = site.executions()
    assert (row["engine"], json.loads(execution.execution_input)["engine"]) == ("fargate", "fargate")
    site.register(engine="glue")
    batches.finish(site.lake.batches, batches.of_row(row), State.FAILED, NOON)
    again = batches.new_attempt(site.lake.batches, batches.of_row(row), NOON)
    assert again.engine == "fargate", "what was committed with its manifest stays"


def test_nothing_is_claimed_while_a_named_dataset_has_not_published(site: Site) -> None:
    waiting_site(site)
    published(site, "planes", NOON)
    assert site.tick().due == {"flights": "enough"}
    report = site.go()
    assert (report.held_by, report.committed, site.batches()) == (["air/airlines"], [], [])
    tick = site.tick_row()
    assert (tick["held_by"], tick["held_since"]) == (["air/airlines"], clock.stamp(NOON))
    site.now += timedelta(hours=1)
    assert site.go().held_by == ["air/airlines"]
    assert site.tick_row()["held_since"] == clock.stamp(NOON), "a wait counts from its beginning"


def test_it_is_claimed_once_all_have_published(site: Site) -> None:
    waiting_site(site)
    published(site, "planes", NOON)
    site.go()
    published(site, "airlines", NOON)
    report = site.go()
    assert (report.held_by, len(report.committed)) == ([], 1)
    assert "held_by" not in site.tick_row()
    assert "held_since" not in site.tick_row()
    [row] = site.batches()
    assert "missing" not in row


@pytest.mark.parametrize(("ago", "waits"), [(6, False), (7, True)])
def test_a_publication_counts_for_its_window(site: Site, ago: int, waits: bool) -> None:
    waiting_site(site, depends_on=["air/planes"])
    published(site, "planes", NOON - timedelta(hours=ago))
    assert bool(site.go().held_by) is waits


def test_a_wait_that_is_over_makes_one_batch_that_says_for_whom_it_waited(site: Site) -> None:
    waiting_site(site, max_items=1)
    published(site, "planes", NOON)
    site.go()
    site.now += timedelta(hours=2, minutes=59)
    assert site.go().committed == []
    site.now += timedelta(minutes=1)
    assert len(site.go().committed) == 1
    [row] = site.batches()
    [execution] = site.executions()
    assert row["missing"] == json.loads(execution.execution_input)["missing"] == ["air/airlines"]
    assert site.go().committed == [], "the next batch waits anew"
    batches.finish(site.lake.batches, batches.of_row(row), State.FAILED, site.now)
    again = batches.new_attempt(site.lake.batches, batches.of_row(row), site.now)
    [row] = site.batches()
    assert (again.missing, "missing" in row) == ((), False), "a new attempt does not wait, and does not fail for it"


@pytest.mark.parametrize("ended", ["in a failed batch", "by naming nobody"])
def test_what_comes_after_a_wait_waits_anew(site: Site, ended: str) -> None:
    waiting_site(site)
    site.tick()
    site.go()
    if ended == "by naming nobody":
        site.register(depends_on=[])
    site.now += timedelta(hours=3)
    site.tick()
    assert len(site.go().committed) == 1
    assert site.left() == 0
    site.tick()
    site.now += timedelta(hours=4)
    waiting_site(site)
    site.stage(4, 5, 6)
    site.tick()
    report = site.go()
    assert (report.held_by, report.committed) == (["air/planes", "air/airlines"], [])
    assert site.tick_row()["held_since"] == clock.stamp(site.now)


def test_a_batch_that_was_committed_before_its_start_is_started_with_what_it_was_committed_with(site: Site) -> None:
    batch = Batch("air", "flights", "b1", engine="emr-step", missing=("air/planes",))
    site.register()
    batches.open_batch(site.lake.batches, batch, NOON)
    assert batches.commit(site.lake.batches, batch, NOON, objects=1, size=1, has_rules=False)
    site.go()
    [execution] = site.executions()
    told = json.loads(execution.execution_input)
    assert (told["engine"], told["missing"]) == ("emr-step", ["air/planes"])
