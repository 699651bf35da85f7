"""``tarn explain``: the life of an object, from wherever it is asked for, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from lake import names
from tarn import cli, explain
from tarn.contract import ContractError
from tarn.explain import Life
from tarn.lake import Lake
from tests.integration.reconcile_world import BATCH, NOW, World, open_world

REQUEST = "11111111-2222-3333-4444-555555555555"
GROUPS = {
    "foundations/route-object-log-group/name": "route",
    "pipeline/air/main/start-raw-to-stage-log-group/name": "start",
    "pipeline/air/main/transform-objects-log-group/name": "transform",
}


@pytest.fixture
def world() -> Iterator[World]:
    """A batch of two published objects, a quarantined object, and what the functions wrote of them."""
    with open_world() as opened:
        for name, group in GROUPS.items():
            boto3.client("ssm").put_parameter(Name=f"/tarn/test/{name}", Value=group, Type="String")
            boto3.client("logs").create_log_group(logGroupName=group)
            boto3.client("logs").create_log_stream(logGroupName=group, logStreamName="s")
        opened.publish()
        bad = opened.land("bad ñ.csv", state="QUARANTINED", reason="line 3: no number")
        opened.edit(bad["id"], event_time=NOW.isoformat())
        a, b = (f"s3://{opened.lake.raw_bucket}/air/flights/{one}.csv" for one in ("a", "b"))
        opened.edit(a, event_time=NOW.isoformat())
        write("route", {"message": "routed", "objects": [[a, "LANDED"], [b, "KNOWN"], [bad["id"], "LANDED"]]})
        write(
            "start",
            {"message": "message batch settled", "execution": "ex-1", "objects": [[a, "STAGED"], [b, "STAGED"]]},
        )
        line = {"message": "object transformed", "team": "air", "dataset": "flights", "function_request_id": REQUEST}
        write(
            *(
                "transform",
                {**line, "id": a, "rows": 3},
                {**line, "id": b, "rows": 4},
                {**line, "id": f"{a}.old", "rows": 5},
            ),
            {**line, "id": bad["id"], "outcome": "QUARANTINED"},
            f"{REQUEST} Task timed out",
        )
        yield opened


def write(group: str, *texts: Any) -> None:
    events = [
        {"timestamp": int(NOW.timestamp() * 1000) + place, "message": one if isinstance(one, str) else json.dumps(one)}
        for place, one in enumerate(texts)
    ]
    boto3.client("logs").put_log_events(logGroupName=group, logStreamName="s", logEvents=events)


def life_of(world: World, zone: str, key: str) -> Life:
    return explain.explain(Lake("test"), names.object_id(getattr(world.lake, f"{zone}_bucket"), key))


def happened(life: Life) -> set[tuple[str, str, str]]:
    return {(one.what, one.where, one.detail) for one in life.moments}


def test_a_raw_object_is_followed_to_what_was_published(world) -> None:
    life = life_of(world, "raw", "air/flights/a.csv")
    staged = world.row(life.id)["staged_id"]
    assert (life.zone, life.state) == ("raw", "STAGED")
    assert life.descendants[0] == staged
    assert [one for one in life.descendants if one.endswith("part-0.parquet")] == [
        f"s3://{world.lake.analytics_bucket}/air/flights/day={day}/batch={BATCH}/part-0.parquet" for day in (1, 2)
    ]
    assert happened(life) >= {
        ("routed", "route_object", "LANDED"),
        ("message batch settled", "start_raw_to_stage", "STAGED execution=ex-1"),
        ("staged", "transform_objects", "7 bytes, 1 rows"),
        ("batch is made", "start_batch", BATCH),
    }
    assert [one.at for one in life.moments] == sorted(one.at for one in life.moments)
    assert life.following == f"nothing is left to do (tarn logs air/flights --batch {BATCH} shows how it went)"


def test_lines_of_other_objects_are_left_out_and_a_call_that_ended_is_not(world) -> None:
    said = [
        one.detail for one in life_of(world, "raw", "air/flights/a.csv").moments if one.where == "transform_objects"
    ]
    assert not [one for one in said if "b.csv" in one or "a.csv.old" in one or "ñ" in one]
    assert [one for one in said if "rows=3" in one]
    assert [one for one in said if "Task timed out" in one]


def test_a_staged_object_has_its_ancestor_and_a_published_file_all_of_them(world) -> None:
    raw = f"s3://{world.lake.raw_bucket}/air/flights/a.csv"
    staged = world.row(raw)["staged_id"]
    life = life_of(world, "stage", names.split_object_id(staged)[1])
    assert (life.state, life.ancestors) == ("PUBLISHED", [raw])
    assert ("landed", "S3") in {(one.what, one.where) for one in life.moments}
    published = life_of(world, "analytics", f"air/flights/day=1/batch={BATCH}/part-0.parquet")
    assert set(published.ancestors) >= {raw, staged}
    assert len(published.ancestors) == 4


def test_what_is_in_quarantine_says_why_and_what_to_do(world) -> None:
    life = life_of(world, "raw", "air/flights/bad ñ.csv")
    assert (life.state, life.why) == ("QUARANTINED", "line 3: no number")
    assert life.following.startswith(f"tarn release {life.id}")
    assert ("routed", "route_object", "LANDED") in happened(life)
    assert [one for one in life.moments if "QUARANTINED" in one.detail]


@pytest.mark.parametrize(
    ("state", "following"),
    [
        ("FAILED", f"tarn logs air/flights --batch {BATCH}; then tarn retry {BATCH}"),
        ("STARTED", f"tarn logs air/flights --batch {BATCH} --follow"),
    ],
)
def test_an_object_whose_batch_is_not_done_says_where_it_is(state: str, following: str) -> None:
    with open_world() as world:
        pairs = world.publish()
        key = {"owner": "air#flights", "batch_id": BATCH}
        row = world.lake.batches.get_item(Key=key)["Item"]
        times = {"started_at": "2026-11-23T12:01:00.000Z", "execution_arn": f"arn:x:{BATCH}-1"}
        world.lake.batches.put_item(Item={**row, **times, "state": state, "reason": "job died"})
        world.edit(pairs[0][1]["id"], state="BATCHED")
        life = life_of(world, "raw", "air/flights/a.csv")
        assert (life.state, life.why, life.following) == ("STAGED", "job died", following)
        assert ("batch is started", "start_batch", f"execution={BATCH}-1") in happened(life)


def test_a_staged_object_that_was_replaced_waits_for_the_tick() -> None:
    with open_world() as world:
        pairs = world.publish()
        world.edit(pairs[0][1]["id"], state="STALE")
        following = life_of(world, "raw", "air/flights/a.csv").following
    assert "register air/flights with OnChange: replace, and the next tick" in following
    assert "tarn replay" not in following, "the raw row names what was staged last, not this"


def test_lines_count_until_the_batch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is started has no last moment yet: what is said hours after its start belongs to it."""
    now = datetime.now(UTC) + timedelta(hours=3)
    asked: list[datetime] = []

    def lines_of(*_: Any, until: datetime, **__: Any) -> Any:
        asked.append(until)
        return SimpleNamespace(lines=lambda _since: [])

    monkeypatch.setattr(explain, "Reader", lines_of)
    monkeypatch.setattr(explain, "datetime", SimpleNamespace(now=lambda _zone: now))
    with open_world() as world:
        pairs = world.publish()
        row = world.lake.batches.get_item(Key={"owner": "air#flights", "batch_id": BATCH})["Item"]
        unfinished = {name: value for name, value in row.items() if name != "finished_at"}
        world.lake.batches.put_item(Item={**unfinished, "state": "STARTED"})
        world.edit(pairs[0][1]["id"], state="BATCHED")
        life_of(world, "raw", "air/flights/a.csv")
    assert asked == [now + explain.AROUND]


