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


RESOURCES = ("FargateTaskDefinitionArn", "EmrServerlessApplicationId", "EmrClusterId", "NotebookRoleArn")
SETTINGS = {
    "FargateSubnetIds": "subnet-1,subnet-2",
    "FargateSecurityGroupIds": "sg-1",
    "SparkAssetUri": "s3://assets/spark/",
    "EnvironmentName": "dev",
    "TeamName": "air",
}


class Services:
    """Answers for each call, by its target; an answer that is an error is raised each time.

    Of a list each call takes the first, and the last one stays.
    """

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.answers = answers

    def __call__(self, resource: str, given: dict[str, Any]) -> Any:
        if "Name" in given or not {"JobName", "FunctionName", "TopicArn"} & given.keys():
            target = resource.rpartition(":")[2]
        else:
            target = given.get("JobName") or given.get("FunctionName") or given["TopicArn"]
        payload = given.get("Payload", given)
        step = f"{target}:{payload.get('job') or payload.get('state') or payload.get('action') or ''}".rstrip(":")
        self.calls.append((step, payload))
        answer = self.answers.get(step.partition(":")[2] or target, {})
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if "glue:startJobRun" in resource:
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
    has = "none" if changes.pop("lacks_engine", False) else "there"
    given = {"QualityMode": mode, "Partition": "aws", "JobTimeoutMinutes": "120", **dict.fromkeys(RESOURCES, has)}
    for name, value in (given | SETTINGS).items():
        text = text.replace("${" + name + "}", value)
    for name in ("TransformJobName", "JudgeJobName", "TopicArn", "VerifyOutcomeFunctionArn"):
        text = text.replace(
            "${" + name + "}", name.removesuffix("Name").removesuffix("FunctionArn").removesuffix("Arn")
        )
    for name in ("PublishBatchFunctionArn", "VerifyCrawlFunctionArn", "FinishBatchFunctionArn"):
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
WITHDRAWN = "PublishBatch:withdraw"


@pytest.mark.parametrize("step", FLOW)
@pytest.mark.parametrize("error", ["States.TaskFailed", "OutcomeMissingError", "States.Timeout", "Lambda.Unknown"])
def test_whatever_fails_fails_the_batch_and_tells_why(monkeypatch, step, error) -> None:
    failure = stepfunctions._ExecutionError(error, '{"JobRunState":"TIMEOUT"}')
    services = Services(**GOOD | {step.partition(":")[2] or step: failure})
    execution = run(monkeypatch, services)
    assert (execution["status"], execution["error"]) == ("FAILED", "BatchFailed")
    withdrawn = [WITHDRAWN] if step == "PublishBatch" else []
    assert services.steps() == [*FLOW[: FLOW.index(step) + 1], *withdrawn, "FinishBatch:FAILED", "Topic"]
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


def test_the_notification_is_what_finishing_wrote_for_a_person(monkeypatch) -> None:
    for state, answers in {
        "PUBLISHED": {},
        "FAILED": {"transform": stepfunctions._ExecutionError("States.TaskFailed", "")},
        "FAILED_QUALITY": {"quality": {"run_id": "r", "outcome": "failed", "blocked": True}},
    }.items():
        told = TOLD | {"state": state, "subject": f"flights: {state}", "message": "what to do next"}
        services = Services(**GOOD | {state: told} | answers)
        run(monkeypatch, services)
        sent = services.payload("Topic")
        assert (sent["Subject"], sent["Message"]) == (f"flights: {state}", "what to do next")
        assert sent["MessageAttributes"]["state"]["StringValue"] == state


def test_a_batch_of_an_older_function_is_notified_too(monkeypatch) -> None:
    services = Services(**GOOD)
    run(monkeypatch, services)
    assert services.payload("Topic")["Subject"] == "Tarn PUBLISHED air/flights"


# --- Publish: crawler

COPIED_AT = "2026-11-23T16:44:01.000Z"
BEFORE, AFTER = "2026-11-23T16:40:00Z", "2026-11-23T16:44:02Z"
COPIED = {"files": 1, "bytes": 1, "partitions": 1, "crawler_name": "tarn-test-sky-weather", "copied_at": COPIED_AT}
TO_THE_CRAWL = [*JUDGED, "PublishBatch", "startCrawler"]


