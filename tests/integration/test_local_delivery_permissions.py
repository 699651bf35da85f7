"""What a service delivers, it must be allowed to deliver: stock MiniStack 1.5.33 asks nobody here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.local_world import TEMPLATES, Stacks, allowing, policy, until

Client = Callable[[str], Any]
TEMPLATE = (TEMPLATES / "deliveries.yaml").read_text()


@pytest.fixture(scope="module", params=["yes", "no"])
def delivered(request: pytest.FixtureRequest, stacks: Stacks, client: Client) -> Iterator[tuple[bool, dict[str, str]]]:
    """A stack with or without permissions, after its event."""
    created = stacks.create(TEMPLATE, IsPermitted=request.param)
    assert created["StackStatus"] == "CREATE_COMPLETE", created["Reasons"]
    client("events").put_events(Entries=[{"Source": "deliveries", "DetailType": "x", "Detail": "{}"}])
    if request.param == "no":
        time.sleep(2)  # what must not come has had the time to
    yield request.param == "yes", created["Values"]
    stacks.delete(created["StackName"])


def _has_message(client: Client, url: str) -> bool:
    return bool(client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"))


LOOKS: dict[str, Callable[[Client, dict[str, str]], Any]] = {
    "function": lambda client, of: client("dynamodb").scan(TableName=of["TableName"])["Items"],
    "queue": lambda client, of: _has_message(client, of["QueueUrl"]),
    "topic": lambda client, of: _has_message(client, of["TopicQueueUrl"]),
    "machine": lambda client, of: client("stepfunctions").list_executions(stateMachineArn=of["StateMachineArn"])[
        "executions"
    ],
}


@pytest.mark.parametrize("target", LOOKS)
def test_a_rule_reaches_a_target_whose_policy_admits_it(
    client: Client, delivered: tuple[bool, dict[str, str]], target: str
) -> None:
    is_permitted, values = delivered
    if is_permitted:
        assert until(lambda: LOOKS[target](client, values))
    else:
        assert not LOOKS[target](client, values)


def test_a_mapping_whose_function_may_not_delete_is_not_created(stacks: Stacks) -> None:
    refused = stacks.create(TEMPLATE, IsPermitted="no", MayPoll="no")
    assert refused["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "does not have permissions to read the queue" in refused["Reasons"][0]
    assert "sqs:DeleteMessage" in refused["Reasons"][0]


def test_a_mapping_stops_when_its_role_loses_the_permission(client: Client, stacks: Stacks) -> None:
    created = stacks.create(TEMPLATE, IsPermitted="no")
    values = created["Values"]

    def waiting() -> int:
        counts = client("sqs").get_queue_attributes(QueueUrl=values["PolledQueueUrl"], AttributeNames=["All"])
        return int(counts["Attributes"]["ApproximateNumberOfMessages"])

    client("sqs").send_message(QueueUrl=values["PolledQueueUrl"], MessageBody="1")
    assert until(lambda: waiting() == 0)
    document = policy(allowing("sqs:ReceiveMessage"))
    client("iam").put_role_policy(RoleName=values["PollerRoleName"], PolicyName="poll", PolicyDocument=document)
    mapping = until(
        lambda: "PROBLEM" in client("lambda").get_event_source_mapping(UUID=values["MappingId"])["LastProcessingResult"]
    )
    assert mapping
    client("sqs").send_message(QueueUrl=values["PolledQueueUrl"], MessageBody="2")
    time.sleep(2)
    assert waiting() == 1
    stacks.delete(created["StackName"])
