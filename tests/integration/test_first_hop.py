"""The first hop, from a pipeline's message to a staged object: what goes on, what comes back, what it costs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, ReadTimeoutError

from lake import catalog, json_file, names, python_transform
from tests.faults.killing import Death, dying
from tests.integration import first_hop_world
from tests.integration.first_hop_world import DATASET, NOON, OWN_FUNCTION, START_BATCH, TEAM, Hop, counting
from tests.integration.tables import Lake, lake, receive_all

__all__ = ["lake"]
GOOD = "carrier,delay\nua,7\nAA,NA\n"
STATE_LIMIT = 256 * 1024


@pytest.fixture
def hop(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hop]:
    return Hop(lake, monkeypatch)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make an operation fail: always, or only where ``when`` says so of its arguments."""

    def spoil(operation: str, when: Callable[[Any], bool] = lambda _: True, code: str = "InternalServerError") -> None:
        real = BaseClient._make_api_call

        def call(client: BaseClient, name: str, arguments: Any) -> Any:
            if name == operation and when(arguments):
                raise ClientError({"Error": {"Code": code, "Message": "spoilt"}, "ResponseMetadata": {}}, name)
            return real(client, name, arguments)

        monkeypatch.setattr(BaseClient, "_make_api_call", call)

    return spoil


# The way of an object


def test_a_raw_object_is_staged_recorded_and_told(hop: Hop) -> None:
    message = hop.land("2013/a b+c%20ü.csv", GOOD)
    assert hop.go(message) == []

    staged = hop.staged(message)
    assert staged is not None
    assert {name: staged[name] for name in ("state", "zone", "team", "dataset", "rows", "source_id", "sequencer")} == {
        "state": "STAGED", "zone": "stage", "team": TEAM, "dataset": DATASET, "rows": 2,
        "source_id": message["id"], "sequencer": message["sequencer"],
    }  # fmt: skip
    assert staged["source_version_id"] == message["version_id"]
    assert staged["event_time"] == "2026-11-23T11:59:00.000Z"

    bucket, key = names.split_object_id(hop.staged_id(message))
    found = hop.lake.s3.get_object(Bucket=bucket, Key=key)
    assert (found["ContentLength"], found["VersionId"]) == (staged["size"], staged["version_id"])
    assert found["Metadata"] == {
        "rows": "2", "source-version-id": message["version_id"], "source-sequencer": message["sequencer"],
    }  # fmt: skip

    raw = hop.raw(message)
    assert (raw["state"], raw["staged_id"]) == ("STAGED", hop.staged_id(message))
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == [
        {
            "schema": 1, "id": hop.staged_id(message), "team": TEAM, "dataset": DATASET, "size": int(staged["size"]),
            "sequencer": message["sequencer"], "version_id": staged["version_id"],
        }
    ]  # fmt: skip
    assert hop.lake.attention() == []


def test_what_is_staged_is_the_sqls_parquet(hop: Hop, tmp_path: Path) -> None:
    message = hop.land("a.csv", GOOD)
    hop.go(message)
    bucket, key = names.split_object_id(hop.staged_id(message))
    (tmp_path / "x").write_bytes(hop.lake.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(tmp_path / "x")]).fetchall()
    assert found == [("UA", 7), ("AA", None)]


