"""One lake on the embedded AWS for all tests of faults that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tarn import deployment
from tests.e2e.own_emulator import own_emulator
from tests.faults.standing import EMULATOR, OVERRIDES, Standing


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A standing lake; its tests use files of their own names."""
    state = tmp_path_factory.mktemp("faults")
    with own_emulator(state, EMULATOR) as session:
        deployment.deploy("local", quality=False, overrides=OVERRIDES)
        yield Standing(session, state)
