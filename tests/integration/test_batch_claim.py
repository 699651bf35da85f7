"""The batch claim's real functions, explored call by call; and mutants of them, which the same exploring catches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from lake import claim, queues, rows
from lake.batches import Batch, State
from tests.integration.batch_claim_world import Held, RealWorld, Site, open_site
from tests.unit.batch_claim_machine import BatchClaimMachine, exploring, hunting


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with open_site() as opened:
        yield opened


def machine_of(site: Site, run_class: type[claim.Run] = claim.Run, leased: bool = False) -> type[BatchClaimMachine]:
    class RealMachine(BatchClaimMachine):
        def make_world(self) -> RealWorld:
            return RealWorld(site, run_class, leased)

    return RealMachine


def test_the_functions_neither_lose_nor_double(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    machine = machine_of(site)
    run_state_machine_as_test(machine, settings=exploring(examples=25, steps=30))
    with capsys.disabled():
        print(f" [functions: {machine.steps_taken} calls]", end="")


class DeletesBeforeTheCommit(claim.Run):
    """What was received is deleted before it is in a committed batch."""

    def commit(self, batch: Batch, registration: Mapping[str, Any], won: Mapping[str, Mapping[str, Any]]) -> bool:
        queues.delete(self.clients.sqs, registration["queue_url"], self.receipts)
        return super().commit(batch, registration, won)

    def receive(self, registration: Mapping[str, Any]) -> list[claim.Announced]:
        received = super().receive(registration)
        self.receipts = [message.receipt for message in received]
        return received


class TakesFromAnOpenBatch(claim.Run):
    """Whoever holds an object, it is taken over."""

    def judge(self, row: Mapping[str, Any], message: claim.Announced) -> claim.Claim | None:
        judged = super().judge(row, message)
        return None if judged == claim.Claim.HELD else judged


class CommitsThoughAbandoned(claim.Run):
    """The commit has no condition."""

    def commit(self, batch: Batch, registration: Mapping[str, Any], won: Mapping[str, Mapping[str, Any]]) -> bool:
        if not super().commit(batch, registration, won):
            values = {"state": State.READY, "manifest": batch.manifest_key, "has_rules": False}
            rows.update(self.clients.batches, batch.key, values)
        return True


def test_the_machine_catches_a_mutant_that_deletes_before_the_commit(site: Site) -> None:
    with pytest.raises(AssertionError, match="lost"):
        run_state_machine_as_test(machine_of(site, DeletesBeforeTheCommit), settings=hunting(examples=100, steps=30))


def at_rest(world: RealWorld, things: int) -> None:
    """Let the world come to rest; then each object is in one batch, and nothing is left."""
    for _ in range(4):
        world.expire()
        world.grow_old()
        to_the_end(world, world.begin())
    assert sorted(thing for _, objects in world.started() for thing in objects) == list(range(things))
    assert not world.waiting()
    assert not world.unsettled()


def calls_of_a_run(world: RealWorld) -> list[str]:
    """The calls that a run for two objects makes, when nothing happens to it."""
    run = world.begin()
    calls = [run.call]
    while world.step(run):
        calls.append(run.call)
    return calls


@pytest.mark.parametrize("order", ["die before", "die after", "repeat"])
def test_whichever_call_it_happens_to_the_end_is_the_same(site: Site, order: str) -> None:
    world = RealWorld(site, leased=True)
    for thing in range(2):
        world.land(thing)
    calls = calls_of_a_run(world)
    at_rest(world, things=2)
    world.close()
    assert {
        "Query",
        "ReceiveMessage",
        "PutItem",
        "UpdateItem",
        "PutObject",
        "DeleteMessageBatch",
        "StartExecution",
    } <= {*calls}
    for place in range(len(calls)):
        world = RealWorld(site, leased=True)
        for thing in range(2):
            world.land(thing)
        run = world.begin()
        for _ in range(place):
            world.step(run)
        assert run.call == calls[place]
        run.tell(order)
        while run.call:
            world.step(run)
        at_rest(world, things=2)
        world.close()


def stand_before(world: RealWorld, call: str) -> Held:
    """A run that goes on to its first ``call``, and stands there."""
    run = world.begin()
    while run.call != call:
        assert world.step(run), f"it made no {call}"
    return run


def to_the_end(world: RealWorld, run: Held) -> None:
    while world.step(run):
        pass


@pytest.mark.parametrize(("mutant", "started"), [(claim.Run, 1), (CommitsThoughAbandoned, 2)])
def test_a_late_writer_is_fenced(site: Site, mutant: type[claim.Run], started: int) -> None:
    """It stands still before its commit, while others abandon its batch and take its objects over."""
    world = RealWorld(site, mutant)
    for thing in range(2):
        world.land(thing)
    late = stand_before(world, "PutObject")
    world.expire()
    world.grow_old()
    to_the_end(world, world.begin())
    to_the_end(world, late)
    assert len(world.started()) == started
    if mutant is claim.Run:
        at_rest(world, things=2)
        assert [row["state"] for row in world.batches()] == ["ABANDONED", "STARTED"]
    world.close()


@pytest.mark.parametrize(("mutant", "started"), [(claim.Run, 1), (TakesFromAnOpenBatch, 2)])
def test_an_open_batch_keeps_what_it_claimed(site: Site, mutant: type[claim.Run], started: int) -> None:
    """Another run receives the same messages, because they became visible too early."""
    world = RealWorld(site, mutant)
    for thing in range(2):
        world.land(thing)
    first = stand_before(world, "PutObject")
    world.expire()
    to_the_end(world, world.begin())
    to_the_end(world, first)
    assert len(world.started()) == started
    if mutant is claim.Run:
        at_rest(world, things=2)
    world.close()


def test_a_claim_that_comes_after_the_batch_was_abandoned_holds_nothing_up(site: Site) -> None:
    """The late writer claims for a batch that is closed; the next run takes the object from it."""
    world = RealWorld(site)
    world.land(0)
    late = stand_before(world, "UpdateItem")
    world.grow_old()
    to_the_end(world, world.begin())
    assert [row["state"] for row in world.batches()] == ["ABANDONED"]
    world.step(late)
    to_the_end(world, late)
    assert world.started() == []
    assert world.waiting() == {0}
    at_rest(world, things=1)
    world.close()