def test_exactly_the_version_of_the_event_is_read(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.lake.s3.put_object(Bucket=hop.lake.raw_bucket, Key=message["key"], Body=b"carrier,delay\n")
    hop.go(message)
    staged = hop.staged(message)
    assert staged is not None
    assert staged["rows"] == 2


def test_a_batch_with_every_kind_of_object_settles_each_by_itself(hop: Hop) -> None:
    bad = {
        "picture.csv": (b"\xff\xd8\xff\xe0JFIF" + bytes(500), "QUARANTINED", "JPEG"),
        "typed.csv": ("carrier,delay\nUA,late\n", "QUARANTINED", "line 2, column 'delay': 'late' is not of type int"),
        "missing.csv": ("carrier\nUA\n", "QUARANTINED", "column 'delay' is missing"),
        "blank.csv": ("\n\n", "QUARANTINED", "the file is empty"),
        "dialect.csv": ("carrier;delay\nUA;1\n", "QUARANTINED", "when line 1 is split at ',': carrier;delay"),
        "latin.csv": (
            "carrier,delay\nUA,1\ncafé,2\n".encode("latin-1"),
            "QUARANTINED",
            "line 3: byte 0xe9 in 63 61 66 e9 2c 32; the file is not utf-8",
        ),
        "large.csv": ("carrier,delay\n" + "UA,1\n" * 300_000, "TOO_LARGE", "1.4 MiB; the dataset's MaxObjectMiB is 1"),
    }
    good = [hop.land(f"good{place}.csv", GOOD) for place in range(3)]
    refused = {name: hop.land(name, body) for name, (body, _, _) in bad.items()}
    assert hop.go(*good, *refused.values()) == []
    assert [hop.raw(one)["state"] for one in good] == ["STAGED"] * 3
    for name, (_, state, reason) in bad.items():
        row = hop.raw(refused[name])
        assert (row["state"], hop.staged(refused[name])) == (state, None)
        assert reason in row["reason"]
    shown = {row["id"]: row for row in hop.lake.attention()}
    assert set(shown) == {one["id"] for one in refused.values()}
    assert all(row["reason"] for row in shown.values())
    assert len(receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)) == 3


def test_what_was_quarantined_is_healthy_once_it_is_staged(hop: Hop) -> None:
    message = hop.land("a.csv", "carrier,delay\nUA,late\n")
    hop.go(message)
    assert hop.raw(message)["state"] == "QUARANTINED"
    hop.register(on_mismatch="null")
    hop.reload()
    assert hop.go(message) == []
    row = hop.raw(message)
    assert row["state"] == "STAGED"
    assert not {"reason", "attention", "attention_at"} & set(row)
    assert hop.machine.outcomes[message["id"]] == ("STAGED", "1 of 'delay' became NULL")


@pytest.mark.parametrize("told", [404, 403])
def test_a_version_that_is_gone_is_left_to_its_removal(hop: Hop, broken: Callable[..., None], told: int) -> None:
    message = hop.land("a.csv", GOOD)
    hop.lake.s3.put_object(Bucket=hop.lake.raw_bucket, Key=message["key"], Body=b"another version")
    hop.lake.s3.delete_object(Bucket=hop.lake.raw_bucket, Key=message["key"], VersionId=message["version_id"])
    before = hop.raw(message)
    if told == 403:
        broken("GetObject", lambda arguments: arguments["Key"] == message["key"], code="AccessDenied")
    assert hop.go(message) == []
    assert hop.machine.outcomes[message["id"]][0] == "GONE"
    assert hop.raw(message) == before
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == []


def test_a_version_that_stands_and_is_denied_comes_back(hop: Hop, broken: Callable[..., None]) -> None:
    message = hop.land("a.csv", GOOD)
    broken("GetObject", lambda arguments: arguments["Key"] == message["key"], code="AccessDenied")
    assert hop.go(message) == ["m0"]


# Duplicates, crashes, disorder


def test_the_same_message_again_changes_nothing_but_may_tell_again(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.go(message)
    raw, staged = hop.raw(message), hop.staged(message)
    assert hop.go(message, message) == []
    head = hop.lake.s3.head_object(Bucket=hop.lake.stage_bucket, Key=names.split_object_id(hop.staged_id(message))[1])
    assert head["VersionId"] != staged["version_id"]
    assert (hop.raw(message), hop.staged(message)) == (raw, staged | {"version_id": head["VersionId"]})
    bodies = receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)
    assert {body["id"] for body in bodies} == {hop.staged_id(message)}
    assert len(bodies) == 2


def test_a_claimed_object_is_not_told_again_and_its_raw_row_catches_up(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.go(message)
    hop.lake.objects.update_item(
        Key={"id": hop.staged_id(message)},
        UpdateExpression="SET batch_id = :b, #s = :s",
        ExpressionAttributeNames={"#s": "state"},
        ExpressionAttributeValues={":b": "b1", ":s": "BATCHED"},
    )
    hop.lake.objects.update_item(
        Key={"id": message["id"]},
        UpdateExpression="SET #s = :s REMOVE staged_id",
        ExpressionAttributeNames={"#s": "state"},
        ExpressionAttributeValues={":s": "LANDED"},
    )
    receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)
    assert hop.go(message) == []
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == []
    assert hop.raw(message)["staged_id"] == hop.staged_id(message)
    staged = hop.staged(message)
    assert staged is not None
    assert staged["batch_id"] == "b1"


