"""A row, message or manifest of a later version is not guessed at: the reader says so, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lake import clock, datasets, hop_items, registrations, rows
from tests.integration.tables import Lake, lake

__all__ = ["lake"]

MESSAGE = {
    "schema": 1,
    "id": "s3://raw/air/flights/a.csv",
    "team": "air",
    "dataset": "flights",
    "key": "air/flights/a.csv",
    "size": 1,
    "version_id": None,
    "sequencer": "1",
}
REGISTRATION = {"team": "air", "dataset": "flights", "kind": "dataset", "pipeline": "main"}


@pytest.mark.parametrize("schema", [2, "2", None])
def test_a_message_of_another_schema_is_refused_and_stays_its_queues(schema: Any) -> None:
    """The starter returns what it cannot read to the queue (test_first_hop.py)."""
    assert hop_items.Landed.of_body(json.dumps(MESSAGE)).team == "air"
    with pytest.raises(hop_items.MalformedMessageError, match="not a message of schema 1"):
        hop_items.Landed.of_body(json.dumps({**MESSAGE, "schema": schema}))


def readers(lake: Lake) -> dict[str, Any]:
    """Each way to a registration's row."""
    now = clock.now()
    return {
        "get": lambda: rows.get(lake.datasets, {"team": "air", "dataset": "flights"}),
        "query": lambda: list(rows.query(lake.datasets, KeyConditionExpression="team = :t", **TEAM)),
        "router": lambda: datasets.Registry(lake.datasets).dataset("air", "flights", now),
        "functions of the pipeline": lambda: registrations.Registrations(lake.datasets).get("air", "flights", now),
    }


TEAM = {"ExpressionAttributeValues": {":t": "air"}}


@pytest.mark.parametrize("reader", ["get", "query", "router", "functions of the pipeline"])
def test_a_row_of_a_later_schema_is_not_read(lake: Lake, reader: str) -> None:
    lake.datasets.put_item(Item={**REGISTRATION, "schema": 1})
    assert readers(lake)[reader]()
    lake.datasets.put_item(Item={**REGISTRATION, "schema": 2})
    with pytest.raises(rows.UnknownSchemaError, match=r"\{'team': 'air', 'dataset': 'flights'\} has schema 2"):
        readers(lake)[reader]()
    lake.datasets.put_item(Item=REGISTRATION)  # written before rows said their version
    assert readers(lake)[reader]()
