"""Resources by the names that IAM gives them: of Glue, a path of SSM's parameters, the stack of a change set.

Stock MiniStack 1.5.33 takes the `Name` of any Glue request for a table's, so that `glue:StartCrawler` asked for
`table/<the crawler>`; and it asks for `*` where a path of parameters is read, or a change set is named by its ARN
alone. Policies that are right on AWS were denied here.

Source: Service authorization reference, "Actions, resources, and condition keys" of AWS Glue, of Systems Manager and of
CloudFormation.
"""

from __future__ import annotations

import json
from typing import Any

from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

ACTIONS = "ministack.core.iam_actions"
KINDS = {"StartCrawler": "crawler", "StopCrawler": "crawler", "GetCrawler": "crawler", "GetDatabase": "database"}
PATHS = "GetParametersByPath"


def install(_settings: Settings) -> None:
    """Name the resource that AWS names."""
    stock = original(ACTIONS, "extract_resource_arn")
    find_change_set = original("ministack.services.cloudformation.changesets", "_find_change_set")

    def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: Any, *rest: Any) -> Any:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        parameters, region, account = rest
        if service == "glue" and (kind := KINDS.get(action)):
            return f"arn:aws:glue:{region}:{account}:{kind}/{json.loads(body).get('Name', '')}"
        if service == "ssm" and action == PATHS:
            return f"arn:aws:ssm:{region}:{account}:parameter{json.loads(body).get('Path', '')}"
        if service == "cloudformation" and "StackName" not in parameters and "ChangeSetName" in parameters:
            _, found = find_change_set(*parameters["ChangeSetName"])
            return f"arn:aws:cloudformation:{region}:{account}:stack/{(found or {}).get('StackName', '')}/*"
        return stock(service, method, path, headers, body, *rest)

    replace(ACTIONS, "extract_resource_arn", extract_resource_arn)
