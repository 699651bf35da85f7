"""What a deployment is told."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from tarn import cli, deployment


def test_a_templates_own_default_is_told_as_well() -> None:
    """sam keeps the value before of what it is not told: a changed default would reach no stack that stands."""
    given = deployment.complete("template.yaml", {"EnvironmentName": "dev", "TickExpression": "rate(1 minute)"})
    assert (given["LogRetentionDays"], given["TickExpression"]) == ("30", "rate(1 minute)")
    assert "AssetBucketName" not in given, "it has no default"


@pytest.mark.parametrize(("given", "protected"), [({}, True), ({"DeletionProtection": "false"}, False)])
def test_an_environment_is_protected_unless_it_says_otherwise(given: dict[str, str], protected: bool) -> None:
    assert deployment.is_protected(given) is protected


def test_whoever_deploys_by_hand_is_told_the_defaults_as_well(monkeypatch) -> None:
    """taskcat, and other programs, are told what `tarn package` prints and nothing else."""
    monkeypatch.setattr(deployment, "prepare", lambda *_, **__: deployment.Package("b", {"AssetBucketName": "b"}))
    printed = CliRunner().invoke(cli.app, ["package", "-e", "local"]).stdout.splitlines()
    assert {"AssetBucketName=b", "LogRetentionDays=30"} <= set(printed)
