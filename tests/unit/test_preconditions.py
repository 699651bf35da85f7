"""prod is deployed from a commit, and after an approval; what is refused is refused before anything is made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from tarn import cli, deployment, layers, preconditions
from tarn.deployment import DeploymentError
from tarn.preconditions import PreconditionError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit."""
    monkeypatch.delenv("CODEBUILD_RESOLVED_SOURCE_VERSION", raising=False)
    (tmp_path / "template.yaml").write_text("a")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *settings, *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_commit_is_deployed(clone: Path) -> None:
    preconditions.check_tree("prod", clone)


@pytest.mark.parametrize("change", ["template.yaml", "new.yaml"])
def test_what_no_commit_has_is_refused_for_prod_alone(clone: Path, change: str) -> None:
    (clone / change).write_text("b")
    with pytest.raises(PreconditionError, match=rf"1 files differ from it \({change}\).*--allow-dirty"):
        preconditions.check_tree("prod", clone)
    preconditions.check_tree("prod", clone, allow_dirty=True)
    preconditions.check_tree("dev", clone)


def test_a_build_of_the_delivery_pipeline_has_a_commit_and_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CODEBUILD_RESOLVED_SOURCE_VERSION", raising=False)
    with pytest.raises(PreconditionError, match="is no clone"):
        preconditions.check_tree("prod", tmp_path)
    monkeypatch.setenv("CODEBUILD_RESOLVED_SOURCE_VERSION", "1234")
    preconditions.check_tree("prod", tmp_path)


@pytest.fixture
def _at_a_workstation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CODEBUILD_INITIATOR", "CODEBUILD_RESOLVED_SOURCE_VERSION", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_at_a_workstation")
def test_prod_is_approved_in_the_pipeline_or_by_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    preconditions.check_approval("test")
    preconditions.check_approval("prod", approved=True)
    with pytest.raises(PreconditionError, match=r"prod is deployed after an approval.*--approved"):
        preconditions.check_approval("prod")
    monkeypatch.setenv("CODEBUILD_INITIATOR", "engineer")
    with pytest.raises(PreconditionError, match="after an approval"):
        preconditions.check_approval("prod")


@pytest.mark.usefixtures("_at_a_workstation")
@pytest.mark.parametrize(
    ("name", "value"), [("CODEBUILD_INITIATOR", "codepipeline/tarn-delivery"), ("GITHUB_ACTIONS", "true")]
)
def test_a_stage_of_the_pipeline_comes_after_its_approval(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    preconditions.check_approval("prod")


@pytest.fixture
def _makes_nothing(monkeypatch: pytest.MonkeyPatch, _at_a_workstation: None) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was made")

    monkeypatch.setattr(deployment, "deploy_template", refuse)
    monkeypatch.setattr(deployment, "upload_assets", refuse)


@pytest.mark.usefixtures("_makes_nothing")
@pytest.mark.parametrize("command", [["deploy"], ["deploy", "--layer", "foundations"], ["package"]])
def test_a_deployment_is_refused_before_anything_is_made(monkeypatch, clone: Path, command: list[str]) -> None:
    monkeypatch.setattr(deployment, "ROOT", clone)
    (clone / "samconfig.toml").write_text("version = 0.1\n[prod.deploy.parameters]\n")
    for environment, flags, said in (
        ("staging", [], "no environment 'staging': it has prod"),
        ("prod", [], "samconfig.toml): commit or"),
        ("prod", ["--allow-dirty"], "--approved"),
    ):
        done = CliRunner().invoke(cli.app, [*command, "-e", environment, *flags])
        assert done.exit_code == 1
        assert said in " ".join(done.output.split()), done.output


@pytest.mark.usefixtures("_makes_nothing")
def test_an_unknown_environment_has_no_layer_and_no_lake() -> None:
    with pytest.raises(DeploymentError, match="no environment 'staging'"):
        deployment.deploy("staging")
    with pytest.raises(DeploymentError, match="no environment 'staging'"):
        layers.deploy("staging", "foundations", {})


class CloudFormation:
    """Pipeline ``a_b`` of team air stands by itself, and somebody's stack has a team's name."""

    def __init__(self) -> None:
        nested = {"LogicalResourceId": "PipelineStack", "PhysicalResourceId": "nested"}
        topic = {"LogicalResourceId": "Topic", "PhysicalResourceId": "topic"}
        self._resources = {"tarn-dev-pipeline-air-a-b": [nested], "tarn-dev-team-air": [topic]}

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        if StackName not in (*self._resources, "nested"):
            raise ClientError({"Error": {"Message": f"Stack {StackName} does not exist"}}, "DescribeStacks")
        told = {"EnvironmentName": "dev", "TeamName": "air", "PipelineName": "a_b"} if StackName == "nested" else {}
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in told.items()]
        return {"Stacks": [{"StackStatus": "UPDATE_COMPLETE", "Parameters": parameters}]}

    def get_paginator(self, operation: str) -> CloudFormation:
        assert operation == "list_stack_resources"
        return self

    def paginate(self, StackName: str) -> list[dict[str, Any]]:  # noqa: N803
        return [{"StackResourceSummaries": []}, {"StackResourceSummaries": self._resources[StackName]}]


@pytest.fixture
def cloudformation() -> CloudFormationClient:
    return cast("CloudFormationClient", CloudFormation())


def test_a_stack_of_ones_own_and_one_that_is_yet_to_be_made_are_deployed(cloudformation: CloudFormationClient) -> None:
    place = {"team": "air", "pipeline": "a_b"}
    for stack in ("tarn-dev-pipeline-air-a-b", "tarn-dev-pipeline-air-c"):
        layers.check_stack(cloudformation, stack, layer="pipeline", place=place)


@pytest.mark.parametrize(
    ("layer", "place", "said"),
    [
        ("pipeline", {"team": "air", "pipeline": "a-b"}, "of pipeline air/a_b, which pipeline air/a-b would replace"),
        ("team", {"team": "air"}, "stands and is no team of Tarn"),
    ],
)
def test_a_stack_that_is_something_else_is_not_replaced(
    cloudformation: CloudFormationClient, layer: str, place: dict[str, str], said: str
) -> None:
    stack = layers.stack_name("dev", layer, place)
    with pytest.raises(PreconditionError, match=said):
        layers.check_stack(cloudformation, stack, layer=layer, place=place)
