"""Each layer as a stack of its own, in a lake of its own: they find each other through the contract alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tarn import templates
from tarn.lake import Lake
from tarn.local import emulator
from tests.e2e.lake_world import Demo, end_of, stage, start_batch, wait_for
from tests.e2e.own_emulator import own_emulator

AIRLINES = templates.ROOT / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"
PIPELINE = ("--team", "air", "--pipeline", "main")
STACKS = {
    "tarn-local-foundations",
    "tarn-local-team-air",
    "tarn-local-pipeline-air-main",
    "tarn-local-dataset-air-airlines",
}

TARN = Path(sys.executable).with_name("tarn")
Tarn = Callable[..., subprocess.CompletedProcess[str]]
Deploy = Callable[..., None]


@pytest.fixture(scope="module")
def tarn(tmp_path_factory) -> Iterator[Tarn]:
    """``tarn`` as a user calls it, on an embedded AWS that these tests alone use."""
    state = tmp_path_factory.mktemp("layers")
    with own_emulator(state):
        environment = {**emulator.command_environment(state), "COLUMNS": "300"}

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [str(TARN), *arguments]
            return subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, cwd=templates.ROOT
            )

        yield run


@pytest.fixture(scope="module")
def deploy(tarn) -> Deploy:
    """``tarn deploy --layer``, which must succeed."""

    def run(layer: str, *arguments: str) -> None:
        done = tarn("deploy", "--quality", "off", "--layer", layer, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def lake(deploy) -> Demo:
    """Foundations, team, pipeline and dataset, one after the other."""
    deploy("foundations")
    deploy("team", "--team", "air")
    deploy("pipeline", *PIPELINE)
    deploy("dataset", "--team", "air", "--dataset", "airlines")
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


def test_a_layer_tells_what_would_change_in_it_and_changes_nothing(lake, tarn) -> None:
    done = tarn("diff", "local", "--quality", "off", "--layer", "foundations", "--parameter", "LogRetentionDays=7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RouteObjectLogGroup" in done.stdout
    assert "RetentionInDays" in done.stdout
    assert kept_days(lake, "tarn-local-foundations") == {14}


def test_a_stack_of_somebody_else_is_neither_deployed_over_nor_removed(lake, tarn) -> None:
    cloudformation, stack = lake.session.client("cloudformation"), "tarn-local-pipeline-air-other"
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    cloudformation.create_stack(StackName=stack, TemplateBody=template)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    before = resources(lake, stack)
    for command in (("deploy",), ("diff", "local"), ("remove", "--yes")):
        done = tarn(*command, "--layer", "pipeline", "--team", "air", "--pipeline", "other")
        assert done.returncode == 1
        assert f"stack {stack} stands and is no pipeline of Tarn" in done.stderr
    assert len(before) == 1
    assert resources(lake, stack) == before
    cloudformation.delete_stack(StackName=stack)


LAYERS = [
    pytest.param("dataset", ("--team", "air", "--dataset", "airlines"), id="dataset"),
    pytest.param("pipeline", PIPELINE, id="pipeline"),
    pytest.param("team", ("--team", "air"), id="team"),
]


def rows(lake: Demo) -> list[str]:
    """What is registered."""
    table = lake.session.resource("dynamodb").Table(lake.lake.contract.foundations("datasets-table/name"))
    return sorted(row["dataset"] for row in table.scan()["Items"] if not row["dataset"].startswith("tick#"))


def resources(lake: Demo, stack: str) -> set[tuple[str, str]]:
    """Everything that stands in a stack and in those nested in it."""
    cloudformation = lake.session.client("cloudformation")
    names = [one["StackName"] for one in cloudformation.describe_stacks()["Stacks"]]
    return {
        (one["ResourceType"], one["PhysicalResourceId"])
        for name in names
        if name.startswith(stack)
        for one in cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    }


def stack_of(layer: str) -> str:
    [name] = [one for one in STACKS if one.startswith(f"tarn-local-{layer}")]
    return name


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("pipeline", "pipeline main of team air is in use by dataset airlines: remove their stacks first"),
        ("team", "team air is in use by dataset airlines, pipeline main: remove their stacks first"),
    ],
)
def test_cloudformation_itself_is_refused_out_of_order_and_nothing_changes(lake, layer, said) -> None:
    cloudformation, stack = lake.session.client("cloudformation"), stack_of(layer)
    before = resources(lake, stack), rows(lake), lake.lake.contract.queues()
    cloudformation.delete_stack(StackName=stack)

    def ended() -> dict | None:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        return found if found["StackStatus"] == "DELETE_FAILED" else None

    wait_for(ended, f"{stack} does not end DELETE_FAILED")
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    assert any(said in one.get("ResourceStatusReason", "") for one in events), events[:5]
    assert (resources(lake, stack), rows(lake), Lake("local", lake.session).contract.queues()) == before


@pytest.mark.parametrize(
    ("layer", "arguments", "said"),
    [
        ("pipeline", PIPELINE, "tarn remove --layer dataset --team air --dataset airlines"),
        ("team", ("--team", "air"), "tarn remove --layer pipeline --team air --pipeline main"),
        ("foundations", (), "tarn remove --layer team --team air"),
        ("dataset", ("--team", "air", "--dataset", "trains"), "there is no stack tarn-local-dataset-air-trains"),
    ],
)
def test_the_command_says_what_is_in_the_way_and_how_to_go_on(lake, tarn, layer, arguments, said) -> None:
    before = resources(lake, "tarn-local")
    done = tarn("remove", "--yes", "--layer", layer, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert resources(lake, "tarn-local") == before


def test_a_dataset_whose_messages_wait_is_not_removed(lake, tarn) -> None:
    stage(lake, "airlines", AIRLINES, "waiting.csv")  # here, for within a minute the tick takes it
    before = resources(lake, "tarn-local")
    done = tarn("remove", "--yes", "--layer", "dataset", "--team", "air", "--dataset", "airlines")
    assert done.returncode == 1
    assert "messages are in queue dataset/air/main/airlines/" in done.stderr
    assert resources(lake, "tarn-local") == before


def test_they_are_removed_from_the_top(lake, tarn) -> None:
    end_of(lake, start_batch(lake, "airlines"))
    said = ""
    for layer, arguments in (one.values for one in LAYERS):
        done = tarn("remove", "--yes", "--layer", layer, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    assert "/air/airlines/" in said, "what was published stays, and the command says so"
    assert "AWS::KMS::Key" in said
    assert {one["StackName"] for one in lake.session.client("cloudformation").describe_stacks()["Stacks"]} & STACKS == {
        "tarn-local-foundations"
    }
    left = Lake("local", lake.session).contract
    assert (left.datasets(), left.pipelines(), left.teams()) == ([], [], [])
    assert rows(lake) == [], "a registration is left"

    done = tarn("remove", "--yes", "--layer", "foundations")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AWS::S3::Bucket" in done.stdout
