"""What a person sees: tables of a lake's state that fit into eighty columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tarn.lake import Answer, Status

GOOD, BAD, BUSY = "green", "red", "yellow"
COLOURS = {
    "PUBLISHED": GOOD,
    "STAGED": GOOD,
    "Passed": GOOD,
    "FAILED": BAD,
    "FAILED_QUALITY": BAD,
    "Failed": BAD,
    "Error": BAD,
    "QUARANTINED": BAD,
    "TOO_LARGE": BAD,
}


def coloured(state: str) -> Text:
    """A state in the colour of what it means: done, wrong, or on its way."""
    return Text(state, style=COLOURS.get(state, BUSY), no_wrap=True)


def table(title: str, *headings: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table of the house: light lines, numbers to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", padding=(0, 1))
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    return made


def seconds_between(first: str | None, second: str | None) -> str:
    """Whole seconds between two stamps; a dash where one is missing."""
    if not first or not second:
        return "-"
    return f"{(datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds():.0f} s"


def show_status(console: Console, status: Status) -> None:
    """Print objects by state (where counted), batches, queues that are not empty, and what needs a person."""
    if status.objects:
        console.print(objects_table(status))
    console.print(batches_table(status))
    for batch in status.batches:
        if batch.get("reason"):
            where = f"{batch['team']}/{batch['dataset']} {batch['batch_id']}"
            console.print(Text.assemble((where, "bold"), ": ", str(batch["reason"])))
    show_queues(console, status)
    show_attention(console, status)


def objects_table(status: Status) -> Table:
    """Objects by dataset, zone and state."""
    made = table("Objects by state", "dataset", "zone", "state", "objects", numbers=("objects",))
    for place, states in status.objects.items():
        for state, count in states.items():
            zone, _, name = state.partition(" ")
            made.add_row(place, zone, coloured(name), str(count))
    return made


def batches_table(status: Status) -> Table:
    """Batches, newest first: what each took, how long it ran, what its rules said."""
    numbers = ("files", "in", "out", "ran")
    made = table(f"Batches of the lake {status.environment}", "batch", "state", *numbers, "quality", numbers=numbers)
    for row in status.batches:
        made.add_row(
            Text(f"{row['team']}/{row['dataset']}\n{row['batch_id']}"),
            coloured(str(row["state"])),
            *(str(row.get(name, "-")) for name in ("objects", "rows_in", "rows_out")),
            seconds_between(row.get("started_at"), row.get("finished_at")),
            str(row.get("quality", {}).get("outcome", "-")),
        )
    return made


def verdict_table(batch: dict[str, Any]) -> Table:
    """A batch's verdict, rule by rule, with the metrics that decided; failures first."""
    where = f"{batch['team']}/{batch['dataset']}, batch {batch['batch_id']}"
    made = table(f"Verdict of {where}", "outcome", "rule", "metrics")
    for rule in batch.get("quality", {}).get("rules", []):
        metrics = [f"{name} = {float(value):g}" for name, value in sorted(rule.get("metrics", {}).items())]
        made.add_row(coloured(rule["outcome"]), Text(rule["rule"]), "\n".join(metrics) or rule.get("reason") or "")
    return made


def show_queues(console: Console, status: Status) -> None:
    """Print queues that hold messages; one line where none does."""
    waiting = {place: depth for place, depth in status.queues.items() if any(depth.values())}
    if not waiting:
        console.print(f"All {len(status.queues)} queues are empty, dead letters included.", style=GOOD)
        return
    made = table("Queues that are not empty", "queue", "waiting", "in flight", numbers=("waiting", "in flight"))
    for place, depth in waiting.items():
        style = BAD if place.endswith(("dead-letters", "dead-letter-queue")) else BUSY
        made.add_row(Text(place, style=style), str(depth["visible"]), str(depth["in_flight"]))
    console.print(made)


def show_attention(console: Console, status: Status) -> None:
    """Print the objects that need a person, and why."""
    if not status.attention:
        console.print("Nothing needs a person.", style=GOOD)
        return
    console.print("\nNeeds a person", style="bold")
    for row in status.attention:
        console.print(Text.assemble(coloured(row["state"]), f" {row['id']}, since {row['since']}: {row['reason']}"))


def answer_table(answer: Answer) -> Table:
    """A query's rows."""
    made = table("", *answer.columns)
    for row in answer.rows:
        made.add_row(*("NULL" if cell is None else cell for cell in row))
    return made
