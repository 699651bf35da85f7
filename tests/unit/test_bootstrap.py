"""What `tarn bootstrap` refuses before it asks AWS for anything."""

from __future__ import annotations

import pytest

from tarn import templates
from tarn.bootstrap import TEMPLATES, bootstrap
from tarn.deployment import DeploymentError


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("AWS was asked")

    monkeypatch.setattr("tarn.deployment.deploy_asset_bucket", refuse)


@pytest.mark.parametrize(
    ("part", "environment", "given", "said"),
    [
        ("everything", "dev", {}, "no part of the delivery: it can be pipeline, target, github, drift"),
        ("pipeline", "dev", {}, "needs --parameter for SourceKind"),
        ("pipeline", "dev", {"source": "github"}, "SourceKind is 'github': it can be codecommit, connection"),
        ("pipeline", "production", {"source": "codecommit"}, "'production': it can be dev, test, prod"),
        ("pipeline", "dev", {"source": "codecommit", "overrides": {"Branch": "x"}}, "takes no Branch: it takes"),
        ("target", "prod", {}, "needs --parameter for DeployerArn, DifferArn, SmokerArn, ExternalId"),
        ("target", "prod", {"team": "air"}, "team_role.yaml needs --parameter for DeployerArn, DifferArn, ExternalId"),
        ("pipeline", "dev", {"source": "connection"}, "needs --parameter for ConnectionProvider, ExternalRepository"),
        ("pipeline", "dev", {"source": "codecommit", "team": "air"}, "needs --parameter for Pipelines"),
        ("pipeline", "dev", {"source": "codecommit", "team": "lake"}, "team 'lake': the lake itself uses this name"),
        ("target", "dev", {"team": "pipeline"}, "team 'pipeline': the lake itself uses this name"),
        ("github", "dev", {}, "needs --parameter for GithubRepository"),
    ],
)  # fmt: skip
def test_it_says_what_is_missing_or_wrong_and_changes_nothing(part, environment, given, said) -> None:
    with pytest.raises(DeploymentError, match=said):
        bootstrap(part, environment, **given)


def test_every_part_has_its_template() -> None:
    for template in [*TEMPLATES.values(), "cicd/team_role.yaml"]:
        assert (templates.ROOT / template).is_file()


def test_an_unknown_environment_is_refused_by_name() -> None:
    with pytest.raises(DeploymentError, match="EnvironmentName is 'staging': it can be local, dev, test, prod"):
        bootstrap("target", "staging", overrides=_target())


def _target() -> dict[str, str]:
    arn = "arn:aws:iam::111111111111:role/x"
    return {"DeployerArn": arn, "DifferArn": "none", "SmokerArn": "none", "ExternalId": "0123456789abcdef"}
