"""What an operator does to a lake, as a person sees it: progress while it goes on, a line for each thing it came to.

Each function gives whether all went well; the exit status follows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from lake import clock
from tarn import dead_letters, screen
from tarn.dead_letters import DeadLetters, Moved
from tarn.held import Desk, HeldError, Settled, split
from tarn.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

CALLS = (
    "calls that did not reach start_batch, and no queue's messages: there is nothing to move, for each tick looks at "
    "everything anew. When their cause is gone:"
)


def redrive(console: Console, lake: Lake, place: str | None, *, rate: int | None, is_dry: bool) -> bool:
    """Move the letters of one dead-letter queue, or of all, back; with ``is_dry`` only say what they are."""
    sqs = boto3.client("sqs")
    found = dead_letters.find(lake, sqs, place)
    went_well = True
    for letters in found:
        if not letters.depth.visible and not letters.depth.in_flight:
            continue
        if letters.are_calls:
            _line(console, letters.place, f"{letters.depth.visible} {CALLS}", screen.BUSY)
            _line(console, "", f"aws sqs purge-queue --queue-url {letters.url}")
        elif is_dry:
            _line(console, letters.place, f"{letters.depth.visible} for {', '.join(letters.sources)}", screen.BUSY)
            for line in dead_letters.peek(lake, sqs, letters):
                _line(console, "", f"  {line}")
        else:
            try:
                moved = _move(console, sqs, letters, rate)
            except ClientError as error:  # of one queue: the others' letters still go back
                moved = Moved("REFUSED", 0, str(error))
            is_good = moved.status == "COMPLETED"
            went_well &= is_good
            why = f": {moved.reason}" if moved.reason else ""
            _line(
                console,
                letters.place,
                f"{moved.messages} moved, {moved.status}{why}",
                screen.GOOD if is_good else screen.BAD,
            )
    if not any(one.depth.visible or one.depth.in_flight for one in found):
        console.print(_empty(found))
    return went_well


def _move(console: Console, sqs: SQSClient, letters: DeadLetters, rate: int | None) -> Moved:
    with _progress(console) as bar:
        task = bar.add_task(letters.place, total=letters.depth.visible)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return dead_letters.move(sqs, letters, rate, show)


def release(console: Console, lake: Lake, target: str, *, is_dry: bool) -> bool:
    """Release one object, or all that is held of a dataset."""
    desk, place = Desk(lake, boto3.Session(), clock.now(), is_dry), split(target)
    if place is None:
        return _settled(console, [desk.release(target)])
    return _settled(console, desk.release_dataset(*place), f"nothing of {target} is held")


def discard(console: Console, lake: Lake, targets: Iterable[str], reason: str | None, *, is_dry: bool) -> bool:
    """Discard objects; one that cannot be discarded does not keep the others."""
    desk = Desk(lake, boto3.Session(), clock.now(), is_dry)
    went_well = True
    for target in targets:
        try:
            went_well &= _settled(console, [desk.discard(target, reason)])
        except HeldError as error:
            _line(console, "not discarded", str(error), screen.BAD)
            went_well = False
    return went_well


def _settled(console: Console, found: Iterable[Settled], nothing: str = "") -> bool:
    """A line for each object as it is settled, and how many came to what."""
    counts: Counter[str] = Counter()
    with _progress(console, with_total=False) as bar:
        task = bar.add_task("objects")
        for one in found:
            counts[one.outcome] += 1
            bar.advance(task)
            style = screen.BAD if one.outcome == "not sent" else screen.GOOD
            _line(bar.console, one.outcome, f"{one.id} ({one.reason})", style)
    if not counts:
        console.print(nothing)
    elif counts.total() > 1:
        console.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return "not sent" not in counts


def _progress(console: Console, *, with_total: bool = True) -> Progress:
    """A bar that is gone when its work is: the lines beside it stay."""
    columns = (BarColumn(), MofNCompleteColumn()) if with_total else (TextColumn("{task.completed}"),)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _line(console: Console, first: str, rest: str, style: str = "") -> None:
    console.print(Text.assemble((f"{first}: " if first else "", style), rest), soft_wrap=True, highlight=False)


def _empty(found: list[DeadLetters]) -> Text:
    return Text(f"No dead letters in {', '.join(one.place for one in found)}.", style=screen.GOOD)
