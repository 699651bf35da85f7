"""No false success: whatever a job does but its work, the batch fails, nothing is published, the machine ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lake_world import (
    Demo,
    batches_of,
    end_of,
    job_script,
    notifications,
    partitions_of,
    published_keys,
    stage,
    start_batch,
    wait_for,
)

AIRLINES = Path(__file__).parents[2] / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"
RAISES = "raise ValueError('column faa is not what it was')"
KILLED_JVM = """
import os, signal
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
os.kill(spark._jvm.java.lang.ProcessHandle.current().pid(), signal.SIGKILL)
spark.range(10).count()
"""
OTHER_RUN = """
import sys, json, boto3
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
bucket, _, key = given["--outcome"].removeprefix("s3://").partition("/")
outcome = {"schema": 1, "job": "transform", "run_id": "jr_of_another_run", "batch_id": given["--batch_id"],
           "attempt": int(given["--attempt"]), "rows_in": 16, "rows_out": 16, "columns": [], "partition_columns": [],
           "files": []}
boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(outcome).encode())
"""
ENDLESS = "import time\ntime.sleep(600)"


def check_nothing_came_of_it(demo: Demo, batch: dict[str, Any], said: dict[str, Any]) -> None:
    assert batch["state"] == "FAILED"
    assert batch["reason"]
    assert batch["batch_id"] not in {values[-1] for values in partitions_of(demo, "airlines")}
    assert not [key for key in published_keys(demo, "air/airlines/") if batch["batch_id"] in key]
    states = demo.session.client("stepfunctions")

    def ended() -> str | None:
        status = states.describe_execution(executionArn=batch["execution_arn"])["status"]
        return None if status == "RUNNING" else status

    assert wait_for(ended, "the machine does not end") == "FAILED"
    assert said["state"] == "FAILED"
    assert said["subject"] == f"Tarn local: {batch['team']}/{batch['dataset']} FAILED"
    assert f"Reason: {batch['reason']}" in said["message"]
    assert f"tarn logs {batch['team']}/{batch['dataset']} --batch {batch['batch_id']}" in said["message"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("", "OutcomeMissingError", id="an empty script"),
        pytest.param(RAISES, "ValueError: column faa is not what it was", id="a script that raises"),
        pytest.param(OTHER_RUN, "OutcomeMismatchError", id="the outcome of another run"),
        pytest.param(KILLED_JVM, "FAILED", id="a killed JVM"),
    ],
)
def test_a_job_that_does_not_prove_its_work_fails_its_batch(demo, script, reason, request) -> None:
    with notifications(demo) as about, job_script(demo, script):
        stage(demo, "airlines", AIRLINES, f"{request.node.callspec.id}.csv")
        batch = end_of(demo, start_batch(demo, "airlines"))
        assert reason in batch["reason"]
        check_nothing_came_of_it(demo, batch, about(batch["batch_id"]))


def test_a_run_that_is_stopped_fails_its_batch(demo) -> None:
    glue = demo.session.client("glue")
    with notifications(demo) as about, job_script(demo, ENDLESS):
        stage(demo, "airlines", AIRLINES, "stopped.csv")
        started = start_batch(demo, "airlines")
        job = next(one["Name"] for one in glue.get_jobs()["Jobs"] if "TransformBatchJob" in one["Name"])

        def running() -> str | None:
            runs = glue.get_job_runs(JobName=job)["JobRuns"]
            return next((one["Id"] for one in runs if one["JobRunState"] == "RUNNING"), None)

        glue.batch_stop_job_run(JobName=job, JobRunIds=[wait_for(running, "the job does not run")])
        batch = end_of(demo, started)
        assert "STOPPED" in batch["reason"]
        check_nothing_came_of_it(demo, batch, about(batch["batch_id"]))


def test_a_batch_whose_execution_is_stopped_is_closed_by_the_next_run(demo) -> None:
    states = demo.session.client("stepfunctions")
    with job_script(demo, ENDLESS):
        stage(demo, "airlines", AIRLINES, "aborted.csv")
        started = start_batch(demo, "airlines")
        states.stop_execution(
            executionArn=wait_for(
                lambda: demo.lake.batch(started["owner"], started["batch_id"]).get("execution_arn"), "it does not start"
            )
        )
        stage(demo, "airlines", AIRLINES, "after.csv")
        with job_script(demo, RAISES):
            end_of(demo, start_batch(demo, "airlines"))
        closed = end_of(demo, started)
    assert closed["state"] == "FAILED"
    assert "ABORTED" in closed["reason"]


def test_after_all_that_the_next_batch_is_published(demo) -> None:
    stage(demo, "airlines", AIRLINES, "good again.csv")
    batch = end_of(demo, start_batch(demo, "airlines"))
    assert batch["state"] == "PUBLISHED", batch.get("reason")
    assert [batch["batch_id"]] in partitions_of(demo, "airlines")
    assert len([row for row in batches_of(demo, "airlines") if row["state"] == "PUBLISHED"]) == 2