def test_an_object_without_a_row_or_of_another_version_says_so() -> None:
    with open_world() as world:
        lost = world.land("lost.csv")
        world.drop(lost["id"])
        life = life_of(world, "raw", "air/flights/lost.csv")
        assert (life.state, life.following) == ("no row", "tarn reconcile air/flights")
        raw, _ = world.stage("x.csv")
        world.lake.s3.put_object(Bucket=world.lake.raw_bucket, Key="air/flights/x.csv", Body=b"new")
        changed = life_of(world, "raw", "air/flights/x.csv")
        assert "replaced" in {one.what for one in changed.moments}
        assert "it waits for a batch" in changed.following
        assert raw["id"] == changed.id


def test_an_object_of_no_dataset_and_one_that_is_nowhere() -> None:
    with open_world() as world:
        other = world.land("../../other/x.csv")
        world.drop(other["id"])
        world.lake.s3.put_object(Bucket=world.lake.raw_bucket, Key="sea/ships/x.csv", Body=b"x")
        identity = f"s3://{world.lake.raw_bucket}/sea/ships/x.csv"
        world.lake.objects.put_item(
            Item={**other, "id": identity, "team": "sea", "dataset": "ships", "state": "UNROUTED"}
        )
        assert life_of(world, "raw", "sea/ships/x.csv").following == "register sea/ships, and it is routed by itself"
        with pytest.raises(ContractError, match="neither S3 nor the object catalog knows"):
            life_of(world, "raw", "air/flights/none.csv")
        with pytest.raises(ContractError, match="in no zone of this lake"):
            explain.explain(Lake("test"), "s3://elsewhere/x")


def test_the_command_prints_the_life(world) -> None:
    identity = f"s3://{world.lake.raw_bucket}/air/flights/a.csv"
    done = CliRunner().invoke(cli.app, ["explain", identity, "--environment", "test"])
    assert done.exit_code == 0, done.output
    assert "Made of it" in done.output
    assert "It is STAGED" in done.output
