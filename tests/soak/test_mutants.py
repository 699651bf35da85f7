"""The soak finds each lake that is broken on purpose: ``make soak-mutants``, a quarter of an hour each."""

from __future__ import annotations

import pytest

from tests.soak.mutants import MUTANTS
from tests.soak.running import soak

OBJECTS = 300


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_lake_is_found(mutant: str) -> None:
    status, figures, said = soak(OBJECTS, "--mutant", mutant)
    assert status == 1, said
    assert figures["lost"] + figures["twice"] > 0, said
