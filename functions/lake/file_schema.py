"""What a dataset declares of its raw files: their format, their columns, and what a mismatch does.

A raw value is text until it has one of the forms below. DuckDB's own casts are wider than a lake
should be: ``1.5`` becomes the integer 2, ``0x1F`` 31, ``epoch`` a date, and a timestamp loses its
offset, all without a word. What has not the form of its column's type is a mismatch.
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


class UnknownTypeError(ValueError):
    """A registration names a column type or a file format that the light transform does not know."""


@dataclass(frozen=True)
class Kind:
    """A column's type: DuckDB's ``name`` for it, and the ``form`` (RE2, whole value) that its text has; None is any."""

    name: str
    form: str | None


_KINDS = {
    "string": Kind("VARCHAR", None),
    "varchar": Kind("VARCHAR", None),
    "tinyint": Kind("TINYINT", _WHOLE),
    "smallint": Kind("SMALLINT", _WHOLE),
    "int": Kind("INTEGER", _WHOLE),
    "integer": Kind("INTEGER", _WHOLE),
    "bigint": Kind("BIGINT", _WHOLE),
    "float": Kind("FLOAT", _REAL),
    "double": Kind("DOUBLE", _REAL),
    "boolean": Kind("BOOLEAN", r"(?i)\s*(true|false|t|f|yes|no|y|n|1|0)\s*"),
    "date": Kind("DATE", rf"\s*{_DAY}\s*"),
    "timestamp": Kind("TIMESTAMP", rf"\s*{_DAY}([T ]{_TIME}{_OFFSET}?)?\s*"),
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
        return Kind(f"DECIMAL({width},{scale})", rf"\s*[+-]?[0-9]+([.][0-9]{{0,{scale}}}0*)?\s*")
    if name not in _KINDS:
        raise UnknownTypeError(f"column type {type_name!r} is not one of {', '.join(_KINDS)}, decimal(p,s)")
    return _KINDS[name]


@dataclass(frozen=True)
class Column:
    """A declared column. A ``required`` one quarantines the file on a mismatch even where others become NULL."""

    name: str
    kind: Kind
    declared: str
    required: bool = False


@dataclass(frozen=True)
class FileSchema:
    """How a dataset's raw files are read. Without ``columns`` a CSV's columns are strings, a Parquet's its own."""

    columns: tuple[Column, ...]
    file_type: str = "csv"
    separator: str = ","
    quote: str = '"'
    header: bool = True
    null_tokens: tuple[str, ...] = ("",)
    nulls_mismatches: bool = False


def schema_of(registration: Mapping[str, Any]) -> FileSchema:
    """The schema in a registration row (snake_case names, as the registrar writes them).

    Raises:
        UnknownTypeError: of a column or of the format.
    """
    form = registration.get("format") or {}
    file_type = str(form.get("type", "csv")).lower()
    if file_type not in ("csv", "parquet"):
        raise UnknownTypeError(f"file format {file_type!r} is neither csv nor parquet")
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
    )