def test_a_newer_version_that_landed_first_supersedes(hop: Hop) -> None:
    old = hop.land("a.csv", GOOD)
    new = hop.land("a.csv", "carrier,delay\nUA,1\n")
    assert hop.go(old) == []
    assert hop.machine.outcomes[old["id"]] == ("STAGED", "superseded")
    staged = hop.staged(old)
    assert staged is not None
    assert staged["state"] == "SUPERSEDED"
    assert hop.raw(old)["state"] == "LANDED"
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == []
    assert hop.go(new) == []
    assert [body["id"] for body in receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)] == [hop.staged_id(new)]


def test_two_versions_in_one_batch_are_one_item_the_newest(hop: Hop) -> None:
    old = hop.land("a.csv", "carrier,delay\nUA,late\n")
    new = hop.land("a.csv", GOOD)
    assert hop.go(new, old, new) == []
    assert [one["version_id"] for one in hop.machine.inputs[0]["groups"][0]["items"]] == [new["version_id"]]
    assert hop.raw(new)["state"] == "STAGED"


@pytest.mark.parametrize(("claimed", "ends"), [(False, "SUPERSEDED"), (True, "STALE")])
def test_the_former_version_is_retired_even_if_the_router_died_before(hop: Hop, claimed: bool, ends: str) -> None:
    old = hop.land("a.csv", GOOD)
    hop.go(old)
    former = hop.staged(old)
    assert former is not None
    new = hop.land("a.csv", GOOD + "DL,1\n")
    former |= {"batch_id": "b1", "state": "PUBLISHED"} if claimed else {}
    hop.lake.objects.put_item(Item=former)  # as if the router had not come to it
    assert hop.go(new) == []
    retired = hop.staged(old)
    assert retired is not None
    assert retired["state"] == ends
    assert ("attention" in retired) is claimed
    assert hop.raw(new)["staged_id"] == hop.staged_id(new)


def test_a_version_that_lands_while_the_older_is_recorded(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    old = hop.land("a.csv", GOOD)
    landed: list[Any] = []
    real = BaseClient._make_api_call

    def call(client: BaseClient, name: str, arguments: Any) -> Any:
        answer = real(client, name, arguments)
        if name == "SendMessageBatch" and arguments["QueueUrl"] == hop.lake.dataset_queue_url and not landed:
            landed.append(None)
            landed[0] = hop.land("a.csv", "carrier,delay\n")
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    assert hop.go(old) == []
    assert hop.machine.outcomes[old["id"]] == ("STAGED", "superseded")
    staged = hop.staged(old)
    assert staged is not None
    assert staged["state"] == "SUPERSEDED"
    raw = hop.raw(old)
    assert (raw["state"], raw["sequencer"]) == ("LANDED", landed[0]["sequencer"])
    assert hop.go(landed[0]) == []
    assert hop.raw(old)["staged_id"] == hop.staged_id(landed[0])


@pytest.mark.parametrize(
    "operation", ["GetObject", "PutObject", "BatchGetItem", "PutItem", "SendMessageBatch", "UpdateItem"]
)
def test_a_crash_at_any_call_comes_back_and_ends_alike(
    hop: Hop, broken: Callable[..., None], monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    message = hop.land("a.csv", GOOD)
    with monkeypatch.context():
        broken(operation, lambda arguments: arguments.get("QueueUrl") != hop.lake.pipeline_queue_url)
        assert hop.go(message) == ["m0"]
    monkeypatch.undo()
    fresh = Hop(hop.lake, monkeypatch)
    assert fresh.go(message) == []
    staged = fresh.staged(message)
    assert staged is not None
    assert (fresh.raw(message)["state"], staged["state"]) == ("STAGED", "STAGED")
    bodies = receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)
    assert {body["id"] for body in bodies} == {fresh.staged_id(message)}


def dies_before_its_raw_row(hop: Hop, message: dict[str, Any]) -> None:
    """A try stages the object, announces it, and dies before the raw row names it."""
    hop.go(hop.land("warm.csv", GOOD))
    receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)
    death = Death(6, after=False)
    with dying(death):
        hop.go(message)
    assert death.calls == ["GetObject", "PutObject", "BatchGetItem", "PutItem", "SendMessageBatch", "UpdateItem"]
    assert (hop.raw(message)["state"], (hop.staged(message) or {}).get("state")) == ("LANDED", "STAGED")


