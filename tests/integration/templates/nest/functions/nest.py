"""The handlers of the three-level stack, for tests of the emulator."""

import json
import os
import urllib.request
from typing import Any

import boto3


def record_landed(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Write a row for each object that a message tells of."""
    table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])
    for record in event["Records"]:
        for notification in json.loads(record["body"]).get("Records", []):
            table.put_item(Item={"id": notification["s3"]["object"]["key"]})
    return {"batchItemFailures": []}


def tick(_event: dict[str, Any], _context: object) -> None:
    """Leave a trace of the rule."""
    boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"]).put_item(Item={"id": "tick"})


def greet(event: dict[str, Any], _context: object) -> str:
    """The greeting, which an update of the stack changes."""
    return f"{os.environ['GREETING']} {event['name']}"


def refuse(event: dict[str, Any], _context: object) -> None:
    """A custom resource that fails to be created, and is deleted without complaint."""
    failed = event["RequestType"] == "Create"
    answer = {
        "Status": "FAILED" if failed else "SUCCESS",
        "Reason": "this registration is refused on purpose",
        "PhysicalResourceId": "refused",
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
