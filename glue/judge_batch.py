"""The second hop's audit: Deequ judges what the transform wrote, by the dataset's rules, before it is published.

Started by ``stage_to_analytics`` (``glue:startJobRun.sync``) with ``--team --dataset --batch_id --attempt --manifest
--input --transform_outcome --outcome``; the job's own ``--quality_jars`` repeats ``--extra-jars``, which Glue keeps for
itself. Reads the pending prefix with the columns and row count of the transform's outcome file, and the dataset's DQDL
(``rules.dqdl``), whose rules see the table as ``primary``.

The outcome file is the last act: it holds the run's id, the row count, ``passed``, and for each rule, in the order of
the text, whether it ``Passed``, ``Failed`` or was an ``Error`` (it could not be run, which is not passing), why, and
the metrics. A failed rule is a result, not a failed run: the run fails when nothing could be judged.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import boto3
from awsglue.utils import getResolvedOptions
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, Row, SparkSession

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SCHEMA = 1
ENGINE = "com.amazon.deequ.dqdl.EvaluateDataQuality"
CONFIGURATION = {
    # Deequ's own casts count on NULL for what does not fit: with ANSI, every rule on rows is an error
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
}
DATA_AT_FAULT = re.compile(
    r"Value: .* does not meet the constraint requirement[!.]"
    r"|[\d.]+% of rows passed.*"
    r"|Columns that do not match the pattern: .*"
    r"|Empty state for analyzer .*"
    r"|.*data ?frame (is|being) empty.*",
    re.IGNORECASE,
)
"""What Deequ 2.1.0 says of a rule that it could run: every other reason is an error of the rule."""


class JudgeError(Exception):
    """The batch cannot be judged, for the reason in the message (one line)."""


class JarError(JudgeError):
    """Deequ is not there, or not the one that this job was given."""


class RulesError(JudgeError):
    """The rules' text is not DQDL."""


class InputError(JudgeError):
    """What lies under the pending prefix is not what the transform wrote."""


@dataclass(frozen=True)
class Verdict:
    """One rule's result; ``rule`` is its text as the parser writes it."""

    rule: str
    outcome: str
    reason: str
    metrics: Mapping[str, float | None]


def configure(spark: SparkSession) -> None:
    """Set what decides the meaning of values, whatever the cluster's own defaults are."""
    for name, value in CONFIGURATION.items():
        spark.conf.set(name, value)


def checked_engine(spark: SparkSession, jars: Sequence[str]) -> str:
    """The path of the jar that Deequ comes from, which must be one of ``jars`` (by file name).

    Glue ships a data quality library of its own under the same class names, and the first on the class path wins.

    Raises:
        JarError: it is another one, or none.
    """
    jvm: Any = spark._jvm
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        engine = loader.loadClass(ENGINE)
    except Py4JJavaError as error:
        raise JarError(f"{ENGINE} is on no class path: give the job --extra-jars and --user-jars-first true") from error
    origin: str = engine.getProtectionDomain().getCodeSource().getLocation().getPath()
    ours = [PurePosixPath(jar.strip()).name for jar in jars]
    if PurePosixPath(origin).name not in ours:
        raise JarError(f"{ENGINE} comes from {origin}, which is none of {', '.join(ours)}: set --user-jars-first true")
    return origin


def read_pending(spark: SparkSession, uri: str, written: Mapping[str, Any]) -> DataFrame:
    """What the transform wrote, with the types that its outcome file ``written`` names, partition columns included.

    Raises:
        InputError: there are more or fewer rows than the transform counted.
    """
    every_column = [*written["columns"], *written["partition_columns"]]
    schema = ", ".join(f"`{column['name']}` {column['type']}" for column in every_column)
    if not written["files"]:
        return spark.createDataFrame([], schema)
    frame = spark.read.schema(schema).option("basePath", uri).parquet(uri)
    found = frame.count()
    if found != written["rows_out"]:
        raise InputError(f"the transform wrote {written['rows_out']} rows, and {found} are under {uri}")
    return frame


def normal_text(text: str) -> str:
    """DQDL as its parser wants it: no carriage returns, and a line end behind the last comment."""
    return "\n".join(text.splitlines()) + "\n"


