"""An embedded AWS that one file of tests has to itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

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
    before = dict(os.environ)
    try:
        emulator.use(state)
        yield boto3.Session()
    finally:
        os.environ.clear()
        os.environ.update(before)
        boto3.DEFAULT_SESSION = None
        emulator.stop(state, purge=True)
