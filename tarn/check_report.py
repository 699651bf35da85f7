"""What ``tarn check`` and ``tarn new dataset`` show: what became of the rows, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tarn import screen
from tarn.check import Heavy, Judged, Light
from tarn.new_dataset import Created
from tarn.registered import Dataset


def show_light(console: Console, made: Sequence[Light]) -> None:
    """Rows in and out of each file, what was refused and why, what became NULL and the first value that did."""
    numbers = ("in", "out")
    table = screen.table("Light transform", "file", "state", *numbers, "remarks", numbers=numbers)
    for one in made:
        if one.reason:
            table.add_row(Text(one.file.name), screen.coloured("QUARANTINED"), "-", "-", Text(one.reason))
            continue
        remarks = [
            f"{count:,} of {name} became NULL" + (f" ({first})" if (first := one.first_nulled.get(name)) else "")
            for name, count in one.nulled.items()
        ]
        remarks += [f"not declared: {', '.join(one.extra)}"] if one.extra else []
        counts = (f"{one.rows_in:,}", f"{one.rows_out:,}")
        table.add_row(Text(one.file.name), screen.coloured("STAGED"), *counts, Text("; ".join(remarks)))
    console.print(table)


def show_columns(console: Console, title: str, columns: Sequence[tuple[str, str]]) -> None:
    """Names and types."""
    table = screen.table(title, "column", "type")
    for name, kind in columns:
        table.add_row(Text(name), Text(kind))
    console.print(table)


def show_heavy(console: Console, dataset: Dataset, made: Heavy) -> None:
    """Rows in and out of all files together, and the table as it would be published."""
    console.print(f"Heavy transform: {made.rows_in:,} rows in, {made.rows_out:,} out", style="bold", highlight=False)
    partitions = [*made.partition_columns, ("batch", "string")]
    named = [(name, f"{kind}, partition") for name, kind in partitions]
    show_columns(console, f"Table {dataset.row['table_name']} as published", [*made.columns, *named])


def show_verdict(console: Console, dataset: Dataset, judged: Judged) -> None:
    """The verdict, rule by rule; or in one line why there is none."""
    if judged.not_judged:
        console.print(f"Quality was not judged: {judged.not_judged}.", style=screen.BUSY, highlight=False)
        return
    rules = [asdict(one) for one in judged.verdicts]
    batch = {"team": dataset.team, "dataset": dataset.name, "batch_id": "-", "quality": {"rules": rules}}
    table = screen.verdict_table(batch)
    table.title = f"Verdict of {len(rules)} rules"
    console.print(table)


def show_created(console: Console, name: str, created: Created) -> None:
    """What was written, what to look at, and the next commands."""
    found = created.sample
    form = ", ".join([found.file_type, *(f"{word} {value!r}" for word, value in found.form.items())])
    console.print(f"{found.rows:,} rows, {len(found.columns)} columns ({form}); {created.rules} rules", highlight=False)
    for file in created.files:
        console.print(f"  {_shown(file)}", highlight=False, soft_wrap=True)
    for remark in created.remarks:
        console.print(f"  {remark}", style=screen.BUSY, highlight=False, soft_wrap=True, markup=False)
    team, _, dataset = name.partition("/")
    console.print(
        f"Next, when light and rules.dqdl say what you mean:\n"
        f"  tarn check {name}\n"
        f"  tarn deploy --layer dataset --team {team} --dataset {dataset}\n"
        f"  tarn put {name} FILE...",
        highlight=False,
        soft_wrap=True,
    )


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
