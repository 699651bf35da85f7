"""finish_batch is killed at each of its calls and woken again: the rows are those of an undisturbed ending."""

from __future__ import annotations

from typing import Any

import pytest

from lake import clock, finishing
from lake.outcomes import Run
from tests.faults.killing import Death, at_each_call, dying
from tests.integration.tables import Lake
from tests.integration.test_finishing import (
    PASSED,
    TRANSFORM_ANSWER,
    lake,
    opened,
    prove_published,
    prove_quality,
    run_of,
)

__all__ = ["lake", "opened"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_finish_batch(lake: Lake, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    run, now = Run.parse(run_of(lake)), clock.now()
    clients = finishing.Clients(s3=lake.s3, objects=lake.objects, datasets=lake.datasets, batches=lake.batches)
    monkeypatch.setattr(finishing, "WRITES_AT_ONCE", 1)
    prove_quality(lake)
    prove_published(lake, {"air/flights/batch=1/p.parquet": 7})
    in_flight = lake.batches.scan()["Items"], lake.objects.scan()["Items"]

    def finish() -> Any:
        verdict = finishing.Verdict(PASSED["outcome"], PASSED)
        finishing.publish(clients, run, TRANSFORM_ANSWER, verdict, now)
        found = (table.scan()["Items"] for table in (lake.batches, lake.objects, lake.datasets))
        return [sorted(some, key=str) for some in found]

    expected = finish()

    def work(death: Death) -> None:
        for table, items in zip((lake.batches, lake.objects), in_flight, strict=True):
            for one in table.scan()["Items"]:
                table.delete_item(Key={name["AttributeName"]: one[name["AttributeName"]] for name in table.key_schema})
            for one in items:
                table.put_item(Item=one)
        with dying(death):
            finishing.publish(clients, run, TRANSFORM_ANSWER, finishing.Verdict(PASSED["outcome"], PASSED), now)
        assert finish() == expected

    assert {"BatchWriteItem", "UpdateItem"} <= set(at_each_call(work, after))
