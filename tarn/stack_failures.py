"""Why a deployment failed: the first resource that did, followed through nested stacks down to the leaf.

CloudFormation tells a root no more than "Embedded stack ... was not successfully updated"; the reason stands in the
events of the nested stack, or of the one nested in that.

Source: CloudFormation user guide, "Monitor stack progress" and "Troubleshooting CloudFormation".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tarn.safeguards import STACK

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient

CONSEQUENCE = ("Resource creation cancelled", "Resource update cancelled")
"""Reasons of resources that only stopped because another one had failed."""
WHAT_TO_DO: Mapping[tuple[str, ...], str] = {
    ("not authorized", "AccessDenied", "is not allowed"): "give the deploying role that permission, and deploy again",
    ("already exists",): "something outside this stack has that name: remove or adopt it, and deploy again",
    ("stack policy",): "the resource holds data and its stack's policy protects it: docs/deploying.md says how to "
    "replace it on purpose",
    ("limit", "quota", "exceeded", "Throttl"): "ask AWS for a higher quota or wait, and deploy again",
}
"""By what is in the reason; the first that matches."""
CORRECT_IT = "correct it where it is declared, and deploy again"
STANDS = {
    "UPDATE_ROLLBACK_COMPLETE": "Everything is as it was before.",
    "ROLLBACK_COMPLETE": "Nothing was deployed. A stack whose first deployment failed is deleted before the next: "
    "aws cloudformation delete-stack --stack-name {stack}",
    "UPDATE_ROLLBACK_FAILED": "Going back failed too. Correct what stands in the way, then: "
    "aws cloudformation continue-update-rollback --stack-name {stack}",
    "ROLLBACK_FAILED": "Going back failed too. Correct what stands in the way, then: "
    "aws cloudformation delete-stack --stack-name {stack}",
}
"""What a stack's state means for whoever has to go on."""


@dataclass(frozen=True)
class Failure:
    """The first failed resource: its path of logical ids, its type, and why."""

    path: str
    type: str
    reason: str

    def what_to_do(self) -> str:
        """The next step of a person."""
        return next(
            (step for words, step in WHAT_TO_DO.items() if any(word in self.reason for word in words)), CORRECT_IT
        )


def latest_event(cloudformation: CloudFormationClient, stack: str) -> str | None:
    """The id of a stack's newest event; None where there is no stack."""
    return next((str(one["EventId"]) for one in newest_first(cloudformation, stack)), None)


def first(cloudformation: CloudFormationClient, stack: str, after: str | None) -> Failure | None:
    """The first failure after the event ``after``; None where no resource failed."""
    events = []
    for one in newest_first(cloudformation, stack):
        if one["EventId"] == after:
            break
        events.append(one)
    return _first(cloudformation, list(reversed(events)), ()) if events else None


def told(cloudformation: CloudFormationClient, stack: str, after: str | None) -> str:
    """The first failure after an event, and where the stack stands now, for a person; empty where nothing failed."""
    failure = first(cloudformation, stack, after)
    if failure is None:
        return ""
    status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    lines = [
        f"{failure.path} ({failure.type}) failed: {failure.reason}",
        f"What to do: {failure.what_to_do()}. {STANDS.get(status, '')}".strip().format(stack=stack),
    ]
    return "\n".join(lines)


def _first(cloudformation: CloudFormationClient, events: list[Any], path: tuple[str, ...]) -> Failure | None:
    """Oldest first: the first that failed by itself, or what failed in it if it is a stack."""
    for one in events:
        reason = one.get("ResourceStatusReason", "")
        is_itself = one.get("PhysicalResourceId") == one["StackId"]
        if is_itself or not one["ResourceStatus"].endswith("_FAILED") or reason.startswith(CONSEQUENCE):
            continue
        place = (*path, one["LogicalResourceId"])
        # The failure of a creation does not always name what had been created; its beginning does.
        ids = (other.get("PhysicalResourceId") for other in events if other["LogicalResourceId"] == place[-1])
        if one["ResourceType"] == STACK and (nested := next(filter(None, ids), None)):
            inner = _since(cloudformation, nested, events[0]["Timestamp"])
            if (found := _first(cloudformation, inner, place)) is not None:
                return found
        return Failure("/".join(place), one["ResourceType"], reason)
    return None


def _since(cloudformation: CloudFormationClient, stack: str, moment: datetime) -> list[Any]:
    return [one for one in reversed(list(newest_first(cloudformation, stack))) if one["Timestamp"] >= moment]


def newest_first(cloudformation: CloudFormationClient, stack: str) -> Iterator[Any]:
    """A stack's events, page by page as they are asked for; none where there is no such stack."""
    try:
        for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack):
            yield from page["StackEvents"]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
