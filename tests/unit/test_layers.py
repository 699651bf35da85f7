"""One layer as a stack of its own: what it is called, what it is given."""

from __future__ import annotations

from typing import Any

import pytest

from tarn import deployment, layers
from tarn.deployment import DeploymentError, Package

AIR = {"team": "air", "pipeline": "main", "dataset": "airlines"}


@pytest.fixture
def deployed(monkeypatch) -> list[tuple[str, str, dict[str, str]]]:
    """What would be deployed: template, stack, parameters."""
    found: list[tuple[str, str, dict[str, str]]] = []
    bucket = {"EnvironmentName": "dev", "AssetBucketName": "assets", "DeequJarKey": "assets/1/deequ.jar"}

    def sam_deploy(environment: str, template: str, stack: str, parameters: dict[str, str], **_: Any) -> None:
        found.append((template, stack, parameters))

    monkeypatch.setattr(deployment, "sam_deploy", sam_deploy)
    monkeypatch.setattr(deployment, "upload_assets", lambda *_, **__: Package("assets", bucket))
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


def test_a_dataset_is_told_where_its_assets_are(deployed) -> None:
    layers.deploy("dev", "dataset", AIR, overrides={"Columns": "carrier:string"})
    [(template, stack, given)] = deployed
    assert (template, stack) == ("pipeline/dataset_standalone.yaml", "tarn-dev-dataset-air-airlines")
    assert given["StartBatchRoleArn"] == "/tarn/dev/pipeline/air/main/start-batch-role/arn"
    assert given["AssetPrefix"].endswith("/airlines/")
    assert (given["TableName"], given["Columns"]) == ("airlines", "carrier:string")


def test_the_foundations_make_the_asset_bucket_first(deployed) -> None:
    layers.deploy("dev", "foundations", {})
    assert [stack for _, stack, _ in deployed] == ["tarn-dev-assets", "tarn-dev-foundations"]
    assert deployed[1][2]["DependenciesKey"] == ""


@pytest.mark.parametrize(
    ("layer", "names", "overrides", "said"),
    [
        ("lake", {}, {}, "it can be foundations, team, pipeline, dataset"),
        ("pipeline", {"team": "air"}, {}, "--pipeline"),
        ("dataset", AIR | {"dataset": "trains"}, {}, "datasets/trains"),
        ("dataset", AIR, {}, "needs --parameter for Columns"),
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
    assert (
        layers.stack_name("dev", "dataset", AIR | {"dataset": "daily_flights"}) == "tarn-dev-dataset-air-daily-flights"
    )
