"""One crawl: what lies under an S3 target becomes a table and its partitions.

As Glue's crawler does it with `TableGroupingPolicy: CombineCompatibleSchemas` and a table level that is the target's
own: one table for each target, named after its folder, its columns read from the files, its partitions from the folders
`key=value`. New columns are appended and none is taken away (`MergeNewColumns`); a partition has its table's columns
(`InheritFromTable`). Files are told apart by their first bytes: Parquet, JSON, and CSV with a header for the rest.
Values of partition keys stay as they stand, and their type is string.
https://docs.aws.amazon.com/glue/latest/dg/crawler-s3-folder-table-partition.html
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from tarn.local.extension.hive_types import from_duckdb
from tarn.local.extension.role_sessions import RoleSession

_IN_A_CALL = 100
_HIVE = "org.apache.hadoop.hive.ql.io"
_TEXT = ("org.apache.hadoop.mapred.TextInputFormat", f"{_HIVE}.HiveIgnoreKeyTextOutputFormat")
# Input format, output format and SerDe by classification
_STORAGE = {
    "parquet": (
        f"{_HIVE}.parquet.MapredParquetInputFormat",
        f"{_HIVE}.parquet.MapredParquetOutputFormat",
        f"{_HIVE}.parquet.serde.ParquetHiveSerDe",
    ),
    "json": (*_TEXT, "org.openx.data.jsonserde.JsonSerDe"),
    "csv": (*_TEXT, "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"),
}
_READERS = {"parquet": "read_parquet", "json": "read_json_auto", "csv": "read_csv_auto"}
_SERDE_PARAMETERS = {"parquet": {"serialization.format": "1"}, "json": {}, "csv": {"field.delim": ","}}
_PARAMETERS = {"csv": {"skip.header.line.count": "1"}}

Columns = list[dict[str, str]]


class CrawlError(Exception):
    """The files do not make one table."""


class CrawlStopped(Exception):  # noqa: N818 - no error: somebody stopped the crawler
    """StopCrawler was called."""


@dataclass(frozen=True)
class Target:
    """What was found under a target; `partitions` are the folders' URIs by their values."""

    uri: str
    kind: str
    columns: Columns
    keys: list[str]
    partitions: dict[tuple[str, ...], str]


class Crawl:
    """A run of a crawler, over the API and with the credentials of the crawler's role."""

    def __init__(self, session: RoleSession, crawler: dict[str, Any], folder: Path, log: Callable[[str], None]) -> None:
        self._s3, self._glue = session.client("s3"), session.client("glue")
        self._crawler, self._folder, self._log = crawler, folder, log

    def run(self, stopping: threading.Event) -> None:
        """Crawl every target.

        Raises:
            CrawlError, CrawlStopped, ClientError (a call was denied), duckdb.Error (a file cannot be read).
        """
        targets = self._crawler["Targets"]
        if others := [kind for kind, given in targets.items() if given and kind != "S3Targets"]:
            raise CrawlError(f"{', '.join(others)} cannot be crawled on a laptop")
        for number, target in enumerate(targets.get("S3Targets", [])):
            found = self._look(target["Path"], self._folder / str(number), stopping)
            if found is not None:
                self._register(found)

    def _look(self, path: str, folder: Path, stopping: threading.Event) -> Target | None:
        """None where no file lies."""
        url = urlsplit(path)
        bucket, prefix = url.netloc, url.path.strip("/") + "/"
        self._s3.get_bucket_location(Bucket=bucket)
        keys = list(self._keys(bucket, prefix))
        self._log(f"{len(keys)} files under s3://{bucket}/{prefix}")
        if not keys:
            return None
        names, partitions = _layout(f"s3://{bucket}/{prefix}", [key.removeprefix(prefix) for key in keys])
        folder.mkdir(parents=True)
        files = []
        for number, key in enumerate(keys):
            if stopping.is_set():
                raise CrawlStopped
            files.append(folder / str(number))
            got = self._s3.get_object(Bucket=bucket, Key=key)  # not `download_file`, whose denial names no action
            with files[-1].open("wb") as file:
                shutil.copyfileobj(got["Body"], file)
        kinds = {_kind(file) for file in files}
        if len(kinds) > 1:
            raise CrawlError(f"s3://{bucket}/{prefix} holds files of {' and '.join(sorted(kinds))}")
        [kind] = kinds
        columns = _columns(kind, files)
        if both := {column["Name"] for column in columns} & set(names):
            raise CrawlError(f"{', '.join(sorted(both))} is a column of the files and a partition key")
        return Target(f"s3://{bucket}/{prefix}", kind, columns, names, partitions)

    def _keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """Objects with content; what begins with `_` or a dot is hidden."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", []):
                parts = one["Key"].removeprefix(prefix).split("/")
                if one["Size"] and not any(part.startswith(("_", ".")) for part in parts):
                    yield one["Key"]

    def _register(self, target: Target) -> None:
        database = self._crawler["DatabaseName"]
        self._glue.get_database(Name=database)
        name, table = self._table(database, target)
        columns = target.columns
        if table is None:
            self._glue.create_table(DatabaseName=database, TableInput=self._table_input(name, target, columns))
            self._log(f"table {database}.{name} created")
        else:
            if (keys := [key["Name"] for key in table["PartitionKeys"]]) != target.keys:
                raise CrawlError(f"table {database}.{name} is partitioned by {keys}, the folders by {target.keys}")
            stand: Columns = table["StorageDescriptor"]["Columns"]
            known = {column["Name"] for column in stand}
            columns = [*stand, *(column for column in target.columns if column["Name"] not in known)]
            if columns != stand and self._crawler["SchemaChangePolicy"].get("UpdateBehavior") != "LOG":
                self._glue.update_table(DatabaseName=database, TableInput=self._table_input(name, target, columns))
                self._log(f"table {database}.{name} updated")
        self._register_partitions(database, name, target, columns)

    def _table(self, database: str, target: Target) -> tuple[str, dict[str, Any] | None]:
        """The table of a target: under another name where the folder's is taken by a table elsewhere."""
        folder = target.uri.rstrip("/").rpartition("/")[2]
        name = self._crawler["TablePrefix"] + re.sub(r"\W", "_", folder).lower()
        for candidate in (name, f"{name}_{hashlib.md5(target.uri.encode(), usedforsecurity=False).hexdigest()}"):
            try:
                table = self._glue.get_table(DatabaseName=database, Name=candidate)["Table"]
            except self._glue.exceptions.EntityNotFoundException:
                return candidate, None
            if table["StorageDescriptor"].get("Location", "").rstrip("/") == target.uri.rstrip("/"):
                return candidate, table
        raise CrawlError(f"the name {name} is taken twice in {database}")

    def _table_input(self, name: str, target: Target, columns: Columns) -> dict[str, Any]:
        own = {"classification": target.kind, "typeOfData": "file", "UPDATED_BY_CRAWLER": self._crawler["Name"]}
        return {
            "Name": name,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": own | _PARAMETERS.get(target.kind, {}),
            "PartitionKeys": [{"Name": key, "Type": "string"} for key in target.keys],
            "StorageDescriptor": _storage(target, target.uri, columns),
        }

    def _register_partitions(self, database: str, table: str, target: Target, columns: Columns) -> None:
        if not target.keys:
            return
        known: dict[tuple[str, ...], Any] = {}
        wanted = [{"Values": list(values)} for values in target.partitions]
        for some in _chunks(wanted):
            answer = self._glue.batch_get_partition(DatabaseName=database, TableName=table, PartitionsToGet=some)
            known |= {tuple(one["Values"]): one["StorageDescriptor"] for one in answer["Partitions"]}
        inputs = {
            values: {"Values": list(values), "StorageDescriptor": _storage(target, uri, columns)}
            for values, uri in target.partitions.items()
        }
        new = [one for values, one in inputs.items() if values not in known]
        changed = [
            {"PartitionValueList": one["Values"], "PartitionInput": one}
            for values, one in inputs.items()
            if values in known and known[values] != one["StorageDescriptor"]
        ]
        where = {"DatabaseName": database, "TableName": table}
        for some in _chunks(new):
            _without_errors(self._glue.batch_create_partition(**where, PartitionInputList=some))
        for some in _chunks(changed):
            _without_errors(self._glue.batch_update_partition(**where, Entries=some))
        self._log(f"{len(new)} partitions of {database}.{table} created, {len(changed)} updated")


