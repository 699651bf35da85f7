"""The delivery's own stacks, deployed: their wiring holds, from `tarn bootstrap` to the roles that a stage takes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tarn.local import emulator as local
from tarn.local.emulator import Emulator
from tarn.templates import ROOT

Client = Callable[[str], Any]


def tarn(emulator: Emulator, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**local.command_environment(emulator.settings.state_dir), "COLUMNS": "1000"}
    return subprocess.run(
        [str(ROOT / ".venv" / "bin" / "tarn"), *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def said(emulator: Emulator) -> str:
    """The delivery pipeline to prod, all in one account."""
    done = tarn(emulator, "bootstrap", "-e", "prod", "--source", "codecommit")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def resources(said: str, client: Client) -> dict[str, dict[str, str]]:
    """Physical ids of what was made, by nested stack and logical id."""
    api = client("cloudformation")
    outer = api.describe_stack_resources(StackName="tarn-delivery")["StackResources"]
    return {
        one["LogicalResourceId"]: {
            inner["LogicalResourceId"]: inner["PhysicalResourceId"]
            for inner in api.describe_stack_resources(StackName=one["PhysicalResourceId"])["StackResources"]
        }
        for one in outer
    }


def test_bootstrap_says_where_to_push_and_what_other_accounts_need(said: str) -> None:
    assert "git push https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/tarn-lake HEAD:main" in said
    assert "ExternalId: " in said


def test_there_is_a_project_for_each_stage_of_each_environment(resources, client: Client) -> None:
    names = [one["BuildProject"] for one in resources.values() if "BuildProject" in one]
    assert sorted(names) == [
        *("tarn-lake-dev-deploy", "tarn-lake-dev-smoke", "tarn-lake-none-check", "tarn-lake-prod-deploy"),
        *("tarn-lake-prod-diff", "tarn-lake-test-deploy", "tarn-lake-test-diff"),
    ]
    assert "PipelineStack" in resources
    assert not [name for name in resources if "TeamTarget" in name]


def test_each_target_role_trusts_the_project_of_its_own_environment(resources, client: Client) -> None:
    iam = client("iam")
    for stack in ("DevTargetStack", "TestTargetStack", "ProdTargetStack"):
        environment = stack.removesuffix("TargetStack").lower()
        role = iam.get_role(RoleName=resources[stack]["DeployRole"])["Role"]
        assert role["Arn"].endswith(f":role/tarn-delivery/lake-target-{environment}-deploy")
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"]["AWS"].endswith(f":role/tarn-delivery/lake-build-{environment}-deploy")
        assert trust["Condition"]["StringEquals"]["sts:ExternalId"]


def test_the_log_says_that_no_delivery_runs_here(said: str, emulator: Emulator) -> None:
    assert "AWS::CodePipeline::Pipeline Pipeline of" in emulator.settings.log_path.read_text()


def test_a_teams_delivery_by_a_connection_stands_on_its_boundary(emulator: Emulator, client: Client) -> None:
    for thing in ("boundary", "key", "registrar-function"):
        for environment in ("dev", "test"):
            name, value = f"/tarn/{environment}/team/air/{thing}/arn", f"arn:aws:x:::{environment}-{thing}"
            client("ssm").put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
    given = ("Pipelines=main", "ConnectionProvider=GitHub", "ExternalRepository=example/lake")
    words = [word for one in given for word in ("--parameter", one)]
    done = tarn(emulator, "bootstrap", "-e", "test", "--team", "air", "--source", "connection", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The connection is pending" in done.stdout
    api = client("cloudformation")
    made = {
        one["LogicalResourceId"]: one["PhysicalResourceId"]
        for one in api.describe_stack_resources(StackName="tarn-delivery-air")["StackResources"]
    }
    assert {name for name in made if "Target" in name} == {"DevTeamTargetStack", "TestTeamTargetStack"}
    assert "DevSmokeProjectStack" not in made
    nested = api.describe_stack_resources(StackName=made["TestTeamTargetStack"])["StackResources"]
    (inner,) = [one["PhysicalResourceId"] for one in nested if one["LogicalResourceId"] == "CloudFormationRoleStack"]
    told = api.describe_stacks(StackName=inner)["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "BoundaryArn", "ParameterValue": "arn:aws:x:::test-boundary"} in told


def test_a_refused_source_changes_nothing(emulator: Emulator) -> None:
    done = tarn(emulator, "bootstrap", "-e", "dev", "--source", "github")
    assert done.returncode == 1
    assert "SourceKind is 'github': it can be codecommit, connection" in done.stderr
