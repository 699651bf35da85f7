"""Crash while claiming: what start_batch had received is safe, however far it came, and however often it dies.

Messages are deleted after the commit; a batch that never commits is abandoned, and the next one takes its objects.
Each single death is in tests/integration/test_batch_claim.py; here the run that cleans up dies as well.
"""

from __future__ import annotations

import pytest

from tests.integration.batch_claim_world import RealWorld, Site
from tests.integration.test_batch_claim import at_rest, site

__all__ = ["site"]

STRIDE = 3
"""Every third call: each kind of call meets each kind."""


def dies(world: RealWorld, place: int, after: bool) -> bool:
    """A run dies at its ``place``-th call, and half an hour passes; False when it had come to its end."""
    run = world.begin()
    for _ in range(place):
        if not world.step(run):
            return False
    world.kill(run, after)
    world.expire()
    world.grow_old()
    return True


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("first", [4, 7, 10])
def test_a_run_and_the_run_that_cleans_up_after_it_die(site: Site, first: int, after: bool) -> None:
    second, both_died = 0, True
    while both_died:
        world = RealWorld(site, leased=True)
        for thing in range(2):
            world.land(thing)
        assert dies(world, first, after)
        both_died = dies(world, second, after)
        at_rest(world, things=2)
        world.close()
        second += STRIDE
    assert second > STRIDE
