"""s3:TestEvent: S3 sends it when a bucket's notifications are set. It is no error, and stops nothing beside it."""

from __future__ import annotations

from tests.faults.standing import Standing


def test_the_test_event_is_ignored_among_good_ones(standing: Standing) -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": standing.raw_bucket, "RequestId": "r"}
    for place in range(9):
        standing.put(f"beside the test event {place}.csv")
        standing.tell(event)
    standing.wait_for_state("STAGED", *(standing.identity(f"beside the test event {n}.csv") for n in range(9)))
    standing.wait_until_empty(standing.ingest)
    assert standing.depth(standing.ingest_dead) == 0
