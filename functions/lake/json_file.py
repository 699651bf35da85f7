"""A raw JSON file as a DuckDB relation: one object a line, or one array of objects.

A column's name is a path of fields: ``wind.speed`` is the field ``speed`` of the object in the field ``wind``. Names
are matched exactly, as JSON has them. Lines stay lines for DuckDB, so that whatever is wrong with one can be told by
its number; an array's objects become lines first, and are told by their place in it.
"""

# ruff: noqa: S608 - the SQL here is composed of our own words; names and values go through literal()

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lake import json_array
from lake.file_schema import Column, FileSchema
from lake.raw_file import Cell, Source, UnreadableFileError, literal, read_csv

DEEPEST = 32
"""Objects and arrays inside of each other. Readers of the published table (Spark, Athena) recurse; data that people
declare stays below ten."""
MOST_FIELDS = 1000
"""Fields of one object: an object with more is a map in disguise, whose keys are data."""
LARGEST_BYTES = 16 << 20
"""One object's text: DuckDB's own ``maximum_object_size``, of which each thread keeps buffers."""
BROKEN = "BROKEN"
"""The type of a field that stands in something else than an object."""

_READ_CHARACTERS = 1 << 16
# No valid JSON holds this as it is: the line is then refused as it should be.
_NOWHERE = "\x01"


def json_source(path: Path, rows: Path, schema: FileSchema) -> Source:
    """The source of a JSON file in plain UTF-8; an array's objects are written to ``rows``, a line each."""
    if not schema.columns:
        raise UnreadableFileError("the dataset declares no columns, and JSON has no header to take them from")
    if not _is_array(path):
        return lines_source(path, schema.columns, "line")
    with rows.open("w", encoding="utf-8", newline="\n") as file:
        for text in json_array.objects(path, LARGEST_BYTES):
            # A line break between JSON's tokens is a blank like another; inside of a string there is none.
            file.write(text.replace("\n", " ").replace("\r", " ") + "\n")
    return lines_source(rows, schema.columns, "row")


def lines_source(path: Path, columns: Sequence[Column], place_is: str, *, nested: bool = True) -> Source:
    """The source of a file with one JSON object a line, whose number is called a ``place_is``.

    Where it is not ``nested``, a column's name is a field's whole name, dots and all.
    """
    steps = {column.name: tuple(column.name.split(".")) if nested else (column.name,) for column in columns}
    options = {
        "auto_detect": False,
        "columns": {"line": "VARCHAR"},
        "delim": _NOWHERE,
        "quote": "",
        "escape": "",
        "header": False,
        "max_line_size": LARGEST_BYTES,
        "buffer_size": 2 * LARGEST_BYTES,  # else sixteen lines, which is memory that DuckDB does not count
        "compression": "none",
    }
    lines = read_csv(path, options)
    parents = list(dict.fromkeys(parent for column in columns for parent in _parents(steps[column.name])))
    types = [(), *steps.values(), *parents]
    paths = [literal(_json_path(one)) for one in steps.values()]
    selected = [f"line, json_type(line, [{', '.join(literal(_json_path(one)) for one in types)}]) AS types"]
    # A fragment is JSON text, a value is what it says.
    for name, function, wanted in (("texts", "json_extract_string", False), ("fragments", "json_extract", True)):
        if any(column.kind.is_json is wanted for column in columns):
            selected.append(f"{function}(line, [{', '.join(paths)}]) AS {name}")
    outer, cells = ["line", "types[1] AS root"], {}
    for place, column in enumerate(columns):
        # A null is the text null among fragments.
        value = f"nullif(fragments[{place + 1}]::VARCHAR, 'null')" if column.kind.is_json else f"texts[{place + 1}]"
        kind = f"types[{place + 2}]"
        if above := [2 + len(columns) + parents.index(parent) for parent in _parents(steps[column.name])]:
            broken = " OR ".join(f"types[{one}] NOT IN ('OBJECT', 'NULL')" for one in above)
            kind = f"CASE WHEN {broken} THEN '{BROKEN}' ELSE {kind} END"
        outer += [f"{value} AS c{place}", f"{kind} AS k{place}"]
        cells[column.name] = Cell(f"c{place}", "VARCHAR", f"k{place}")

    def relation(inner: str, more: str = "") -> str:
        filled = f"FROM {inner} WHERE regexp_matches(line, '[^ \\t\\r]')"
        return f"(SELECT {', '.join(outer)}{more} FROM (SELECT {', '.join(selected)}{more} {filled}))"

    counted = f"(SELECT line, row_number() OVER () AS place FROM {lines})"
    return Source(relation(lines), cells, numbered=relation(counted, ", place"), place_is=place_is)


def _parents(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The paths of the objects that the field of this path stands in."""
    return [steps[:depth] for depth in range(1, len(steps))]


def _json_path(steps: Sequence[str]) -> str:
    quoted = (step.replace("\\", "\\\\").replace('"', '\\"') for step in steps)
    return "$" + "".join(f'."{step}"' for step in quoted)


def unbounded(line: str) -> str:
    """SQL that tells what bound a valid JSON text breaks: ``deep``, ``wide``, or NULL.

    It is asked for once, and is no column of the relation: DuckDB would bind it, which takes as long as reading a small
    file, for each query.

    Few texts have brackets or colons enough to break one. Of those, strings and all but brackets and colons are left
    out, and the innermost objects and arrays taken away, time after time: what is too wide can never be taken away, and
    after ``DEEPEST`` times what is left is too deep.
    """
    openings = " + ".join(f"strlen({line}) - strlen(replace({line}, '{one}', ''))" for one in "{[")
    fields = f"strlen({line}) - strlen(replace({line}, ':', ''))"
    bare = rf"""regexp_replace(regexp_replace({line}, '"(\\.|[^"\\])*"', '', 'g'), '[^\[\]{{}}:]', '', 'g')"""
    inner = rf"\{{:{{0,{MOST_FIELDS}}}\}}|\[\]"
    left = (
        f"list_reduce(list_prepend({bare}, list_transform(range({DEEPEST}), lambda i: '')), "
        f"lambda rest, i: regexp_replace(rest, '{inner}', '', 'g'))"
    )
    told = f"CASE WHEN contains({left}, repeat(':', {MOST_FIELDS + 1})) THEN 'wide' WHEN {left} <> '' THEN 'deep' END"
    # Each level takes two characters, each field at least four.
    suspect = (
        f"(strlen({line}) > {2 * DEEPEST} AND {openings} > {DEEPEST})"
        f" OR (strlen({line}) > {4 * MOST_FIELDS} AND {fields} > {MOST_FIELDS})"
    )
    return f"CASE WHEN {suspect} THEN {told} END"


def _is_array(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        while text := file.read(_READ_CHARACTERS):
            if first := text.lstrip(" \t\r\n"):
                return first.startswith("[")
    return False
