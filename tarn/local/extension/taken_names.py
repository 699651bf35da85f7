"""A queue's name is taken once.

Stock MiniStack 1.5.33 puts a template's queue in the place of one with the same name, whose messages are lost, and the
roll-back of that stack deletes it: a dataset that claims another's name would do harm. CloudFormation fails it.

Source: CloudFormation user guide, "Resource type handler error codes" (AlreadyExists).
"""

from __future__ import annotations

from typing import Any

from tarn.local.extension.patching import original, require
from tarn.local.settings import Settings

SQS = "ministack.services.sqs"


def install(_settings: Settings) -> None:
    """Look whether the name is free before a queue is made."""
    require(SQS, "_queue_name_to_url")
    queue = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")["AWS::SQS::Queue"]
    create = queue["create"]

    def create_if_free(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        name = properties.get("QueueName")
        if name and original(SQS, "_queue_name_to_url").get(name):
            raise ValueError(f"Resource of type 'AWS::SQS::Queue' with identifier '{name}' already exists.")
        return create(logical_id, properties, stack_name)

    queue["create"] = create_if_free
