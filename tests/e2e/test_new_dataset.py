"""A dataset that ``tarn new dataset`` has just made, deployed as it is: its team, its pipeline, and a file of it.

The commands run in a copy of the checkout, as in a clone of one's own: the folder that they make belongs there.
"""

from __future__ import annotations

import csv
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tarn import templates
from tarn.lake import Lake
from tarn.local import emulator
from tests.e2e.lake_world import FINAL, wait_for
from tests.e2e.own_emulator import own_emulator

ROWS = 2_000
TARN = "from tarn.cli import app; app()"
LEFT_OUT = (".git", ".tarn", ".venv", ".venvs", ".*_cache", ".hypothesis", "__pycache__", "build", "*.egg-info")
TICK = ("--parameter", "TickExpression=rate(1 minute)")
NOW = ("--parameter", "MaxWaitMinutes=1")

pytestmark = pytest.mark.slow


def write_sample(file: Path) -> Path:
    """Readings of a meter: German numbers' separator, a second encoding, and gaps."""
    chance = random.Random(11)
    with file.open("w", encoding="latin-1", newline="") as opened:
        writer = csv.writer(opened, delimiter=";")
        writer.writerow(["Reading No", "Zähler", "day", "kWh", "town"])
        for number in range(ROWS):
            writer.writerow(
                [
                    f"R{number:06}",
                    f"Z-{chance.randrange(40):02}",
                    date(2025, 1, 1) + timedelta(days=number // 100),
                    "" if chance.random() < 0.05 else round(chance.uniform(0, 40), 2),
                    chance.choice(["Köln", "Görlitz", "Jena"]),
                ]
            )
    return file


@dataclass(frozen=True)
class Made:
    """What became of the sample's own file in a lake that knew nothing of it."""

    lake: Lake
    batch: dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Made]:
    """The commands of datasets/README.md, one after the other, and the file put."""
    state, clone = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("clone") / "tarn"
    shutil.copytree(templates.ROOT, clone, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (clone / ".venvs").symlink_to(templates.ROOT / ".venvs")
    sample = write_sample(tmp_path_factory.mktemp("sample") / "readings.csv")
    with own_emulator(state) as session:

        def tarn(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-c", TARN, *arguments],
                cwd=clone,
                env=emulator.command_environment(state),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        tarn("deploy", "--layer", "foundations")
        tarn("deploy", "--layer", "team", "--team", "grid")
        tarn("deploy", "--layer", "pipeline", "--team", "grid", "--pipeline", "main", *TICK)
        tarn("new", "dataset", "grid/readings", "--from", str(sample))
        tarn("deploy", "--layer", "dataset", "--team", "grid", "--dataset", "readings", *NOW)
        tarn("put", "grid/readings", str(sample))
        lake = Lake("local", session)

        def ended() -> dict[str, Any] | None:
            return next((row for row in lake.status().batches if row["state"] in FINAL), None)

        yield Made(lake, wait_for(ended, "no batch of grid/readings has ended", seconds=300))


def test_it_is_published_and_every_suggested_rule_was_judged(made) -> None:
    assert made.batch["state"] == "PUBLISHED", made.batch
    assert made.batch["quality"]["outcome"] == "passed", made.batch
    assert int(made.batch["quality"]["rules_total"]) > 0


def test_its_table_holds_every_row_of_the_file(made) -> None:
    assert made.lake.query("SELECT count(*), count(DISTINCT reading_no) FROM readings", "grid").rows == [
        [str(ROWS), str(ROWS)]
    ]
    towns = made.lake.query("SELECT DISTINCT town FROM readings_view ORDER BY town", "grid").rows
    assert towns == [["Görlitz"], ["Jena"], ["Köln"]]
