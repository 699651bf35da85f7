"""Alarms on metric math: stock MiniStack 1.5.33 fails the stack, since it evaluates no alarm on several metrics.

Such an alarm is recorded and not acted upon, like every alarm here: no metric of SQS, Lambda or Step Functions
is published, so that all of them stay in INSUFFICIENT_DATA.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from tarn.local.extension.patching import original
from tarn.local.settings import ACCOUNT_ID, Settings

logger = logging.getLogger("tarn.local")
ALARM = "AWS::CloudWatch::Alarm"
Answer = tuple[str, dict[str, str]]


def install(settings: Settings) -> None:
    """Take alarms with `Metrics` out of the stock handler's way."""
    handlers: dict[str, dict[str, Callable[..., Any]]] = original(
        "ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS"
    )
    stock = handlers[ALARM]

    def answer(name: str) -> Answer:
        return name, {"Arn": f"arn:aws:cloudwatch:{settings.region}:{ACCOUNT_ID}:alarm:{name}"}

    def create(logical_id: str, properties: dict[str, Any], stack_name: str) -> Answer:
        if not properties.get("Metrics"):
            return stock["create"](logical_id, properties, stack_name)  # type: ignore[no-any-return]
        logger.warning("%s %s of %s is recorded, but not acted upon", ALARM, logical_id, stack_name)
        return answer(properties.get("AlarmName") or f"{stack_name}-{logical_id}-{uuid.uuid4().hex[:12].upper()}")

    def update(physical_id: str, old: dict[str, Any], new: dict[str, Any], *rest: Any) -> Answer:
        if not new.get("Metrics"):
            return stock["update"](physical_id, old, new, *rest)  # type: ignore[no-any-return]
        return answer(physical_id)

    handlers[ALARM] = {**stock, "create": create, "update": update}
