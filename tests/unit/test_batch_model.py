"""The batch claim as a model: the whole protocol on one page, explored; and what each of its rules is there for.

The model has no AWS in it. tests/integration/test_batch_claim.py explores the real functions by the same machine.
"""

import copy
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.batch_claim_machine import BatchClaimMachine, exploring, hunting

MAX_ITEMS = 3

Call = Callable[[], Any]
Steps = Generator[Call, Any, None]


@dataclass
class Row:
    """An object's row."""

    state: str = "STAGED"
    batch: str | None = None


@dataclass
class Batch:
    """A batch's row."""

    state: str = "OPEN"
    objects: list[int] = field(default_factory=list)
    old: bool = False


@dataclass
class Message:
    """A message; any receipt of it deletes it, also an old one, as SQS may let it at worst."""

    thing: int
    visible: bool = True


class Run:
    """A run that stands before its next call."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.call: Call | None = next(steps, None)

    def answer(self, value: Any) -> bool:
        try:
            self.call = self.steps.send(value)
        except StopIteration:
            self.call = None
        return self.call is not None


class Model:
    """Queue, rows, batches and executions; every method that a run calls is one atomic call to AWS."""

    def __init__(self, mutation: str = "") -> None:
        self.mutation = mutation
        self.rows: dict[int, Row] = {}
        self.batches: dict[str, Batch] = {}
        self.queue: dict[int, Message] = {}
        self.executions: list[tuple[str, list[int]]] = []
        self.aborted: set[str] = set()
        self.seen: dict[str, Batch] | None = None
        self.sent = self.runs = 0

    # The protocol

    def run(self, name: str) -> Steps:
        """One run: recover, then one batch. Each ``yield`` is one call, before or after which the run may die."""
        yield from self.recover()
        messages: dict[int, int] = yield self.receive
        if not messages:
            return
        batch_id = name
        if self.mutation == "names the batch by its manifest":
            batch_id = "-".join(str(thing) for thing in sorted(set(messages.values())))
        yield lambda: self.open(batch_id)
        won: list[int] = []
        settled: list[int] = []
        for number, thing in messages.items():
            came_of_it = yield from self.claim(batch_id, thing)
            if came_of_it == "WON" and thing not in won:
                won.append(thing)
            if came_of_it == "SETTLED" or self.mutation == "deletes what another holds":
                settled.append(number)
        if self.mutation == "fixes the manifest before claiming":
            won = sorted(set(messages.values()))
        if self.mutation == "deletes before the commit":
            yield lambda: self.delete(messages)
        committed = False
        if won:
            was = None if self.mutation == "commits though abandoned" else "OPEN"
            committed = yield lambda: self.commit(batch_id, was, won)
        else:
            yield lambda: self.move(batch_id, "OPEN", "ABANDONED")
        if committed or self.mutation == "deletes though fenced":
            settled += [number for number, thing in messages.items() if thing in won]
        yield lambda: self.delete(settled)
        if committed:
            yield from self.start(batch_id, won)

    def recover(self) -> Steps:
        """Start what is READY, close what was stopped, abandon what is OPEN for too long."""
        for batch_id, seen in (yield self.unfinished).items():
            if seen.state == "READY":
                yield from self.start(batch_id, seen.objects)
            elif seen.state == "STARTED":
                if (yield lambda one=batch_id: one in self.aborted):
                    yield lambda one=batch_id: self.move(one, "STARTED", "FAILED")
            elif seen.old:
                expected = None if self.mutation == "abandons what is committed" else "OPEN"
                yield lambda one=batch_id, was=expected: self.move(one, was, "ABANDONED")

    def claim(self, batch_id: str, thing: int) -> Generator[Call, Any, str]:
        """Win an object from nobody, or from an abandoned batch."""
        held_by: str | None = None
        for _ in range(3):
            row = yield lambda by=held_by: self.take(thing, batch_id, by)
            if row.batch == batch_id:
                return "WON"
            if row.state == "SUPERSEDED":
                return "SETTLED"
            holder = yield lambda by=row.batch: self.batches[by].state
            if holder == "OPEN" and self.mutation != "takes from an open batch":
                return "HELD"
            if holder not in {"OPEN", "ABANDONED"}:
                return "SETTLED"
            held_by = row.batch
        return "HELD"

    def start(self, batch_id: str, objects: list[int]) -> Steps:
        """Start by name, then write down that it is started."""
        known = yield lambda: self.execute(batch_id, objects)
        if known and (yield lambda: batch_id in self.aborted):
            yield lambda: self.move(batch_id, "READY", "FAILED")
        else:
            yield lambda: self.move(batch_id, "READY", "STARTED")

    # The calls

    def unfinished(self) -> dict[str, Batch]:
        seen = self.batches if self.seen is None else self.seen
        return {one: copy.copy(row) for one, row in seen.items() if row.state in {"OPEN", "READY", "STARTED"}}

    def receive(self) -> dict[int, int]:
        some = [(number, message) for number, message in self.queue.items() if message.visible][:MAX_ITEMS]
        for _, message in some:
            message.visible = False
        return {number: message.thing for number, message in some}

    def open(self, batch_id: str) -> None:
        if batch_id not in self.batches or self.mutation == "names the batch by its manifest":
            self.batches[batch_id] = Batch()

    def take(self, thing: int, batch_id: str, held_by: str | None) -> Row:
        row = self.rows[thing]
        if row.state in {"STAGED", "BATCHED"} and row.batch == held_by:
            row.state, row.batch = "BATCHED", batch_id
        return copy.copy(row)

    def move(self, batch_id: str, was: str | None, to: str) -> bool:
        batch = self.batches[batch_id]
        if was is None or batch.state == was:
            batch.state = to
            return True
        return False

    def commit(self, batch_id: str, was: str | None, objects: list[int]) -> bool:
        if self.move(batch_id, was, "READY"):
            self.batches[batch_id].objects = objects
            return True
        return self.batches[batch_id].state != "ABANDONED"

    def delete(self, numbers: Any) -> None:
        for number in numbers:
            self.queue.pop(number, None)

    def execute(self, batch_id: str, objects: list[int]) -> bool:
        """True when an execution of that name was there before."""
        known = any(name == batch_id for name, _ in self.executions)
        if self.mutation == "starts under a new name":
            self.executions.append((f"{batch_id}-{len(self.executions)}", objects))
        elif not known:
            self.executions.append((batch_id, objects))
        return known

    # What the machine does to it

    def land(self, thing: int) -> None:
        self.rows[thing] = Row()
        self.send_again(thing)

    def send_again(self, thing: int) -> None:
        self.sent += 1
        self.queue[self.sent] = Message(thing)

    def retire(self, thing: int) -> bool:
        row = self.rows[thing]
        if row.batch is None:
            row.state = "SUPERSEDED"
        return row.state == "SUPERSEDED"

    def begin(self) -> Run:
        self.runs += 1
        return Run(self.run(f"b{self.runs}"))

    def step(self, run: Run) -> bool:
        return run.call is not None and run.answer(run.call())

    def repeat(self, run: Run) -> bool:
        if run.call is not None:
            run.call()
        return self.step(run)

    def kill(self, run: Run, after: bool) -> None:
        if after and run.call is not None:
            run.call()

    def expire(self) -> None:
        for message in self.queue.values():
            message.visible = True

    def grow_old(self) -> None:
        for batch in self.batches.values():
            batch.old = True

    def lag(self, behind: bool) -> None:
        self.seen = copy.deepcopy(self.batches) if behind else None

    def abort(self) -> None:
        self.aborted |= {name for name, _ in self.executions}

    def started(self) -> list[tuple[str, list[int]]]:
        return self.executions

    def unsettled(self) -> list[str]:
        return [
            one
            for one, batch in self.batches.items()
            if batch.state in {"OPEN", "READY"} or (batch.state == "STARTED" and one in self.aborted)
        ]

    def waiting(self) -> set[int]:
        return {message.thing for message in self.queue.values()}

    def committed(self) -> set[int]:
        return {
            thing
            for thing, row in self.rows.items()
            if row.batch is not None and self.batches[row.batch].state not in {"OPEN", "ABANDONED"}
        }

    def close(self) -> None:
        """Nothing to clean up."""


def machine_of(mutation: str) -> type[BatchClaimMachine]:
    class ModelMachine(BatchClaimMachine):
        def make_world(self) -> Model:
            return Model(mutation)

    return ModelMachine


def test_the_protocol_neither_loses_nor_doubles(capsys: pytest.CaptureFixture[str]) -> None:
    machine = machine_of("")
    run_state_machine_as_test(machine, settings=exploring(examples=1_000, steps=40))
    with capsys.disabled():
        print(f" [model: {machine.steps_taken} calls]", end="")


@pytest.mark.parametrize(
    ("mutation", "finds"),
    [
        ("deletes before the commit", "lost"),
        ("deletes though fenced", "lost"),
        ("deletes what another holds", "lost"),
        ("takes from an open batch", "doubled"),
        ("commits though abandoned", "doubled"),
        ("abandons what is committed", "lost|doubled"),
        ("fixes the manifest before claiming", "doubled"),
        ("names the batch by its manifest", "doubled|lost|messages left"),
        ("starts under a new name", "doubled"),
    ],
)
def test_without_a_rule_the_machine_finds_the_loss_or_the_double(mutation: str, finds: str) -> None:
    with pytest.raises(AssertionError, match=finds):
        run_state_machine_as_test(machine_of(mutation), settings=hunting(examples=3_000, steps=40))
