"""The job scripts on real Spark and real Deequ, over real flights: what they read, write, refuse and say.

One Spark session for the module; ``s3://stage`` and ``s3://analytics`` are folders, mapped by Hadoop's own
``ViewFileSystemOverloadScheme``, so the scripts see the URIs that they see on AWS.
"""

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import duckdb
import pytest
from pyspark.sql import SparkSession

from tarn import jars
from tarn.spark import end
from tests.mocked_aws import mocked_aws

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT / "datasets" / "air" / "flights"
VIEW = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
PENDING = "s3://analytics/air/_pending/b1/1/"


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


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("buckets")


@pytest.fixture(scope="module")
def quality_jars() -> list[str]:
    return [str(path) for path in jars.fetch().values()]


@pytest.fixture(scope="module")
def spark(buckets: Path, quality_jars: list[str]) -> Iterator[SparkSession]:
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.extraClassPath": ":".join(quality_jars),
        "spark.sql.shuffle.partitions": "2",
        "spark.hadoop.fs.s3.impl": VIEW,
        # without checksum files beside the objects, whose names cannot hold a colon
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }
    for bucket in ("stage", "analytics"):
        (buckets / bucket).mkdir()
        settings[f"spark.hadoop.fs.viewfs.mounttable.{bucket}.linkFallback"] = (buckets / bucket).as_uri()
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    end(session)


@pytest.fixture(autouse=True)
def _meaning(spark: SparkSession) -> None:
    transform_batch.configure(spark)


@pytest.fixture(autouse=True)
def _empty_pending(buckets: Path) -> None:
    shutil.rmtree(buckets / "analytics" / "air", ignore_errors=True)


def stage(buckets: Path, key: str, query: str) -> dict[str, Any]:
    """Write a staged object with DuckDB, as the first hop does; gives its entry in a manifest."""
    file = buckets / "stage" / key
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = duckdb.execute(f"SELECT count(*) FROM ({query})").fetchone()  # noqa: S608
    escaped = str(file).replace("'", "''")
    duckdb.execute(f"COPY ({query}) TO '{escaped}' (FORMAT parquet)")
    return {"id": f"s3://stage/{key}", "key": key, "rows": rows[0]}


def light(dataset: str, files: str, **types: str) -> str:
    """The dataset's light transform over raw files, as one query."""
    place = ROOT / "datasets" / "air" / dataset / files
    source = f"read_csv('{place}', nullstr = 'NA', types = {types or {'name': 'VARCHAR'}})"
    select = (ROOT / "datasets" / "air" / dataset / "light.sql").read_text().strip().rstrip(";")
    return f"WITH source AS (SELECT * FROM {source}) {select}"  # noqa: S608


def flights(buckets: Path, files: str, key: str = "") -> list[dict[str, Any]]:
    folder, _, pattern = files.rpartition("/")
    return [
        stage(
            buckets,
            f"air/flights/{path.name}~0A.parquet",
            light("flights", f"{folder}/{path.name}", time_hour="TIMESTAMP"),
        )
        for path in sorted((FLIGHTS / folder).glob(pattern))
    ]


def source(name: str, text: str) -> Any:
    return transform_batch.Source(f"s3://assets/flights/{name}", text)


def heavy() -> Any:
    return source("heavy.sql", (FLIGHTS / "heavy.sql").read_text())


def verdicts(spark: SparkSession, written: dict[str, Any], dataset: str) -> list[Any]:
    judge_batch.configure(spark)  # of another meaning than the transform's
    text = (ROOT / "datasets" / "air" / dataset / "rules.dqdl").read_text()
    return judge_batch.judged(judge_batch.read_pending(spark, PENDING, written), "s3://assets/rules.dqdl", text)


def test_a_month_of_flights_is_transformed_and_passes_its_rules(spark: SparkSession, buckets: Path) -> None:
    staged = flights(buckets, "samples/*.csv")
    written = transform_batch.transform_batch(spark, staged, heavy(), ["flight_date"], PENDING)
    assert (written["rows_in"], written["rows_out"]) == (27_004, 27_004)
    assert len(written["files"]) == 31
    assert written["partition_columns"] == [{"name": "flight_date", "type": "date"}]
    types = {column["name"]: column["type"] for column in written["columns"]}
    assert (types["departure_utc"], types["on_time"], types["miles_per_hour"]) == ("timestamp", "boolean", "double")
    found = verdicts(spark, written, "flights")
    assert [one for one in found if one.outcome != "Passed"] == []
    assert found[0] == judge_batch.Verdict("RowCount > 0", "Passed", "", {"Dataset.*.RowCount": 27_004.0})


