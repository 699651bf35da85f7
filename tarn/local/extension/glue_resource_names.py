"""Glue's resources by the names that IAM gives them.

Stock MiniStack 1.5.33 takes the `Name` of any Glue request for a table's, so that `glue:StartCrawler` asked for
`table/<the crawler>`: a policy that is right on AWS was denied here.

Source: Service authorization reference, "Actions, resources, and condition keys for AWS Glue".
"""

from __future__ import annotations

import json
from typing import Any

from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

ACTIONS = "ministack.core.iam_actions"
KINDS = {"StartCrawler": "crawler", "StopCrawler": "crawler", "GetCrawler": "crawler", "GetDatabase": "database"}


def install(_settings: Settings) -> None:
    """Name the resource that AWS names."""
    stock = original(ACTIONS, "extract_resource_arn")

    def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: Any, *rest: Any) -> Any:
        kind = KINDS.get(headers.get("x-amz-target", "").rpartition(".")[2]) if service == "glue" else None
        if kind is None:
            return stock(service, method, path, headers, body, *rest)
        _parameters, region, account = rest
        return f"arn:aws:glue:{region}:{account}:{kind}/{json.loads(body).get('Name', '')}"

    replace(ACTIONS, "extract_resource_arn", extract_resource_arn)
