"""Input that nobody should have sent, and rows that nobody should have edited, on the way to a staged object.

Each ends in a named state with a reason, never in a loop, and takes no neighbour with it. A message that says nothing
of an object ends with the dead letters: it comes back alone until SQS has had enough, and the log says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
from botocore.exceptions import ClientError

from glue import transform_batch
from lake import batches, executions, finishing, names, outcomes, publishing
from lake.batches import Batch
from tests.integration.first_hop_world import DATASET, NOON, TEAM, Hop
from tests.integration.tables import ACCOUNT, Lake, lake, load_handler, receive_all
from tests.integration.test_route_object import handle, identity, notification, register

__all__ = ["lake"]
GOOD = "carrier,delay\nua,7\n"
NOT_JSON = ["", "no JSON", "\x00", "[" * 100_000, '{"schema": ' + "9" * 5_000 + "}", '"text"', "7", "null", "[]"]
SPOILT: list[dict[str, Any]] = [
    {"size": float("inf")},
    {"size": float("nan")},
    {"size": 10**50},
    {"size": -1},
    {"size": "3"},
    {"size": True},
    {"sequencer": "zz"},
    {"sequencer": "f" * 33},
    {"versionId": {"a": 1}},
    {"key": "air/flights/\ud800.csv"},
    {"key": quote_plus("air/flights/" + "ü" * 510)},
    {"eTag": None},
]
"""What S3 would not say of an object."""
EDITED: list[dict[str, Any]] = [
    {"sequencer": None},
    {"sequencer": 7},
    {"state": None},
    {"staged_id": {"a"}},
    {"seen": 1},
]


@pytest.fixture
def router(lake: Lake) -> ModuleType:
    register(lake)
    return load_handler(
        "foundations.route_object",
        {
            "OBJECTS_TABLE_NAME": lake.objects.name,
            "DATASETS_TABLE_NAME": lake.datasets.name,
            "RAW_BUCKET_NAME": lake.raw_bucket,
        },
    )


@pytest.fixture
def hop(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hop]:
    return Hop(lake, monkeypatch)


def edit(lake: Lake, row_id: str, **changed: Any) -> None:
    row = {**(lake.row(row_id) or {"id": row_id}), **changed}
    lake.objects.put_item(Item={name: value for name, value in row.items() if value is not None})


def said(caplog: pytest.LogCaptureFixture, field: str) -> str:
    """What the log lines of a handler say in one of their fields."""
    return str([getattr(one, field) for one in caplog.records if hasattr(one, field)])


# The ingest queue


def test_what_is_no_notification_goes_to_the_dead_letters_alone(lake: Lake, router: ModuleType) -> None:
    for body in NOT_JSON:
        assert handle(router, body, notification(lake)) == ["m0"], body[:50]
    assert lake.row(identity(lake))["state"] == "LANDED"


def test_a_notification_that_s3_would_not_send_goes_alone_and_writes_nothing(lake: Lake, router: ModuleType) -> None:
    for thing in SPOILT:
        spoilt = notification(lake)
        spoilt["Records"][0]["s3"]["object"] |= thing
        assert handle(router, spoilt, notification(lake, "air/flights/good.csv")) == ["m0"], thing
    assert [row["id"] for row in lake.objects.scan()["Items"]] == [identity(lake, "air/flights/good.csv")]


def test_an_event_of_another_bucket_says_which(
    lake: Lake, router: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    other = notification(lake)
    other["Records"][0]["s3"]["bucket"]["name"] = "somebody-elses"
    assert handle(router, other, notification(lake)) == ["m0"]
    assert "an event of bucket somebody-elses; this queue is for" in said(caplog, "failed")
    assert len(lake.objects.scan()["Items"]) == 1


def test_an_event_that_comes_back_after_its_object_has_moved_on_changes_nothing(lake: Lake, router: ModuleType) -> None:
    """A dead letter that is moved back days later."""
    first, second = notification(lake), notification(lake, sequencer="A2", versionId="v2")
    assert handle(router, first, second) == []
    before = lake.row(identity(lake))
    receive_all(lake.sqs, lake.pipeline_queue_url)
    assert handle(router, first) == []
    assert lake.row(identity(lake)) == before
    assert receive_all(lake.sqs, lake.pipeline_queue_url) == []


# The longest key, from its event to its staged object


@pytest.mark.parametrize("letter", ["x", "ü", "😀", "%"], ids=["ascii", "two bytes", "four bytes", "percent"])
def test_a_key_of_1024_bytes_is_an_object_like_any_other(hop: Hop, letter: str) -> None:
    prefix = f"{TEAM}/{DATASET}/"
    room = names.LONGEST_KEY_BYTES - len(prefix)
    name = letter * (room // len(letter.encode()))
    name += "y" * (room - len(name.encode()))
    message = hop.land(name, GOOD)
    assert len(message["key"].encode()) == names.LONGEST_KEY_BYTES
    assert hop.go(message) == []
    assert hop.raw(message)["state"] == "STAGED"
    [told] = receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)
    assert told["id"] == hop.raw(message)["staged_id"]


# The pipeline's queue


def test_what_is_no_message_of_the_pipeline_comes_back_alone(hop: Hop) -> None:
    good = hop.land("good.csv", GOOD)
    assert hop.go(*NOT_JSON, good) == [f"m{place}" for place in range(len(NOT_JSON))]
    assert hop.raw(good)["state"] == "STAGED"


@pytest.mark.parametrize("schema", [0, None, 2], ids=["older", "none", "later"])
def test_a_message_of_another_version_of_tarn_comes_back_alone(
    hop: Hop, schema: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    old, good = hop.land("old.csv", GOOD), hop.land("good.csv", GOOD)
    assert hop.go({**old, "schema": schema}, good) == ["m0"]
    assert "not a message of schema 1" in said(caplog, "error")
    assert (hop.raw(old)["state"], hop.raw(good)["state"]) == ("LANDED", "STAGED")


def test_a_dead_letter_of_an_older_version_of_its_object_stages_nothing_that_counts(hop: Hop) -> None:
    old = hop.land("a.csv", GOOD)
    new = hop.land("a.csv", GOOD + "AA,1\n")
    assert hop.go(new) == []
    assert hop.go(old) == []
    assert hop.raw(new)["staged_id"] == hop.staged_id(new)
    assert (hop.staged(new)["state"], hop.staged(old)["state"]) == ("STAGED", "SUPERSEDED")
    assert [one["id"] for one in receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)] == [hop.staged_id(new)]


def test_another_teams_dataset_whose_registration_may_not_be_read_comes_back_alone(
    hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hop.start.DATASETS.get

    def get(team: str, *rest: Any) -> Any:
        if team != TEAM:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetItem")
        return real(team, *rest)

    monkeypatch.setattr(hop.start.DATASETS, "get", get)
    good = hop.land("good.csv", GOOD)
    assert hop.go({**good, "team": "sky"}, good) == ["m0"]
    assert hop.raw(good)["state"] == "STAGED"


# Rows that somebody has edited


def test_an_event_of_an_object_whose_row_was_edited_goes_alone(
    lake: Lake, router: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    for place, changed in enumerate(EDITED):
        if isinstance(changed.get("sequencer"), int) or "seen" in changed:
            continue  # moto breaks off where DynamoDB finds that a number is not less than a text
        key = f"air/flights/{place}.csv"
        handle(router, notification(lake, key))
        edit(lake, identity(lake, key), **changed)
        removed = notification(lake, key, "ObjectRemoved:Delete")
        assert handle(router, removed, notification(lake, f"{key}.good")) in (["m0"], []), changed
        assert handle(router, notification(lake, key), notification(lake, f"{key}.good")) in (["m0"], []), changed
        assert lake.row(identity(lake, f"{key}.good"))["state"] == "LANDED"
    for wrong in ("sequencer is None", "state is None", "staged_id is {'a'}"):
        assert f"was edited: {wrong}" in said(caplog, "failed")


def test_an_edited_raw_row_keeps_its_object_from_being_staged_and_no_other(hop: Hop) -> None:
    edited = [hop.land(f"{place}.csv", GOOD) for place in range(len(EDITED))]
    good = hop.land("good.csv", GOOD)
    for message, changed in zip(edited, EDITED, strict=True):
        edit(hop.lake, message["id"], **changed)
    assert hop.go(*edited, good) == [f"m{place}" for place in range(len(EDITED))]
    for message in edited:
        outcome, reason = hop.machine.outcomes[message["id"]]
        assert (outcome, reason.partition(":")[0]) == ("FAILED", "UnreadableRowError")
    assert hop.raw(good)["state"] == "STAGED"


def test_an_object_that_was_put_back_to_landed_by_hand_is_staged_to_the_same_key(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.go(message)
    before = hop.raw(message)
    edit(hop.lake, message["id"], state="LANDED", staged_id=None)
    assert hop.go(message) == []
    assert hop.raw(message) == before


# A manifest that was deleted


def test_the_job_says_which_manifest_is_gone(lake: Lake) -> None:
    uri = f"s3://{lake.stage_bucket}/{names.manifest_key('air', 'flights', 'b')}"
    with pytest.raises(transform_batch.ManifestMissingError, match=r"manifest\.json cannot be read \(NoSuchKey\)"):
        transform_batch.read_manifest(lake.s3, uri)


def test_a_batch_whose_manifest_is_gone_when_it_is_published_fails_with_its_reason(lake: Lake) -> None:
    batch = Batch(TEAM, DATASET, batches.new_id(NOON))
    batches.open_batch(lake.batches, batch, NOON)
    batches.commit(lake.batches, batch, NOON, objects=1, size=1, has_rules=False)
    machine = executions.Machine(f"arn:aws:states:x:{ACCOUNT}:stateMachine:m", lake.stage_bucket, lake.analytics_bucket)
    run = outcomes.Run.parse(executions.execution_input(machine, batch, has_rules=False))
    written = {"schema": 1, "job": "transform", "run_id": "jr", "batch_id": run.batch_id, "attempt": 1}
    work = {"rows_in": 0, "rows_out": 0, "columns": [], "files": []}
    bucket, key = names.split_object_id(run.transform_outcome_uri)
    lake.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(written | work).encode())
    clients = publishing.Clients(s3=lake.s3, glue=boto3.client("glue"), batches=lake.batches)
    with pytest.raises(outcomes.OutcomeMissingError, match=r"manifest\.json does not exist") as caught:
        publishing.publish(clients, run, "jr", NOON)
    cause = json.dumps({"errorType": "OutcomeMissingError", "errorMessage": str(caught.value)})
    assert finishing.fail(lake.batches, run, {"Error": "OutcomeMissingError", "Cause": cause}, NOON).state == "FAILED"
    row = lake.batches.get_item(Key=batch.key)["Item"]
    assert (row["state"], "manifest.json does not exist" in row["reason"]) == ("FAILED", True)