def crawler(state: str, status: str = "SUCCEEDED", started: str = BEFORE, **more: str) -> dict[str, Any]:
    last = {"Status": status, "StartTime": started, "LogGroup": "/aws-glue/crawlers", "LogStream": "s", **more}
    return {"Crawler": {"Name": COPIED["crawler_name"], "State": state, "LastCrawl": last}}


NEVER_CRAWLED = {"Crawler": {"Name": COPIED["crawler_name"], "State": "RUNNING"}}
CRAWLED = GOOD | {"PublishBatch": COPIED, "getCrawler": crawler("READY", started=AFTER)}


def test_a_crawled_batch_is_published_when_its_own_crawl_has_ended_and_was_verified(monkeypatch) -> None:
    looks = [NEVER_CRAWLED, crawler("RUNNING"), crawler("READY"), crawler("READY", started=AFTER)]
    services = Services(**CRAWLED | {"getCrawler": looks})
    assert run(monkeypatch, services)["status"] == "SUCCEEDED"
    assert services.steps() == [*TO_THE_CRAWL, "getCrawler", "VerifyCrawl", "FinishBatch:PUBLISHED", "Topic"]
    assert [name for name, _ in services.calls].count("getCrawler") == 4
    assert services.payload("startCrawler") == services.payload("getCrawler") == {"Name": COPIED["crawler_name"]}
    assert services.payload("VerifyCrawl") == {"run": INPUT}


def test_somebody_elses_run_is_waited_for_and_then_an_own_one_is_started(monkeypatch) -> None:
    busy = stepfunctions._ExecutionError("Glue.CrawlerRunningException", "already started")
    services = Services(**CRAWLED | {"startCrawler": [busy] * 200 + [{}]})
    assert run(monkeypatch, services)["status"] == "SUCCEEDED"
    assert [name for name, _ in services.calls].count("startCrawler") == 201


FAILED_CRAWL = "crawler tarn-test-sky-weather FAILED: no such role (log group /aws-glue/crawlers, stream s)"


@pytest.mark.parametrize(
    ("changed", "last", "error", "cause"),
    [
        (
            {"getCrawler": crawler("READY", "FAILED", AFTER, ErrorMessage="no such role")},
            "getCrawler", "CrawlFailed", FAILED_CRAWL,
        ),
        ({"getCrawler": crawler("READY", "CANCELLED", AFTER)}, "getCrawler", "CrawlFailed", "gave no message"),
        ({"getCrawler": crawler("RUNNING")}, "getCrawler", "CrawlTimedOut", "is RUNNING after 240 looks"),
        ({"getCrawler": crawler("READY", "FAILED", BEFORE)}, "getCrawler", "CrawlTimedOut", "is READY after 240"),
        (
            {"startCrawler": stepfunctions._ExecutionError("Glue.CrawlerRunningException", "busy")},
            "startCrawler", "Glue.CrawlerRunningException", "busy",
        ),
        (
            {"startCrawler": stepfunctions._ExecutionError("Glue.GlueException", "not authorized")},
            "startCrawler", "Glue.GlueException", "not authorized",
        ),
        (
            {"getCrawler": stepfunctions._ExecutionError("Glue.EntityNotFoundException", "gone")},
            "getCrawler", "Glue.EntityNotFoundException", "gone",
        ),
        (
            {"VerifyCrawl": stepfunctions._ExecutionError("CrawlIncompleteError", "no partition")},
            "VerifyCrawl", "CrawlIncompleteError", "no partition",
        ),
    ],
)  # fmt: skip
def test_whatever_fails_after_the_copy_fails_the_batch(monkeypatch, changed, last, error, cause) -> None:
    services = Services(**CRAWLED | changed)
    execution = run(monkeypatch, services)
    assert (execution["status"], execution["error"]) == ("FAILED", "BatchFailed")
    way = [*TO_THE_CRAWL, "getCrawler", "VerifyCrawl"]
    assert services.steps() == [*way[: way.index(last) + 1], WITHDRAWN, "FinishBatch:FAILED", "Topic"]
    assert services.payload(WITHDRAWN) == {"action": "withdraw", "run": INPUT}
    failure = services.payload("FinishBatch:FAILED")["failure"]
    assert failure["Error"] == error
    assert cause in failure["Cause"]


