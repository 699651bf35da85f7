"""What a deployment would change, in words: the leaves of all nested stacks, what loses data first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tarn import safeguards

ADDED, CHANGED, REPLACED, MAY_BE_REPLACED, REMOVED = "added", "changed", "replaced", "may be replaced", "removed"
MAY_CHANGE = "may change"
GOING = (REPLACED, MAY_BE_REPLACED, REMOVED)
"""What is no longer there afterwards, or may not be."""
ORDER = (REMOVED, REPLACED, MAY_BE_REPLACED, CHANGED, ADDED)
"""After what loses data."""


@dataclass(frozen=True)
class Change:
    """One resource that a deployment touches.

    ``path`` is made of logical ids, the nested stacks' first. ``keeps`` tells whether what is removed or replaced
    stays outside the stack (None: CloudFormation did not say). ``holds`` is what would go with it, though its type
    keeps no data: a queue's messages, a dataset's batches under way.
    """

    path: str
    type: str
    verb: str
    properties: tuple[str, ...] = ()
    keeps: bool | None = None
    physical_id: str = ""
    holds: str = ""

    @property
    def loses_data(self) -> bool:
        """Whether the lake no longer has what this resource holds: a kept table is out of the lake all the same."""
        return self.verb in GOING and (self.type in safeguards.KEEPS_DATA or bool(self.holds))

    def effect(self) -> str:
        """What happens to it, as the end of a sentence."""
        parts = [self.verb]
        if self.properties:
            parts.append(f"({', '.join(self.properties)})")
        if self.verb in GOING and self.keeps is not None:
            parts.append("- the old one stays, outside the stack" if self.keeps else "- the old one is deleted")
        if self.holds:
            parts.append(f"with {self.holds}")
        return " ".join(parts)


def ordered(changes: Sequence[Change]) -> list[Change]:
    """What loses data first, then what is removed and replaced; without what only may change."""
    certain = [one for one in changes if one.verb != MAY_CHANGE]
    return sorted(certain, key=lambda one: (not one.loses_data, ORDER.index(one.verb), one.path))


def summary(stack: str, changes: Sequence[Change]) -> str:
    """``tarn-dev: 3 changes, 1 of them LOSING DATA``."""
    listed = ordered(changes)
    if not changes:
        return f"{stack}: nothing to change"
    counted = f"{stack}: {len(listed)} change{'' if len(listed) == 1 else 's'}"
    losing = sum(one.loses_data for one in listed)
    return f"{counted}, {losing} of them LOSING DATA" if losing else counted


def as_text(stack: str, changes: Sequence[Change], notes: Sequence[str] = ()) -> str:
    """Plain lines for a terminal or a build's log."""
    lines = [summary(stack, changes), *notes]
    lines += [
        f"  {'LOSES DATA  ' if one.loses_data else ''}{one.path} ({one.type}): {one.effect()}"
        for one in ordered(changes)
    ]
    return "\n".join(lines + [f"  {line}" for line in _followers(changes)])


def as_markdown(stack: str, changes: Sequence[Change], notes: Sequence[str] = ()) -> str:
    """A heading and a table, for the person who approves."""
    lines = [f"### {summary(stack, changes)}", *(f"\n{note}" for note in notes)]
    if listed := ordered(changes):
        lines += ["", "| | resource | type | what happens |", "|---|---|---|---|"]
        lines += [
            f"| {'**LOSES DATA**' if one.loses_data else ''} | `{one.path}` | {one.type} | {one.effect()} |"
            for one in listed
        ]
    return "\n".join(lines + [f"\n{line}" for line in _followers(changes)])


def _followers(changes: Sequence[Change]) -> list[str]:
    """CloudFormation lists whatever refers to a change; most of that stays as it is."""
    count = sum(one.verb == MAY_CHANGE for one in changes)
    return [f"and {count} that may change, because they refer to what does"] if count else []
