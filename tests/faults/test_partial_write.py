"""Partial write: what a dead or late publisher leaves is never read, and the next attempt ends with its own files.

Each stop of one publisher after another is in tests/integration/test_publishing.py; here two are alive together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest

from lake import batches, publishing
from lake.batches import Batch, NotInStateError, State
from tests.faults.killing import Pause, pausing
from tests.integration.tables import open_lake
from tests.integration.test_publishing import (
    BATCH_ID,
    DATASET,
    NOW,
    TEAM,
    Bench,
    end_state,
    expected,
    publish,
    transformed,
)

FIRST = {"month=1/a.parquet": b"1", "month=2/b.parquet": b"2"}
SECOND = {"month=2/other.parquet": b"2"}
CHANGES = {"CopyObject", "DeleteObjects", "DeletePartition", "CreatePartition", "BatchUpdatePartition"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(publishing, "COPIES_AT_ONCE", 1)
    with open_lake() as opened:
        yield Bench(opened)


def test_a_publisher_that_wakes_up_late_makes_at_most_the_one_change_it_had_begun(bench: Bench) -> None:
    """Its execution was stopped, the function was not; meanwhile the batch failed and its next attempt published."""

    def meanwhile() -> None:
        batches.finish(bench.lake.batches, Batch(TEAM, DATASET, BATCH_ID, 1), State.FAILED, NOW, reason="stopped")
        publish(bench, transformed(bench, 2, SECOND, partition_by=("month",)))

    unharmed = 0
    for at in count(1):
        bench.empty()
        first, pause = transformed(bench, 1, FIRST, partition_by=("month",)), Pause(at, meanwhile)
        with suppress(NotInStateError), pausing(pause):
            publish(bench, first)
        if not pause.came:
            break
        changed = [call for call in pause.done_after if call in CHANGES]
        assert len(changed) <= 1, f"woken at call {at}, it made {changed}"
        if not changed:
            unharmed += 1
            assert end_state(bench) == expected(SECOND, bench), f"woken at call {at}"
    assert unharmed > 15