def _layout(uri: str, files: list[str]) -> tuple[list[str], dict[tuple[str, ...], str]]:
    """Partition keys, and the folder's URI for each combination of values."""
    folders = sorted({file.rpartition("/")[0] for file in files})
    spelt = {folder: [part.partition("=") for part in folder.split("/") if part] for folder in folders}
    keys = [
        [key.lower() if equals else f"partition_{place}" for place, (key, equals, _) in enumerate(parts)]
        for parts in spelt.values()
    ]
    if any(one != keys[0] for one in keys):
        raise CrawlError(f"the folders under {uri} are not of one table: {folders[:3]}")
    if not keys[0]:
        return [], {}
    return keys[0], {
        tuple(value if equals else key for key, equals, value in parts): f"{uri}{folder}/"
        for folder, parts in spelt.items()
    }


def _kind(file: Path) -> str:
    with file.open("rb") as opened:
        first = opened.read(64)
    if first.startswith(b"PAR1"):
        return "parquet"
    return "json" if first.lstrip()[:1] in (b"{", b"[") else "csv"


def _columns(kind: str, files: list[Path]) -> Columns:
    listed = ", ".join(f"'{file}'" for file in files)
    with duckdb.connect() as connection:
        read = connection.sql(
            f"SELECT * FROM {_READERS[kind]}([{listed}], union_by_name = true)"  # noqa: S608 - of files of ours
        )
        return [
            {"Name": name.lower(), "Type": from_duckdb(kind)}
            for name, kind in zip(read.columns, read.types, strict=True)
        ]


def _storage(target: Target, uri: str, columns: Columns) -> dict[str, Any]:
    given, taken, serde = _STORAGE[target.kind]
    return {
        "Columns": columns,
        "Location": uri,
        "InputFormat": given,
        "OutputFormat": taken,
        "SerdeInfo": {"SerializationLibrary": serde, "Parameters": _SERDE_PARAMETERS[target.kind]},
    }


def _chunks(things: list[Any]) -> Iterator[list[Any]]:
    yield from (things[start : start + _IN_A_CALL] for start in range(0, len(things), _IN_A_CALL))


def _without_errors(answer: dict[str, Any]) -> None:
    if answer.get("Errors"):
        raise CrawlError(f"partitions were refused: {answer['Errors'][:3]}")
