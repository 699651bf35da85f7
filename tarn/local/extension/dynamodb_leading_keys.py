"""The condition key `dynamodb:LeadingKeys`.

Stock MiniStack 1.5.33 never gives it, so a policy that isolates teams by it (with
`Null: {dynamodb:LeadingKeys: false}` beside it) denies everything. Here it has the value that the
request has for the partition key of its table or index, and is absent where a request has none (Scan).

Source: DynamoDB developer guide, "Using IAM policy conditions for fine-grained access control".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

ACTIONS = "ministack.core.iam_actions"
LEADING_KEYS = "dynamodb:LeadingKeys"
_EQUALITY = re.compile(r"([#\w.-]+)\s*=\s*(:\w+)")


def install(_settings: Settings) -> None:
    """Add the key to what MiniStack finds in a request."""
    find = original(ACTIONS, "dynamodb_service_context")
    tables = original("ministack.services.dynamodb", "_tables")

    def find_with_leading_keys(body: bytes) -> dict[str, Any]:
        context: dict[str, Any] = find(body)
        request = json.loads(body or b"{}")
        if values := [*leading_keys(request, lambda name: tables.get(name.rpartition("/")[2]))]:
            context[LEADING_KEYS] = values
        return context

    replace(ACTIONS, "dynamodb_service_context", find_with_leading_keys)


def leading_keys(request: dict[str, Any], table_of: Any) -> Iterator[str]:
    """The partition key values that a request names."""
    if "TableName" in request:
        yield from _of_operation(request, table_of)
    for table, wanted in (request.get("RequestItems") or {}).items():
        operations = wanted if isinstance(wanted, list) else [{"Key": key} for key in wanted.get("Keys", [])]
        for operation in operations:
            for member in operation.values() if isinstance(wanted, list) else [operation]:
                yield from _of_operation({"TableName": table, **member}, table_of)
    for item in request.get("TransactItems") or []:
        for operation in item.values():
            yield from _of_operation(operation, table_of)


def _of_operation(operation: dict[str, Any], table_of: Any) -> Iterator[str]:
    table = table_of(operation["TableName"])
    if table is None:
        return
    name = _partition_key(table, operation.get("IndexName"))
    for member in ("Key", "Item"):
        if name in operation.get(member, {}):
            yield _scalar(operation[member][name])
    if expression := operation.get("KeyConditionExpression"):
        names = operation.get("ExpressionAttributeNames", {})
        for attribute, placeholder in _EQUALITY.findall(expression):
            if names.get(attribute, attribute) == name:
                yield _scalar(operation["ExpressionAttributeValues"][placeholder])


def _partition_key(table: dict[str, Any], index: str | None) -> str:
    indexes = {known["IndexName"]: known for known in table.get("GlobalSecondaryIndexes") or []}
    schema = indexes[index]["KeySchema"] if index in indexes else table["KeySchema"]
    return next(str(key["AttributeName"]) for key in schema if key["KeyType"] == "HASH")


def _scalar(value: dict[str, Any]) -> str:
    return str(next(iter(value.values())))
