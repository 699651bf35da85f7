"""What an AWS request asks for, as IAM sees it: actions, resources and condition keys.

MiniStack knows it for every request that it authorizes; this asks the same functions about a
request that is made inside the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tarn.local.extension.decisions import Call
from tarn.local.extension.patching import original, require

ACTIONS = "ministack.core.iam_actions"
RESPONSES = "ministack.core.responses"


def require_requests() -> None:
    """Look up what is asked of MiniStack, before anything is served."""
    require("ministack.app", "_routing_params")
    require(ACTIONS, "extract_iam_action", "extract_resource_arn", "request_tag_context")
    require(ACTIONS, "s3_service_context", "s3_additional_checks", "eventbridge_resource_arns")
    require(ACTIONS, "dynamodb_service_context", "dynamodb_transaction_checks", "dynamodb_resource_arns")


def calls_of_request(  # noqa: PLR0917 - the parts of a request, as MiniStack's own functions take them
    service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> Iterator[Call]:
    """Each call that must be allowed for the request to be; none for a service without IAM actions."""
    parameters = original("ministack.app", "_routing_params")(method, path, headers, body, query)
    action = original(ACTIONS, "extract_iam_action")(service, method, path, headers, body, parameters)
    if action is None:
        return
    where = (original(RESPONSES, "get_region")(), original(RESPONSES, "get_account_id")())
    context = original(ACTIONS, "request_tag_context")(service, action, body, parameters)
    if service == "s3":
        context |= original(ACTIONS, "s3_service_context")(action, query, path, headers) or {}
        for extra_action, resource in original(ACTIONS, "s3_additional_checks")(
            method, path, headers, body, parameters
        ):
            yield Call(extra_action, resource, context)
    if service == "dynamodb":
        context |= original(ACTIONS, "dynamodb_service_context")(body)
        items = original(ACTIONS, "dynamodb_transaction_checks")(action, body, *where)
        if items:
            yield from (Call(item_action, table, context) for item_action, table in items)
            return
        resources = original(ACTIONS, "dynamodb_resource_arns")(body, *where)
        yield from (Call(action, table, context) for table in resources or ["*"])
        return
    if service == "events":
        buses = original(ACTIONS, "eventbridge_resource_arns")(body, *where)
        if buses:
            yield from (Call(action, bus, context) for bus in buses)
            return
    resource = original(ACTIONS, "extract_resource_arn")(service, method, path, headers, body, parameters, *where)
    yield Call(action, resource, context)
