"""What each program of a batch does that is no Spark: it reads the manifest, and writes what Spark would have written.

Beside it in an image stands the program itself, whose one own part is a ``Transform``: staged files in, a table out.
Staged objects are fetched into a folder; what is published is Parquet below the pending prefix, in folders
``<column>=<value>`` named as Spark names them; the outcome file is the last act and the proof of work.

The rules are those of ``glue/transform_batch.py``: staged files are merged by column name, one name with two types is
an error, and so are rows in without rows out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import boto3
import duckdb

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from mypy_boto3_s3.client import S3Client

SCHEMA = 1
RESERVED_COLUMN = "batch"
"""The last partition key of every published table."""
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
FETCHED_AT_ONCE = 16
EXIT_MESSAGE = Path("/opt/ml/output/message")
"""Where SageMaker reads why a container ended: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html"""
MOST_EXIT_MESSAGE = 1000
EXIT_STATUS_LATE = 124
"""As timeout(1) has it."""
DELETED_AT_ONCE = 1000
"""Of one call: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""
WORDS = ("JOB_RUN_ID", "team", "dataset", "batch_id", "attempt", "manifest", "output", "outcome")
"""What a program is told: Glue's own words."""
SETTINGS = {
    "TimeZone": "'UTC'",
    "python_enable_replacements": "false",
    "enable_progress_bar": "false",  # it would stand in the log
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
PLAIN_TYPES = {
    "boolean": ("BOOLEAN", "boolean"),
    "tinyint": ("TINYINT", "tinyint"),
    "smallint": ("SMALLINT", "smallint"),
    "integer": ("INTEGER", "int"),
    "bigint": ("BIGINT", "bigint"),
    # Hive has no unsigned numbers: the next type that holds them all
    "utinyint": ("SMALLINT", "smallint"),
    "usmallint": ("INTEGER", "int"),
    "uinteger": ("BIGINT", "bigint"),
    # sums are of these types in DuckDB, and bigint in Spark: what does not fit is an error in both
    "ubigint": ("BIGINT", "bigint"),
    "hugeint": ("BIGINT", "bigint"),
    "float": ("FLOAT", "float"),
    "double": ("DOUBLE", "double"),
    "varchar": ("VARCHAR", "string"),
    "blob": ("BLOB", "binary"),
    "date": ("DATE", "date"),
    # Glue tables know one timestamp, of microseconds in UTC
    "timestamp": ("TIMESTAMP", "timestamp"),
    "timestamp_s": ("TIMESTAMP", "timestamp"),
    "timestamp_ms": ("TIMESTAMP", "timestamp"),
    "timestamp_ns": ("TIMESTAMP", "timestamp"),
    "timestamp with time zone": ("TIMESTAMP", "timestamp"),
}
"""By DuckDB's type: the type that is written, and the Glue table's."""
ESCAPED = {chr(code) for code in (*range(1, 32), 127)} | set("\"#%'*/:=?\\{[]^")
"""What Spark escapes in a partition's folder. Source: ExternalCatalogUtils.escapePathName (Spark 3.5)."""

NOTHING: dict[str, Any] = {"rows_in": 0, "rows_out": 0, "columns": [], "partition_columns": [], "files": []}
"""The work of an attempt of which every object has changed or gone: what was published of it goes, too."""


class TransformError(Exception):
    """The batch cannot be transformed, for the reason in the message (one line)."""


class UnknownSchemaError(TransformError):
    """The manifest was written by a later version of Tarn, which must not be guessed at."""


class UnreadableObjectError(TransformError):
    """An object of the manifest is not there, no Parquet, or has other rows than were staged."""


class StagedSchemaError(TransformError):
    """The staged objects do not make one table."""


class HeavyTransformError(TransformError):
    """The dataset's own SQL or notebook failed; names it."""


class OutputError(TransformError):
    """What the dataset's transform returned cannot be published."""


@dataclass(frozen=True)
class Source:
    """The text of a dataset's transform, and the URI that it came from."""

    uri: str
    text: str


@dataclass(frozen=True)
class Staged:
    """The staged objects as files of this machine, in the manifest's order, and their rows."""

    files: Sequence[Path]
    rows: int


Transform = Callable[["DuckDBPyConnection", Staged, Source | None, Path], None]
"""Makes the table ``result`` on the connection, from staged files and the dataset's own text; a folder is its own.

The connection reads and writes in that folder and beside the staged files, and reaches nothing else of the machine.

Raises:
    HeavyTransformError: the dataset's own text failed.
"""


def run(transform: Transform, words: Mapping[str, str]) -> None:
    """Do the work of one attempt of a batch, and leave its outcome file.

    Raises:
        TransformError: one of its kinds above; nothing of the batch may be published.
    """
    s3: S3Client = boto3.client("s3")
    manifest = read_manifest(s3, words["manifest"])
    work = transform_batch(s3, transform, manifest, words["output"]) if manifest["objects"] else NOTHING
    outcome = {
        "schema": SCHEMA,
        "job": "transform",
        "run_id": words["JOB_RUN_ID"],
        "team": words["team"],
        "dataset": words["dataset"],
        "batch_id": words["batch_id"],
        "attempt": int(words["attempt"]),
        **work,
    }
    print(f"batch {words['batch_id']}: {work['rows_in']} rows in, {work['rows_out']} out, {len(work['files'])} files")
    bucket, key = split(words["outcome"])
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(outcome).encode(), ContentType="application/json")


