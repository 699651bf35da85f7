"""A raw file as a DuckDB relation: which columns it has, before DuckDB reads the rest.

A CSV's header is matched by name, never guessed; a JSON file's lines, or the objects of its array, are its rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lake.file_schema import FileSchema

LONGEST_REASON = 200
_HEAD_BYTES = 1 << 20


class RefusedFileError(Exception):
    """The file or its dataset's SQL is at fault, and will be at the next attempt: ``reason`` says why, for a person."""

    def __init__(self, reason: str) -> None:
        self.reason = cut(reason)
        super().__init__(self.reason)


class EmptyFileError(RefusedFileError):
    """The file holds nothing, not even a header."""


class UnreadableFileError(RefusedFileError):
    """The file is not what its dataset's format says."""


class SchemaMismatchError(RefusedFileError):
    """A declared column is missing, or a value is not of its type."""


class TooMuchTextError(RefusedFileError):
    """The file is small, and its text larger than the dataset allows."""


class Cell(NamedTuple):
    """A column of the file: the SQL that names it, and its type in DuckDB.

    ``json_type`` is the SQL of a JSON value's type; NULL where the field is absent, ``NULL`` where its value is null.
    """

    sql: str
    type: str
    json_type: str | None = None

    @property
    def holds(self) -> str:
        """The SQL that says whether there is a value."""
        return f"{self.json_type} <> 'NULL'" if self.json_type else f"{self.sql} IS NOT NULL"


@dataclass(frozen=True)
class Source:
    """The raw file as a DuckDB relation: ``scan`` reads it, ``cells`` are its columns by name.

    Inside DuckDB columns go by their place (``c0``, ``c1``, ...), so that no name in a file can meet one of ours.

    ``header_lines`` is the number of lines before a CSV's first row, None where the file has no lines; ``path`` is the
    CSV itself. ``numbered`` is for JSON: the same relation with the ``place`` of each row, which is a ``place_is``.
    """

    scan: str
    cells: Mapping[str, Cell]
    header_lines: int | None = None
    path: Path | None = None
    numbered: str | None = None
    place_is: str = "row"

    def cell(self, name: str) -> Cell | None:
        """The cell of the column ``name``, in whatever case; None where the file has no such column."""
        wanted = name.casefold()
        return next((cell for found, cell in self.cells.items() if found.casefold() == wanted), None)


def cut(reason: str) -> str:
    """``reason`` on one line, in at most 200 characters."""
    line = " ".join(reason.split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def csv_source(path: Path, schema: FileSchema) -> Source:
    """The source of a CSV in plain UTF-8, whose first record is read here: names are matched, never guessed."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode(errors="ignore")  # the cut may be inside of a letter
    names, header_lines = _csv_columns(head, schema)
    folded = [name.casefold() for name in names]
    matched = {one.name.casefold() for one in schema.columns} or set(folded)
    if clash := [name for name in names if name.casefold() in matched and folded.count(name.casefold()) > 1]:
        raise UnreadableFileError(f"line 1: the header names column {clash[0]!r} more than once")
    options = {
        "auto_detect": False,
        "columns": {f"c{place}": "VARCHAR" for place in range(len(names))},
        "delim": schema.separator,
        "quote": schema.quote,
        "escape": schema.quote,
        "header": schema.header,
        "nullstr": list(schema.null_tokens),
        "compression": "none",
        "strict_mode": True,
        "null_padding": False,
        "ignore_errors": False,
    }
    scan = read_csv(path, options)
    cells = {name: Cell(f"c{place}", "VARCHAR") for place, name in enumerate(names)}
    return Source(scan, cells, header_lines, path)


def read_csv(path: Path, options: Mapping[str, object]) -> str:
    """DuckDB's SQL that reads the CSV file ``path`` with these ``options``."""
    return f"read_csv({literal(str(path))}, {', '.join(f'{name} = {literal(it)}' for name, it in options.items())})"


def _csv_columns(text: str, schema: FileSchema) -> tuple[list[str], int]:
    """The file's column names in their order, and the number of lines that its header takes."""
    if not schema.header:
        if not schema.columns:
            raise UnreadableFileError("the dataset declares no columns, and its files have no header")
        return [column.name for column in schema.columns], 0
    records = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=schema.separator,
        quotechar=schema.quote or None,
        quoting=csv.QUOTE_MINIMAL if schema.quote else csv.QUOTE_NONE,
    )
    try:
        names = [name.strip() for name in next(records)]
    except csv.Error as error:
        raise UnreadableFileError(f"line 1: {error}") from error
    if not names:
        raise UnreadableFileError("line 1 is blank, where the header should be")
    return names, records.line_num


def other_line_end(path: Path) -> str | None:
    """What to say of the first line that does not end as the lines before it do; None where all end alike."""
    names = {b"\n": "LF", b"\r\n": "CR LF"}
    first, line = None, 1
    with path.open("rb") as file:
        while part := file.readline(_HEAD_BYTES):
            body = part.rstrip(b"\n").removesuffix(b"\r")
            end = part[len(body) :]
            if b"\r" in body:
                return f"line {line}: a carriage return inside of the line"
            if end in names:
                first = first or end
                if end != first:
                    return f"line {line} ends with {names[end]}, the lines before it with {names[first]}"
                line += 1
    return None


def check_parquet(path: Path) -> None:
    """Refuse what is empty or has not Parquet's first bytes; the columns are read by DuckDB."""
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise EmptyFileError("the file is empty")
    if head != b"PAR1":
        raise UnreadableFileError("the file is not Parquet: it does not begin with PAR1")


def quoted(name: str) -> str:
    """``name`` as an identifier of DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """``value`` as a literal of DuckDB's SQL."""
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(literal(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(name)}: {literal(one)}" for name, one in value.items()) + "}"
    return "'" + str(value).replace("'", "''") + "'"
