"""Change sets of whole trees of stacks: `CreateChangeSet` with `IncludeNestedStacks`.

Stock MiniStack 1.5.33 ignores the option, so that a change set of a root names its nested stacks and
not one leaf in them. Here every nested stack that is added or changed gets a change set of its own,
whose id stands in the parent's change, as CloudFormation answers it. A value that only the deployment
itself will know (an output of a new stack) is CloudFormation's own placeholder; a nested template
that refuses it makes the whole change set FAILED, as on AWS. Which property's change replaces a resource
stock knows for some types; for the others CloudFormation's own schema decides, not "Conditionally".
What only a condition lets in or leaves out is a change here, with the option and without.

Source: CloudFormation user guide, "Change sets for nested stacks".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tarn import resource_schemas
from tarn.local.extension.nested_stacks import NAME_LENGTH, STACK
from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

UNCHANGED = "The submitted information didn't contain changes. Submit different information to create a change set."
UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
Record = dict[str, Any]
Answer = tuple[int, Record, bytes]
Handler = Callable[[Record], Answer]


def install(_settings: Settings) -> None:
    """Wrap the three calls that a nested change set is different for."""
    handlers = original("ministack.services.cloudformation.handlers", "_ACTION_HANDLERS")
    nested = NestedChangeSets(
        {name: handlers[name] for name in ("CreateChangeSet", "DescribeChangeSet", "DeleteChangeSet")},
        original("ministack.services.cloudformation", "_change_sets"),
        original("ministack.services.cloudformation", "_stacks"),
        find=original("ministack.services.cloudformation.changesets", "_find_change_set"),
        resolve=original("ministack.services.cloudformation.changesets", "_resolve_refs"),
        conditions=original("ministack.services.cloudformation.changesets", "_evaluate_conditions"),
    )
    recreation = original("ministack.services.cloudformation.stacks", "_property_recreation")
    known = original("ministack.services.cloudformation.provisioners", "_REPLACING_PROPERTIES")

    def by_schema(resource_type: str, name: str) -> str:
        found = None if resource_type in known else resource_schemas.replacing(resource_type)
        if found is None:
            return str(recreation(resource_type, name))
        always, sometimes = found
        return "Always" if name in always else "Conditionally" if name in sometimes else "Never"

    replace("ministack.services.cloudformation.stacks", "_property_recreation", by_schema)
    handlers |= {
        "CreateChangeSet": nested.create,
        "DescribeChangeSet": nested.describe,
        "DeleteChangeSet": nested.delete,
    }


class NestedChangeSets:
    """The three calls. A change set's record keeps its nested ones by logical id."""

    def __init__(
        self,
        stock: Mapping[str, Handler],
        change_sets: Any,
        stacks: Any,
        *,
        find: Callable[..., Any],
        resolve: Callable[..., Any],
        conditions: Callable[..., Any],
    ) -> None:
        self._stock = dict(stock)
        self._change_sets, self._stacks = change_sets, stacks
        self._find, self._resolve, self._conditions = find, resolve, conditions

    def create(self, request: Record) -> Answer:
        """The stock change set, and one for each nested stack in it when these are asked for."""
        answer = self._stock["CreateChangeSet"](request)
        if answer[0] != 200:
            return answer
        record = self._change_sets[_id_in(answer)]
        self._heed_conditions(record)
        if _value(request, "IncludeNestedStacks").lower() != "true":
            return answer
        record["_nested"] = {}
        for change in record["Changes"]:
            one = change["ResourceChange"]
            if one["ResourceType"] == STACK and one["Action"] in ("Add", "Modify"):
                self._nest(record, one["LogicalResourceId"], one.get("PhysicalResourceId"))
        return answer

    def describe(self, request: Record) -> Answer:
        """The stock answer, with the ids of the nested change sets in it."""
        status, headers, body = self._stock["DescribeChangeSet"](request)
        _, record = self._find(_value(request, "ChangeSetName"), _value(request, "StackName"))
        text = body.decode()
        for logical_id, change_set in ((record or {}).get("_nested") or {}).items():
            place = f"<LogicalResourceId>{logical_id}</LogicalResourceId>"
            text = text.replace(place, f"{place}<ChangeSetId>{change_set}</ChangeSetId>", 1)
        return status, headers, text.encode()

    def delete(self, request: Record) -> Answer:
        """The whole tree, with the stacks that stood only to be reviewed."""
        _, record = self._find(_value(request, "ChangeSetName"), _value(request, "StackName"))
        for change_set in ((record or {}).get("_nested") or {}).values():
            child = self._change_sets.get(change_set)
            self.delete({"ChangeSetName": [change_set]})
            if child and child["ChangeSetType"] == "CREATE":
                self._stacks.pop(child["StackName"], None)
        return self._stock["DeleteChangeSet"](request)

    def _heed_conditions(self, change_set: Record) -> None:
        """Add what a condition lets in, and remove what it leaves out; stock compares the templates' texts alone."""
        template = change_set["_template"]["Resources"]
        standing = self._stacks[change_set["StackName"]]["_resources"]
        conditions = self._conditions(change_set["_template"], change_set["_resolved_params"])
        wanted = {name for name, one in template.items() if conditions.get(one.get("Condition"), True)}
        listed = {one["ResourceChange"]["LogicalResourceId"]: one["ResourceChange"] for one in change_set["Changes"]}
        for name in sorted(wanted ^ set(standing)):
            one = listed.setdefault(name, {"LogicalResourceId": name})
            one["Action"] = "Add" if name in wanted else "Remove"
            one["ResourceType"] = (template.get(name) or {"Type": standing.get(name, {}).get("ResourceType")})["Type"]
            if name in standing:
                one["PhysicalResourceId"] = standing[name]["PhysicalResourceId"]
        change_set["Changes"] = [
            {"ResourceChange": listed[name]} for name in sorted(listed) if name in wanted or name in standing
        ]
        if change_set["Changes"] and change_set["Status"] == "FAILED":
            change_set |= {"Status": "CREATE_COMPLETE", "ExecutionStatus": "AVAILABLE", "StatusReason": ""}
        if not change_set["Changes"]:
            self._fail(change_set, UNCHANGED)

    def _nest(self, parent: Record, logical_id: str, stack_id: str | None) -> None:
        properties = self._properties(parent, logical_id)
        suffix = f"-{logical_id}-{uuid.uuid4().hex[:12].upper()}"
        answer = self.create(
            {
                "StackName": [stack_id or parent["StackName"][: NAME_LENGTH - len(suffix)] + suffix],
                "ChangeSetName": [f"{parent['ChangeSetName']}-{logical_id}"],
                "ChangeSetType": ["UPDATE" if stack_id else "CREATE"],
                "TemplateURL": [properties["TemplateURL"]],
                "IncludeNestedStacks": ["true"],
                **{f"Capabilities.member.{at}": [one] for at, one in enumerate(parent["Capabilities"], 1)},
                **{
                    f"Parameters.member.{at}.{field}": [text]
                    for at, (name, value) in enumerate((properties.get("Parameters") or {}).items(), 1)
                    for field, text in (("ParameterKey", name), ("ParameterValue", _as_text(value)))
                },
            }
        )
        if answer[0] != 200:
            self._fail(parent, f"Nested stack {logical_id}: {_message_in(answer)}")
            return
        child = self._change_sets[_id_in(answer)]
        parent["_nested"][logical_id] = child["ChangeSetId"]
        if child["Status"] == "FAILED" and child["StatusReason"] != UNCHANGED:
            failed = child["ChangeSetId"]
            self._fail(parent, f"Nested change set {failed} was not successfully created: Currently in FAILED.")

    def _properties(self, change_set: Record, logical_id: str) -> Record:
        """The nested stack's properties as they are known before the deployment."""
        template = change_set["_template"]
        stack = self._stacks[change_set["StackName"]]
        properties = template["Resources"][logical_id]["Properties"]
        given = {
            name: self._known(value, change_set, stack, template)
            for name, value in (properties.get("Parameters") or {}).items()
        }
        return {"TemplateURL": properties["TemplateURL"], "Parameters": given}

    def _known(self, value: Any, change_set: Record, stack: Record, template: Record) -> Any:
        try:
            return self._resolve(
                value,
                stack["_resources"],
                change_set["_resolved_params"],
                stack["_conditions"],
                template.get("Mappings", {}),
                stack["StackName"],
                stack["StackId"],
            )
        except (KeyError, ValueError):
            return UNKNOWN

    @staticmethod
    def _fail(change_set: Record, reason: str) -> None:
        change_set |= {"Status": "FAILED", "ExecutionStatus": "UNAVAILABLE", "StatusReason": reason}


def _value(request: Record, name: str) -> str:
    return str((request.get(name) or [""])[0])


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return UNKNOWN if isinstance(value, dict | list) else str(value)


def _id_in(answer: Answer) -> str:
    return str(re.findall(r"<Id>(.*?)</Id>", answer[2].decode())[0])


def _message_in(answer: Answer) -> str:
    return str(re.findall(r"<Message>(.*?)</Message>", answer[2].decode(), re.DOTALL)[0])
