"""The second hop's heavy transform: the staged objects of one batch become Parquet under its pending prefix.

Started by ``stage_to_analytics`` (``glue:startJobRun.sync``) with ``--team --dataset --batch_id --attempt --manifest
--output --outcome``. Reads the manifest, exactly the staged objects that it lists, and the dataset's ``heavy.py``
(``transform(df)``) or ``heavy.sql`` (a query over the view ``staged``); without either, rows go through as they are.

The outcome file is the last act and the proof of work: it holds the run's id, rows in and out, the columns and the
files. A run that ends without it has not happened.

Staged files are merged by column name: what a file lacks is NULL, and one name with two types is an error.
A batch with rows in and no rows out is an error too. The same bytes run on AWS and on a laptop: every address is an
``s3://`` URI, and where the two differ is Spark's configuration, outside.
"""

from __future__ import annotations

import json
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
from awsglue.utils import getResolvedOptions
from botocore.exceptions import ClientError
from py4j.protocol import Py4JJavaError
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SCHEMA = 1
RESERVED_COLUMN = "batch"
"""The last partition key of every published table."""

CONFIGURATION = {
    # a value that does not fit is an error, on every version of Spark: 3.5 would make it NULL
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    # Glue tables know one timestamp: INT96 is the form that Athena, Hive and DuckDB all read as it
    "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
    "spark.sql.parquet.outputTimestampType": "INT96",
    # dates before 1582 (such as 0001-01-01) keep their calendar day: no file here was written by Spark 2
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    # a repeated run of the same attempt replaces what the first one left
    "spark.sql.sources.partitionOverwriteMode": "static",
    # files are looked at in so many tasks, and not each in one of its own: that took longer than reading them
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
}
MOST_COMPARED = 200
"""Objects whose columns are compared one by one to explain a failed merge."""
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""The name that Spark and Hive give to a partition without a value."""

NOTHING: dict[str, Any] = {"rows_in": 0, "rows_out": 0, "columns": [], "partition_columns": [], "files": []}
"""The work of an attempt of which every object has changed or gone: what was published of it goes, too."""


class TransformError(Exception):
    """The batch cannot be transformed, for the reason in the message (one line)."""


class ManifestMissingError(TransformError):
    """The list of the batch's objects is gone: nobody else knows which they are."""


class UnknownSchemaError(TransformError):
    """The manifest was written by a later version of Tarn, which must not be guessed at."""


class UnreadableObjectError(TransformError):
    """Spark would leave out, or misread, an object of the manifest."""


class StagedSchemaError(TransformError):
    """The staged objects do not make one table."""


class HeavyTransformError(TransformError):
    """The dataset's own code or SQL failed; names its file and, where known, the line."""


class OutputError(TransformError):
    """What the dataset's transform returned cannot be published."""


@dataclass(frozen=True)
class Source:
    """The text of a dataset's transform, and the URI that it came from."""

    uri: str
    text: str


def configure(spark: SparkSession) -> None:
    """Set what decides the meaning of values, whatever the cluster's own defaults are."""
    for name, value in CONFIGURATION.items():
        spark.conf.set(name, value)


def is_readable(uri: str) -> bool:
    """Whether Spark reads the object at ``uri`` when told to: silence of Spark's is loss of data here.

    Spark skips names that begin with ``_`` or ``.``, even when named one by one; and Hadoop's glob, which is asked as
    soon as a path holds a glob's character, takes a colon for the end of a scheme.
    Source: HadoopFSUtils.shouldFilterOutPathName (Spark 3.5); https://issues.apache.org/jira/browse/HADOOP-3257
    """
    path = uri.split("/", 3)[3]
    name = path.rsplit("/", 1)[-1]
    is_skipped = name.startswith((".", "_")) and not (name.startswith("_") and "=" in name)
    return not is_skipped and not (":" in path and is_glob(path))


def is_glob(path: str) -> bool:
    """Whether Spark takes ``path`` for a pattern."""
    return bool(re.search(r"[{}\[\]*?\\]", path))


def literal_path(uri: str) -> str:
    """``uri`` with its glob characters escaped, so that a pattern matches just itself.

    Spark's option ``__globPaths__=false`` is no way to do it: with several such paths each file is read several times.
    """
    return re.sub(r"([{}\[\]*?\\])", r"\\\1", uri)


