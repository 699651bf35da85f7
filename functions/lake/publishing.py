"""Publishing: what was audited becomes what is read, all of it or none.

The published prefix of a batch, ``<team>/<dataset>/[<column>=<value>/]batch=<id>/``, is made *equal* to the audited
pending prefix, and its partition is registered last: here, or by the dataset's crawler, which the state machine runs
afterwards (``Publish: crawler``; then no table and no partition is made here). Whoever reads through the Glue Data
Catalog therefore sees a batch whole or not at all: a partition that is registered already (an earlier attempt's) is
taken out of the catalog before its files change. Every step may be run again, from any point, also by another
attempt, whose Spark names its files otherwise: what any attempt set out to publish is written down before its first
copy, so that nothing that an interrupted one left is forgotten. An attempt that is left without an object writes no
file and knows no columns: publishing it takes away what earlier attempts published, and needs no table. An attempt
that fails once it has set out to publish is withdrawn: what it copied would show with the next crawl.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from boto3.s3.transfer import TransferConfig

from lake import names, outcomes, rows, views
from lake.batches import Batch, NotInStateError, State
from lake.clock import stamp
from lake.outcomes import Column, OutcomeMissingError, PendingFile, Run, TransformOutcome

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_glue.client import GlueClient
    from mypy_boto3_glue.type_defs import PartitionInputTypeDef, StorageDescriptorTypeDef, TableTypeDef
    from mypy_boto3_s3.client import S3Client

BATCH_COLUMN = "batch"
"""The last partition key of every published table: it makes a batch a partition of its own."""
SOURCE_ETAG = "tarn-source-etag"
"""User metadata of a published file: the ETag of the audited file it is a copy of (with KMS, a copy's own differs)."""
COPY = TransferConfig(multipart_threshold=256 * 2**20, multipart_chunksize=256 * 2**20, max_concurrency=4)
"""S3 copies at most 5 GB in one call; parts of 256 MiB answer well within the client's read timeout."""
COPIES_AT_ONCE = 8
CRAWLER = "crawler"
"""The registration's ``Publish`` that leaves table and partitions to a crawler; anything else, or none, does not."""
SMALL_INTEGER = re.compile(r"\b(tinyint|smallint)\b")
MOST_DELETED_IN_A_CALL = 1000
TABLE_TRIES = 5
"""Batches of one dataset may publish at the same time: whoever is second looks at the table again."""
TABLE_INPUT = (
    "Name",
    "Description",
    "Owner",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "TableType",
    "Parameters",
)
"""What of a table as Glue tells it may be given back to UpdateTable, which takes no empty text."""


class PendingLayoutError(Exception):
    """A pending file does not lie in the partition directories that the registration declares."""


class ColumnTypeChangedError(Exception):
    """The batch has a column with another type than the published table: nothing was published."""


class TableConflictError(Exception):
    """The table in the Glue Data Catalog is not this dataset's, or was changed by others at every try."""


class PartitionError(Exception):
    """Glue did not take a partition."""


@dataclass(frozen=True)
class Clients:
    """What publishing works with."""

    s3: S3Client
    glue: GlueClient
    batches: Table


@dataclass(frozen=True)
class PublishedTable:
    """The table that the batch goes into; ``location`` is its prefix in the analytics bucket."""

    database: str
    name: str
    bucket: str
    location: str
    columns: Sequence[Column] = ()
    partition_keys: Sequence[Column] = ()


@dataclass(frozen=True)
class Receipt:
    """What stands published: ``files`` as key and size in bytes; ``deleted`` keys that earlier attempts published.

    ``crawler_name`` is the crawler that is to register the partitions, None where they are registered.
    """

    at: str
    files: Sequence[tuple[str, int]]
    partitions: Sequence[str]
    deleted: Sequence[str]
    crawler_name: str | None = None


def publish(clients: Clients, run: Run, run_id: str, now: datetime) -> Receipt:
    """Publish the attempt whose transform's run is ``run_id``; gives (and leaves in S3) the receipt.

    Raises:
        NotInStateError: the batch is at another attempt, or finished: this one may not touch what is published.
        OutcomeMissingError, OutcomeMismatchError: the pending prefix is not what the transform wrote.
        PendingLayoutError, ColumnTypeChangedError, TableConflictError: before anything was changed that is read.
        ViewConflictError: others changed the view at every try.
        PartitionError: after the files were copied; the partition is not in the catalog.
    """
    outcome = outcomes.transform(clients.s3, run, run_id)
    registration = outcomes.read_json(clients.s3, run.manifest_uri)["registration"]
    check_turn(clients.batches, run)
    table = _table(run, registration, outcome)
    pending = outcomes.pending_files(clients.s3, run)
    wanted = {_published_key(run, table, one.key): one for one in pending}
    crawler_name = registration["crawler_name"] if registration.get("publish") == CRAWLER else None
    columns: list[Column] = []
    if table.columns and crawler_name:
        _check_crawled_table(clients.glue, table)
    elif table.columns:
        columns = _ensure_table(clients.glue, table)
    ever = _write_ahead(clients.s3, run, wanted)

    wanted_of, ever_of = _by_prefix(wanted), _by_prefix(ever)
    for prefix in sorted(ever_of):
        _make_equal(clients, run, table, prefix, {key: wanted[key] for key in wanted_of.get(prefix, [])})
    check_turn(clients.batches, run)
    if table.columns and not crawler_name:
        views.ensure(clients.glue, table.database, table.name, f"{run.team}/{run.dataset}", BATCH_COLUMN)
        for prefix in sorted(wanted_of):
            check_turn(clients.batches, run)
            _register(clients.glue, table, prefix, columns)

    receipt = Receipt(
        at=stamp(now),
        files=[(key, wanted[key].size) for key in sorted(wanted)],
        partitions=sorted(wanted_of),
        deleted=sorted(ever - set(wanted)),
        crawler_name=crawler_name,
    )
    _put_json(
        clients.s3,
        receipt_uri(run),
        {
            "schema": rows.SCHEMA,
            "at": receipt.at,
            "files": [{"key": key, "size": size} for key, size in receipt.files],
            "partitions": receipt.partitions,
            "deleted": receipt.deleted,
            "crawler_name": receipt.crawler_name,
        },
    )
    return receipt


def withdraw(clients: Clients, run: Run) -> int:
    """Take away whatever stands of the batch, so that an attempt that failed while it was published leaves nothing.

    An attempt that had not set out to publish changed nothing: then an earlier one's files stay as they are.

    Returns:
        How many files any attempt set out to publish, all of which are gone.

    Raises:
        NotInStateError: the batch is at another attempt, or finished: what stands is not this attempt's to take away.
        PartitionError: S3 kept files.
    """
    check_turn(clients.batches, run)
    registration = outcomes.read_json(clients.s3, run.manifest_uri)["registration"]
    attempt, keys = _read_ahead(clients.s3, run)
    if attempt != run.attempt:
        return 0
    bucket, _ = names.split_object_id(run.pending_uri)
    table = PublishedTable(
        registration["database_name"], registration["table_name"], bucket, names.table_prefix(run.team, run.dataset)
    )
    for prefix in sorted(_by_prefix(keys)):
        _make_equal(clients, run, table, prefix, {})
    return len(keys)


def receipt_uri(run: Run) -> str:
    """Where an attempt leaves its receipt, beside its outcome files."""
    bucket, _ = names.split_object_id(run.manifest_uri)
    return names.object_id(
        bucket, names.attempt_prefix(run.team, run.dataset, run.batch_id, run.attempt) + "published.json"
    )


def read_receipt(s3: S3Client, run: Run) -> Receipt:
    """The receipt of an attempt that was published.

    Raises:
        OutcomeMissingError: it was not.
    """
    found = outcomes.read_json(s3, receipt_uri(run))
    return Receipt(
        at=found["at"],
        files=[(one["key"], int(one["size"])) for one in found["files"]],
        partitions=found["partitions"],
        deleted=found["deleted"],
        crawler_name=found.get("crawler_name"),
    )


def check_turn(batches: Table, run: Run, or_at: State | None = None) -> None:
    """Raises NotInStateError unless the batch is in flight (or at the state ``or_at``) at this attempt."""
    row = rows.get(batches, Batch(run.team, run.dataset, run.batch_id, run.attempt).key) or {}
    if row.get("attempt") != run.attempt or row.get("state") not in (State.READY, State.STARTED, or_at):
        raise NotInStateError(
            f"batch {run.batch_id} is {row.get('state')} at attempt {row.get('attempt')}: "
            f"attempt {run.attempt} may not publish"
        )


def _table(run: Run, registration: Mapping[str, Any], outcome: TransformOutcome) -> PublishedTable:
    bucket, _ = names.split_object_id(run.pending_uri)
    declared = [str(name).lower() for name in registration.get("partition_by") or []]
    written = [one.name for one in outcome.partition_columns]
    if outcome.columns and declared != written:
        raise PendingLayoutError(f"the registration partitions by {declared}, the transform wrote {written}")
    return PublishedTable(
        database=registration["database_name"],
        name=registration["table_name"],
        bucket=bucket,
        location=names.table_prefix(run.team, run.dataset),
        columns=outcome.columns,
        partition_keys=[*outcome.partition_columns, Column(BATCH_COLUMN, "string")],
    )


def _published_key(run: Run, table: PublishedTable, pending_key: str) -> str:
    """Where a pending file is published: below its partition directories and the batch's own."""
    _, pending = names.split_object_id(run.pending_uri)
    *directories, name = pending_key.removeprefix(pending).split("/")
    declared = [one.name for one in table.partition_keys[:-1]]
    found = [one.partition("=")[0].lower() for one in directories]
    if found != declared or not all("=" in one for one in directories):
        raise PendingLayoutError(f"{pending_key} lies in {directories}: not one directory for each of {declared}")
    return table.location + "".join(f"{one}/" for one in directories) + f"{BATCH_COLUMN}={run.batch_id}/{name}"


def _by_prefix(keys: Iterable[str]) -> dict[str, list[str]]:
    """Keys by the partition that they lie in."""
    found = defaultdict(list)
    for key in keys:
        found[key[: key.rfind("/") + 1]].append(key)
    return dict(found)


def spellings(location: str, prefix: str) -> list[list[str]]:
    """The partition values that a prefix below a table's location spells, as Spark meant and as they stand.

    Spark escapes them as in a URL. Whether a crawler takes them back is not documented.
    """
    stand = [one.partition("=")[2] for one in prefix.removeprefix(location).rstrip("/").split("/")]
    meant = [unquote(one) for one in stand]
    return [meant] if meant == stand else [meant, stand]


# --- the files


def _ahead_uri(run: Run) -> str:
    bucket, _ = names.split_object_id(run.manifest_uri)
    return names.object_id(bucket, names.batch_prefix(run.team, run.dataset, run.batch_id) + "publishing.json")


def _read_ahead(s3: S3Client, run: Run) -> tuple[int | None, set[str]]:
    """The last attempt of the batch that set out to publish, and every key that any attempt set out to publish."""
    try:
        found = outcomes.read_json(s3, _ahead_uri(run))
    except OutcomeMissingError:
        return None, set()
    return found.get("attempt"), set(found["keys"])  # an older lake's names no attempt


def _write_ahead(s3: S3Client, run: Run, wanted: Iterable[str]) -> set[str]:
    """Write down that the attempt sets out to publish, before it changes anything; gives every key as _read_ahead."""
    before = _read_ahead(s3, run)
    ever = before[1] | set(wanted)
    if (run.attempt, ever) != before:
        _put_json(s3, _ahead_uri(run), {"schema": rows.SCHEMA, "attempt": run.attempt, "keys": sorted(ever)})
    return ever


def _make_equal(
    clients: Clients, run: Run, table: PublishedTable, prefix: str, wanted: Mapping[str, PendingFile]
) -> None:
    """Copy into a published prefix what is missing or differs, delete what is extra.

    A function outlives its execution when that is stopped: whose turn it is is read before each change, so that one
    that wakes up late does not touch what the next attempt has published.

    Raises:
        NotInStateError: it is another attempt's turn.
    """
    there = {one.key: one for one in outcomes.list_files(clients.s3, table.bucket, prefix)}
    copied = [key for key, one in wanted.items() if not _is_copy(clients.s3, table.bucket, there.get(key), one)]
    extra = sorted(set(there) - set(wanted))
    if not copied and not extra and wanted:
        return
    check_turn(clients.batches, run)
    _deregister(clients.glue, table, prefix)

    def copy(key: str) -> None:
        check_turn(clients.batches, run)
        _copy(clients.s3, table.bucket, wanted[key], key)

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        list(pool.map(copy, copied))
    for start in range(0, len(extra), MOST_DELETED_IN_A_CALL):
        some = extra[start : start + MOST_DELETED_IN_A_CALL]
        check_turn(clients.batches, run)
        answer = clients.s3.delete_objects(
            Bucket=table.bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
        )
        if answer.get("Errors"):
            raise PartitionError(f"S3 kept {len(answer['Errors'])} files below {prefix}: {answer['Errors'][:3]}")


def _is_copy(s3: S3Client, bucket: str, there: PendingFile | None, audited: PendingFile) -> bool:
    if there is None or there.size != audited.size:
        return False
    head = s3.head_object(Bucket=bucket, Key=there.key)
    return head["Metadata"].get(SOURCE_ETAG) == _plain(audited.etag)


def _copy(s3: S3Client, bucket: str, audited: PendingFile, key: str) -> None:
    """Copy exactly the version that was listed: if the file changes in the meantime, S3 refuses."""
    s3.copy(
        CopySource={"Bucket": bucket, "Key": audited.key},
        Bucket=bucket,
        Key=key,
        ExtraArgs={
            "CopySourceIfMatch": audited.etag,
            "Metadata": {SOURCE_ETAG: _plain(audited.etag)},
            "MetadataDirective": "REPLACE",
        },
        Config=COPY,
    )


def _plain(etag: str) -> str:
    """Without the quotes that belong to it in a header."""
    return etag.strip('"')


def _put_json(s3: S3Client, uri: str, value: Mapping[str, Any]) -> None:
    bucket, key = names.split_object_id(uri)
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(value).encode(), ContentType="application/json")


