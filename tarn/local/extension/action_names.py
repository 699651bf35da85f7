"""Calls whose permission has another name than the call.

Stock MiniStack 1.5.33 asks for `sqs:SendMessageBatch`, an action that IAM does not have: AWS asks for the
permission of the single call. A policy that is right on AWS was denied here.

Source: Amazon SQS developer guide, "Actions, resources, and condition keys" (permissions of the batch actions).
"""

from __future__ import annotations

from typing import Any

from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

ACTIONS = "ministack.core.iam_actions"
PERMISSIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


def install(_settings: Settings) -> None:
    """Name the permission that AWS names."""
    stock = original(ACTIONS, "extract_iam_action")

    def extract_iam_action(*arguments: Any, **named: Any) -> str | None:
        action: str | None = stock(*arguments, **named)
        return PERMISSIONS.get(action or "", action)

    replace(ACTIONS, "extract_iam_action", extract_iam_action)
