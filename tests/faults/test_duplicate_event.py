"""Duplicate event: S3 tells at least once. One row, one stage object, one batch, whatever is told again."""

from __future__ import annotations

from tests.faults.standing import Standing


def test_twenty_notifications_of_one_object_are_one_object(standing: Standing) -> None:
    name = "told twenty times.csv"
    identity = standing.put(name)
    standing.wait_for_state("STAGED", identity)
    before = standing.row(identity)
    for _ in range(20):
        standing.tell(standing.notification(identity))
    standing.wait_until_empty(standing.ingest)
    standing.wait_until_empty(standing.lake.contract.pipeline("air", "main", "queue/url"))
    assert standing.row(identity) == before
    [staged] = standing.staged(name)
    assert staged["id"] == before["staged_id"]
    assert standing.depth(standing.ingest_dead) == 0