# --- the Glue Data Catalog


def _storage(location: str, columns: Sequence[Column]) -> StorageDescriptorTypeDef:
    return {
        "Columns": [{"Name": one.name, "Type": one.kind} for one in columns],
        "Location": location,
        "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
        "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
    }


def _ensure_table(glue: GlueClient, table: PublishedTable) -> list[Column]:
    """Create the table, or append the batch's new columns to it; gives its columns as they then are.

    Columns are only ever appended: those that a batch lacks stay, and are NULL in it.
    """
    for _ in range(TABLE_TRIES):
        try:
            stands = glue.get_table(DatabaseName=table.database, Name=table.name)["Table"]
        except glue.exceptions.EntityNotFoundException:
            if _create_table(glue, table):
                return list(table.columns)
            continue
        columns = _evolved(table, stands)
        if len(columns) == len(stands["StorageDescriptor"]["Columns"]) or _update_table(glue, table, stands, columns):
            return columns
    raise TableConflictError(
        f"table {table.database}.{table.name} was changed by others {TABLE_TRIES} times: try again"
    )


def _create_table(glue: GlueClient, table: PublishedTable) -> bool:
    """False when somebody else was quicker."""
    try:
        glue.create_table(
            DatabaseName=table.database,
            TableInput={
                "Name": table.name,
                "TableType": "EXTERNAL_TABLE",
                "Parameters": {"EXTERNAL": "TRUE", "classification": "parquet"},
                "PartitionKeys": [{"Name": one.name, "Type": one.kind} for one in table.partition_keys],
                "StorageDescriptor": _storage(names.object_id(table.bucket, table.location), table.columns),
            },
        )
    except glue.exceptions.AlreadyExistsException:
        return False
    return True


