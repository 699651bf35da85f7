# ruff: noqa: S608 - the queries are of our own table names
"""Athena on a laptop answers from what is registered in the Glue Data Catalog.

Stock MiniStack reads all that lies under a table's location, whatever is registered and declared.
"""

from __future__ import annotations

import base64
import json
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import views
from tests.integration.local_world import until

COLUMNS = {
    "id": "bigint",
    "name": "string",
    "price": "decimal(10,2)",
    "seen": "timestamp",
    "tags": "array<string>",
    "home": "struct<city:string,zip:int>",
    "added_later": "double",
}
ROW = """
SELECT {id}::BIGINT AS id, 'n' || {id} AS name, 1.50::DECIMAL(10,2) AS price,
       TIMESTAMP '2026-11-23 10:00:00' AS seen, ['a', 'b'] AS tags, {{'city': 'Rome', 'zip': 184}} AS home
"""


class Tables:
    """A database, a bucket and a workgroup of one emulator."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.s3, self.glue, self.athena = (client(name) for name in ("s3", "glue", "athena"))
        suffix = uuid.uuid4().hex[:8]
        self.bucket, self.database, self.group = f"analytics-{suffix}", f"db_{suffix}", f"group-{suffix}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.glue.create_database(DatabaseInput={"Name": self.database})
        location = {"OutputLocation": f"s3://{self.bucket}/_results"}
        self.athena.create_work_group(
            Name=self.group,
            Configuration={"ResultConfiguration": location, "EnforceWorkGroupConfiguration": True},
        )

    def write(self, key: str, sql: str) -> str:
        """Parquet of a query's rows at this key; the URI of its folder."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "part.parquet"
            duckdb.sql(f"COPY ({sql}) TO '{file}' (FORMAT parquet)")
            self.s3.upload_file(str(file), self.bucket, key)
        return f"s3://{self.bucket}/{key.rpartition('/')[0]}/"

    def create(self, columns: dict[str, str], keys: dict[str, str] | None = None, parquet: bool = True) -> str:
        name = f"t_{uuid.uuid4().hex[:8]}"
        kind = "parquet.MapredParquet" if parquet else "Text"
        self.glue.create_table(
            DatabaseName=self.database,
            TableInput={
                "Name": name,
                "TableType": "EXTERNAL_TABLE",
                "PartitionKeys": _columns(keys or {}),
                "Parameters": {"classification": "parquet" if parquet else "json"},
                "StorageDescriptor": {
                    "Columns": _columns(columns),
                    "Location": f"s3://{self.bucket}/team/{name}/",
                    "InputFormat": f"org.apache.hadoop.hive.ql.io.{kind}InputFormat",
                },
            },
        )
        return name

    def register(self, table: str, values: list[str], location: str) -> None:
        partition = {"Values": values, "StorageDescriptor": {"Location": location}}
        self.glue.create_partition(DatabaseName=self.database, TableName=table, PartitionInput=partition)

    def run(self, query: str, **request: Any) -> dict[str, Any]:
        started = self.athena.start_query_execution(
            QueryString=query,
            **({"QueryExecutionContext": {"Database": self.database}, "WorkGroup": self.group} | request),
        )["QueryExecutionId"]

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]
            return None if found["Status"]["State"] in ("QUEUED", "RUNNING") else found

        execution: dict[str, Any] = until(ended, 30)
        return execution

    def rows(self, query: str) -> list[list[str | None]]:
        """All rows, and first the names of the columns."""
        execution = self.run(query)
        assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
        answer = self.athena.get_query_results(QueryExecutionId=execution["QueryExecutionId"])
        return [[datum.get("VarCharValue") for datum in row["Data"]] for row in answer["ResultSet"]["Rows"]]

    def reason(self, query: str) -> str:
        status = self.run(query)["Status"]
        assert status["State"] == "FAILED"
        reason: str = status["StateChangeReason"]
        return reason