def judged(frame: DataFrame, rules_uri: str, text: str) -> list[Verdict]:
    """Run the rules over ``frame``; a verdict for each, in the order of the text (Deequ's own is another).

    Raises:
        RulesError: the text is not DQDL, or names a rule that does not exist.
    """
    spark, rules = frame.sparkSession, normal_text(text)
    jvm: Any = spark._jvm
    frame.createOrReplaceTempView("primary")  # CustomSql reads it by this name
    try:
        parsed = jvm.software.amazon.glue.dqdl.parser.DQDLParser().parse(rules).getRules()
    except Py4JJavaError as error:
        message = error.java_exception.getMessage().removeprefix("Parsing Error: ")
        raise RulesError(f"{rules_uri}: {one_line(message)}") from error
    if not parsed:
        raise RulesError(f"{rules_uri}: it holds no rule")
    results = DataFrame(jvm.com.amazon.deequ.dqdl.EvaluateDataQuality.process(frame._jdf, rules), spark)
    by_rule = {row["Rule"]: row for row in results.collect()}
    return [verdict(rule.toString(), by_rule.get(rule.toString())) for rule in parsed]


def verdict(rule: str, row: Row | Mapping[str, Any] | None) -> Verdict:
    """Deequ's row for a rule as a verdict. It calls a rule that could not be run ``Failed``: the reason tells."""
    if row is None:
        return Verdict(rule, "Error", "Deequ gave no result for this rule", {})
    passed = row["Outcome"] == "Passed"
    reason = "" if passed else row["FailureReason"] or ""
    metrics = {name: value if math.isfinite(value) else None for name, value in (row["EvaluatedMetrics"] or {}).items()}
    outcome = "Passed" if passed else "Failed" if is_data_at_fault(reason) else "Error"
    return Verdict(rule, outcome, one_line(reason), metrics)


def is_data_at_fault(reason: str) -> bool:
    """Whether a failed rule was run and its data did not meet it; each line of ``reason`` is one finding."""
    lines = [line for line in reason.splitlines() if line.strip()]
    return bool(lines) and all(DATA_AT_FAULT.fullmatch(line.strip()) for line in lines)


def one_line(text: str) -> str:
    """A reason of several lines in one, without the query plans that Spark appends (cut at 1,000 characters)."""
    readable = [line.strip() for line in text.splitlines() if not re.match(r"\s*(['+:]|== SQL|-+\^|$)", line)]
    return " ".join(readable)[:1_000]


def read_text(s3: S3Client, uri: str) -> str:
    """The object at an ``s3://`` URI, as text."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def write_json(s3: S3Client, uri: str, value: Mapping[str, Any]) -> None:
    """Put ``value`` at an ``s3://`` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(value).encode(), ContentType="application/json")


def main() -> None:
    """Glue's entry point."""
    ids = ["team", "dataset", "batch_id", "attempt"]
    options = getResolvedOptions(sys.argv, [*ids, "manifest", "input", "transform_outcome", "outcome", "quality_jars"])
    s3: S3Client = boto3.client("s3")
    manifest = json.loads(read_text(s3, options["manifest"]))
    registration = manifest["registration"]
    rules_uri = f"s3://{manifest['asset_bucket']}/{registration['asset_prefix']}{registration['rules']}"
    rules = read_text(s3, rules_uri)
    written = json.loads(read_text(s3, options["transform_outcome"]))
    spark = SparkSession.builder.getOrCreate()
    configure(spark)
    print(f"{ENGINE} comes from {checked_engine(spark, options['quality_jars'].split(','))}")
    verdicts = judged(read_pending(spark, options["input"], written), rules_uri, rules)
    outcome = {
        "schema": SCHEMA,
        "job": "quality",
        "run_id": options["JOB_RUN_ID"],
        "team": options["team"],
        "dataset": options["dataset"],
        "batch_id": options["batch_id"],
        "attempt": int(options["attempt"]),
        "passed": all(one.outcome == "Passed" for one in verdicts),
        "rules": [asdict(one) for one in verdicts],
        "rows": written["rows_out"],
    }
    for one in verdicts:
        print(f"{one.outcome}: {one.rule} {one.reason}".rstrip())
    write_json(s3, options["outcome"], outcome)


if __name__ == "__main__":
    main()
