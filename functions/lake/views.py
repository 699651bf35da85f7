"""Views for people: a published table without its ``batch`` column.

Athena keeps a view in the Glue Data Catalog as a table of its own, whose text is JSON in base64. Other engines cannot
read it, therefore the view has the name that is made up (``<table>_view``) and the table keeps its own.
Source: trinodb/trino, ``ViewReaderUtil.java`` (``/* Presto View: ... */``, ``presto_view``);
https://docs.aws.amazon.com/athena/latest/ug/data-types.html
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lake.hive_type import parts_of
from lake.observability import logger

if TYPE_CHECKING:
    from mypy_boto3_glue.client import GlueClient

SUFFIX = "_view"
OWNER = "tarn_dataset"
"""The parameter of a view that is ours, with ``<team>/<dataset>``: what a person made under the name stays theirs."""
TRIES = 5
_SCALARS = {
    "boolean": "boolean",
    "tinyint": "tinyint",
    "smallint": "smallint",
    "int": "integer",
    "integer": "integer",
    "bigint": "bigint",
    "float": "real",
    "double": "double",
    "string": "varchar",
    "varchar": "varchar",
    "char": "char",
    "date": "date",
    "timestamp": "timestamp(3)",
    "binary": "varbinary",
}


class UnknownTypeError(Exception):
    """A column has a type that Athena does not know."""


class ViewConflictError(Exception):
    """The view was changed by others at every try."""


def ensure(glue: GlueClient, database: str, table: str, owner: str, hidden: str) -> None:
    """Make the view of ``database.table`` equal to the table's columns without ``hidden``; no table, no view.

    A table of the view's name that is not ours, and a column that Athena does not know, are logged and left:
    neither is a reason not to publish.

    Raises:
        ViewConflictError: others changed the view at every try.
    """
    name = table + SUFFIX
    for _ in range(TRIES):
        # The view is read before the table: whoever appends a column writes the view after it, and `VersionId`
        # then refuses what was made of the older columns.
        view = _get(glue, database, name)
        if view is not None and (view.get("Parameters") or {}).get(OWNER) != owner:
            logger.warning("the table of a view's name is not ours", extra={"table": f"{database}.{name}"})
            return
        base = _get(glue, database, table)
        if base is None:
            return
        try:
            wanted = _input(base, name, owner, hidden)
        except UnknownTypeError as error:
            logger.warning("no view", extra={"table": f"{database}.{name}", "reason": str(error)})
            return
        if view is not None and _is_equal(view, wanted):
            return
        if _put(glue, database, view, wanted):
            return
    raise ViewConflictError(f"view {database}.{name} was changed by others {TRIES} times: try again")


def presto_type(hive: str) -> str:
    """Athena's name of a type of the Glue Data Catalog, in a view.

    Raises:
        UnknownTypeError: there is none.
    """
    kind, bracket, inner = hive.strip().partition("<")
    parts = parts_of(inner.removesuffix(">")) if bracket else []
    if kind.lower() == "array" and len(parts) == 1:
        return f"array({presto_type(parts[0])})"
    if kind.lower() == "map" and len(parts) == 2:
        return f"map({presto_type(parts[0])}, {presto_type(parts[1])})"
    if kind.lower() == "struct" and parts:
        fields = (part.partition(":") for part in parts)
        return "row({})".format(", ".join(f"{_quoted(name.strip())} {presto_type(of)}" for name, _, of in fields))
    base, bracket, parameters = kind.strip().lower().partition("(")
    if base == "decimal":
        return f"decimal({parameters}" if bracket else "decimal(10,0)"
    if base not in _SCALARS:
        raise UnknownTypeError(f"{hive} is not one of Athena's types")
    return f"{_SCALARS[base]}({parameters}" if bracket else _SCALARS[base]


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _get(glue: GlueClient, database: str, name: str) -> dict[str, Any] | None:
    try:
        return dict(glue.get_table(DatabaseName=database, Name=name)["Table"])
    except glue.exceptions.EntityNotFoundException:
        return None


def _input(base: Mapping[str, Any], name: str, owner: str, hidden: str) -> dict[str, Any]:
    """The view as Athena writes it."""
    columns = [
        (one["Name"], one["Type"])
        for one in [*base["StorageDescriptor"]["Columns"], *base.get("PartitionKeys", [])]
        if one["Name"] != hidden
    ]
    database = base["DatabaseName"]
    selected = ", ".join(_quoted(column) for column, _ in columns)
    view = {
        "originalSql": f"SELECT {selected} FROM {_quoted(database)}.{_quoted(base['Name'])}",  # noqa: S608 - quoted
        "catalog": "awsdatacatalog",
        "schema": database,
        "columns": [{"name": column, "type": presto_type(kind)} for column, kind in columns],
    }
    return {
        "Name": name,
        "Description": f"{base['Name']} without {hidden}",
        "TableType": "VIRTUAL_VIEW",
        "Parameters": {"presto_view": "true", "comment": "Presto View", OWNER: owner},
        "PartitionKeys": [],
        "StorageDescriptor": {
            "Columns": [{"Name": column, "Type": kind} for column, kind in columns],
            "Location": "",
            "SerdeInfo": {},
        },
        "ViewOriginalText": f"/* Presto View: {b64encode(json.dumps(view).encode()).decode()} */",
        "ViewExpandedText": "/* Presto View */",
    }


def _is_equal(view: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    stands = [(one["Name"], one.get("Type")) for one in view["StorageDescriptor"]["Columns"]]
    return view.get("ViewOriginalText") == wanted["ViewOriginalText"] and stands == [
        (one["Name"], one["Type"]) for one in wanted["StorageDescriptor"]["Columns"]
    ]


def _put(glue: GlueClient, database: str, view: Mapping[str, Any] | None, wanted: Any) -> bool:
    """False when somebody else was quicker."""
    try:
        if view is None:
            glue.create_table(DatabaseName=database, TableInput=wanted)
        else:
            version = {"VersionId": view["VersionId"]} if "VersionId" in view else {}
            glue.update_table(DatabaseName=database, TableInput=wanted, **version)
    except (
        glue.exceptions.AlreadyExistsException,
        glue.exceptions.ConcurrentModificationException,
        glue.exceptions.EntityNotFoundException,
    ):
        return False
    return True
