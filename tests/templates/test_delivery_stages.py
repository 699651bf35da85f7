"""The commands behind the phases: what a stage runs, as whom, and where it may upload."""

from __future__ import annotations

import os
import subprocess

import pytest

from tarn import deployment
from tarn.templates import ROOT
from tests.templates.delivery_actions import CALLS


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """`make` with no variable of whoever runs the tests."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TARN_", "MAKE", "QUALITY"))}
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=ROOT, env=ours, capture_output=True, text=True, check=False)


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """What it would do; nothing is done."""
    return run("-n", *words)


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


@pytest.mark.parametrize("stage", ["diff", "deploy"])
def test_the_aws_clis_route_is_installed_where_it_is_asked_for(stage) -> None:
    assert "requirements/awscli.txt" in make("-B", f"{stage}-install", "TARN_ROUTE=cloudformation").stdout
    assert "requirements/awscli.txt" not in make("-B", f"{stage}-install", "TARN_ROUTE=sam").stdout


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
    """The command line of a deployment, which is not run."""
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


def deploy(route: str = deployment.SAM, **parameters: str) -> None:
    given = ("dev", ROOT / "template.yaml", "tarn-dev", parameters)
    deployment.deploy_template(*given, bucket="assets", route=route, say=lambda _: None)


def words_after(option: str, command: list[str]) -> list[str]:
    rest = command[command.index(option) + 1 :]
    return rest[: next((at for at, word in enumerate(rest) if word.startswith("--")), len(rest))]


@pytest.mark.parametrize("route", deployment.ROUTES)
def test_in_the_delivery_cloudformation_has_the_role_that_it_is_given(deployed, monkeypatch, route) -> None:
    monkeypatch.setenv("TARN_CLOUDFORMATION_ROLE_ARN", "arn:aws:iam::1:role/x")
    monkeypatch.setenv("TARN_PACKAGE_PREFIX", "packages/air")
    deploy(route, TeamName="air")
    assert words_after("--role-arn", deployed) == ["arn:aws:iam::1:role/x"]
    assert words_after("--s3-prefix", deployed) == ["packages/air"]
    assert words_after("--tags", deployed) == ["tarn:environment=dev", "tarn:team=air"]


@pytest.mark.parametrize("route", deployment.ROUTES)
def test_elsewhere_it_deploys_as_whoever_asks(deployed, monkeypatch, route) -> None:
    monkeypatch.delenv("TARN_CLOUDFORMATION_ROLE_ARN", raising=False)
    monkeypatch.delenv("TARN_PACKAGE_PREFIX", raising=False)
    deploy(route)
    assert "--role-arn" not in deployed
    assert words_after("--tags", deployed) == ["tarn:environment=dev"]
    assert words_after("--s3-prefix", deployed) == ["packages"]


def test_the_aws_clis_route_says_the_same_in_its_own_words(deployed) -> None:
    """Two programs, one deployment: what only sam knows is its configuration, and how it quotes."""
    deploy(DeequJarKey="")
    by_sam = [*deployed]
    deployed.clear()
    deploy(deployment.AWS_CLI, DeequJarKey="")
    assert deployed[1:3] == ["cloudformation", "deploy"]
    assert words_after("--parameter-overrides", by_sam) == ['DeequJarKey=""']
    assert words_after("--parameter-overrides", deployed) == ["DeequJarKey="]
    options = {word for word in deployed if word.startswith("--")}
    assert {word for word in by_sam if word.startswith("--")} - options == {
        *("--config-file", "--config-env", "--no-confirm-changeset")
    }
    assert not options - set(by_sam)


@pytest.mark.parametrize(("team", "prefix"), [([], "assets"), (["TARN_TEAM=air", "TARN_PIPELINES=main"], "assets/air")])
def test_a_team_deploys_with_a_place_of_its_own_for_assets(tmp_path, team, prefix) -> None:
    """`make -n` shows no environment, so that a `tarn` of the test's own tells it."""
    (tmp_path / "tarn").write_text("#!/bin/sh\necho assets go to $TARN_ASSET_PREFIX\n")
    (tmp_path / "tarn").chmod(0o755)
    done = run("deploy-build", "TARN_ENVIRONMENT=dev", f"BIN={tmp_path}", *team)
    assert set(done.stdout.splitlines()) == {f"assets go to {prefix}"}, done.stderr


def test_a_route_that_is_none_is_refused(tmp_path) -> None:
    with pytest.raises(deployment.DeploymentError, match="--route is 'cdk': it can be sam or cloudformation"):
        deployment.package_template("template.yaml", tmp_path / "packaged.yaml", "assets", route="cdk")
