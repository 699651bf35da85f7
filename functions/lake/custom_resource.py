"""Answering CloudFormation for a custom resource.

Own code instead of crhelper: what matters here (a failed create's id, the reason's length) is what one would have to
work round there, and the answer itself is one PUT.
Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import urllib3

from lake.observability import logger
from lake.registration import RegistrationError

LONGEST_REASON_BYTES = 1000
"""The whole answer may have 4,096."""
NEVER_MADE = "never-made"
"""Physical id of a resource whose creation failed: Delete ignores it, and the rightful owner's row stays."""

HTTP = urllib3.PoolManager(retries=urllib3.Retry(3, backoff_factor=0.5), timeout=urllib3.Timeout(10.0))


def serve(event: Mapping[str, Any], apply: Callable[[Mapping[str, Any], str], str]) -> dict[str, str]:
    """Do what ``event`` asks and answer, whatever happens; gives what was answered.

    ``apply`` gets the event and the physical id (``NEVER_MADE`` before creation), and gives the physical id; its
    RegistrationError is a refusal.
    """
    known_id = event.get("PhysicalResourceId", NEVER_MADE)
    told = {"request": event["RequestType"], "type": event["ResourceType"], "logical_id": event["LogicalResourceId"]}
    try:
        physical_id = apply(event, known_id)
    except RegistrationError as error:
        logger.warning("refused", extra={**told, "reason": error.whole})
        return answer(event, "FAILED", known_id, str(error))
    except Exception as error:  # noqa: BLE001 - unanswered, CloudFormation would hang until its time is over
        logger.exception("failed", extra=told)
        return answer(event, "FAILED", known_id, f"{type(error).__name__}: {error}")
    logger.info("done", extra={**told, "physical_id": physical_id})
    return answer(event, "SUCCESS", physical_id)


def answer(
    event: Mapping[str, Any], status: Literal["SUCCESS", "FAILED"], physical_id: str, reason: str = ""
) -> dict[str, str]:
    """Send the answer to the pre-signed URL of the request; gives what was sent.

    Raises:
        urllib3.exceptions.HTTPError: CloudFormation could not be reached; it waits for ``ServiceTimeout``.
    """
    body = {
        "Status": status,
        "Reason": _cut(reason) or status,
        "PhysicalResourceId": physical_id,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    text = json.dumps(body, ensure_ascii=False).encode()
    # The URL is signed for a request without a content type.
    HTTP.request("PUT", event["ResponseURL"], body=text, headers={"Content-Type": ""})
    return body


def _cut(reason: str) -> str:
    return reason.encode()[:LONGEST_REASON_BYTES].decode(errors="ignore")
