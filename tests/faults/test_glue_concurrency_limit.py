"""Glue at its concurrency limit: the start of a job is tried again for hours, in minutes, and then fails by name.

The state machine's own definition runs in the embedded AWS's interpreter; waits take no time.
"""

from __future__ import annotations

import pytest
from ministack.services import stepfunctions

from tests.integration.test_second_hop_machine import GOOD, JUDGED, Services, run
from tests.templates import asl

TRIES = 60


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
