"""The programs of the engines that are no Spark: what they read, write, refuse and say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import batch_program as program
import boto3
import duckdb
import pytest
import transform_with_duckdb as with_duckdb
import transform_with_notebook as with_notebook

from tests.mocked_aws import mocked_aws

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "engines"
WORDS = {
    "JOB_RUN_ID": "token",
    "team": "air",
    "dataset": "flights",
    "batch_id": "b1",
    "attempt": "2",
    "manifest": "s3://stage/air/_batches/b1/manifest.json",
    "output": "s3://analytics/air/_pending/b1/2/",
    "outcome": "s3://stage/air/_batches/b1/2/transform.json",
}


class Batch:
    """Buckets with one batch: its staged objects, its manifest, and what became of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.s3 = folder, boto3.client("s3", region_name="eu-west-1")
        for bucket in ("stage", "analytics", "assets"):
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.objects: list[dict[str, Any]] = []
        self.heavy: str | None = None

    def stage(self, query: str, rows: int | None = None) -> None:
        """One staged object, as the first hop writes it."""
        file = self.folder / "staged.parquet"
        duckdb.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
        found = duckdb.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]  # noqa: S608
        key = f"air/flights/_odd {len(self.objects)}+%41~0A.parquet"
        self.s3.upload_file(str(file), "stage", key)
        self.objects.append({"id": f"s3://stage/{key}", "rows": found if rows is None else rows})

    def write(self, name: str, text: str) -> None:
        self.heavy = name
        self.s3.put_object(Bucket="assets", Key=f"assets/x/flights/{name}", Body=text.encode())

    def run(self, transform: Any = with_duckdb.transform, schema: int = 1, **registration: Any) -> dict[str, Any]:
        """The outcome file that the program leaves."""
        given = {"asset_prefix": "assets/x/flights/", "heavy_transform": self.heavy, **registration}
        manifest = {"schema": schema, "asset_bucket": "assets", "registration": given, "objects": self.objects}
        self.s3.put_object(Bucket="stage", Key="air/_batches/b1/manifest.json", Body=json.dumps(manifest).encode())
        program.run(transform, WORDS)
        found: dict[str, Any] = json.load(
            self.s3.get_object(Bucket="stage", Key="air/_batches/b1/2/transform.json")["Body"]
        )
        return found

    def keys(self) -> list[str]:
        found = self.s3.list_objects_v2(Bucket="analytics", Prefix="air/_pending/").get("Contents", [])
        return [one["Key"] for one in found]

    def published(self) -> list[tuple[Any, ...]]:
        """What stands below the pending prefix, with the partitions' columns as text."""
        place = self.folder / "pending"
        for key in self.keys():
            target = place / key.removeprefix("air/_pending/b1/2/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file("analytics", key, str(target))
        return duckdb.execute(
            f"SELECT * FROM read_parquet('{place}/**/*.parquet', hive_partitioning = false) ORDER BY ALL"  # noqa: S608
        ).fetchall()

    @property
    def has_outcome(self) -> bool:
        return "Contents" in self.s3.list_objects_v2(Bucket="stage", Prefix="air/_batches/b1/2/transform.json")


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    with mocked_aws():
        yield Batch(tmp_path)


def test_without_a_transform_rows_go_through_merged_by_column_name(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id, 'a' AS name")
    batch.stage("SELECT DATE '2013-01-01' AS day, 2 AS id")
    outcome = batch.run()
    assert batch.published() == [(1, "a", None), (2, None, date(2013, 1, 1))]
    assert outcome == {
        "schema": 1,
        "job": "transform",
        "run_id": "token",
        "team": "air",
        "dataset": "flights",
        "batch_id": "b1",
        "attempt": 2,
        "rows_in": 2,
        "rows_out": 2,
        "columns": [
            {"name": "id", "type": "int"},
            {"name": "name", "type": "string"},
            {"name": "day", "type": "date"},
        ],
        "partition_columns": [],
        "files": ["air/_pending/b1/2/data_0.parquet"],
    }


def test_partitions_lie_in_folders_as_spark_spells_them(batch: Batch) -> None:
    batch.stage("SELECT * FROM (VALUES (1, 'a b/c=%:ü'), (2, 'a b/c=%:ü'), (3, 'plain')) AS t(id, Place)")
    outcome = batch.run(partition_by=["Place"])
    folders = {key.rpartition("/")[0].rpartition("/")[2] for key in outcome["files"]}
    assert folders == {"place=a b%2Fc%3D%25%3Aü", "place=plain"}
    assert outcome["partition_columns"] == [{"name": "place", "type": "string"}]
    assert outcome["columns"] == [{"name": "id", "type": "int"}]
    assert sorted(outcome["files"]) == sorted(batch.keys())


def test_a_second_run_of_the_attempt_replaces_what_the_first_left(batch: Batch) -> None:
    batch.s3.put_object(Bucket="analytics", Key="air/_pending/b1/2/day=1/part-0.parquet", Body=b"of a run that died")
    batch.stage("SELECT 1 AS id")
    outcome = batch.run()
    assert batch.keys() == outcome["files"] == ["air/_pending/b1/2/data_0.parquet"]


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("1::UTINYINT", "smallint"),
        ("1::UINTEGER", "bigint"),
        ("sum(1)", "bigint"),
        ("1.5::DECIMAL(10, 2)", "decimal(10,2)"),
        ("TIMESTAMP '2013-01-01 05:00:00'", "timestamp"),
        ("TIMESTAMPTZ '2013-01-01 00:00:00-05'", "timestamp"),
        ("TIMESTAMP_NS '2013-01-01 05:00:00'", "timestamp"),
        ("'x'::BLOB", "binary"),
        ("[1, 2]", "array<int>"),
        ("{'a': 1, 'b': [TIMESTAMP '2013-01-01 05:00:00']}", "struct<a:int,b:array<timestamp>>"),
        ("MAP {'k': 1.5::FLOAT}", "map<string,float>"),
    ],
)
def test_types_are_those_of_a_glue_table(batch: Batch, expression: str, kind: str) -> None:
    batch.stage("SELECT 1 AS id")
    batch.write("heavy.sql", f"SELECT {expression} AS value FROM staged")  # noqa: S608
    assert batch.run()["columns"] == [{"name": "value", "type": kind}]
    (row,) = batch.published()
    if kind == "timestamp":
        assert str(row[0]) == "2013-01-01 05:00:00"


