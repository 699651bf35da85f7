"""Each mode of fault, alone and at every opportunity: it does what it is called, to the lake's own roles only."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tarn.local import emulator as local
from tarn.local import faults
from tarn.local.emulator import Emulator
from tests.integration.local_world import Roles, allowing, client_of, until

HERE = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
FUNCTION = """
import boto3, os
calls = 0
table = boto3.resource("dynamodb").Table(os.environ["TABLE"])

def handler(event, context):
    global calls
    calls += 1
    table.update_item(
        Key={"id": "met"}, UpdateExpression="ADD times :one", ExpressionAttributeValues={":one": 1}
    )
    return calls
"""
CALLS: dict[str, Callable[[Any], Any]] = {
    "dynamodb": lambda client: client.get_item(TableName="nowhere", Key={"id": {"S": "a"}}),
    "s3": lambda client: client.get_object(Bucket="nowhere", Key="a"),
    "sqs": lambda client: client.send_message(
        QueueUrl="https://sqs.eu-west-1.amazonaws.com/000000000000/nowhere", MessageBody="a"
    ),
    "lambda": lambda client: client.invoke(FunctionName="nowhere"),
    "stepfunctions": lambda client: client.start_execution(
        stateMachineArn="arn:aws:states:eu-west-1:000000000000:stateMachine:nowhere"
    ),
    "glue": lambda client: client.start_job_run(JobName="nowhere"),
}
THROTTLES = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "s3": (503, "SlowDown"),
    "sqs": (400, "RequestThrottled"),
    "lambda": (429, "TooManyRequestsException"),
    "stepfunctions": (400, "ThrottlingException"),
    "glue": (400, "ThrottlingException"),
}
KEY_DENIALS = {
    "dynamodb": (400, "AccessDeniedException"),
    "s3": (403, "AccessDenied"),
    "sqs": (400, "KMS.AccessDeniedException"),
}


class World:
    """An embedded AWS whose faults are on."""

    def __init__(self, emulator: Emulator) -> None:
        self.state = emulator.settings.state_dir
        self.client = partial(client_of, emulator)
        self.roles = Roles(emulator, self.client)

    def counts(self, mode: str) -> int:
        """How often the mode has struck, once the file says so."""
        until(lambda: faults.counts(self.state).get(mode))
        return faults.counts(self.state).get(mode, 0)

    def queue(self) -> str:
        return str(self.client("sqs").create_queue(QueueName=f"queue-{uuid.uuid4().hex[:8]}")["QueueUrl"])

    def received(self, url: str) -> list[str]:
        got = self.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return [one["Body"] for one in got.get("Messages", [])]

    def function(self) -> tuple[str, Callable[[], Any]]:
        """A function that counts its calls in a row, and that row's count."""
        name = f"function-{uuid.uuid4().hex[:8]}"
        dynamodb = self.client("dynamodb")
        dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("main.py", FUNCTION)
        self.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role=self.roles.create(allowing("logs:*", "dynamodb:*")),
            Handler="main.handler",
            Code={"ZipFile": archive.getvalue()},
            Environment={"Variables": {"TABLE": name}},
        )

        def met() -> int:
            row = dynamodb.get_item(TableName=name, Key={"id": {"S": "met"}}).get("Item", {})
            return int(row.get("times", {"N": "0"})["N"])

        return name, met

    def invoke(self, name: str) -> Any:
        return json.load(self.client("lambda").invoke(FunctionName=name)["Payload"])

    def notified(self) -> tuple[str, Any]:
        """A queue that a bucket notifies, and a function that puts an object there."""
        s3, sqs = self.client("s3"), self.client("sqs")
        bucket, url = f"bucket-{uuid.uuid4().hex[:8]}", self.queue()
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        s3.create_bucket(Bucket=bucket, **HERE)
        configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
        sqs.purge_queue(QueueUrl=url)
        return url, lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b"a")

    def keys_in(self, url: str) -> list[str]:
        return [
            record["s3"]["object"]["key"]
            for body in self.received(url)
            for record in json.loads(body).get("Records", [])
        ]

    def run(self) -> tuple[dict[str, Any], list[str]]:
        """A job that leaves an object and takes a minute's rest where it may: how it ended, and what it left."""
        s3, glue = self.client("s3"), self.client("glue")
        name = f"job-{uuid.uuid4().hex[:8]}"
        s3.create_bucket(Bucket=name, **HERE)
        script = f"import boto3, time\nboto3.client('s3').put_object(Bucket={name!r}, Key='left', Body=b'')\n"
        if "glue_failed" not in self.plan:
            script += "time.sleep(60)\n"
        s3.put_object(Bucket=name, Key="main.py", Body=script.encode())
        glue.create_job(
            Name=name,
            Role=self.roles.create(allowing("s3:*", "logs:*"), service="glue.amazonaws.com"),
            GlueVersion="5.1",
            Command={"Name": "pythonshell", "ScriptLocation": f"s3://{name}/main.py"},
        )
        run_id = glue.start_job_run(JobName=name)["JobRunId"]

        def ended() -> Any:
            run = glue.get_job_run(JobName=name, RunId=run_id)["JobRun"]
            return run if run["JobRunState"] not in ("STARTING", "RUNNING", "STOPPING") else None

        run = until(ended, 60)
        return run, [one["Key"] for one in s3.list_objects_v2(Bucket=name)["Contents"]]

    plan: str = ""