def read_staged(spark: SparkSession, uris: Sequence[str]) -> DataFrame:
    """The staged objects as one table, merged by column name.

    Raises:
        UnreadableObjectError: naming the objects that Spark cannot read.
        StagedSchemaError: a column has two types, or a file is not Parquet.
    """
    if unreadable := [uri for uri in uris if not is_readable(uri)]:
        raise UnreadableObjectError(f"Spark cannot read objects with these names: {', '.join(unreadable)}")
    try:
        return spark.read.option("mergeSchema", "true").parquet(*map(literal_path, uris))
    except (Py4JJavaError, PySparkException) as error:
        why = type_clash(spark, uris[:MOST_COMPARED]) or reason(error)
        raise StagedSchemaError(f"the staged objects cannot be read as one table: {why}") from error


def type_clash(spark: SparkSession, uris: Sequence[str]) -> str | None:
    """The first column with two types and the objects that differ, which Spark's own error does not name."""
    seen: dict[str, tuple[str, str]] = {}
    for uri in uris:
        try:
            fields = spark.read.parquet(literal_path(uri)).schema
        except (Py4JJavaError, PySparkException) as error:
            return f"{uri}: {reason(error)}"
        for field in fields:
            kind = field.dataType.simpleString()
            first_kind, first_uri = seen.setdefault(field.name, (kind, uri))
            if kind != first_kind:
                return f"column {field.name} is {first_kind} in {first_uri} and {kind} in {uri}"
    return None


def checked_rows_in(staged: DataFrame, objects: Sequence[Mapping[str, Any]]) -> int:
    """Count the rows read, and hold them against those that the first hop wrote.

    Raises:
        UnreadableObjectError: Spark read more or fewer rows than were staged.
    """
    found = staged.count()
    rows = [entry.get("rows") for entry in objects]
    if None not in rows and found != (expected := sum(map(int, rows))):  # type: ignore[arg-type]
        raise UnreadableObjectError(f"{expected} rows were staged, and Spark read {found} of {len(objects)} objects")
    return found


def transformed(staged: DataFrame, source: Source | None) -> DataFrame:
    """What the dataset makes of its staged rows.

    Raises:
        HeavyTransformError: the dataset's code or SQL raised, or does not return a DataFrame.
    """
    if source is None:
        return staged
    with blaming(source.uri):
        if source.uri.endswith(".sql"):
            staged.createOrReplaceTempView("staged")
            return staged.sparkSession.sql(source.text.strip().rstrip(";"))
        result = loaded(source)(staged)
    if not isinstance(result, DataFrame):
        raise HeavyTransformError(f"{source.uri}: transform(df) returned {type(result).__name__}, not a DataFrame")
    return result


def loaded(source: Source) -> Callable[[DataFrame], Any]:
    """The function ``transform`` of a dataset's module, whose tracebacks then show the dataset's own lines."""
    module = ModuleType("heavy")
    module.__file__ = source.uri
    sys.modules[module.__name__] = module
    # executors do not have the file
    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    linecache.cache[source.uri] = (len(source.text), None, source.text.splitlines(keepends=True), source.uri)
    # the team's own code, from a bucket that only deployments write to, under the team's own role
    exec(compile(source.text, source.uri, "exec"), module.__dict__)  # noqa: S102
    transform = module.__dict__.get("transform")
    if not callable(transform):
        raise HeavyTransformError(f"{source.uri}: no function transform(df) in it")
    return transform  # type: ignore[no-any-return]


@contextmanager
def blaming(uri: str) -> Iterator[None]:
    """Turn whatever the dataset's code raises into one line with its file and line."""
    try:
        yield
    except TransformError:
        raise
    except Exception as error:
        line = faulty_line(error, uri)
        place = uri if line is None else f"{uri}, line {line}"
        raise HeavyTransformError(f"{place}: {reason(error)}") from error


def faulty_line(error: BaseException, uri: str) -> int | None:
    """The innermost line of the file ``uri`` in an error of the driver or, by its text, of a Python worker."""
    if isinstance(error, SyntaxError) and error.filename == uri:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == uri]
    lines += [int(number) for number in re.findall(rf'File "{re.escape(uri)}", line (\d+)', str(error))]
    return lines[-1] if lines else None


def reason(error: BaseException) -> str:
    """An error in one line: of Java's causes the root, of a Python worker's traceback the last line."""
    if isinstance(error, Py4JJavaError):
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        text = f"{cause.getClass().getSimpleName()}: {cause.getMessage()}"
    else:
        text = str(error) if isinstance(error, PySparkException) else f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1 if "Traceback (most recent call last)" in text else 0]


