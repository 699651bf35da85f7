"""A soak as a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

from tarn import templates

LAST_LINE = re.compile(r"objects (\d+), faults (\d+), lost (\d+), twice (\d+)")


def soak(objects: int, *options: str) -> tuple[int, dict[str, int], str]:
    """Exit status, the last line's figures, all that it said."""
    command = [sys.executable, "-m", "tests.soak", str(objects), *options]
    done = subprocess.run(command, cwd=templates.ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    found = LAST_LINE.fullmatch((done.stdout.strip().splitlines() or [""])[-1])
    assert found, said
    figures = dict(zip(("objects", "faults", "lost", "twice"), map(int, found.groups()), strict=True))
    return done.returncode, figures, said