def test_a_spoiled_day_fails_the_rules_that_it_breaks_in_the_order_of_the_text(
    spark: SparkSession, buckets: Path
) -> None:
    staged = flights(buckets, "samples-spoiled/*.csv")
    written = transform_batch.transform_batch(spark, staged, heavy(), ["flight_date"], PENDING)
    found = verdicts(spark, written, "flights")
    failed = [(one.rule, one.outcome) for one in found if one.outcome != "Passed"]
    assert failed == [
        ('ColumnValues "origin" in ["EWR","JFK","LGA"]', "Failed"),
        ('ColumnValues "distance" > 0', "Failed"),
    ]
    assert [one.rule.split()[0] for one in found[:4]] == ["RowCount", "IsPrimaryKey", "IsComplete", "IsComplete"]
    assert all(one.reason for one in found if one.outcome != "Passed")


@pytest.mark.parametrize("dataset", ["airports", "airlines"])
def test_the_smaller_datasets_pass_their_rules(spark: SparkSession, buckets: Path, dataset: str) -> None:
    staged = [stage(buckets, f"air/{dataset}/{dataset}~0A.parquet", light(dataset, f"samples/{dataset}.csv"))]
    written = transform_batch.transform_batch(spark, staged, None, [], PENDING)
    assert [one for one in verdicts(spark, written, dataset) if one.outcome != "Passed"] == []


ODD_KEYS = [
    "a b",
    "a%20b",
    "a+b",
    "%25",
    "ünï-日本",
    "x{1,2}",
    "x[1]",
    "x*",
    "x?y",
    "back\\slash",
    "k=v/f",
    "#&'\"",
    "12:00:00",
]


def test_exactly_the_listed_objects_are_read_whatever_their_names(spark: SparkSession, buckets: Path) -> None:
    entries = [stage(buckets, f"air/odd/{name}~0A.parquet", f"SELECT {i} AS i") for i, name in enumerate(ODD_KEYS)]
    stage(buckets, "air/odd/x1~0A.parquet", "SELECT 98 AS i")  # what the patterns above would match
    stage(buckets, "air/odd/xay~0A.parquet", "SELECT 99 AS i")
    staged = transform_batch.read_staged(spark, [entry["id"] for entry in entries])
    assert sorted(row.i for row in staged.collect()) == list(range(len(ODD_KEYS)))
    assert staged.columns == ["i"]


@pytest.mark.parametrize("name", ["_hidden", ".dot", "x[1] 12:00"])
def test_an_object_that_spark_would_skip_fails_the_batch_by_name(spark: SparkSession, buckets: Path, name: str) -> None:
    entries = [stage(buckets, f"air/odd/{one}~0A.parquet", "SELECT 1 AS i") for one in ("plain", name)]
    with pytest.raises(transform_batch.UnreadableObjectError) as caught:
        transform_batch.transform_batch(spark, entries, None, [], PENDING)
    assert entries[1]["id"] in str(caught.value)


def test_rows_that_were_staged_and_not_read_fail_the_batch(spark: SparkSession, buckets: Path) -> None:
    entry = stage(buckets, "air/few/f~0A.parquet", "SELECT 1 AS i") | {"rows": 2}
    with pytest.raises(
        transform_batch.UnreadableObjectError, match="2 rows were staged, and Spark read 1 of 1 objects"
    ):
        transform_batch.transform_batch(spark, [entry], None, [], PENDING)


def test_files_are_merged_by_name_and_a_missing_column_is_null(spark: SparkSession, buckets: Path) -> None:
    entries = [
        stage(buckets, "air/merge/1~0A.parquet", "SELECT 1 AS a, 'x' AS b"),
        stage(buckets, "air/merge/2~0A.parquet", "SELECT 2.5::DOUBLE AS c, 2 AS a"),
    ]
    staged = transform_batch.read_staged(spark, [entry["id"] for entry in entries])
    assert sorted(map(tuple, staged.select("a", "b", "c").collect())) == [(1, "x", None), (2, None, 2.5)]


def test_one_column_with_two_types_fails_the_batch(spark: SparkSession, buckets: Path) -> None:
    entries = [
        stage(buckets, "air/clash/1~0A.parquet", "SELECT 1 AS a"),
        stage(buckets, "air/clash/2~0A.parquet", "SELECT 'x' AS a"),
    ]
    names = "column a is int in s3://stage/air/clash/1~0A.parquet and string in s3://stage/air/clash/2~0A.parquet"
    with pytest.raises(transform_batch.StagedSchemaError, match=names):
        transform_batch.read_staged(spark, [entry["id"] for entry in entries])


