"""The types of the Glue Data Catalog (Hive's) in DuckDB.

https://docs.aws.amazon.com/athena/latest/ug/data-types.html
"""

from __future__ import annotations

import re
from typing import Any

from lake.hive_type import parts_of

_SCALARS = {
    "boolean": "BOOLEAN",
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "varchar": "VARCHAR",
    "char": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "binary": "BLOB",
}
_FROM_DUCKDB = {
    **{kind: name for name, kind in _SCALARS.items() if name not in ("integer", "varchar", "char")},
    "UTINYINT": "smallint",
    "USMALLINT": "int",
    "UINTEGER": "bigint",
    "UBIGINT": "decimal(20,0)",
    "HUGEINT": "decimal(38,0)",
}
# In a file of which type Athena finds a column of which type: as it is declared, or narrower.
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
_READABLE = {
    **{name: set(_INTEGERS[: position + 1]) for position, name in enumerate(_INTEGERS)},
    "DOUBLE": {"FLOAT", "DOUBLE"},
    "VARCHAR": {"VARCHAR", "BLOB"},
    "BLOB": {"VARCHAR", "BLOB"},
    "DECIMAL": {"DECIMAL", *_INTEGERS},
}


def to_duckdb(hive_type: str) -> str:
    """DuckDB's name of a type, nested ones included; an unknown one is a `ValueError`."""
    text = hive_type.strip().lower()
    nested = re.fullmatch(r"(array|map|struct)<(.+)>", text)
    if nested is None:
        return _scalar(text)
    kind, parts = nested[1], parts_of(nested[2])
    if kind == "array":
        return f"{to_duckdb(nested[2])}[]"
    if kind == "map":
        return f"MAP({', '.join(to_duckdb(part) for part in parts)})"
    fields = (part.partition(":") for part in parts)
    return "STRUCT({})".format(", ".join(f'"{name}" {to_duckdb(of)}' for name, _, of in fields))


def from_duckdb(found: Any) -> str:
    """The catalog's name of a type that DuckDB found in a file (`DuckDBPyType`), as a crawler writes it."""
    if found.id in ("list", "array"):
        return f"array<{from_duckdb(found.children[0][1])}>"
    if found.id == "map":
        return "map<{},{}>".format(*(from_duckdb(of) for _, of in found.children))
    if found.id == "struct":
        return "struct<{}>".format(",".join(f"{name}:{from_duckdb(of)}" for name, of in found.children))
    if found.id == "decimal":
        return "decimal({},{})".format(*(number for _, number in found.children))
    if found.id.startswith("timestamp"):
        return "timestamp"
    return _FROM_DUCKDB.get(str(found), "string")


def can_be_read_as(file_type: str, duckdb_type: str) -> bool:
    """Whether Athena reads a column of `file_type` in Parquet as this type; DuckDB would cast anything."""
    stored, declared = _base(file_type), _base(duckdb_type)
    if declared == "TIMESTAMP":
        return stored.startswith("TIMESTAMP")
    return stored in _READABLE.get(declared, {declared})


def _scalar(text: str) -> str:
    base, bracket, parameters = text.partition("(")
    if base == "decimal":
        return f"DECIMAL({parameters}" if bracket else "DECIMAL(10,0)"
    if base not in _SCALARS:
        raise ValueError(f"{text} is not one of Athena's types")
    return _SCALARS[base]


def _base(duckdb_type: str) -> str:
    return "LIST" if duckdb_type.endswith("[]") else duckdb_type.partition("(")[0]
