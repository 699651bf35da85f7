"""Redrive: what had failed is sent again by SQS's own rules, twice for good measure, and ends as if nothing had been.

A dead letter is removed only when it stands in its own queue again; moved twice, it changes nothing.
"""

from __future__ import annotations

from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing


def test_dead_letters_that_are_sent_again_twice_are_each_staged_once(standing: Standing) -> None:
    names = [f"redriven/{place}.csv" for place in range(5)]
    with (
        standing.hasty(standing.ingest),
        standing.environment("foundations.route_object", OBJECTS_TABLE_NAME="none"),
    ):
        identities = [standing.put(name) for name in names]
        wait_for(lambda: standing.depth(standing.ingest_dead) == 5 or None, "nothing became a dead letter")
    assert not any(map(standing.row, identities))
    while messages := standing.sqs.receive_message(QueueUrl=standing.ingest_dead).get("Messages"):
        for one in messages:
            for _ in range(2):
                standing.tell(one["Body"])
            standing.sqs.delete_message(QueueUrl=standing.ingest_dead, ReceiptHandle=one["ReceiptHandle"])
    standing.wait_for_state("STAGED", *identities)
    standing.wait_until_empty(standing.ingest)
    assert [len(standing.staged(name)) for name in names] == [1] * 5
