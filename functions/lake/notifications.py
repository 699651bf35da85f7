"""What a team is told of the end of an attempt: fields for programs, a subject and a text for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lake import rows
from lake.batches import State
from lake.outcomes import Rule, Run

LONGEST_SUBJECT = 99
"""SNS takes fewer than 100 characters, ASCII, in one line: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""
LONGEST_RULE = 500
MOST_METRICS = 10
MEANS: Mapping[str, str] = {
    State.PUBLISHED: "Its data is published.",
    State.FAILED_QUALITY: "Nothing was published: its data does not meet the dataset's rules, and the dataset blocks.",
    State.FAILED: "It was not finished. Its objects stay with the batch, for its next attempt.",
}


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``rules_failed`` of ``rules_total`` rules were not met, ``rule`` the first of them."""

    state: str
    reason: str = ""
    rule: Rule | None = None
    rules_failed: int = 0
    rules_total: int = 0
    statistics: Mapping[str, int] = field(default_factory=dict)
    """What of the row's numbers is known: rows_in, rows_out, files, bytes, partitions."""


def notification(environment: str, run: Run, ending: Ending) -> dict[str, Any]:
    """The team's notification; ``subject`` and ``message`` are what SNS sends."""
    return {
        "schema": rows.SCHEMA,
        "team": run.team,
        "dataset": run.dataset,
        "batch_id": run.batch_id,
        "attempt": run.attempt,
        "state": str(ending.state),
        "reason": ending.reason,
        "rule": ending.rule.text[:LONGEST_RULE] if ending.rule else "",
        "metric": metrics_of(ending.rule) if ending.rule else {},
        "rules_failed": ending.rules_failed,
        "subject": _subject(environment, run, ending),
        "message": _message(environment, run, ending),
    }


def metrics_of(rule: Rule) -> dict[str, str]:
    """A rule's metrics as text: DynamoDB takes neither floats nor NaN, and a person reads them."""
    return {name: str(value) for name, value in list(rule.metrics.items())[:MOST_METRICS]}


def _subject(environment: str, run: Run, ending: Ending) -> str:
    subject = f"Tarn {environment}: {run.team}/{run.dataset} {ending.state}"
    if ending.rules_failed:
        subject += f", {ending.rules_failed} of {ending.rules_total} rules failed"
    return subject[:LONGEST_SUBJECT]


def _message(environment: str, run: Run, ending: Ending) -> str:
    lines = [
        f"{run.team}/{run.dataset}, batch {run.batch_id}, attempt {run.attempt}: {ending.state}",
        MEANS.get(ending.state, "It is not this attempt's any more."),
    ]
    if ending.reason:
        lines += ["", f"Reason: {ending.reason}"]
    if ending.rule:
        lines += ["", f"{ending.rules_failed} of {ending.rules_total} rules failed. The first:"]
        lines += [f"  {ending.rule.text[:LONGEST_RULE]}"]
        lines += [f"  {name} = {value}" for name, value in metrics_of(ending.rule).items()]
    if ending.statistics:
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in ending.statistics.items())
        lines += ["", f"Figures: {told}"]
    lines += [
        "",
        "Next:",
        f"  tarn logs {run.team}/{run.dataset} --batch {run.batch_id} --environment {environment}",
        f"  tarn status --environment {environment}",
    ]
    return "\n".join(lines)
