"""The soak finds nothing in the lake, and finds each lake that is broken on purpose: ``make soak-mutants``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tarn import templates
from tests.soak.mutants import MUTANTS

OBJECTS = 300
LAST_LINE = re.compile(r"objects (\d+), faults (\d+), lost (\d+), twice (\d+)")

pytestmark = pytest.mark.slow


def soak(*options: str) -> tuple[int, dict[str, int], str]:
    """Exit status, the last line's figures, all that it said."""
    command = [sys.executable, "-m", "tests.soak", str(OBJECTS), *options]
    done = subprocess.run(command, cwd=templates.ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    found = LAST_LINE.fullmatch(done.stdout.strip().splitlines()[-1])
    assert found, said
    return (
        done.returncode,
        dict(zip(("objects", "faults", "lost", "twice"), map(int, found.groups()), strict=True)),
        said,
    )


def test_nothing_is_lost_and_nothing_comes_twice() -> None:
    status, figures, said = soak()
    assert (status, figures["lost"], figures["twice"]) == (0, 0, 0), said
    assert figures["faults"] >= OBJECTS / 10


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_lake_is_found(mutant: str) -> None:
    status, figures, said = soak("--mutant", mutant)
    assert status == 1, said
    assert figures["lost"] + figures["twice"] > 0, said
