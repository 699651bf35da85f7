"""Concurrent batches: many runs for one dataset at once; each object is in one manifest, and nothing is left over.

Every interleaving of their calls, without the lease that keeps them apart, is in tests/integration/test_batch_claim.py.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing

RUNS = 6


@pytest.mark.slow
def test_runs_at_the_same_time_share_out_the_objects_and_the_table_has_each_once(standing: Standing) -> None:
    names = [f"concurrent/{place}.csv" for place in range(12)]
    bodies = [f"carrier,name\nC{place},concurrent\n".encode() for place in range(12)]
    identities = list(map(standing.put, names, bodies))
    standing.wait_for_state("STAGED", *identities)
    function = standing.lake.contract.pipeline("air", "main", "start-batch/arn")
    queue = standing.lake.contract.queues()["dataset/air/main/airlines/staged-queue"]

    def wake(_: int) -> None:
        payload = json.dumps({"team": "air", "dataset": "airlines"})
        standing.functions.invoke(FunctionName=function, Payload=payload)

    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(wake, range(RUNS)))
    wake(0)
    standing.wait_until_empty(queue)
    staged = [row for name in names for row in standing.staged(name)]
    holders = {row["batch_id"] for row in staged}
    listed: Counter[str] = Counter()
    for batch_id in holders:
        row = standing.lake.batch("air#airlines", batch_id)
        stage = standing.lake.contract.foundations("stage-bucket/name")
        manifest = json.loads(standing.s3.get_object(Bucket=stage, Key=row["manifest"])["Body"].read())
        listed.update(one["id"] for one in manifest["objects"])
    assert {listed[row["id"]] for row in staged} == {1}

    def published() -> bool | None:
        found = {standing.lake.batch("air#airlines", one)["state"] for one in holders}
        assert "FAILED" not in found
        return found == {"PUBLISHED"} or None

    wait_for(published, "the batches are not published", seconds=300)
    question = "SELECT carrier, count(*) FROM airlines WHERE name = 'concurrent' GROUP BY carrier"
    answer = standing.lake.query(question, "air")
    assert sorted(answer.rows) == sorted([f"C{place}", "1"] for place in range(12))
