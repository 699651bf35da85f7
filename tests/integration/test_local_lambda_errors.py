"""Errors of functions on a laptop have their names, so that `Retry` and `Catch` find them.

Stock MiniStack reports each as `Runtime.HandlerError`, without a stack trace, and ends the worker.
"""

from __future__ import annotations

import base64
import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.local_world import Roles, allowing, until

MODULE = """
import sys, time
calls = 0
class BatchIsBusy(Exception): ...

def handler(event, context):
    global calls
    calls += 1
    print("call", calls)
    match event.get("do"):
        case "raise": raise BatchIsBusy("try later")
        case "third time":
            if calls % 3: raise BatchIsBusy(f"call {calls}")
        case "exit": sys.exit(1)
        case "sleep": time.sleep(10)
        case "unfinished": print("no newline", end="")
    return calls
"""


class Functions:
    """Functions of one emulator, and a state machine that calls one."""

    def __init__(self, client: Callable[[str], Any], roles: Roles) -> None:
        self.aws_lambda, self.states = client("lambda"), client("stepfunctions")
        self.role = roles.create(allowing("logs:*"))
        self.machine_role = roles.create(allowing("lambda:InvokeFunction"), service="states.amazonaws.com")

    def create(self, code: str = MODULE, handler: str = "main.handler", seconds: int = 10) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("main.py", code)
        name = f"function-{uuid.uuid4().hex[:8]}"
        self.aws_lambda.create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role=self.role,
            Handler=handler,
            Timeout=seconds,
            Code={"ZipFile": archive.getvalue()},
        )
        return name

    def invoke(self, name: str, **event: Any) -> tuple[str | None, Any, str]:
        """The kind of error, the payload, and the log."""
        answer = self.aws_lambda.invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
        log = base64.b64decode(answer.get("LogResult", "")).decode()
        return answer.get("FunctionError"), json.load(answer["Payload"]), log

    def run(self, name: str, retried: str, caught: str, **event: Any) -> dict[str, Any]:
        """An execution that calls the function with its errors retried and caught by name."""
        task = {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": name, "Payload": event},
            "Retry": [{"ErrorEquals": [retried], "IntervalSeconds": 1, "MaxAttempts": 2, "BackoffRate": 1.0}],
            "Catch": [{"ErrorEquals": [caught], "Next": "Caught"}],
            "End": True,
        }
        definition = {"StartAt": "Call", "States": {"Call": task, "Caught": {"Type": "Pass", "End": True}}}
        machine = self.states.create_state_machine(
            name=f"machine-{uuid.uuid4().hex[:8]}", definition=json.dumps(definition), roleArn=self.machine_role
        )["stateMachineArn"]
        execution = self.states.start_execution(stateMachineArn=machine, input="{}")["executionArn"]

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.states.describe_execution(executionArn=execution)
            return None if found["status"] == "RUNNING" else found

        result: dict[str, Any] = until(ended, 30)
        return result


@pytest.fixture(scope="module")
def functions(client: Callable[[str], Any], roles: Roles) -> Functions:
    return Functions(client, roles)


def test_a_caller_sees_the_class_the_message_and_the_stack(functions: Functions) -> None:
    kind, error, log = functions.invoke(functions.create(), do="raise")
    assert kind == "Unhandled"
    assert (error["errorType"], error["errorMessage"]) == ("BatchIsBusy", "try later")
    assert len(error["stackTrace"]) == 1
    assert "in handler" in error["stackTrace"][0]
    assert error["requestId"]
    assert "[ERROR] BatchIsBusy: try later" in log


def test_a_handler_that_raised_stays_warm(functions: Functions) -> None:
    name = functions.create()
    functions.invoke(name, do="raise")
    assert functions.invoke(name)[1] == 2


def test_retry_and_catch_match_by_name(functions: Functions) -> None:
    recovered = functions.run(functions.create(), retried="BatchIsBusy", caught="Other", do="third time")
    assert recovered["status"] == "SUCCEEDED"
    assert json.loads(recovered["output"])["Payload"] == 3
    caught = json.loads(functions.run(functions.create(), retried="Other", caught="BatchIsBusy", do="raise")["output"])
    assert caught["Error"] == "BatchIsBusy"
    assert json.loads(caught["Cause"])["errorMessage"] == "try later"
    unmatched = functions.run(functions.create(), retried="Other", caught="Another", do="raise")
    assert (unmatched["status"], unmatched["error"]) == ("FAILED", "BatchIsBusy")


@pytest.mark.parametrize(
    ("code", "handler", "expected"),
    [
        ("import nowhere", "main.handler", "Runtime.ImportModuleError"),
        ("x = 1", "main.handler", "Runtime.HandlerNotFound"),
        ("raise ValueError('no setting')", "main.handler", "ValueError"),
    ],
)
def test_a_start_that_fails_says_why(functions: Functions, code: str, handler: str, expected: str) -> None:
    kind, error, _ = functions.invoke(functions.create(code, handler))
    assert (kind, error["errorType"]) == ("Unhandled", expected)


def test_an_exit_is_a_runtime_error(functions: Functions) -> None:
    name = functions.create()
    assert functions.invoke(name, do="exit")[1]["errorType"] == "Runtime.ExitError"
    assert functions.invoke(name)[1] == 1


def test_a_late_function_times_out_and_starts_anew(functions: Functions) -> None:
    name = functions.create(seconds=1)
    kind, error, _ = functions.invoke(name, do="sleep")
    assert (kind, error["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert "Task timed out after 1.00 seconds" in error["errorMessage"]
    assert functions.invoke(name)[1] == 1


def test_each_invocation_has_its_own_log_at_once(functions: Functions) -> None:
    name = functions.create()
    functions.invoke(name)
    assert "no newline" in functions.invoke(name, do="unfinished")[2]
    started = time.monotonic()
    logs = [functions.invoke(name)[2] for _ in range(20)]
    took = time.monotonic() - started
    assert [f"call {number}" in log for number, log in enumerate(logs, start=3)] == [True] * 20
    assert took < 20 * 0.05
