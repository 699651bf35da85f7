"""``tarn release`` and ``tarn discard``: what a person decides about objects that are held back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from lake import catalog, clock, names, queues, routing, rows
from tarn import cli
from tarn.held import Desk, HeldError
from tarn.lake import Lake as Deployed
from tests.integration.first_hop_world import DATASET, TEAM, Hop
from tests.integration.tables import Lake, lake, receive_all
from tests.integration.test_route_object import notification

__all__ = ["lake"]
GOOD = "carrier,delay\nua,7\n"
BAD = "carrier,delay\nua,late\n"


@pytest.fixture
def hop(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hop]:
    """A pipeline that quarantines what it cannot read, with its contract published."""
    ssm = boto3.client("ssm")
    contract = {
        "foundations/raw-bucket/name": lake.raw_bucket,
        "foundations/objects-table/name": lake.objects.name,
        f"pipeline/{TEAM}/main/queue/url": lake.pipeline_queue_url,
        f"dataset/{TEAM}/main/{DATASET}/queue/url": lake.dataset_queue_url,
    }
    for name, value in contract.items():
        ssm.put_parameter(Name=f"/tarn/test/{name}", Value=value, Type="String")
    return Hop(lake, monkeypatch)


def tarn(*words: str) -> Any:
    return CliRunner().invoke(cli.app, [*words, "--environment", "test"], env={"COLUMNS": "200"})


def quarantined(hop: Hop, name: str = "bad.csv") -> dict[str, Any]:
    message = hop.land(name, BAD)
    assert hop.go(message) == []
    assert hop.raw(message)["state"] == "QUARANTINED"
    return message


def waiting(hop: Hop) -> list[dict[str, Any]]:
    return receive_all(hop.lake.sqs, hop.lake.pipeline_queue_url)


def mended(hop: Hop) -> None:
    """The dataset's registration now takes what it could not read."""
    hop.register(columns=[{"name": "carrier", "type": "string"}, {"name": "delay", "type": "string"}])
    hop.reload()


def test_what_is_released_goes_its_way_again(hop: Hop) -> None:
    messages = [quarantined(hop, f"{place} ñ+%.csv") for place in range(12)]
    assert len(hop.lake.attention()) == 12
    mended(hop)
    done = tarn("release", f"{TEAM}/{DATASET}")
    assert done.exit_code == 0, done.output
    assert "12 released" in done.output
    assert {hop.raw(one)["state"] for one in messages} == {"LANDED"}
    assert hop.lake.attention() == []
    sent = waiting(hop)
    assert sorted(sent, key=lambda one: one["key"]) == sorted(messages, key=lambda one: one["key"]), (
        "the router's own message"
    )
    assert hop.go(*sent[:6]) == []
    assert hop.go(*sent[6:]) == []
    assert {hop.raw(one)["state"] for one in messages} == {"STAGED"}
    assert "reason" not in hop.raw(messages[0])
    again = tarn("release", f"{TEAM}/{DATASET}")
    assert (again.exit_code, again.output.strip()) == (0, f"nothing of {TEAM}/{DATASET} is held")


def test_a_dry_run_changes_nothing(hop: Hop) -> None:
    message = quarantined(hop)
    before = hop.raw(message)
    for words in (["release", f"{TEAM}/{DATASET}"], ["release", message["id"]], ["discard", message["id"]]):
        done = tarn(*words, "--dry-run")
        assert done.exit_code == 0, done.output
        assert "would be" in done.output
        assert message["id"] in done.output
    assert hop.raw(message) == before
    assert waiting(hop) == []


def test_one_object_is_released_and_sent_again_when_it_is_released_again(hop: Hop) -> None:
    message = quarantined(hop)
    for word in ("released", "sent again"):
        done = tarn("release", message["id"])
        assert (done.exit_code, done.output.startswith(word)) == (0, True), done.output
        assert waiting(hop) == [message]
        assert hop.raw(message)["state"] == "LANDED"
    assert hop.go(message) == []
    assert hop.raw(message)["state"] == "QUARANTINED", "its cause is not gone"
    assert len(hop.lake.attention()) == 1


