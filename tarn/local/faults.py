"""Faults of a local lake, by random seed: what `TARN_FAULTS` names, and what has struck so far.

    TARN_FAULTS="seed=7 duplicate=0.05 kill_before=0.02" tarn up

A rate is a share of a mode's opportunities (below). Faults strike only while the state folder says so (`switched_on`),
so that a lake is deployed in peace, and only what the lake does by its roles, never an administrator's calls. The seed
decides at which opportunity a mode strikes; which call that is depends on the order of things, as on AWS.
`faults.json` in the state folder counts what struck, by mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TARN_FAULTS"
MODES = {
    "kill_before": "invocations of each function: its process is killed right before one of its calls to AWS",
    "kill_after": "invocations of each function: the same, right after one of its calls, whose answer it never reads",
    "kill_idle": "seconds: an idle process of a function is killed",
    "duplicate": "S3's notifications: one comes again, a little later",
    "reorder": "S3's notifications: one is held back, and later ones overtake it",
    "throttle": "seconds: a role is told that it asks too often, once or for longer than the SDK tries",
    "deny_key": "seconds: a role is told that it may not use a key",
    "delay": "messages received: one is not, and shows seconds later",
    "expire": "messages received: one shows again at once, while it is worked on",
    "glue_failed": "runs of jobs: FAILED after it did all its work",
    "glue_timeout": "runs of jobs: TIMEOUT in the middle of it",
    "glue_stopped": "runs of jobs: STOPPED in the middle of it",
    "glue_error": "runs of jobs: ERROR before it began",
    "glue_expired": "runs of jobs: EXPIRED before it began",
}
"""Each mode, and what its rate is a share of."""


@dataclass(frozen=True)
class Plan:
    """A seed, and the rate of each mode that may strike."""

    seed: int
    rates: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Read ``seed=7 duplicate=0.05 ...``.

        Raises:
            ValueError: a word is no mode, or a value no rate between 0 and 1.
        """
        given = dict(word.partition("=")[::2] for word in text.split())
        seed = int(given.pop("seed", "0"))
        if unknown := sorted(given.keys() - MODES.keys()):
            raise ValueError(f"{VARIABLE} names {', '.join(unknown)}: a fault is one of {', '.join(MODES)}")
        rates = {mode: float(rate) for mode, rate in given.items()}
        if wrong := [f"{mode}={rate}" for mode, rate in rates.items() if not 0 <= rate <= 1]:
            raise ValueError(f"{VARIABLE}: a rate is between 0 and 1, not {', '.join(wrong)}")
        return cls(seed, rates)

    def text(self) -> str:
        """The plan as ``parse`` reads it."""
        return " ".join([f"seed={self.seed}", *(f"{mode}={rate}" for mode, rate in self.rates.items())])


def counts_path(state_dir: Path) -> Path:
    """Where the extension writes what has struck."""
    return state_dir / "faults.json"


def switch_path(state_dir: Path) -> Path:
    """What is there while faults may strike: those that it names, or all if it is empty."""
    return state_dir / "faults.on"


def counts(state_dir: Path) -> dict[str, int]:
    """How often each mode has struck; ``held`` is how many notifications are still held back."""
    path = counts_path(state_dir)
    return json.loads(path.read_text()) if path.exists() else {}


@contextmanager
def switched_on(state_dir: Path, *modes: str) -> Iterator[None]:
    """Let faults strike: all that have a rate, or only these modes.

    ``glue`` is each bad end of a job's run, ``kill_after:pipeline.start_batch.handler`` that mode for one function.
    """
    switch = switch_path(state_dir)
    switch.write_text(" ".join(modes))
    try:
        yield
    finally:
        switch.unlink(missing_ok=True)
