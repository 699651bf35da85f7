"""The smoke test of the delivery pipeline: a sample file goes through the lake that was just deployed.

``python -m tarn.smoke dev`` lands it under a name of its own, follows its rows until its batch is published, and ends
with 1 and the reason where it is not. What it lands stays, as a batch of the sample dataset, so it runs in dev alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from lake import names
from tarn.contract import ContractError
from tarn.lake import Lake
from tarn.templates import ROOT

TEAM, DATASET = "air", "airlines"
SAMPLE = ROOT / "datasets" / TEAM / DATASET / "samples" / "airlines.csv"
ENVIRONMENTS = ("local", "dev")
TIME_LIMIT_SECONDS = 45 * 60
"""Waiting for a batch (``MaxWaitMinutes``, then the next tick) and two Glue jobs, with as much again to spare."""
POLL_SECONDS = 5.0
UNDER_WAY = ("", "LANDED", "STAGED", "BATCHED", "OPEN", "READY", "STARTED")


class SmokeError(Exception):
    """The file was not published; the message says how far it came, and why."""


@dataclass(frozen=True)
class Place:
    """How far a file has come: the state of its object or of its batch, and the lake's own reason for it."""

    state: str
    reason: str = ""


def place(lake: Lake, identity: str) -> Place:
    """Where a raw object is now: by its own row, by that of its staged object, or by that of its batch."""
    raw = lake.object_row(identity) or {}
    staged = (lake.object_row(str(raw["staged_id"])) or {}) if "staged_id" in raw else {}
    if "batch_id" not in staged:
        row = staged or raw
    elif (row := lake.batch(names.owner_key(TEAM, DATASET), str(staged["batch_id"])))["state"] == "ABANDONED":
        row = staged  # its objects are claimed again by the next batch
    return Place(str(row.get("state", "")), str(row.get("reason", "")))


def run(
    lake: Lake,
    file: Path,
    *,
    name: str,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
    seconds: float = TIME_LIMIT_SECONDS,
) -> None:
    """Land ``file`` as ``name`` and wait until it is published.

    Raises:
        SmokeError: it ended in another state, or did not end within ``seconds``.
    """
    identity = lake.put(TEAM, DATASET, file, name)
    say(f"landed {identity}")
    seen = Place("")
    for _ in range(int(seconds / POLL_SECONDS)):
        found = place(lake, identity)
        if found != seen:
            say(f"{found.state} {found.reason}".rstrip())
        if found.state == "PUBLISHED":
            return
        if found.state not in UNDER_WAY:
            raise SmokeError(f"{identity} is {found.state}, and not PUBLISHED: {found.reason or 'no reason is told'}")
        seen = found
        wait(POLL_SECONDS)
    raise SmokeError(f"{identity} is still {seen.state or 'without a row'} after {seconds / 60:.0f} minutes")


def main(environment: str) -> int:
    """Run the smoke test; 0 when the file was published."""
    if environment not in ENVIRONMENTS:
        print(f"tarn: a smoke test leaves a file in the lake, so it runs in {' and '.join(ENVIRONMENTS)}, "
              f"not in {environment}", file=sys.stderr)  # fmt: skip
        return 2
    try:
        run(Lake(environment), SAMPLE, name=f"smoke-{time.time_ns()}.csv")
    except (SmokeError, ContractError, ClientError, BotoCoreError) as error:
        print(f"tarn: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