def _columns(types: dict[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Type": kind} for name, kind in types.items()]


@pytest.fixture(scope="module")
def tables(client: Callable[[str], Any]) -> Tables:
    return Tables(client)


@pytest.fixture
def table(tables: Tables) -> str:
    """Three batches, of which two are registered, one of them outside the table's location."""
    name = tables.create(COLUMNS, {"origin": "int", "batch": "string"})
    first = tables.write(f"team/{name}/origin=7/batch=b1/part-0.parquet", ROW.format(id=1))
    tables.write(f"team/{name}/origin=7/batch=b2/part-0.parquet", ROW.format(id=2))
    elsewhere = tables.write(f"elsewhere/{name}/part-0.parquet", ROW.format(id=3))
    tables.write(f"team/{name}/_pending/b4/part-0.parquet", ROW.format(id=4))
    tables.register(name, ["7", "b1"], first)
    tables.register(name, ["8", "b/3 ü"], elsewhere)
    return name


def test_only_registered_partitions_are_visible(tables: Tables, table: str) -> None:
    query = f"SELECT id, origin, batch FROM {table} ORDER BY id"
    assert tables.rows(query) == [["id", "origin", "batch"], ["1", "7", "b1"], ["3", "8", "b/3 ü"]]
    tables.register(table, ["7", "b2"], f"s3://{tables.bucket}/team/{table}/origin=7/batch=b2/")
    assert [row[0] for row in tables.rows(query)] == ["id", "1", "2", "3"]
    tables.glue.delete_partition(DatabaseName=tables.database, TableName=table, PartitionValues=["7", "b1"])
    assert [row[0] for row in tables.rows(query)] == ["id", "2", "3"]
    assert tables.rows(f"SELECT count(*) AS n FROM {table} WHERE origin > 7")[1] == ["1"]


def test_a_table_without_partitions_is_empty_and_typed(tables: Tables) -> None:
    name = tables.create(COLUMNS, {"batch": "string"})
    tables.write(f"team/{name}/batch=b1/part-0.parquet", ROW.format(id=1))
    assert tables.rows(f"SELECT * FROM {name}") == [[*COLUMNS, "batch"]]


def test_columns_have_the_tables_names_and_types(tables: Tables, table: str) -> None:
    execution = tables.run(f"SELECT * FROM {table} WHERE id = 1")
    results = tables.athena.get_query_results(QueryExecutionId=execution["QueryExecutionId"])["ResultSet"]
    described = {column["Name"]: column["Type"] for column in results["ResultSetMetadata"]["ColumnInfo"]}
    assert list(described) == [*COLUMNS, "origin", "batch"]
    simple = ("id", "name", "price", "seen", "home", "added_later", "origin", "batch")
    assert [described[name] for name in simple] == [
        "bigint", "varchar", "decimal", "timestamp", "row", "double", "integer", "varchar",
    ]  # fmt: skip
    assert [datum.get("VarCharValue") for datum in results["Rows"][1]["Data"]] == [
        "1", "n1", "1.50", "2026-11-23 10:00:00.000", "[a, b]", "{city=Rome, zip=184}", None, "7", "b1",
    ]  # fmt: skip


def test_a_wrong_declaration_fails_the_query(tables: Tables) -> None:
    name = tables.create({"id": "string"})
    tables.write(f"team/{name}/part-0.parquet", "SELECT 1::BIGINT AS id")
    assert "HIVE_BAD_DATA: Field id's type BIGINT in parquet file" in tables.reason(f"SELECT * FROM {name}")


def test_a_deleted_table_is_gone(tables: Tables, table: str) -> None:
    tables.glue.delete_table(DatabaseName=tables.database, Name=table)
    assert table in tables.reason(f"SELECT * FROM {table}")


def test_partitions_of_json_are_resolved_too(tables: Tables) -> None:
    name = tables.create({"id": "bigint"}, {"batch": "string"}, parquet=False)
    for number in (1, 2):
        body = f'{{"id": {number}}}\n'.encode()
        tables.s3.put_object(Bucket=tables.bucket, Key=f"team/{name}/batch=b{number}/part.json", Body=body)
    tables.register(name, ["b2"], f"s3://{tables.bucket}/team/{name}/batch=b2/")
    assert tables.rows(f"SELECT id, batch FROM {name}") == [["id", "batch"], ["2", "b2"]]


def test_the_workgroup_says_where_results_go(tables: Tables) -> None:
    mine = {"OutputLocation": f"s3://{tables.bucket}/mine/"}
    execution = tables.run("SELECT 1 AS one, 'a,b' AS two", ResultConfiguration=mine)
    location = execution["ResultConfiguration"]["OutputLocation"]
    assert location == f"s3://{tables.bucket}/_results/{execution['QueryExecutionId']}.csv"
    key = location.removeprefix(f"s3://{tables.bucket}/")
    assert tables.s3.get_object(Bucket=tables.bucket, Key=key)["Body"].read() == b'"one","two"\n"1","a,b"\n'
    primary = tables.run("SELECT 1", WorkGroup="primary", ResultConfiguration=mine)
    assert primary["ResultConfiguration"]["OutputLocation"].startswith(mine["OutputLocation"])
    with pytest.raises(tables.athena.exceptions.InvalidRequestException, match="not found"):
        tables.run("SELECT 1", WorkGroup="nobody")


def test_a_view_that_publishing_made_shows_no_batch(tables: Tables, table: str) -> None:
    views.ensure(tables.glue, tables.database, table, "air/flights", "batch")
    execution = tables.run(f"SELECT * FROM {table}_view WHERE origin = 7")
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
    results = tables.athena.get_query_results(QueryExecutionId=execution["QueryExecutionId"])["ResultSet"]
    described = {column["Name"]: column["Type"] for column in results["ResultSetMetadata"]["ColumnInfo"]}
    assert list(described) == [*COLUMNS, "origin"]
    assert [datum.get("VarCharValue") for datum in results["Rows"][1]["Data"]][:2] == ["1", "n1"]
    joined = f"SELECT v.id, t.batch FROM {tables.database}.{table}_view v JOIN {table} t ON v.id = t.id ORDER BY 1"
    assert tables.rows(joined) == [["id", "batch"], ["1", "b1"], ["3", "b/3 ü"]]
    qualified = f"SELECT {tables.database}.{table}_view.id FROM {tables.database}.{table}_view ORDER BY 1"
    assert tables.rows(qualified) == [["id"], ["1"], ["3"]]
    assert "batch" in tables.reason(f"SELECT batch FROM {table}_view")


def _view(tables: Tables, sql: str, columns: dict[str, str], schema: str, text: str | None = None) -> str:
    name = f"v_{uuid.uuid4().hex[:8]}"
    content = {
        "originalSql": sql,
        "catalog": "awsdatacatalog",
        "schema": schema,
        "columns": [{"name": column, "type": "bigint"} for column in columns],
    }
    encoded = base64.b64encode(json.dumps(content).encode()).decode()
    tables.glue.create_table(
        DatabaseName=tables.database,
        TableInput={
            "Name": name,
            "TableType": "VIRTUAL_VIEW",
            "Parameters": {"presto_view": "true"},
            "StorageDescriptor": {"Columns": _columns(columns), "Location": "", "SerdeInfo": {}},
            "ViewOriginalText": text or f"/* Presto View: {encoded} */",
        },
    )
    return name


def test_a_view_of_a_view_reads_its_own_database(tables: Tables, table: str) -> None:
    inner = _view(tables, f"SELECT id AS number FROM {table}", {"number": "bigint"}, tables.database)
    outer = _view(tables, f"SELECT max(number) AS most FROM {inner}", {"most": "bigint"}, tables.database)
    other = f"other_{uuid.uuid4().hex[:8]}"
    tables.glue.create_database(DatabaseInput={"Name": other})
    execution = tables.run(f"SELECT most FROM {tables.database}.{outer}", QueryExecutionContext={"Database": other})
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
    answer = tables.athena.get_query_results(QueryExecutionId=execution["QueryExecutionId"])["ResultSet"]["Rows"]
    assert answer[1]["Data"] == [{"VarCharValue": "3"}]


def test_a_view_that_is_wrong_fails_the_query(tables: Tables, table: str) -> None:
    sql = f"SELECT id FROM {table}"
    broken = _view(tables, sql, {"id": "bigint"}, tables.database, "/* Presto View: bm8ganNvbg== */")
    assert "HIVE_INVALID_VIEW_DATA" in tables.reason(f"SELECT * FROM {broken}")
    hive = _view(tables, sql, {"id": "bigint"}, tables.database, sql)
    assert "HIVE_UNSUPPORTED_VIEW" in tables.reason(f"SELECT * FROM {hive}")
    lacking = _view(tables, sql, {"id": "bigint", "gone": "bigint"}, tables.database)
    assert "gone" in tables.reason(f"SELECT * FROM {lacking}")
    stale = _view(tables, sql, {"id": "bigint"}, tables.database)
    held = tables.glue.get_table(DatabaseName=tables.database, Name=stale)["Table"]
    given = {key: held[key] for key in ("Name", "TableType", "Parameters", "ViewOriginalText")}
    given["StorageDescriptor"] = {"Columns": _columns({"other": "bigint"})}
    tables.glue.update_table(DatabaseName=tables.database, TableInput=given)
    assert "stale" in tables.reason(f"SELECT * FROM {stale}")
    itself = _view(tables, "SELECT id FROM itself", {"id": "bigint"}, tables.database)
    held = tables.glue.get_table(DatabaseName=tables.database, Name=itself)["Table"]
    given = {key: held[key] for key in ("TableType", "Parameters", "ViewOriginalText", "StorageDescriptor")}
    tables.glue.create_table(DatabaseName=tables.database, TableInput={"Name": "itself", **given})
    assert "do not end" in tables.reason("SELECT * FROM itself")