@pytest.fixture
def world_with(tmp_path: Path) -> Iterator[Callable[[str], World]]:
    """Start an embedded AWS with a plan of faults, switched on."""
    with ExitStack() as stack:

        def start(plan: str, *, is_on: bool = True) -> World:
            stack.callback(local.stop, tmp_path, purge=True)
            world = World(local.start(tmp_path, options={faults.VARIABLE: plan}))
            world.plan = plan
            if is_on:
                stack.enter_context(faults.switched_on(tmp_path))
            return world

        yield start


@pytest.mark.parametrize(("mode", "met"), [("kill_before", 1), ("kill_after", 2)])
def test_a_function_dies_at_its_call(world_with: Callable[[str], World], mode: str, met: int) -> None:
    world = world_with(f"seed=1 {mode}=1")
    name, times = world.function()
    assert world.invoke(name) == 1, "what it calls is not known yet, so it lives"
    assert world.invoke(name)["errorType"] == "Runtime.ExitError"
    assert times() == met
    assert world.counts(mode) == 1


def test_an_idle_function_dies(world_with: Callable[[str], World]) -> None:
    world = world_with("seed=1 kill_idle=1")
    name, _ = world.function()
    assert world.invoke(name) == 1
    assert world.counts("kill_idle") >= 1
    assert world.invoke(name) == 1, "it is another process"


def test_a_notification_comes_twice(world_with: Callable[[str], World]) -> None:
    world = world_with("seed=1 duplicate=1")
    url, put = world.notified()
    put("a")
    found: list[str] = []
    until(lambda: found.extend(world.keys_in(url)) or len(found) == 2)
    assert found == ["a", "a"]


def test_a_later_notification_overtakes(world_with: Callable[[str], World]) -> None:
    world = world_with("seed=1 reorder=0.5")
    url, put = world.notified()
    keys = [f"{number:02d}" for number in range(20)]
    found: list[str] = []
    for key in keys:
        put(key)
    until(lambda: found.extend(world.keys_in(url)) or len(found) == len(keys))
    assert sorted(found) == keys
    assert found != keys
    assert until(lambda: faults.counts(world.state)["held"] == 0)


def test_a_message_shows_later(world_with: Callable[[str], World]) -> None:
    world = world_with("seed=1 delay=0.5")
    url = world.queue()
    for number in range(10):
        world.client("sqs").send_message(QueueUrl=url, MessageBody=str(number))
    first = world.received(url)
    assert 0 < len(first) < 10
    rest: list[str] = []
    until(lambda: rest.extend(world.received(url)) or len(rest) + len(first) == 10, 60)
    assert sorted(first + rest) == [str(number) for number in range(10)]


def test_a_message_shows_again_while_it_is_worked_on(world_with: Callable[[str], World]) -> None:
    world = world_with("seed=1 expire=1")
    url = world.queue()
    world.client("sqs").send_message(QueueUrl=url, MessageBody="a")
    assert [world.received(url), world.received(url)] == [["a"], ["a"]]


@pytest.mark.parametrize(("mode", "answers"), [("throttle", THROTTLES), ("deny_key", KEY_DENIALS)])
def test_a_role_is_refused_as_each_service_does_it(
    world_with: Callable[[str], World], mode: str, answers: dict[str, tuple[int, str]]
) -> None:
    world = world_with(f"seed=1 {mode}=1")
    role = world.roles.create(allowing("*"))
    for service, expected in answers.items():
        mine, found = world.roles.client(role, service), set()

        def met(call: Any = CALLS[service], mine: Any = mine, found: Any = found, expected: Any = expected) -> bool:
            with pytest.raises(ClientError) as refused:
                call(mine)
            error = refused.value.response
            found.add((error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]))
            return expected in found

        assert until(met), f"{service}: {found}, not {expected}"
        with pytest.raises(ClientError, match=r"nowhere|not exist|not found"):
            CALLS[service](world.client(service))
    assert world.counts(mode) >= 1


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("FAILED", ["left", "main.py"]),
        ("TIMEOUT", None),
        ("STOPPED", None),
        ("ERROR", ["main.py"]),
        ("EXPIRED", ["main.py"]),
    ],
)
def test_a_run_ends_in_each_bad_way(world_with: Callable[[str], World], state: str, left: list[str] | None) -> None:
    mode = f"glue_{state.lower()}"
    world = world_with(f"seed=1 {mode}=1")
    run, found = world.run()
    assert run["JobRunState"] == state
    assert left is None or found == left
    assert world.counts(mode) == 1


def test_nothing_strikes_while_faults_are_off(world_with: Callable[..., World]) -> None:
    world = world_with("seed=1 " + " ".join(f"{mode}=1" for mode in faults.MODES), is_on=False)
    name, times = world.function()
    assert [world.invoke(name) for _ in range(3)] == [1, 2, 3]
    assert times() == 3
    assert faults.counts(world.state) == {}
