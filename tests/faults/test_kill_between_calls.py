"""Each function is killed at each of its calls to AWS, before it and after it, and woken again as AWS does.

The end is that of a run that nobody killed: above all where a row was written and its message was not sent. The copy
of published files is stopped call by call in tests/integration/test_publishing.py, start_batch in
test_crash_while_claiming.py, finish_batch in test_kill_while_finishing.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from lake import names, rows
from tests.faults.killing import Death, at_each_call, dying
from tests.integration.first_hop_world import Hop
from tests.integration.tables import FakeContext, Lake, lake, load_handler, receive_all, sqs_event
from tests.integration.test_register_resource import Registrar, registrar
from tests.integration.test_route_object import notification, register
from tests.integration.test_route_unrouted import tick_of

__all__ = ["lake", "registrar"]

GOOD = "carrier,delay\nUA,1\n"
BOTH = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


def router_of(lake: Lake) -> Any:
    return load_handler(
        "foundations.route_object",
        {
            "OBJECTS_TABLE_NAME": lake.objects.name,
            "DATASETS_TABLE_NAME": lake.datasets.name,
            "RAW_BUCKET_NAME": lake.raw_bucket,
        },
    )


def handle(module: Any, *bodies: Any) -> list[Any]:
    """The bodies of the messages that come back, after one delivery."""
    event = sqs_event(*bodies)
    back = {one["itemIdentifier"] for one in module.handler(event, FakeContext())["batchItemFailures"]}
    return [body for record, body in zip(event["Records"], bodies, strict=True) if record["messageId"] in back]


def survive(module: Any, death: Death, *bodies: Any) -> None:
    """One delivery in which the function dies, and then the next of what was not said to be done."""
    left: list[Any] = list(bodies)
    with dying(death):
        left = handle(module, *bodies)
    assert handle(module, *left) == []


def of_key(lake: Lake, key: str) -> dict[str, dict[str, Any]]:
    """Rows of the object catalog whose id holds ``key``."""
    return {str(row["id"]): dict(row) for row in lake.objects.scan()["Items"] if key in row["id"]}


@BOTH
def test_route_object_with_an_object_and_its_newer_version(lake: Lake, after: bool) -> None:
    """The newer version retires what was staged of the older; each version gets a row and at least one message."""
    register(lake)
    module, tries = router_of(lake), iter(range(1000))

    def work(death: Death) -> None:
        key = f"air/flights/{next(tries)}.csv"
        identity = names.object_id(lake.raw_bucket, key)
        module.CLIENTS.registry.__init__(lake.datasets)  # a cold start
        assert handle(module, notification(lake, key)) == []
        staged = names.object_id(lake.stage_bucket, names.stage_key(key, names.padded_sequencer("A1")))
        lake.objects.put_item(Item={"id": staged, "team": "air", "dataset": "flights", "state": "STAGED"})
        rows.update(lake.objects, {"id": identity}, {"state": "STAGED", "staged_id": staged})
        receive_all(lake.sqs, lake.pipeline_queue_url)
        survive(module, death, notification(lake, key, sequencer="A2", versionId="v2"))
        found = of_key(lake, key)
        assert (found[identity]["state"], found[identity]["version_id"]) == ("LANDED", "v2")
        assert found[staged]["state"] == "SUPERSEDED"
        assert {one["version_id"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)} == {"v2"}

    calls = at_each_call(work, after)
    assert calls == ["UpdateItem", "UpdateItem", "SendMessageBatch"]


@BOTH
def test_route_object_with_a_removal(lake: Lake, after: bool) -> None:
    register(lake)
    module, tries = router_of(lake), iter(range(1000))

    def work(death: Death) -> None:
        key = f"air/flights/{next(tries)}.csv"
        assert handle(module, notification(lake, key)) == []
        receive_all(lake.sqs, lake.pipeline_queue_url)
        survive(module, death, notification(lake, key, "ObjectRemoved:Delete", sequencer="A2"))
        assert [row["state"] for row in of_key(lake, key).values()] == ["DELETED"]
        assert receive_all(lake.sqs, lake.pipeline_queue_url) == []

    assert at_each_call(work, after) == ["HeadObject", "UpdateItem"]


@BOTH
def test_route_unrouted(lake: Lake, after: bool) -> None:
    """It changes nothing itself: its next tick sends what this one did not."""
    tries = iter(range(1000))

    def work(death: Death) -> None:
        dataset = f"flights{next(tries)}"
        module = router_of(lake)
        assert handle(module, notification(lake, f"air/{dataset}/a.csv")) == []
        register(lake, dataset)
        tick = tick_of(lake)
        with dying(death):
            tick.handler({}, FakeContext())
        tick.handler({}, FakeContext())
        assert handle(module, *receive_all(lake.sqs, lake.ingest_queue_url)) == []
        assert lake.attention("UNROUTED") == []
        assert {one["dataset"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)} == {dataset}
        lake.datasets.delete_item(Key={"team": "air", "dataset": dataset})

    assert "SendMessageBatch" in at_each_call(work, after)


@BOTH
def test_the_first_hop(lake: Lake, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    """start_raw_to_stage, transform_objects and record_outcomes die together; the queue delivers again."""
    hop, tries = Hop(lake, monkeypatch), iter(range(1000))

    def work(death: Death) -> None:
        name = f"{next(tries)}.csv"
        old, new = hop.land(name, GOOD), None
        assert hop.go(old) == []
        new = hop.land(name, GOOD + "DL,2\n")
        receive_all(lake.sqs, lake.dataset_queue_url)
        hop.reload()
        back = ["m0"]
        with dying(death):
            back = hop.go(new)
        hop.reload()
        if back:
            assert hop.go(new) == []
        raw, staged, former = hop.raw(new), hop.staged(new), hop.staged(old)
        assert staged is not None
        assert former is not None
        assert (raw["state"], raw["staged_id"]) == ("STAGED", hop.staged_id(new))
        assert (staged["state"], staged["rows"], former["state"]) == ("STAGED", 2, "SUPERSEDED")
        assert {one["id"] for one in receive_all(lake.sqs, lake.dataset_queue_url)} == {hop.staged_id(new)}
        found = lake.s3.list_objects_v2(Bucket=lake.stage_bucket, Prefix=f"air/flights/{name}")["Contents"]
        assert len(found) == 2

    calls = at_each_call(work, after)
    tail = [call for call in calls if call in {"PutItem", "SendMessageBatch", "UpdateItem"}]
    assert tail == ["PutItem", "UpdateItem", "SendMessageBatch", "UpdateItem"]  # its row, the former's, the raw one's


@BOTH
def test_register_resource(registrar: Registrar, after: bool) -> None:
    """Lambda wakes it again with the same event, as it does after each asynchronous call that failed."""

    def work(death: Death) -> None:
        with dying(death):
            registrar.request("Create")
        answer = registrar.request("Create")
        assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "air/flights")
        assert registrar.row() is not None
        with dying(Death(death.at, death.after)):
            registrar.request("Delete", physical_id="air/flights")
        assert registrar.request("Delete", physical_id="air/flights")["Status"] == "SUCCESS"
        assert registrar.row() is None

    assert "PutItem" in at_each_call(work, after)
