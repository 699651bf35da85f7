"""``tarn reconcile`` on a standing lake in moto: each damage is found, and repaired by the lake's own ways."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import duckdb
import pytest
from typer.testing import CliRunner

from lake import events, names
from tarn import cli, reconcile
from tarn.inventory import InventoryError
from tarn.reconcile import NOTHING_SEEN, Announcement, Event, Kind, NewAttempt, Restoration, Wake
from tarn.repairs import Repairer
from tests.integration.reconcile_world import BATCH, DATASET, TEAM, World, open_world, told


@pytest.fixture
def world() -> Iterator[World]:
    with open_world() as opened:
        yield opened


both = pytest.mark.parametrize("whole", [False, True], ids=["one dataset, by key", "the whole lake, by a scan"])


@both
def test_a_sound_lake_has_no_findings(world: World, whole: bool) -> None:
    world.publish()
    world.land("empty.csv", b"", state="QUARANTINED", reason="empty")
    world.lake.s3.put_object(Bucket=world.lake.raw_bucket, Key="air/flights/folder/", Body=b"")
    gone = world.land("gone.csv", state="DELETED")
    world.lake.s3.delete_object(Bucket=world.lake.raw_bucket, Key=names.split_object_id(gone["id"])[1])
    assert world.found(whole=whole) == []


@both
def test_an_object_without_a_row_is_routed_before_every_real_event(world: World, whole: bool) -> None:
    lost = world.land("ñ +%.csv")
    world.drop(lost["id"])
    [found] = world.found(whole=whole)
    assert (found.kind, found.place, found.id) == (Kind.MISSING, "air/flights", lost["id"])
    world.fix(whole=whole)
    assert world.route() == ["LANDED"]
    row = world.row(lost["id"])
    assert (row["sequencer"], row["version_id"], row["size"]) == (NOTHING_SEEN, lost["version_id"], lost["size"])
    assert [one["id"] for one in world.sent(world.lake.pipeline_queue_url)] == [lost["id"]]


@both
def test_a_row_of_another_version_is_led_to_the_one_that_stands(world: World, whole: bool) -> None:
    raw, staged = world.stage("x.csv")
    world.edit(raw["id"], seen=names.padded_sequencer("55AED6DCD90281E9"))
    body = b"a\n2\n3\n"
    key = names.split_object_id(raw["id"])[1]
    newer = world.lake.s3.put_object(Bucket=world.lake.raw_bucket, Key=key, Body=body)
    assert told(world.found(whole=whole)) == [("stale", "x.csv"), ("stuck", staged["id"].rpartition("/")[2])]
    world.fix(whole=whole)
    assert world.route() == ["LANDED"]
    row = world.row(raw["id"])
    assert (row["version_id"], row["size"]) == (newer["VersionId"], len(body))
    assert row["sequencer"] == names.padded_sequencer("55AED6DCD90281EA")
    assert world.row(staged["id"])["state"] == "SUPERSEDED"


@both
def test_a_row_whose_object_is_gone_is_deleted_and_what_was_staged_retired(world: World, whole: bool) -> None:
    raw, staged = world.publish()[0]
    world.delete(raw["id"])
    assert told(world.found(whole=whole)) == [("extra", "a.csv")]
    world.fix(whole=whole)
    assert world.route() == ["DELETED"]
    assert world.row(raw["id"])["state"] == "DELETED"
    assert world.row(staged["id"])["state"] == "STALE"
    assert world.found(whole=whole) == []


def test_an_event_that_comes_late_after_all_changes_nothing_and_a_new_one_wins(world: World) -> None:
    lost = world.land("x.csv")
    world.drop(lost["id"])
    world.fix()
    assert world.route() == ["LANDED"]
    for sequencer, version in ((lost["sequencer"], lost["version_id"]), (f"{int(lost['sequencer'], 16) + 9:x}", "v9")):
        event = events.notification({**lost, "sequencer": sequencer, "version_id": version}, "ObjectCreated:Put")
        world.lake.sqs.send_message(QueueUrl=world.lake.ingest_queue_url, MessageBody=json.dumps(event))
    assert sorted(world.route()) == ["LANDED", "SENT_AGAIN"]
    row = world.row(lost["id"])
    assert (row["version_id"], int(row["sequencer"], 16)) == ("v9", int(lost["sequencer"], 16) + 9)


def test_a_row_that_says_deleted_comes_back(world: World) -> None:
    raw = world.land("x.csv")
    world.edit(raw["id"], state="DELETED")
    assert told(world.found()) == [("stale", "x.csv")]
    world.fix()
    assert world.said[-1] == "repairs sent: 1"
    world.lake.objects.update_item(
        Key={"id": raw["id"]}, UpdateExpression="REMOVE version_id"
    )  # as a removal leaves it
    assert world.route() == ["LANDED"]


@pytest.mark.parametrize("state", ["LANDED", "UNROUTED"])
def test_what_landed_and_did_not_go_on_is_sent_again(world: World, state: str) -> None:
    raw = world.land("x.csv", state=state)
    [found] = world.found()
    assert found.kind is Kind.STUCK
    world.fix()
    assert world.route() == ["SENT_AGAIN" if state == "LANDED" else "LANDED"]
    assert [one["sequencer"] for one in world.sent(world.lake.pipeline_queue_url)] == [raw["sequencer"]]


def test_what_is_still_in_a_queue_is_not_sent_again(world: World) -> None:
    world.land("x.csv")
    world.stage("y.csv")
    lost = world.land("z.csv")
    world.drop(lost["id"])
    for url in (world.lake.pipeline_queue_url, world.lake.dataset_queue_url, world.lake.ingest_queue_url):
        world.lake.sqs.send_message(QueueUrl=url, MessageBody="{}")
    found = world.found()
    assert len(found) == 3
    assert [one.repair for one in found] == [None] * 3
    assert all("it may be among the 1 messages" in one.remedy for one in found)
    assert world.fix().made == 0
    world.land("x2.csv")  # two wait for the first hop now, and one message cannot be both
    assert [one.repair is None for one in world.found() if one.kind is Kind.STUCK and "landed" in one.says] == [
        False
    ] * 2


def test_what_is_young_is_not_judged(world: World) -> None:
    world.drop(world.land("x.csv")["id"])
    world.land("y.csv", event_time=datetime.now(UTC).isoformat())
    assert world.found(cut=datetime.now(UTC) - timedelta(hours=1)) == []


def test_a_staged_object_that_no_batch_took_is_announced_again(world: World) -> None:
    _, staged = world.stage("x.csv")
    [found] = world.found()
    assert isinstance(found.repair, Announcement)
    world.fix()
    [message] = world.sent(world.lake.dataset_queue_url)
    assert {name: message[name] for name in ("schema", "id", "team", "dataset", "sequencer", "size")} == {
        **{"schema": 1, "id": staged["id"], "team": TEAM, "dataset": DATASET},
        **{"sequencer": staged["sequencer"], "size": 7},
    }


def test_an_object_of_an_abandoned_batch_is_announced_again(world: World) -> None:
    world.stage("x.csv", state="BATCHED", batch_id=BATCH)
    row = {"owner": "air#flights", "batch_id": BATCH, "team": TEAM, "dataset": DATASET, "state": "ABANDONED"}
    world.lake.batches.put_item(Item={**row, "attempt": 1, "created_at": "2026-11-23T12:00:00.000Z"})
    [found] = world.found()
    assert isinstance(found.repair, Announcement)


@pytest.mark.parametrize("lost", ["its row", "its file"])
def test_what_was_staged_and_is_lost_before_its_batch_is_staged_again(world: World, lost: str) -> None:
    raw, staged = world.stage("x.csv")
    world.drop(staged["id"]) if lost == "its row" else world.delete(staged["id"])
    assert told(world.found()) == [("missing", "x.csv")]
    world.fix()
    assert world.route() == ["SENT_AGAIN"]
    [message] = world.sent(world.lake.pipeline_queue_url)
    assert (message["id"], message["sequencer"]) == (raw["id"], raw["sequencer"]), "the same stage key"


@both
def test_a_lost_row_of_what_was_published_leads_to_no_second_staging(world: World, whole: bool) -> None:
    raw, _ = world.publish()[0]
    world.drop(raw["id"])
    assert told(world.found(whole=whole)) == [("missing", "a.csv")]
    world.fix(whole=whole)
    assert world.route() == ["LANDED"]
    assert world.row(raw["id"])["sequencer"] == raw["sequencer"], (
        "it is staged under its old key, and claimed by nobody"
    )


def test_a_lost_row_of_an_object_that_changed_since_retires_what_was_staged_of_it(world: World) -> None:
    raw, staged = world.publish()[0]
    world.drop(raw["id"])
    key = names.split_object_id(raw["id"])[1]
    newer = world.lake.s3.put_object(Bucket=world.lake.raw_bucket, Key=key, Body=b"a\n9\n")
    world.fix()
    assert world.row(staged["id"])["state"] == "STALE"
    assert world.route() == ["LANDED"]
    row = world.row(raw["id"])
    assert row["version_id"] == newer["VersionId"]
    assert row["sequencer"] > raw["sequencer"]


@both
def test_a_lost_row_of_a_batch_comes_back_from_its_manifest(world: World, whole: bool) -> None:
    raw, staged = world.publish()[0]
    world.drop(staged["id"])
    [found] = world.found(whole=whole)
    assert isinstance(found.repair, Restoration)
    world.fix(whole=whole)
    back = world.row(staged["id"])
    kept = ("state", "batch_id", "sequencer", "source_id", "source_version_id", "zone", "team", "dataset", "size")
    assert {name: back[name] for name in kept} == {name: staged[name] for name in kept}
    assert world.found(whole=whole) == []
    assert raw["id"] == back["source_id"]


def test_both_rows_of_a_published_object_are_lost_and_it_is_still_published_once(world: World) -> None:
    raw, staged = world.publish()[0]
    world.drop(raw["id"])
    world.drop(staged["id"])
    world.fix()
    assert world.row(staged["id"])["state"] == "PUBLISHED"
    assert world.route() == ["LANDED"]
    assert world.row(raw["id"])["sequencer"] == raw["sequencer"]


def test_a_file_that_a_batch_needs_is_a_persons_to_stage_again(world: World) -> None:
    _, staged = world.publish()[0]
    world.delete(staged["id"])
    [found] = world.found()
    assert (found.kind, found.repair) == (Kind.MISSING, None)
    assert found.remedy == "tarn replay air/flights --from raw --prefix a.csv"


def damage_file(world: World) -> None:
    world.lake.s3.delete_object(
        Bucket=world.lake.analytics_bucket, Key=f"air/flights/day=1/batch={BATCH}/part-0.parquet"
    )


def damage_size(world: World) -> None:
    key = f"air/flights/day=1/batch={BATCH}/part-0.parquet"
    world.lake.s3.put_object(Bucket=world.lake.analytics_bucket, Key=key, Body=b"half a file")


def damage_extra(world: World) -> None:
    key = f"air/flights/day=1/batch={BATCH}/part-1.parquet"
    world.lake.s3.put_object(Bucket=world.lake.analytics_bucket, Key=key, Body=b"x")


def damage_partition(world: World) -> None:
    world.glue.delete_partition(DatabaseName="air", TableName="flights", PartitionValues=["2", BATCH])


def damage_table(world: World) -> None:
    world.glue.delete_table(DatabaseName="air", Name="flights")


def damage_row(world: World) -> None:
    world.drop(f"s3://{world.lake.analytics_bucket}/air/flights/day=1/batch={BATCH}/part-0.parquet")


def damage_receipt(world: World) -> None:
    key = names.attempt_prefix(TEAM, DATASET, BATCH, 1) + "published.json"
    world.lake.s3.delete_object(Bucket=world.lake.stage_bucket, Key=key)


@both
@pytest.mark.parametrize(
    ("damage", "kind", "says"),
    [
        pytest.param(damage_file, Kind.MISSING, "1 published files are gone", id="a file is gone"),
        pytest.param(damage_size, Kind.MISSING, "1 published files are gone or of another size", id="a file differs"),
        pytest.param(damage_extra, Kind.EXTRA, "1 files are in its partitions that it did not", id="a file too many"),
        pytest.param(damage_partition, Kind.MISSING, "1 of its partitions are not in", id="a partition is gone"),
        pytest.param(damage_table, Kind.MISSING, "2 of its partitions are not in", id="the table is gone"),
        pytest.param(damage_row, Kind.MISSING, "1 published files have no row", id="a row is gone"),
        pytest.param(damage_receipt, Kind.MISSING, "its receipt is gone", id="the receipt is gone"),
    ],
)
def test_a_published_batch_that_is_not_as_its_receipt_says_is_run_again(
    world: World, damage: Any, kind: Kind, says: str, whole: bool
) -> None:
    world.publish()
    damage(world)
    [found] = world.found(whole=whole)
    assert (found.kind, found.id, found.repair) == (kind, BATCH, NewAttempt(TEAM, DATASET, BATCH))
    assert says in found.says
    assert world.fix(whole=whole).made == 1
    row = world.lake.batches.get_item(Key={"owner": "air#flights", "batch_id": BATCH})["Item"]
    assert (row["state"], row["attempt"]) == ("READY", 2)
    assert world.woken == [{"team": TEAM, "dataset": DATASET, "claim": False}]
    assert world.found(whole=whole, cut=datetime.now(UTC) - timedelta(hours=1)) == [], "it is under way"


def test_a_batch_is_not_run_again_when_it_would_fail(world: World) -> None:
    pairs = world.publish()
    damage_file(world)
    world.delete(pairs[0][1]["id"])
    found = {one.id: one for one in world.found()}[BATCH]
    assert found.repair is None
    assert "1 of its staged files are gone: tarn replay air/flights --from raw" in found.remedy


def test_files_and_partitions_of_no_batch_are_told_and_left(world: World) -> None:
    world.publish()
    other = "20261123t170000-ba9876543210"
    key = f"air/flights/day=1/batch={other}/part-0.parquet"
    world.lake.s3.put_object(Bucket=world.lake.analytics_bucket, Key=key, Body=b"x")
    world.lake.s3.put_object(Bucket=world.lake.stage_bucket, Key="air/flights/strange.parquet", Body=b"x")
    values = {"Values": ["3", other], "StorageDescriptor": {}}
    world.glue.create_partition(DatabaseName="air", TableName="flights", PartitionInput=values)
    found = world.found()
    assert told(found) == [("extra", other), ("extra", "part-0.parquet"), ("extra", "strange.parquet")]
    assert [one.repair for one in found] == [None] * 3
    assert world.fix().made == 0
    world.lake.s3.head_object(Bucket=world.lake.analytics_bucket, Key=key)


def test_a_batch_that_nobody_starts_is_taken_on(world: World) -> None:
    world.publish()
    key = {"owner": "air#flights", "batch_id": BATCH}
    row = world.lake.batches.get_item(Key=key)["Item"]
    world.lake.batches.put_item(Item={**row, "state": "READY", "attempt": 2})
    [found] = world.found()
    assert found.repair == Wake(TEAM, DATASET)
    world.fix()
    assert world.woken == [{"team": TEAM, "dataset": DATASET, "claim": False}]


def test_a_row_whose_place_in_the_order_was_edited_is_left_to_a_person(world: World) -> None:
    raw = world.land("x.csv")
    world.edit(raw["id"], state="DELETED", sequencer="by hand")
    [found] = world.found()
    assert found.repair is None
    assert "'by hand'" in found.remedy


def test_repairs_are_made_twice_without_harm(world: World) -> None:
    pairs = world.publish()
    lost = world.land("lost.csv")
    world.drop(lost["id"])
    world.drop(pairs[0][1]["id"])
    damage_file(world)
    with world.survey() as survey:
        found = list(reconcile.findings(survey))
        made = []
        for _ in range(2):
            repairer = Repairer(survey, datetime.now(UTC))
            repairer._lambda = world  # type: ignore[assignment]
            list(repairer.repair(found))
            made.append(repairer)
            if len(made) == 1:
                world.edit(pairs[0][1]["id"], state="STALE")  # as it may go on meanwhile
    assert [why for one in made for _, why in one.refused] == [
        f"batch {BATCH} of air/flights is READY at attempt 2: not attempt 2's to change"
    ]
    assert world.route() == ["LANDED", "SENT_AGAIN"]
    assert world.row(pairs[0][1]["id"])["state"] == "STALE"


# --- S3 Inventory


def inventory(world: World, form: str, schema: str, file: bytes, **changes: Any) -> str:
    bucket = world.lake.asset_bucket
    name = "inventory/data/1." + ("parquet" if form == "Parquet" else "csv.gz")
    world.lake.s3.put_object(Bucket=bucket, Key=name, Body=file)
    manifest = {
        "sourceBucket": world.lake.raw_bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": str(int((datetime.now(UTC) + timedelta(hours=2)).timestamp() * 1000)),
        "fileFormat": form,
        "fileSchema": schema,
        "files": [{"key": name, "size": len(file), "MD5checksum": hashlib.md5(file).hexdigest()}],  # noqa: S324
        **changes,
    }
    world.put(bucket, "inventory/manifest.json", manifest)
    return f"s3://{bucket}/inventory/manifest.json"


CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
PARQUET_SCHEMA = """message s3.inventory { required binary bucket (UTF8); required binary key (UTF8);
optional binary version_id (UTF8); optional boolean is_latest; optional boolean is_delete_marker; optional int64 size;
optional int64 last_modified_date (TIMESTAMP(MILLIS,true)); optional binary e_tag (UTF8); }"""


def as_csv(rows: list[list[Any]]) -> bytes:
    lines = [
        ",".join(f'"{quote_plus(str(cell)) if place == 1 else cell}"' for place, cell in enumerate(row)) for row in rows
    ]
    return gzip.compress(("\n".join(lines) + "\n").encode())


def as_parquet(rows: list[list[Any]], folder: Any) -> bytes:
    columns = "bucket, key, version_id, is_latest, is_delete_marker, size, last_modified_date, e_tag"
    kinds = ("VARCHAR", "VARCHAR", "VARCHAR", "BOOLEAN", "BOOLEAN", "BIGINT", "TIMESTAMPTZ", "VARCHAR")
    cells = ", ".join(f"CAST(? AS {kind})" for kind in kinds)
    connection, file = duckdb.connect(), folder / "1.parquet"
    connection.execute(f"CREATE TABLE t({', '.join(map(' '.join, zip(columns.split(', '), kinds, strict=True)))})")
    connection.executemany(f"INSERT INTO t VALUES ({cells})", [row[:8] for row in rows])  # noqa: S608
    connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    return file.read_bytes()


def as_row(world: World, raw: dict[str, Any]) -> list[Any]:
    """What an inventory says of a raw object."""
    place = [world.lake.raw_bucket, names.split_object_id(raw["id"])[1], raw["version_id"], True, False]
    return [*place, raw["size"], "2026-11-23T11:59:00.000Z", raw["etag"], "STANDARD"]


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_an_inventory_tells_what_a_listing_does_and_is_looked_at_again(world: World, form: str, tmp_path: Any) -> None:
    sound = world.land("sound + ñ.csv", state="QUARANTINED")
    lost = world.land("lost.csv")
    gone = world.land("gone.csv")  # since the inventory was made
    late = world.land("late.csv", state="QUARANTINED")  # not in the inventory
    for one in (lost, gone):
        world.drop(one["id"])
    world.delete(gone["id"])
    rows = [as_row(world, one) for one in (sound, lost, gone)]
    rows.append([*rows[0][:2], "older", False, False, 1, "2026-11-22T11:59:00.000Z", "other", "STANDARD"])
    rows.append(
        [world.lake.raw_bucket, "air/flights/marked.csv", "m", True, True, 0, "2026-11-22T11:59:00.000Z", "", ""]
    )
    file, schema = (as_csv(rows), CSV_SCHEMA) if form == "CSV" else (as_parquet(rows, tmp_path), PARQUET_SCHEMA)
    found = world.found(inventory=inventory(world, form, schema, file))
    assert told(found) == [("missing", "lost.csv")]
    assert isinstance(found[0].repair, Event)
    assert found[0].repair.thing["version_id"] == lost["version_id"]
    assert late["state"] == "QUARANTINED"


def test_repairs_by_an_inventory_are_those_of_a_listing_and_made_twice_are_made_once(world: World) -> None:
    lost = world.land("lost.csv")
    world.drop(lost["id"])
    uri = inventory(world, "CSV", CSV_SCHEMA, as_csv([as_row(world, lost)]))
    assert world.fix(inventory=uri).made == 1
    assert world.route() == ["LANDED"]
    row = world.row(lost["id"])
    assert (row["sequencer"], row["version_id"]) == (NOTHING_SEEN, lost["version_id"])
    assert len(world.sent(world.lake.pipeline_queue_url)) == 1
    world.edit(lost["id"], state="QUARANTINED")  # as it goes on meanwhile
    assert world.fix(inventory=uri).made == 0
    assert world.sent(world.lake.ingest_queue_url) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sourceBucket": "another"}, "is of bucket another"),
        ({"fileFormat": "ORC"}, "ORC"),
        ({"fileSchema": "Bucket, Key, Size"}, "lacks the fields etag, lastmodifieddate"),
        ({"files": [{"key": "inventory/data/1.csv.gz", "MD5checksum": "0"}]}, "its MD5 differs"),
        ({"files": None}, "is not the manifest.json"),
    ],
    ids=["another bucket", "ORC", "fields are missing", "another file", "no manifest"],
)
def test_an_inventory_that_cannot_be_used_is_refused(world: World, changes: dict[str, Any], says: str) -> None:
    uri = inventory(world, "CSV", CSV_SCHEMA, as_csv([]), **changes)
    with pytest.raises(InventoryError, match=says):
        world.found(inventory=uri)


# --- the command


def tarn(*words: str) -> Any:
    return CliRunner().invoke(cli.app, ["reconcile", *words, "--environment", "test", "--after", "0s"])


def test_the_command_tells_repairs_and_is_clean_in_the_end(world: World) -> None:
    lost = world.land("lost.csv", state="QUARANTINED")
    assert tarn("air/flights").exit_code == 0
    world.drop(lost["id"])
    told = tarn("air/flights")
    assert told.exit_code == 1
    assert "it stands in the raw zone and has no row" in told.output
    assert tarn("--fix", "--dry-run").exit_code == 1
    assert world.sent(world.lake.ingest_queue_url) == []
    fixed = tarn("--fix")
    assert (fixed.exit_code, "1 repairs under way" in fixed.output) == (0, True), fixed.output
    assert len(world.sent(world.lake.ingest_queue_url)) == 1


def test_the_command_names_what_it_does_not_know(world: World) -> None:
    assert "this lake has no dataset air/none" in tarn("air/none").output
    wrong = CliRunner().invoke(cli.app, ["reconcile", "--environment", "test", "--after", "soon"])
    assert "--after 'soon' is not a length of time" in " ".join(wrong.output.split())
