"""An embedded AWS, and a lake in it, that one file of tests has to itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3

from tarn import deployment
from tarn.lake import Lake
from tarn.local import emulator
from tests.e2e.lake_world import Demo, leaving_out_all_but


@contextmanager
def own_emulator(state: Path, options: Mapping[str, str] | None = None) -> Iterator[boto3.Session]:
    """Start it with further variables, let this process see it, and leave nothing of it."""
    emulator.start(state, options=options)
    with taken_over(state) as session:
        yield session


@contextmanager
def taken_over(state: Path) -> Iterator[boto3.Session]:
    """Let this process see an emulator that somebody has started, and leave nothing of it."""
    try:
        with seen(state) as session:
            yield session
    finally:
        emulator.stop(state, purge=True)


@contextmanager
def seen(state: Path) -> Iterator[boto3.Session]:
    """Let this process's AWS clients see the emulator of a folder and nothing else."""
    before = dict(os.environ)
    try:
        emulator.use(state)
        yield boto3.Session()
    finally:
        os.environ.clear()
        os.environ.update(before)
        boto3.DEFAULT_SESSION = None


@contextmanager
def own_lake(state: Path, dataset: str) -> Iterator[Demo]:
    """A lake with one dataset, which is called as its parameters are (``AirAirlines``), whose tick never comes."""
    with own_emulator(state) as session:
        overrides = {"TickExpression": "rate(1 day)", **leaving_out_all_but(dataset)}
        deployment.deploy("local", quality=False, overrides=overrides)
        yield Demo(0, "", state, Lake("local", session), session)
