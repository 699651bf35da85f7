"""What CloudFormation refuses before any resource is made: each rule of a template, and parameters that are words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarn import templates
from tests.templates.delivery_policies import Resolved

ROOT = {"EnvironmentName": "local", "AssetBucketName": "assets"}
ZONES = {f"Adopted{zone}BucketName": "" for zone in ("Raw", "Stage", "Analytics")}
TARGET = {"EnvironmentName": "prod", "SmokerArn": "none"}
CONTAINERS = {"FargateSubnetIds": "subnet-1", "FargateSecurityGroupIds": "sg-1", "FargateImageUri": "image:1"}
RULES = [
    ("template.yaml", "LogsAreKeptAsCloudWatchCan", ROOT, {"LogRetentionDays": "10"}, {"LogRetentionDays": "365"}),
    ("template.yaml", "QualityNeedsBothJars", ROOT, {"DeequJarKey": "d.jar"}, {"DeequJarKey": "d", "DqdlJarKey": "q"}),
    ("template.yaml", "QualityNeedsBothJars", ROOT, {"DqdlJarKey": "q.jar"}, {}),
    *(
        ("template.yaml", "ContainersHaveAllThatTheyNeed", ROOT, CONTAINERS | {left_out: ""}, taken)
        for left_out, taken in zip(CONTAINERS, (CONTAINERS, {}, CONTAINERS), strict=True)
    ),
    (
        *("template.yaml", "FunctionsHaveTheirDependencies", ROOT),
        *({"EnvironmentName": "dev"}, {"EnvironmentName": "dev", "DependenciesKey": "dependencies.zip"}),
    ),
    ("template.yaml", "FunctionsHaveTheirDependencies", ROOT, {"EnvironmentName": "prod"}, {}),
    *(
        (
            *("foundations/template.yaml", "EachZoneHasABucketOfItsOwn", ROOT | ZONES),
            {f"Adopted{one}BucketName": "same" for one in pair},
            {f"Adopted{one}BucketName": one for one in pair},
        )
        for pair in (("Raw", "Stage"), ("Raw", "Analytics"), ("Stage", "Analytics"))
    ),
    *(
        ("foundations/template.yaml", "NoZoneIsTheAssetBucket", ROOT | ZONES, {zone: "assets"}, {zone: "mine"})
        for zone in ZONES
    ),
    (
        *("cicd/target_role.yaml", "OnlyDevIsTried", TARGET),
        *({"SmokerArn": "arn:smoker"}, {"SmokerArn": "arn:smoker", "EnvironmentName": "dev"}),
    ),
]
"""Template, rule, what is given to both; what it refuses, what it lets pass."""


def refused(template: str, **given: str) -> dict[str, list[str]]:
    """What each rule that refuses says."""
    path = Path(template)
    return Resolved(path.name, layer=str(path.parent), **given).refusals()


@pytest.mark.parametrize(("template", "rule", "common", "wrong", "right"), RULES)
def test_a_rule_refuses_in_words_and_lets_pass(template, rule, common, wrong, right) -> None:
    found = refused(template, **{**common, **wrong})
    assert list(found) == [rule]
    [said] = found[rule]
    assert len(said.split()) > 5, said
    assert refused(template, **{**common, **right}) == {}


def test_every_rule_has_been_asked() -> None:
    """Those of the delivery pipeline are asked in test_delivery_pipeline."""
    declared = {
        (str(path), rule)
        for path in [*templates.paths(), Path("cicd/target_role.yaml"), Path("cicd/team_role.yaml")]
        for rule in templates.load(path).get("Rules", {})
    }
    assert {(template, rule) for template, rule, *_ in RULES} == declared


@pytest.mark.parametrize(
    "template",
    [
        *("template.yaml", "foundations/assets.yaml", "cicd/target_role.yaml", "cicd/team_role.yaml"),
        *("cicd/github_role.yaml", "cicd/drift.yaml"),
    ],
)
def test_an_environment_that_is_none_is_refused_where_it_is_first_said(template) -> None:
    taken = templates.load(Path(template))["Parameters"]["EnvironmentName"]["AllowedValues"]
    assert {"dev", "test", "prod"} <= set(taken) <= {"local", "dev", "test", "prod"}
