"""route_object against moto: every way in which S3's notifications are wrong, late, doubled or out of order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.exceptions import ClientError

from lake import catalog, datasets, names, rows
from lake.datasets import Registry
from tests.integration.tables import FakeContext, Lake, lake, load_handler, receive_all, sqs_event

__all__ = ["lake"]

KEY = "air/flights/2013 01+01.csv"
NOW = datetime(2026, 11, 23, 16, 44, 1, tzinfo=UTC)


@pytest.fixture
def router(lake: Lake) -> ModuleType:
    return load_handler(
        "foundations.route_object",
        {
            "OBJECTS_TABLE_NAME": lake.objects.name,
            "DATASETS_TABLE_NAME": lake.datasets.name,
            "RAW_BUCKET_NAME": lake.raw_bucket,
        },
    )


@pytest.fixture
def registered(lake: Lake) -> None:
    register(lake)


def register(lake: Lake, dataset: str = "flights", pipeline: str = "main") -> None:
    lake.datasets.put_item(Item={"team": "air", "dataset": dataset, "kind": "dataset", "pipeline": pipeline})
    lake.datasets.put_item(
        Item={
            "team": "air",
            "dataset": f"pipeline#{pipeline}",
            "kind": "pipeline",
            "pipeline": pipeline,
            "queue_url": lake.pipeline_queue_url,
        }
    )


def notification(lake: Lake, key: str = KEY, name: str = "ObjectCreated:Put", **thing: Any) -> dict[str, Any]:
    given = {"size": 3, "eTag": "abc", "versionId": "v1", "sequencer": "A1", **thing}
    return {
        "Records": [
            {
                "eventName": name,
                "eventTime": "2026-11-23T16:44:01.123Z",
                "s3": {"bucket": {"name": lake.raw_bucket}, "object": {"key": quote_plus(key), **given}},
            }
        ]
    }


def handle(router: ModuleType, *bodies: Any) -> list[str]:
    answer = router.handler(sqs_event(*bodies), FakeContext())
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def identity(lake: Lake, key: str = KEY) -> str:
    return names.object_id(lake.raw_bucket, key)


def message(lake: Lake, sequencer: str = "a1", version: str | None = "v1") -> dict[str, Any]:
    return {
        "schema": 1,
        "id": identity(lake),
        "team": "air",
        "dataset": "flights",
        "bucket": lake.raw_bucket,
        "key": KEY,
        "size": 3,
        "version_id": version,
        "sequencer": sequencer.rjust(32, "0"),
    }


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every write to a table, by its kind."""
    done: list[str] = []

    def counted(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            done.append(kind)
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(rows, "put", counted("put", rows.put))
    monkeypatch.setattr(rows, "update", counted("update", rows.update))
    return done


@pytest.mark.usefixtures("registered")
def test_an_object_becomes_one_row_and_one_message_with_one_write(
    lake: Lake, router: ModuleType, writes: list[str]
) -> None:
    assert handle(router, notification(lake)) == []
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == [message(lake)]
    assert lake.row(identity(lake)) == {
        "id": identity(lake),
        "schema": 1,
        "zone": "raw",
        "team": "air",
        "dataset": "flights",
        "size": 3,
        "etag": "abc",
        "version_id": "v1",
        "sequencer": "a1".rjust(32, "0"),
        "event_time": "2026-11-23T16:44:01.123Z",
        "state": "LANDED",
    }
    assert writes == ["update"]


@pytest.mark.usefixtures("registered")
def test_the_message_names_its_group(lake: Lake, router: ModuleType) -> None:
    handle(router, notification(lake))
    [got] = lake.sqs.receive_message(QueueUrl=lake.pipeline_queue_url, MessageSystemAttributeNames=["MessageGroupId"])[
        "Messages"
    ]
    assert got["Attributes"]["MessageGroupId"] == "air/flights"


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("key", ["air/flights/", "air/flights/2013/", "air/flights/2013_$folder$"])
def test_a_folder_marker_is_ignored_when_it_comes_and_when_it_goes(lake: Lake, router: ModuleType, key: str) -> None:
    assert handle(router, notification(lake, key, size=0)) == []
    assert handle(router, notification(lake, key, "ObjectRemoved:Delete", sequencer="A2")) == []
    assert lake.row(identity(lake, key)) is None
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == []


def test_s3s_test_event_is_ignored(lake: Lake, router: ModuleType) -> None:
    assert handle(router, {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": lake.raw_bucket}) == []
    assert lake.objects.scan()["Items"] == []


@pytest.mark.usefixtures("registered")
def test_what_is_no_notification_fails_alone(lake: Lake, router: ModuleType) -> None:
    elsewhere = notification(lake)
    elsewhere["Records"][0]["s3"]["bucket"]["name"] = "another-bucket"
    assert handle(router, "not json", notification(lake), {"detail": {}}, elsewhere) == ["m0", "m2", "m3"]
    assert len(receive_all(lake.sqs, lake.pipeline_queue_url)) == 1


@pytest.mark.usefixtures("registered")
def test_an_empty_object_is_quarantined(lake: Lake, router: ModuleType, writes: list[str]) -> None:
    assert handle(router, notification(lake, size=0)) == []
    row = lake.row(identity(lake))
    assert row is not None
    assert (row["state"], row["reason"]) == ("QUARANTINED", "empty")
    [seen] = lake.attention("QUARANTINED")
    assert seen["reason"] == "empty"
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == []
    assert len(writes) == 1


def test_an_object_of_no_dataset_waits_and_is_routed_once_there_is_one(lake: Lake, router: ModuleType) -> None:
    assert handle(router, notification(lake)) == []
    [seen] = lake.attention("UNROUTED")
    assert seen["id"] == identity(lake)
    assert seen["reason"] == "dataset air/flights is not registered"
    register(lake)  # a miss is never believed: no minute has to pass
    assert handle(router, notification(lake)) == []
    row = lake.row(identity(lake))
    assert row is not None
    assert row["state"] == "LANDED"
    assert "reason" not in row
    assert lake.attention() == []
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == [message(lake)]


def test_an_object_of_a_dataset_without_its_pipeline_waits(lake: Lake, router: ModuleType) -> None:
    lake.datasets.put_item(Item={"team": "air", "dataset": "flights", "kind": "dataset", "pipeline": "main"})
    assert handle(router, notification(lake)) == []
    assert [one["reason"] for one in lake.attention("UNROUTED")] == ["pipeline main of team air is not deployed"]


@pytest.mark.parametrize("key", ["flights.csv", "air/flights.csv", "/air/flights.csv"])
def test_an_object_that_is_nobodys_is_kept_and_shown(lake: Lake, router: ModuleType, key: str) -> None:
    assert handle(router, notification(lake, key)) == []
    assert [one["id"] for one in lake.attention("UNROUTED")] == [identity(lake, key)]


@pytest.mark.usefixtures("registered")
def test_another_teams_prefix_is_another_teams_dataset(lake: Lake, router: ModuleType) -> None:
    assert handle(router, notification(lake, "sea/flights/a.csv")) == []
    row = lake.row(identity(lake, "sea/flights/a.csv"))
    assert row is not None
    assert (row["team"], row["state"]) == ("sea", "UNROUTED")
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == []


@pytest.mark.usefixtures("registered")
def test_a_pipelines_or_ticks_row_is_no_dataset(lake: Lake, router: ModuleType) -> None:
    lake.datasets.put_item(Item={"team": "air", "dataset": "tick#flights", "waiting_since": "x"})
    for name in ("pipeline#main", "tick#flights"):
        assert handle(router, notification(lake, f"air/{name}/a.csv")) == []
    assert len(lake.attention("UNROUTED")) == 2


@pytest.mark.usefixtures("registered")
def test_an_event_that_comes_twice_before_it_was_staged_is_sent_twice(lake: Lake, router: ModuleType) -> None:
    assert handle(router, notification(lake), notification(lake)) == []
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == [message(lake), message(lake)]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("batch", "sent"), [(None, 1), ("b1", 0)])
def test_an_event_that_comes_again_after_it_was_staged_is_sent_until_a_batch_has_it(
    lake: Lake, router: ModuleType, batch: str | None, sent: int
) -> None:
    handle(router, notification(lake))
    receive_all(lake.sqs, lake.pipeline_queue_url)
    stage(lake, "a1", batch)
    assert handle(router, notification(lake)) == []
    assert len(receive_all(lake.sqs, lake.pipeline_queue_url)) == sent
    row = lake.row(identity(lake))
    assert row is not None
    assert row["state"] == "STAGED"


def stage(lake: Lake, sequencer: str, batch: str | None = None) -> str:
    """Rows as record_outcomes leaves them for the version of ``sequencer``."""
    staged_id = names.object_id(lake.stage_bucket, names.stage_key(KEY, sequencer.rjust(32, "0")))
    item = {"id": staged_id, "zone": "stage", "team": "air", "dataset": "flights", "state": "STAGED"}
    if batch:
        item |= {"state": "BATCHED", "batch_id": batch}
    lake.objects.put_item(Item=item)
    rows.update(lake.objects, {"id": identity(lake)}, {"state": "STAGED", "staged_id": staged_id})
    return staged_id


@pytest.mark.usefixtures("registered")
def test_the_later_event_wins_in_whichever_order_they_come(lake: Lake, router: ModuleType) -> None:
    # 9 < A as text and as a number; FF < 100 as a number alone: S3's sequencers are of different lengths
    assert handle(router, notification(lake, sequencer="100", versionId="new", size=9)) == []
    assert handle(router, notification(lake, sequencer="FF", versionId="old", size=1)) == []
    row = lake.row(identity(lake))
    assert row is not None
    assert (row["version_id"], row["size"]) == ("new", 9)
    assert [one["version_id"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)] == ["new"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("batch", "state"), [(None, "SUPERSEDED"), ("b1", "STALE")])
def test_a_newer_version_retires_what_was_staged(lake: Lake, router: ModuleType, batch: str | None, state: str) -> None:
    handle(router, notification(lake))
    staged_id = stage(lake, "a1", batch)
    assert handle(router, notification(lake, sequencer="A2", versionId="v2")) == []
    staged = lake.row(staged_id)
    assert staged is not None
    assert (staged["state"], staged["reason"]) == (state, catalog.REPLACED)
    assert [one["id"] for one in lake.attention("STALE")] == ([staged_id] if batch else [])


@pytest.mark.usefixtures("registered")
def test_a_removed_object_is_deleted_and_what_was_staged_retired_even_if_the_first_try_died_between(
    lake: Lake, router: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle(router, notification(lake))
    staged_id = stage(lake, "a1")
    removed = notification(lake, name="ObjectRemoved:Delete", sequencer="A2")
    with monkeypatch.context() as broken:
        broken.setattr(catalog, "retire", dies)
        assert handle(router, removed) == ["m0"]
    assert handle(router, removed) == []
    row, staged = lake.row(identity(lake)), lake.row(staged_id)
    assert row is not None
    assert staged is not None
    assert row["state"] == "DELETED"
    assert "version_id" not in row
    assert staged["state"] == "SUPERSEDED"
    assert handle(router, notification(lake)) == []  # its creation, late
    assert lake.row(identity(lake)) == row


def dies(*_: Any) -> None:
    raise rows.ConditionFailedError({})


@pytest.mark.usefixtures("registered")
def test_a_removal_before_its_creation_keeps_the_creation_out(lake: Lake, router: ModuleType) -> None:
    assert handle(router, notification(lake, name="ObjectRemoved:Delete", sequencer="A2")) == []
    assert handle(router, notification(lake)) == []
    row = lake.row(identity(lake))
    assert row is not None
    assert row["state"] == "DELETED"
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == []


@pytest.mark.usefixtures("registered")
def test_removing_an_old_version_leaves_the_object_and_work_in_flight_as_they_are(
    lake: Lake, router: ModuleType
) -> None:
    version = lake.s3.put_object(Bucket=lake.raw_bucket, Key=KEY, Body=b"abc")
    landed = notification(lake, versionId=version["VersionId"])
    handle(router, landed)
    receive_all(lake.sqs, lake.pipeline_queue_url)
    stage(lake, "a1", "b1")
    assert handle(router, notification(lake, name="ObjectRemoved:Delete", sequencer="A3", versionId="old")) == []
    row = lake.row(identity(lake))
    assert row is not None
    assert (row["state"], row["sequencer"], row["seen"]) == ("STAGED", "a1".rjust(32, "0"), "a3".rjust(32, "0"))
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == []
    between = notification(lake, sequencer="A2", versionId="old")  # what was removed, told of late
    assert handle(router, between) == []
    assert lake.row(identity(lake)) == row


@pytest.mark.usefixtures("registered")
def test_an_object_that_is_brought_back_is_routed_though_no_creation_tells_of_it(
    lake: Lake, router: ModuleType
) -> None:
    version = lake.s3.put_object(Bucket=lake.raw_bucket, Key=KEY, Body=b"abc")["VersionId"]
    handle(router, notification(lake, versionId=version))
    marker = lake.s3.delete_object(Bucket=lake.raw_bucket, Key=KEY)["VersionId"]
    handle(router, notification(lake, name="ObjectRemoved:DeleteMarkerCreated", sequencer="A2"))
    receive_all(lake.sqs, lake.pipeline_queue_url)
    lake.s3.delete_object(Bucket=lake.raw_bucket, Key=KEY, VersionId=marker)
    assert handle(router, notification(lake, name="ObjectRemoved:Delete", sequencer="A3")) == []
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == [message(lake, "a3", version)]
    row = lake.row(identity(lake))
    assert row is not None
    assert (row["state"], row["version_id"]) == ("LANDED", version)


@pytest.mark.usefixtures("registered")
def test_a_creation_that_a_removal_has_already_found_is_not_staged_under_a_second_name(
    lake: Lake, router: ModuleType
) -> None:
    version = lake.s3.put_object(Bucket=lake.raw_bucket, Key=KEY, Body=b"abc")["VersionId"]
    handle(router, notification(lake, name="ObjectRemoved:Delete", sequencer="A2"))
    assert handle(router, notification(lake, sequencer="A3", versionId=version)) == []
    sent = receive_all(lake.sqs, lake.pipeline_queue_url)
    assert {one["sequencer"] for one in sent} == {"a2".rjust(32, "0")}


@pytest.mark.usefixtures("registered")
def test_when_s3_refuses_to_tell_the_message_comes_back(
    lake: Lake, router: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "HeadObject")

    monkeypatch.setattr(router.CLIENTS.s3, "head_object", refused)
    removed = notification(lake, name="ObjectRemoved:Delete", sequencer="A2")
    assert handle(router, removed, notification(lake, "air/flights/b.csv")) == ["m0"]
    assert lake.row(identity(lake)) is None


@pytest.mark.usefixtures("registered")
def test_entries_that_the_queue_refuses_fail_alone_and_are_sent_when_they_come_again(
    lake: Lake, router: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = router.CLIENTS.sqs.send_message_batch

    def half(**arguments: Any) -> dict[str, Any]:
        entries = arguments["Entries"]
        answer = real(QueueUrl=arguments["QueueUrl"], Entries=entries[::2])
        refused = [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in entries[1::2]]
        return {**answer, "Failed": refused}

    bodies = [notification(lake, f"air/flights/{n}.csv") for n in range(4)]
    with monkeypatch.context() as broken:
        broken.setattr(router.CLIENTS.sqs, "send_message_batch", half)
        assert handle(router, *bodies) == ["m1", "m3"]
    assert handle(router, bodies[1], bodies[3]) == []
    keys = {one["key"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)}
    assert keys == {f"air/flights/{n}.csv" for n in range(4)}


def test_a_queue_that_is_gone_fails_its_own_messages_alone(lake: Lake, router: ModuleType) -> None:
    register(lake)
    register(lake, "airports", "gone")
    lake.datasets.update_item(
        Key={"team": "air", "dataset": "pipeline#gone"},
        UpdateExpression="SET queue_url = :url",
        ExpressionAttributeValues={":url": lake.pipeline_queue_url + "-gone"},
    )
    assert handle(router, notification(lake, "air/airports/a.csv"), notification(lake)) == ["m0"]
    assert len(receive_all(lake.sqs, lake.pipeline_queue_url)) == 1


@pytest.mark.usefixtures("registered")
def test_an_unregistered_dataset_takes_its_waiting_objects_back(lake: Lake, router: ModuleType) -> None:
    handle(router, notification(lake))
    lake.datasets.delete_item(Key={"team": "air", "dataset": "flights"})
    router.CLIENTS.registry.__init__(lake.datasets)  # as after a minute
    assert handle(router, notification(lake)) == []
    assert [one["id"] for one in lake.attention("UNROUTED")] == [identity(lake)]


@pytest.fixture
def reads(lake: Lake) -> list[Any]:
    asked: list[Any] = []
    events = lake.datasets.meta.client.meta.events
    events.register("before-call.dynamodb.GetItem", lambda **told: asked.append(told))
    return asked


def test_a_registration_is_believed_for_a_minute_and_its_absence_never(lake: Lake, reads: list[Any]) -> None:
    registry = Registry(lake.datasets)
    assert registry.dataset("air", "flights", NOW) is None
    assert registry.dataset("air", "flights", NOW) is None
    assert len(reads) == 2
    register(lake)
    assert registry.dataset("air", "flights", NOW) == datasets.Dataset("air", "flights", "main")
    assert registry.dataset("air", "flights", NOW + timedelta(seconds=59)) is not None
    assert len(reads) == 3
    assert registry.dataset("air", "flights", NOW + timedelta(seconds=60)) is not None
    assert len(reads) == 4
    lake.datasets.delete_item(Key={"team": "air", "dataset": "flights"})
    assert registry.dataset("air", "flights", NOW + timedelta(seconds=120)) is None


def test_the_log_line_names_objects_and_failures(
    lake: Lake, router: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        handle(router, "broken", notification(lake))
    [told] = [vars(record) for record in caplog.records if record.message == "routed"]
    assert told["objects"] == [(identity(lake), "UNROUTED")]
    assert told["outcomes"] == {"UNROUTED": 1}
    assert list(told["failed"]) == ["m0"]
