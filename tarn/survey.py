"""Reading a lake into a ledger: what S3 lists, what the object catalog says, batches, receipts and partitions.

S3 is listed first and the catalog read afterwards, so that what lands meanwhile never looks lost. One dataset is read
row by row, by the keys that S3, the manifests and other rows name; a whole lake by a scan of the catalog, which costs
less than reading each row, and each row that looks wrong is then read again by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError

from lake import batches, clock, names, outcomes, publishing, rows
from lake.batches import State
from lake.executions import Machine, execution_input
from lake.outcomes import OutcomeMismatchError, OutcomeMissingError, Run
from tarn import inventory
from tarn.contract import DatasetAddress
from tarn.lake import Lake
from tarn.ledger import Ledger, row_line

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

AT_ONCE = 8
"""Calls to DynamoDB and S3 at the same time."""
BATCHES_AT_ONCE = 64
"""Batches whose manifests are held in memory."""
NO_BATCH = ""
"""Stands for the batch of a partition whose values name none."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Records:
    """A batch's row; what its manifest lists, once it is committed; its receipt, once it is published."""

    row: Mapping[str, Any]
    manifest: list[dict[str, Any]] | None
    receipt: publishing.Receipt | None

    @property
    def whose(self) -> dict[str, str]:
        return {name: str(self.row[name]) for name in ("team", "dataset", "batch_id")}

    @property
    def line(self) -> dict[str, Any]:
        written = ("created_at", "committed_at", "started_at", "finished_at")
        return {
            **self.row,
            "moment": max(str(self.row.get(name, "")) for name in written),
            "has_manifest": self.manifest is not None,
            "has_receipt": self.receipt is not None,
        }


