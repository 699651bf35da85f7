"""What a person sees of ``tarn reconcile``: what was found, by kind, with examples and the next command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from tarn.reconcile import Announcement, Event, Finding, NewAttempt, Restoration, Wake
from tarn.screen import BAD, BUSY, GOOD, table

MOST_SHOWN = 20
"""Findings that are written out; the others are counted."""
REPAIRS = {
    Event: "tell the router again",
    Announcement: "send its message to the dataset's queue again",
    Restoration: "write its row again, from the manifest",
    NewAttempt: "run the batch again",
    Wake: "wake start_batch",
}


@dataclass
class Tally:
    """Findings counted by kind, with the first of them."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and place."""
    unrepaired: int = 0
    """How many have no repair."""
    first: list[Finding] = field(default_factory=list)

    def count(self, found: Iterable[Finding]) -> Iterator[Finding]:
        """Count as they pass."""
        for one in found:
            self.counts[one.kind.value, one.place] += 1
            self.unrepaired += one.repair is None
            if len(self.first) < MOST_SHOWN:
                self.first.append(one)
            yield one

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()


def show(console: Console, tally: Tally, how: str) -> None:
    """Print the findings; ``how`` says how the catalog was read."""
    if not tally.total:
        console.print(Text(f"S3, the object catalog, batches and published tables agree ({how}).", style=GOOD))
        return
    counted = table(f"What differs ({how})", "dataset", "what", "count", numbers=("count",))
    for (kind, place), count in sorted(tally.counts.items(), key=lambda one: (one[0][1], one[0][0])):
        counted.add_row(place, Text(kind, style=BUSY), str(count))
    console.print(counted)
    for one in tally.first:
        repair = REPAIRS[type(one.repair)] if one.repair else one.remedy
        console.print(
            Text.assemble((one.kind.value, BUSY), f" {one.place} {one.id}\n  {one.says}\n  ", (f"-> {repair}", "dim")),
            soft_wrap=True,
        )
    if (more := tally.total - len(tally.first)) > 0:
        console.print(Text(f"and {more} more"))


def show_repairs(console: Console, made: int, refused: list[tuple[Finding, str]]) -> None:
    """Print what came of the repairs."""
    console.print(Text(f"{made} repairs under way: tarn status; then look again with tarn reconcile.", style=GOOD))
    for one, why in refused[:MOST_SHOWN]:
        console.print(Text(f"not repaired: {one.place} {one.id}: {why}", style=BAD), soft_wrap=True)
