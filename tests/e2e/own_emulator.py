"""An embedded AWS that one file of tests has to itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from tarn.local import emulator


@contextmanager
def own_emulator(state: Path) -> Iterator[boto3.Session]:
    """Start it, let this process's AWS clients see it and nothing else, and leave nothing of it."""
    emulator.start(state)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in emulator.client_environment(state).items():
            patch.setenv(name, value)
        try:
            yield boto3.Session()
        finally:
            emulator.stop(state, purge=True)