def test_an_object_that_is_no_parquet_fails_the_batch_by_name(spark: SparkSession, buckets: Path) -> None:
    entries = [stage(buckets, f"air/text/{name}~0A.parquet", "SELECT 1 AS a") for name in ("1", "2")]
    (buckets / "stage" / entries[1]["key"]).write_text("a,b\n1,2\n")
    with pytest.raises(transform_batch.StagedSchemaError, match=r"one table: s3://stage/air/text/2~0A\.parquet: "):
        transform_batch.read_staged(spark, [entry["id"] for entry in entries])


def test_times_and_old_dates_keep_their_values(spark: SparkSession, buckets: Path) -> None:
    entry = stage(
        buckets, "air/t/1~0A.parquet", "SELECT TIMESTAMP '1850-01-01 10:00:00' AS moment, DATE '0001-01-01' AS day"
    )
    written = transform_batch.transform_batch(spark, [entry], None, [], PENDING)
    assert written["columns"] == [{"name": "moment", "type": "timestamp"}, {"name": "day", "type": "date"}]
    file = duckdb.read_parquet(f"{buckets}/analytics/{written['files'][0]}")
    row = file.select("moment::VARCHAR, day::VARCHAR").fetchall()[0]
    assert row == ("1850-01-01 10:00:00", "0001-01-01")


PYTHON = "from pyspark.sql import functions as f\n\n\ndef transform(df):\n    {}\n"
UDF = """from pyspark.sql.functions import udf

LIMIT = 1


def checked(value):
    if value >= LIMIT:
        raise ValueError("too large")
    return value


def transform(df):
    return df.withColumn("i", udf(checked, "int")("i"))
"""


def one_row(buckets: Path) -> list[dict[str, Any]]:
    return [stage(buckets, "air/one/1~0A.parquet", "SELECT 1 AS i, 'a' AS s")]


