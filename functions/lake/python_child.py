"""Runs a dataset's own Python over one raw file: the program of a process of its own, started by python_transform.

    python_child.py <order.json>

It needs nothing but Python's library and shares nothing with its parent but files: the order (``script``, ``source``,
``rows``, ``report``, ``columns``, ``strict``, ``most_bytes``, ``memory_bytes``), the rows, one JSON object a line, and
the report, ``{"rows": n}`` or ``{"fault": "..."}``. Whatever the user's code does ends here, or is ended from outside.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

# What the user's code may write beside its rows.
_SCRATCH_BYTES = 256 << 20


class FaultError(Exception):
    """What the user's code returned cannot be taken."""


def main(order: Mapping[str, Any]) -> None:
    """Do what the order says, and report."""
    script = Path(order["script"])
    bound(resource.RLIMIT_DATA, order["memory_bytes"])
    bound(resource.RLIMIT_FSIZE, order["most_bytes"] + _SCRATCH_BYTES)
    bound(resource.RLIMIT_CORE, 0)
    try:
        with Path(order["rows"]).open("w", encoding="utf-8") as file:
            report: dict[str, Any] = {"rows": write_rows(order, returned(script, Path(order["source"])), file)}
    except FaultError as error:
        report = {"fault": str(error)}
    except BaseException as error:  # noqa: BLE001 - sys.exit, too, is no way out of a transform
        report = {"fault": located(error, script.name)}
    Path(order["report"]).write_text(json.dumps(report), encoding="utf-8")
    sys.stdout.flush()
    # Threads that the user's code has left behind are not waited for.
    os._exit(0)


def bound(what: int, most: int) -> None:
    """Set a limit of this process; where the system has no such limit, time still bounds it."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (most, most))


def returned(script: Path, source: Path) -> Iterable[Any]:
    """What the script's ``transform`` returns for the raw file."""
    module = ModuleType(script.stem)
    module.__file__ = str(script)
    sys.modules[module.__name__] = module
    exec(compile(script.read_text(encoding="utf-8"), script.name, "exec"), module.__dict__)  # noqa: S102
    rows = module.transform(source)
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise FaultError(f"{script.name}: transform returned {a(rows)}, where rows should be")
    return rows


def write_rows(order: Mapping[str, Any], rows: Iterable[Any], file: Any) -> int:
    """Write each row as a line; gives their number."""
    name, most, columns = Path(order["script"]).name, order["most_bytes"], order["columns"]
    number = size = 0
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise FaultError(f"row {number}: {name} returned {a(row)}, where a mapping of columns should be")
        check_columns(row, columns, order["strict"], f"row {number}: {name} returned")
        values = (f"{json.dumps(column)}:{as_json(row[column], number, column)}" for column in columns if column in row)
        size += file.write(f"{{{','.join(values)}}}\n")
        if size > most:
            raise FaultError(f"{name} returned more than {most >> 20:,} MiB of rows")
    return number


def check_columns(row: Mapping[Any, Any], columns: list[str], strict: bool, what: str) -> None:
    """The row has the declared columns and no other; where a mismatch becomes NULL, it may lack some."""
    if row.keys() == set(columns):
        return
    for column in row:
        if column not in columns:
            raise FaultError(f"{what} column {column!r}, which is not declared")
    if strict:
        missing = next(column for column in columns if column not in row)
        raise FaultError(f"{what} no column {missing!r}")


def as_json(value: Any, number: int, column: str) -> str:
    """A value as JSON, as the declared types take it."""
    match value:
        case float() if not math.isfinite(value):
            value = str(value)  # which is text, and so not of a number's type
        case Decimal():
            value = format(value, "f")
        case date():  # a datetime is one, too
            value = value.isoformat()
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FaultError(f"row {number}, column {column!r}: {a(value)} that cannot be kept ({error})") from error


def a(value: Any) -> str:
    """The type of a value, in a sentence."""
    return f"a value of type {type(value).__name__}"


def located(error: BaseException, name: str) -> str:
    """The error, with the innermost line of the user's file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    where = f"{name}, line {lines[-1]}" if lines else name
    try:
        told = str(error)
    except Exception:  # noqa: BLE001 - an exception's text may raise in its turn
        told = ""
    return f"{where}: {type(error).__name__}" + (f": {told}" if told else "")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
