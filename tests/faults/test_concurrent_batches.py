"""Concurrent batches: many runs for one dataset at once; each object is in one manifest, and nothing is left over.

Every interleaving of their calls, without the lease that keeps them apart, is in tests/integration/test_batch_claim.py.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.standing import Standing

RUNS = 6


@pytest.mark.slow
def test_runs_at_the_same_time_share_out_the_objects_and_the_table_has_each_once(standing: Standing) -> None:
    names = [f"concurrent/{place}.csv" for place in range(12)]
    bodies = [f"carrier,name\nC{place},concurrent\n".encode() for place in range(12)]
    identities = list(map(standing.put, names, bodies))
    standing.wait_for_state("STAGED", *identities)
    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(lambda _: standing.wake(), range(RUNS)))
    standing.wake()
    standing.wait_until_empty(standing.staged_queue)
    staged = [row for name in names for row in standing.staged(name)]
    listed: Counter[str] = Counter()
    for row in standing.batches_of(names).values():
        stage = standing.lake.contract.foundations("stage-bucket/name")
        manifest = json.loads(standing.s3.get_object(Bucket=stage, Key=row["manifest"])["Body"].read())
        listed.update(one["id"] for one in manifest["objects"])
    assert {listed[row["id"]] for row in staged} == {1}

    standing.wait_until_published(names)
    assert standing.carriers("concurrent") == sorted([f"C{place}", "1"] for place in range(12))
