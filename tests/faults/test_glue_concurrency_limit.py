"""Glue at its concurrency limit: the start of a job is tried again for hours, in minutes, and then fails by name.

At first in the whole lake, whose job has one run at a time; then the state machine's own definition runs in the
embedded AWS's interpreter, where waits take no time.
"""

from __future__ import annotations

from typing import Any

import pytest
from ministack.services import stepfunctions

from tests.e2e.lake_world import job_script, limit_jobs, wait_for
from tests.faults.standing import Standing
from tests.integration.test_second_hop_machine import GOOD, JUDGED, Services, run
from tests.templates import asl

TRIES = 60
BUSY = "import time\ntime.sleep(600)\n"


@pytest.mark.slow
def test_a_batch_waits_while_another_run_has_the_job(standing: Standing) -> None:
    job = standing.lake.contract.jobs("air", "main")["transform_batch"]
    glue, states = standing.session.client("glue"), standing.session.client("stepfunctions")
    usual = glue.get_job(JobName=job)["Job"]["ExecutionProperty"]["MaxConcurrentRuns"]

    def run_state() -> str:
        return str(glue.get_job_run(JobName=job, RunId=other)["JobRun"]["JobRunState"])

    def refusals() -> list[dict[str, Any]]:
        [batch] = standing.batches_of(["limit.csv"]).values()
        history = states.get_execution_history(executionArn=batch["execution_arn"], maxResults=1000)["events"]
        details = [one.get("taskFailedEventDetails", {}) for one in history]
        return [one for one in details if one.get("error") == "Glue.ConcurrentRunsExceededException"]

    limit_jobs(standing.session, [job], 1)
    try:
        with job_script(standing, BUSY):
            other = glue.start_job_run(JobName=job)["JobRunId"]
            wait_for(lambda: run_state() == "RUNNING" or None, "the other run does not begin")
        standing.wait_for_state("STAGED", standing.put("limit.csv", b"carrier,name\nL1,limit\n"))
        standing.wake()
        wait_for(lambda: len(refusals()) > 1 or None, "the job was not refused twice")
        assert [row["state"] for row in standing.batches_of(["limit.csv"]).values()] == ["STARTED"]
        glue.batch_stop_job_run(JobName=job, JobRunIds=[other])
        standing.wait_until_published(["limit.csv"])
    finally:
        limit_jobs(standing.session, [job], usual)
    assert standing.carriers("limit") == [["L1", "1"]]


def busy(code: str) -> Exception:
    return stepfunctions._ExecutionError(f"Glue.{code}", "no capacity")


@pytest.mark.parametrize("job", ["TransformJob", "JudgeJob"])
@pytest.mark.parametrize("code", ["ConcurrentRunsExceededException", "ResourceNumberLimitExceededException"])
def test_a_job_that_finds_no_room_waits_for_it(monkeypatch: pytest.MonkeyPatch, job: str, code: str) -> None:
    services = Services(**GOOD | {job: [*[busy(code)] * (TRIES - 1), {}]})
    assert run(monkeypatch, services)["status"] == "SUCCEEDED"
    assert services.steps() == [*JUDGED, "PublishBatch", "FinishBatch:PUBLISHED", "Topic"]
    assert [step for step, _ in services.calls].count(job) == TRIES


@pytest.mark.parametrize("job", ["TransformJob", "JudgeJob"])
def test_a_job_that_never_finds_room_fails_its_batch_and_says_why(monkeypatch: pytest.MonkeyPatch, job: str) -> None:
    services = Services(**GOOD | {job: busy("ConcurrentRunsExceededException")})
    assert run(monkeypatch, services)["error"] == "BatchFailed"
    assert services.steps()[-2:] == ["FinishBatch:FAILED", "Topic"]
    failure = services.payload("FinishBatch:FAILED")["failure"]
    assert failure == {"Error": "Glue.ConcurrentRunsExceededException", "Cause": "no capacity"}


@pytest.mark.parametrize("state", ["TransformBatch", "JudgeBatch"])
def test_it_is_waited_for_in_minutes_and_for_hours(state: str) -> None:
    retries = asl.definition("pipeline/stage_to_analytics.asl.yaml")["States"][state]["Retry"]
    [retry] = [one for one in retries if "Glue.ConcurrentRunsExceededException" in one["ErrorEquals"]]
    assert 30 <= retry["IntervalSeconds"] <= retry["MaxDelaySeconds"] <= 900
    assert retry["MaxAttempts"] * retry["MaxDelaySeconds"] >= 4 * 3600
