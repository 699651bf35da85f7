"""What a deployment would do to a standing stack, asked of CloudFormation itself: a change set of the whole tree.

`sam deploy` shows a nested stack as "Modify" and nothing of what is in it, so the change set is made here with
``IncludeNestedStacks``, read to its leaves, and deleted. Where CloudFormation refuses such a change set (a nested
template may not take the placeholder of a value that only the deployment will know), the templates of all nested
stacks are compared with the packaged ones instead, and the answer says so.

Sources: CloudFormation user guide, "Change sets for nested stacks"; CreateChangeSet, DescribeChangeSet, GetTemplate.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from botocore.exceptions import ClientError

from tarn import assets, changes, losses, resource_schemas, safeguards, templates
from tarn.changes import ADDED, CHANGED, MAY_BE_REPLACED, MAY_CHANGE, REMOVED, REPLACED, Change
from tarn.safeguards import STACK

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.literals import CapabilityType, TemplateStageType

CAPABILITIES: tuple[CapabilityType, ...] = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
NOTHING = ("didn't contain changes", "No updates are to be performed")
NOT_STANDING = ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "DELETE_COMPLETE")
POLL_SECONDS = 1.0
RETAINED = ("Retain", "RetainExceptOnCreate")
KEPT = ("Retain", "ReplaceAndRetain")
FOLDER_OF_PACKAGES = re.compile(r'"(?:s3://[^/"]+/)?(?:packages|diff)/(?:[^/"]+/)*')
"""Of a key or URI in a template's JSON."""
NESTED = re.compile(r"Nested change set (arn:\S+)")


class PreviewError(Exception):
    """CloudFormation refuses the deployment before it begins; nothing has changed. The message is its reason."""


@dataclass(frozen=True)
class Target:
    """What would be deployed: a packaged template, in the bucket that its nested ones are in, and its parameters."""

    environment: str
    stack: str
    template: Path
    bucket: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Preview:
    """The leaves that would change, and what a reader must know about how they were found."""

    stack: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    is_new: bool = False

    def text(self) -> str:
        """For a terminal."""
        return self._new() or changes.as_text(self.stack, self.changes, self.notes)

    def markdown(self) -> str:
        """For an approval."""
        return self._new() or changes.as_markdown(self.stack, self.changes, self.notes)

    def _new(self) -> str:
        return f"{self.stack} does not stand yet: everything in it is new." if self.is_new else ""


def stands(cloudformation: CloudFormationClient, stack: str) -> bool:
    """Whether there is a stack that an update can change."""
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return False
        raise
    return found["StackStatus"] not in NOT_STANDING


def of(session: boto3.Session, target: Target) -> Preview:
    """What deploying ``target`` would change; nothing is changed by asking.

    Raises:
        PreviewError: the deployment itself would be refused.
    """
    cloudformation = session.client("cloudformation")
    if not stands(cloudformation, target.stack):
        return Preview(target.stack, (), is_new=True)
    key = f"{assets.package_prefix()}/{target.stack}-preview.template"
    session.client("s3").upload_file(str(target.template), target.bucket, key)
    url = f"{_folder_of_templates(session, target)}/{key}"
    try:
        found = tuple(_ask(cloudformation, target, url, nested=True))
    except PreviewError as refused:
        # A deployment that is wrong is refused without the nested stacks as well: that is no preview's trouble.
        for _ in _ask(cloudformation, target, url, nested=False):
            pass
        return _compare(session, target, str(refused))
    if all(one.verb == MAY_CHANGE for one in found):
        found = ()  # what they refer to does not change
    return Preview(target.stack, losses.with_what_they_hold(session, target.environment, found))


def _folder_of_templates(session: boto3.Session, target: Target) -> str:
    """Where CloudFormation reads the bucket: as sam wrote it for the nested templates."""
    content = templates.parse(target.template.read_text(encoding="utf-8"))
    urls = [one["Properties"]["TemplateURL"] for one in content["Resources"].values() if one["Type"] == STACK]
    if urls:
        return str(urls[0]).split(f"/{target.bucket}/", 1)[0] + f"/{target.bucket}"
    return f"https://s3.{session.region_name}.amazonaws.com/{target.bucket}"


