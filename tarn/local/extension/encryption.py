"""Who uses what is encrypted with a key of ours must be allowed to use the key.

Stock MiniStack 1.5.33 stores the key of a queue, topic, bucket or table and never asks about it, so
a missing `kms:Decrypt` shows on AWS only. Here a caller needs the service's KMS actions through its
own policies and the key's, and a service that delivers (S3, SNS, EventBridge) needs them in the key's
policy. Keys of AWS (`alias/aws/...`) are open to all who may use the service, as on AWS.

Sources: SQS developer guide "Key management" (permissions for producers, consumers and event sources);
SNS "Securing data with server-side encryption"; S3 "Using SSE-KMS"; DynamoDB "Encryption at rest";
CloudWatch Logs "Encrypt log data using AWS KMS".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tarn.local.extension.decisions import (
    EVALUATOR,
    RESPONSES,
    Call,
    denial,
    policy_admits_service,
    require_evaluator,
)
from tarn.local.extension.patching import original, replace, require
from tarn.local.settings import Settings

WRITE = ("kms:GenerateDataKey", "kms:Decrypt")
READ = ("kms:Decrypt",)
KEY_ACTIONS = {
    "sqs:SendMessage": WRITE,
    "sqs:ReceiveMessage": READ,
    "sns:Publish": WRITE,
    "s3:PutObject": ("kms:GenerateDataKey",),
    "s3:GetObject": READ,
    "s3:GetObjectVersion": READ,
    **{
        f"dynamodb:{operation}": READ
        for operation in (
            *("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"),
            *("BatchGetItem", "BatchWriteItem", "ConditionCheckItem"),
        )
    },
}
# The error that each service answers with when its caller may not use the key.
_ERRORS = {"sqs": "KMS.AccessDeniedException", "sns": "KMSAccessDenied"}
_BUCKET_KEY = re.compile(r"<(?:\w+:)?KMSMasterKeyID>([^<]+)<")


def install(_settings: Settings) -> None:
    """Ask about keys whenever MiniStack allows a caller, a queue's or a topic's policy."""
    require_evaluator()
    require("ministack.services.kms", "_resolve_key")
    require("ministack.services.sqs", "_queue_by_arn")
    require("ministack.services.sns", "_topics")
    require("ministack.services.s3", "_bucket_encryption")
    require("ministack.services.dynamodb", "_tables")
    _ask_for_callers()
    _ask_for_services("ministack.services.sqs", "queue_policy_allows", "sqs:SendMessage")
    _ask_for_services("ministack.services.sns", "topic_policy_allows", "sns:Publish")


def key_calls(call: Call) -> Iterator[Call]:
    """The calls of KMS that a call implies, if its resource is encrypted with a key of the account."""
    actions = KEY_ACTIONS.get(call.action)
    key = _key_of(call) if actions else None
    if key is None:
        return
    context = {
        "kms:ViaService": f"{call.service}.{original(RESPONSES, 'get_region')()}.amazonaws.com",
        "kms:CallerAccount": original(RESPONSES, "get_account_id")(),
    }
    yield from (Call(action, key["Arn"], context) for action in actions or ())


def denial_with_key(principal: Any, call: Call) -> str | None:
    """Why the principal may not make this call, or not use the key that it implies."""
    denials = (denial(principal, each) for each in (call, *key_calls(call)))
    return next((why for why in denials if why is not None), None)


def service_may_use_key(service: str, call: Call, source_arn: str) -> bool:
    """Whether the key that a service's call implies admits the service."""
    return all(
        policy_admits_service(key_policy(each.resource), service, Call(each.action, each.resource), source_arn)
        for each in key_calls(call)
    )


def key_policy(reference: str) -> Any:
    """The policy of a key that is named by id, ARN or alias."""
    return (original("ministack.services.kms", "_resolve_key")(reference) or {}).get("Policy")


def _key_of(call: Call) -> Any:
    reference = _ENCRYPTED[call.service](call.resource)
    return original("ministack.services.kms", "_resolve_key")(reference) if reference else None


def _queue_key(arn: str) -> Any:
    queue = original("ministack.services.sqs", "_queue_by_arn")(arn)
    return queue["attributes"].get("KmsMasterKeyId") if queue else None


def _topic_key(arn: str) -> Any:
    topic = original("ministack.services.sns", "_topics").get(arn)
    return topic["attributes"].get("KmsMasterKeyId") if topic else None


def _bucket_key(arn: str) -> Any:
    bucket = arn.rpartition(":")[2].partition("/")[0]
    found = _BUCKET_KEY.search(original("ministack.services.s3", "_bucket_encryption").get(bucket, ""))
    return found.group(1) if found else None


def _table_key(arn: str) -> Any:
    name = arn.partition(":table/")[2].partition("/")[0]
    description = (original("ministack.services.dynamodb", "_tables").get(name) or {}).get("SSEDescription") or {}
    return description.get("KMSMasterKeyArn") if description.get("Status") == "ENABLED" else None


_ENCRYPTED = {"sqs": _queue_key, "sns": _topic_key, "s3": _bucket_key, "dynamodb": _table_key}


def _ask_for_callers() -> None:
    enforce = original(EVALUATOR, "enforce")
    resolve = original(EVALUATOR, "resolve_principal")
    refusal = original(EVALUATOR, "AuthError")

    def enforce_with_key(
        access_key: str, action: str, service: str, region: str, resource_arn: str = "*", **context: Any
    ) -> Any:
        denied = enforce(access_key, action, service, region, resource_arn=resource_arn, **context)
        calls = [] if denied else [*key_calls(Call(action, resource_arn))]
        principal = resolve(access_key or "", original(RESPONSES, "get_account_id")()) if calls else None
        if getattr(principal, "policies", None) is None:
            return denied  # refused already, nothing encrypted, or the administrator
        for call in calls:
            if (why := denial(principal, call)) is not None:
                return refusal(_ERRORS.get(service, "AccessDenied"), why)
        return None

    replace(EVALUATOR, "enforce", enforce_with_key)


def _ask_for_services(module: str, name: str, action: str) -> None:
    allows = original(module, name)

    def allows_with_key(arn: str, service: str, source_arn: str, source_account: str) -> bool:
        return bool(
            allows(arn, service, source_arn, source_account)
            and service_may_use_key(service, Call(action, arn), source_arn)
        )

    replace(module, name, allows_with_key)
