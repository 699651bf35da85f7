"""The view of a table: Athena's types, and text that says all that Athena needs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lake import views


@pytest.mark.parametrize(
    ("hive", "presto"),
    [
        ("string", "varchar"),
        ("int", "integer"),
        ("INT", "integer"),
        ("bigint", "bigint"),
        ("float", "real"),
        ("binary", "varbinary"),
        ("timestamp", "timestamp(3)"),
        ("decimal(10,2)", "decimal(10,2)"),
        ("decimal", "decimal(10,0)"),
        ("varchar(12)", "varchar(12)"),
        ("char(1)", "char(1)"),
        ("array<string>", "array(varchar)"),
        ("map<string,array<decimal(5,1)>>", "map(varchar, array(decimal(5,1)))"),
        ("struct<city:string,zip:int>", 'row("city" varchar, "zip" integer)'),
        (
            "array<struct<at:timestamp,Of:map<string,struct<a:decimal(3,1)>>>>",
            'array(row("at" timestamp(3), "Of" map(varchar, row("a" decimal(3,1)))))',
        ),
    ],
)
def test_types_of_the_catalog_in_athenas_words(hive: str, presto: str) -> None:
    assert views.presto_type(hive) == presto


@pytest.mark.parametrize("hive", ["interval", "array<void>", "map<string>", "struct<>", "uniontype<int,string>", ""])
def test_a_type_that_athena_does_not_know_is_named(hive: str) -> None:
    with pytest.raises(views.UnknownTypeError):
        views.presto_type(hive)


class EntityNotFoundError(Exception):
    pass


class AlreadyExistsError(Exception):
    pass


class ConcurrentModificationError(Exception):
    pass


class Catalog:
    """A Glue Data Catalog that counts versions.

    Another writer comes in before a write (``meanwhile``), or after the n-th read (``after_read``).
    """

    class exceptions:  # noqa: N801 - boto3's own name
        EntityNotFoundException = EntityNotFoundError
        AlreadyExistsException = AlreadyExistsError
        ConcurrentModificationException = ConcurrentModificationError

    def __init__(self, **tables: dict[str, Any]) -> None:
        self.tables = tables
        self.writes = 0
        self.meanwhile: list[Any] = []
        self.reads = 0
        self.after_read: dict[int, Any] = {}

    def get_table(self, DatabaseName: str, Name: str) -> dict[str, Any]:  # noqa: N803
        self.reads += 1
        found = self.tables.get(Name)
        if other := self.after_read.pop(self.reads, None):
            other(self)
        if found is None:
            raise EntityNotFoundError
        return {"Table": {"DatabaseName": DatabaseName, **found}}

    def _let_others_write(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop()(self)

    def create_table(self, DatabaseName: str, TableInput: dict[str, Any]) -> None:  # noqa: N803
        self._let_others_write()
        if TableInput["Name"] in self.tables:
            raise AlreadyExistsError
        self.writes += 1
        self.tables[TableInput["Name"]] = {**TableInput, "VersionId": "1"}

    def update_table(self, DatabaseName: str, TableInput: dict[str, Any], VersionId: str) -> None:  # noqa: N803
        self._let_others_write()
        stands = self.tables[TableInput["Name"]]
        if stands["VersionId"] != VersionId:
            raise ConcurrentModificationError
        self.writes += 1
        self.tables[TableInput["Name"]] = {**TableInput, "VersionId": str(int(VersionId) + 1)}


def table(**columns: str) -> dict[str, Any]:
    return {
        "Name": "flights",
        "StorageDescriptor": {"Columns": [{"Name": name, "Type": kind} for name, kind in columns.items()]},
        "PartitionKeys": [{"Name": "month", "Type": "int"}, {"Name": "batch", "Type": "string"}],
    }


def ensure(catalog: Catalog) -> None:
    views.ensure(catalog, "air", "flights", "air/flights", "batch")  # type: ignore[arg-type]


def decoded(catalog: Catalog) -> dict[str, Any]:
    text = catalog.tables["flights_view"]["ViewOriginalText"]
    found: dict[str, Any] = json.loads(base64.b64decode(text.removeprefix("/* Presto View: ").removesuffix(" */")))
    return found


def test_the_view_is_as_athena_writes_it() -> None:
    catalog = Catalog(flights=table(flight="int", odd='struct<a"b:string>'))
    ensure(catalog)
    view = catalog.tables["flights_view"]
    assert (view["TableType"], view["Parameters"]["presto_view"]) == ("VIRTUAL_VIEW", "true")
    assert [one["Name"] for one in view["StorageDescriptor"]["Columns"]] == ["flight", "odd", "month"]
    assert decoded(catalog) == {
        "originalSql": 'SELECT "flight", "odd", "month" FROM "air"."flights"',
        "catalog": "awsdatacatalog",
        "schema": "air",
        "columns": [
            {"name": "flight", "type": "integer"},
            {"name": "odd", "type": 'row("a""b" varchar)'},
            {"name": "month", "type": "integer"},
        ],
    }


def test_it_is_written_again_when_the_columns_change_and_only_then() -> None:
    catalog = Catalog(flights=table(flight="int"))
    ensure(catalog)
    ensure(catalog)
    assert catalog.writes == 1
    catalog.tables["flights"] = table(flight="int", gate="string")
    ensure(catalog)
    assert catalog.writes == 2
    assert [one["name"] for one in decoded(catalog)["columns"]] == ["flight", "gate", "month"]


@pytest.mark.parametrize(
    "theirs",
    [
        {"TableType": "EXTERNAL_TABLE", "StorageDescriptor": {"Columns": []}},
        {"TableType": "VIRTUAL_VIEW", "Parameters": {"presto_view": "true"}, "StorageDescriptor": {"Columns": []}},
        {"TableType": "VIRTUAL_VIEW", "Parameters": {"tarn_dataset": "air/other"}, "StorageDescriptor": {}},
    ],
)
def test_what_is_not_ours_is_left_and_logged(theirs: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog(flights=table(flight="int"), flights_view=theirs)
    ensure(catalog)
    assert (catalog.tables["flights_view"], catalog.writes) == (theirs, 0)
    assert [vars(one)["table"] for one in caplog.records] == ["air.flights_view"]


def test_a_column_that_athena_does_not_know_is_logged_and_leaves_no_view(caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog(flights=table(flight="interval"))
    ensure(catalog)
    assert "flights_view" not in catalog.tables
    assert [vars(one)["reason"] for one in caplog.records] == ["interval is not one of Athena's types"]


def test_without_a_table_there_is_no_view() -> None:
    catalog = Catalog()
    ensure(catalog)
    assert catalog.tables == {}


def appended(catalog: Catalog) -> None:
    """Another batch appends a column, and makes the view equal."""
    catalog.tables["flights"] = table(flight="int", gate="string")
    ensure(catalog)


@pytest.mark.parametrize("stands", [False, True], ids=["no view yet", "an older view"])
def test_two_batches_at_once_leave_the_view_of_the_newest_columns(stands: bool) -> None:
    catalog = Catalog(flights=table(flight="int"))
    if stands:
        ensure(catalog)
        catalog.tables["flights"] = table(flight="int", carrier="string")
    catalog.meanwhile = [appended]
    ensure(catalog)
    assert "gate" in [one["name"] for one in decoded(catalog)["columns"]]


@pytest.mark.parametrize("read", [1, 2])
def test_a_batch_that_comes_in_between_two_reads_is_not_forgotten(read: int) -> None:
    catalog = Catalog(flights=table(flight="int"))
    ensure(catalog)
    catalog.tables["flights"] = table(flight="int", carrier="string")
    catalog.reads, catalog.after_read = 0, {read: appended}
    ensure(catalog)
    assert "gate" in [one["name"] for one in decoded(catalog)["columns"]]


def test_a_view_that_changes_at_every_try_is_an_error() -> None:
    catalog = Catalog(flights=table(flight="int"))
    ensure(catalog)
    catalog.tables["flights"] = table(flight="int", gate="string")

    def touch(other: Catalog) -> None:
        view = other.tables["flights_view"]
        view["VersionId"] = str(int(view["VersionId"]) + 1)

    catalog.meanwhile = [touch] * views.TRIES
    with pytest.raises(views.ViewConflictError):
        ensure(catalog)