def _ask(cloudformation: CloudFormationClient, target: Target, url: str, *, nested: bool) -> Iterator[Change]:
    """Make a change set, read it, delete it."""
    name = f"tarn-preview-{uuid.uuid4().hex[:12]}"
    try:
        made = cloudformation.create_change_set(
            StackName=target.stack,
            ChangeSetName=name,
            ChangeSetType="UPDATE",
            TemplateURL=url,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in target.parameters.items()],
            Capabilities=CAPABILITIES,
            IncludeNestedStacks=nested,
        )["Id"]
    except ClientError as error:
        raise PreviewError(error.response["Error"].get("Message", str(error))) from None
    try:
        yield from _leaves(cloudformation, made, ())
    finally:
        cloudformation.delete_change_set(ChangeSetName=made)


def _leaves(cloudformation: CloudFormationClient, change_set: str, path: tuple[str, ...]) -> Iterator[Change]:
    """The changes of a change set and of those nested in it.

    Raises:
        PreviewError: it failed for another reason than that there is nothing to change.
    """
    found, listed = _settled(cloudformation, change_set)
    if found["Status"] == "FAILED":
        reason = found.get("StatusReason", "")
        if any(one in reason for one in NOTHING):
            return
        if (culprit := NESTED.search(reason)) and culprit[1] != change_set:
            yield from _leaves(cloudformation, culprit[1], path)
        raise PreviewError(reason)
    for one in _without_moved_packages(cloudformation, found, listed):
        place = (*path, one["LogicalResourceId"])
        if one["ResourceType"] != STACK:
            yield _change(one, "/".join(place))
        elif one.get("ChangeSetId"):
            yield from _leaves(cloudformation, one["ChangeSetId"], place)
        elif one["Action"] == "Remove":
            yield from _of_removed_stack(cloudformation, one["PhysicalResourceId"], place)


