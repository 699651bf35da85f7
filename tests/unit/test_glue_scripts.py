"""The job scripts' pure parts: names of objects, types of columns, Deequ's answers."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pyspark.sql import types as t

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "glue" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


transform_batch = script("transform_batch")
judge_batch = script("judge_batch")


@pytest.mark.parametrize(
    ("uri", "readable"),
    [
        ("s3://stage/air/flights/a b+c%20d~0A.parquet", True),
        ("s3://stage/air/flights/2013-01-01T10:00:00.csv~0A.parquet", True),
        ("s3://stage/air/flights/x[1]{2}*?.csv~0A.parquet", True),
        ("s3://stage/air/_flights/x.csv~0A.parquet", True),
        ("s3://stage/air/flights/_x.csv~0A.parquet", False),
        ("s3://stage/air/flights/.x.csv~0A.parquet", False),
        ("s3://stage/air/flights/x[1]10:00.csv~0A.parquet", False),
    ],
)
def test_which_objects_spark_reads_when_told_to(uri: str, readable: bool) -> None:
    assert transform_batch.is_readable(uri) is readable


def test_a_pattern_is_escaped_and_nothing_else() -> None:
    assert transform_batch.literal_path("s3://b/a b/%20+x[1]{2}*?\\é") == "s3://b/a b/%20+x\\[1\\]\\{2\\}\\*\\?\\\\é"


@pytest.mark.parametrize(
    ("data_type", "glue"),
    [
        (t.StringType(), "string"),
        (t.LongType(), "bigint"),
        (t.ShortType(), "smallint"),
        (t.DecimalType(10, 2), "decimal(10,2)"),
        (t.TimestampNTZType(), "timestamp"),
        (t.ArrayType(t.StructType([t.StructField("at", t.TimestampNTZType())])), "array<struct<at:timestamp>>"),
        (t.MapType(t.StringType(), t.DoubleType()), "map<string,double>"),
    ],
)
def test_spark_s_types_in_the_words_of_a_glue_table(data_type: t.DataType, glue: str) -> None:
    assert transform_batch.glue_type(data_type, "c") == glue


@pytest.mark.parametrize("data_type", [t.NullType(), t.DayTimeIntervalType(), t.ArrayType(t.NullType())])
def test_a_type_that_no_glue_table_has_is_refused_by_its_column(data_type: t.DataType) -> None:
    with pytest.raises(transform_batch.OutputError, match="column c is"):
        transform_batch.glue_type(data_type, "c")


@pytest.mark.parametrize(
    ("reason", "at_fault"),
    [
        ("Value: 0.71 does not meet the constraint requirement!", True),
        ("Value: NULL does not meet the constraint requirement!", True),
        ("0.00% of rows passed", True),
        ("Input data does not include column x!", False),
        ("Input data does not include column x!\nValue: NULL does not meet the constraint requirement!", False),
        ("Can't execute the assertion: Unknown operand type: class X!", False),
        ("", False),
    ],
)
def test_a_failed_rule_and_a_rule_that_could_not_be_run_are_told_apart(reason: str, at_fault: bool) -> None:
    assert judge_batch.is_data_at_fault(reason) is at_fault


def test_a_verdict_without_a_result_is_an_error() -> None:
    assert judge_batch.verdict("RowCount > 1", None).outcome == "Error"


def test_a_passed_rule_has_no_reason_and_json_s_numbers() -> None:
    metrics = {"a": float("nan"), "b": 1.0}
    row = {"Outcome": "Passed", "FailureReason": "the other branch", "EvaluatedMetrics": metrics}
    assert judge_batch.verdict("r", row) == judge_batch.Verdict("r", "Passed", "", {"a": None, "b": 1.0})


def test_reasons_lose_their_query_plans() -> None:
    text = "[UNRESOLVED] no column x; line 1 pos 35;\n'Aggregate [count(1)]\n+- 'Filter 'x\n   +- Relation\n"
    assert judge_batch.one_line(text) == "[UNRESOLVED] no column x; line 1 pos 35;"


@pytest.mark.parametrize("schema", [2, "1", None])
def test_a_manifest_of_another_schema_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch, schema: object) -> None:
    job = transform_batch
    monkeypatch.setattr(job, "read_text", lambda _s3, _uri: json.dumps({"schema": schema, "objects": []}))
    with pytest.raises(job.UnknownSchemaError, match=r"s3://stage/manifest\.json has schema"):
        job.read_manifest(None, "s3://stage/manifest.json")
    monkeypatch.setattr(job, "read_text", lambda _s3, _uri: json.dumps({"schema": job.SCHEMA, "objects": []}))
    assert job.read_manifest(None, "s3://stage/manifest.json")["objects"] == []
