"""What a person sees: tables of a lake's state that fit into eighty columns."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tarn.again import Replayed, Retried
from tarn.lake import Answer, Status
from tarn.logs import Line

GOOD, BAD, BUSY = "green", "red", "yellow"
LOG_COLOURS = ("cyan", "magenta", "blue", "green", "bright_cyan", "bright_magenta", "bright_blue", "bright_green")
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
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    return made


def seconds_between(first: str | None, second: str | None) -> str:
    """Whole seconds between two stamps; a dash where one is missing."""
    if not first or not second:
        return "-"
    return f"{(datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds():.0f} s"


def short_number(value: Any) -> str:
    """A whole number in at most six characters; a dash where it is not known."""
    if value is None:
        return "-"
    for unit, size in (("G", 10**9), ("M", 10**6)):
        if value >= size:
            return f"{float(value) / size:.1f}{unit}"
    return str(value)


def show_status(console: Console, status: Status) -> None:
    """Print the lake's state."""
    console.print(status_view(status))


def status_view(status: Status) -> Group:
    """Objects by state (where counted), batches, queues that hold messages, what is late, what needs a person."""
    return Group(
        *([objects_table(status)] if status.objects else []),
        batches_table(status),
        *(
            Text.assemble((f"{row['team']}/{row['dataset']} {row['batch_id']}", "bold"), ": ", str(row["reason"]))
            for row in status.batches
            if row.get("reason")
        ),
        _queues(status),
        *_stale(status),
        *_waits(status),
        *_attention(status),
    )


def objects_table(status: Status) -> Table:
    """Objects by dataset, zone and state."""
    made = table("Objects by state", "dataset", "zone", "state", "objects", numbers=("objects",))
    for place, states in status.objects.items():
        for state, count in states.items():
            zone, _, name = state.partition(" ")
            made.add_row(place, zone, coloured(name), str(count))
    return made


def batches_table(status: Status) -> Table:
    """Batches, newest first: files and rows in and out, how long it ran, what its rules said."""
    made = table(
        f"Batches of the lake {status.environment}",
        *("batch", "state", "", "files", "rows", "quality"),
        numbers=("files", "rows"),
    )
    for row in status.batches:
        made.add_row(
            Text(f"{row['team']}/{row['dataset']}\n{row['batch_id']}"),
            Text.assemble(
                coloured(str(row["state"])), "\n" + seconds_between(row.get("started_at"), row.get("finished_at"))
            ),
            "in\nout",
            *(
                "\n".join(short_number(row.get(name)) for name in of)
                for of in (("objects", "files"), ("rows_in", "rows_out"))
            ),
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


def _queues(status: Status) -> Table | Text:
    """Queues that hold messages; one line where none does."""
    waiting = {place: depth for place, depth in status.queues.items() if any(depth.values())}
    if not waiting:
        return Text(f"All {len(status.queues)} queues are empty, dead letters included.", style=GOOD)
    made = table("Queues that are not empty", "queue", "waiting", "in flight", numbers=("waiting", "in flight"))
    for place, depth in waiting.items():
        style = BAD if place.endswith(("dead-letters", "dead-letter-queue")) else BUSY
        made.add_row(Text(place, style=style), str(depth["visible"]), str(depth["in_flight"]))
    return made


def _stale(status: Status) -> list[Text]:
    """A line for each dataset that has published nothing for longer than its registration allows."""
    return [
        Text.assemble(
            (f"{one['team']}/{one['dataset']} is stale", BAD),
            f": nothing published for {one['hours']:g} h"
            f" ({'last ' + one['published_at'] if one['published_at'] else 'never'}),"
            f" and {one['freshness_hours']} h are allowed",
        )
        for one in status.freshness
        if one["stale"]
    ]


def _waits(status: Status) -> list[Text]:
    """A line for each dataset whose batches wait until others have published."""
    return [
        Text.assemble(
            (f"{one['team']}/{one['dataset']} waits for {', '.join(one['held_by'])}", BUSY),
            f" since {one['held_since']}, for {one['depends_on_max_wait_hours']} h at most",
        )
        for one in status.waits
    ]


def _attention(status: Status) -> list[Text]:
    """The objects that need a person, and why."""
    if not status.attention:
        return [Text("Nothing needs a person.", style=GOOD)]
    return [
        Text("\nNeeds a person", style="bold"),
        *(
            Text.assemble(coloured(row["state"]), f" {row['id']}, since {row['since']}: {row['reason']}")
            for row in status.attention
        ),
    ]


def log_colour(source: str) -> str:
    """The colour of who writes, always the same."""
    return LOG_COLOURS[zlib.crc32(source.encode()) % len(LOG_COLOURS)]


def log_line(line: Line) -> Text:
    """A line of a log: when, who in a colour of its own, what."""
    style = {"ERROR": BAD, "CRITICAL": BAD, "WARNING": BUSY}.get(line.level, "")
    return Text.assemble(f"{line.at:%H:%M:%S} ", (f"{line.source:<18} ", log_colour(line.source)), (line.shown, style))


def answer_table(answer: Answer) -> Table:
    """A query's rows."""
    made = table("", *answer.columns)
    for row in answer.rows:
        made.add_row(*("NULL" if cell is None else cell for cell in row))
    return made


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int], None]]:
    """A line for each kind of work, with what is done of it; gives what is to be told of every step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    lines: dict[str, Any] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:

        def advance(what: str, more: int) -> None:
            if what not in lines:
                lines[what] = shown.add_task(what, total=None)
            shown.advance(lines[what], more)

        yield advance


def show_retried(console: Console, done: Retried, *, dry_run: bool) -> None:
    """What came of ``tarn retry``."""
    if done.planned is None:
        console.out(f"{done.execution_name} is {done.state} already")
        return
    would = "would take" if dry_run else "takes"
    without = f", without {len(done.planned.left_out)} that changed" if done.planned.left_out else ""
    console.out(f"{done.execution_name} {would} {done.planned.contents.objects} objects{without}")


def show_replayed(console: Console, done: Replayed, *, dry_run: bool) -> None:
    """What came of ``tarn replay``."""
    console.out(f"objects: {_counted(done.objects)}")
    if done.staged:
        console.out(f"{'would be staged again' if dry_run else 'staged again'}: {_counted(done.staged)}")
    console.out(f"attempts {'that would be made' if dry_run else 'made'}: {len(done.made)}")
    for name in done.made.values():
        console.out(f"  {name}")
    for batch_id in done.under_way:
        console.out(f"  {batch_id} is under way: say it again when it has ended")
    for what, reason in done.failed.items():
        console.out(f"  {what}: {reason}")


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(found.items())) or "none"