def transform_batch(s3: S3Client, transform: Transform, manifest: Mapping[str, Any], output: str) -> dict[str, Any]:
    """Transform what ``manifest`` lists to ``output``; gives what the outcome file says of the work.

    Raises:
        TransformError: nothing of the batch may be published.
    """
    partition_by = [name.lower() for name in manifest["registration"].get("partition_by") or []]
    with tempfile.TemporaryDirectory(prefix="batch-") as folder:
        files = fetch(s3, manifest["objects"], Path(folder, "staged"))
        place = Path(folder, "written")
        work = transform_files(transform, files, manifest["objects"], heavy_source(s3, manifest), partition_by, place)
        return {**work, "files": replace_output(s3, place, output)}


def main(transform: Transform, words: Mapping[str, str]) -> None:
    """The end of a program: what is wrong with the batch is one line, and the exit status 1.

    ``JOB_TIMEOUT_MINUTES`` of the environment is its time, where the service has no limit of its own.
    """
    if minutes := os.environ.get("JOB_TIMEOUT_MINUTES"):
        limit = threading.Timer(float(minutes) * 60, _end_late, [minutes])
        limit.daemon = True
        limit.start()
    try:
        run(transform, words)
    except TransformError as error:
        said = f"{type(error).__name__}: {error}"
        if EXIT_MESSAGE.parent.is_dir():
            EXIT_MESSAGE.write_text(said[:MOST_EXIT_MESSAGE])
        sys.exit(f"batch {words['batch_id']}: {said}")


def _end_late(minutes: str) -> None:
    print(f"the program ran longer than JOB_TIMEOUT_MINUTES, which is {minutes}", file=sys.stderr, flush=True)
    os._exit(EXIT_STATUS_LATE)


def arguments(given: Sequence[str]) -> dict[str, str]:
    """The words as a command line gives them, ``--team air`` and so on; exits with 2 where one is missing."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for word in WORDS:
        parser.add_argument(f"--{word}", required=True)
    return vars(parser.parse_args(given))


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def read_manifest(s3: S3Client, uri: str) -> dict[str, Any]:
    """The manifest at ``uri``.

    Raises:
        UnknownSchemaError: it is not of this version; the batch fails, and a new attempt reads the same manifest.
    """
    manifest: dict[str, Any] = json.loads(read_text(s3, uri))
    if manifest.get("schema") != SCHEMA:
        raise UnknownSchemaError(
            f"{uri} has schema {manifest.get('schema')!r}, and this program reads {SCHEMA}: deploy the version of Tarn "
            "that wrote it, or a later one, and run the batch again"
        )
    return manifest


def read_text(s3: S3Client, uri: str) -> str:
    """The object at an ``s3://`` URI, as text."""
    bucket, key = split(uri)
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def heavy_source(s3: S3Client, manifest: Mapping[str, Any]) -> Source | None:
    """The dataset's heavy transform, as its registration in the manifest names it."""
    registration = manifest["registration"]
    name = registration.get("heavy_transform")
    if not name:
        return None
    uri = f"s3://{manifest['asset_bucket']}/{registration['asset_prefix']}{name}"
    return Source(uri, read_text(s3, uri))


