"""The heavy hop on every engine: `make engines` as a user runs it; on its lake, programs that do not do their work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tarn import templates
from tarn.lake import Lake
from tarn.local import engines
from tests.e2e import authorization, trespass
from tests.e2e.authorization import Judge, Role, Unseen
from tests.e2e.lake_world import (
    Demo,
    end_of,
    partitions_of,
    published_keys,
    start_batch,
    wait_for,
)
from tests.e2e.own_emulator import taken_over

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
    environment = {**os.environ, "TARN_RECORD_DECISIONS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    with taken_over(state) as session:
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


# Who may do what: the roles of jobs on other engines, and what the machine of batches may do with these

ROOT = "tarn-local"
JOB_ROLES = ("TransformTaskRole", "TransformTaskStartRole", "ServerlessJobRole", "StepRole", "NotebookRole")
IMAGE = "the image is this machine's: nobody pulls it"
PARTS = "what is larger than a part is uploaded in parts: all is small here"
AGAIN = "for a second try after a crash, which leaves files of the first"
GROUP = "the embedded AWS asks of a group by its name, and AWS by its name and :*, as GetAtt gives it"
STOPPED = "asked for when an execution is stopped in this engine's task (tests/integration/test_local_engines.py)"
TABLE = "Step Functions' own list for .sync"
UNSEEN = (
    *(Unseen(role, "AskForTheRegistrysPassword", "*", IMAGE) for role in ("TransformTaskStartRole", "NotebookRole")),
    *(Unseen(role, "PullTheImage", "*", IMAGE) for role in ("TransformTaskStartRole", "NotebookRole")),
    *(Unseen(role, "WriteWhatIsPending", "s3:AbortMultipartUpload", PARTS) for role in JOB_ROLES[:1] + JOB_ROLES[2:]),
    *(Unseen(role, "WriteWhatIsPending", "s3:DeleteObject", AGAIN) for role in JOB_ROLES[:1] + JOB_ROLES[2:]),
    *(Unseen(role, "WriteWhatIsPending", "s3:ListMultipartUploadParts", PARTS) for role in JOB_ROLES[2:4]),
    *(Unseen(role, "CleanUpUploadsOfItsCommitter", "*", PARTS) for role in JOB_ROLES[2:4]),
    *(Unseen(role, "FindTheBuckets", "*", "EMR looks for a bucket's region; here is one") for role in JOB_ROLES[2:4]),
    *(
        Unseen(role, "ListTheTeamsStagedObjects", "*", "without it S3 answers a HEAD of nothing with 403, and here 404")
        for role in JOB_ROLES[2:4]
    ),
    *(
        Unseen(role, "ListWhatIsPending", "*/_pending", "S3A may ask for a folder without a slash")
        for role in JOB_ROLES[2:4]
    ),
    Unseen("TransformTaskStartRole", "WriteItsLog", "*", GROUP),
    Unseen("ServerlessJobRole", "WriteItsLog", "*", GROUP),
    Unseen("ServerlessJobRole", "FindItsLog", "*", "EMR Serverless looks for the group; here it is named"),
    Unseen(
        "NotebookRole", "WriteItsLogs", "logs:DescribeLogStreams", "SageMaker looks for the stream; here it is named"
    ),
    Unseen("*StateMachineRole", "Look*", "ecs:StopTask", STOPPED),
    Unseen("*StateMachineRole", "Look*", "elasticmapreduce:CancelSteps", STOPPED),
    Unseen("*StateMachineRole", "Look*", "elasticmapreduce:ListSteps", TABLE),
    Unseen("*StateMachineRole", "RunNotebooks*", "sagemaker:StopProcessingJob", STOPPED),
    Unseen("*StateMachineRole", "RunNotebooks*", "sagemaker:AddTags", TABLE),
    Unseen("*StateMachineRole", "RunNotebooks*", "sagemaker:ListTags", TABLE),
)


@pytest.fixture(scope="module")
def roles(lake: Demo) -> list[Role]:
    return authorization.roles(lake.session, ROOT)


def test_every_part_of_what_engines_may_do_is_needed(lake: Demo, roles: list[Role]) -> None:
    """What every pipeline has is proven in test_least_privilege.py, by the same judge."""
    policies = templates.load("pipeline/engines.yaml")["Resources"].values()
    of_machine = {one["Sid"] for policy in policies for one in policy["Properties"]["PolicyDocument"]["Statement"]}
    spare = [
        (role, part)
        for role, part in Judge(lake.session).spare_parts_of_all(roles, authorization.recorded(lake.state))
        if role in JOB_ROLES or part.sid in of_machine
    ]
    unexplained, stale = authorization.without_need(spare, UNSEEN)
    assert not unexplained, f"nothing needs this: take it away, or say in UNSEEN why it stays\n{unexplained}"
    assert not stale, f"this is needed now: take it out of UNSEEN\n{stale}"


def test_no_role_of_an_engine_reaches_another_teams_things(lake: Demo) -> None:
    """Every other role is tried in test_isolation.py."""
    air, sky = (trespass.belongings(lake.session, ROOT, team) for team in ("air", "sky"))
    of_air = {one.logical_id: one.arn for one in authorization.roles(lake.session, ROOT, "air")}
    flow = lake.session.client("emr").list_clusters()["Clusters"][0]["Id"]
    machine = "StageToAnalyticsStateMachineRole"
    reached, tried = set(), set()
    for one in authorization.roles(lake.session, ROOT, "sky"):
        if one.logical_id not in (*JOB_ROLES, machine):
            continue
        tried.add(one.logical_id)
        with trespass.acting_as(lake.session, one.arn) as actor:
            attempts = [
                *(*trespass.attempts(air, mine=sky), *trespass.starts(air)),
                *(*trespass.looks_at_engines(air), *trespass.starts_of_engines(air, of_air, flow)),
            ]
            reached |= {f"{one.logical_id} may {attempt.name}" for attempt in attempts if actor.may(attempt)}
            if one.logical_id == machine:
                assert {own.name for own in trespass.looks_at_engines(sky) if not actor.may(own)} == set()
    assert tried == {*JOB_ROLES, machine}
    assert reached == set()