@pytest.mark.parametrize(
    ("query", "partition_by", "reason"),
    [
        ("SELECT id FROM staged WHERE id > 100", [], "OutputError: 2 rows came in and the transform returned none"),
        ("SELECT id, id AS batch FROM staged", [], "OutputError: a column cannot be called batch"),
        ("SELECT id, 1 AS ID_1 FROM staged", ["day"], "OutputError: PartitionBy names day; the transform returns id"),
        ("SELECT id FROM staged", ["id"], "OutputError: every column is in PartitionBy"),
        ("SELECT id, nullif(id, 1) AS day FROM staged", ["day"], "OutputError: rows without a value in day"),
        ("SELECT id, '' AS day FROM staged", ["day"], "OutputError: rows without a value in day"),
        ("SELECT INTERVAL 1 DAY AS gap FROM staged", [], "OutputError: column gap is INTERVAL, a type that no Glue"),
        ("SELECT id,\n nosuch FROM staged", [], r"HeavyTransformError: s3://assets/.*/heavy.sql, line 2: Binder Error"),
        ("SELEC id", [], "HeavyTransformError: s3://assets/assets/x/flights/heavy.sql, line 1: Parser Error"),
        ("SELECT 1; SELECT 2", [], "HeavyTransformError: .*must hold one query"),
        ("DROP VIEW staged", [], "HeavyTransformError: .*must hold one query"),
        ("SELECT error('too late') FROM staged", [], "HeavyTransformError: .*too late"),
        ("SELECT * FROM read_text('/proc/self/environ')", [], "HeavyTransformError: .*Permission Error"),
        (
            "SELECT 1e30::HUGEINT AS n FROM staged",
            [],
            "OutputError: what the transform returns cannot be written: .*(HUGEINT|INT128)",
        ),
    ],
)
def test_a_query_that_cannot_be_published_leaves_nothing(
    batch: Batch, query: str, partition_by: list[str], reason: str
) -> None:
    batch.stage("SELECT unnest([1, 2]) AS id")
    batch.write("heavy.sql", query)
    with pytest.raises(program.TransformError) as raised:
        batch.run(partition_by=partition_by)
    assert re.match(reason, f"{type(raised.value).__name__}: {raised.value}")
    assert "\n" not in str(raised.value)
    assert not batch.keys()
    assert not batch.has_outcome


