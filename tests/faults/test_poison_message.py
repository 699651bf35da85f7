"""Poison message: what cannot be read fails alone, comes back a few times, then is a dead letter; the rest goes on."""

from __future__ import annotations

import json

from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing

POISON = ["not json", '"text"', json.dumps({"Records": [{"eventName": "ObjectCreated:Put"}]})]


def test_poison_ends_in_the_dead_letters_and_good_messages_do_not(standing: Standing) -> None:
    good = []
    with standing.hasty(standing.ingest):
        for place, body in enumerate(POISON * 2):
            good.append(standing.put(f"beside poison {place}.csv"))
            standing.tell(body)
        standing.wait_for_state("STAGED", *good)
        wait_for(lambda: standing.depth(standing.ingest_dead) == 6 or None, "the poison is no dead letter")
        standing.wait_until_empty(standing.ingest)
    told = standing.sqs.receive_message(
        QueueUrl=standing.ingest_dead, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert {one["Body"] for one in told} == set(POISON)
    assert all(int(one["Attributes"]["ApproximateReceiveCount"]) >= 3 for one in told)
    for one in told:
        standing.sqs.delete_message(QueueUrl=standing.ingest_dead, ReceiptHandle=one["ReceiptHandle"])
