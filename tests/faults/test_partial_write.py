"""Partial write: what a dead or late publisher leaves is never read, and the next attempt ends with its own files.

In the whole lake a job dies after it has written a part. Each stop of one publisher after another is in
tests/integration/test_publishing.py; here two are alive together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest

from lake import batches, clock, names, publishing
from lake.batches import Batch, NotInStateError, State
from tarn.again import Again
from tests.e2e.lake_world import job_script, wait_for
from tests.faults.killing import Pause, pausing
from tests.faults.standing import Standing
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
WRITES_A_PART = """
import sys, boto3
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
bucket, _, prefix = given["--output"].removeprefix("s3://").partition("/")
boto3.client("s3").put_object(Bucket=bucket, Key=prefix + "part-0.parquet", Body=b"half a file")
raise SystemExit(1)
"""
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


@pytest.mark.slow
def test_what_a_dead_job_wrote_is_never_published_and_its_next_attempt_publishes_each_row_once(
    standing: Standing,
) -> None:
    name = "partial/a.csv"
    standing.wait_for_state("STAGED", standing.put(name, b"carrier,name\nP1,partial\nP2,partial\n"))
    with job_script(standing, WRITES_A_PART):
        standing.wake()

        def failed() -> str | None:
            return next((one for one, row in standing.batches_of([name]).items() if row["state"] == "FAILED"), None)

        batch_id = wait_for(failed, "the batch does not fail")
    analytics = standing.lake.contract.foundations("analytics-bucket/name")
    left = standing.s3.list_objects_v2(Bucket=analytics, Prefix=names.pending_prefix(TEAM, batch_id, 1))["Contents"]
    assert [one["Key"].rpartition("/")[2] for one in left] == ["part-0.parquet"]
    prefix = f"{names.table_prefix(TEAM, 'airlines')}batch={batch_id}/"
    assert "Contents" not in standing.s3.list_objects_v2(Bucket=analytics, Prefix=prefix)
    Again(standing.lake, standing.session).retry(batch_id, clock.now())
    wait_for(lambda: standing.batches_of([name])[batch_id]["state"] == "PUBLISHED" or None, "it is not published", 300)
    assert standing.carriers("partial") == [["P1", "1"], ["P2", "1"]]
