"""Drift on a schedule: the machine of ``cicd/drift.yaml``, deployed by sam, looks at real stacks and tells a topic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tarn import templates
from tarn.local import emulator as local
from tarn.local.emulator import Emulator
from tests.integration.local_world import Stacks, client_of

TARGET = "tarn-test"
TEMPLATE = """
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties: { VisibilityTimeout: 30 }
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator whose waits are immediate."""
    folder = tmp_path_factory.mktemp("drift")
    yield local.start(folder, options={"SFN_WAIT_SCALE": "0"})
    local.stop(folder, purge=True)


@pytest.fixture(scope="module")
def client(own: Emulator) -> Callable[[str], Any]:
    """Clients of it."""
    return cache(lambda service: client_of(own, service))


@pytest.fixture(scope="module")
def stacks(own: Emulator, client: Callable[[str], Any]) -> Stacks:
    """Stacks of it."""
    return Stacks(own, client)


@pytest.fixture(scope="module")
def machine(stacks: Stacks, client: Callable[[str], Any]) -> str:
    """The drift stack of an environment that has one stack, and a topic and a key in its contract."""
    topic = client("sns").create_topic(Name="operations")["TopicArn"]
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    names = {"TopicArn": "/tarn/test/foundations/operations-topic/arn", "KeyArn": "/tarn/test/foundations/key/arn"}
    for name, value in zip(names.values(), (topic, key), strict=True):
        client("ssm").put_parameter(Name=name, Value=value, Type="String")
    stacks.create(TEMPLATE, TARGET)
    stacks.create(TEMPLATE, "tarn-testing")
    done = stacks.sam_deploy(
        str(templates.ROOT / "cicd" / "drift.yaml"), "tarn-test-drift", EnvironmentName="test", **names
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(stacks.settled("tarn-test-drift")["Values"]["DetectDriftStateMachineArn"])


def listener(client: Callable[[str], Any]) -> str:
    """A queue that hears what the topic is told."""
    url = client("sqs").create_queue(QueueName=f"listener-{time.monotonic_ns()}")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [allow | {"Resource": arn}]}
    client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    topic = client("sns").create_topic(Name="operations")["TopicArn"]
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return str(url)


def run(client: Callable[[str], Any], machine: str) -> dict[str, Any]:
    """Start the machine and wait for its end: what it answers."""
    arn = client("stepfunctions").start_execution(stateMachineArn=machine, input="{}")["executionArn"]
    until = time.monotonic() + 120
    while (found := client("stepfunctions").describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < until
        time.sleep(0.5)
    assert found["status"] == "SUCCEEDED", (found.get("error"), found.get("cause"))
    return dict(json.loads(found["output"]))


def test_what_was_changed_by_hand_is_told(machine: str, client: Callable[[str], Any], stacks: Stacks) -> None:
    heard = listener(client)
    as_written = run(client, machine)
    assert (as_written["asked"], as_written["differing"]) == (2, []), "tarn-testing is somebody else's"
    queue = stacks.api.describe_stack_resources(StackName=TARGET)["StackResources"][0]["PhysicalResourceId"]
    client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "77"})
    assert run(client, machine)["differing"] == [{"stack": TARGET, "outcome": "1 resources differ"}]
    [message] = client("sqs").receive_message(QueueUrl=heard, WaitTimeSeconds=5)["Messages"]
    told = json.loads(message["Body"])
    assert told["Subject"] == "tarn-test: 1 stacks are not what their templates say"
    assert "tarn-test: 1 resources differ" in told["Message"]


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("ListStacks", "its stacks could not be listed: "),
        ("DetectStackDrift", "could not be asked: "),
        ("DescribeStackDriftDetectionStatus", "could not be asked: "),
    ],
)
def test_what_cannot_be_asked_is_told(machine: str, client: Callable[[str], Any], action: str, told: str) -> None:
    role = client("stepfunctions").describe_state_machine(stateMachineArn=machine)["roleArn"].rpartition("/")[2]
    deny = {"Effect": "Deny", "Action": f"cloudformation:{action}", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    client("iam").put_role_policy(RoleName=role, PolicyName="deny", PolicyDocument=policy)
    heard = listener(client)
    try:
        differing = run(client, machine)["differing"]
    finally:
        client("iam").delete_role_policy(RoleName=role, PolicyName="deny")
    assert [one["stack"] for one in differing].count(TARGET) == 1
    assert all(one["outcome"].startswith(told) and action in one["outcome"] for one in differing), differing
    [message] = client("sqs").receive_message(QueueUrl=heard, WaitTimeSeconds=5)["Messages"]
    assert told in json.loads(message["Body"])["Message"]