def test_a_dataset_s_own_python_transforms(spark: SparkSession, buckets: Path) -> None:
    code = source("heavy.py", UDF.replace("LIMIT = 1", "LIMIT = 2"))
    written = transform_batch.transform_batch(spark, one_row(buckets), code, [], PENDING)
    assert written["rows_out"] == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("heavy.py", PYTHON.format("return df.select(1 / 0)"), "heavy.py, line 5: ZeroDivisionError"),
        ("heavy.py", PYTHON.format("return df.select('nosuch')"), r"heavy.py, line 5: \[UNRESOLVED_COLUMN"),
        ("heavy.py", PYTHON.format("return 7"), r"transform\(df\) returned int, not a DataFrame"),
        ("heavy.py", "def transform(df:\n", "heavy.py, line 1: SyntaxError"),
        ("heavy.py", "import nosuch\n", "heavy.py, line 1: ModuleNotFoundError"),
        ("heavy.py", "x = 1\n", r"no function transform\(df\)"),
        ("heavy.py", UDF, "heavy.py, line 8: ValueError: too large"),
        ("heavy.sql", "SELECT\n nosuch\nFROM staged", r"heavy.sql: \[UNRESOLVED_COLUMN.*line 2 pos 1"),
        ("heavy.sql", "SELEC 1", r"heavy.sql: \[PARSE_SYNTAX_ERROR"),
        (
            "heavy.sql",
            "SELECT cast(s AS int) AS n FROM staged",
            r"writing what .*heavy.sql returns: .*CAST_INVALID_INPUT",
        ),
        ("heavy.sql", "SELECT * FROM staged WHERE false;", "1 rows came in and the transform returned none"),
        ("heavy.sql", "SELECT i, i AS I FROM staged", "more than once: i"),
        ("heavy.sql", "SELECT i, 1 AS batch FROM staged", "a column cannot be called batch"),
        ("heavy.sql", "SELECT i, NULL AS n FROM staged", "column n is void"),
    ],
)
def test_what_is_wrong_with_a_dataset_s_transform_is_told_in_one_line(
    spark: SparkSession, buckets: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(transform_batch.TransformError, match=message) as caught:
        transform_batch.transform_batch(spark, one_row(buckets), source(name, text), [], PENDING)
    assert "\n" not in str(caught.value)


def test_a_partition_needs_a_value_and_its_column(spark: SparkSession, buckets: Path) -> None:
    with pytest.raises(transform_batch.OutputError, match="PartitionBy names nosuch; the transform returns i, s"):
        transform_batch.transform_batch(spark, one_row(buckets), None, ["nosuch"], PENDING)
    nothing = source("heavy.sql", "SELECT i, cast(NULL AS string) AS s FROM staged")
    with pytest.raises(transform_batch.OutputError, match="rows without a value in s"):
        transform_batch.transform_batch(spark, one_row(buckets), nothing, ["s"], PENDING)


def test_partition_columns_are_judged_with_their_types(spark: SparkSession, buckets: Path) -> None:
    code = source("heavy.sql", "SELECT i, '007' AS agent, s || ' /%' AS odd FROM staged")
    written = transform_batch.transform_batch(spark, one_row(buckets), code, ["agent", "odd"], PENDING)
    frame = judge_batch.read_pending(spark, PENDING, written)
    assert [tuple(row) for row in frame.collect()] == [(1, "007", "a /%")]


def test_a_second_run_of_an_attempt_replaces_the_first(spark: SparkSession, buckets: Path) -> None:
    first = transform_batch.transform_batch(spark, one_row(buckets), None, [], PENDING)
    second = transform_batch.transform_batch(spark, one_row(buckets), None, [], PENDING)
    assert set(first["files"]).isdisjoint(second["files"])
    left = sorted(str(path.relative_to(buckets / "analytics")) for path in (buckets / "analytics/air").rglob("*.*"))
    assert left == second["files"]


def test_a_batch_of_empty_files_is_judged_as_empty(spark: SparkSession, buckets: Path) -> None:
    entry = stage(buckets, "air/empty/1~0A.parquet", "SELECT 1 AS i, 'a' AS s WHERE false")
    written = transform_batch.transform_batch(spark, [entry], None, ["s"], PENDING)
    assert (written["rows_in"], written["rows_out"], written["files"]) == (0, 0, [])
    judge_batch.configure(spark)
    frame = judge_batch.read_pending(spark, PENDING, written)
    found = judge_batch.judged(frame, "s3://assets/rules.dqdl", 'Rules = [ RowCount > 0, IsComplete "s" ]')
    assert [one.outcome for one in found] == ["Failed", "Failed"]


def test_pending_files_that_the_transform_did_not_write_are_refused(spark: SparkSession, buckets: Path) -> None:
    written = transform_batch.transform_batch(spark, one_row(buckets), None, [], PENDING)
    with pytest.raises(judge_batch.InputError, match="the transform wrote 5 rows, and 1 are under"):
        judge_batch.read_pending(spark, PENDING, written | {"rows_out": 5})


def test_a_rule_that_cannot_be_run_is_an_error_and_the_others_are_judged(spark: SparkSession) -> None:
    judge_batch.configure(spark)
    frame = spark.createDataFrame([(1, "a"), (2, None)], "i int, s string")
    rules = """
    # told apart by the reason alone
    Rules = [ IsComplete "nosuch", Mean "s" > 0, CustomSql "select count(*) from primary where nosuch" = 0,
              RowCount > last(), DetectAnomalies "RowCount", IsComplete "s", ColumnValues "i" > 1, RowCount = 2 ]
    # the last comment"""
    found = judge_batch.judged(frame, "s3://assets/rules.dqdl", rules)
    assert [one.outcome for one in found] == [*["Error"] * 5, "Failed", "Failed", "Passed"]
    assert found[0].reason == "Input data does not include column nosuch!"
    assert "[UNRESOLVED_COLUMN" in found[2].reason
    assert "DetectAnomalies" in found[4].reason
    assert found[5].metrics == {"Column.s.Completeness": 0.5}
    assert not any("\n" in one.reason for one in found)
    json.dumps([one.metrics for one in found], allow_nan=False)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('Rules = [ Nonsense "i" > 0, RowCount > 1 ]', r"rules\.dqdl: Rule Type: Nonsense is not valid"),
        ("Analyzers = [ RowCount ]", "it holds no rule"),
        ('Rules = [ IsComplete "i ]', r"rules\.dqdl: .*line 1:21"),
    ],
)
def test_a_text_that_is_not_dqdl_fails_the_run(spark: SparkSession, rules: str, message: str) -> None:
    with pytest.raises(judge_batch.RulesError, match=message):
        judge_batch.judged(spark.range(3).toDF("i"), "s3://assets/rules.dqdl", rules)


