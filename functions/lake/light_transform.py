"""The light transform: one raw file on local disk becomes one typed Parquet file, in DuckDB.

A text file is made plain UTF-8 first (``lake.plain_text``). It is then read twice. The first pass reads every field:
structure and the form of each declared column, so that no SQL (a ``LIMIT``, a column left out) can overlook a broken
file, and so that nothing is guessed by sniffing. The second runs the dataset's SELECT over the relation ``source``.
Columns are matched by name, whatever their order and case (JSON's fields exactly); a CSV's or Parquet's further
columns are left out and named.
"""

# ruff: noqa: S608 - the SQL here is composed of our own words; names and values go through quoted() and literal()

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import duckdb

from lake.file_schema import JSON, Column, FileSchema, Kind, source_name
from lake.json_file import BROKEN, DEEPEST, MOST_FIELDS, json_source, lines_source, unbounded
from lake.plain_text import plain_text
from lake.raw_file import (
    Cell,
    RefusedFileError,
    SchemaMismatchError,
    Source,
    UnreadableFileError,
    check_parquet,
    csv_source,
    literal,
    other_line_end,
    quoted,
)

DEFAULT_SQL = "SELECT * FROM source"
DEFAULT_SQL_NAME = "light.sql"
# Parquet columns of these types have a text form that the declared type can be read from.
_SCALARS = ("BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "VARCHAR", "UUID", "ENUM")
_INSTANTS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_JSON_WORDS = {"VARCHAR": "text", "BOOLEAN": "true or false", "OBJECT": "an object", "ARRAY": "an array"}
_CSV_ERROR = re.compile(r"Invalid Input Error: CSV Error on Line: (\d+)")
_EXACT_DIGITS = 15
"""DuckDB reads a JSON number with a point as a double, which holds this many digits of any decimal."""


class TransformSqlError(RefusedFileError):
    """The dataset's SQL is not a single SELECT, or cannot be run over this file."""


class OutOfTimeError(Exception):
    """The transform was interrupted, because its time was over."""


@dataclass(frozen=True)
class Limits:
    """What a transform may use: ``memory_mib`` of RAM, ``spill_mib`` of disk and ``threads`` for DuckDB, and
    ``seconds`` in all. ``text_mib`` is the most of text that a compressed or recoded file may become on disk.
    """

    memory_mib: int
    spill_mib: int
    threads: int
    seconds: float
    text_mib: int = 2048


@dataclass(frozen=True)
class Transformed:
    """What was written: rows read and written, the Parquet's columns as (name, type), and what was put up with.

    ``nulled`` counts values that became NULL by column (a missing column counts every row); ``extra`` names
    columns of the file that are not declared. Where it was asked for, ``first_nulled`` tells of each such column where
    its first value stood, and what is wrong with it.
    """

    rows_in: int
    rows_out: int
    columns: tuple[tuple[str, str], ...]
    nulled: Mapping[str, int] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    first_nulled: Mapping[str, str] = field(default_factory=dict)


def transform(
    source: Path,
    target: Path,
    schema: FileSchema,
    sql: str,
    limits: Limits,
    *,
    sql_name: str = DEFAULT_SQL_NAME,
    shows_nulled: bool = False,
) -> Transformed:
    """Read ``source`` as ``schema`` says, run ``sql`` over it, and write zstd Parquet to ``target``.

    Both files stand in one folder, which is all that the SQL can reach. Errors of the SQL name its file, ``sql_name``.
    ``shows_nulled`` asks for ``first_nulled``, which reads the file again for each of its columns.

    Raises:
        RefusedFileError: one of its kinds; the same file is refused again.
        OutOfTimeError: ``limits.seconds`` are over.
    """
    source, target = source.resolve(), target.resolve()
    deadline = time.monotonic() + limits.seconds
    if schema.file_type == "parquet":
        check_parquet(source)
    else:
        source = plain_text(source, source.with_name("plain"), schema, limits.text_mib)
    limits = replace(limits, seconds=deadline - time.monotonic())
    with _locked_down(source.parent, limits) as duck:
        with _refusing(UnreadableFileError):
            if schema.file_type == "parquet":
                file = _parquet_source(duck, source)
            elif schema.file_type == JSON:
                file = json_source(source, source.with_name("lines"), schema)
            else:
                file = csv_source(source, schema)
        return _stage(duck, file, target, schema, sql, sql_name=sql_name, shows_nulled=shows_nulled)


def rows_transform(
    source: Path, target: Path, schema: FileSchema, limits: Limits, *, shows_nulled: bool = False
) -> Transformed:
    """Write the rows in ``source``, a JSON object of the columns a line, to ``target``; they are checked like a file's.

    Raises:
        As ``transform``.
    """
    source, target = source.resolve(), target.resolve()
    with _locked_down(source.parent, limits) as duck:
        file = lines_source(source, schema.columns, "row", nested=False)
        return _stage(duck, file, target, schema, DEFAULT_SQL, sql_name=DEFAULT_SQL_NAME, shows_nulled=shows_nulled)


def _stage(
    duck: duckdb.DuckDBPyConnection,
    file: Source,
    target: Path,
    schema: FileSchema,
    sql: str,
    *,
    sql_name: str,
    shows_nulled: bool,
) -> Transformed:
    """Check every field of ``file``, then write what the SQL makes of it."""
    first_nulled = {}
    with _refusing(UnreadableFileError):
        columns = schema.columns or _own_columns(file)
        if not file.numbered:
            _require_columns(file, columns, schema)
        rows, nulled = _check(duck, file, columns)
        for column in columns:
            cell, count = file.cell(column.name), nulled.get(column.name)
            if not (cell and count):
                continue
            if column.required or not schema.nulls_mismatches:
                where, what = _first_mismatch(duck, file, column, cell)
                others = f" (and {count - 1} more)" if count > 1 else ""
                raise SchemaMismatchError(f"{where}, column {column.name!r}: {what}{others}")
            if shows_nulled:
                first_nulled[column.name] = ": ".join(_first_mismatch(duck, file, column, cell))
        duck.execute(f"CREATE TEMP VIEW source AS SELECT {_selection(file, columns, nulled)} FROM {file.scan}")
    with _refusing(TransformSqlError, sql_name):
        written, shape = _write(duck, sql, target)
    nulled |= {column.name: rows for column in columns if rows and file.cell(column.name) is None}
    known = {column.name.casefold() for column in columns}
    extra = tuple(name for name in file.cells if name.casefold() not in known)
    return Transformed(rows, written, shape, nulled, extra, first_nulled)


@contextmanager
def _locked_down(folder: Path, limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a DuckDB that reaches ``folder`` and nothing else, interrupted when its time is over."""
    if limits.seconds <= 0:
        raise OutOfTimeError("no time left")
    instance = _instance(folder.resolve(), limits.memory_mib, limits.spill_mib, limits.threads)
    with instance.cursor() as duck:
        timer = threading.Timer(limits.seconds, duck.interrupt)
        timer.start()
        try:
            yield duck
        except duckdb.InterruptException as error:
            raise OutOfTimeError(f"the transform was stopped after {limits.seconds:.0f} s") from error
        except (duckdb.FatalException, duckdb.InternalException):
            _instance.cache_clear()  # after such an error it answers no query any more
            raise
        finally:
            timer.cancel()


@lru_cache(maxsize=1)
def _instance(folder: Path, memory_mib: int, spill_mib: int, threads: int) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB for one file after another, as making one takes longer than a small file's whole transform.

    Each file has a connection, and so temporary views, of its own. Settings hold for all of them, and are locked:
    SQL would else read ``/proc/self/environ``, where the role's keys stand. Files of one name follow one another, so
    that nothing of a file may be remembered. What is spilled lies beside ``folder``, which is emptied in between.
    Source: https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview
    """
    duck = duckdb.connect(":memory:")
    for setting, value in {
        "memory_limit": f"{memory_mib}MiB",
        "temp_directory": str(folder.with_name(f"{folder.name}-spill")),
        "max_temp_directory_size": f"{spill_mib}MiB",
        "threads": threads,
        "TimeZone": "UTC",
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_file_cache": False,
        "allowed_directories": [f"{folder}/"],
        "enable_external_access": False,
        "lock_configuration": True,
    }.items():
        duck.execute(f"SET GLOBAL {setting} = {literal(value)}")
    return duck


def _parquet_source(duck: duckdb.DuckDBPyConnection, path: Path) -> Source:
    scan = f"read_parquet({literal(str(path))})"
    described = duck.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    places = ", ".join(f"c{place}" for place in range(len(described)))
    cells = {name: Cell(f"c{place}", kind) for place, (name, kind, *_) in enumerate(described)}
    return Source(f"{scan} AS file({places})", cells)


def _own_columns(file: Source) -> tuple[Column, ...]:
    """The file's own columns, for a dataset that declares none."""
    return tuple(Column(name, Kind(cell.type, None), cell.type) for name, cell in file.cells.items())


def _require_columns(file: Source, columns: Sequence[Column], schema: FileSchema) -> None:
    missing = [column for column in columns if file.cell(column.name) is None]
    if len(missing) == len(columns):
        found = ", ".join(list(file.cells)[:5])
        split = "" if file.header_lines is None else f" when line 1 is split at {schema.separator!r}"
        raise UnreadableFileError(f"none of the declared columns is in the file, whose columns are{split}: {found}")
    for column in missing:
        if column.required or not schema.nulls_mismatches:
            raise SchemaMismatchError(f"column {column.name!r} is missing")


def _objects_conditions(file: Source, columns: Sequence[Column]) -> list[str]:
    """What no line of a JSON file may be: no object, out of bounds, without a required field; nor all without any."""
    absent = {column.name: f"{file.cells[column.name].json_type} IS NULL" for column in columns}
    required = [absent[column.name] for column in columns if column.required]
    return ["root <> 'OBJECT'", f"{unbounded('line')} IS NOT NULL", *required, " AND ".join(absent.values())]


def _check_objects(
    duck: duckdb.DuckDBPyConnection,
    file: Source,
    columns: Sequence[Column],
    conditions: Sequence[str],
    *,
    rows: int,
    counts: Sequence[int],
) -> None:
    """Judge how many of ``rows`` meet each of the ``conditions`` above."""
    no_object, out_of_bounds, *absent, _ = conditions
    objects, bounds, *fields, empty = counts
    if objects:
        where, kind = _first(duck, file, no_object, "root")
        raise UnreadableFileError(f"{where}: {_JSON_WORDS.get(kind, 'a number or null')}, where an object should be")
    if bounds:
        where, kind = _first(duck, file, out_of_bounds, unbounded("line"))
        bound = f"nested deeper than {DEEPEST}" if kind == "deep" else f"an object of more than {MOST_FIELDS:,} fields"
        raise UnreadableFileError(f"{where}: {bound}")
    if rows and empty == rows:
        where, line = _first(duck, file, "true", "line[:60]")
        raise UnreadableFileError(f"none of the declared fields is in any of {rows:,} objects; {where} begins {line}")
    required = [column.name for column in columns if column.required]
    for name, condition, count in zip(required, absent, fields, strict=True):
        if count:
            where, _ = _first(duck, file, condition, "NULL")
            others = f" (and {count - 1} more)" if count > 1 else ""
            raise SchemaMismatchError(f"{where}: field {name!r} is missing{others}")


def _malformed(duck: duckdb.DuckDBPyConnection, file: Source) -> UnreadableFileError | None:
    """The first line that is no JSON, in DuckDB's words."""
    found = duck.execute(
        f"SELECT place, line FROM {file.numbered} WHERE NOT json_valid(line) ORDER BY place LIMIT 1"
    ).fetchone()
    if found is None:
        return None
    place, line = found
    try:
        duck.execute("SELECT json_type(?)", [line])
    except duckdb.Error as error:
        # Malformed JSON at byte 8 of input: unexpected end of data.  Input: ...
        told = re.sub(
            r"^.*?Malformed JSON at byte (\d+) of input: (.*?)\.?\s*(Input:.*)?$", r"\2 at byte \1", _told(error)
        )
        return UnreadableFileError(f"{file.place_is} {place}: not JSON: {told}")
    return None


def _first(duck: duckdb.DuckDBPyConnection, file: Source, condition: str, shown: str) -> tuple[str, str]:
    """Where in a JSON file ``condition`` holds first, and what ``shown`` is there."""
    found = duck.execute(
        f"SELECT place, {shown} FROM {file.numbered} WHERE {condition} ORDER BY place LIMIT 1"
    ).fetchall()
    return f"{file.place_is} {found[0][0]}", found[0][1]


def _check(duck: duckdb.DuckDBPyConnection, file: Source, columns: Sequence[Column]) -> tuple[int, dict[str, int]]:
    """Read every field once: the number of rows, and of the values in each column that are not of its type."""
    present = [(column, cell) for column in columns if (cell := file.cell(column.name)) is not None]
    bad = [f"{cell.holds} AND {_typed(cell, one.kind)} IS NULL" for one, cell in present]
    objects = _objects_conditions(file, columns) if file.numbered else []
    # A NUL is of no other type's form. Columns without a form are counted, or DuckDB would not read them at all.
    texts = [cell.sql for one, cell in present if one.kind.name == cell.type == "VARCHAR"]
    binary = " OR ".join(f"contains({name}, chr(0))" for name in texts) or "false"
    formed = {cell.sql for one, cell in present if one.kind.name != cell.type}
    others = [f"count({cell.sql})" for cell in file.cells.values() if cell.sql not in formed]
    counted = [f"count(*) FILTER ({condition})" for condition in (binary, *bad, *objects)]
    try:
        rows, nuls, *counts = duck.execute(
            f"SELECT {', '.join(['count(*)', *counted, *others])} FROM {file.scan}"
        ).fetchall()[0]
    except duckdb.InvalidInputException as error:
        if file.numbered and (malformed := _malformed(duck, file)):
            raise malformed from error
        # Of such a file DuckDB says that its state machine is in an invalid state, and no line.
        if "CSV Error on Line" not in str(error) and file.path and (found := other_line_end(file.path)):
            raise UnreadableFileError(found) from error
        raise
    if objects:
        _check_objects(duck, file, columns, objects, rows=rows, counts=counts[len(bad) :][: len(objects)])
    if nuls:
        raise UnreadableFileError(f"the file is binary: NUL bytes in {nuls} of {rows} rows")
    return rows, {column.name: count for (column, _), count in zip(present, counts[: len(bad)], strict=True) if count}


def _first_mismatch(duck: duckdb.DuckDBPyConnection, file: Source, column: Column, cell: Cell) -> tuple[str, str]:
    """The line (of text) or row of the first value that is not of the column's type, and what is wrong with it."""
    condition = f"{cell.holds} AND {_typed(cell, column.kind)} IS NULL"
    if file.numbered:
        where, kind = _first(duck, file, condition, str(cell.json_type))
        if kind == BROKEN:
            above = column.name.rpartition(".")[0]
            return where, f"{above!r} is no object"
        _, value = _first(duck, file, condition, cell.sql)
        word = f" ({_JSON_WORDS[kind]})" if kind in _JSON_WORDS else ""
    else:
        place, value = duck.execute(
            f"SELECT place, {cell.sql}::VARCHAR FROM (SELECT *, row_number() OVER () AS place FROM {file.scan})"
            f" WHERE {condition} ORDER BY place LIMIT 1"
        ).fetchall()[0]
        where, word = f"row {place}", ""
        if file.header_lines is not None:
            where = f"line {file.header_lines + _lines_before(duck, file, place) + 1}"
    shown = value if len(value) <= 60 else value[:59] + "…"
    return where, f"{shown!r}{word} is not of type {column.declared}"


def _lines_before(duck: duckdb.DuckDBPyConnection, file: Source, row: int) -> int:
    """The lines that a CSV's rows before ``row`` take, line breaks in their fields included."""
    breaks = " + ".join(
        f"coalesce(length({cell.sql}) - length(replace({cell.sql}, chr(10), '')), 0)" for cell in file.cells.values()
    )
    counted = f"SELECT count(*) + coalesce(sum({breaks}), 0) FROM (SELECT * FROM {file.scan} LIMIT {row - 1})"
    return int(duck.execute(counted).fetchall()[0][0])


def _selection(file: Source, columns: Sequence[Column], nulled: Mapping[str, int]) -> str:
    """The select list of ``source``: each declared column, typed; by the plain cast where every value is known good."""
    parts = []
    for column in columns:
        cell = file.cell(column.name)
        if cell is None:
            expression = f"CAST(NULL AS {column.kind.name})"
        else:
            expression = _typed(cell, column.kind) if nulled.get(column.name) else _cast(cell, column.kind)
        parts.append(f"{expression} AS {quoted(source_name(column.name))}")
    return ", ".join(parts)


def _typed(cell: Cell, kind: Kind) -> str:
    """SQL that gives the cell's value in its declared type, or NULL where it is not of that type."""
    if cell.json_type:
        return _typed_json(cell, kind)
    name, found, _ = cell
    if kind.is_json:
        return f"CASE WHEN json_valid({name}::VARCHAR) THEN {name}::VARCHAR END"
    if found == kind.name:
        return name
    if found.split("(")[0].split(" ")[0] not in (*_SCALARS, *_INTEGERS, *_INSTANTS) or found.endswith("]"):
        return f"CAST(NULL AS {kind.name})"
    if kind.form is None or (found in _INTEGERS and kind.name in ("DOUBLE", *_INTEGERS)):
        return f"TRY_CAST({name} AS {kind.name})"
    text = name if found == "VARCHAR" else f"{name}::VARCHAR"
    value = _cast(Cell(text, "VARCHAR"), kind, "TRY_CAST")
    return f"CASE WHEN regexp_full_match({text}, {literal(kind.form)}) THEN {value} END"


def _typed_json(cell: Cell, kind: Kind) -> str:
    """The same of a JSON value, which must also be of one of the JSON types that the declared type takes."""
    condition = f"{cell.json_type} IN ({', '.join(literal(one) for one in kind.takes)})"
    if kind.name.startswith("DECIMAL"):
        digits = f"length(ltrim(regexp_replace({cell.sql}, '[^0-9]', '', 'g'), '0'))"
        condition += (
            f" AND ({cell.json_type} <> 'DOUBLE' OR NOT contains({cell.sql}, '.') OR {digits} <= {_EXACT_DIGITS})"
        )
    value = cell.sql if kind.is_json else _typed(Cell(cell.sql, "VARCHAR"), kind)
    return f"CASE WHEN {condition} THEN {value} END"


def _cast(cell: Cell, kind: Kind, cast: str = "CAST") -> str:
    """SQL that casts a cell whose form is known. A timestamp's offset is minded: the result is UTC."""
    name, found, _ = cell
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
            raise TransformSqlError(f"its column {name!r} is {kind}, which Parquet cannot hold: cast it to BIGINT")
    copied = duck.execute(f"COPY (FROM result) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
    return int(copied.fetchall()[0][0]), columns


def _single_select(duck: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The text ``sql`` itself, when it is one SELECT and nothing else."""
    statements = duck.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(one.type.name for one in statements) or "nothing"
        raise TransformSqlError(f"it must be a single SELECT; it holds {kinds}")
    return sql


@contextmanager
def _refusing(kind: type[RefusedFileError], user_file: str | None = None) -> Iterator[None]:
    """Turn DuckDB's errors into a refusal of ``kind``, unless it was interrupted or is broken itself.

    Where the fault is in ``user_file``, the reason begins with its name and, as far as DuckDB tells it, the line.
    """
    try:
        yield
    except (duckdb.InterruptException, duckdb.InternalException, duckdb.FatalException):
        raise
    except TransformSqlError as error:
        raise kind(f"{user_file}: {error.reason}") from error
    except duckdb.Error as error:
        told = _told(error)
        if user_file:
            line = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
            told = f"{user_file}, line {line[1]}: {told}" if line else f"{user_file}: {told}"
        raise kind(told) from error


def _told(error: duckdb.Error) -> str:
    """DuckDB's message without its advice and options: what happened, and in a CSV the line."""
    lines = [line.strip() for line in str(error).partition("Possible ")[0].splitlines() if line.strip()]
    if lines and (found := _CSV_ERROR.fullmatch(lines[0])):
        # Between the two stands the line itself, however long and whatever it holds.
        return f"line {found[1]}: {lines[-1]}"
    return " ".join(line for line in lines[:3] if not line.startswith(("LINE ", "file =", "^")))