def fetch(s3: S3Client, objects: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Download the staged objects of a manifest, under names of their own."""
    folder.mkdir(parents=True)
    files = [folder / f"object-{number:05}.parquet" for number in range(len(objects))]

    def download(entry: Mapping[str, Any], file: Path) -> None:
        bucket, key = split(entry["id"])
        s3.download_file(bucket, key, str(file))

    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        for _ in pool.map(download, objects, files):
            pass
    return files


def transform_files(  # noqa: PLR0917 - a step of the way, in its order
    transform: Transform,
    files: Sequence[Path],
    objects: Sequence[Mapping[str, Any]],
    source: Source | None,
    partition_by: Sequence[str],
    place: Path,
) -> dict[str, Any]:
    """Transform staged files to Parquet below ``place``; gives what the outcome file says of the work.

    Raises:
        TransformError: one of its kinds above.
    """
    names = dict(zip(files, (str(entry["id"]) for entry in objects), strict=True))
    with tempfile.TemporaryDirectory(prefix="transform-") as folder, duckdb.connect(f"{folder}/work.duckdb") as duck:
        lock(duck, Path(folder), {place.parent, *(file.parent for file in files)})
        check_types(duck, names)
        staged = Staged(files, checked_rows_in(duck, files, objects))
        transform(duck, staged, source, Path(folder))
        return written(duck, staged.rows, partition_by, place)


def lock(duck: DuckDBPyConnection, folder: Path, others: Iterable[Path]) -> None:
    """Let SQL see these folders alone: without that it reads ``/proc/self/environ``, where a role's keys may stand."""
    places = ", ".join(sorted(literal(f"{place.resolve()}/") for place in (folder, *others)))
    for setting, value in (
        *SETTINGS.items(),
        ("temp_directory", literal(str(folder / "spill"))),
        ("allowed_directories", f"[{places}]"),
        ("enable_external_access", "false"),
        ("lock_configuration", "true"),
    ):
        duck.execute(f"SET {setting} = {value}")


def check_types(duck: DuckDBPyConnection, names: Mapping[Path, str]) -> None:
    """Hold each column of each file against the first that has it.

    Raises:
        UnreadableObjectError: a file is no Parquet.
        StagedSchemaError: a column has two types.
    """
    seen: dict[str, tuple[str, str]] = {}
    for file, uri in names.items():
        try:
            described = duck.execute(f"DESCRIBE SELECT * FROM read_parquet({literal(str(file))})").fetchall()  # noqa: S608
        except duckdb.Error as error:
            raise UnreadableObjectError(f"{uri}: {reason(error)}") from error
        for name, kind, *_ in described:
            first_kind, first_uri = seen.setdefault(name, (kind, uri))
            if kind != first_kind:
                raise StagedSchemaError(
                    "the staged objects cannot be read as one table: "
                    f"column {name} is {first_kind} in {first_uri} and {kind} in {uri}"
                )


def checked_rows_in(duck: DuckDBPyConnection, files: Sequence[Path], objects: Sequence[Mapping[str, Any]]) -> int:
    """Count the rows, and hold them against those that the first hop wrote.

    Raises:
        UnreadableObjectError: there are more or fewer than were staged.
    """
    found = int(duck.execute(f"SELECT count(*) FROM {scan(files)}").fetchall()[0][0])  # noqa: S608
    rows = [entry.get("rows") for entry in objects]
    if None not in rows and found != (expected := sum(map(int, rows))):  # type: ignore[arg-type]
        raise UnreadableObjectError(f"{expected} rows were staged, and {len(objects)} objects hold {found}")
    return found


def scan(files: Iterable[Path]) -> str:
    """Parquet files as one table, merged by column name: what a file lacks is NULL."""
    listed = ", ".join(literal(str(file)) for file in files)
    return f"read_parquet([{listed}], union_by_name = true)"


def written(duck: DuckDBPyConnection, rows_in: int, partition_by: Sequence[str], place: Path) -> dict[str, Any]:
    """Write the table ``result`` below ``place``, with the names and types that a Glue table has.

    Raises:
        OutputError: it cannot be published.
    """
    result = duck.table("result")
    columns = publishable(list(zip(result.columns, result.types, strict=True)))
    check_names([column.name for column in columns], partition_by)
    rows_out = int(duck.execute("SELECT count(*) FROM result").fetchall()[0][0])
    if rows_in and not rows_out:
        raise OutputError(f"{rows_in} rows came in and the transform returned none")
    by_name = {column.name: column for column in columns}
    if empty := [name for name in partition_by if _has_empty(duck, by_name[name])]:
        raise OutputError(f"rows without a value in {', '.join(empty)}, by which the table is partitioned")
    place.mkdir(parents=True)
    if rows_out:
        selected = ", ".join(f"CAST({quoted(one.source)} AS {one.written}) AS {quoted(one.name)}" for one in columns)
        folders = f", PARTITION_BY ({', '.join(map(quoted, partition_by))})" if partition_by else ""
        target = literal(str(place.resolve() if partition_by else place.resolve() / "data_0.parquet"))
        try:
            duck.execute(f"COPY (SELECT {selected} FROM result) TO {target} (FORMAT parquet{folders})")  # noqa: S608
        except duckdb.Error as error:
            raise OutputError(f"what the transform returns cannot be written: {reason(error)}") from error
    return {
        "rows_in": rows_in,
        "rows_out": rows_out,
        "columns": [by_name[name].told for name in by_name if name not in partition_by],
        "partition_columns": [by_name[name].told for name in partition_by],
    }


@dataclass(frozen=True)
class Column:
    """A column of ``result``: its own name, its name and type in a Glue table, the type in which it is written."""

    source: str
    name: str
    written: str
    kind: str

    @property
    def told(self) -> dict[str, str]:
        """As the outcome file holds it."""
        return {"name": self.name, "type": self.kind}


def publishable(found: Sequence[tuple[str, Any]]) -> list[Column]:
    """Names and types as a Glue table has them: lower case, one kind of timestamp.

    Raises:
        OutputError: a type that no Glue table has.
    """
    return [Column(name, name.lower(), *table_type(kind, name)) for name, kind in found]


def check_names(names: Sequence[str], partition_by: Sequence[str]) -> None:
    """Raise `OutputError` for columns that clash, are missing, or leave nothing beside the partitions."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OutputError(f"the transform returns these columns more than once: {', '.join(twice)}")
    if RESERVED_COLUMN in names:
        raise OutputError(f"a column cannot be called {RESERVED_COLUMN}: it is the last partition key of every table")
    if missing := [name for name in partition_by if name not in names]:
        raise OutputError(f"PartitionBy names {', '.join(missing)}; the transform returns {', '.join(names)}")
    if len(names) == len(set(partition_by)):
        raise OutputError("every column is in PartitionBy: a table needs one that is not")


def table_type(kind: Any, column: str) -> tuple[str, str]:
    """A type of DuckDB as it is written, and in the words of a Glue table (Hive's), for nested ones too.

    Source: https://docs.aws.amazon.com/athena/latest/ug/data-types.html

    Raises:
        OutputError: Glue tables have no such type.
    """
    if kind.id in ("list", "array"):
        (_, inner), *_ = kind.children
        written_as, told = table_type(inner, column)
        return f"{written_as}[]", f"array<{told}>"
    if kind.id == "map":
        (key_written, key), (value_written, value) = (table_type(one, column) for _, one in kind.children)
        return f"MAP({key_written}, {value_written})", f"map<{key},{value}>"
    if kind.id == "struct":
        fields = [(name, *table_type(one, column)) for name, one in kind.children]
        inside = ", ".join(f"{quoted(name)} {written_as}" for name, written_as, _ in fields)
        return f"STRUCT({inside})", f"struct<{','.join(f'{name}:{told}' for name, _, told in fields)}>"
    if kind.id == "decimal":
        return str(kind), str(kind).lower()
    if (known := PLAIN_TYPES.get(str(kind).lower())) is None:
        raise OutputError(f"column {column} is {kind}, a type that no Glue table has: cast it")
    return known


def _has_empty(duck: DuckDBPyConnection, column: Column) -> bool:
    name = quoted(column.source)
    found = duck.execute(f"SELECT 1 FROM result WHERE {name} IS NULL OR CAST({name} AS VARCHAR) = '' LIMIT 1")  # noqa: S608
    return bool(found.fetchall())


def replace_output(s3: S3Client, place: Path, output: str) -> list[str]:
    """Put the files below ``place`` below ``output``, instead of what a former run of the attempt left; gives keys."""
    bucket, prefix = split(output)
    former = list(_keys(s3, bucket, prefix))
    for first in range(0, len(former), DELETED_AT_ONCE):
        doomed = [{"Key": key} for key in former[first : first + DELETED_AT_ONCE]]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True})  # type: ignore[typeddict-item]
        if left := answer.get("Errors"):
            raise TransformError(f"{output}: what a former run left stays: {left[0]}")
    keys = {file: prefix + table_path(file.relative_to(place)) for file in sorted(place.rglob("*.parquet"))}

    def upload(file: Path) -> None:
        s3.upload_file(str(file), bucket, keys[file])

    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        for _ in pool.map(upload, keys):
            pass
    return sorted(keys.values())


def _keys(s3: S3Client, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (one["Key"] for one in page.get("Contents", []))


def table_path(path: Path) -> str:
    """A file's place below the pending prefix: the folders that DuckDB wrote, as Spark spells them."""
    *folders, name = path.parts
    return "/".join([*map(_folder, folders), name])


def _folder(written_as: str) -> str:
    name, _, value = written_as.partition("=")
    return f"{escaped(unquote(name))}={escaped(unquote(value))}"


def escaped(value: str) -> str:
    """A partition's name or value as Spark writes it into a folder's name."""
    return "".join(f"%{ord(one):02X}" if one in ESCAPED else one for one in value)


def reason(error: BaseException) -> str:
    """An error of DuckDB in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def faulty_line(error: BaseException) -> int | None:
    """The line of an SQL text that DuckDB's error names."""
    found = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
    return int(found[1]) if found else None


def literal(text: str) -> str:
    """``text`` as a string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """``name`` as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'