def test_too_large_is_held_too(hop: Hop) -> None:
    message = hop.land("big.csv", "x" * 2**20 + "y")
    assert hop.go(message) == []
    assert hop.raw(message)["state"] == "TOO_LARGE"
    assert "released" in tarn("release", f"{TEAM}/{DATASET}").output
    assert waiting(hop) == [message]


def test_a_release_that_died_between_message_and_row_is_made_again(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    message = quarantined(hop)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "update", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        tarn("release", message["id"])
    assert hop.raw(message)["state"] == "QUARANTINED"
    assert len(hop.lake.attention()) == 1, "a person still sees it"
    mended(hop)
    assert hop.go(*waiting(hop)) == []
    assert hop.raw(message)["state"] == "STAGED"
    assert hop.lake.attention() == []


@pytest.mark.parametrize("cause_is_gone", [True, False], ids=["staged", "quarantined again"])
def test_a_pipeline_that_is_quicker_than_the_row_is_right(
    hop: Hop, monkeypatch: pytest.MonkeyPatch, cause_is_gone: bool
) -> None:
    message = quarantined(hop)
    if cause_is_gone:
        mended(hop)
    real = queues.send

    def send(*arguments: Any) -> Any:
        told = real(*arguments)
        with monkeypatch.context() as inner:
            inner.setattr(queues, "send", real)
            assert hop.go(*waiting(hop)) == []
        return told

    monkeypatch.setattr(queues, "send", send)
    done = tarn("release", message["id"])
    assert done.exit_code == 0, done.output
    assert hop.raw(message)["state"] == ("STAGED" if cause_is_gone else "QUARANTINED")
    assert len(hop.lake.attention()) == (0 if cause_is_gone else 1)


def test_what_is_held_again_while_it_is_released_waits_for_the_next_time(hop: Hop) -> None:
    quarantined(hop)
    desk = Desk(Deployed("test"), boto3.Session(), clock.now() - timedelta(hours=1))
    assert list(desk.held(TEAM, DATASET)) == []
    desk = Desk(Deployed("test"), boto3.Session(), clock.now())
    assert len(list(desk.held(TEAM, DATASET))) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "has no row in the object catalog"),
        ({"state": "STAGED"}, "is STAGED: only what is held"),
        ({"state": "DELETED"}, "is DELETED: only what is held"),
        ({"state": "UNROUTED", "reason": "no such"}, "is UNROUTED: no such: only what is held"),
        ({"state": "QUARANTINED", "zone": "stage"}, "is no object of the raw zone"),
        ({"state": "QUARANTINED", "team": "rail"}, "this lake has no dataset rail/flights"),
    ],
    ids=["none", "staged", "deleted", "unrouted", "zone", "team"],
)
def test_what_cannot_be_released_says_what_stands(hop: Hop, row: dict[str, Any] | None, said: str) -> None:
    identity = names.object_id(hop.lake.raw_bucket, "air/flights/x.csv")
    if row is not None:
        place = {"zone": "raw", "team": TEAM, "dataset": DATASET, "sequencer": "1" * 32}
        hop.lake.objects.put_item(Item={"id": identity, **place, **row})
    done = tarn("release", identity)
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())
    assert waiting(hop) == []


def test_a_target_that_is_neither_is_refused(hop: Hop) -> None:
    done = tarn("release", "flights")
    assert (done.exit_code, "neither TEAM/DATASET nor s3://" in done.output) == (1, True)


# Discarding


