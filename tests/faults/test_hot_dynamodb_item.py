"""Hot DynamoDB item: no row is written for two objects, none of the writes is transactional, and a healthy row is in
no index."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from botocore.client import BaseClient

from tests.integration.first_hop_world import Hop
from tests.integration.tables import Lake, lake

__all__ = ["lake"]

MANY = 10


def test_an_object_writes_its_own_two_rows_three_times(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    hop = Hop(lake, monkeypatch)
    written: dict[str, list[str]] = defaultdict(list)
    real = BaseClient._make_api_call

    def call(client: BaseClient, name: str, arguments: Any) -> Any:
        is_table = client.meta.service_model.service_name == "dynamodb"
        if is_table and name.startswith(("Put", "Update", "Batch", "Trans")):
            assert name in ("PutItem", "UpdateItem", "BatchGetItem")
            if name != "BatchGetItem":
                written[str((arguments.get("Key") or arguments["Item"])["id"])].append(name)
        return real(client, name, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    messages = [hop.land(f"{place}.csv", "carrier,delay\nUA,1\n") for place in range(MANY)]
    assert hop.go(*messages) == []
    assert set(written) == {hop.staged_id(one) for one in messages} | {one["id"] for one in messages}
    assert sum(map(len, written.values())) == 3 * MANY
    assert lake.objects.scan(IndexName="attention")["Items"] == []


def test_no_index_holds_a_state_that_every_object_passes_through(lake: Lake) -> None:
    [index] = lake.objects.global_secondary_indexes
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["attention", "attention_at"]
    assert index["Projection"]["ProjectionType"] != "ALL"
