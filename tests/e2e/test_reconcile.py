"""A standing lake is damaged in each way; reconcile tells it, --fix repairs it, and the published table is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lake import names
from tarn import explain, reconcile, templates
from tarn.lake import Lake
from tarn.ledger import Ledger
from tarn.reconcile import Finding
from tarn.repairs import Repairer
from tarn.survey import Survey
from tests.e2e.lake_world import (
    Demo,
    end_of,
    partitions_of,
    published_keys,
    stage,
    start_batch,
    wait_for,
)
from tests.e2e.own_emulator import own_lake

pytestmark = pytest.mark.slow
AIRLINES = templates.ROOT / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Iterator[Demo]:
    """A lake with one dataset, whose tick never comes: six files in three published batches."""
    with own_lake(tmp_path_factory.mktemp("reconcile"), "AirAirlines") as found:
        for batch in range(3):
            for file in range(2):
                stage(found, "airlines", AIRLINES, f"{batch}-{file}.csv")
            assert end_of(found, start_batch(found, "airlines"))["state"] == "PUBLISHED"
        yield found


class Damaged:
    """What a test does to the lake, and how it asks what reconcile says of it."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        contract = demo.lake.contract
        self.s3, self.sqs, self.glue = (demo.session.client(one) for one in ("s3", "sqs", "glue"))
        self.buckets = {zone: contract.foundations(f"{zone}-bucket/name") for zone in ("raw", "stage", "analytics")}
        self.objects = demo.session.resource("dynamodb").Table(contract.foundations("objects-table/name"))
        self.staged_queue = next(url for place, url in contract.queues().items() if place.startswith("dataset/"))

    def raw(self, name: str) -> str:
        return names.object_id(self.buckets["raw"], f"air/airlines/{name}")

    def row(self, name: str) -> dict[str, Any]:
        return self.demo.lake.object_row(self.raw(name)) or {}

    def drop(self, identity: str) -> None:
        self.objects.delete_item(Key={"id": identity})

    @contextmanager
    def unheard(self) -> Iterator[str]:
        """While it lasts, nobody is told of what happens in the raw zone; gives the bucket."""
        bucket = self.buckets["raw"]
        told = self.s3.get_bucket_notification_configuration(Bucket=bucket)
        told.pop("ResponseMetadata")
        self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        yield bucket
        self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told)

    def found(self, *, fix: bool = False, whole: bool = True) -> list[Finding]:
        """What reconcile says of everything that stands by now, as if a registration let nothing wait for its batch."""
        with TemporaryDirectory() as folder:
            lake = Lake("local", self.demo.session)
            address = None if whole else lake.contract.address("air", "airlines")
            place = (lake, Ledger(Path(folder)), Path(folder), address)
            survey = Survey(
                *place, cut=datetime.now(UTC) + timedelta(hours=1), say=lambda _: None, session=self.demo.session
            )
            found = reconcile.findings(survey)
            return list(Repairer(survey, datetime.now(UTC)).repair(found) if fix else found)

    def rest(self) -> None:
        """Wait until queues are empty and every batch has ended."""

        def quiet() -> bool | None:
            status = self.demo.lake.status()
            moving = [row for row in status.batches if row["state"] in ("OPEN", "READY", "STARTED")]
            return None if moving or any(any(depth.values()) for depth in status.queues.values()) else True

        wait_for(quiet, "the lake does not come to rest", seconds=300)

    def table(self) -> dict[str | None, int]:
        rows = self.demo.lake.query("SELECT carrier, count(*) AS rows FROM airlines GROUP BY carrier", "air").rows
        return {carrier: int(str(count)) for carrier, count in rows}


