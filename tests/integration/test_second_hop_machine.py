"""The second hop's definition, run by the embedded AWS's interpreter, its services replaced by answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ministack.services import stepfunctions

from tests.templates import asl

INPUT = {
    "schema": 1,
    "team": "air",
    "dataset": "flights",
    "batch_id": "b",
    "attempt": 1,
    "manifest_uri": "s3://stage/m",
    "pending_uri": "s3://analytics/p/",
    "transform_outcome_uri": "s3://stage/t",
    "quality_outcome_uri": "s3://stage/q",
    "has_rules": True,
}


class Services:
    """Answers for each call, by its target; an answer that is an error is raised each time."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.answers = answers

    def __call__(self, resource: str, given: dict[str, Any]) -> Any:
        target = given.get("JobName") or given.get("FunctionName") or given["TopicArn"]
        payload = given.get("Payload", given)
        step = f"{target}:{payload.get('job') or payload.get('state') or ''}".rstrip(":")
        self.calls.append((step, payload))
        answer = self.answers.get(step.partition(":")[2] or target, {})
        if isinstance(answer, Exception):
            raise answer
        if "glue" in resource:
            return {"Id": f"jr_{target}", "JobRunState": "SUCCEEDED"} | answer
        return {"Payload": answer} if "lambda" in resource else answer

    def steps(self) -> list[str]:
        """What was called, in order, repeats of a retry once."""
        names = [step for step, _ in self.calls]
        return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]

    def payload(self, step: str) -> Any:
        return next(payload for name, payload in self.calls if name == step)


def run(monkeypatch, services: Services, mode: str = "on", **changes: Any) -> dict[str, Any]:
    text = json.dumps(asl.definition("pipeline/stage_to_analytics.asl.yaml"))
    for name, value in {"QualityMode": mode, "Partition": "aws"}.items():
        text = text.replace("${" + name + "}", value)
    for name in ("TransformJobName", "JudgeJobName", "TopicArn", "VerifyOutcomeFunctionArn"):
        text = text.replace(
            "${" + name + "}", name.removesuffix("Name").removesuffix("FunctionArn").removesuffix("Arn")
        )
    for name in ("PublishBatchFunctionArn", "FinishBatchFunctionArn"):
        text = text.replace("${" + name + "}", name.removesuffix("FunctionArn"))
    monkeypatch.setattr(stepfunctions, "_invoke_resource", services)
    monkeypatch.setattr(
        stepfunctions, "_invoke_resource_with_timeout", lambda resource, given, _timeout: services(resource, given)
    )
    monkeypatch.setattr(stepfunctions, "_scaled_sleep", lambda _seconds: None)
    monkeypatch.setattr(stepfunctions, "_emit_execution_status_event", lambda _execution: None)
    machine = "arn:aws:states:eu-west-1:000000000000:stateMachine:m"
    execution = {
        "executionArn": f"{machine}:b-1",
        "stateMachineArn": machine,
        "name": "b-1",
        "status": "RUNNING",
        "startDate": "2026-11-23T16:44:00.000Z",
        "input": json.dumps(INPUT | changes),
        "events": [],
    }
    monkeypatch.setitem(stepfunctions._state_machines, machine, {"name": "m", "definition": text})
    monkeypatch.setitem(stepfunctions._executions, execution["executionArn"], execution)
    stepfunctions._run_execution(execution["executionArn"])
    return execution


VERIFIED = {"run_id": "jr_TransformJob", "rows_in": 5, "rows_out": 4, "files": 1}
TOLD = {"team": "air", "dataset": "flights", "state": "PUBLISHED", "reason": ""}
GOOD = {
    "transform": VERIFIED,
    "quality": {"run_id": "jr_JudgeJob", "outcome": "passed", "blocked": False},
    "PUBLISHED": TOLD,
    "FAILED": TOLD | {"state": "FAILED"},
    "FAILED_QUALITY": TOLD | {"state": "FAILED_QUALITY"},
}
JUDGED = ["TransformJob", "VerifyOutcome:transform", "JudgeJob", "VerifyOutcome:quality"]


