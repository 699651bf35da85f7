"""Burst: a standard queue takes what comes, a bounded number of functions works it off, and nothing is dropped."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.faults.standing import Standing

MANY = 200


def test_everything_of_a_burst_is_staged_once(standing: Standing) -> None:
    names = [f"burst/{place}.csv" for place in range(MANY)]
    with ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(standing.put, names))
    standing.wait_for_state("STAGED", *identities)
    sources = Counter(row.get("source_id") for row in standing.objects.scan()["Items"])
    assert [sources[one] for one in identities] == [1] * MANY