@dataclass
class Survey:
    """A lake, or one dataset of it, that is read into ``ledger``; ``folder`` takes what is downloaded.

    ``cut`` is the moment up to which things are judged: what is younger is on its way.
    """

    lake: Lake
    ledger: Ledger
    folder: Path
    address: DatasetAddress | None
    cut: datetime
    say: Say
    session: boto3.Session = field(default_factory=boto3.Session)
    inventory_uri: str | None = None

    def __post_init__(self) -> None:
        self.s3: S3Client = self.session.client("s3")
        self.registrations: dict[DatasetAddress, dict[str, Any]] = {}
        contract = self.lake.contract
        self.buckets = {zone: contract.foundations(f"{zone}-bucket/name") for zone in ("raw", "stage", "analytics")}
        self.addresses = contract.datasets() if self.address is None else [self.address]
        self.objects, self.batches = (self.table(thing) for thing in ("objects", "batches"))

    def table(self, thing: str) -> Table:
        """One of the lake's tables."""
        return self.session.resource("dynamodb").Table(self.lake.contract.foundations(f"{thing}-table/name"))

    def read(self) -> None:
        """Read everything.

        Raises:
            InventoryError: the inventory cannot be used.
        """
        self._list_raw()
        self._places()
        for address in self.addresses:
            prefix = names.table_prefix(address.team, address.dataset)
            for zone in ("stage", "analytics"):
                self._fill("listed", f"{zone} zone of {address}", self._list(zone, prefix))
        for address in self.registrations:
            # first, so that the batch of a partition has its row
            self._fill("partitions", f"partitions of {address}", self._partitions(address))
            self._read_batches(address)
        self._read_rows()

    def look_again(self, ids: list[str]) -> None:
        """Read again, consistently, what the catalog says of some identities, and S3 where an inventory was used."""
        if self.inventory_uri:
            raw = names.object_id(self.buckets["raw"], "")
            looked_at = [identity for identity in ids if identity.startswith(raw)]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                self.ledger.replace_listed(looked_at, pool.map(self._head, looked_at))
        self.ledger.replace_rows(ids, self._rows_of(ids))

    def run_of(self, row: Mapping[str, Any]) -> Run:
        """The attempt of a batch that its row is about, as its machine was started."""
        machine = Machine("", self.buckets["stage"], self.buckets["analytics"])
        return Run.parse(execution_input(machine, batches.of_row(row), has_rules=False))

    def _fill(self, table: str, what: str, lines: Iterable[Mapping[str, Any]]) -> None:
        self.say(what)
        for added in self.ledger.add(table, lines):
            self.say(f"{what}: {added}")

    def _places(self) -> None:
        """What the questions need to know: called once ``cut`` is known."""
        begins = {zone: names.object_id(bucket, "") for zone, bucket in self.buckets.items()}
        self.ledger.fill("asked", [{"cut": clock.stamp(self.cut), **begins}])
        for address in self.addresses:
            registration = self.lake.registration(address)
            if registration.get("kind") != "dataset":
                continue  # its stack is being made or deleted
            self.registrations[address] = registration
            waits = timedelta(minutes=int(registration["max_wait_minutes"]))
            late = clock.stamp(self.cut - waits)
            self.ledger.fill("places", [{"team": address.team, "dataset": address.dataset, "late": late}])

    # --- S3

    def _list_raw(self) -> None:
        prefix = "" if self.address is None else names.table_prefix(self.address.team, self.address.dataset)
        if self.inventory_uri is None:
            self._fill("listed", "raw zone", self._list_versions(prefix))
            return
        found = inventory.read_manifest(self.s3, self.inventory_uri, self.buckets["raw"])
        self.say(f"raw zone, by the inventory of {clock.stamp(found.created_at)}")
        self.cut = min(self.cut, found.created_at)
        inventory.load(self.s3, found, prefix, self.ledger, self.folder)

    def _list_versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        """The live version of each raw key, and the keys under a delete marker."""
        bucket = self.buckets["raw"]
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Versions", []):
                if one["IsLatest"]:
                    yield {
                        "zone": "raw",
                        "id": names.object_id(bucket, one["Key"]),
                        "version_id": None if one["VersionId"] == "null" else one["VersionId"],
                        "etag": one["ETag"].strip('"'),
                        "size": one["Size"],
                        "moment": clock.stamp(one["LastModified"]),
                        "gone": False,
                    }
            for marker in page.get("DeleteMarkers", []):
                if marker["IsLatest"]:
                    yield _gone(names.object_id(bucket, marker["Key"]), clock.stamp(marker["LastModified"]))

    def _list(self, zone: str, prefix: str) -> Iterator[dict[str, Any]]:
        bucket = self.buckets[zone]
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", []):
                yield {
                    "zone": zone,
                    "id": names.object_id(bucket, one["Key"]),
                    "etag": one["ETag"].strip('"'),
                    "size": one["Size"],
                    "moment": clock.stamp(one["LastModified"]),
                    "gone": False,
                }

    def _head(self, identity: str) -> dict[str, Any]:
        bucket, key = names.split_object_id(identity)
        try:
            head = self.s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return _gone(identity, None)
        return {
            "zone": "raw",
            "id": identity,
            "version_id": head.get("VersionId"),
            "etag": head["ETag"].strip('"'),
            "size": head["ContentLength"],
            "moment": clock.stamp(head["LastModified"]),
            "gone": False,
        }

    # --- the object catalog

    def _read_rows(self) -> None:
        if self.address is None:
            self._fill("rows", "object catalog, by a scan", self._scan())
            return
        self._fill("rows", "object catalog, by the keys listed", self._rows_of(self._known_ids()))
        for column in ("source_id", "staged_id"):  # what these rows name, and S3 may not list
            named = f"SELECT DISTINCT {column} AS id FROM rows WHERE {column} NOT IN (SELECT id FROM rows)"  # noqa: S608 (our own names)
            self._fill("rows", "object catalog, by lineage", self._rows_of(self._ids(named)))

    def _known_ids(self) -> Iterator[str]:
        self.ledger.fill("suspects", ({"id": identity} for identity in self._need_a_person()))
        return self._ids(" UNION ".join(f"SELECT id FROM {one}" for one in ("listed", "held", "receipted", "suspects")))  # noqa: S608 (our own names)

    def _ids(self, sql: str) -> Iterator[str]:
        return (str(one["id"]) for one in self.ledger.ask(sql))

    def _need_a_person(self) -> Iterator[str]:
        """The dataset's rows in the sparse index: a quarantined one has no other name once its object is gone."""
        assert self.address is not None  # noqa: S101 (only asked then)
        for shard in range(names.ATTENTION_SHARDS):
            owner = names.attention_shard(self.address.team, self.address.dataset, shard)
            for row in rows.query(
                self.objects, IndexName="attention", KeyConditionExpression=Key("attention").eq(owner)
            ):
                yield str(row["id"])

    def _rows_of(self, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows that stand under these identities, read consistently, a hundred in a call."""
        rest = iter(ids)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while some := list(islice(rest, AT_ONCE * rows.MOST_KEYS_IN_A_CALL)):
                size = rows.MOST_KEYS_IN_A_CALL
                groups = [some[start : start + size] for start in range(0, len(some), size)]
                for found in pool.map(lambda group: rows.get_many(self.objects, group), groups):
                    yield from map(row_line, found.values())

    def _scan(self) -> Iterator[dict[str, Any]]:
        """Every row, of the attributes that are compared."""
        described = {f"#a_{name}": name for name in self.ledger.columns["rows"]}

        def page(segment: int, after: Any) -> Any:
            place = {"ExclusiveStartKey": after} if after else {}
            return self.objects.scan(
                Segment=segment,
                TotalSegments=AT_ONCE,
                ProjectionExpression=", ".join(described),
                ExpressionAttributeNames=described,
                **place,
            )

        with ThreadPoolExecutor(AT_ONCE) as pool:
            reading: dict[Future[Any], int] = {pool.submit(page, one, None): one for one in range(AT_ONCE)}
            while reading:
                for ready in wait(reading, return_when=FIRST_COMPLETED).done:
                    segment, answer = reading.pop(ready), ready.result()
                    if after := answer.get("LastEvaluatedKey"):
                        reading[pool.submit(page, segment, after)] = segment
                    yield from map(row_line, answer["Items"])

    # --- batches, and what they published

    def _read_batches(self, address: DatasetAddress) -> None:
        self.say(f"batches of {address}")
        owner = Key("owner").eq(names.owner_key(address.team, address.dataset))
        every = rows.query(self.batches, KeyConditionExpression=owner, ConsistentRead=True)
        location = names.object_id(self.buckets["analytics"], names.table_prefix(address.team, address.dataset))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while some := list(islice(every, BATCHES_AT_ONCE)):
                read = list(pool.map(self._records, some))
                self.ledger.fill("batches", (one.line for one in read))
                self.ledger.fill("held", ({**held, **one.whose} for one in read for held in one.manifest or ()))
                receipts = [(one.whose, one.receipt) for one in read if one.receipt is not None]
                files = ((whose, key, size) for whose, receipt in receipts for key, size in receipt.files)
                bucket = self.buckets["analytics"]
                self.ledger.fill(
                    "receipted",
                    ({**whose, "id": names.object_id(bucket, key), "size": size} for whose, key, size in files),
                )
                folders = ((whose, folder) for whose, receipt in receipts for folder in receipt.partitions)
                self.ledger.fill(
                    "wanted_partitions",
                    ({**whose, **_spelled(location, names.object_id(bucket, one))} for whose, one in folders),
                )

    def _records(self, row: dict[str, Any]) -> _Records:
        manifest = receipt = None
        unreadable = (OutcomeMissingError, OutcomeMismatchError, KeyError, TypeError)
        if row["state"] in batches.COMMITTED:
            with suppress(*unreadable):
                uri = names.object_id(self.buckets["stage"], str(row["manifest"]))
                manifest = list(outcomes.read_json(self.s3, uri)["objects"])
        if row["state"] == State.PUBLISHED:
            with suppress(*unreadable):
                receipt = publishing.read_receipt(self.s3, self.run_of(row))
        return _Records(row, manifest, receipt)

    def _partitions(self, address: DatasetAddress) -> Iterator[dict[str, Any]]:
        glue, registration = self.session.client("glue"), self.registrations[address]
        try:
            for page in glue.get_paginator("get_partitions").paginate(
                DatabaseName=str(registration["database_name"]),
                TableName=str(registration["table_name"]),
                ExcludeColumnSchema=True,
            ):
                for one in page["Partitions"]:
                    yield {
                        "team": address.team,
                        "dataset": address.dataset,
                        "batch_id": one["Values"][-1] if one["Values"] else NO_BATCH,
                        "spelled": spelled(one["Values"]),
                    }
        except glue.exceptions.EntityNotFoundException:
            return  # nothing was published yet, or the table is gone


def spelled(values: Iterable[str]) -> str:
    """Partition values as one text."""
    return "/".join(values)


def _spelled(location: str, folder: str) -> dict[str, str]:
    """A receipt's partition, with both ways in which the Glue Data Catalog may spell it."""
    ways = [spelled(one) for one in publishing.spellings(location, folder)]
    return {"folder": folder, "meant": ways[0], "spelled": ways[-1]}


def _gone(identity: str, moment: str | None) -> dict[str, Any]:
    return {"zone": "raw", "id": identity, "moment": moment, "gone": True}
