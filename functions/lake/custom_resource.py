"""Answering CloudFormation for a custom resource.

Own code instead of crhelper: what matters here (a failed create's id, the reason's length) is what one would have to
work round there, and the answer itself is one PUT.
Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import urllib3

LONGEST_REASON_BYTES = 1000
"""The whole answer may have 4,096."""
NEVER_MADE = "never-made"
"""Physical id of a resource whose creation failed: Delete ignores it, and the rightful owner's row stays."""

HTTP = urllib3.PoolManager(retries=urllib3.Retry(3, backoff_factor=0.5), timeout=urllib3.Timeout(10.0))


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
