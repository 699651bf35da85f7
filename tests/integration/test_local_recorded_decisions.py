"""What roles ask for is written down when it is asked for; stock MiniStack 1.5.33 decides and forgets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tarn.local import emulator as local
from tarn.local.emulator import Emulator
from tests.integration.local_world import Roles, Stacks, allowing, client_of

HANDLER = """
import boto3
def handler(event, context):
    for table in event:
        try:
            boto3.client("dynamodb").get_item(TableName=table, Key={"id": {"S": "one"}})
        except Exception:
            pass
"""
TABLE = "arn:aws:dynamodb:eu-west-1:000000000000:table/"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("recording")
    yield local.start(folder, options={"TARN_RECORD_DECISIONS": "1"})
    local.stop(folder, purge=True)


def _client(emulator: Emulator) -> Any:
    return cache(lambda service: client_of(emulator, service))


def _function_that_reads_one_table_of_two(emulator: Emulator) -> tuple[Stacks, str, str]:
    """A function of a role that may read the table ``open`` alone: stacks, its name, its role."""
    client = _client(emulator)
    stacks = Stacks(emulator, client)
    role = Roles(emulator, client).create(allowing("dynamodb:*", resource=f"{TABLE}open"))
    properties = {"Runtime": "python3.13", "Handler": "index.handler", "Role": role, "Code": {"ZipFile": HANDLER}}
    template = {"Resources": {"Reader": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
    template["Outputs"] = {"Name": {"Value": {"Ref": "Reader"}}}
    created = stacks.create(json.dumps(template))
    assert created["StackStatus"] == "CREATE_COMPLETE", created["Reasons"]
    return stacks, created["Values"]["Name"], role


def _recorded(emulator: Emulator, role: str) -> list[dict[str, Any]]:
    path: Path = emulator.settings.decisions_path
    lines = map(json.loads, path.read_text().splitlines())
    return [one for one in lines if one["role"] == role]


def test_each_question_of_a_function_is_written_once_with_its_answer(recording: Emulator) -> None:
    stacks, function, role = _function_that_reads_one_table_of_two(recording)
    for _ in range(2):
        stacks.client("lambda").invoke(FunctionName=function, Payload=json.dumps(["open", "closed", "open"]))
    assert [(one["action"], one["resource"], one["allowed"]) for one in _recorded(recording, role)] == [
        ("dynamodb:GetItem", f"{TABLE}open", True),
        ("dynamodb:GetItem", f"{TABLE}closed", False),
    ]


def test_a_question_has_the_condition_keys_of_its_request(recording: Emulator) -> None:
    stacks, function, role = _function_that_reads_one_table_of_two(recording)
    stacks.client("dynamodb").create_table(
        TableName="open",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    stacks.client("lambda").invoke(FunctionName=function, Payload=json.dumps(["open"]))
    assert [one["context"]["dynamodb:LeadingKeys"] for one in _recorded(recording, role)] == [["one"]]


def test_the_questions_of_a_state_machines_tasks_are_written_too(recording: Emulator) -> None:
    client = _client(recording)
    role = Roles(recording, client).create(allowing("sqs:SendMessage"), service="states.amazonaws.com")
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    url = client("sqs").create_queue(QueueName="told", Attributes={"KmsMasterKeyId": key})["QueueUrl"]
    tell = {"Type": "Task", "End": True, "Resource": "arn:aws:states:::sqs:sendMessage"}
    tell["Parameters"] = {"QueueUrl": url, "MessageBody": "1"}
    machine = client("stepfunctions").create_state_machine(
        name="teller",
        type="EXPRESS",
        roleArn=role,
        definition=json.dumps({"StartAt": "Tell", "States": {"Tell": tell}}),
    )["stateMachineArn"]
    client("stepfunctions").start_sync_execution(stateMachineArn=machine, input="{}")
    asked = {(one["action"], one["allowed"]) for one in _recorded(recording, role)}
    assert asked == {("sqs:SendMessage", True), ("kms:GenerateDataKey", False)}


def test_who_takes_a_role_over_sts_is_not_its_service(recording: Emulator) -> None:
    roles = Roles(recording, _client(recording))
    role = roles.create(allowing("s3:ListAllMyBuckets"))
    roles.client(role, "s3").list_buckets()
    with pytest.raises(ClientError):
        roles.client(role, "sqs").list_queues()
    assert _recorded(recording, role) == []


def test_nothing_is_written_unless_asked(emulator: Emulator, client: Any) -> None:
    stacks, function, _ = _function_that_reads_one_table_of_two(emulator)
    stacks.client("lambda").invoke(FunctionName=function, Payload=json.dumps(["open"]))
    assert not emulator.settings.decisions_path.exists()
