"""``tarn retry`` and ``tarn replay``: which batches run again, from what, and what stays as it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from typer.testing import CliRunner

from lake import attempts, batches, claim, names, rows
from lake.batches import Batch, State
from tarn import again, cli
from tarn.again import Again, RefusedError, Selection
from tarn.lake import Lake as Deployed
from tests.integration.first_hop_world import DATASET, NOON, SHARED_FUNCTION, TEAM, Hop
from tests.integration.tables import Lake, lake

__all__ = ["lake"]
GOOD = "carrier,delay\nua,7\nAA,NA\n"
EVERYTHING = Selection()
BAD = "carrier,delay\nua,seven\n"


class World(Hop):
    """A lake with its contract, whose first hop is the real one; batches are made and finished by hand."""

    def __init__(self, lake: Lake, patch: pytest.MonkeyPatch) -> None:
        super().__init__(lake, patch)
        contract = {
            "foundations/raw-bucket/name": lake.raw_bucket,
            "foundations/stage-bucket/name": lake.stage_bucket,
            "foundations/objects-table/name": lake.objects.name,
            "foundations/batches-table/name": lake.batches.name,
            "foundations/datasets-table/name": lake.datasets.name,
            "pipeline/air/main/start-batch/arn": "start-batch",
            "pipeline/air/main/raw-to-stage/arn": "arn:aws:states:eu-west-1:123456789012:stateMachine:raw-to-stage",
            "pipeline/air/main/transform-objects/arn": SHARED_FUNCTION,
            "dataset/air/main/flights/staged-queue/url": lake.dataset_queue_url,
        }
        for name, value in contract.items():
            boto3.client("ssm").put_parameter(Name=f"/tarn/test/{name}", Value=value, Type="String")
        self.calls: list[dict[str, Any]] = []
        real = BaseClient._make_api_call

        def call(client: BaseClient, operation: str, arguments: Any) -> Any:
            if operation == "Invoke":
                self.calls.append(json.loads(arguments["Payload"]))
                return {"StatusCode": 202}
            if operation == "StartSyncExecution":
                return self.machine.start_sync_execution(**arguments)
            return real(client, operation, arguments)

        patch.setattr(BaseClient, "_make_api_call", call)
        self.again = Again(Deployed("test"))

    def stage(self, **files: str) -> dict[str, str]:
        """Files land and pass the first hop; gives the staged object of each."""
        found = {}
        for name, text in files.items():
            message = self.land(f"{name}.csv", text)
            self.go(message)
            found[name] = self.staged_id(message)
        return found

    def batch(self, batch_id: str, *staged: str, state: State = State.PUBLISHED) -> None:
        """A batch that holds these objects and has come to ``state``."""
        batch = Batch(TEAM, DATASET, batch_id)
        batches.open_batch(self.lake.batches, batch, NOON)
        for identity in staged:
            held = {"state": "BATCHED", "batch_id": batch_id}
            rows.update(self.lake.objects, {"id": identity}, held, condition=claim.Attr("id").exists())
        objects = [{"id": identity, "rows": 2} for identity in staged]
        manifest = {"schema": 1, "batch_id": batch_id, "registration": {}, "objects": objects}
        self.lake.s3.put_object(
            Bucket=self.lake.stage_bucket, Key=batch.manifest_key, Body=json.dumps(manifest).encode()
        )
        batches.commit(self.lake.batches, batch, NOON, objects=len(staged), size=1, has_rules=False)
        if state in batches.FINISHED:
            batches.finish(self.lake.batches, batch, state, NOON)

    def row(self, batch_id: str) -> dict[str, Any]:
        return dict(self.lake.batches.get_item(Key=batches.row_key(TEAM, DATASET, batch_id))["Item"])

    def manifest(self, batch_id: str) -> dict[str, Any]:
        got = self.lake.s3.get_object(Bucket=self.lake.stage_bucket, Key=self.row(batch_id)["manifest"])
        return dict(json.loads(got["Body"].read()))

    def replay(self, selection: Selection = EVERYTHING, **options: bool) -> again.Replayed:
        address = Deployed("test").contract.address(TEAM, DATASET)
        return self.again.replay(address, selection, NOON, **options)


@pytest.fixture
def world(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(lake, monkeypatch)


WOKEN = {"team": TEAM, "dataset": DATASET, "claim": False}


@pytest.mark.parametrize("state", [State.FAILED, State.FAILED_QUALITY])
def test_a_retry_makes_one_attempt_however_often_it_is_said(world: World, state: State) -> None:
    world.batch("b1", world.stage(a=GOOD)["a"], state=state)
    assert world.again.retry("b1", NOON, dry_run=True).execution_name == "b1-2"
    assert (world.row("b1")["state"], world.calls) == (state, [])
    first = world.again.retry("b1", NOON)
    assert first.planned is not None
    assert (first.execution_name, first.planned.contents.objects) == ("b1-2", 1)
    assert world.again.retry("b1", NOON).planned is None
    assert (world.row("b1")["state"], world.row("b1")["attempt"]) == ("READY", 2)
    assert world.calls == [WOKEN, WOKEN]


@pytest.mark.parametrize(
    ("state", "why"), [(State.PUBLISHED, "tarn replay air/flights"), (State.OPEN, "is OPEN"), (None, "no dataset")]
)
def test_a_retry_of_what_did_not_fail_is_refused(world: World, state: State | None, why: str) -> None:
    if state is State.OPEN:
        batches.open_batch(world.lake.batches, Batch(TEAM, DATASET, "b1"), NOON)
    elif state:
        world.batch("b1", state=state)
    with pytest.raises(RefusedError, match=why):
        world.again.retry("b1", NOON)
    assert world.calls == []


def test_a_retry_without_a_dataset_or_a_manifest_says_so(world: World) -> None:
    world.batch("b1", world.stage(a=GOOD)["a"], state=State.FAILED)
    world.lake.s3.delete_object(Bucket=world.lake.stage_bucket, Key=world.row("b1")["manifest"])
    with pytest.raises(RefusedError, match=r"manifest\.json does not exist"):
        world.again.retry("b1", NOON)
    world.lake.datasets.delete_item(Key={"team": TEAM, "dataset": DATASET})
    with pytest.raises(RefusedError, match="not registered"):
        world.again.retry("b1", NOON)
    assert world.row("b1")["state"] == "FAILED"


def test_a_replay_runs_the_batches_that_hold_the_objects(world: World) -> None:
    staged = world.stage(a1=GOOD, a2=GOOD, b1=GOOD, c1=GOOD, waits=GOOD)
    world.batch("b1", staged["a1"], staged["b1"])
    world.batch("b2", staged["a2"], state=State.FAILED)
    world.batch("b3", staged["c1"])
    world.stage(spoiled=BAD)
    dry = world.replay(Selection("a"), dry_run=True)
    assert (dry.made, world.row("b1")["attempt"]) == ({"b1": "b1-2", "b2": "b2-2"}, 1)
    done = world.replay(Selection("a"))
    assert (done.made, done.objects) == ({"b1": "b1-2", "b2": "b2-2"}, {"STAGED": 2})
    assert [one["id"] for one in world.manifest("b1")["objects"]] == [staged["a1"], staged["b1"]]
    assert world.calls == [WOKEN]
    everything = world.replay()
    assert (everything.made, sorted(everything.under_way)) == ({"b3": "b3-2"}, ["b1", "b2"])
    assert everything.objects == {"STAGED": 5, "QUARANTINED": 1}


def test_a_replay_takes_what_landed_in_a_stretch_of_time(world: World) -> None:
    world.batch("b1", world.stage(a=GOOD)["a"])
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert world.replay(Selection(since=now + hour), dry_run=True).made == {}
    assert world.replay(Selection(until=now - hour), dry_run=True).made == {}
    assert world.replay(Selection(since=now - hour, until=now + hour), dry_run=True).made == {"b1": "b1-2"}


def test_from_raw_stages_again_under_the_same_keys_and_then_runs(world: World) -> None:
    staged = world.stage(a=GOOD)
    spoiled = world.land("spoiled.csv", BAD)
    world.go(spoiled)
    assert world.raw(spoiled)["state"] == "QUARANTINED"
    world.batch("b1", staged["a"])
    before = world.lake.row(staged["a"])
    world.register(asset_prefix="assets/4567/flights/", on_mismatch="null")
    world.lake.s3.put_object(
        Bucket=world.lake.asset_bucket,
        Key="assets/4567/flights/light.sql",
        Body=b"SELECT carrier, delay, 1 AS more FROM source LIMIT 1",
    )
    world.reload()
    dry = world.replay(from_raw=True, dry_run=True)
    assert (dry.staged, dry.made) == ({"objects": 2}, {"b1": "b1-2"})
    assert world.lake.row(staged["a"]) == before
    done = world.replay(from_raw=True)
    assert (done.staged, done.made, done.failed) == ({"STAGED": 2}, {"b1": "b1-2"}, {})
    after = world.lake.row(staged["a"])
    assert (before["rows"], after["rows"]) == (2, 1)
    assert after == before | {name: after[name] for name in ("rows", "size", "etag", "version_id")}
    head = world.lake.s3.head_object(Bucket=world.lake.stage_bucket, Key=names.split_object_id(staged["a"])[1])
    assert (head["VersionId"], head["ContentLength"]) == (after["version_id"], after["size"])
    [listed] = world.manifest("b1")["objects"]
    assert (listed["id"], listed["rows"], listed["version_id"]) == (staged["a"], 1, after["version_id"])
    assert world.raw(spoiled)["state"] == "STAGED", "what was refused has its second chance"
    assert world.lake.attention() == []
    assert "batch_id" not in (world.staged(spoiled) or {"batch_id": 1}), "and goes by the queue, as everything new"


def test_from_raw_said_twice_stages_and_runs_once(world: World) -> None:
    staged = world.stage(a=GOOD, b=GOOD)
    world.batch("b1", *staged.values())
    first = world.replay(from_raw=True)
    assert (first.staged, first.made) == ({"STAGED": 2}, {"b1": "b1-2"})
    before = [world.lake.row(one) for one in staged.values()]
    again_said = world.replay(from_raw=True)
    assert (again_said.staged, again_said.made, again_said.under_way) == ({}, {}, ["b1"])
    assert (world.row("b1")["attempt"], [world.lake.row(one) for one in staged.values()]) == (2, before)
    found = world.lake.s3.list_objects_v2(Bucket=world.lake.stage_bucket, Prefix="air/flights/")["Contents"]
    assert len(found) == 2, "the same keys"


def test_from_raw_in_groups_of_ten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "GROUPS_AT_ONCE", 1)  # on Lambda each group has a process of its own
    staged = world.stage(**{f"f{number:02}": GOOD for number in range(12)})
    world.batch("b1", *staged.values())
    world.machine.inputs.clear()
    assert world.replay(from_raw=True).staged == {"STAGED": 12}
    assert sorted(len(group["items"]) for one in world.machine.inputs for group in one["groups"]) == [2, 10]


def test_a_batch_whose_object_could_not_be_staged_again_is_left_as_it_is(world: World) -> None:
    staged = world.stage(a=GOOD, b=GOOD)
    world.batch("b1", staged["a"])
    world.batch("b2", staged["b"])
    world.machine.status = "FAILED"
    done = world.replay(Selection("a"), from_raw=True)
    assert done.made == {}
    assert list(done.failed) == [f"s3://{world.lake.raw_bucket}/air/flights/a.csv"]
    assert world.row("b1")["attempt"] == 1


def test_files_of_a_batch_that_runs_are_not_touched(world: World) -> None:
    staged = world.stage(a=GOOD)
    world.batch("b1", staged["a"], state=State.READY)
    before = world.lake.row(staged["a"])
    done = world.replay(from_raw=True)
    assert (done.staged, done.made, done.under_way) == ({}, {}, ["b1"])
    assert world.lake.row(staged["a"]) == before


def test_a_replay_of_a_dataset_that_replaces_leaves_out_what_changed(world: World) -> None:
    staged = world.stage(a=GOOD, b=GOOD)
    world.batch("b1", *staged.values())
    world.register(on_change="replace")
    world.stage(a=GOOD + "DL,1\n")
    assert (world.lake.row(staged["a"]) or {})["state"] == "STALE"
    world.replay(Selection("b"))
    manifest = world.manifest("b1")
    assert ([one["id"] for one in manifest["objects"]], manifest["left_out"]) == ([staged["b"]], [staged["a"]])
    attempts.settle_left_out(world.lake.objects, "b1", manifest["left_out"])
    assert (world.lake.row(staged["a"]) or {})["state"] == "SUPERSEDED"


def tarn(*words: str) -> Any:
    return CliRunner().invoke(cli.app, [*words, "--environment", "test"], env={"COLUMNS": "200"})


def test_the_commands_say_what_they_did(world: World) -> None:
    staged = world.stage(a=GOOD, b=GOOD)
    world.batch("b1", staged["a"])
    world.batch("b2", staged["b"], state=State.FAILED)
    assert tarn("replay", "air/flights", "--since", "1h", "--dry-run").output.splitlines() == [
        "objects: 2 STAGED",
        "attempts that would be made: 2",
        "  b1-2",
        "  b2-2",
    ]
    assert tarn("retry", "b2").output == "b2-2 takes 1 objects\n"
    assert tarn("retry", "b2").output == "b2-2 is READY already\n"
    done = tarn("replay", "air/flights")
    assert (done.exit_code, "b2 is under way" in done.output) == (0, True)
    assert tarn("retry", "b3").exit_code == 1
    assert "neither a length of time" in tarn("replay", "air/flights", "--since", "yesterday").output
    assert "can be raw or stage" in tarn("replay", "air/flights", "--from", "analytics").output