def publishable(result: DataFrame, partition_by: Sequence[str]) -> DataFrame:
    """``result`` with names and types as a Glue table has them: lower case, and one kind of timestamp.

    Raises:
        OutputError: columns that clash, are missing or have a type that no Glue table has.
    """
    names = [name.lower() for name in result.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OutputError(f"the transform returns these columns more than once: {', '.join(twice)}")
    if RESERVED_COLUMN in names:
        raise OutputError(f"a column cannot be called {RESERVED_COLUMN}: it is the last partition key of every table")
    if missing := [name for name in partition_by if name not in names]:
        raise OutputError(f"PartitionBy names {', '.join(missing)}; the transform returns {', '.join(names)}")
    if len(names) == len(set(partition_by)):
        raise OutputError("every column is in PartitionBy: a table needs one that is not")
    for field in result.schema:
        glue_type(field.dataType, field.name)
    renamed = result.toDF(*names)
    zoneless = {
        field.name: f.col(f"`{field.name}`").cast("timestamp") for field in renamed.schema if is_zoneless(field)
    }
    return renamed.withColumns(zoneless) if zoneless else renamed


def is_zoneless(field: t.StructField) -> bool:
    """Whether a column is a ``timestamp_ntz``, which Glue tables do not have."""
    return isinstance(field.dataType, t.TimestampNTZType)


def glue_type(data_type: t.DataType, column: str) -> str:
    """A Spark type in the words of a Glue table (Hive's), for nested ones too.

    Source: https://docs.aws.amazon.com/athena/latest/ug/data-types.html

    Raises:
        OutputError: Glue tables have no such type.
    """
    if isinstance(data_type, t.ArrayType):
        return f"array<{glue_type(data_type.elementType, column)}>"
    if isinstance(data_type, t.MapType):
        return f"map<{glue_type(data_type.keyType, column)},{glue_type(data_type.valueType, column)}>"
    if isinstance(data_type, t.StructType):
        return f"struct<{','.join(f'{field.name}:{glue_type(field.dataType, column)}' for field in data_type)}>"
    if isinstance(data_type, t.TimestampNTZType):
        return "timestamp"
    plain = (t.StringType, t.BinaryType, t.BooleanType, t.DateType, t.TimestampType, t.NumericType)
    if not isinstance(data_type, plain):
        raise OutputError(f"column {column} is {data_type.simpleString()}, a type that no Glue table has: cast it")
    return data_type.simpleString()


def columns(fields: Sequence[t.StructField]) -> list[dict[str, str]]:
    """Names and Glue types, as the outcome file and the table hold them."""
    return [{"name": field.name, "type": glue_type(field.dataType, field.name)} for field in fields]


def gathered(result: DataFrame, partition_by: Sequence[str]) -> DataFrame:
    """``result`` with the rows of one partition together, so that it gets few files, and a large one still several.

    Source: https://spark.apache.org/docs/3.5.6/sql-ref-syntax-qry-select-hints.html (REBALANCE)
    """
    if not partition_by:
        return result
    names = ", ".join(f"`{name.replace('`', '``')}`" for name in partition_by)
    return result.sparkSession.sql(f"SELECT /*+ REBALANCE({names}) */ * FROM {{result}}", result=result)  # noqa: S608


def write(result: DataFrame, output: str, partition_by: Sequence[str], source: Source | None) -> None:
    """Write ``result`` below ``output``, in the place of what a former run of the same attempt left there.

    Spark computes only now, so this is where a dataset's functions meet the values.

    Raises:
        HeavyTransformError: a function of the dataset raised.
        TransformError: another reason, which may lie in the dataset's expressions or in the storage.
    """
    writer = (
        gathered(result, partition_by)
        .write.mode("overwrite")
        .option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    )
    try:
        writer.partitionBy(*partition_by).parquet(output)
    except (Py4JJavaError, PySparkException) as error:
        if source and (line := faulty_line(error, source.uri)):
            raise HeavyTransformError(f"{source.uri}, line {line}: {reason(error)}") from error
        whose = f"what {source.uri} returns" if source else "the staged rows"
        raise TransformError(f"writing {whose}: {reason(error)}") from error


def written_keys(spark: SparkSession, output: str) -> list[str]:
    """Keys of the objects below ``output``, as the file system that wrote them lists them."""
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(output)
    files = path.getFileSystem(spark._jsc.hadoopConfiguration())
    if not files.exists(path):
        return []
    listed = files.listFiles(path, True)
    keys = []
    while listed.hasNext():
        keys.append(listed.next().getPath().toUri().getPath().lstrip("/"))
    return sorted(key for key in keys if is_data(key))


def is_data(key: str) -> bool:
    """Whether a key is a data file's: Spark's committers and Hadoop leave others."""
    parts = key.split("/")
    leftover = any(part.startswith(("__magic", "_temporary")) for part in parts)
    return not leftover and not parts[-1].startswith(("_", ".")) and not key.endswith("_$folder$")


def transform_batch(
    spark: SparkSession,
    objects: Sequence[Mapping[str, Any]],
    source: Source | None,
    partition_by: Sequence[str],
    output: str,
) -> dict[str, Any]:
    """Transform the staged ``objects`` of a manifest to ``output``; gives what the outcome file says of the work.

    Raises:
        TransformError: one of its kinds above; nothing of the batch may be published.
    """
    staged = read_staged(spark, [entry["id"] for entry in objects])
    rows_in = checked_rows_in(staged, objects)
    result = publishable(transformed(staged, source), partition_by)
    write(result, output, partition_by, source)
    keys = written_keys(spark, output)
    rows_out = spark.read.schema(result.schema).parquet(output).count() if keys else 0
    if rows_in and not rows_out:
        raise OutputError(f"{rows_in} rows came in and the transform returned none")
    if empty := [name for name in partition_by if any(f"/{name}={NULL_PARTITION}/" in key for key in keys)]:
        raise OutputError(f"rows without a value in {', '.join(empty)}, by which the table is partitioned")
    fields = {field.name: field for field in result.schema}
    return {
        "rows_in": rows_in,
        "rows_out": rows_out,
        "columns": columns([field for name, field in fields.items() if name not in partition_by]),
        "partition_columns": columns([fields[name] for name in partition_by]),
        "files": keys,
    }


def heavy_source(s3: S3Client, manifest: Mapping[str, Any]) -> Source | None:
    """The dataset's heavy transform, as its registration in the manifest names it."""
    registration = manifest["registration"]
    name = registration.get("heavy_transform")
    if not name:
        return None
    uri = f"s3://{manifest['asset_bucket']}/{registration['asset_prefix']}{name}"
    return Source(uri, read_text(s3, uri))


def read_text(s3: S3Client, uri: str) -> str:
    """The object at an ``s3://`` URI, as text."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def write_json(s3: S3Client, uri: str, value: Mapping[str, Any]) -> None:
    """Put ``value`` at an ``s3://`` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(value).encode(), ContentType="application/json")


def read_manifest(s3: S3Client, uri: str) -> dict[str, Any]:
    """The manifest at ``uri``.

    Raises:
        ManifestMissingError: it was deleted.
        UnknownSchemaError: it is not of this version; the batch fails, and a new attempt reads the same manifest.
    """
    try:
        text = read_text(s3, uri)
    except ClientError as error:
        # To a role that may list only below a prefix, S3 answers 403 for a key that is not there.
        if error.response["Error"]["Code"] not in ("NoSuchKey", "AccessDenied"):
            raise
        raise ManifestMissingError(
            f"{uri} cannot be read ({error.response['Error']['Code']}): was it deleted? Bring its version back "
            "and run the batch again"
        ) from error
    manifest: dict[str, Any] = json.loads(text)
    if manifest.get("schema") != SCHEMA:
        raise UnknownSchemaError(
            f"{uri} has schema {manifest.get('schema')!r}, and this job reads {SCHEMA}: deploy the version of Tarn "
            "that wrote it, or a later one, and run the batch again"
        )
    return manifest


def run(s3: S3Client, manifest: Mapping[str, Any], output: str) -> dict[str, Any]:
    """Transform what ``manifest`` lists to ``output``.

    Raises:
        TransformError: nothing of the batch may be published.
    """
    spark = SparkSession.builder.getOrCreate()
    configure(spark)
    partition_by = [name.lower() for name in manifest["registration"].get("partition_by") or []]
    return transform_batch(spark, manifest["objects"], heavy_source(s3, manifest), partition_by, output)


def main() -> None:
    """Glue's entry point."""
    names = ["team", "dataset", "batch_id", "attempt", "manifest", "output", "outcome"]
    options = getResolvedOptions(sys.argv, names)
    s3: S3Client = boto3.client("s3")
    manifest = read_manifest(s3, options["manifest"])
    work = run(s3, manifest, options["output"]) if manifest["objects"] else NOTHING
    outcome = {
        "schema": SCHEMA,
        "job": "transform",
        "run_id": options["JOB_RUN_ID"],
        "team": options["team"],
        "dataset": options["dataset"],
        "batch_id": options["batch_id"],
        "attempt": int(options["attempt"]),
        **work,
    }
    print(f"batch {options['batch_id']}: {work['rows_in']} rows in, {work['rows_out']} out, {len(work['files'])} files")
    write_json(s3, options["outcome"], outcome)


if __name__ == "__main__":
    main()
