"""What S3 holds and what the object catalog says, side by side in a DuckDB file: no lake is too large for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from lake import clock

SQL = Path(__file__).with_suffix(".sql")
"""The tables and the questions."""
LINES_AT_ONCE = 20_000
MEMORY = "1GiB"
"""What DuckDB takes before it goes on on disk."""


class Ledger:
    """A DuckDB database in ``folder``: the tables of ``ledger.sql``, empty, and its views."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._duckdb = duckdb.connect(
            str(folder / "ledger.duckdb"), config={"memory_limit": MEMORY, "temp_directory": str(folder / "spilled")}
        )
        self._duckdb.execute(SQL.read_text(encoding="utf-8"))
        self.columns: dict[str, dict[str, str]] = {}
        """Type of each column, by table and name."""
        for one in self.ask("SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY column_index"):
            self.columns.setdefault(one["table_name"], {})[one["column_name"]] = one["data_type"]

    def add(self, table: str, lines: Iterable[Mapping[str, Any]]) -> Iterator[int]:
        """Add ``lines`` to a table; gives the number added so far, some at a time."""
        columns = self.columns[table]
        source = f"read_json(?, format = 'newline_delimited', columns = {columns})"
        file = self._folder / "lines.json"
        rest, added = iter(lines), 0
        while some := list(islice(rest, LINES_AT_ONCE)):
            with file.open("w", encoding="utf-8") as out:
                for line in some:
                    out.write(json.dumps({name: line.get(name) for name in columns}, default=_plain) + "\n")
            self._duckdb.execute(f"INSERT INTO {table} SELECT * FROM {source}", [str(file)])  # noqa: S608 (our own names)
            added += len(some)
            yield added

    def replace_rows(self, ids: list[str], lines: Iterable[Mapping[str, Any]]) -> None:
        """What the catalog says now of some identities."""
        self._duckdb.execute("DELETE FROM rows WHERE id IN (SELECT unnest(?))", [ids])
        self.fill("rows", lines)

    def replace_listed(self, ids: list[str], lines: Iterable[Mapping[str, Any]]) -> None:
        """What S3 says now of some identities."""
        self._duckdb.execute("DELETE FROM listed WHERE id IN (SELECT unnest(?))", [ids])
        self.fill("listed", lines)

    def fill(self, table: str, lines: Iterable[Mapping[str, Any]]) -> int:
        """Add ``lines`` to a table; gives their number."""
        return max(self.add(table, lines), default=0)

    def ask(self, sql: str, **given: Any) -> Iterator[dict[str, Any]]:
        """Each row of an answer, by column; ``given`` are the parameters that it names ``$name``.

        Other questions may be asked meanwhile.
        """
        cursor = self._duckdb.cursor()
        cursor.execute(sql, given or None)
        columns = [str(one[0]) for one in cursor.description or ()]
        while some := cursor.fetchmany(LINES_AT_ONCE):
            for row in some:
                yield dict(zip(columns, row, strict=True))

    def all(self, view: str) -> Iterator[dict[str, Any]]:
        """Each row of a table or view."""
        return self.ask(f"SELECT * FROM {view}")  # noqa: S608 (our own names)

    def run(self, sql: str, **given: Any) -> None:
        """Carry out a statement."""
        self._duckdb.execute(sql, given or None)

    def close(self) -> None:
        """Let go of the file."""
        self._duckdb.close()


def row_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the object catalog as the ledger keeps it; a time that no clock wrote is none."""
    try:
        moment = clock.stamp(clock.parse(str(row["event_time"])))
    except (KeyError, ValueError):
        moment = None
    return {**row, "event_time": moment}


def _plain(value: object) -> int | float | str:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