def test_a_batch_that_cannot_be_withdrawn_fails_of_what_went_wrong_first(monkeypatch) -> None:
    failed = {"getCrawler": crawler("READY", "FAILED", AFTER, ErrorMessage="no such role")}
    services = Services(**CRAWLED | failed | {"withdraw": stepfunctions._ExecutionError("ClientError", "denied")})
    assert run(monkeypatch, services)["error"] == "BatchFailed"
    assert services.steps()[-3:] == [WITHDRAWN, "FinishBatch:FAILED", "Topic"]
    assert services.payload("FinishBatch:FAILED")["failure"] == {"Error": "CrawlFailed", "Cause": FAILED_CRAWL}


def test_a_crawl_that_never_ends_is_looked_at_for_two_hours(monkeypatch) -> None:
    services = Services(**CRAWLED | {"getCrawler": crawler("RUNNING")})
    run(monkeypatch, services)
    assert [name for name, _ in services.calls].count("getCrawler") == 240


# --- Engines

TASKS = {
    "fargate": "runTask.sync",
    "emr-serverless": "startJobRun.sync",
    "emr-step": "addStep.sync",
    "sagemaker": "createProcessingJob.sync",
}
ARGV = {
    "fargate": lambda given: given["Overrides"]["ContainerOverrides"][0]["Command"],
    "emr-serverless": lambda given: given["JobDriver"]["SparkSubmit"]["EntryPointArguments"],
    "emr-step": lambda given: given["Step"]["HadoopJarStep"]["Args"][6:],
    "sagemaker": lambda given: [
        word
        for name, value in given["Environment"].items()
        for word in (f"--{name.removeprefix('TARN_').lower() if name != 'TARN_JOB_RUN_ID' else 'JOB_RUN_ID'}", value)
    ],
}


@pytest.mark.parametrize("engine", TASKS)
def test_every_engine_is_told_the_same_and_verified_by_the_run_that_it_was_told(monkeypatch, engine) -> None:
    services = Services(**GOOD)
    assert run(monkeypatch, services, engine=engine)["status"] == "SUCCEEDED"
    assert services.steps() == [TASKS[engine], *JUDGED[1:], "PublishBatch", "FinishBatch:PUBLISHED", "Topic"]
    argv = ARGV[engine](services.payload(TASKS[engine]))
    told = dict(zip(argv[::2], argv[1::2], strict=True))
    run_id = told.pop("--JOB_RUN_ID")
    assert told == {
        "--team": "air",
        "--dataset": "flights",
        "--batch_id": "b",
        "--attempt": "1",
        "--manifest": INPUT["manifest_uri"],
        "--output": INPUT["pending_uri"],
        "--outcome": INPUT["transform_outcome_uri"],
    }
    assert len(run_id) == 36
    assert services.payload("VerifyOutcome:transform")["run_id"] == run_id


