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
    """Start it, and let this process see it."""
    emulator.start(state)
    with seen(state) as session:
        yield session


@contextmanager
def seen(state: Path) -> Iterator[boto3.Session]:
    """Let this process's AWS clients see the emulator of a folder and nothing else; at the end, leave nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in emulator.client_environment(state).items():
                patch.setenv(name, value)
            yield boto3.Session()
        finally:
            emulator.stop(state, purge=True)
