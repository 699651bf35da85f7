"""One layer as a stack of its own: what it is called, what it is given."""

from __future__ import annotations

from typing import Any

import pytest

from tarn import deployment, layers, preconditions
from tarn.deployment import DeploymentError, Package

AIR = {"team": "air", "pipeline": "main", "dataset": "airlines"}


class Standing:
    """A contract whose every value tells its name."""

    def __init__(self, environment: str) -> None:
        self.environment = environment

    def value(self, parameter: str) -> str:
        return f"the value of {parameter}"


@pytest.fixture
def deployed(monkeypatch) -> list[tuple[str, str, dict[str, str]]]:
    """What would be deployed: template, stack, parameters."""
    found: list[tuple[str, str, dict[str, str]]] = []
    bucket = {"EnvironmentName": "dev", "AssetBucketName": "assets", "DeequJarKey": "assets/1/deequ.jar"}

    def deploy_stack(environment: str, template: str, stack: str, parameters: dict[str, str], **_: Any) -> None:
        found.append((template, stack, parameters))

    monkeypatch.setattr(deployment, "deploy_stack", deploy_stack)
    monkeypatch.setattr(
        deployment, "deploy_asset_bucket", lambda name, **_: found.append(("assets.yaml", f"tarn-{name}-assets", {}))
    )
    monkeypatch.setattr(preconditions, "check_tree", lambda *_, **__: None)
    monkeypatch.setattr(preconditions, "check_approval", lambda *_, **__: None)
    monkeypatch.setattr(layers, "check_stack", lambda *_, **__: None)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr(deployment, "upload_assets", lambda *_, **__: Package("assets", bucket))
    monkeypatch.setattr(layers, "standing", Standing)
    return found


def test_a_team_reads_what_the_foundations_published(deployed) -> None:
    layers.deploy("prod", "team", AIR)
    [(template, stack, given)] = deployed
    assert (template, stack) == ("team/standalone.yaml", "tarn-prod-team-air")
    assert given["FoundationsKeyArn"] == "/tarn/prod/foundations/key/arn"
    assert given["AssetBucketName"] == "/tarn/prod/assets/bucket/name"
    assert (given["TeamName"], given["LogRetentionDays"]) == ("air", "365")


def test_a_pipeline_reads_its_team_and_is_told_its_jars(deployed) -> None:
    layers.deploy("dev", "pipeline", AIR)
    [(_, stack, given)] = deployed
    assert stack == "tarn-dev-pipeline-air-main"
    assert given["TeamKeyArn"] == "/tarn/dev/team/air/key/arn"
    assert (given["DeequJarKey"], given["DqdlJarKey"]) == ("assets/1/deequ.jar", "")


def test_a_dataset_is_told_what_the_contract_holds_and_where_its_assets_are(deployed) -> None:
    layers.deploy("dev", "dataset", AIR, overrides={"MaxWaitMinutes": "5"})
    [(template, stack, given)] = deployed
    assert (template, stack) == ("datasets/air/airlines/template.yaml", "tarn-dev-dataset-air-airlines")
    assert given["StartBatchRoleArn"] == "the value of /tarn/dev/pipeline/air/main/start-batch-role/arn"
    assert given["AssetPrefix"].endswith("/airlines/")
    assert given["MaxWaitMinutes"] == "5"
    assert "PipelineName" not in given, "its folder says it"


def test_the_foundations_make_the_asset_bucket_first(deployed) -> None:
    layers.deploy("dev", "foundations", {})
    assert [stack for _, stack, _ in deployed] == ["tarn-dev-assets", "tarn-dev-foundations"]
    assert deployed[1][2]["DependenciesKey"] == ""


@pytest.mark.parametrize(
    ("layer", "names", "overrides", "said"),
    [
        ("lake", {}, {}, "it can be foundations, team, pipeline, dataset"),
        ("pipeline", {"team": "air"}, {}, "--pipeline"),
        ("dataset", AIR | {"dataset": "trains"}, {}, "tarn new dataset air/trains"),
        ("dataset", AIR, {"Columns": "a:int"}, "takes no Columns"),
        ("team", AIR, {"TickExpression": "rate(1 minute)"}, "takes no TickExpression"),
    ],
)
def test_what_is_missing_or_unknown_is_named_before_anything_is_deployed(
    deployed, layer, names, overrides, said
) -> None:
    with pytest.raises(DeploymentError, match=said):
        layers.deploy("dev", layer, names, overrides=overrides)
    assert deployed == []


def test_a_stacks_name_has_no_underscore() -> None:
    place = {"team": "air", "dataset": "daily_flights"}
    assert layers.stack_name("dev", "dataset", place) == "tarn-dev-dataset-air-daily-flights"
