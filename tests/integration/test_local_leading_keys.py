"""Teams kept apart by `dynamodb:LeadingKeys`, a key that stock MiniStack 1.5.33 does not have."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local_world import Roles


@pytest.fixture(scope="module")
def table(client: Callable[[str], Any]) -> str:
    name = f"table-{uuid.uuid4().hex[:8]}"
    client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return name


@pytest.fixture(scope="module")
def blue(roles: Roles, table: str) -> Any:
    """A client that may do anything to rows of its team, with the guard against an absent key."""
    role = roles.create(
        {
            "Effect": "Allow",
            "Action": "dynamodb:*",
            "Resource": f"arn:aws:dynamodb:*:*:table/{table}",
            "Condition": {
                "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["s3://raw/blue/*"]},
                "Null": {"dynamodb:LeadingKeys": "false"},
            },
        }
    )
    return roles.client(role, "dynamodb")


def _key(team: str) -> dict[str, Any]:
    return {"id": {"S": f"s3://raw/{team}/a.csv"}}


def _calls(team: str, table: str) -> dict[str, tuple[str, dict[str, Any]]]:
    condition = {
        "KeyConditionExpression": "#id = :id",
        "ExpressionAttributeNames": {"#id": "id"},
        "ExpressionAttributeValues": {":id": _key(team)["id"]},
    }
    return {
        "put": ("put_item", {"TableName": table, "Item": _key(team)}),
        "get": ("get_item", {"TableName": table, "Key": _key(team)}),
        "query": ("query", {"TableName": table, **condition}),
        "batch": ("batch_get_item", {"RequestItems": {table: {"Keys": [_key("blue"), _key(team)][-2:]}}}),
        "transaction": ("transact_write_items", {"TransactItems": [{"Put": {"TableName": table, "Item": _key(team)}}]}),
    }


@pytest.mark.parametrize("call", ["put", "get", "query", "transaction"])
def test_a_team_reaches_its_own_rows(blue: Any, table: str, call: str) -> None:
    operation, arguments = _calls("blue", table)[call]
    getattr(blue, operation)(**arguments)


@pytest.mark.parametrize("call", ["put", "get", "query", "batch", "transaction"])
def test_a_team_does_not_reach_those_of_another(blue: Any, table: str, call: str) -> None:
    operation, arguments = _calls("red", table)[call]
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(blue, operation)(**arguments)


def test_a_scan_has_no_key_and_is_denied(blue: Any, table: str) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        blue.scan(TableName=table)