def test_every_damage_is_told_and_repaired_and_the_table_stays_the_same(own) -> None:
    lake = Damaged(own)
    before = lake.table()
    assert set(before.values()) == {6}
    assert lake.found() == []
    first, second, third = sorted(row["batch_id"] for row in own.lake.status().batches if row["state"] == "PUBLISHED")

    # the catalog forgets: a raw object, a staged one, both
    lost_staged = [lake.row(name)["staged_id"] for name in ("0-1.csv", "1-0.csv")]
    for identity in (lake.raw("0-0.csv"), lake.raw("1-0.csv"), *lost_staged):
        lake.drop(identity)
    # messages are lost: of staged objects, of a change, a deletion and a creation
    for name in ("waits.csv", "changed.csv", "deleted.csv"):
        stage(own, "airlines", AIRLINES, name)
    lake.sqs.purge_queue(QueueUrl=lake.staged_queue)
    with lake.unheard() as raw:
        lake.s3.upload_file(str(AIRLINES), raw, "air/airlines/unheard of.csv")
        lake.s3.upload_file(str(AIRLINES), raw, "air/airlines/changed.csv")
        lake.s3.delete_object(Bucket=raw, Key="air/airlines/deleted.csv")
        lake.s3.upload_file(str(AIRLINES), raw, "air/airlines/landed.csv")
        head = lake.s3.head_object(Bucket=raw, Key="air/airlines/landed.csv")
    known = {**lake.row("waits.csv"), "id": lake.raw("landed.csv"), "state": "LANDED", "version_id": head["VersionId"]}
    known.pop("staged_id")
    lake.objects.put_item(Item=known)
    # published: a file is gone, a file is too many, a partition is gone, a file is nobody's
    analytics, keys = lake.buckets["analytics"], published_keys(own, "air/airlines/")
    of = {batch: next(key for key in keys if batch in key) for batch in (first, second)}
    nobodys = "air/airlines/batch=20200101t000000-000000000000/part-0.parquet"
    for key in (f"{of[second]}.twice.parquet", nobodys):
        lake.s3.copy_object(Bucket=analytics, Key=key, CopySource={"Bucket": analytics, "Key": of[second]})
    lake.s3.delete_object(Bucket=analytics, Key=of[first])
    database = own.lake.contract.team("air", "database/name")
    lake.glue.delete_partition(DatabaseName=database, TableName="airlines", PartitionValues=[third])
    assert lake.table() != before

    waiting = [lake.row(name)["staged_id"] for name in ("waits.csv", "changed.csv", "deleted.csv")]
    told = lake.found(fix=True)
    assert sorted((one.kind.value, one.id) for one in told) == sorted(
        [
            *(("missing", lake.raw(name)) for name in ("0-0.csv", "1-0.csv", "unheard of.csv")),
            *(("missing", one) for one in (*lost_staged, first, third)),
            *(("extra", one) for one in (second, names.object_id(analytics, nobodys), lake.raw("deleted.csv"))),
            *(("stale", lake.raw("changed.csv")), ("stuck", lake.raw("landed.csv"))),
            *(("stuck", one) for one in waiting),
        ]
    )
    assert [one.id for one in told if one.repair is None] == [names.object_id(analytics, nobodys)]

    for name in ("unheard of.csv", "changed.csv", "landed.csv", "0-0.csv", "1-0.csv"):
        wait_for(lambda name=name: lake.row(name).get("state") == "STAGED" or None, f"{name} is not staged")  # type: ignore[misc]
    wait_for(lambda: lake.row("deleted.csv").get("state") == "DELETED" or None, "what is gone is not deleted")
    assert end_of(own, start_batch(own, "airlines"))["state"] == "PUBLISHED"
    lake.rest()
    lake.s3.delete_object(Bucket=analytics, Key=nobodys)
    assert lake.found() == []
    assert lake.found(whole=False) == []
    new = ("waits.csv", "changed.csv", "unheard of.csv", "landed.csv")
    assert lake.table() == {carrier: count + len(new) for carrier, count in before.items()}
    assert {values[-1] for values in partitions_of(own, "airlines")} >= {first, second, third}


def test_explain_follows_an_object_from_its_landing_to_its_published_files(own) -> None:
    lake = Damaged(own)
    staged_id = lake.row("2-0.csv")["staged_id"]
    life = explain.explain(own.lake, lake.raw("2-0.csv"), own.session)
    happened = [(one.where, one.what) for one in life.moments]
    assert happened[0] == ("S3", "landed")
    assert {
        *(("route_object", "routed"), ("start_raw_to_stage", "message batch settled")),
        *(("transform_objects", "object transformed"), ("transform_objects", "staged")),
        *(("start_batch", "batch is made"), ("start_batch", "batch is started"), ("finish_batch", "PUBLISHED")),
    } <= set(happened)
    [settled] = [one.detail for one in life.moments if one.what == "message batch settled"]
    assert settled.startswith("STAGED execution=")
    assert life.descendants[0] == staged_id
    published = next(one for one in life.descendants if "/batch=" in one)
    assert {lake.raw("2-0.csv"), staged_id} <= set(explain.explain(own.lake, published, own.session).ancestors)