@pytest.mark.parametrize("newer", [GOOD, "carrier,delay\nUA,late\n"], ids=["staged", "refused"])
@pytest.mark.parametrize("claimed", [False, True], ids=["in no batch", "claimed"])
def test_what_a_dead_try_staged_is_settled_with_the_newer_version_beside_it(
    hop: Hop, newer: str, claimed: bool
) -> None:
    """Both messages are gone then: nobody else would retire it, and both versions would be published."""
    old = hop.land("a.csv", GOOD + "DL,1\n")
    dies_before_its_raw_row(hop, old)
    new = hop.land("a.csv", newer)
    if claimed:
        hop.lake.objects.put_item(Item={**(hop.staged(old) or {}), "state": "BATCHED", "batch_id": "b"})
    assert hop.go(old, new) == []
    former = hop.staged(old) or {}
    assert former["state"] == ("STALE" if claimed else "SUPERSEDED")
    assert ((hop.staged(new) or {}).get("state") == "STAGED") is (newer == GOOD)


def test_an_older_version_whose_run_is_late_finds_itself_superseded(hop: Hop) -> None:
    """Its message, which SQS delivered twice, is settled with the newer one's before that run stages it."""
    old, new = hop.land("a.csv", GOOD + "DL,1\n"), hop.land("a.csv", GOOD)
    assert hop.go(old, new) == []
    tombstone = hop.staged(old) or {}
    assert (tombstone["state"], tombstone["source_id"]) == ("SUPERSEDED", old["id"])
    receive_all(hop.lake.sqs, hop.lake.dataset_queue_url)
    assert hop.go(old) == []
    assert (hop.staged(old) or {})["state"] == "SUPERSEDED"
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == []


def test_a_try_that_died_is_ended_though_the_dataset_refuses_the_object_now(hop: Hop) -> None:
    """What it staged may be published already: the raw object cannot be held back any more."""
    message = hop.land("a.csv", GOOD)
    dies_before_its_raw_row(hop, message)
    hop.register(columns=[{"name": "other", "type": "int"}])
    hop.reload()
    assert hop.go(message) == []
    outcome, reason = hop.machine.outcomes[message["id"]]
    assert (outcome, reason.partition(":")[0]) == ("STAGED", "by an earlier try; QUARANTINED now")
    assert hop.raw(message)["staged_id"] == hop.staged_id(message)
    assert hop.lake.attention() == []


def test_an_error_of_one_object_is_its_own(hop: Hop, broken: Callable[..., None]) -> None:
    messages = [hop.land(f"{place}.csv", GOOD) for place in range(4)]
    broken("GetObject", lambda arguments: arguments["Key"] == messages[1]["key"], code="SlowDown")
    broken("PutItem", lambda arguments: arguments["Item"]["id"] == hop.staged_id(messages[2]))
    assert hop.go(*messages) == ["m1", "m2"]
    assert [hop.raw(one)["state"] for one in messages] == ["STAGED", "LANDED", "LANDED", "STAGED"]


