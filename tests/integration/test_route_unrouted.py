"""route_unrouted against moto: what landed too early is routed, by the one way in."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from lake import catalog, names, routing
from tests.integration.tables import FakeContext, Lake, lake, load_handler, receive_all, sqs_event
from tests.integration.test_route_object import handle, notification, register, router

__all__ = ["lake", "router"]

NOW = datetime(2026, 11, 23, 16, 45, tzinfo=UTC)


def tick_of(lake: Lake, most: int = 100) -> ModuleType:
    return load_handler(
        "foundations.route_unrouted",
        {
            "OBJECTS_TABLE_NAME": lake.objects.name,
            "DATASETS_TABLE_NAME": lake.datasets.name,
            "INGEST_QUEUE_URL": lake.ingest_queue_url,
            "MOST_OBJECTS": str(most),
        },
    )


def tick(lake: Lake, most: int = 100) -> dict[str, int]:
    answer: dict[str, Any] = tick_of(lake, most).handler({}, FakeContext())
    sent: dict[str, int] = answer["sent"]
    return sent


def land(lake: Lake, router: ModuleType, dataset: str, count: int) -> None:
    keys = [f"air/{dataset}/{n} ü+.csv" for n in range(count)]
    for start in range(0, count, 10):
        assert handle(router, *(notification(lake, key) for key in keys[start : start + 10])) == []


def test_what_waits_goes_the_whole_way_once_its_dataset_is_registered(lake: Lake, router: ModuleType) -> None:
    land(lake, router, "flights", 25)
    land(lake, router, "nobodys", 2)
    assert tick(lake) == {}
    register(lake)
    assert tick(lake) == {"air/flights": 25}
    assert len(lake.attention("UNROUTED")) == 27, "the tick itself changes no row"
    again = receive_all(lake.sqs, lake.ingest_queue_url)
    for start in range(0, len(again), 10):
        assert handle(router, *again[start : start + 10]) == []
    sent = receive_all(lake.sqs, lake.pipeline_queue_url)
    assert {one["key"] for one in sent} == {f"air/flights/{n} ü+.csv" for n in range(25)}
    assert {(one["version_id"], one["sequencer"], one["size"]) for one in sent} == {("v1", "a1".rjust(32, "0"), 3)}
    assert len(lake.attention("UNROUTED")) == 2
    assert tick(lake) == {}


def test_what_was_deleted_or_overwritten_meanwhile_is_not_brought_back(lake: Lake, router: ModuleType) -> None:
    land(lake, router, "flights", 2)
    register(lake)
    tick(lake)
    again = receive_all(lake.sqs, lake.ingest_queue_url)
    removed = notification(lake, "air/flights/0 ü+.csv", "ObjectRemoved:Delete", sequencer="A2")
    newer = notification(lake, "air/flights/1 ü+.csv", sequencer="A2", versionId="v2")
    assert handle(router, removed, newer, *again) == []
    assert [one["version_id"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)] == ["v2"]
    row = lake.row(names.object_id(lake.raw_bucket, "air/flights/0 ü+.csv"))
    assert row is not None
    assert row["state"] == "DELETED"


def test_a_dataset_without_its_pipeline_still_waits(lake: Lake, router: ModuleType) -> None:
    land(lake, router, "flights", 1)
    lake.datasets.put_item(Item={"team": "air", "dataset": "flights", "kind": "dataset", "pipeline": "main"})
    assert tick(lake) == {}


def test_a_tick_sends_no_more_than_it_may_and_the_next_ones_the_rest(lake: Lake, router: ModuleType) -> None:
    land(lake, router, "flights", 25)
    register(lake)
    assert tick(lake, most=10) == {"air/flights": 10}
    assert tick(lake, most=10) == {}, "what was sent is not routed yet"
    routed = 0
    for _ in range(5):
        again = receive_all(lake.sqs, lake.ingest_queue_url)
        routed += len(again)
        if again:
            handle(router, *again)
        tick(lake, most=10)
    assert routed == 25
    assert lake.attention("UNROUTED") == []


def test_each_tick_begins_at_another_dataset(lake: Lake, router: ModuleType) -> None:
    for dataset in ("a", "b"):
        land(lake, router, dataset, 8)
        register(lake, dataset)
    module = tick_of(lake)
    begun = set()
    for minute in (0, 1):
        sent = routing.resend_unrouted(
            module.CLIENTS, lake.datasets, lake.ingest_queue_url, 5, NOW.replace(minute=minute)
        )
        begun |= set(sent)
        receive_all(lake.sqs, lake.ingest_queue_url)
    assert begun == {"air/a", "air/b"}


def test_other_states_that_ask_for_attention_are_left_alone(lake: Lake, router: ModuleType) -> None:
    register(lake)
    assert handle(router, notification(lake, size=0)) == []
    assert [one["attention_at"].partition("#")[0] for one in lake.attention()] == [catalog.QUARANTINED]
    assert tick(lake) == {}


@pytest.mark.parametrize("version", ["v1", None])
def test_the_notification_is_one_that_the_router_reads(lake: Lake, router: ModuleType, version: str | None) -> None:
    landed = notification(lake, versionId=version)
    if version is None:
        del landed["Records"][0]["s3"]["object"]["versionId"]
    handle(router, landed)
    register(lake)
    tick(lake)
    event = sqs_event(*receive_all(lake.sqs, lake.ingest_queue_url))
    assert router.handler(event, FakeContext()) == {"batchItemFailures": []}
    assert [one["version_id"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)] == [version]
