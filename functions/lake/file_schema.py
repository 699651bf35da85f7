"""What a dataset declares of its raw files: their format, their columns, and what a mismatch does.

A raw value is text until it has one of the forms below. DuckDB's own casts are wider than a lake
should be: ``1.5`` becomes the integer 2, ``0x1F`` 31, ``epoch`` a date, and a timestamp loses its
offset, all without a word. What has not the form of its column's type is a mismatch.

A JSON value says itself what it is, and must be of JSON's own type for the column: text for ``string``, ``date`` and
``timestamp``, a number for numbers, true or false for ``boolean``; ``"12"`` is no ``int``. A ``decimal`` may also be
text, which is how digits travel that a double would lose. ``json`` keeps whatever stands there, as JSON text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WHOLE = r"\s*[+-]?[0-9]+\s*"
_REAL = r"\s*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\s*"
_DAY = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_OFFSET = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")
# What DuckDB's json_type() calls JSON's own types.
_TEXT = ("VARCHAR",)
_INTEGER = ("UBIGINT", "BIGINT")
_NUMBER = (*_INTEGER, "DOUBLE")
_ANY = (*_NUMBER, *_TEXT, "BOOLEAN", "OBJECT", "ARRAY")

JSON = "json"
FILE_TYPES = ("csv", JSON, "parquet")
ENCODINGS = {"utf-8": "utf-8", "utf-16": "utf-16", "latin-1": "latin-1", "windows-1252": "cp1252"}
"""The encodings of text files that a dataset may declare, and Python's codec of each."""


class UnknownTypeError(ValueError):
    """A registration names a column type or a file format that the light transform does not know."""


@dataclass(frozen=True)
class Kind:
    """A column's type: DuckDB's ``name`` for it, and the ``form`` (RE2, whole value) that its text has; None is any.

    ``takes`` are the JSON types, in ``json_type()``'s words, that a value may have.
    """

    name: str
    form: str | None
    takes: tuple[str, ...] = _TEXT

    @property
    def is_json(self) -> bool:
        """Whether it is a fragment of JSON, kept as text."""
        return self.takes == _ANY


_KINDS = {
    "string": Kind("VARCHAR", None),
    "varchar": Kind("VARCHAR", None),
    "tinyint": Kind("TINYINT", _WHOLE, _INTEGER),
    "smallint": Kind("SMALLINT", _WHOLE, _INTEGER),
    "int": Kind("INTEGER", _WHOLE, _INTEGER),
    "integer": Kind("INTEGER", _WHOLE, _INTEGER),
    "bigint": Kind("BIGINT", _WHOLE, _INTEGER),
    "float": Kind("FLOAT", _REAL, _NUMBER),
    "double": Kind("DOUBLE", _REAL, _NUMBER),
    "boolean": Kind("BOOLEAN", r"(?i)\s*(true|false|t|f|yes|no|y|n|1|0)\s*", ("BOOLEAN",)),
    "date": Kind("DATE", rf"\s*{_DAY}\s*"),
    "timestamp": Kind("TIMESTAMP", rf"\s*{_DAY}([T ]{_TIME}{_OFFSET}?)?\s*"),
    JSON: Kind("VARCHAR", None, _ANY),
}


def kind_of(type_name: str) -> Kind:
    """The kind of a declared type (``bigint``, ``decimal(10,2)``, ...).

    Raises:
        UnknownTypeError: naming the type and those that are known.
    """
    name = type_name.strip().lower()
    if decimal := _DECIMAL.fullmatch(name):
        width, scale = (int(digits) for digits in decimal.groups())
        # More digits after the point than the type holds would be rounded away.
        form = rf"\s*[+-]?[0-9]+([.][0-9]{{0,{scale}}}0*)?\s*"
        return Kind(f"DECIMAL({width},{scale})", form, (*_NUMBER, *_TEXT))
    if name not in _KINDS:
        raise UnknownTypeError(f"column type {type_name!r} is not one of {', '.join(_KINDS)}, decimal(p,s)")
    return _KINDS[name]


def source_name(name: str) -> str:
    """What the declared column ``name`` is called in the relation ``source``: a path's dots are underscores there."""
    return name.replace(".", "_")


@dataclass(frozen=True)
class Column:
    """A declared column; in JSON its ``name`` may be a path, ``wind.speed``.

    A ``required`` one quarantines the file on a mismatch even where others become NULL.
    """

    name: str
    kind: Kind
    declared: str
    required: bool = False


@dataclass(frozen=True)
class FileSchema:
    """How a dataset's raw files are read. Without ``columns`` a CSV's columns are strings, a Parquet's its own.

    ``encoding`` is of CSV and JSON; separator, quote, header and NULL tokens are of CSV alone.
    """

    columns: tuple[Column, ...]
    file_type: str = "csv"
    separator: str = ","
    quote: str = '"'
    header: bool = True
    null_tokens: tuple[str, ...] = ("",)
    nulls_mismatches: bool = False
    encoding: str = "utf-8"


def schema_of(registration: Mapping[str, Any]) -> FileSchema:
    """The schema in a registration row (snake_case names, as the registrar writes them).

    Raises:
        UnknownTypeError: of a column, of the format or of the encoding.
    """
    form = registration.get("format") or {}
    file_type = str(form.get("type", "csv")).lower()
    if file_type not in FILE_TYPES:
        raise UnknownTypeError(f"file format {file_type!r} is not one of {', '.join(FILE_TYPES)}")
    encoding = str(form.get("encoding") or "utf-8").lower()
    if encoding not in ENCODINGS:
        raise UnknownTypeError(f"encoding {encoding!r} is not one of {', '.join(ENCODINGS)}")
    return FileSchema(
        columns=tuple(
            Column(one["name"], kind_of(one["type"]), one["type"], bool(one.get("required", False)))
            for one in registration.get("columns") or ()
        ),
        file_type=file_type,
        separator=form.get("separator") or ",",
        quote=form.get("quote", '"') or "",
        header=bool(form.get("header", True)),
        # An empty field is NULL whatever else is.
        null_tokens=tuple(dict.fromkeys(["", *(form.get("null_tokens") or ())])),
        nulls_mismatches=registration.get("on_mismatch", "quarantine") == "null",
        encoding=encoding,
    )
