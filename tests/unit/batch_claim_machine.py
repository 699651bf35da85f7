"""What may happen to the batch claim, as a state machine; and what must hold whatever happens.

It drives a *world*: the small model of tests/unit/test_batch_model.py, or the real functions in moto of
tests/integration/test_batch_claim.py. In both a run stands still before each of its calls to AWS until a rule lets
it go on, makes it die before or after that call, or loses the call's answer, so that the caller makes it twice.
"""

import os
from typing import Protocol

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

MOST_OBJECTS = 8
MOST_REPEATS = 6
MOST_RUNS = 3
MOST_ROUNDS = 12


class World(Protocol):
    """What the machine needs of a world. Objects are numbers; a run is whatever ``begin`` gives."""

    def land(self, thing: int) -> None:
        """Write the row of a new staged object, and send its message."""

    def send_again(self, thing: int) -> None:
        """Send an object's message once more, as a retry of its sender does."""

    def retire(self, thing: int) -> bool:
        """A newer version came: SUPERSEDED if no batch has claimed it, and True."""

    def begin(self) -> object:
        """Begin a run; it stands before its first call."""

    def step(self, run: object) -> bool:
        """Let a run make its next call; False when there is none left."""

    def repeat(self, run: object) -> bool:
        """Let a run make its next call twice, and see only the second answer."""

    def kill(self, run: object, after: bool) -> None:
        """The run dies before, or just after, its next call."""

    def expire(self) -> None:
        """Messages in flight are visible again."""

    def grow_old(self) -> None:
        """Time passes: what is OPEN now is older than the function's timeout."""

    def lag(self, behind: bool) -> None:
        """The index of unfinished batches stands still, or catches up."""

    def abort(self) -> None:
        """Somebody stops every running execution."""

    def started(self) -> list[tuple[str, list[int]]]:
        """Name and objects of each execution that was ever started."""

    def unsettled(self) -> list[str]:
        """Batches that are OPEN or READY, or STARTED though their execution was stopped."""

    def waiting(self) -> set[int]:
        """Objects that have a message in the queue, visible or not."""

    def committed(self) -> set[int]:
        """Objects whose batch is READY or later."""

    def close(self) -> None:
        """Clean up."""


class BatchClaimMachine(RuleBasedStateMachine):
    """Objects come, twice perhaps; runs meet, die, and wake up late; nothing is lost and nothing doubled."""

    steps_taken = 0

    def make_world(self) -> World:
        """The world to explore."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.objects = self.repeats = 0
        self.retired: set[int] = set()
        self.runs: list[object] = []

    @precondition(lambda self: self.objects < MOST_OBJECTS)
    @rule(count=st.integers(1, 3))
    def land(self, count: int) -> None:
        for _ in range(count):
            self.world.land(self.objects)
            self.objects += 1

    @precondition(lambda self: self.objects)
    @rule(which=st.integers(0, MOST_OBJECTS - 1), again=st.booleans())
    def change(self, which: int, again: bool) -> None:
        thing = which % self.objects
        if again and self.repeats < MOST_REPEATS:
            self.repeats += 1
            self.world.send_again(thing)
        elif not again and self.world.retire(thing):
            self.retired.add(thing)

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule(calls=st.integers(0, 12))
    def begin(self, calls: int) -> None:
        self.runs.append(self.world.begin())
        self.go_on(len(self.runs) - 1, calls)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, MOST_RUNS - 1), calls=st.integers(1, 12))
    def step(self, which: int, calls: int) -> None:
        self.go_on(which % len(self.runs), calls)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, MOST_RUNS - 1))
    def repeat(self, which: int) -> None:
        self.count()
        if not self.world.repeat(self.runs[which % len(self.runs)]):
            self.runs.pop(which % len(self.runs))

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, MOST_RUNS - 1), after=st.booleans())
    def kill(self, which: int, after: bool) -> None:
        self.world.kill(self.runs.pop(which % len(self.runs)), after)

    @rule(what=st.sampled_from(["expire", "grow old", "grow old", "expire", "lag", "catch up", "abort"]))
    def meanwhile(self, what: str) -> None:
        if what == "expire":
            self.world.expire()
        elif what == "grow old":
            self.world.grow_old()
        elif what == "abort":
            self.world.abort()
        else:
            self.world.lag(what == "lag")

    def go_on(self, place: int, calls: int) -> None:
        for _ in range(calls):
            self.count()
            if not self.world.step(self.runs[place]):
                self.runs.pop(place)
                return

    @classmethod
    def count(cls) -> None:
        cls.steps_taken += 1

    @invariant()
    def no_object_is_in_two_batches(self) -> None:
        started = self.world.started()
        names = [name for name, _ in started]
        assert len(names) == len(set(names)), f"started twice: {names}"
        things = [thing for _, objects in started for thing in objects]
        assert len(things) == len(set(things)), f"doubled: {started}"

    @invariant()
    def no_message_goes_before_the_commit(self) -> None:
        lost = set(range(self.objects)) - self.retired - self.world.waiting() - self.world.committed()
        assert not lost, f"lost: {lost}"

    def teardown(self) -> None:
        """Let the late ones wake up and end, and the world come to rest; then everything is in its place."""
        try:
            self.no_object_is_in_two_batches()
            self.world.lag(False)
            for run in self.runs:
                while self.world.step(run):
                    self.count()
            for _ in range(MOST_ROUNDS):
                self.world.expire()
                self.world.grow_old()
                run = self.world.begin()
                while self.world.step(run):
                    self.count()
                if not self.world.waiting() and not self.world.unsettled():
                    break
            self.no_object_is_in_two_batches()
            self.no_message_goes_before_the_commit()
            assert not self.world.waiting(), f"messages left: {self.world.waiting()}"
            assert not self.world.unsettled(), f"batches left: {self.world.unsettled()}"
            things = sorted(thing for _, objects in self.world.started() for thing in objects)
            assert things == sorted(set(range(self.objects)) - self.retired)
        finally:
            self.world.close()


def exploring(examples: int, steps: int) -> settings:
    """The same examples in every run of the tests; ``TARN_EXPLORE=20`` takes twenty times as many."""
    return settings(
        max_examples=examples * int(os.environ.get("TARN_EXPLORE", "1")),
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


def hunting(examples: int, steps: int) -> settings:
    """To see whether a mutant is found at all: the first counter-example is enough, and needs not be made small."""
    return settings(exploring(examples, steps), phases=[Phase.generate], report_multiple_bugs=False)
