"""What keeps a deployed stack from losing data by accident: termination protection, stack policies, rollback alarms.

All of it follows the environment's one switch, ``DeletionProtection``: set where it is true, lifted where it is
false. ``sam deploy`` has an option for none of it, so it is set after each deployment.

Sources: CloudFormation user guide, "Protect CloudFormation stacks from being deleted", "Prevent updates to stack
resources" (a root's policy does not reach into nested stacks), "Roll back your stack on alarm breach".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tarn.templates import ROOT

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient

STACK = "AWS::CloudFormation::Stack"
POLICY = json.loads((ROOT / "foundations" / "stack_policy.json").read_text(encoding="utf-8"))
"""The policy of every nested stack that holds data."""
OPEN_POLICY = {"Statement": POLICY["Statement"][:1]}
"""A policy cannot be removed: where protection is off, it allows every update."""
KEEPS_DATA = tuple(POLICY["Statement"][1]["Condition"]["StringEquals"]["ResourceType"])
"""The types of resources whose loss is the loss of data."""
ROLLBACK_ALARMS = ("IngestDeadLettersAlarm", "RouteObjectErrorsAlarm")
"""Alarms of the foundations that roll a deployment back: objects are lost from the way, or the router fails.

Those of pipelines and datasets are not among them: CloudFormation fails every update of a stack whose trigger is
gone, so that removing a pipeline would be refused."""
MONITORING_MINUTES = 5
"""How long CloudFormation goes on watching after a deployment: the alarms judge a minute at a time."""


@dataclass(frozen=True)
class NestedStack:
    """A stack of a tree: its path of logical ids (empty for the root), its id, and its resources."""

    path: tuple[str, ...]
    stack_id: str
    resources: tuple[dict[str, Any], ...]


def tree(cloudformation: CloudFormationClient, stack: str, path: tuple[str, ...] = ()) -> Iterator[NestedStack]:
    """A stack and all that is nested in it, the root first.

    Raises:
        ClientError: there is no such stack.
    """
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources: list[Any] = [one for page in pages for one in page["StackResourceSummaries"]]
    yield NestedStack(path, stack, tuple(resources))
    for one in resources:
        if one["ResourceType"] == STACK and one.get("PhysicalResourceId") and "DELETE" not in one["ResourceStatus"]:
            yield from tree(cloudformation, one["PhysicalResourceId"], (*path, one["LogicalResourceId"]))


def set_up(
    cloudformation: CloudFormationClient,
    stack: str,
    *,
    protected: bool,
    say: Callable[[str], None],
) -> None:
    """Make a root stack's safeguards what they should be; says what it changed."""
    _protect_from_deletion(cloudformation, stack, protected=protected, say=say)
    alarms: list[str] = []
    for nested in tree(cloudformation, stack):
        if nested.path and any(one["ResourceType"] in KEEPS_DATA for one in nested.resources):
            _set_policy(cloudformation, nested, POLICY if protected else OPEN_POLICY, say=say)
        alarms += [one["PhysicalResourceId"] for one in nested.resources if one["LogicalResourceId"] in ROLLBACK_ALARMS]
    if alarms and protected:
        _roll_back_on(cloudformation, stack, alarms, say=say)


def _protect_from_deletion(
    cloudformation: CloudFormationClient, stack: str, *, protected: bool, say: Callable[[str], None]
) -> None:
    found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    if bool(found.get("EnableTerminationProtection")) != protected:
        cloudformation.update_termination_protection(StackName=stack, EnableTerminationProtection=protected)
        say(f"{stack}: termination protection is {'on' if protected else 'off'}")


def _set_policy(
    cloudformation: CloudFormationClient, nested: NestedStack, policy: dict[str, Any], *, say: Callable[[str], None]
) -> None:
    body = cloudformation.get_stack_policy(StackName=nested.stack_id).get("StackPolicyBody")
    stands = json.loads(body) if body else OPEN_POLICY
    if stands != policy:
        cloudformation.set_stack_policy(StackName=nested.stack_id, StackPolicyBody=json.dumps(policy))
        what = "refuses to replace or delete" if policy == POLICY else "no longer protects"
        say(f"{'/'.join(nested.path)}: its stack policy {what} what holds data")


def _roll_back_on(
    cloudformation: CloudFormationClient, stack: str, alarms: list[str], *, say: Callable[[str], None]
) -> None:
    """Tell a root its alarms once: CloudFormation keeps them for every later update, sam's as well.

    Neither `sam deploy` nor a nested stack has an option for them; an update with the template that stands does it.
    """
    found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    _, partition, _, region, account, _ = found["StackId"].split(":", 5)
    wanted = {f"arn:{partition}:cloudwatch:{region}:{account}:alarm:{name}" for name in alarms}
    if wanted == {one["Arn"] for one in found.get("RollbackConfiguration", {}).get("RollbackTriggers", [])}:
        return
    try:
        cloudformation.update_stack(
            StackName=stack,
            UsePreviousTemplate=True,
            Parameters=[
                {"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in found.get("Parameters", [])
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            RollbackConfiguration={
                "RollbackTriggers": [{"Arn": one, "Type": "AWS::CloudWatch::Alarm"} for one in sorted(wanted)],
                "MonitoringTimeInMinutes": MONITORING_MINUTES,
            },
        )
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
        say(f"{stack}: CloudFormation did not take the rollback alarms ({', '.join(alarms)})")
    else:
        cloudformation.get_waiter("stack_update_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 10, "MaxAttempts": 180}
        )
        say(f"{stack}: its deployments are rolled back when an alarm goes off ({', '.join(alarms)})")