def _update_table(glue: GlueClient, table: PublishedTable, stands: TableTypeDef, columns: Sequence[Column]) -> bool:
    """False when the table has changed since it was read (``VersionId`` makes the write conditional)."""
    given: dict[str, Any] = {name: stands[name] for name in TABLE_INPUT if stands.get(name)}  # type: ignore[literal-required]
    described = [{"Name": one.name, "Type": one.kind} for one in columns]
    known = {one["Name"]: one for one in stands["StorageDescriptor"]["Columns"]}
    given["StorageDescriptor"] = {
        **stands["StorageDescriptor"],
        "Columns": [known.get(one["Name"], one) for one in described],
    }
    version = {"VersionId": stands["VersionId"]} if "VersionId" in stands else {}
    try:
        glue.update_table(DatabaseName=table.database, TableInput=given, **version)  # type: ignore[arg-type]
    except glue.exceptions.ConcurrentModificationException:
        return False
    return True


def _evolved(table: PublishedTable, stands: TableTypeDef) -> list[Column]:
    """The table's columns with the batch's new ones behind them."""
    where = f"table {table.database}.{table.name}"
    location = _location(stands)
    if location != names.object_id(table.bucket, table.location):
        raise TableConflictError(f"{where} lies at {location}: it is not this dataset's")
    keys = [(one["Name"], one.get("Type")) for one in stands.get("PartitionKeys", [])]
    if keys != [(one.name, one.kind) for one in table.partition_keys]:
        raise TableConflictError(
            f"{where} is partitioned by {keys}, the batch by {[(one.name, one.kind) for one in table.partition_keys]}: "
            "partition keys cannot change, give the dataset another table"
        )
    columns = _columns(stands)
    _check_kinds(table, columns, lambda kind: kind)
    known = {one.name for one in columns}
    return [*columns, *(one for one in table.columns if one.name not in known)]


