"""A lake under every fault ends as S3 says: ``make soak``, with the objects that ``make test-all`` has time for."""

from __future__ import annotations

import pytest

from tests.soak.running import soak

OBJECTS = 300

pytestmark = pytest.mark.slow


def test_nothing_is_lost_and_nothing_comes_twice() -> None:
    status, figures, said = soak(OBJECTS)
    assert (status, figures["lost"], figures["twice"]) == (0, 0, 0), said
    assert figures["faults"] >= OBJECTS / 10
