"""Each layer as a stack of its own, in a lake of its own: they find each other through the contract alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tarn import templates
from tarn.lake import Lake
from tarn.local import emulator
from tests.e2e.lake_world import Demo, end_of, stage, start_batch

AIRLINES = templates.ROOT / "datasets" / "airlines" / "samples" / "airlines.csv"
COLUMNS = "carrier:string:required, name:string:required"
PIPELINE = ("--team", "air", "--pipeline", "main")
STACKS = {
    "tarn-local-foundations",
    "tarn-local-team-air",
    "tarn-local-pipeline-air-main",
    "tarn-local-dataset-air-airlines",
}

TARN = Path(sys.executable).with_name("tarn")
Deploy = Callable[..., None]


@pytest.fixture(scope="module")
def deploy(tmp_path_factory) -> Iterator[Deploy]:
    """``tarn deploy --layer`` as a user calls it, on an embedded AWS that these tests alone use."""
    state = tmp_path_factory.mktemp("layers")
    emulator.start(state)
    environment = emulator.command_environment(state)

    def run(layer: str, *arguments: str) -> None:
        command = [str(TARN), "deploy", "--quality", "off", "--layer", layer, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=templates.ROOT)
        assert done.returncode == 0, done.stdout + done.stderr

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in emulator.client_environment(state).items():
            patch.setenv(name, value)
        try:
            yield run
        finally:
            emulator.stop(state, purge=True)


@pytest.fixture(scope="module")
def lake(deploy) -> Demo:
    """Foundations, team, pipeline and dataset, one after the other."""
    deploy("foundations")
    deploy("team", "--team", "air")
    deploy("pipeline", *PIPELINE)
    own = ("--parameter", f"Columns={COLUMNS}", "--parameter", "TransformSql=light.sql")
    deploy("dataset", *PIPELINE, "--dataset", "airlines", *own)
    session = boto3.Session()
    return Demo(0, "", Path(), Lake("local", session), session)


def roots(lake: Demo) -> set[str]:
    """The stacks that stand by themselves, all of them in a good state."""
    stacks = lake.session.client("cloudformation").describe_stacks()["Stacks"]
    standing = [one for one in stacks if "RootId" not in one and one["StackName"] in STACKS]
    assert all(one["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE") for one in standing), standing
    return {one["StackName"] for one in standing}


def kept_days(lake: Demo, stack: str) -> set[int]:
    """How long the log groups of a stack, and of those nested in it, keep what they are told."""
    cloudformation = lake.session.client("cloudformation")
    resources = [
        resource
        for one in cloudformation.describe_stacks()["Stacks"]
        if one["StackName"].startswith(stack)
        for resource in cloudformation.describe_stack_resources(StackName=one["StackName"])["StackResources"]
    ]
    names = {one["PhysicalResourceId"] for one in resources if one["ResourceType"] == "AWS::Logs::LogGroup"}
    pages = lake.session.client("logs").get_paginator("describe_log_groups").paginate()
    groups = [one for page in pages for one in page["logGroups"] if one["logGroupName"] in names]
    assert len(groups) == len(names) > 0
    return {one["retentionInDays"] for one in groups}


def published(lake: Demo) -> str | None:
    return lake.lake.query("SELECT count(*) FROM airlines").rows[0][0]


def test_a_file_goes_through_layers_that_know_each_other_by_the_contract(lake) -> None:
    assert roots(lake) == STACKS
    stage(lake, "airlines", AIRLINES, "airlines.csv")
    batch = end_of(lake, start_batch(lake, "airlines"))
    assert batch["state"] == "PUBLISHED", batch
    assert published(lake) == "16"


def test_foundations_change_under_the_others(lake, deploy) -> None:
    deploy("foundations", "--parameter", "LogRetentionDays=14")
    assert kept_days(lake, "tarn-local-foundations") == {14}
    assert kept_days(lake, "tarn-local-team-air") == {30}
    assert roots(lake) == STACKS
    assert published(lake) == "16"
    stage(lake, "airlines", AIRLINES, "again.csv")


def test_they_are_removed_from_the_top(lake) -> None:
    cloudformation = lake.session.client("cloudformation")
    for stack in ("tarn-local-dataset-air-airlines", "tarn-local-pipeline-air-main", "tarn-local-team-air"):
        cloudformation.delete_stack(StackName=stack)
        waiter = cloudformation.get_waiter("stack_delete_complete")
        waiter.wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert roots(lake) == {"tarn-local-foundations"}
    left = Lake("local", lake.session).contract
    assert (left.datasets(), left.pipelines(), left.teams()) == ([], [], [])
    rows = lake.session.resource("dynamodb").Table(left.foundations("datasets-table/name")).scan()["Items"]
    assert [row["dataset"] for row in rows if not row["dataset"].startswith("tick#")] == [], "a registration is left"
