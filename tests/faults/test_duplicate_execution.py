"""Duplicate execution: a batch's attempt has one name, given away once; whoever starts it again finds the first."""

from __future__ import annotations

import pytest

from lake import batches
from lake.batches import State
from tests.integration.batch_claim_world import TEAM, RealWorld, Site
from tests.integration.test_batch_claim import at_rest, site, stand_before, to_the_end

__all__ = ["site"]


def names_of(world: RealWorld) -> list[str]:
    return sorted(one.name for one in world.executions())


@pytest.mark.parametrize("order", ["die before", "die after", "repeat"])
def test_a_start_whose_answer_nobody_heard_is_made_once(site: Site, order: str) -> None:
    world = RealWorld(site)
    world.land(0)
    run = stand_before(world, "StartExecution")
    run.tell(order)
    to_the_end(world, run)
    for _ in range(3):
        to_the_end(world, world.begin())
    [row] = world.batches()
    assert names_of(world) == [f"{row['batch_id']}-1"]
    at_rest(world, things=1)
    world.close()


def test_two_runs_that_both_start_it_start_it_once(site: Site) -> None:
    world = RealWorld(site)
    world.land(0)
    runs = [stand_before(world, "StartExecution")]
    runs.append(stand_before(world, "StartExecution"))  # it found the batch READY
    for run in runs:
        to_the_end(world, run)
    assert len(world.executions()) == 1
    assert [row["state"] for row in world.batches()] == [State.STARTED]
    world.close()


def test_a_name_that_ended_badly_is_not_run_again_but_the_next_attempts_is(site: Site) -> None:
    """Names are closed for 90 days, whatever the input: only another attempt has another name."""
    world = RealWorld(site)
    world.land(0)
    world.kill(stand_before(world, "StartExecution"), after=True)
    world.abort()
    to_the_end(world, world.begin())
    [row] = world.batches()
    assert (row["state"], len(world.executions())) == (State.FAILED, 1)
    again = batches.new_attempt(site.lake.batches, batches.of_row(row), world.now)
    to_the_end(world, world.begin())
    assert names_of(world) == [f"{row['batch_id']}-1", again.execution_name]
    assert again.execution_name == f"{row['batch_id']}-2"
    assert batches.state_of(site.lake.batches, TEAM, world.dataset, row["batch_id"]) == State.STARTED
    world.close()
