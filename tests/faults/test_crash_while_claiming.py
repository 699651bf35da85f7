"""Crash while claiming: what start_batch had received is safe, however far it came, and however often it dies.

Messages are deleted after the commit; a batch that never commits is abandoned, and the next one takes its objects.
Each single death is in tests/integration/test_batch_claim.py; here the run that cleans up dies as well, and in the
whole lake one run after the other.
"""

from __future__ import annotations

import pytest

from tarn.local import faults
from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing
from tests.integration.batch_claim_world import RealWorld, Site
from tests.integration.test_batch_claim import at_rest, site

__all__ = ["site"]

STRIDE = 3
"""Every third call: each kind of call meets each kind."""
KILLS = ("kill_before", "kill_after")
DEATHS = 5
RUN_SECONDS = 5
"""So long a run may take here: its lease, its messages and its open batch are let go then."""


@pytest.mark.slow
def test_runs_that_die_one_after_the_other_lose_nothing_and_double_nothing(standing: Standing) -> None:
    names: list[str] = []
    before = standing.struck(*KILLS)

    def stage_one() -> None:
        names.append(f"crash/{len(names)}.csv")
        body = f"carrier,name\nK{len(names)},crash\n".encode()
        standing.wait_for_state("STAGED", standing.put(names[-1], body))

    def deaths() -> bool | None:
        died = standing.struck(*KILLS) - before
        if len(names) < 2 * died + 3:  # there is something to claim for each run that dies
            stage_one()
        standing.wake()
        return died >= DEATHS or None

    def are_taken() -> bool | None:
        standing.wake()
        taken = all("batch_id" in row for name in names for row in standing.staged(name))
        states = {row["state"] for row in standing.batches_of(names).values()}
        return (taken and states <= {"STARTED", "PUBLISHED"}) or None

    stage_one()
    standing.wake()  # a death is drawn from the calls of a run that came to its end
    with (
        standing.environment("pipeline.start_batch", FUNCTION_TIMEOUT_SECONDS=str(RUN_SECONDS)),
        standing.hasty(standing.staged_queue, RUN_SECONDS),
    ):
        with faults.switched_on(standing.state, *(f"{mode}:pipeline.start_batch.handler" for mode in KILLS)):
            wait_for(deaths, "start_batch does not die")
        wait_for(are_taken, "what the dead runs left was not taken over")
    standing.wait_until_published(names)
    assert standing.carriers("crash") == sorted([f"K{number}", "1"] for number in range(1, len(names) + 1))


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
