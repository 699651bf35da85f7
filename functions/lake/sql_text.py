"""The light transform's SQL, checked when its dataset is registered: against the declared columns, without data."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from lake.file_schema import kind_of, source_name
from lake.raw_file import quoted

UNWRITABLE = ("HUGEINT", "UHUGEINT")
"""Parquet has no such integers: DuckDB would write a DOUBLE."""


class SqlTextError(ValueError):
    """The text is not one SELECT over the relation ``source``."""


def check(sql: str, columns: Iterable[tuple[str, str]]) -> None:
    """Bind ``sql`` against ``source`` with these columns (name or path, declared type); without columns only parse it.

    Nothing runs over data, and the SQL reaches no file and no network.

    Raises:
        SqlTextError: in DuckDB's words, which name the place.
    """
    declared = list(columns)
    with duckdb.connect(":memory:") as duck:
        for setting, value in {
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": "'128MiB'",
            "threads": "1",
            "enable_external_access": "false",
            "lock_configuration": "true",
        }.items():
            duck.execute(f"SET {setting} = {value}")
        try:
            statements = duck.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                kinds = ", ".join(one.type.name for one in statements) or "nothing"
                raise SqlTextError(f"must be a single SELECT; it holds {kinds}")
            if not declared:
                return
            names = ", ".join(f"{quoted(source_name(name))} {kind_of(kind).name}" for name, kind in declared)
            duck.execute(f"CREATE TEMP TABLE source ({names})")
            duck.execute(f"CREATE TEMP VIEW result AS {sql}")
            for name, kind, *_ in duck.execute("DESCRIBE result").fetchall():
                if kind in UNWRITABLE:
                    raise SqlTextError(f"its column {name!r} is {kind}, which Parquet cannot hold: cast it to BIGINT")
        except duckdb.Error as error:
            raise SqlTextError(str(error)) from error
