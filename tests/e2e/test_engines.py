"""The heavy hop on every engine: `make engines` as a user runs it; on its lake, programs that do not do their work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tarn.lake import Lake
from tarn.local import engines
from tests.e2e.lake_world import (
    Demo,
    end_of,
    partitions_of,
    published_keys,
    start_batch,
    wait_for,
)
from tests.e2e.own_emulator import seen

pytestmark = pytest.mark.slow

DAY = Path(__file__).parents[2] / "datasets" / "air" / "flights" / "samples" / "2013-01-01.csv"
FILES = 31
"""MinItems of the flights: a batch is made of that many."""
ENDS_WELL = "print('nothing done')"
NAP = "import time\ntime.sleep(600)"


def notebook(cell: str) -> str:
    code = {"cell_type": "code", "id": "c1", "execution_count": None, "metadata": {}, "outputs": [], "source": cell}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": [code], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Iterator[Demo]:
    """What ``make engines`` leaves."""
    state = tmp_path_factory.mktemp("engines")
    command = [sys.executable, "-m", "tarn.local.engines", "--keep", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    with seen(state) as session:
        yield Demo(done.returncode, done.stdout + done.stderr, state, Lake("local", session), session)


def test_the_same_batch_is_published_alike_by_every_engine(lake: Demo) -> None:
    assert lake.returncode == 0, lake.screen
    assert lake.screen.splitlines()[-1] == "5 passed, 0 failed"


@contextmanager
def replaced(lake: Demo, name: str, text: str) -> Iterator[None]:
    """Let an asset hold another text; the right one is put back."""
    s3, bucket = lake.session.client("s3"), lake.lake.contract.value("/tarn/local/assets/bucket/name")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="assets/")
    (key,) = [one["Key"] for page in pages for one in page["Contents"] if one["Key"].endswith(name)]
    right = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
    try:
        yield
    finally:
        s3.put_object(Bucket=bucket, Key=key, Body=right)


def started(lake: Demo, dataset: str, name: str) -> dict[str, Any]:
    """A batch of a dataset, started."""
    landed = [lake.lake.put("air", dataset, DAY, f"{name} {number}.csv") for number in range(FILES)]
    for identity in landed:
        wait_for(
            lambda identity=identity: (lake.lake.object_row(identity) or {}).get("state") == "STAGED" or None,
            f"{identity} is not staged",
        )
    return start_batch(lake, dataset)


SCRIPT = "spark/transform_batch.py"
EMPTY = "SELECT * FROM staged WHERE false"
BAD = {
    "a Spark job that ends well and did nothing": ("emr-serverless", SCRIPT, ENDS_WELL, "OutcomeMissingError"),
    "a step that ends well and did nothing": ("emr-step", SCRIPT, ENDS_WELL, "OutcomeMissingError"),
    "no rows": ("fargate", "flights_fargate/heavy.sql", EMPTY, "the transform returned none"),
    "a reserved column": (
        "fargate",
        "flights_fargate/heavy.sql",
        "SELECT *, 1 AS batch FROM staged",
        "cannot be called",
    ),
    "SQL that is wrong": ("fargate", "flights_fargate/heavy.sql", "SELECT nosuch FROM staged", "heavy.sql, line 1"),
    "a notebook that raises": ("sagemaker", "flights_sagemaker/heavy.ipynb", notebook("1 / 0"), "ZeroDivisionError"),
    "a notebook that writes nothing": (
        "sagemaker",
        "flights_sagemaker/heavy.ipynb",
        notebook("1"),
        "none wrote the file",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_program_that_does_not_do_its_work_fails_its_batch(lake: Demo, case: str) -> None:
    engine, asset, text, reason = BAD[case]
    dataset = engines.dataset_of(engine)
    with replaced(lake, asset, text):
        batch = end_of(lake, started(lake, dataset, case))
    assert batch["state"] == "FAILED"
    assert reason in batch["reason"]
    assert batch["batch_id"] not in {values[-1] for values in partitions_of(lake, dataset)}
    assert not [key for key in published_keys(lake, f"air/{dataset}/") if batch["batch_id"] in key]


def test_a_stopped_execution_stops_its_job_and_the_next_run_closes_its_batch(lake: Demo) -> None:
    serverless = lake.session.client("emr-serverless")
    (application,) = applications(lake)
    dataset = engines.dataset_of("emr-serverless")
    with replaced(lake, SCRIPT, NAP):
        batch = started(lake, dataset, "stopped")

        def state() -> str:
            runs = serverless.list_job_runs(applicationId=application)["jobRuns"]
            return next((run["state"] for run in runs if run["name"].startswith(batch["batch_id"])), "")

        wait_for(lambda: state() == "RUNNING" or None, "the job does not run")
        arn = lake.lake.batch(batch["owner"], batch["batch_id"])["execution_arn"]
        lake.session.client("stepfunctions").stop_execution(executionArn=arn)
        wait_for(lambda: state() == "CANCELLED" or None, "the job goes on")
    lake.session.client("lambda").invoke(
        FunctionName=lake.lake.contract.pipeline("air", "main", "start-batch/arn"),
        Payload=json.dumps({"team": "air", "dataset": dataset, "claim": False}),
    )
    batch = end_of(lake, batch)
    assert batch["state"] == "FAILED"
    assert "ABORTED" in batch["reason"]


def applications(lake: Demo) -> list[str]:
    """The application of the team's pipeline."""
    stacks = lake.session.client("cloudformation")
    found = []
    for stack in stacks.get_paginator("list_stacks").paginate():
        for one in stack["StackSummaries"]:
            if "AirMainPipelineStack" in one["StackName"] and not one["StackStatus"].startswith("DELETE"):
                resources = stacks.list_stack_resources(StackName=one["StackId"])["StackResourceSummaries"]
                kind = "AWS::EMRServerless::Application"
                found += [each["PhysicalResourceId"] for each in resources if each["ResourceType"] == kind]
    return found
