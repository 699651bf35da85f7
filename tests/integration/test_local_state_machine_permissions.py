"""A task may do what its machine's role may do: stock MiniStack 1.5.33 asks nobody."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.local_world import Roles, allowing, policy, until

STATES = "states.amazonaws.com"
Client = Callable[[str], Any]


@dataclass(frozen=True)
class Task:
    """A task, what it needs, and how Step Functions names the error when it is not given."""

    resource: str
    parameters: dict[str, Any]
    actions: tuple[str, ...]
    error: str


@pytest.fixture(scope="module")
def world(client: Client, roles: Roles) -> dict[str, str]:
    """Something to call in each service."""
    suffix = uuid.uuid4().hex[:8]
    definition = json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
    machine = client("stepfunctions").create_state_machine(
        name=f"inner-{suffix}", definition=definition, roleArn=roles.create(service=STATES), type="EXPRESS"
    )
    table = f"table-{suffix}"
    client("dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    client("s3").create_bucket(Bucket=f"bucket-{suffix}", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return {
        "queue": client("sqs").create_queue(QueueName=f"queue-{suffix}")["QueueUrl"],
        "topic": client("sns").create_topic(Name=f"topic-{suffix}")["TopicArn"],
        "table": table,
        "bucket": f"bucket-{suffix}",
        "function": _function(client, roles, f"function-{suffix}"),
        "machine": machine["stateMachineArn"],
    }


def _function(client: Client, roles: Roles, name: str) -> str:
    template = {
        "Resources": {
            "Function": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "FunctionName": name,
                    "Runtime": "python3.13",
                    "Handler": "index.handler",
                    "Role": roles.create(),
                    "Code": {"ZipFile": "def handler(event, context):\n    return event\n"},
                },
            }
        }
    }
    client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))
    client("cloudformation").get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    return str(client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"])


def _task(name: str, world: dict[str, str]) -> Task:
    item = {"id": {"S": "1"}}
    return {
        "sqs": Task(
            "sqs:sendMessage",
            {"QueueUrl": world["queue"], "MessageBody": "x"},
            ("sqs:SendMessage",),
            "SQS.AmazonSQSException",
        ),
        "sns": Task(
            "sns:publish", {"TopicArn": world["topic"], "Message": "x"}, ("sns:Publish",), "SNS.AmazonSNSException"
        ),
        "dynamodb": Task(
            "dynamodb:putItem",
            {"TableName": world["table"], "Item": item},
            ("dynamodb:PutItem",),
            "DynamoDB.AmazonDynamoDBException",
        ),
        "lambda": Task(
            "lambda:invoke",
            {"FunctionName": world["function"], "Payload": {}},
            ("lambda:InvokeFunction",),
            "Lambda.AWSLambdaException",
        ),
        "events": Task(
            "events:putEvents",
            {"Entries": [{"Source": "test", "DetailType": "x", "Detail": {}}]},
            ("events:PutEvents",),
            "EventBridge.AmazonEventBridgeException",
        ),
        "states": Task(
            "states:startExecution",
            {"StateMachineArn": world["machine"]},
            ("states:StartExecution",),
            "StepFunctions.AWSStepFunctionsException",
        ),
        "states.sync": Task(
            "states:startExecution.sync:2",
            {"StateMachineArn": world["machine"]},
            ("states:StartExecution", "events:PutTargets", "events:PutRule", "events:DescribeRule"),
            "StepFunctions.AWSStepFunctionsException",
        ),
        "aws-sdk:sqs": Task(
            "aws-sdk:sqs:sendMessage",
            {"QueueUrl": world["queue"], "MessageBody": "x"},
            ("sqs:SendMessage",),
            "Sqs.SqsException",
        ),
        "aws-sdk:dynamodb": Task(
            "aws-sdk:dynamodb:getItem",
            {"TableName": world["table"], "Key": item},
            ("dynamodb:GetItem",),
            "DynamoDb.DynamoDbException",
        ),
        "aws-sdk:s3": Task(
            "aws-sdk:s3:listObjectsV2", {"Bucket": world["bucket"]}, ("s3:ListBucket",), "S3.S3Exception"
        ),
        "aws-sdk:glue": Task("aws-sdk:glue:getDatabases", {}, ("glue:GetDatabases",), "Glue.GlueException"),
        "aws-sdk:lambda": Task(
            "aws-sdk:lambda:getFunction",
            {"FunctionName": world["function"]},
            ("lambda:GetFunction",),
            "Lambda.LambdaException",
        ),
    }[name]


NAMES = (
    *("sqs", "sns", "dynamodb", "lambda", "events", "states", "states.sync"),
    *("aws-sdk:sqs", "aws-sdk:dynamodb", "aws-sdk:s3", "aws-sdk:glue", "aws-sdk:lambda"),
)


def _run(client: Client, task: Task, role: str) -> dict[str, Any]:
    """The end of a machine with this task: its error is caught, and is the output."""
    state = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{task.resource}",
        "Parameters": task.parameters,
        "Catch": [{"ErrorEquals": ["States.TaskFailed"], "Next": "Caught"}],
        "Next": "Done",
    }
    definition = {
        "StartAt": "Call",
        "States": {
            "Call": state,
            "Caught": {"Type": "Pass", "End": True},
            "Done": {"Type": "Pass", "Result": {}, "End": True},
        },
    }
    states = client("stepfunctions")
    machine = states.create_state_machine(
        name=f"outer-{uuid.uuid4().hex[:8]}", definition=json.dumps(definition), roleArn=role
    )
    execution = states.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    until(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    ended = states.describe_execution(executionArn=execution)
    assert ended["status"] == "SUCCEEDED", ended
    return dict(json.loads(ended["output"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_permission_fails_as_on_aws(
    client: Client, roles: Roles, world: dict[str, str], name: str
) -> None:
    task = _task(name, world)
    ended = _run(client, task, roles.create(service=STATES))
    assert ended["Error"] == task.error
    assert f"is not authorized to perform: {task.actions[0]} on resource: " in ended["Cause"]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_with_permission_runs(client: Client, roles: Roles, world: dict[str, str], name: str) -> None:
    task = _task(name, world)
    assert _run(client, task, roles.create(allowing(*task.actions), service=STATES)) == {}


def test_a_permission_for_something_else_does_not_help(client: Client, roles: Roles, world: dict[str, str]) -> None:
    elsewhere = allowing("sqs:SendMessage", resource="arn:aws:sqs:eu-west-1:000000000000:another")
    ended = _run(client, _task("sqs", world), roles.create(elsewhere, service=STATES))
    assert ended["Error"] == "SQS.AmazonSQSException"


def test_the_boundary_bounds(client: Client, roles: Roles, world: dict[str, str]) -> None:
    name = f"boundary-{uuid.uuid4().hex[:8]}"
    boundary = client("iam").create_policy(PolicyName=name, PolicyDocument=policy(allowing("sns:*")))["Policy"]["Arn"]
    role = roles.create(allowing("sqs:*", "sns:*"), service=STATES, PermissionsBoundary=boundary)
    assert _run(client, _task("sqs", world), role)["Error"] == "SQS.AmazonSQSException"
    assert _run(client, _task("sns", world), role) == {}


def test_each_item_of_a_map_is_asked_about(client: Client, roles: Roles, world: dict[str, str]) -> None:
    task = _task("dynamodb", world)
    inner = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{task.resource}",
        "Parameters": task.parameters,
        "End": True,
    }
    definition = {
        "StartAt": "Each",
        "States": {
            "Each": {
                "Type": "Map",
                "ItemProcessor": {"StartAt": "Put", "States": {"Put": inner}},
                "Catch": [{"ErrorEquals": [task.error], "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Pass", "Result": "caught", "End": True},
        },
    }
    machine = client("stepfunctions").create_state_machine(
        name=f"map-{uuid.uuid4().hex[:8]}",
        definition=json.dumps(definition),
        roleArn=roles.create(service=STATES),
        type="EXPRESS",
    )
    ended = client("stepfunctions").start_sync_execution(
        stateMachineArn=machine["stateMachineArn"], input=json.dumps([1, 2])
    )
    assert json.loads(ended["output"]) == "caught"