def test_an_engine_gets_its_settings_in_the_types_that_its_api_takes(monkeypatch) -> None:
    services = Services(**GOOD)
    for engine in TASKS:
        run(monkeypatch, services, engine=engine)
    network = services.payload("runTask.sync")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert (network["Subnets"], network["SecurityGroups"]) == (["subnet-1", "subnet-2"], ["sg-1"])
    serverless = services.payload("startJobRun.sync")
    assert (serverless["ExecutionTimeoutMinutes"], serverless["Name"]) == (120, "b-1")
    assert serverless["JobDriver"]["SparkSubmit"]["EntryPoint"] == "s3://assets/spark/transform_batch.py"
    notebook = services.payload("createProcessingJob.sync")
    assert notebook["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200}
    assert notebook["ProcessingJobName"] == "tarn-dev-air-b-1"
    assert "VolumeKmsKeyId" not in notebook["ProcessingResources"]["ClusterConfig"], "its role may make no grants"


@pytest.mark.parametrize("engine", TASKS)
@pytest.mark.parametrize("error", ["States.TaskFailed", "States.Timeout", "ECS.AccessDeniedException"])
def test_whatever_an_engine_fails_with_fails_the_batch(monkeypatch, engine, error) -> None:
    failure = stepfunctions._ExecutionError(error, '{"Status": "FAILED"}')
    services = Services(**GOOD | {TASKS[engine]: failure, "listSteps": {"Steps": []}})
    execution = run(monkeypatch, services, engine=engine)
    assert (execution["status"], execution["error"]) == ("FAILED", "BatchFailed")
    found = ["listSteps"] if (engine, error) == ("emr-step", "States.Timeout") else []
    assert services.steps() == [TASKS[engine], *found, "FinishBatch:FAILED", "Topic"]
    assert services.payload("FinishBatch:FAILED")["failure"] == {"Error": error, "Cause": '{"Status": "FAILED"}'}


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        ("fargate", "ECS.AmazonECSException"),
        ("fargate", "AmazonECS.Unknown"),
        ("emr-serverless", "EMRServerless.ServiceQuotaExceededException"),
        ("emr-step", "EMR.AmazonElasticMapReduceException"),
        ("sagemaker", "SageMaker.ResourceLimitExceededException"),
    ],
)
def test_a_quota_is_asked_for_again_and_then_fails_the_batch(monkeypatch, engine, error) -> None:
    busy = stepfunctions._ExecutionError(error, "limit")
    services = Services(**GOOD | {TASKS[engine]: [busy] * 3 + [{}]})
    assert run(monkeypatch, services, engine=engine)["status"] == "SUCCEEDED"
    services = Services(**GOOD | {TASKS[engine]: busy})
    assert run(monkeypatch, services, engine=engine)["error"] == "BatchFailed"
    assert [name for name, _ in services.calls].count(TASKS[engine]) == 31
    assert services.payload("FinishBatch:FAILED")["failure"]["Error"] == error


@pytest.mark.parametrize("tidying", ["listSteps", "cancelStep", None])
def test_a_step_without_end_is_cancelled_and_its_batch_fails_for_it(monkeypatch, tidying) -> None:
    late = stepfunctions._ExecutionError("States.Timeout", "")
    steps = {"Steps": [{"Id": "s-1", "Name": "other-1"}, {"Id": "s-2", "Name": "b-1"}]}
    broken = {tidying: stepfunctions._ExecutionError("States.TaskFailed", "no")} if tidying else {}
    services = Services(**GOOD | {"addStep.sync": late, "listSteps": steps} | broken)
    assert run(monkeypatch, services, engine="emr-step")["error"] == "BatchFailed"
    assert services.payload("FinishBatch:FAILED")["failure"]["Error"] == "States.Timeout"
    if tidying != "listSteps":
        assert services.payload("cancelStep")["StepId"] == "s-2"


@pytest.mark.parametrize("engine", [*TASKS, "abacus"])
def test_an_engine_that_the_pipeline_does_not_have_is_a_named_failure(monkeypatch, engine) -> None:
    services = Services(**GOOD)
    assert run(monkeypatch, services, engine=engine, lacks_engine=True)["error"] == "BatchFailed"
    assert services.steps() == ["FinishBatch:FAILED", "Topic"]
    failure = services.payload("FinishBatch:FAILED")["failure"]
    assert failure["Error"] == "EngineMissing"
    assert f"no engine {engine}" in failure["Cause"]


def test_what_waited_in_vain_fails_by_name_before_anything_runs(monkeypatch) -> None:
    services = Services(**GOOD)
    assert run(monkeypatch, services, engine="glue", missing=["air/planes"])["error"] == "BatchFailed"
    assert services.steps() == ["FinishBatch:FAILED", "Topic"]
    failure = services.payload("FinishBatch:FAILED")["failure"]
    assert failure["Error"] == "DependencyNotPublished"
    assert failure["Cause"].startswith("air/planes did not publish")