def test_what_the_queue_does_not_take_comes_back_alone(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [hop.land(f"{place}.csv", GOOD) for place in range(3)]
    real = BaseClient._make_api_call

    def call(client: BaseClient, name: str, arguments: Any) -> Any:
        if name == "SendMessageBatch":
            kept = [one for one in arguments["Entries"] if one["Id"] != "1"]
            answer = real(client, name, {**arguments, "Entries": kept})
            return {**answer, "Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False}]}
        return real(client, name, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    assert hop.go(*messages) == ["m1"]
    assert hop.machine.outcomes[messages[1]["id"]] == ("FAILED", "InternalError")
    assert [hop.raw(one)["state"] for one in messages] == ["STAGED", "LANDED", "STAGED"]


def test_what_does_not_fit_into_the_time_comes_back(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [hop.land(f"{place}.csv", GOOD) for place in range(3)]
    left = iter([230.0, 0.5, 0.5])
    monkeypatch.setattr(
        hop.machine.context, "get_remaining_time_in_millis", lambda: int((next(left) + 15) * 1000), raising=False
    )
    assert len(hop.go(*messages)) == 2
    assert sorted(hop.raw(one)["state"] for one in messages) == ["LANDED", "LANDED", "STAGED"]


# The starter


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        {"schema": 2},
        {"schema": 1, "team": TEAM, "dataset": DATASET},
        {"schema": 1, "team": TEAM, "dataset": DATASET, "id": "s3://b/k", "key": "k", "size": "7", "version_id": None,
         "sequencer": "0"},
    ],
)  # fmt: skip
def test_a_message_of_another_shape_fails_alone(hop: Hop, body: Any) -> None:
    message = hop.land("a.csv", GOOD)
    assert hop.go(body, message) == ["m0"]
    assert hop.raw(message)["state"] == "STAGED"


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT"])
def test_an_execution_that_did_not_succeed_fails_every_message(hop: Hop, status: str) -> None:
    hop.machine.status = status
    assert hop.go(hop.land("a.csv", GOOD), hop.land("b.csv", GOOD)) == ["m0", "m1"]


def test_no_answer_fails_every_message(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(**_: Any) -> Any:
        raise ReadTimeoutError(endpoint_url="https://states")

    monkeypatch.setattr(hop.machine, "start_sync_execution", unanswered)
    assert hop.go("not json", hop.land("a.csv", GOOD)) == ["m0", "m1"]


def test_the_client_waits_longer_than_the_function_and_never_starts_again(hop: Hop) -> None:
    config = hop.botocore_states.meta.config
    assert config.read_timeout == 310
    assert config.retries["total_max_attempts"] == 1


def test_a_group_that_breaks_off_fails_alone(hop: Hop) -> None:
    hop.register(dataset="trains", light_transform="gone.sql")
    stray = hop.land("a.csv", GOOD, prefix=f"{TEAM}/trains/")
    message = hop.land("a.csv", GOOD)
    assert hop.go(stray, message) == ["m0"]
    assert [group["dataset"] for group in hop.machine.inputs[0]["groups"]] == ["trains", DATASET]


def test_a_dataset_that_is_not_registered_comes_back_without_harm(hop: Hop) -> None:
    hop.register(dataset="trains")
    strays = [hop.land(name, GOOD, prefix=f"{TEAM}/trains/") for name in ("a.csv", "b.csv")]
    hop.lake.datasets.delete_item(Key={"team": TEAM, "dataset": "trains"})
    message = hop.land("a.csv", GOOD)
    assert hop.go(strays[0], message, strays[1]) == ["m0", "m2"]
    assert [group["dataset"] for group in hop.machine.inputs[0]["groups"]] == [DATASET]
    assert hop.go(*strays) == ["m0", "m1"]
    assert len(hop.machine.inputs) == 1
    hop.register(dataset="trains")
    assert hop.go(*strays) == []


# A dataset whose light transform is Python

PYTHON = """
from pathlib import Path

def transform(path: Path):
    assert path.name.endswith(".txt"), path.name
    for line in path.read_text().splitlines():
        if line == "forever":
            while True:
                pass
        if line == "other columns":
            yield {"carrier": "UA", "late": 1}
        carrier, delay = line.split("|")
        yield {"carrier": carrier, "delay": int(delay)}
"""


@pytest.fixture
def python_hop(hop: Hop) -> Hop:
    hop.write("light.py", PYTHON)
    hop.register(light_transform="light.py", transform_function_arn=OWN_FUNCTION)
    return hop


def test_python_stages_what_it_returns_in_its_own_function(python_hop: Hop, tmp_path: Path) -> None:
    message = python_hop.land("2013/a b.txt", "UA|7\nAA|-3\n")
    assert python_hop.go(message) == []
    assert [one["transform_function_arn"] for one in python_hop.machine.inputs[0]["groups"]] == [OWN_FUNCTION]
    staged = python_hop.staged(message)
    assert staged is not None
    assert staged["rows"] == 2
    bucket, key = names.split_object_id(python_hop.staged_id(message))
    (tmp_path / "x").write_bytes(python_hop.lake.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    found = duckdb.connect().execute("SELECT carrier, delay FROM read_parquet(?)", [str(tmp_path / "x")]).fetchall()
    assert found == [("UA", 7), ("AA", -3)]


def test_each_object_of_python_has_its_own_end(python_hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_transform, "SECONDS", 2)
    good = [python_hop.land(f"{place}.txt", f"UA|{place}\n") for place in range(2)]
    bad = {
        "raises.txt": ("UA|x\n", "light.py, line 13: ValueError: invalid literal for int()"),
        "named.csv": ("UA|1\n", "light.py, line 5: AssertionError: named.csv"),
        "large.txt": ("UA|99999999999\n", "row 1, column 'delay': '99999999999' is not of type int"),
        "columns.txt": ("other columns\n", "row 1: light.py returned column 'late', which is not declared"),
        "never.txt": ("forever\n", "light.py did not return within 2 s"),
    }
    refused = {name: python_hop.land(name, body) for name, (body, _) in bad.items()}
    assert python_hop.go(*refused.values(), *good) == []
    assert [python_hop.raw(one)["state"] for one in good] == ["STAGED"] * 2
    for name, (_, reason) in bad.items():
        row = python_hop.raw(refused[name])
        assert row["state"] == "QUARANTINED"
        assert row["reason"].startswith(reason)


def test_python_that_does_not_fit_into_the_time_comes_back(python_hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [python_hop.land(f"{place}.txt", "UA|1\n") for place in range(3)]
    left = iter([200.0, python_transform.SECONDS, python_transform.SECONDS])
    monkeypatch.setattr(
        python_hop.machine.context, "get_remaining_time_in_millis", lambda: int((next(left) + 15) * 1000), raising=False
    )
    assert len(python_hop.go(*messages)) == 2
    assert sorted(python_hop.raw(one)["state"] for one in messages) == ["LANDED", "LANDED", "STAGED"]


@pytest.mark.parametrize("text", [None, "def transform(path:\n", "def other(path): ..."])
def test_python_that_cannot_be_run_at_all_is_the_groups_fault(python_hop: Hop, text: str | None) -> None:
    if text is None:
        python_hop.register(light_transform="gone.py", transform_function_arn=OWN_FUNCTION)
    else:
        python_hop.write("light.py", text)
    message = python_hop.land("a.txt", "UA|1\n")
    assert python_hop.go(message) == ["m0"]
    assert python_hop.raw(message)["state"] == "LANDED"


def test_python_runs_nowhere_but_in_its_own_function(python_hop: Hop) -> None:
    event = {"team": TEAM, "dataset": DATASET, "items": []}
    with pytest.raises(python_hop.transform.WrongFunctionError):
        python_hop.transform.handler(event, python_hop.machine.context)
    python_hop.register(dataset="trains", light_transform="light.py")
    with pytest.raises(python_hop.own_transform.WrongFunctionError):
        python_hop.own_transform.handler({**event, "dataset": "trains"}, python_hop.machine.context)
    assert python_hop.own_transform.handler(event, python_hop.machine.context) == {"results": []}


def test_a_row_of_before_the_upgrade_names_its_sql_by_the_old_name(hop: Hop) -> None:
    hop.register(light_transform=None, transform_sql="light.sql")
    message = hop.land("a.csv", GOOD)
    assert hop.go(message) == []
    hop.register(light_transform=None, transform_sql="gone.sql")
    hop.reload()
    assert hop.go(message) == ["m0"]


# Formats that the first hop meets


def test_a_decompression_bomb_asks_for_attention_as_too_large(hop: Hop) -> None:
    message = hop.land("a.csv.gz", gzip.compress(GOOD.encode() + b"UA,1\n" * 2_000_000))
    assert hop.go(message) == []
    row = hop.raw(message)
    assert (row["state"], row["reason"]) == (
        "TOO_LARGE", "its text is more than 1 MiB, though the file itself is smaller",
    )  # fmt: skip
    assert [one["id"] for one in hop.lake.attention()] == [message["id"]]


def test_json_lines_are_staged(hop: Hop) -> None:
    hop.register(format={"type": "json"})
    hop.reload()
    good = hop.land("a.json", '{"carrier": "ua", "delay": 7}\n')
    bad = hop.land("b.json", '{"carrier": "ua", "delay": 7}\n{"carrier": "ua", "delay": "7"}\n')
    assert hop.go(good, bad) == []
    assert hop.raw(good)["state"] == "STAGED"
    assert hop.raw(bad)["reason"] == "line 2, column 'delay': '7' (text) is not of type int"


def test_json_beyond_the_bounds_is_quarantined(hop: Hop) -> None:
    hop.register(format={"type": "json"})
    hop.reload()
    sound = '{"carrier": "ua", "delay": 7'
    deep = f'{sound}}}\n{sound}, "more": {"[" * json_file.DEEPEST}{"]" * json_file.DEEPEST}}}\n'
    wide = json.dumps(dict.fromkeys(["carrier", *map(str, range(json_file.MOST_FIELDS))], "x"))
    beyond = {
        "deep.json": (deep, f"line 2: nested deeper than {json_file.DEEPEST}"),
        "wide.json": (wide, f"line 1: an object of more than {json_file.MOST_FIELDS:,} fields"),
    }
    landed = {name: hop.land(name, body) for name, (body, _) in beyond.items()}
    assert hop.go(*landed.values()) == []
    for name, (_, reason) in beyond.items():
        row = hop.raw(landed[name])
        assert (row["state"], hop.staged(landed[name])) == ("QUARANTINED", None)
        assert row["reason"].startswith(reason)


@pytest.mark.parametrize("letter", ["x", "ü", "€", "😀", "\x01"], ids=["ascii", "two", "three", "four", "control"])
def test_ten_of_the_longest_keys_fit_into_a_state(hop: Hop, letter: str) -> None:
    room = names.LONGEST_KEY_BYTES - len(f"{TEAM}/{DATASET}/0")
    size = len(letter.encode())
    tail = letter * (room // size) + "y" * (room % size)
    messages = []
    for place in range(10):
        key = f"{TEAM}/{DATASET}/{place}{tail}"
        assert len(key.encode()) == names.LONGEST_KEY_BYTES
        identity = names.object_id(hop.lake.raw_bucket, key)
        messages.append({
            "schema": 1, "id": identity, "team": TEAM, "dataset": DATASET, "bucket": hop.lake.raw_bucket, "key": key,
            "size": 5 * 2**40, "version_id": "v" * 1024, "sequencer": "f" * 32,
        })  # fmt: skip
        hop.lake.objects.put_item(Item={"id": identity, "state": "LANDED", "sequencer": "f" * 32})
    assert hop.go(*messages) == []
    assert {outcome for outcome, _ in hop.machine.outcomes.values()} == {"TOO_LARGE"}
    print(f"\nlargest state for {letter!r}: {hop.machine.largest:,} of {STATE_LIMIT:,} bytes")
    assert hop.machine.largest < STATE_LIMIT


def test_the_longest_key_is_staged(hop: Hop) -> None:
    name = "x" * (names.LONGEST_KEY_BYTES - len(f"{TEAM}/{DATASET}/"))
    message = hop.land(name, GOOD)
    assert hop.go(message) == []
    _, key = names.split_object_id(hop.raw(message)["staged_id"])
    assert len(key.encode()) <= names.LONGEST_KEY_BYTES
    assert key.startswith(f"{TEAM}/{DATASET}/")
    assert key.endswith(f"~{message['sequencer']}.parquet")


# Waking the second hop, and the bill


def test_a_full_batch_wakes_start_batch(hop: Hop) -> None:
    hop.go(*(hop.land(f"{place}.csv", GOOD) for place in range(9)))
    assert hop.woken == []
    hop.go(hop.land("9.csv", GOOD))
    assert hop.woken == [
        {"FunctionName": START_BATCH, "InvocationType": "Event", "Payload": {"team": TEAM, "dataset": DATASET}}
    ]


def test_waking_is_left_to_the_tick_when_it_fails(hop: Hop, broken: Callable[..., None]) -> None:
    message = hop.land("a.csv", GOOD)
    broken("GetQueueAttributes")
    assert hop.go(message) == []


def test_ten_objects_cost_three_writes_each_and_few_calls(hop: Hop, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(monkeypatch) as routed:
        messages = [hop.land(f"{place}.csv", GOOD) for place in range(10)]
    hop.reload()
    with counting(monkeypatch) as cold:
        assert hop.go(*messages) == []
    again = [hop.land(f"warm{place}.csv", GOOD) for place in range(10)]
    with counting(monkeypatch) as warm:
        assert hop.go(*again) == []
    for name, calls in (("cold", cold), ("warm", warm)):
        print(f"\n{name}, ten objects: {dict(calls.made)}: {sum(calls.made.values()) / 10} calls an object")
    assert routed.writes == 10
    assert warm.writes == cold.writes == 20
    assert dict(warm.made) == {
        "s3.GetObject": 10, "s3.PutObject": 10, "dynamodb.BatchGetItem": 1, "dynamodb.PutItem": 10,
        "dynamodb.UpdateItem": 10, "sqs.SendMessageBatch": 1, "sqs.GetQueueAttributes": 1,
    }  # fmt: skip
    assert cold.made - warm.made == {"s3.GetObject": 1, "dynamodb.GetItem": 3}


def test_no_file_is_left_on_the_disk(hop: Hop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = tmp_path / "tarn-light-4194305"
    dead.mkdir()
    (dead / "raw").write_bytes(bytes(100))
    monkeypatch.setattr(hop.transform.tempfile, "gettempdir", lambda: str(tmp_path))
    hop.reload()  # as a new process begins
    hop.go(hop.land("a.csv", GOOD), hop.land("b.csv", b"\xff\xd8\xff"))
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []
    assert not dead.exists()


def test_a_refusal_does_not_undo_what_is_staged(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.go(message)
    hop.register(columns=[{"name": "other", "type": "int"}])
    hop.reload()
    assert hop.go(message) == []
    assert hop.machine.outcomes[message["id"]][0] == "QUARANTINED"
    assert hop.raw(message)["state"] == "STAGED"
    assert hop.lake.attention() == []


def test_a_dataset_without_sql_keeps_its_columns_and_one_whose_sql_is_missing_waits(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.register(light_transform="gone.sql")
    hop.reload()
    assert hop.go(message) == ["m0"]
    hop.register(light_transform=None)
    hop.reload()
    assert hop.go(message) == []


@pytest.mark.parametrize(
    "told",
    [
        [],
        [{"id": "ID", "outcome": "DONE"}],
        [{"outcome": "STAGED"}],
        [{"id": "ID", "outcome": "STAGED"}],
        [{"id": "s3://another/key", "outcome": "STAGED", "size": 1, "etag": "x"}],
    ],
)
def test_a_datasets_own_function_that_tells_too_little_fails_its_objects(hop: Hop, told: list[dict[str, Any]]) -> None:
    message = hop.land("a.csv", GOOD)
    results = json.loads(json.dumps(told).replace("ID", message["id"]))
    event = {"team": TEAM, "dataset": DATASET, "items": [message], "results": results}
    answer = hop.record.handler(event, hop.machine.context)
    assert [one["outcome"] for one in answer["outcomes"]] == ["FAILED"]
    assert hop.raw(message)["state"] == "LANDED"


def test_a_version_that_the_catalog_does_not_know_comes_back(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    hop.lake.objects.delete_item(Key={"id": message["id"]})
    assert hop.go(message) == ["m0"]
    assert hop.staged(message) is None


def test_a_removed_object_is_not_told_of(hop: Hop) -> None:
    message = hop.land("a.csv", GOOD)
    removed = catalog.Removed(hop.lake.raw_bucket, message["key"], "f" * 32, "2026-11-23T12:00:00.000Z")
    catalog.apply_removed(hop.lake.objects, removed, NOON)
    assert hop.go(message) == []
    assert hop.machine.outcomes[message["id"]] == ("STAGED", "superseded")
    assert hop.raw(message)["state"] == "DELETED"
    assert receive_all(hop.lake.sqs, hop.lake.dataset_queue_url) == []


def test_the_machine_of_these_tests_runs_the_machines_states() -> None:
    assert first_hop_world.HANDLERS == ("start_raw_to_stage", "transform_objects", "record_outcomes")
