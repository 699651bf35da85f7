"""What a person sees: tables of a lake's state, with rich."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console, Group
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
    "QUARANTINED": BAD,
    "TOO_LARGE": BAD,
}


def coloured(state: str) -> Text:
    """A state in the colour of what it means: done, wrong, or on its way."""
    return Text(state, style=COLOURS.get(state, BUSY))


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
    console.print(queues_table(status))
    if status.attention:
        console.print(attention_table(status))
    else:
        console.print("Nothing needs a person.", style=GOOD)


def objects_table(status: Status) -> Table:
    """Objects by dataset, zone and state."""
    table = Table("dataset", "zone", "state", title="Objects by state", title_justify="left")
    table.add_column("objects", justify="right")
    for place, states in status.objects.items():
        for state, count in states.items():
            zone, _, name = state.partition(" ")
            table.add_row(place, zone, coloured(name), str(count))
    return table


def batches_table(status: Status) -> Table:
    """Batches, newest first: what each took, how long it waited and ran, and why it ended as it did."""
    table = Table(title=f"Batches of the lake {status.environment}", title_justify="left")
    table.add_column("batch", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("objects", justify="right")
    table.add_column("rows in, out", justify="right")
    table.add_column("waited, ran", justify="right")
    table.add_column("quality", overflow="fold", max_width=40)
    for row in status.batches:
        quality = str(row.get("quality", {}).get("outcome", "-"))
        reason = str(row.get("reason", "")).partition("\n")[0]
        table.add_row(
            f"{row['team']}/{row['dataset']}\n[dim]{row['batch_id']}[/dim]",
            coloured(str(row["state"])),
            str(row.get("objects", "-")),
            f"{row.get('rows_in', '-')}\n{row.get('rows_out', '-')}",
            f"{seconds_between(row.get('created_at'), row.get('started_at'))}\n"
            f"{seconds_between(row.get('started_at'), row.get('finished_at'))}",
            Text("\n".join(filter(None, [quality, reason if len(reason) <= 160 else f"{reason[:159]}…"]))),
        )
    return table


def verdict_table(batch: dict[str, Any]) -> Table:
    """A batch's verdict, rule by rule, with the metrics that decided; failures first."""
    title = f"Verdict of {batch['team']}/{batch['dataset']}, batch {batch['batch_id']}"
    table = Table("rule", "outcome", "metrics", title=title, title_justify="left")
    for rule in batch.get("quality", {}).get("rules", []):
        metrics = [f"{name} = {float(value):g}" for name, value in sorted(rule.get("metrics", {}).items())]
        table.add_row(rule["rule"], coloured(rule["outcome"]), "\n".join(metrics) or rule.get("reason") or "")
    return table


def queues_table(status: Status) -> Group | Table:
    """Queues that hold messages; one line where none does."""
    waiting = {place: depth for place, depth in status.queues.items() if any(depth.values())}
    if not waiting:
        return Group(Text(f"All {len(status.queues)} queues are empty, dead letters included.", style=GOOD))
    table = Table("queue", "waiting", "in flight", title="Queues that are not empty", title_justify="left")
    for place, depth in waiting.items():
        style = BAD if place.endswith("dead-letters") else BUSY
        table.add_row(Text(place, style=style), str(depth["visible"]), str(depth["in_flight"]))
    return table


def attention_table(status: Status) -> Table:
    """Objects that need a person, and why."""
    table = Table("object", "state", "since", "reason", title="Needs a person", title_justify="left")
    for row in status.attention:
        table.add_row(Text(row["id"], overflow="fold"), coloured(row["state"]), row["since"], row["reason"])
    return table


def answer_table(answer: Answer) -> Table:
    """A query's rows."""
    table = Table(*answer.columns)
    for row in answer.rows:
        table.add_row(*("NULL" if cell is None else cell for cell in row))
    return table
