"""A standing lake in moto that reconcile can be asked about: its contract, and objects in every state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3

from lake import batches, names, routing
from lake.datasets import Registry
from tarn import reconcile
from tarn.lake import Lake as Deployed
from tarn.ledger import Ledger
from tarn.reconcile import Finding
from tarn.repairs import Repairer
from tarn.survey import Survey
from tests.integration.tables import Lake, open_lake, receive_all

TEAM, DATASET = "air", "flights"
NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1)
"""Objects in moto are made now; a day later none of them is on its way."""
BATCH = "20261123t164400-0123456789ab"
REGISTRATION = {
    "team": TEAM,
    "dataset": DATASET,
    "kind": "dataset",
    "pipeline": "main",
    "min_items": 1,
    "max_items": 10,
    "max_wait_minutes": 15,
    "database_name": "air",
    "table_name": "flights",
}


class World:
    """One dataset with a batch of two published objects, and whatever a test does to it."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.session = lake, boto3.Session()
        self.glue = boto3.client("glue")
        contract = {
            **{
                f"foundations/{zone}-bucket/name": getattr(lake, f"{zone}_bucket")
                for zone in ("raw", "stage", "analytics")
            },
            **{f"foundations/{one}-table/name": getattr(lake, one).name for one in ("objects", "datasets", "batches")},
            "foundations/ingest-queue/url": lake.ingest_queue_url,
            "team/air/workgroup/name": "air",
            "pipeline/air/main/queue/url": lake.pipeline_queue_url,
            "pipeline/air/main/start-batch/arn": "start-batch",
            "dataset/air/main/flights/staged-queue/url": lake.dataset_queue_url,
        }
        for name, value in contract.items():
            boto3.client("ssm").put_parameter(Name=f"/tarn/test/{name}", Value=value, Type="String")
        lake.datasets.put_item(Item={**REGISTRATION, "queue_url": lake.dataset_queue_url})
        pipeline = {"team": TEAM, "dataset": "pipeline#main", "kind": "pipeline", "pipeline": "main"}
        lake.datasets.put_item(Item={**pipeline, "queue_url": lake.pipeline_queue_url})
        self.woken: list[dict[str, Any]] = []
        self.said: list[str] = []

    # --- what stands

    def land(self, name: str, body: bytes = b"a\n1\n", **row: Any) -> dict[str, Any]:
        """A raw object with its row, ``LANDED`` unless told otherwise; gives the row."""
        key = f"{TEAM}/{DATASET}/{name}"
        put = self.lake.s3.put_object(Bucket=self.lake.raw_bucket, Key=key, Body=body)
        made = {
            "id": names.object_id(self.lake.raw_bucket, key),
            "schema": 1,
            "zone": "raw",
            "team": TEAM,
            "dataset": DATASET,
            "size": len(body),
            "etag": put["ETag"].strip('"'),
            "version_id": put["VersionId"],
            "sequencer": names.padded_sequencer("55AED6DCD90281E5"),
            "event_time": "2026-11-23T11:59:00.000Z",
            "state": "LANDED",
            **row,
        }
        self.lake.objects.put_item(Item=made)
        return made

    def stage(self, name: str, **row: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """A raw object that was staged, in no batch unless told otherwise; gives both rows."""
        raw = self.land(name, state="STAGED")
        key = names.stage_key(names.split_object_id(raw["id"])[1], raw["sequencer"])
        self.lake.s3.put_object(Bucket=self.lake.stage_bucket, Key=key, Body=b"parquet")
        staged = {
            **{one: raw[one] for one in ("schema", "team", "dataset", "sequencer", "event_time")},
            "id": names.object_id(self.lake.stage_bucket, key),
            "zone": "stage",
            "size": 7,
            "rows": 1,
            "state": "STAGED",
            "source_id": raw["id"],
            "source_version_id": raw["version_id"],
            **row,
        }
        self.lake.objects.put_item(Item=staged)
        self.lake.objects.update_item(
            Key={"id": raw["id"]},
            UpdateExpression="SET staged_id = :s",
            ExpressionAttributeValues={":s": staged["id"]},
        )
        return raw, staged

    def publish(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """A batch of two objects in two partitions, as publishing leaves it."""
        pairs = [self.stage(f"{one}.csv", state="PUBLISHED", batch_id=BATCH) for one in ("a", "b")]
        batch = batches.Batch(TEAM, DATASET, BATCH)
        listed = [{**{one: row[one] for one in ("id", "size", "rows", "sequencer")}} for _, row in pairs]
        self.put(self.lake.stage_bucket, batch.manifest_key, {"schema": 1, "objects": listed})
        folders = [f"{TEAM}/{DATASET}/day={day}/batch={BATCH}/" for day in (1, 2)]
        files = [{"key": f"{one}part-0.parquet", "size": 4} for one in folders]
        for file in files:
            self.lake.s3.put_object(Bucket=self.lake.analytics_bucket, Key=file["key"], Body=b"data")
            identity = names.object_id(self.lake.analytics_bucket, file["key"])
            row = {"id": identity, "schema": 1, "zone": "analytics", "team": TEAM, "dataset": DATASET}
            self.lake.objects.put_item(Item={**row, "size": 4, "state": "PUBLISHED", "batch_id": BATCH})
        receipt = {"at": "2026-11-23T12:10:00.000Z", "files": files, "partitions": folders, "deleted": []}
        prefix = names.attempt_prefix(TEAM, DATASET, BATCH, 1)
        self.put(self.lake.stage_bucket, f"{prefix}published.json", {"schema": 1, **receipt})
        self.lake.batches.put_item(
            Item={
                **batch.key,
                **{"team": TEAM, "dataset": DATASET, "schema": 1, "state": "PUBLISHED", "attempt": 1},
                **{"created_at": "2026-11-23T12:00:00.000Z", "manifest": batch.manifest_key},
            }
        )
        self.glue.create_database(DatabaseInput={"Name": "air"})
        keys = [{"Name": "day", "Type": "int"}, {"Name": "batch", "Type": "string"}]
        self.glue.create_table(DatabaseName="air", TableInput={"Name": "flights", "PartitionKeys": keys})
        for day in ("1", "2"):
            self.glue.create_partition(
                DatabaseName="air",
                TableName="flights",
                PartitionInput={"Values": [day, BATCH], "StorageDescriptor": {}},
            )
        return pairs

    def put(self, bucket: str, key: str, value: Any) -> None:
        self.lake.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(value).encode())

    def drop(self, identity: str) -> None:
        """Take a row out of the catalog."""
        self.lake.objects.delete_item(Key={"id": identity})

    def edit(self, identity: str, **values: Any) -> None:
        """Change a row by hand."""
        row = self.lake.row(identity)
        assert row is not None
        self.lake.objects.put_item(Item={**row, **values})

    def delete(self, identity: str) -> None:
        """Delete an object from S3, every version of it: nobody is told."""
        bucket, key = names.split_object_id(identity)
        for one in self.lake.s3.list_object_versions(Bucket=bucket, Prefix=key).get("Versions", []):
            self.lake.s3.delete_object(Bucket=bucket, Key=key, VersionId=one["VersionId"])

    # --- reconcile

    @contextmanager
    def survey(self, whole: bool = False, cut: datetime = LATER, inventory: str | None = None) -> Iterator[Survey]:
        with TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder))
            lake = Deployed("test", self.session)
            address = None if whole else lake.contract.address(TEAM, DATASET)
            yield Survey(
                *(lake, ledger, Path(folder), address),
                cut=cut,
                say=self.said.append,
                session=self.session,
                inventory_uri=inventory,
            )
            ledger.close()

    def found(self, **how: Any) -> list[Finding]:
        with self.survey(**how) as survey:
            return list(reconcile.findings(survey))

    def fix(self, **how: Any) -> Repairer:
        with self.survey(**how) as survey:
            repairer = Repairer(survey, LATER)
            repairer._lambda = self  # type: ignore[assignment]
            list(repairer.repair(reconcile.findings(survey)))
            return repairer

    def invoke(self, **arguments: Any) -> None:
        self.woken.append(json.loads(arguments["Payload"]))

    def route(self) -> list[Any]:
        """The router takes what is in the ingest queue; gives what came of each object."""
        registry = Registry(self.lake.datasets)
        clients = routing.Clients(self.lake.objects, registry, self.lake.s3, self.lake.sqs)
        bodies = {str(place): json.dumps(body) for place, body in enumerate(self.sent(self.lake.ingest_queue_url))}
        routed = routing.route(clients, self.lake.raw_bucket, bodies, LATER)
        assert routed.failed == {}
        return [outcome for _, outcome in routed.outcomes]

    def sent(self, url: str) -> list[dict[str, Any]]:
        return receive_all(self.lake.sqs, url)

    def row(self, identity: str) -> dict[str, Any]:
        row = self.lake.row(identity)
        assert row is not None
        return row


@contextmanager
def open_world() -> Iterator[World]:
    with open_lake() as lake:
        yield World(lake)


def told(found: list[Finding]) -> list[tuple[str, str]]:
    """Kind and last part of the name of each."""
    return sorted((one.kind.value, one.id.rpartition("/")[2]) for one in found)