def _check_crawled_table(glue: GlueClient, table: PublishedTable) -> None:
    """A crawler keeps a column's type whatever a file has, and the files' partition could then not be read.

    Its partition keys are always strings, and its types come from Parquet, which stores small integers as ``int``, in
    lower case.
    A table elsewhere is not the crawler's: verify_crawl says so.
    """
    try:
        stands = glue.get_table(DatabaseName=table.database, Name=table.name)["Table"]
    except glue.exceptions.EntityNotFoundException:
        return
    if _location(stands) == names.object_id(table.bucket, table.location):
        _check_kinds(table, _columns(stands), lambda kind: SMALL_INTEGER.sub("int", kind.lower()))


def _location(stands: TableTypeDef) -> str:
    return str(stands["StorageDescriptor"].get("Location", "")).rstrip("/") + "/"


def _columns(stands: TableTypeDef) -> list[Column]:
    return [Column(one["Name"], one.get("Type", "")) for one in stands["StorageDescriptor"]["Columns"]]


def _check_kinds(table: PublishedTable, columns: Sequence[Column], family: Callable[[str], str]) -> None:
    """Refuse a column that stands with another type; types of one ``family`` are no other.

    Raises:
        ColumnTypeChangedError: naming each such column.
    """
    kinds = {one.name: one.kind for one in columns}
    changed = [
        f"{one.name} is {kinds[one.name]} in the table and {one.kind} in the batch"
        for one in table.columns
        if one.name in kinds and family(kinds[one.name]) != family(one.kind)
    ]
    if changed:
        raise ColumnTypeChangedError(f"table {table.database}.{table.name}: {'; '.join(changed)}")


def _deregister(glue: GlueClient, table: PublishedTable, prefix: str) -> None:
    """Take a partition out of the catalog, if it is there, so that nobody reads it while its files change."""
    for values in spellings(table.location, prefix):
        with suppress(glue.exceptions.EntityNotFoundException):
            glue.delete_partition(DatabaseName=table.database, TableName=table.name, PartitionValues=values)


def _register(glue: GlueClient, table: PublishedTable, prefix: str, columns: Sequence[Column]) -> None:
    """The last step: the partition is in the catalog, with the table's columns (engines match them by place)."""
    values = spellings(table.location, prefix)[0]
    partition: PartitionInputTypeDef = {
        "Values": values,
        "StorageDescriptor": _storage(names.object_id(table.bucket, prefix), columns),
    }
    try:
        glue.create_partition(DatabaseName=table.database, TableName=table.name, PartitionInput=partition)
    except glue.exceptions.AlreadyExistsException:
        answer = glue.batch_update_partition(
            DatabaseName=table.database,
            TableName=table.name,
            Entries=[{"PartitionValueList": values, "PartitionInput": partition}],
        )
        if answer.get("Errors"):
            raise PartitionError(f"{prefix}: {answer['Errors'][0].get('ErrorDetail')}") from None
