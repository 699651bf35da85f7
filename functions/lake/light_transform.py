"""The light transform: one raw file on local disk becomes one typed Parquet file, in DuckDB.

The file is read twice. The first pass reads every field: structure, encoding and the form of each
declared column, so that no SQL (a ``LIMIT``, a column left out) can overlook a broken file, and so
that nothing is guessed by sniffing. The second runs the dataset's SELECT over the relation ``source``.
Columns are matched by name, whatever their order and case; further columns are left out and named.
"""

# ruff: noqa: S608 - the SQL here is composed of our own words; names and values go through quoted() and literal()

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from lake.file_schema import Column, FileSchema, Kind
from lake.raw_file import (
    Cell,
    RefusedFileError,
    SchemaMismatchError,
    Source,
    UnreadableFileError,
    check_parquet,
    csv_source,
    literal,
    quoted,
)

DEFAULT_SQL = "SELECT * FROM source"
# Parquet columns of these types have a text form that the declared type can be read from.
_SCALARS = ("BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "VARCHAR", "UUID", "ENUM")
_INSTANTS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")


class TransformSqlError(RefusedFileError):
    """The dataset's SQL is not a single SELECT, or cannot be run over this file."""


class OutOfTimeError(Exception):
    """The transform was interrupted, because its time was over."""


@dataclass(frozen=True)
class Limits:
    """What DuckDB may use: ``memory_mib`` of RAM, ``spill_mib`` of disk, ``threads``, and ``seconds`` in all."""

    memory_mib: int
    spill_mib: int
    threads: int
    seconds: float


@dataclass(frozen=True)
class Transformed:
    """What was written: rows read and written, the Parquet's columns as (name, type), and what was put up with.

    ``nulled`` counts values that became NULL by column (a missing column counts every row); ``extra`` names
    columns of the file that are not declared.
    """

    rows_in: int
    rows_out: int
    columns: tuple[tuple[str, str], ...]
    nulled: Mapping[str, int] = field(default_factory=dict)
    extra: tuple[str, ...] = ()


def transform(source: Path, target: Path, schema: FileSchema, sql: str, limits: Limits) -> Transformed:
    """Read ``source`` as ``schema`` says, run ``sql`` over it, and write zstd Parquet to ``target``.

    Both files stand in one folder, which is all that the SQL can reach.

    Raises:
        RefusedFileError: one of its kinds; the same file is refused again.
        OutOfTimeError: ``limits.seconds`` are over.
    """
    source, target = source.resolve(), target.resolve()
    if schema.file_type == "parquet":
        check_parquet(source)
    with _locked_down(source.parent, limits) as duck:
        with _refusing(UnreadableFileError):
            file = _parquet_source(duck, source) if schema.file_type == "parquet" else csv_source(source, schema)
            columns = schema.columns or _own_columns(file)
            _require_columns(file, columns, schema)
            rows, nulled = _check(duck, file, columns)
            for column in columns:
                cell, count = file.cell(column.name), nulled.get(column.name)
                if cell and count and (column.required or not schema.nulls_mismatches):
                    raise _first_mismatch(duck, file, column, cell, count)
            duck.execute(f"CREATE TEMP VIEW source AS SELECT {_selection(file, columns, nulled)} FROM {file.scan}")
        with _refusing(TransformSqlError):
            written, shape = _write(duck, sql, target)
    nulled |= {column.name: rows for column in columns if rows and file.cell(column.name) is None}
    known = {column.name.casefold() for column in columns}
    extra = tuple(name for name in file.cells if name.casefold() not in known)
    return Transformed(rows, written, shape, nulled, extra)


@contextmanager
def _locked_down(folder: Path, limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB that reaches ``folder`` and nothing else, interrupted when its time is over.

    Without this, SQL reads ``/proc/self/environ``, where the role's keys stand.
    Source: https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview
    """
    if limits.seconds <= 0:
        raise OutOfTimeError("no time left")
    with duckdb.connect(":memory:") as duck:
        for setting, value in {
            "memory_limit": f"{limits.memory_mib}MiB",
            "temp_directory": str(folder / "spill"),
            "max_temp_directory_size": f"{limits.spill_mib}MiB",
            "threads": limits.threads,
            "TimeZone": "UTC",
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allowed_directories": [str(folder.resolve()) + "/"],
            "enable_external_access": False,
            "lock_configuration": True,
        }.items():
            duck.execute(f"SET {setting} = {literal(value)}")
        timer = threading.Timer(limits.seconds, duck.interrupt)
        timer.start()
        try:
            yield duck
        except duckdb.InterruptException as error:
            raise OutOfTimeError(f"the transform was stopped after {limits.seconds:.0f} s") from error
        finally:
            timer.cancel()


def _parquet_source(duck: duckdb.DuckDBPyConnection, path: Path) -> Source:
    scan = f"read_parquet({literal(str(path))})"
    described = duck.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    places = ", ".join(f"c{place}" for place in range(len(described)))
    cells = {name: Cell(f"c{place}", kind) for place, (name, kind, *_) in enumerate(described)}
    return Source(f"{scan} AS file({places})", cells)


def _own_columns(file: Source) -> tuple[Column, ...]:
    """The file's own columns, for a dataset that declares none."""
    return tuple(Column(name, Kind(kind, None), kind) for name, (_, kind) in file.cells.items())


def _require_columns(file: Source, columns: Sequence[Column], schema: FileSchema) -> None:
    missing = [column for column in columns if file.cell(column.name) is None]
    if len(missing) == len(columns):
        found = ", ".join(list(file.cells)[:5])
        raise UnreadableFileError(f"none of the declared columns is in the file, whose columns are: {found}")
    for column in missing:
        if column.required or not schema.nulls_mismatches:
            raise SchemaMismatchError(f"column {column.name!r} is missing")


def _check(duck: duckdb.DuckDBPyConnection, file: Source, columns: Sequence[Column]) -> tuple[int, dict[str, int]]:
    """Read every field once: the number of rows, and of the values in each column that are not of its type."""
    present = [(column, cell) for column in columns if (cell := file.cell(column.name)) is not None]
    bad = [f"count(*) FILTER ({cell[0]} IS NOT NULL AND {_typed(cell, one.kind)} IS NULL)" for one, cell in present]
    # A NUL is of no other type's form. Columns without a form are counted, or DuckDB would not read them at all.
    texts = [cell.sql for one, cell in present if one.kind.name == cell.type == "VARCHAR"]
    binary = " OR ".join(f"contains({name}, chr(0))" for name in texts) or "false"
    formed = {cell.sql for one, cell in present if one.kind.name != cell.type}
    others = [f"count({cell.sql})" for cell in file.cells.values() if cell.sql not in formed]
    answer = duck.execute(
        f"SELECT {', '.join(['count(*)', f'count(*) FILTER ({binary})', *bad, *others])} FROM {file.scan}"
    ).fetchall()[0]
    if answer[1]:
        raise UnreadableFileError(f"the file is binary: NUL bytes in {answer[1]} of {answer[0]} rows")
    counts = zip((column.name for column, _ in present), answer[2 : 2 + len(present)], strict=True)
    return answer[0], {name: count for name, count in counts if count}


def _first_mismatch(
    duck: duckdb.DuckDBPyConnection, file: Source, column: Column, cell: Cell, count: int
) -> SchemaMismatchError:
    """The mismatch of ``column`` that stands first in the file, with its line (of a CSV) or row."""
    name, _ = cell
    place, value = duck.execute(
        f"SELECT place, {name}::VARCHAR FROM (SELECT *, row_number() OVER () AS place FROM {file.scan})"
        f" WHERE {name} IS NOT NULL AND {_typed(cell, column.kind)} IS NULL ORDER BY place LIMIT 1"
    ).fetchall()[0]
    where = f"row {place}"
    if file.header_lines is not None:
        breaks = " + ".join(
            f"coalesce(length({one}) - length(replace({one}, chr(10), '')), 0)" for one, _ in file.cells.values()
        )
        before = duck.execute(
            f"SELECT count(*) + coalesce(sum({breaks}), 0) FROM (SELECT * FROM {file.scan} LIMIT {place - 1})"
        ).fetchall()[0][0]
        where = f"line {file.header_lines + int(before) + 1}"
    others = f" (and {count - 1} more)" if count > 1 else ""
    shown = value if len(value) <= 60 else value[:59] + "…"
    return SchemaMismatchError(f"{where}, column {column.name!r}: {shown!r} is not of type {column.declared}{others}")


def _selection(file: Source, columns: Sequence[Column], nulled: Mapping[str, int]) -> str:
    """The select list of ``source``: each declared column, typed; by the plain cast where every value is known good."""
    parts = []
    for column in columns:
        cell = file.cell(column.name)
        if cell is None:
            expression = f"CAST(NULL AS {column.kind.name})"
        else:
            expression = _typed(cell, column.kind) if nulled.get(column.name) else _cast(cell, column.kind)
        parts.append(f"{expression} AS {quoted(column.name)}")
    return ", ".join(parts)


def _typed(cell: Cell, kind: Kind) -> str:
    """SQL that gives the cell's value in its declared type, or NULL where it is not of that type."""
    name, found = cell
    if found == kind.name:
        return name
    if found.split("(")[0].split(" ")[0] not in (*_SCALARS, *_INTEGERS, *_INSTANTS) or found.endswith("]"):
        return f"CAST(NULL AS {kind.name})"
    if kind.form is None or (found in _INTEGERS and kind.name in ("DOUBLE", *_INTEGERS)):
        return f"TRY_CAST({name} AS {kind.name})"
    text = name if found == "VARCHAR" else f"{name}::VARCHAR"
    value = _cast(Cell(text, "VARCHAR"), kind, "TRY_CAST")
    return f"CASE WHEN regexp_full_match({text}, {literal(kind.form)}) THEN {value} END"


def _cast(cell: Cell, kind: Kind, cast: str = "CAST") -> str:
    """SQL that casts a cell whose form is known. A timestamp's offset is minded: the result is UTC."""
    name, found = cell
    if found == kind.name:
        return name
    if kind.name == "TIMESTAMP":
        return f"({cast}({name} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    return f"{cast}({name} AS {kind.name})"


def _write(duck: duckdb.DuckDBPyConnection, sql: str, target: Path) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Run the dataset's SELECT into ``target``; gives the rows and columns written."""
    duck.execute(f"CREATE TEMP VIEW result AS {_single_select(duck, sql)}")
    columns = tuple((name, kind) for name, kind, *_ in duck.execute("DESCRIBE result").fetchall())
    for name, kind in columns:
        if kind in ("HUGEINT", "UHUGEINT"):
            # Parquet has no such integer, and DuckDB would write a DOUBLE.
            raise TransformSqlError(
                f"the SQL's column {name!r} is {kind}, which Parquet cannot hold: cast it to BIGINT"
            )
    copied = duck.execute(f"COPY (FROM result) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
    return int(copied.fetchall()[0][0]), columns


def _single_select(duck: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The text ``sql`` itself, when it is one SELECT and nothing else."""
    statements = duck.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(one.type.name for one in statements) or "nothing"
        raise TransformSqlError(f"the transform's SQL must be a single SELECT; it holds {kinds}")
    return sql


@contextmanager
def _refusing(kind: type[RefusedFileError]) -> Iterator[None]:
    """Turn DuckDB's errors into a refusal of ``kind``, unless it was interrupted or is broken itself."""
    try:
        yield
    except (duckdb.InterruptException, duckdb.InternalException, duckdb.FatalException):
        raise
    except duckdb.Error as error:
        raise kind(_first_line(error)) from error


def _first_line(error: duckdb.Error) -> str:
    """DuckDB's message without its advice and options: what happened, and in a CSV the line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines[:3] if not line.startswith(("LINE ", "Possible ", "file =", "^", "Original Line"))]
    return " ".join(told)
