"""Redrive: what had failed is moved back by SQS's own move task, and ends as if nothing had been.

A dead letter is removed only when it stands in its own queue again; what comes back twice changes nothing.
"""

from __future__ import annotations

from tarn import dead_letters
from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing

DEAD = "foundations/ingest-dead-letter-queue"


def test_dead_letters_that_are_moved_back_are_each_staged_once(standing: Standing) -> None:
    names = [f"redriven/{place}.csv" for place in range(5)]
    with (
        standing.hasty(standing.ingest),
        standing.environment("foundations.route_object", OBJECTS_TABLE_NAME="none"),
    ):
        identities = [standing.put(name) for name in names]
        wait_for(lambda: standing.depth(standing.ingest_dead) == 5 or None, "nothing became a dead letter")
    assert not any(map(standing.row, identities))
    [letters] = dead_letters.find(standing.lake, standing.sqs, DEAD)
    moved = dead_letters.move(standing.sqs, letters, None, lambda _moved, _of: None, poll_seconds=0.1)
    assert (moved.status, moved.messages) == ("COMPLETED", 5)
    standing.wait_for_state("STAGED", *identities)
    for identity in identities:
        standing.tell(standing.notification(identity))
    standing.wait_until_empty(standing.ingest)
    assert [len(standing.staged(name)) for name in names] == [1] * 5