def test_deequ_must_come_from_the_jar_that_the_job_was_given(spark: SparkSession, quality_jars: list[str]) -> None:
    origin = judge_batch.checked_engine(spark, [f"s3://assets/assets/0a/{Path(jar).name}" for jar in quality_jars])
    assert origin.endswith("/deequ-2.1.0-spark-3.5.jar")
    with pytest.raises(judge_batch.JarError, match=r"which is none of another\.jar"):
        judge_batch.checked_engine(spark, ["s3://assets/another.jar"])


def test_both_scripts_run_from_their_arguments_to_their_outcome_files(
    spark: SparkSession, buckets: Path, quality_jars: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registration = {"asset_prefix": "assets/0a/flights/", "heavy_transform": "heavy.sql", "rules": "rules.dqdl"}
    manifest = {
        "schema": 1,
        "asset_bucket": "assets",
        "registration": registration | {"partition_by": ["Flight_Date"]},
        "objects": flights(buckets, "samples/2013-01-01.csv"),
    }
    prefix = "s3://stage/air/_batches/flights/b1"
    ids = ["--team", "air", "--dataset", "flights", "--batch_id", "b1", "--attempt", "1"]
    common = [*ids, "--manifest", f"{prefix}/manifest.json"]
    transform = [*common, "--JOB_RUN_ID", "jr_1", "--output", PENDING, "--outcome", f"{prefix}/1/transform.json"]
    judge = [*common, "--JOB_RUN_ID", "jr_2", "--input", PENDING, "--transform_outcome", f"{prefix}/1/transform.json"]
    judge += ["--outcome", f"{prefix}/1/quality.json", "--quality_jars", ",".join(quality_jars)]
    with mocked_aws("us-east-1"):
        s3 = boto3.client("s3")
        for bucket in ("assets", "stage"):
            s3.create_bucket(Bucket=bucket)
        transform_batch.write_json(s3, f"{prefix}/manifest.json", manifest)
        for name in ("heavy.sql", "rules.dqdl"):
            s3.upload_file(str(FLIGHTS / name), "assets", f"assets/0a/flights/{name}")
        for module, arguments in ((transform_batch, transform), (judge_batch, judge)):
            monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
            module.main()
        written = json.loads(transform_batch.read_text(s3, f"{prefix}/1/transform.json"))
        judged = json.loads(transform_batch.read_text(s3, f"{prefix}/1/quality.json"))
    who = {"team": "air", "dataset": "flights", "batch_id": "b1", "attempt": 1}
    assert written.items() >= ({"schema": 1, "job": "transform", "run_id": "jr_1", "rows_in": 842} | who).items()
    assert written["files"][0].startswith("air/_pending/b1/1/flight_date=2013-01-01/part-")
    assert (
        judged.items() >= ({"schema": 1, "job": "quality", "run_id": "jr_2", "passed": True, "rows": 842} | who).items()
    )
    assert judged["rules"][0] == {
        "rule": "RowCount > 0",
        "outcome": "Passed",
        "reason": "",
        "metrics": {"Dataset.*.RowCount": 842.0},
    }


def test_of_a_manifest_without_objects_the_job_proves_that_it_wrote_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = "s3://stage/air/_batches/flights/b1"
    registration = {
        "asset_prefix": "assets/0a/flights/",
        "heavy_transform": "gone.sql",
        "partition_by": ["flight_date"],
    }
    manifest = {"schema": 1, "asset_bucket": "assets", "registration": registration, "objects": []}
    ids = ["--team", "air", "--dataset", "flights", "--batch_id", "b1", "--attempt", "2", "--JOB_RUN_ID", "jr_1"]
    uris = ["--manifest", f"{prefix}/manifest-2-0.json", "--output", PENDING, "--outcome", f"{prefix}/2/transform.json"]
    monkeypatch.setattr(sys, "argv", ["main.py", *ids, *uris])
    with mocked_aws("us-east-1"):
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="stage")
        transform_batch.write_json(s3, f"{prefix}/manifest-2-0.json", manifest)
        transform_batch.main()
        written = json.loads(transform_batch.read_text(s3, f"{prefix}/2/transform.json"))
    assert written == {
        "schema": 1, "job": "transform", "run_id": "jr_1", "team": "air", "dataset": "flights", "batch_id": "b1",
        "attempt": 2, "rows_in": 0, "rows_out": 0, "columns": [], "partition_columns": [], "files": [],
    }  # fmt: skip
