"""Which partition keys a request of DynamoDB names."""

from __future__ import annotations

from typing import Any

import pytest

from tarn.local.extension.dynamodb_leading_keys import leading_keys

TABLE = {
    "KeySchema": [{"AttributeName": "team", "KeyType": "HASH"}, {"AttributeName": "dataset", "KeyType": "RANGE"}],
    "GlobalSecondaryIndexes": [
        {"IndexName": "attention", "KeySchema": [{"AttributeName": "spread", "KeyType": "HASH"}]},
    ],
}
KEY = {"team": {"S": "blue"}, "dataset": {"S": "x"}}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"TableName": "t", "Key": KEY}, ["blue"]),
        ({"TableName": "t", "Item": {**KEY, "more": {"N": "1"}}}, ["blue"]),
        ({"TableName": "t"}, []),
        ({"TableName": "unknown", "Key": KEY}, []),
        (
            {
                "TableName": "t",
                "KeyConditionExpression": "#t = :t AND begins_with(dataset, :d)",
                "ExpressionAttributeNames": {"#t": "team"},
                "ExpressionAttributeValues": {":t": {"S": "blue"}, ":d": {"S": "x"}},
            },
            ["blue"],
        ),
        (
            {
                "TableName": "t",
                "IndexName": "attention",
                "KeyConditionExpression": "spread=:s",
                "ExpressionAttributeValues": {":s": {"S": "blue#x#1"}},
            },
            ["blue#x#1"],
        ),
        ({"RequestItems": {"t": {"Keys": [KEY, {"team": {"S": "red"}}]}}}, ["blue", "red"]),
        (
            {
                "RequestItems": {
                    "t": [{"PutRequest": {"Item": KEY}}, {"DeleteRequest": {"Key": {"team": {"S": "red"}}}}]
                }
            },
            ["blue", "red"],
        ),
        ({"TransactItems": [{"Put": {"TableName": "t", "Item": KEY}}]}, ["blue"]),
    ],
)
def test_leading_keys(request_: dict[str, Any], expected: list[str]) -> None:
    assert [*leading_keys(request_, {"t": TABLE}.get)] == expected
