"""The commands behind the phases: what a stage runs, as whom, and where it may upload."""

from __future__ import annotations

import os
import subprocess

import pytest

from tarn import deployment
from tarn.templates import ROOT
from tests.templates.delivery_actions import CALLS


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """`make -n` with no variable of whoever runs the tests: what it would do, and nothing done."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TARN_", "MAKE", "QUALITY"))}
    return subprocess.run(
        ["make", "--no-print-directory", "-n", *words], cwd=ROOT, env=ours, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", CALLS)
def test_every_stage_has_every_phase(target) -> None:
    done = make(target, "TARN_ENVIRONMENT=dev")
    assert done.returncode == 0, done.stderr


def test_a_stage_that_is_none_is_refused() -> None:
    done = subprocess.run(
        ["make", "delivery-install", "TARN_STAGE=deplyo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "TARN_STAGE is 'deplyo': it can be check diff deploy smoke" in done.stderr


@pytest.mark.parametrize("target", ["diff-build", "deploy-build", "smoke-build"])
def test_a_stage_without_its_environment_is_refused(target) -> None:
    done = make(target)
    assert done.returncode != 0
    assert "TARN_ENVIRONMENT is not set" in done.stderr


def test_the_diff_runs_before_an_approval_and_deploys_nothing() -> None:
    for team in ([], ["TARN_TEAM=air", "TARN_PIPELINES=main"]):
        words = make("diff-build", "TARN_ENVIRONMENT=prod", *team).stdout
        assert "tarn diff prod" in words
        assert "tarn deploy" not in words


def test_a_team_deploys_its_pipelines_and_then_its_datasets() -> None:
    words = make("deploy-build", "TARN_ENVIRONMENT=dev", "TARN_TEAM=sky", "TARN_PIPELINES=main more").stdout
    assert "for one in pipeline/main pipeline/more dataset/weather; do" in words
    assert "--team sky" in words


def test_the_aws_clis_route_uses_the_same_files_and_the_same_role() -> None:
    words = make(
        "deploy-build",
        "TARN_ENVIRONMENT=dev",
        "TARN_ROUTE=cloudformation",
        "TARN_CLOUDFORMATION_ROLE_ARN=arn:aws:iam::1:role/x",
    ).stdout
    assert "cloudformation package --template-file template.yaml" in words
    assert "--stack-name tarn-dev" in words
    assert "--role-arn arn:aws:iam::1:role/x" in words
    assert "tarn deploy" not in words


def test_a_stage_takes_its_role_by_a_profile_that_says_the_external_id() -> None:
    role = "arn:aws:iam::1:role/tarn-delivery/lake-target-dev-smoke"
    words = make("smoke-pre-build", f"TARN_ROLE_ARN={role}", "TARN_EXTERNAL_ID=0123").stdout
    for line in ("[profile target]", f"role_arn = {role}", "external_id = 0123", "credential_source = EcsContainer"):
        assert line in words, line
    assert "profile" not in make("smoke-pre-build").stdout


def test_what_the_check_tested_is_held_against_what_is_deployed() -> None:
    assert "sha256sum dependencies.zip > tested.sha256" in make("check-post-build").stdout
    for target in ("diff-pre-build", "deploy-pre-build"):
        assert "sha256sum --quiet --check tested.sha256" in make(target).stdout


@pytest.fixture
def deployed(monkeypatch) -> list[str]:
    """The command line of `sam deploy`, which is not run."""
    command: list[str] = []

    class Sam:
        returncode = 0
        stdout = ()

        def __init__(self, words: list[str], **_: object) -> None:
            command.extend(words)

        def __enter__(self) -> Sam:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(deployment.subprocess, "Popen", Sam)
    monkeypatch.setattr(deployment.stack_failures, "latest_event", lambda *_: None)
    monkeypatch.setattr(deployment.boto3, "client", lambda *_: None)
    return command


def deploy(**parameters: str) -> None:
    deployment.sam_deploy("dev", ROOT / "template.yaml", "tarn-dev", parameters, bucket="assets", say=lambda _: None)


def test_in_the_delivery_cloudformation_has_the_role_that_it_is_given(deployed, monkeypatch) -> None:
    monkeypatch.setenv("TARN_CLOUDFORMATION_ROLE_ARN", "arn:aws:iam::1:role/x")
    monkeypatch.setenv("TARN_PACKAGE_PREFIX", "packages/air")
    deploy(TeamName="air")
    assert deployed[deployed.index("--role-arn") + 1] == "arn:aws:iam::1:role/x"
    assert deployed[deployed.index("--s3-prefix") + 1] == "packages/air"
    tags = deployed.index("--tags")
    assert deployed[tags + 1 : tags + 3] == ["tarn:environment=dev", "tarn:team=air"]


def test_elsewhere_it_deploys_as_whoever_asks(deployed, monkeypatch) -> None:
    monkeypatch.delenv("TARN_CLOUDFORMATION_ROLE_ARN", raising=False)
    monkeypatch.delenv("TARN_PACKAGE_PREFIX", raising=False)
    deploy()
    assert "--role-arn" not in deployed
    assert "--tags" not in deployed
    assert deployed[deployed.index("--s3-prefix") + 1] == "packages"
