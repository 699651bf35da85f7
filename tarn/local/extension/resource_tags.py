"""The condition key `aws:ResourceTag/...`.

Stock MiniStack 1.5.33 looks a resource's tags up when one of a role's own policies names the key, but not when only
its boundary does; it has none there of state machines and Glue jobs, and gives jobs none of their stack's.

Sources: IAM user guide, "Controlling access to AWS resources using tags"; CloudFormation user guide, "Resource tag"
(stack tags are propagated to the resources).
"""

from __future__ import annotations

from typing import Any

from tarn.local.extension.decisions import EVALUATOR, TAGGING
from tarn.local.extension.patching import original, replace, require
from tarn.local.settings import Settings

RESOURCE_TAG = "aws:resourcetag/"
STEP_FUNCTIONS = "ministack.services.stepfunctions"
GLUE = "ministack.services.glue"
PROVISIONERS = "ministack.services.cloudformation.provisioners"


def install(_settings: Settings) -> None:
    """Look tags up for every decision, those of machines and jobs too."""
    require(STEP_FUNCTIONS, "_tags")
    require(GLUE, "_tags")
    names = original(EVALUATOR, "_names_condition_key")
    stock = original(TAGGING, "resource_tags")

    def names_condition_key(policies: Any, prefix: str) -> bool:
        return prefix == RESOURCE_TAG or bool(names(policies, prefix))

    def resource_tags(arn: str) -> dict[str, str] | None:
        service = arn.split(":")[2] if arn.startswith("arn:") else ""
        return _TAGS[service](arn) if service in _TAGS else stock(arn)

    replace(EVALUATOR, "_names_condition_key", names_condition_key)
    replace(TAGGING, "resource_tags", resource_tags)
    original(PROVISIONERS, "_STACK_TAG_PROPERTY")["AWS::Glue::Job"] = ("Tags", "map")


def _of_machine(arn: str) -> dict[str, str]:
    return {one["key"]: one["value"] for one in original(STEP_FUNCTIONS, "_tags").get(arn) or []}


def _of_job(arn: str) -> dict[str, str]:
    return dict(original(GLUE, "_tags").get(arn) or {})


_TAGS = {"states": _of_machine, "glue": _of_job}