def test_what_is_discarded_needs_nobody_and_says_by_whom(hop: Hop) -> None:
    message = quarantined(hop)
    reason = hop.raw(message)["reason"]
    done = tarn("discard", message["id"], "--reason", "the producer sent it twice")
    assert done.exit_code == 0, done.output
    row = hop.raw(message)
    assert (row["state"], row["reason"]) == ("DISCARDED", "the producer sent it twice")
    assert row["discarded"]["by"] == boto3.client("sts").get_caller_identity()["Arn"]
    assert row["discarded"]["was"] == f"QUARANTINED: {reason}"
    assert clock.parse(row["discarded"]["at"]) <= clock.now()
    assert hop.lake.attention() == []
    assert hop.lake.s3.head_object(Bucket=hop.lake.raw_bucket, Key=message["key"]), "the object stays"
    again = tarn("discard", message["id"], "--reason", "another")
    assert (again.exit_code, again.output.startswith("already discarded")) == (0, True), again.output
    assert hop.raw(message) == row


def test_a_message_of_a_discarded_object_is_settled_and_changes_nothing(hop: Hop) -> None:
    """One that was on its way, or a dead letter that is moved back: staged or refused, the person's word stands."""
    message = quarantined(hop)
    tarn("discard", message["id"])
    before = hop.raw(message)
    assert hop.go(message) == []
    mended(hop)
    assert hop.go(message) == []
    assert hop.raw(message) == before
    assert hop.staged(message) is None
    assert hop.lake.attention() == []
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == []


def test_what_is_discarded_while_it_is_staged_goes_no_further(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    message = quarantined(hop)
    mended(hop)
    real = queues.send

    def send(*arguments: Any) -> Any:
        tarn("discard", message["id"])
        return real(*arguments)

    monkeypatch.setattr(queues, "send", send)
    assert hop.go(message) == []
    assert hop.raw(message)["state"] == "DISCARDED"
    assert (hop.staged(message)["state"], hop.staged(message)["reason"]) == (
        "SUPERSEDED",
        "its raw object was discarded",
    )


def test_a_newer_version_of_a_discarded_object_goes_its_way(hop: Hop) -> None:
    message = quarantined(hop)
    tarn("discard", message["id"])
    newer = hop.land("bad.csv", GOOD)
    assert "discarded" not in hop.raw(newer)
    assert hop.go(newer) == []
    assert hop.raw(newer)["state"] == "STAGED"


def test_an_unrouted_object_that_is_discarded_is_not_routed_later(hop: Hop) -> None:
    lake = hop.lake
    landed = notification(lake, "air/nobody/x.csv")
    clients = routing.Clients(lake.objects, routing.Registry(lake.datasets), lake.s3, lake.sqs)
    body = {"m": json.dumps(landed)}
    routing.route(clients, lake.raw_bucket, body, clock.now())
    identity = names.object_id(lake.raw_bucket, "air/nobody/x.csv")
    assert lake.row(identity)["state"] == catalog.UNROUTED
    assert tarn("discard", identity).exit_code == 0
    hop.register(dataset="nobody")
    assert routing.resend_unrouted(clients, lake.datasets, lake.ingest_queue_url, 9, clock.now()) == {}
    assert routing.route(clients, lake.raw_bucket, body, clock.now()).outcomes == [(identity, "KNOWN")]
    assert lake.row(identity)["state"] == catalog.DISCARDED


def test_what_cannot_be_discarded_does_not_keep_the_others(hop: Hop) -> None:
    held, staged = quarantined(hop), hop.land("good.csv", GOOD)
    hop.go(staged)
    done = tarn("discard", staged["id"], held["id"])
    assert done.exit_code == 1
    assert f"not discarded: {staged['id']} is STAGED" in done.output
    assert (hop.raw(staged)["state"], hop.raw(held)["state"]) == ("STAGED", "DISCARDED")


def test_what_has_changed_between_two_looks_is_not_discarded(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    message = quarantined(hop)
    desk = Desk(Deployed("test"), boto3.Session(), clock.now())
    real = rows.get

    def get(*arguments: Any) -> Any:
        row = real(*arguments)
        monkeypatch.setattr(rows, "get", real)
        hop.land("bad.csv", GOOD)
        return row

    monkeypatch.setattr(rows, "get", get)
    with pytest.raises(HeldError, match="has just changed and is LANDED"):
        desk.discard(message["id"], None)
    assert hop.raw(message)["state"] == "LANDED"
