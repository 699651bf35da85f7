"""`AWS::CloudFormation::Stack` through CloudFormation's public API.

Stock MiniStack 1.5.33 deploys a child inline: no SAM transform, exports, dynamic references,
rollback or DeletionPolicy in it. Here a child is a stack like any other, created, updated and
deleted by the API's own calls; any number of levels works, since each level does the same.

Source: CloudFormation user guide, "Embed stacks within other stacks" and "DeletionPolicy attribute".
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tarn.local.extension.clients import Clients
from tarn.local.extension.patching import original
from tarn.local.settings import Settings

STACK = "AWS::CloudFormation::Stack"
NAME_LENGTH = 128
POLL_SECONDS = 0.05
MAX_POLL_SECONDS = 0.5
ROLLING_BACK = (
    "ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
)
Record = dict[str, Any]


def install(settings: Settings) -> None:
    """Replace the handlers of the type."""
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    nested = NestedStacks(
        Clients(settings),
        original("ministack.services.cloudformation", "_stacks"),
        original("ministack.services.cloudformation", "_stack_events"),
        original("ministack.services.cloudformation.stacks", "_add_event"),
    )
    handlers[STACK] = {"create": nested.create, "update": nested.update, "delete": nested.delete}


class NestedStacks:
    """The type's handlers. They run on worker threads (MiniStack's own rule), so they may wait."""

    def __init__(self, clients: Clients, stacks: Any, events: Any, add_event: Callable[..., None]) -> None:
        self._clients = clients
        self._stacks = stacks
        self._events = events
        self._add_event = add_event

    @property
    def _api(self) -> Any:
        return self._clients.get("cloudformation")

    def create(self, logical_id: str, properties: Record, parent_name: str) -> tuple[str, Record]:
        """Create the child; when it fails, nothing of it is left for the parent to roll back."""
        suffix = f"-{logical_id}-{uuid.uuid4().hex[:12].upper()}"
        name = parent_name[: NAME_LENGTH - len(suffix)] + suffix
        parent = self._stacks[parent_name]
        stack_id = self._api.create_stack(StackName=name, **_request(properties, parent))["StackId"]
        child = self._find(stack_id)
        child["ParentId"] = parent["StackId"]
        # Stock does not say which child it was that failed.
        begun = (STACK, "CREATE_IN_PROGRESS", "Resource creation Initiated", stack_id)
        self._add_event(parent["StackId"], parent_name, logical_id, *begun)
        try:
            self._wait_for("CREATE_COMPLETE", child, first_event=0)
        except RuntimeError:
            self.delete(stack_id, properties)
            raise
        return stack_id, _outputs(child)

    def update(self, stack_id: str, _old: Record, new: Record, parent_name: str) -> tuple[str, Record]:
        """Update the child in place; a parent's rollback sends it back by the same way."""
        child = self._find(stack_id)
        first_event = len(self._events[stack_id])
        try:
            self._api.update_stack(StackName=stack_id, **_request(new, self._stacks[parent_name]))
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
        else:
            self._wait_for("UPDATE_COMPLETE", child, first_event)
        return stack_id, _outputs(child)

    def delete(self, stack_id: str, _properties: Record) -> None:
        """Delete the child: all of it, when the operation that created it is being rolled back."""
        child = self._find(stack_id)
        if child is None or child["StackStatus"] == "DELETE_COMPLETE":
            return
        if self._is_creation_rolled_back(child):
            child["_creation_rolled_back"] = True
            _retain_nothing_that_was_just_created(child)
        first_event = len(self._events[stack_id])
        self._api.delete_stack(StackName=stack_id)
        self._wait_for("DELETE_COMPLETE", child, first_event)

    def _find(self, stack_id: str) -> Any:
        return next((stack for stack in self._stacks.values() if stack["StackId"] == stack_id), None)

    def _is_creation_rolled_back(self, child: Record) -> bool:
        parent = self._find(child.get("ParentId", "")) or {}
        return bool(parent.get("_creation_rolled_back") or parent.get("StackStatus") in ROLLING_BACK)

    def _wait_for(self, status: str, child: Record, first_event: int) -> None:
        if self._settle(child, first_event) != status:
            raise RuntimeError(self._first_failure(child, first_event))

    def _settle(self, child: Record, first_event: int) -> str:
        """Wait for the end of the operation whose first event this is; the child's status then.

        A deletion begins after the call that asks for it, and until then the status is an old one.
        """
        pause = POLL_SECONDS
        while len(self._events[child["StackId"]]) <= first_event or child["StackStatus"].endswith("_IN_PROGRESS"):
            time.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_SECONDS)
        return str(child["StackStatus"])

    def _first_failure(self, child: Record, first_event: int) -> str:
        """Why the child's first resource failed; a stack's own reason already names stack and resource."""
        causes = [
            (event["LogicalResourceId"], event["ResourceType"], event["ValidationStatusReason"])
            for event in child.get("_operation_events", [])
            if event.get("ValidationStatusReason")
        ] + [
            (event["LogicalResourceId"], event["ResourceType"], event["ResourceStatusReason"])
            for event in self._events[child["StackId"]][first_event:]
            if event["ResourceStatus"].endswith("_FAILED") and event["ResourceStatusReason"]
        ]
        if not causes:
            return f"Embedded stack {child['StackName']} ended {child['StackStatus']}"
        logical_id, resource_type, reason = causes[0]
        if resource_type == STACK and logical_id != child["StackName"]:
            return str(reason)
        return f"Embedded stack {child['StackName']}: {logical_id} ({resource_type}): {reason}"


def _request(properties: Record, parent: Record) -> Record:
    """The child's own template and parameters, under the capabilities that the parent was given."""
    return {
        "TemplateURL": properties["TemplateURL"],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": _as_parameter(key, value)}
            for key, value in (properties.get("Parameters") or {}).items()
        ],
        "Capabilities": parent.get("Capabilities", []),
        "Tags": [tag for tag in properties.get("Tags", []) if not tag["Key"].startswith("aws:")],
    }


def _as_parameter(key: str, value: object) -> str:
    if isinstance(value, list | dict):
        raise ValueError(f"The parameter {key} of a nested stack must be a string, not a {type(value).__name__}")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _outputs(child: Record) -> Record:
    return {f"Outputs.{output['OutputKey']}": output["OutputValue"] for output in child["Outputs"]}


def _retain_nothing_that_was_just_created(child: Record) -> None:
    """`RetainExceptOnCreate`: kept, except when the creating operation is rolled back."""
    for definition in child["_template"]["Resources"].values():
        if definition.get("DeletionPolicy") == "RetainExceptOnCreate":
            definition["DeletionPolicy"] = "Delete"