def _settled(cloudformation: CloudFormationClient, change_set: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The change set once it is there, and all its changes."""
    while True:
        found: Any = cloudformation.describe_change_set(ChangeSetName=change_set)
        if found["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            break
        time.sleep(POLL_SECONDS)
    listed = [one["ResourceChange"] for one in found.get("Changes", [])]
    page = found
    while token := page.get("NextToken"):
        page = cloudformation.describe_change_set(ChangeSetName=change_set, NextToken=token)
        listed += [one["ResourceChange"] for one in page.get("Changes", [])]
    return found, listed


def _without_moved_packages(
    cloudformation: CloudFormationClient, found: Mapping[str, Any], listed: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The changes without those that only name another folder for the same bytes.

    A preview may have to package elsewhere than a deployment does (`assets.package_prefix`), and every function would
    seem to change. A package's name is its hash.
    """
    if assets.package_prefix() == assets.PACKAGES:
        return listed
    before = _resources(cloudformation, found["StackId"], "Processed")
    after = _resources(cloudformation, found["StackId"], "Processed", found["ChangeSetId"])
    moved = {one["LogicalResourceId"] for one in listed if _is_moved(one, before, after)}
    while followers := {one["LogicalResourceId"] for one in listed if _follows(one, moved)} - moved:
        moved |= followers
    return [one for one in listed if one["LogicalResourceId"] not in moved]


def _is_moved(change: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether all that differs in a resource is where its packages are."""
    name = change["LogicalResourceId"]
    if change["ResourceType"] == STACK or change["Action"] != "Modify":
        return False
    old, new = json.dumps(before[name], sort_keys=True), json.dumps(after[name], sort_keys=True)
    return old != new and FOLDER_OF_PACKAGES.sub('"', old) == FOLDER_OF_PACKAGES.sub('"', new)


def _follows(change: Mapping[str, Any], moved: set[str]) -> bool:
    """Whether a resource only refers to what has moved."""
    causes = [one.get("CausingEntity", "").split(".")[0] for one in change.get("Details", [])]
    return bool(causes) and set(causes) <= moved


def _change(told: Mapping[str, Any], path: str) -> Change:
    """One resource's change as CloudFormation tells it."""
    if told["Action"] in ("Add", "Import"):
        return Change(path, told["ResourceType"], ADDED)
    policy = told.get("PolicyAction")
    keeps = policy in KEPT if policy else None
    if told["Action"] == "Remove":
        return Change(path, told["ResourceType"], REMOVED, (), keeps, told.get("PhysicalResourceId", ""))
    verb = {"True": REPLACED, "Conditional": MAY_BE_REPLACED}.get(told.get("Replacement", "False"), CHANGED)
    details = told.get("Details", [])
    if verb == CHANGED and details and all(one.get("Evaluation") == "Dynamic" for one in details):
        verb = MAY_CHANGE  # it refers to something that changes, whose value may stay the same
    targets = [one["Target"] for one in details]
    properties = dict.fromkeys(one.get("Name") or one.get("Attribute", "") for one in targets)
    named = tuple(name for name in properties if name)
    return Change(path, told["ResourceType"], verb, named, keeps, told.get("PhysicalResourceId", ""))


def _of_removed_stack(cloudformation: CloudFormationClient, stack_id: str, path: tuple[str, ...]) -> Iterator[Change]:
    """Every resource of a nested stack that goes; a change set does not look into it."""
    for nested in safeguards.tree(cloudformation, stack_id, path):
        definitions = _resources(cloudformation, nested.stack_id, "Processed")
        for one in nested.resources:
            if one["ResourceType"] != STACK:
                place = "/".join((*nested.path, one["LogicalResourceId"]))
                keeps = definitions[one["LogicalResourceId"]].get("DeletionPolicy") in RETAINED
                yield Change(place, one["ResourceType"], REMOVED, (), keeps, one.get("PhysicalResourceId", ""))


def _resources(
    cloudformation: CloudFormationClient, stack: str, stage: TemplateStageType, change_set: str | None = None
) -> dict[str, Any]:
    """The resources of a stack's template, or of a change set's that it has."""
    which: Any = {"ChangeSetName": change_set} if change_set else {}
    body: Any = cloudformation.get_template(StackName=stack, TemplateStage=stage, **which)["TemplateBody"]
    content = body if isinstance(body, dict) else templates.parse(body)
    return dict(content["Resources"])


def _compare(session: boto3.Session, target: Target, refusal: str) -> Preview:
    """What differs between the templates that stand and the packaged ones, and between the root's parameters.

    Both are compared as packaged: SAM's own translation of the one, of another day, would differ from that of the
    other without anybody having changed a line.
    """
    cloudformation = session.client("cloudformation")
    standing = {one.path: one for one in safeguards.tree(cloudformation, target.stack)}
    packaged = dict(_packaged(session, templates.parse(target.template.read_text(encoding="utf-8")), ()))
    found: list[Change] = []
    for path in sorted({*standing, *packaged}):
        old = _resources(cloudformation, standing[path].stack_id, "Original") if path in standing else {}
        physical = {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
            for one in (standing[path].resources if path in standing else ())
        }
        found += _differences(path, old, packaged.get(path, {}), physical)
    before = {
        one["ParameterKey"]: one.get("ParameterValue", "")
        for one in cloudformation.describe_stacks(StackName=target.stack)["Stacks"][0].get("Parameters", [])
    }
    notes = [
        f"CloudFormation refuses a change set of the nested stacks ({refusal}). The templates were compared instead: "
        "what a changed value changes further on is not seen, and a condition may leave a resource out."
    ]
    notes += [
        f"Parameter {name}: {before.get(name, '(new)')} -> {value}"
        for name, value in target.parameters.items()
        if before.get(name) != value
    ]
    return Preview(target.stack, losses.with_what_they_hold(session, target.environment, found), tuple(notes))


def _packaged(
    session: boto3.Session, content: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The resources of a packaged template and of all that it nests, by the path of the nested stack."""
    yield path, dict(content["Resources"])
    for name, one in content["Resources"].items():
        if one["Type"] == STACK:
            bucket, _, key = urlparse(one["Properties"]["TemplateURL"]).path.lstrip("/").partition("/")
            body = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
            yield from _packaged(session, templates.parse(body), (*path, name))


def _differences(
    path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any], physical: Mapping[str, str]
) -> Iterator[Change]:
    """The leaves that two versions of a template do not share."""
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        one = after or before or {}
        if before == after or one["Type"] == STACK:
            continue
        place, policy = "/".join((*path, name)), (before or {}).get
        if before is None:
            yield Change(place, one["Type"], ADDED)
        elif after is None:
            yield Change(place, one["Type"], REMOVED, (), policy("DeletionPolicy") in RETAINED, physical.get(name, ""))
        else:
            properties = _changed(before.get("Properties", {}), after.get("Properties", {}))
            if before["Type"] != after["Type"]:
                verb = REPLACED
            else:
                always, sometimes = resource_schemas.replacing(one["Type"]) or (frozenset(), frozenset())
                verb = MAY_BE_REPLACED if properties & (always | sometimes) else CHANGED
            keeps = policy("UpdateReplacePolicy") in RETAINED if verb != CHANGED else None
            yield Change(place, one["Type"], verb, tuple(sorted(properties)), keeps, physical.get(name, ""))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
