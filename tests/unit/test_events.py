"""S3's notifications as the lake reads them; recorded ones stand in tests/events."""

import json
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import events
from lake.events import Created, MalformedEventError, Removed

EVENTS = Path(__file__).parents[1] / "events"


def recorded(name: str) -> str:
    return (EVENTS / name).read_text(encoding="utf-8")


def test_a_created_object() -> None:
    assert events.parse(recorded("s3_created.json")) == [
        Created(
            bucket="tarn-test-raw-123456789012-eu-west-1",
            key="air/flights/2013 01+01 Zürich.csv",
            size=78911,
            etag="5d41402abc4b2a76b9719d911017c592",
            version_id="jXFLOJE1Xk8Uwjo7XdFZJsLDpr6vVxQy",
            sequencer="00000000000000000055aed6dcd90281e5"[-32:],
            event_time="2026-11-23T16:44:01.123Z",
        )
    ]


def test_a_removed_object_has_no_size() -> None:
    [event] = events.parse(recorded("s3_removed.json"))
    assert isinstance(event, Removed)
    assert event.id == "s3://tarn-test-raw-123456789012-eu-west-1/air/flights/2013-01-01.csv"
    assert len(event.sequencer) == 32


def test_s3s_test_event_is_no_event() -> None:
    assert events.parse(recorded("s3_test_event.json")) == []


def test_an_event_that_moves_no_data_is_no_event() -> None:
    document = json.loads(recorded("s3_created.json"))
    document["Records"][0]["eventName"] = "ObjectRestore:Completed"
    del document["Records"][0]["s3"]["object"]["sequencer"]
    assert events.parse(json.dumps(document)) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON"),
        ("not json", "not JSON"),
        ("[]", "list"),
        ("{}", "Records"),
        ('{"Records": {}}', "Records"),
        ('{"Records": ["x"]}', "not S3's"),
        ('{"Records": [{"eventName": 1}]}', "not S3's"),
        ('{"Records": [{"eventName": "ObjectCreated:Put"}]}', "'s3'"),
        ('{"Records": [{"eventName": "ObjectRemoved:Delete", "s3": null}]}', "not S3's"),
    ],
)
def test_what_is_not_s3s_is_refused(body: str, reason: str) -> None:
    with pytest.raises(MalformedEventError, match=reason):
        events.parse(body)


@pytest.mark.parametrize("missing", ["key", "size", "eTag", "sequencer"])
def test_a_creation_without_what_the_catalog_needs_is_refused(missing: str) -> None:
    document = json.loads(recorded("s3_created.json"))
    del document["Records"][0]["s3"]["object"][missing]
    with pytest.raises(MalformedEventError, match=missing):
        events.parse(json.dumps(document))


@given(key=st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable()))
def test_a_key_of_any_letters_is_decoded_exactly_once(key: str) -> None:
    document = json.loads(recorded("s3_created.json"))
    document["Records"][0]["s3"]["object"]["key"] = quote_plus(key)
    [event] = events.parse(json.dumps(document))
    assert event.key == key


def test_a_row_comes_back_as_the_event_that_wrote_it() -> None:
    [event] = events.parse(recorded("s3_created.json"))
    assert isinstance(event, Created)
    row = {
        "id": event.id,
        "size": event.size,
        "etag": event.etag,
        "version_id": event.version_id,
        "sequencer": event.sequencer,
        "event_time": event.event_time,
    }
    assert events.parse(json.dumps(events.notification(row))) == [event]


@pytest.mark.parametrize(
    ("key", "size", "is_marker"),
    [
        ("air/flights/", 0, True),
        ("air/x_$folder$", 0, True),
        ("air/flights/a.csv", 0, False),
        ("air/flights/", 5, False),
    ],
)
def test_a_folder_marker_is_empty_and_named_like_one(key: str, size: int, is_marker: bool) -> None:
    event = Created("b", key, size, "e", None, "0" * 32, "2026-11-23T16:44:01Z")
    assert event.is_folder_marker is is_marker
