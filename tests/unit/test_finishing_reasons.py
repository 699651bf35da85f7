"""What a batch's row says of a job that ended badly, whatever the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lake import finishing


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (
            {"JobName": "transform", "JobRunState": "TIMEOUT", "Id": "jr_1"},
            "job transform TIMEOUT: it gave no message",
        ),
        (
            {
                "TaskArn": "arn:aws:ecs:eu-west-1:000000000000:task/cluster/abc",
                "LastStatus": "STOPPED",
                "StoppedReason": "Essential container in task exited",
                "Containers": [{"ExitCode": 1, "Reason": "OutOfMemoryError: Container killed due to memory usage"}],
            },
            "task abc STOPPED with exit code 1: OutOfMemoryError: Container killed due to memory usage",
        ),
        (
            {
                "TaskArn": "arn:aws:ecs:eu-west-1:000000000000:task/cluster/abc",
                "LastStatus": "STOPPED",
                "StoppedReason": "CannotPullContainerError: no such image",
                "Containers": [{"Name": "transform"}],
            },
            "task abc STOPPED: CannotPullContainerError: no such image",
        ),
        (
            {"ApplicationId": "a", "JobRunId": "r1", "State": "CANCELLED", "StateDetails": ""},
            "job run r1 CANCELLED: it gave no message",
        ),
        (
            {"Step": {"Id": "s-1", "Status": {"State": "FAILED", "FailureDetails": {"Message": "exit code 1"}}}},
            "step s-1 FAILED: exit code 1",
        ),
        (
            {
                "ProcessingJobName": "tarn-b1-1",
                "ProcessingJobStatus": "Failed",
                "ExitMessage": "HeavyTransformError: division by zero",
                "FailureReason": "AlgorithmError: , exit code: 1",
            },
            "processing job tarn-b1-1 Failed: HeavyTransformError: division by zero",
        ),
    ],
    ids=["glue", "a container that ran", "a container that did not", "emr-serverless", "emr-step", "sagemaker"],
)
def test_a_job_that_ended_badly_is_named_with_its_services_reason(description: dict[str, Any], reason: str) -> None:
    failure = {"Error": "States.TaskFailed", "Cause": json.dumps(description)}
    assert finishing.reason_of(failure) == reason
    assert finishing.is_job_failure(failure)


def test_a_function_or_a_refused_call_is_no_job() -> None:
    for cause in ('{"errorType": "E", "errorMessage": "m"}', "no JSON", '["a list"]'):
        assert not finishing.is_job_failure({"Error": "E", "Cause": cause})
