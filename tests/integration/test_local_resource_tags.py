"""Tags in conditions: stock MiniStack 1.5.33 has none for a boundary, for machines and jobs, or within the process."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local_world import Roles, Stacks, allowing, policy

Client = Callable[[str], Any]
NOTHING_OF_ANOTHER = {
    "Effect": "Deny",
    "Action": "*",
    "Resource": "*",
    "Condition": {
        "StringNotEquals": {"aws:ResourceTag/tarn:team": "blue"},
        "Null": {"aws:ResourceTag/tarn:team": "false"},
    },
}
CHILD = {
    "Resources": {
        "Machine": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "RoleArn": {"Ref": "RoleArn"},
                "Definition": {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}},
            },
        },
        "Job": {
            "Type": "AWS::Glue::Job",
            "Properties": {
                "Role": {"Ref": "RoleArn"},
                "GlueVersion": "5.1",
                "Command": {"Name": "glueetl", "ScriptLocation": "s3://nowhere/main.py"},
            },
        },
        "Queue": {"Type": "AWS::SQS::Queue"},
    },
    "Parameters": {"RoleArn": {"Type": "String"}},
    "Outputs": {
        "MachineArn": {"Value": {"Ref": "Machine"}},
        "JobName": {"Value": {"Ref": "Job"}},
        "QueueUrl": {"Value": {"Ref": "Queue"}},
    },
}


@pytest.fixture(scope="module", params=["blue", "red", None])
def things(request: pytest.FixtureRequest, stacks: Stacks, roles: Roles) -> Iterator[tuple[bool, dict[str, str]]]:
    """A nested stack that is tagged with a team, or with none; and whether blue may reach what is in it."""
    trusted = {"Service": ["states.amazonaws.com", "glue.amazonaws.com"]}
    trust = {"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"}
    role = roles.create()
    stacks.client("iam").update_assume_role_policy(RoleName=role.rpartition("/")[2], PolicyDocument=policy(trust))
    s3, bucket = stacks.client("s3"), f"templates-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=bucket, Key="child.json", Body=json.dumps(CHILD).encode())
    properties: dict[str, Any] = {
        "TemplateURL": f"{s3.meta.endpoint_url}/{bucket}/child.json",
        "Parameters": {"RoleArn": role},
    }
    if request.param:
        properties["Tags"] = [{"Key": "tarn:team", "Value": request.param}]
    names = ("MachineArn", "JobName", "QueueUrl")
    parent = {
        "Resources": {"Child": {"Type": "AWS::CloudFormation::Stack", "Properties": properties}},
        "Outputs": {name: {"Value": {"Fn::GetAtt": ["Child", f"Outputs.{name}"]}} for name in names},
    }
    created = stacks.create(json.dumps(parent))
    assert created["StackStatus"] == "CREATE_COMPLETE", created["Reasons"]
    yield request.param != "red", created["Values"]
    stacks.delete(created["StackName"])


CALLS: dict[str, tuple[str, str, Callable[[dict[str, str]], dict[str, Any]]]] = {
    "machine": ("stepfunctions", "describe_state_machine", lambda of: {"stateMachineArn": of["MachineArn"]}),
    "job": ("glue", "get_job", lambda of: {"JobName": of["JobName"]}),
    "queue": ("sqs", "get_queue_attributes", lambda of: {"QueueUrl": of["QueueUrl"], "AttributeNames": ["All"]}),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_boundary_by_tag_bounds(client: Client, roles: Roles, things: tuple[bool, dict[str, str]], kind: str) -> None:
    is_allowed, values = things
    name = f"by-tag-{uuid.uuid4().hex[:8]}"
    document = policy(allowing("*"), NOTHING_OF_ANOTHER)
    boundary = client("iam").create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"]
    role = roles.create(allowing("*"), PermissionsBoundary=boundary)
    service, operation, arguments = CALLS[kind]
    call = getattr(roles.client(role, service), operation)
    if is_allowed:
        call(**arguments(values))
    else:
        with pytest.raises(ClientError, match="AccessDenied"):
            call(**arguments(values))


def test_a_state_machines_task_is_bounded_too(
    client: Client, roles: Roles, things: tuple[bool, dict[str, str]]
) -> None:
    """Its calls are made within the process, where we decide."""
    is_allowed, values = things
    role = roles.create(allowing("*"), NOTHING_OF_ANOTHER, service="states.amazonaws.com")
    tell = {"Type": "Task", "End": True, "Resource": "arn:aws:states:::sqs:sendMessage"}
    tell["Parameters"] = {"QueueUrl": values["QueueUrl"], "MessageBody": "1"}
    definition = json.dumps({"StartAt": "Tell", "States": {"Tell": tell}})
    machine = client("stepfunctions").create_state_machine(
        name=f"teller-{uuid.uuid4().hex[:8]}", type="EXPRESS", roleArn=role, definition=definition
    )["stateMachineArn"]
    ended = client("stepfunctions").start_sync_execution(stateMachineArn=machine, input="{}")
    assert ended["status"] == ("SUCCEEDED" if is_allowed else "FAILED"), ended
