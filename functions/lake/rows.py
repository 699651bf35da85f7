"""Writing DynamoDB rows: one way to build an update under a condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from boto3.dynamodb.conditions import ConditionBase
    from mypy_boto3_dynamodb.service_resource import Table

SCHEMA = 1
"""Version of every row, message and manifest, so that a deployment may meet work in flight."""

MOST_KEYS_IN_A_CALL = 100
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""


class UnknownSchemaError(Exception):
    """A row was written by a later version of Tarn than this one, which must not guess what it means."""


class ConditionFailedError(Exception):
    """The row did not meet the condition of a write; ``row`` is what stands there (empty when nothing does)."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__("the row does not meet the condition of the write")
        self.row = row


def put(table: Table, row: Mapping[str, Any], condition: ConditionBase | None = None) -> None:
    """Put ``row``, with None left out.

    Raises:
        ConditionFailedError: ``condition`` does not hold.
    """
    arguments: dict[str, Any] = {"Item": {name: value for name, value in row.items() if value is not None}}
    if condition is not None:
        arguments |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    _write(table, table.put_item, arguments)


def update(
    table: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    remove: Iterable[str] = (),
    condition: ConditionBase | None = None,
) -> dict[str, Any]:
    """Set ``values`` (None removes) and remove the attributes ``remove``; gives the row as it then stands.

    Raises:
        ConditionFailedError: ``condition`` does not hold.
    """
    present = {name: value for name, value in values.items() if value is not None}
    gone = sorted({*remove, *(name for name, value in values.items() if value is None)})
    clauses = []
    if present:
        clauses.append("SET " + ", ".join(f"#a_{name} = :a_{name}" for name in present))
    if gone:
        clauses.append("REMOVE " + ", ".join(f"#a_{name}" for name in gone))
    arguments: dict[str, Any] = {
        "Key": dict(key),
        "UpdateExpression": " ".join(clauses),
        "ExpressionAttributeNames": {f"#a_{name}": name for name in (*present, *gone)},
        "ReturnValues": "ALL_NEW",
    }
    if present:
        arguments["ExpressionAttributeValues"] = {f":a_{name}": value for name, value in present.items()}
    if condition is not None:
        arguments |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    return dict(_write(table, table.update_item, arguments)["Attributes"])


def get(table: Table, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row under ``key``, read consistently; None where there is none.

    Raises:
        UnknownSchemaError: it is of a later version: what asked for it is tried again, and is not lost.
    """
    row = table.get_item(Key=dict(key), ConsistentRead=True).get("Item")
    return None if row is None else readable(row)


def get_many(table: Table, identities: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Rows of the object catalog by id, read consistently, a hundred in a call; those that there are.

    Raises:
        UnknownSchemaError: one is of a later version.
    """
    found: dict[str, dict[str, Any]] = {}
    left = list(dict.fromkeys(identities))
    while left:
        some, left = left[:MOST_KEYS_IN_A_CALL], left[MOST_KEYS_IN_A_CALL:]
        answer = table.meta.client.batch_get_item(
            RequestItems={table.name: {"Keys": [{"id": one} for one in some], "ConsistentRead": True}}
        )
        found |= {str(row["id"]): readable(row) for row in answer["Responses"].get(table.name, [])}
        # What DynamoDB did not get to is asked for again; botocore waits where it got to nothing.
        for unprocessed in answer["UnprocessedKeys"].values():
            left += [str(key["id"]) for key in unprocessed["Keys"]]
    return found


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, if it is of this version or an earlier one (or a projection without its version).

    Raises:
        UnknownSchemaError: it is of a later one.
    """
    if int(row.get("schema", SCHEMA)) > SCHEMA:
        key = {name: row[name] for name in ("team", "dataset", "owner", "batch_id", "id") if name in row}
        raise UnknownSchemaError(
            f"the row of {key} has schema {row['schema']}, and this version reads up to {SCHEMA}: "
            "deploy the version of Tarn that wrote it, or a later one"
        )
    return dict(row)


def query(table: Table, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Every row that a query finds, page by page; ``arguments`` as DynamoDB's Query takes them.

    Raises:
        UnknownSchemaError: one is of a later version.
    """
    while True:
        page = table.query(**arguments)
        yield from map(readable, page["Items"])
        if "LastEvaluatedKey" not in page:
            return
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _write(table: Table, call: Any, arguments: dict[str, Any]) -> Any:
    try:
        return call(**arguments)
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        raise ConditionFailedError(_old_row(error)) from error


def _old_row(error: ClientError) -> Mapping[str, Any]:
    """The row in a failed check's answer; botocore leaves it in DynamoDB's own typed form."""
    typed: Mapping[str, Any] = error.response.get("Item", {})  # type: ignore[assignment]
    read = TypeDeserializer().deserialize
    return {name: read(value) for name, value in typed.items()}