def test_write_audit_publish(monkeypatch) -> None:
    services = Services(**GOOD)
    assert run(monkeypatch, services)["status"] == "SUCCEEDED"
    assert services.steps() == [*JUDGED, "PublishBatch", "FinishBatch:PUBLISHED", "Topic"]
    arguments = services.payload("JudgeJob")["Arguments"]
    assert all(isinstance(value, str) for value in arguments.values())
    assert (arguments["--attempt"], arguments["--input"]) == ("1", INPUT["pending_uri"])
    assert services.payload("VerifyOutcome:quality")["run_id"] == "jr_JudgeJob"
    assert services.payload("VerifyOutcome:quality")["transform"] == VERIFIED
    assert services.payload("FinishBatch:PUBLISHED")["quality"]["outcome"] == "passed"
    assert json.loads(services.payload("Topic")["Message"]) == TOLD


@pytest.mark.parametrize(("mode", "has_rules", "outcome"), [("off", True, "not judged"), ("on", False, "no rules")])
def test_what_is_not_judged_is_published_and_says_so(monkeypatch, mode, has_rules, outcome) -> None:
    services = Services(**GOOD)
    assert run(monkeypatch, services, mode, has_rules=has_rules)["status"] == "SUCCEEDED"
    assert services.steps() == [*JUDGED[:2], "PublishBatch", "FinishBatch:PUBLISHED", "Topic"]
    assert services.payload("FinishBatch:PUBLISHED")["quality"] == {"outcome": outcome}


def test_what_is_blocked_is_not_published(monkeypatch) -> None:
    services = Services(**GOOD | {"quality": {"run_id": "jr_JudgeJob", "outcome": "failed", "blocked": True}})
    execution = run(monkeypatch, services)
    assert (execution["status"], execution["error"]) == ("FAILED", "QualityBlocked")
    assert services.steps() == [*JUDGED, "FinishBatch:FAILED_QUALITY", "Topic"]


FLOW = [*JUDGED, "PublishBatch", "FinishBatch:PUBLISHED"]


@pytest.mark.parametrize("step", FLOW)
@pytest.mark.parametrize("error", ["States.TaskFailed", "OutcomeMissingError", "States.Timeout", "Lambda.Unknown"])
def test_whatever_fails_fails_the_batch_and_tells_why(monkeypatch, step, error) -> None:
    failure = stepfunctions._ExecutionError(error, '{"JobRunState":"TIMEOUT"}')
    services = Services(**GOOD | {step.partition(":")[2] or step: failure})
    execution = run(monkeypatch, services)
    assert (execution["status"], execution["error"]) == ("FAILED", "BatchFailed")
    assert services.steps() == [*FLOW[: FLOW.index(step) + 1], "FinishBatch:FAILED", "Topic"]
    told = services.payload("FinishBatch:FAILED")
    assert told["failure"] == {"Error": error, "Cause": '{"JobRunState":"TIMEOUT"}'}
    assert told["run"] == INPUT


def test_a_lost_notification_does_not_fail_a_published_batch(monkeypatch) -> None:
    services = Services(**GOOD | {"Topic": stepfunctions._ExecutionError("SNS.PublishFailed", "gone")})
    assert run(monkeypatch, services)["status"] == "SUCCEEDED"


def test_a_row_that_cannot_be_written_ends_the_execution_too(monkeypatch) -> None:
    broken = stepfunctions._ExecutionError("States.TaskFailed", "")
    services = Services(**GOOD | {"transform": broken, "FAILED": broken})
    execution = run(monkeypatch, services)
    assert (execution["status"], execution["error"]) == ("FAILED", "BatchFailed")
    assert services.steps()[-1] == "FinishBatch:FAILED"