def test_one_column_with_two_types_names_both_objects(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id")
    batch.stage("SELECT 'x' AS id")
    with pytest.raises(
        program.StagedSchemaError, match=r"column id is INTEGER in s3://.*_odd 0.* and VARCHAR in .*odd 1"
    ):
        batch.run()


def test_an_object_with_other_rows_than_were_staged_is_refused(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id", rows=2)
    with pytest.raises(program.UnreadableObjectError, match="2 rows were staged, and 1 objects hold 1"):
        batch.run()


def test_an_object_that_is_no_parquet_is_refused_by_name(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id")
    batch.s3.put_object(Bucket="stage", Key=batch.objects[0]["id"].removeprefix("s3://stage/"), Body=b"no parquet")
    with pytest.raises(program.UnreadableObjectError, match=re.escape(batch.objects[0]["id"])):
        batch.run()


def test_a_later_manifest_is_not_guessed_at(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id")
    with pytest.raises(program.UnknownSchemaError, match="has schema 2, and this program reads 1"):
        batch.run(schema=2)


def notebook(*cells: str) -> str:
    code = [
        {"cell_type": "code", "id": f"c{place}", "execution_count": None, "metadata": {}, "outputs": [], "source": one}
        for place, one in enumerate(cells)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


def test_a_notebook_gets_the_staged_files_and_writes_the_result(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id, 'a' AS day")
    batch.stage("SELECT 2 AS id, 'b' AS day")
    batch.write(
        "heavy.ipynb",
        notebook("import duckdb", "duckdb.read_parquet(staged).filter('id > 1').write_parquet(result)"),
    )
    outcome = batch.run(with_notebook.transform, partition_by=["day"])
    assert (outcome["rows_in"], outcome["rows_out"]) == (2, 1)
    assert outcome["files"] == ["air/_pending/b1/2/day=b/data_0.parquet"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (notebook("x = 1", "1 / 0"), r"heavy.ipynb, In \[3\]: ZeroDivisionError: division by zero"),
        (notebook("x = 1"), "every cell ran, and none wrote the file that `result` names"),
        (notebook("open(result, 'w').write('x')"), "what it wrote to `result` is no Parquet"),
        ("no notebook", "is no notebook that papermill runs"),
    ],
    ids=["raises", "writes nothing", "writes something else", "is none"],
)
def test_a_notebook_that_does_not_do_its_work_fails(batch: Batch, text: str, reason: str) -> None:
    batch.stage("SELECT 1 AS id")
    batch.write("heavy.ipynb", text)
    with pytest.raises(program.HeavyTransformError, match=reason):
        batch.run(with_notebook.transform)
    assert not batch.has_outcome


def test_the_engine_of_notebooks_wants_one(batch: Batch) -> None:
    batch.stage("SELECT 1 AS id")
    with pytest.raises(program.HeavyTransformError, match=r"no HeavyTransform.*\.ipynb"):
        batch.run(with_notebook.transform)


def test_words_come_as_arguments_or_as_variables() -> None:
    spoken = [part for word, value in WORDS.items() for part in (f"--{word}", value)]
    assert program.arguments(spoken) == WORDS
    assert with_notebook.words({f"TARN_{word.upper()}": value for word, value in WORDS.items()}) == WORDS


def test_a_missing_word_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.arguments(["--team", "air"])
    assert ended.value.code == 2
    assert "--manifest" in capsys.readouterr().err


def test_a_program_ends_itself_when_its_time_is_over() -> None:
    code = "import batch_program as p, time; p.run = lambda *_: time.sleep(60); p.main(None, {})"
    environment = {**os.environ, "PYTHONPATH": str(ENGINES), "JOB_TIMEOUT_MINUTES": "0.001"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 124
    assert "ran longer than JOB_TIMEOUT_MINUTES, which is 0.001" in done.stderr
