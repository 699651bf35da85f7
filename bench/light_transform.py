"""What the light transform takes over DuckDB's own conversion of the same file to Parquet: ``make bench``.

Both are told the columns and their types. DuckDB's own finds out a CSV's separator and quotes, which takes most of its
time with a small file, and checks no more than its casts do, which are wider than a lake should be
(``lake.file_schema``). They take turns, and the figure is the median of the ratios of neighbours: a machine's speed
drifts from minute to minute, and the ratio of two runs side by side hardly does.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import duckdb
from rich.console import Console

from lake.file_schema import schema_of
from lake.light_transform import DEFAULT_SQL, transform
from tarn import screen
from tarn.check import LIMITS

COLUMNS = {"number": "int", "carrier": "string", "departure": "timestamp", "delay": "double", "is_late": "boolean"}
FORMATS = ("csv", "csv.gz", "json", "json.gz")
ROWS = (100, 10_000, 300_000)


@dataclass(frozen=True)
class Figure:
    """Pairs of seconds, the light transform's and DuckDB's own, over one file of ``rows`` rows and ``size`` bytes."""

    form: str
    rows: int
    size: int
    pairs: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> list[float]:
        return [ours / bare for ours, bare in self.pairs]


def write(file: Path, rows: int) -> None:
    """A file of ``rows`` rows that fit ``COLUMNS``, the same at each call; its name says its format."""
    first = datetime(2013, 1, 1)
    with (gzip.open if file.suffix == ".gz" else open)(file, "wt", encoding="utf-8", newline="") as stream:
        is_csv = file.name.startswith("csv")
        lines = csv.writer(stream)
        if is_csv:
            lines.writerow(COLUMNS)
        for number in range(rows):
            departure = str(first + timedelta(minutes=number))
            row = (number, ("AA", "B6", "DL", "UA")[number % 4], departure, number * 7919 % 2400 / 8, number % 3 == 0)
            if is_csv:
                lines.writerow(row)
            else:
                stream.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n")


def measure(form: str, rows: int, rounds: int, advance: Callable[[], object]) -> Figure:
    """``rounds`` counted pairs after one that is not; raises what ``seconds`` raises."""
    file_type = form.removesuffix(".gz")
    columns = [{"name": name, "type": kind, "required": True} for name, kind in COLUMNS.items()]
    schema = schema_of({"format": {"type": file_type}, "columns": columns})
    with TemporaryDirectory(prefix="tarn-bench-") as place, duckdb.connect() as duck:
        duck.execute(f"SET threads = {LIMITS.threads}")
        folder = Path(place, "object")
        folder.mkdir()
        source, target = folder / form, folder / "out.parquet"
        write(source, rows)

        def light_transform() -> None:
            transform(source, target, schema, DEFAULT_SQL, LIMITS)

        def own_conversion() -> None:
            if file_type == "csv":
                read = duck.read_csv(str(source), header=True, dtype=COLUMNS)
            else:
                read = duck.read_json(str(source), format="newline_delimited", columns=COLUMNS)
            read.write_parquet(str(target), compression="zstd")

        pairs = []
        for _ in range(rounds + 1):
            pairs.append((seconds(light_transform, target, rows), seconds(own_conversion, target, rows)))
            advance()
        return Figure(form, rows, source.stat().st_size, tuple(pairs[1:]))


def seconds(way: Callable[[], None], target: Path, rows: int) -> float:
    """How long ``way`` took to write ``rows`` rows to ``target``.

    Raises:
        ValueError: it wrote another number of them.
    """
    target.unlink(missing_ok=True)
    began = time.perf_counter()
    way()
    spent = time.perf_counter() - began
    ((found,),) = duckdb.read_parquet(str(target)).count("*").fetchall()
    if found != rows:
        raise ValueError(f"{way.__name__} wrote {found} rows of {rows}")
    return spent


def show(console: Console, figures: list[Figure]) -> None:
    """A line for each file: both medians in milliseconds, and the ratio with its middle half."""
    numbers = ("rows", "KiB", "transform ms", "DuckDB ms", "ratio", "middle half")
    table = screen.table("", "format", *numbers, numbers=numbers)
    for one in figures:
        low, _, high = quantiles(one.ratios, n=4)
        milliseconds = [f"{1000 * median(pair[way] for pair in one.pairs):.1f}" for way in (0, 1)]
        ratio = (f"{median(one.ratios):.1f}", f"{low:.1f} to {high:.1f}")
        table.add_row(one.form, f"{one.rows:,}", f"{one.size / 1024:,.0f}", *milliseconds, *ratio)
    console.print(table)


def main() -> None:
    """``python -m bench.light_transform [--rounds N]``."""
    parser = argparse.ArgumentParser(prog="python -m bench.light_transform", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="counted pairs for each file (default: 9, at least 2)")
    rounds = max(2, parser.parse_args().rounds)
    console = Console()
    with screen.progress(console) as advance:
        figures = [measure(form, rows, rounds, partial(advance, form, 1)) for form in FORMATS for rows in ROWS]
    show(console, figures)


if __name__ == "__main__":
    main()
