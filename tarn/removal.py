"""Removing a layer's stack, or a whole lake, with what it holds looked at first.

The registrar refuses to delete a pipeline with datasets and a team with pipelines, whoever asks. Here is what only a
look at the running lake can tell: messages that would be lost, batches under way, and teams that stand on foundations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from tarn import layers, losses
from tarn.again import UNDER_WAY
from tarn.contract import Contract, ContractError
from tarn.lake import Lake, Status
from tarn.safeguards import STACK
from tarn.stack_failures import newest_first

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient

POLL_SECONDS = 2.0


class RemovalError(Exception):
    """Something stands in the way, or CloudFormation did not delete the stack; the message names it and the remedy."""


@dataclass(frozen=True)
class Removal:
    """A stack that is to be deleted; ``layer`` is None for a whole lake."""

    environment: str
    layer: str | None
    place: Mapping[str, str]

    @property
    def stack(self) -> str:
        """Name of the stack."""
        if self.layer is None:
            return f"tarn-{self.environment}"
        return layers.stack_name(self.environment, self.layer, self.place)


def find(environment: str, layer: str | None, names: Mapping[str, str | None]) -> Removal:
    """The stack of a layer, or of a whole lake; nothing is changed.

    Raises:
        DeploymentError: there is no such layer, or a name is missing.
        PreconditionError: the stack is something else's.
        RemovalError: the stack is not there, or something stands in the way of its removal.
    """
    removal = Removal(environment, layer, {} if layer is None else layers.place_of(layer, names))
    cloudformation = boto3.client("cloudformation")
    if _stack_id(cloudformation, removal.stack) is None:
        whole = f"tarn-{environment}"
        hint = ""
        if layer is not None and _stack_id(cloudformation, whole) is not None:
            hint = f": the lake was deployed whole, as {whole}. Take it out of template.yaml and deploy"
        raise RemovalError(f"there is no stack {removal.stack}{hint}")
    if layer is not None:
        layers.check_stack(cloudformation, removal.stack, layer=layer, place=removal.place)
    if found := [*_protection(cloudformation, removal.stack), *_in_the_way(removal)]:
        raise RemovalError(f"{removal.stack} cannot be removed yet:\n" + "\n".join(f"  - {one}" for one in found))
    return removal


def remove(removal: Removal, say: Callable[[str], None] = print) -> list[str]:
    """Delete the stack and follow it to its end; gives what it left behind.

    Raises:
        RemovalError: a resource was not deleted, with its reason.
    """
    cloudformation = boto3.client("cloudformation")
    stack_id = _stack_id(cloudformation, removal.stack)
    if stack_id is None:
        raise RemovalError(f"there is no stack {removal.stack}")
    is_dataset = removal.layer == "dataset"
    data = losses.data_of(removal.environment, removal.place["team"], removal.place["dataset"]) if is_dataset else []
    tree = [stack_id, *_nested(cloudformation, stack_id)]
    seen = {event["EventId"] for one in tree for event in islice(newest_first(cloudformation, one), 1)}
    cloudformation.delete_stack(StackName=stack_id)
    kept: list[str] = []
    failures: list[str] = []
    while True:
        ended = cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"]
        for event in [event for one in tree for event in _new_events(cloudformation, one, seen)]:
            seen.add(event["EventId"])
            if event["ResourceStatus"] == "DELETE_IN_PROGRESS":
                continue
            what = f"{event['ResourceType']} {event['LogicalResourceId']}"
            say(f"{event['ResourceStatus']} {what}")
            if event["ResourceStatus"] == "DELETE_SKIPPED":
                kept.append(f"{event['ResourceType']} {event['PhysicalResourceId']}")
            elif event["ResourceStatus"] == "DELETE_FAILED" and event["ResourceType"] != STACK:
                failures.append(f"{what}: {event.get('ResourceStatusReason', 'no reason was given')}")
        if ended == "DELETE_COMPLETE":
            return kept + data
        if ended == "DELETE_FAILED":
            more = f" (and {len(failures) - 1} more resources)" if len(failures) > 1 else ""
            raise RemovalError(f"{removal.stack} was not removed: {failures[0] if failures else ended}{more}")
        time.sleep(POLL_SECONDS)


def _protection(cloudformation: CloudFormationClient, stack: str) -> Iterator[str]:
    if cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("EnableTerminationProtection"):
        yield (
            "its termination protection is on: aws cloudformation update-termination-protection "
            f"--no-enable-termination-protection --stack-name {stack}"
        )


def _in_the_way(removal: Removal) -> list[str]:
    """What stands on the layer or is under way in it, each with its remedy."""
    try:
        lake = Lake(removal.environment)
    except ContractError:
        return []  # a removal that stopped half-way: what was published is gone already
    return [
        *_standing_on(removal, lake.contract),
        *_under_way(removal, lake.status()),
    ]


def _standing_on(removal: Removal, contract: Contract) -> Iterator[str]:
    if removal.layer in (None, "dataset"):
        return
    team, pipeline = removal.place.get("team"), removal.place.get("pipeline")
    for address in contract.datasets():
        if team in (None, address.team) and pipeline in (None, address.pipeline):
            remedy = f"tarn remove --layer dataset --team {address.team} --dataset {address.dataset}"
            yield f"dataset {address} is registered: {remedy}"
    for owner, name in contract.pipelines():
        if removal.layer != "pipeline" and team in (None, owner):
            remedy = f"tarn remove --layer pipeline --team {owner} --pipeline {name}"
            yield f"pipeline {name} of team {owner} stands: {remedy}"
    if removal.layer == "foundations":
        for name in contract.teams():
            yield f"team {name} stands: tarn remove --layer team --team {name}"


def _under_way(removal: Removal, status: Status) -> Iterator[str]:
    for place, depth in status.queues.items():
        if sum(depth.values()) and _is_in(removal, place.split("/")):
            yield (
                f"{sum(depth.values())} messages are in queue {place}: wait until they are taken (tarn status), "
                "or purge the queue if they may be lost"
            )
    for batch in status.batches:
        ours = {"team": batch["team"], "dataset": batch["dataset"]}
        if batch["state"] in UNDER_WAY and all(ours.get(word, name) == name for word, name in removal.place.items()):
            where = f"{batch['team']}/{batch['dataset']}"
            yield f"batch {batch['batch_id']} of {where} is {batch['state']}: wait for its end (tarn status)"


def _is_in(removal: Removal, place: list[str]) -> bool:
    """Whether a queue's place (layer/team/pipeline/dataset/thing) is inside of what is to be removed."""
    if removal.layer is None:
        return True
    words = {"team": place[1:2], "pipeline": place[2:3], "dataset": place[3:4]}
    return place[0] == removal.layer and all(words[word] == [name] for word, name in removal.place.items())


def _stack_id(cloudformation: CloudFormationClient, name: str) -> str | None:
    try:
        return cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise


def _nested(cloudformation: CloudFormationClient, stack_id: str) -> list[str]:
    """Ids of the stacks that are nested in a stack, at any depth."""
    found: list[str] = []
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_id):
        for one in page["StackResourceSummaries"]:
            if one["ResourceType"] == STACK and one.get("PhysicalResourceId"):
                found += [one["PhysicalResourceId"], *_nested(cloudformation, one["PhysicalResourceId"])]
    return found


def _new_events(cloudformation: CloudFormationClient, stack_id: str, seen: Container[str]) -> list[Any]:
    """What came after the last event that was seen, oldest first."""
    return list(takewhile(lambda event: event["EventId"] not in seen, newest_first(cloudformation, stack_id)))[::-1]
