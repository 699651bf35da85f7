"""Three levels by the real `sam deploy`: what stock MiniStack cannot do with a nested template.

The children have the SAM transform (stock refuses their types), a machine in YAML (stock deploys it
and cannot run it) and a custom resource that answers over TLS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.local_world import Stacks, until

STACK = "nest"


@pytest.fixture(scope="module")
def deployed(stacks: Stacks) -> Iterator[dict[str, str]]:
    done = stacks.sam_deploy("nest/root.yaml", STACK, Greeting="hello")
    assert done.returncode == 0, done.stdout + done.stderr
    yield stacks.settled(STACK)["Values"]
    stacks.api.delete_stack(StackName=STACK)


def _greeting(client: Callable[[str], Any], machine: str) -> str:
    started = client("stepfunctions").start_execution(stateMachineArn=machine, input='{"name": "world"}')
    arn = started["executionArn"]
    until(lambda: client("stepfunctions").describe_execution(executionArn=arn)["status"] != "RUNNING")
    return str(client("stepfunctions").describe_execution(executionArn=arn).get("output"))


def _rows(client: Callable[[str], Any], table: str) -> set[str]:
    return {item["id"]["S"] for item in client("dynamodb").scan(TableName=table)["Items"]}


def test_a_definition_in_yaml_runs(client: Callable[[str], Any], deployed: dict[str, str]) -> None:
    assert json.loads(_greeting(client, deployed["StateMachineArn"])) == "hello world"


def test_an_object_reaches_the_function_through_an_encrypted_queue(
    client: Callable[[str], Any], deployed: dict[str, str]
) -> None:
    client("s3").put_object(Bucket=deployed["LandingBucketName"], Key="landed.csv", Body=b"x")
    assert until(lambda: "landed.csv" in _rows(client, deployed["CopiesTableName"]))


def test_a_rule_fires_its_function(client: Callable[[str], Any], deployed: dict[str, str]) -> None:
    client("events").put_events(Entries=[{"Source": "nest", "DetailType": "tick", "Detail": "{}"}])
    assert until(lambda: "tick" in _rows(client, deployed["CopiesTableName"]))


def test_an_update_reaches_the_third_level_and_one_that_fails_is_rolled_back(
    client: Callable[[str], Any], deployed: dict[str, str], stacks: Stacks
) -> None:
    failed = stacks.sam_deploy("nest/root.yaml", STACK, Greeting="never", BreakLeaf="yes")
    assert failed.returncode != 0
    assert "BrokenRegistration (Custom::AlwaysFails): this registration is refused on purpose" in failed.stdout
    assert stacks.settled(STACK)["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert json.loads(_greeting(client, deployed["StateMachineArn"])) == "hello world"

    done = stacks.sam_deploy("nest/root.yaml", STACK, Greeting="servus", BreakLeaf="no")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(_greeting(client, deployed["StateMachineArn"])) == "servus world"


def test_a_failed_creation_leaves_nothing(client: Callable[[str], Any], stacks: Stacks) -> None:
    """Nor the key of the child that was complete, although its policy is RetainExceptOnCreate."""
    name = "failing"
    keys = {key["KeyId"] for key in client("kms").list_keys()["Keys"] if _is_enabled(client, key["KeyId"])}
    failed = stacks.sam_deploy("failing/root.yaml", name)
    assert failed.returncode != 0
    assert "NobodysFunction (AWS::Lambda::Function): The role arn:aws:iam::000000000000:role/nobody" in failed.stdout
    assert stacks.settled(name)["StackStatus"] == "ROLLBACK_COMPLETE"
    left = [stack["StackName"] for stack in stacks.api.describe_stacks()["Stacks"]]
    assert [stack for stack in left if stack.startswith(f"{name}-")] == []
    assert {key["KeyId"] for key in client("kms").list_keys()["Keys"] if _is_enabled(client, key["KeyId"])} == keys


def _is_enabled(client: Callable[[str], Any], key: str) -> bool:
    return bool(client("kms").describe_key(KeyId=key)["KeyMetadata"]["Enabled"])


def test_a_deletion_keeps_what_is_retained(client: Callable[[str], Any], stacks: Stacks) -> None:
    assert stacks.sam_deploy("failing/root.yaml", "retained", IsBroken="no").returncode == 0
    key = stacks.settled("retained")["Values"]["KeyId"]
    assert stacks.delete("retained")["StackStatus"] == "DELETE_COMPLETE"
    assert _is_enabled(client, key)
