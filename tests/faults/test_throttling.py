"""Throttling: a call that is refused fails its own object, which comes back; the other objects go on.

The SDK has made its own tries by then. At first the whole lake, whose roles are refused in turn; then each call. That a
queue waits six times as long as its function may run, tests/templates reads from the templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from tarn.local import faults
from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing
from tests.integration.first_hop_world import Hop
from tests.integration.tables import Lake, lake, receive_all
from tests.integration.test_route_object import handle, notification, register, router

__all__ = ["lake", "router"]

REFUSALS = 12
GOOD = "carrier,delay\nUA,1\n"
CODES = {
    "UpdateItem": "ThrottlingException",
    "GetItem": "ProvisionedThroughputExceededException",
    "BatchGetItem": "ThrottlingException",
    "PutItem": "RequestLimitExceeded",
    "SendMessageBatch": "RequestThrottled",
    "HeadObject": "SlowDown",
    "GetObject": "SlowDown",
    "PutObject": "SlowDown",
}


@contextmanager
def throttled(operation: str, about: str) -> Iterator[list[str]]:
    """Refuse an operation wherever its arguments name ``about``; gives what was refused."""
    real, refused = BaseClient._make_api_call, []

    def call(client: BaseClient, name: str, arguments: Any) -> Any:
        if name == operation and about in str(arguments):
            refused.append(name)
            error = {"Code": CODES[name], "Message": "slow down"}
            raise ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}, name)
        return real(client, name, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        yield refused


@pytest.mark.slow
def test_a_first_hop_that_is_throttled_every_second_stages_each_file_once(standing: Standing) -> None:
    names: list[str] = []
    pipeline_queue = standing.lake.contract.pipeline("air", "main", "queue/url")
    with standing.hasty(standing.ingest, 15), standing.hasty(pipeline_queue, 15):
        before = standing.struck("throttle")
        with faults.switched_on(standing.state, "throttle"):

            def until_enough() -> bool | None:
                names.append(f"throttled/{len(names)}.csv")
                standing.put(names[-1], f"carrier,name\nT{len(names)},throttled\n".encode())
                return standing.struck("throttle") - before >= REFUSALS or None

            wait_for(until_enough, "nothing was throttled")
        standing.wait_for_state("STAGED", *map(standing.identity, names))
    assert [len(standing.staged(name)) for name in names] == [1] * len(names)
    standing.wake()
    standing.wait_until_published(names)
    assert standing.carriers("throttled") == sorted([f"T{number}", "1"] for number in range(1, len(names) + 1))


@pytest.mark.parametrize("operation", ["UpdateItem", "GetItem", "SendMessageBatch"])
def test_the_router_gives_back_what_was_throttled_and_no_more(lake: Lake, router: Any, operation: str) -> None:
    register(lake)
    register(lake, "trains", "slow")
    slow = lake.sqs.create_queue(QueueName="slow-trains")["QueueUrl"]
    lake.datasets.update_item(
        Key={"team": "air", "dataset": "pipeline#slow"},
        UpdateExpression="SET queue_url = :url",
        ExpressionAttributeValues={":url": slow},
    )
    bodies = [notification(lake, f"air/{dataset}/{n}.csv") for n in range(3) for dataset in ("flights", "trains")]
    with throttled(operation, "trains") as refused:
        assert handle(router, *bodies) == ["m1", "m3", "m5"]
    assert refused
    assert handle(router, *bodies[1::2]) == []
    sent = [*receive_all(lake.sqs, lake.pipeline_queue_url), *receive_all(lake.sqs, slow)]
    assert sorted(one["key"] for one in sent) == sorted(
        f"air/{d}/{n}.csv" for n in range(3) for d in ("flights", "trains")
    )


@pytest.mark.parametrize("operation", ["GetObject", "PutObject", "PutItem", "UpdateItem"])
def test_the_first_hop_gives_back_what_was_throttled_and_no_more(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    hop = Hop(lake, monkeypatch)
    messages = [hop.land(f"{name}.csv", GOOD) for name in ("one", "slow", "two")]
    with throttled(operation, "slow") as refused:
        assert hop.go(*messages) == ["m1"]
    assert refused
    assert [hop.raw(one)["state"] for one in messages] == ["STAGED", "LANDED", "STAGED"]
    assert hop.go(messages[1]) == []
    assert {one["id"] for one in receive_all(lake.sqs, lake.dataset_queue_url)} == set(map(hop.staged_id, messages))
