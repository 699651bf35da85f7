"""The head of a raw file: what it is, and which columns it has, before DuckDB reads the rest.

What is not the declared format is refused here by its first bytes, so that a picture named ``.csv`` can
never be read as one column of rubbish; and a CSV's header is matched by name, never guessed.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lake.file_schema import FileSchema

LONGEST_REASON = 200
_HEAD_BYTES = 1 << 20
_SIGNATURES = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or a workbook",
    b"\x1f\x8b": "gzip-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"BZh": "bzip2-compressed",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16 text; UTF-8 is read",
    b"\xfe\xff": "UTF-16 text; UTF-8 is read",
}


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


class Cell(NamedTuple):
    """A column of the file: the SQL that names it, and its type in DuckDB."""

    sql: str
    type: str


@dataclass(frozen=True)
class Source:
    """The raw file as a DuckDB relation: ``scan`` reads it, ``cells`` are its columns by name.

    Inside DuckDB columns go by their place (``c0``, ``c1``, ...), so that no name in a file can meet one of ours.

    ``header_lines`` is the number of lines before a CSV's first row, None where the file has no lines.
    """

    scan: str
    cells: Mapping[str, Cell]
    header_lines: int | None = None

    def cell(self, name: str) -> Cell | None:
        """The cell of the column ``name``, in whatever case; None where the file has no such column."""
        wanted = name.casefold()
        return next((cell for found, cell in self.cells.items() if found.casefold() == wanted), None)


def cut(reason: str) -> str:
    """``reason`` on one line, in at most 200 characters."""
    line = " ".join(reason.split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def csv_source(path: Path, schema: FileSchema) -> Source:
    """The source of a CSV, whose first record is read here: names are matched, never guessed."""
    names, header_lines = _csv_columns(_csv_text(path), schema)
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
    scan = f"read_csv({literal(str(path))}, {', '.join(f'{name} = {literal(it)}' for name, it in options.items())})"
    cells = {name: Cell(f"c{place}", "VARCHAR") for place, name in enumerate(names)}
    return Source(scan, cells, header_lines)


def _csv_text(path: Path) -> str:
    """The text at the file's beginning, at most 1 MiB."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        whole = not file.read(1)
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            raise UnreadableFileError(f"the file is {what}, not CSV")
    if b"\0" in head:
        line = head[: head.index(b"\0")].count(b"\n") + 1
        raise UnreadableFileError(f"line {line}: a NUL byte; the file is binary, not CSV")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=whole)
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise UnreadableFileError(f"line {line}: byte 0x{head[error.start]:02x}; the file is not UTF-8 text") from error
    if whole and not text.strip():
        raise EmptyFileError("the file is empty")
    return text


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
