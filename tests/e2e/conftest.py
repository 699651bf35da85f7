"""The whole lake, once for all end-to-end tests: the demo makes it, and leaves it up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarn.lake import Lake
from tests.e2e.lake_world import Demo
from tests.e2e.own_emulator import taken_over

TARN = Path(sys.executable).with_name("tarn")


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Iterator[Demo]:
    """Run the demo as a user does, in a state folder of its own, and let this process see its lake."""
    state = tmp_path_factory.mktemp("demo")
    command = [str(TARN), "demo", "--keep", "--state", str(state)]
    environment = {**os.environ, "COLUMNS": "200", "TARN_RECORD_DECISIONS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    with taken_over(state) as session:
        yield Demo(done.returncode, done.stdout + done.stderr, state, Lake("local", session), session)
