"""The order of things in the delivery, and what goes with it: buildspec, source, approvals, refusals, taskcat."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tarn import templates
from tests.templates.delivery_actions import CALLS
from tests.templates.delivery_policies import GIVEN, Resolved

ROOT = templates.ROOT
BUILDSPEC = yaml.safe_load((ROOT / "buildspec.yml").read_text())
TASKCAT = yaml.safe_load((ROOT / ".taskcat.yml").read_text())
DELIVERY = templates.load(Path("cicd/template.yaml"))
ROOT_TEMPLATE = templates.load(Path("template.yaml"))
PACKAGED = {"build/taskcat/lake.yaml": ROOT_TEMPLATE, "build/taskcat/delivery.yaml": DELIVERY}


def stages(**given: str) -> dict[str, list[dict[str, Any]]]:
    """The delivery pipeline's stages and their actions in the order in which they run."""
    names = {name: name for name in templates.load(Path("cicd/pipeline.yaml"))["Parameters"] if "Project" in name}
    pipeline = Resolved("pipeline.yaml", **{**names, **GIVEN, "ApproveTest": "true", **given}).resource("Pipeline")
    return {
        one["Name"]: sorted(one["Actions"], key=lambda action: action.get("RunOrder", 1)) for one in pipeline["Stages"]
    }


def order(**given: str) -> list[str]:
    return [f"{stage}.{action['Name']}" for stage, actions in stages(**given).items() for action in actions]


# The order


def test_a_push_goes_from_its_check_to_prod_past_two_approvals() -> None:
    assert order(LastEnvironment="prod") == [
        *("Source.Source", "Check.Check", "Dev.Deploy", "Dev.Smoke"),
        *("Test.Diff", "Test.Approve", "Test.Deploy", "Prod.Diff", "Prod.Approve", "Prod.Deploy"),
    ]


@pytest.mark.parametrize(("last", "ends"), [("dev", "Dev.Smoke"), ("test", "Test.Deploy"), ("prod", "Prod.Deploy")])
def test_it_stops_where_it_is_told(last, ends) -> None:
    assert order(LastEnvironment=last)[-1] == ends


def test_prod_has_its_approval_whatever_is_said_of_test() -> None:
    found = order(LastEnvironment="prod", ApproveTest="false")
    assert "Test.Approve" not in found
    assert found[-3:] == ["Prod.Diff", "Prod.Approve", "Prod.Deploy"]


@pytest.mark.parametrize("stage", ["Test", "Prod"])
def test_an_approval_shows_what_its_own_diff_found_and_tells_the_topic(stage) -> None:
    diff, approve, deploy = stages(LastEnvironment="prod")[stage]
    assert [one["RunOrder"] for one in (diff, approve, deploy)] == [1, 2, 3]
    configuration = approve["Configuration"]
    assert configuration["NotificationArn"] == GIVEN["DeliveryTopicArn"]
    shown = re.findall(r"#\{(\w+)\.(\w+)\}", configuration["CustomData"])
    assert {namespace for namespace, _ in shown} == {diff["Namespace"]}
    assert [variable for _, variable in shown] == BUILDSPEC["env"]["exported-variables"]


def test_what_was_checked_is_what_is_deployed() -> None:
    for stage, actions in stages(LastEnvironment="prod").items():
        for action in actions:
            taken = [one["Name"] for one in action.get("InputArtifacts", [])]
            expected = {"Source": [], "Check": ["source"]}.get(stage, [] if action["Name"] == "Approve" else ["check"])
            assert taken == expected, (stage, action["Name"])


def test_no_action_is_of_another_kind_than_it_says() -> None:
    kinds = {"Source": "CodeCommit", "Approve": "Manual"}
    for actions in stages(LastEnvironment="prod").values():
        for action in actions:
            assert action["ActionTypeId"]["Provider"] == kinds.get(action["Name"], "CodeBuild")


# What starts it


def test_codecommit_is_not_polled_and_a_rule_starts_exactly_the_pushed_commit() -> None:
    resolved = Resolved("pipeline.yaml", BranchName="main", LastEnvironment="dev", **{"DevSmokeProjectName": "none"})
    (source,) = resolved.resource("Pipeline")["Stages"][0]["Actions"]
    assert source["Configuration"]["PollForSourceChanges"] == "false"
    rule = resolved.resource("PushRule")
    assert rule["EventPattern"]["detail"] == {
        "event": ["referenceCreated", "referenceUpdated"],
        "referenceType": ["branch"],
        "referenceName": ["main"],
    }
    (target,) = rule["Targets"]
    assert yaml.safe_load(target["InputTransformer"]["InputTemplate"])["sourceRevisions"][0] == {
        "actionName": source["Name"],
        "revisionType": "COMMIT_ID",
        "revisionValue": "<commit>",
    }
    assert "Triggers" not in resolved.resource("Pipeline")


def test_a_connection_has_a_trigger_and_no_rule() -> None:
    given = {"SourceKind": "connection", "BranchName": "main", "LastEnvironment": "dev"}
    resolved = Resolved("pipeline.yaml", **given)
    pipeline = resolved.resource("Pipeline")
    assert pipeline["Triggers"][0]["GitConfiguration"]["Push"] == [{"Branches": {"Includes": ["main"]}}]
    assert pipeline["Stages"][0]["Actions"][0]["Configuration"]["DetectChanges"] == "false"
    assert resolved.resources("AWS::Events::Rule") == ["FailureRule"]
    tags = Resolved("pipeline.yaml", **given, TagPrefix="release-").resource("Pipeline")["Triggers"][0]
    assert tags["GitConfiguration"]["Push"] == [{"Tags": {"Includes": ["release-*"]}}]


def test_a_failure_is_told() -> None:
    rule = Resolved("pipeline.yaml").resource("FailureRule")
    assert rule["EventPattern"]["detail"]["state"] == ["FAILED"]
    assert [one["Arn"] for one in rule["Targets"]] == [GIVEN["DeliveryTopicArn"]]


# The projects


def test_a_project_is_pinned_bounded_and_without_privileges() -> None:
    image = DELIVERY["Parameters"]["BuildImage"]
    assert re.fullmatch(image["AllowedPattern"], image["Default"])
    assert not re.fullmatch(image["AllowedPattern"], "aws/codebuild/amazonlinux-aarch64-standard:latest")
    project = Resolved("project.yaml", BuildImage=image["Default"]).resource("BuildProject")
    assert project["Environment"]["PrivilegedMode"] is False
    assert (project["Environment"]["Type"], "aarch64" in image["Default"]) == ("ARM_CONTAINER", True)
    assert int(project["TimeoutInMinutes"]) <= 60
    log = Resolved("project.yaml", LogRetentionDays="90").resource("BuildLogGroup")
    assert (log["KmsKeyId"], log["RetentionInDays"]) == (GIVEN["DeliveryKeyArn"], "90")


def test_the_projects_are_told_apart_by_stage_and_environment_alone() -> None:
    stacks = {
        name: one["Properties"]["Parameters"]
        for name, one in DELIVERY["Resources"].items()
        if one["Properties"]["TemplateURL"] == "project.yaml"
    }
    own = {"Stage", "EnvironmentName", "TargetAccountId"}
    shared = [{name: value for name, value in one.items() if name not in own} for one in stacks.values()]
    assert all(one == shared[0] for one in shared)
    for name, one in stacks.items():
        place = "Check" if one["Stage"] == "check" else f"{one['EnvironmentName']}{one['Stage']}"
        assert name.lower() == f"{place.lower()}projectstack"


# The buildspec


def test_each_phase_is_one_make_target_and_stops_the_build_when_it_fails() -> None:
    assert list(BUILDSPEC["phases"]) == ["install", "pre_build", "build", "post_build"]
    for name, phase in BUILDSPEC["phases"].items():
        assert phase["on-failure"] == "ABORT"
        assert phase["commands"][0] == f"make delivery-{name.replace('_', '-')}"
    assert {target.split("-", 1)[1] for target in CALLS} == {name.replace("_", "-") for name in BUILDSPEC["phases"]}


def test_the_buildspec_takes_its_tools_from_locks_and_pinned_runtimes() -> None:
    assert BUILDSPEC["phases"]["install"]["runtime-versions"] == {"python": "3.11", "java": "corretto17"}
    words = (ROOT / "buildspec.yml").read_text() + (ROOT / "cicd" / "stages.mk").read_text()
    for word in ("latest", "curl", "wget", "pip install", "git clone", "npm"):
        assert word not in words, word


def test_the_artifact_leaves_environments_at_home_and_takes_what_was_built() -> None:
    assert BUILDSPEC["artifacts"]["files"] == ["**/*"]
    left = BUILDSPEC["artifacts"]["exclude-paths"]
    assert [one for one in left if one.startswith("build")] == []
    assert {".venv/**/*", ".venvs/**/*"} <= set(left)


# Drift


def test_drift_is_looked_for_once_a_week_without_anybody_asking() -> None:
    drift = templates.load(Path("cicd/drift.yaml"))
    (event,) = drift["Resources"]["DetectDriftStateMachine"]["Properties"]["Events"].values()
    assert event["Type"] == "ScheduleV2"
    assert event["Properties"]["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert event["Properties"].get("State", "ENABLED") == "ENABLED"
    assert event["Properties"]["ScheduleExpression"] == {"Ref": "ScheduleExpression"}
    # minute, hour, day of the month, month, day of the week, year: EventBridge Scheduler user guide, "Schedule types"
    assert re.fullmatch(
        r"cron\(\d+ \d+ \? \* (MON|TUE|WED|THU|FRI|SAT|SUN) \*\)", drift["Parameters"]["ScheduleExpression"]["Default"]
    )


# What is refused before anything is made


def refusals(**given: str) -> list[str]:
    resolved = Resolved(
        "template.yaml", **{"Pipelines": "none", "SourceKind": "codecommit", "LastEnvironment": "dev", **given}
    )
    return [said for rule in resolved.refusals().values() for said in rule]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SourceKind": "connection", "ExternalRepository": "example/lake"}, "needs ConnectionProvider"),
        ({"SourceKind": "connection", "ConnectionProvider": "GitHub"}, "needs ExternalRepository"),
        ({"ConnectionProvider": "GitHub"}, "SourceKind=codecommit takes no"),
        ({"ProdAccountId": "222222222222"}, "LastEnvironment stops before prod"),
        ({"TestAccountId": "222222222222"}, "LastEnvironment stops before test"),
        ({"DeliveryName": "air"}, "needs Pipelines"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused_in_words(given, said) -> None:
    (found,) = refusals(**given)
    assert said in found


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"SourceKind": "connection", "ConnectionProvider": "GitLab", "ExternalRepository": "group/lake"},
        {"DeliveryName": "air", "Pipelines": "main"},
        {"LastEnvironment": "test", "TestAccountId": "222222222222"},
        {"LastEnvironment": "prod", "ProdAccountId": "222222222222"},
    ],
)
def test_parameters_that_go_together_are_taken(given) -> None:
    assert refusals(**given) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("SourceKind", one) for one in ("github", "")),
        *(("LastEnvironment", one) for one in ("local", "production")),
        *(("ExternalRepository", one) for one in ("lake", "https://example.com/a/b")),
        *(("DevAccountId", one) for one in ("", "12345")),
        *(("BuildImage", one) for one in ("aws/codebuild/standard:latest", "aws/codebuild/standard")),
    ],
)
def test_values_out_of_range_are_refused(name, value) -> None:
    one = DELIVERY["Parameters"][name]
    allowed = value in one["AllowedValues"] if "AllowedValues" in one else re.fullmatch(one["AllowedPattern"], value)
    assert not allowed


# taskcat


@pytest.mark.parametrize("name", TASKCAT["tests"])
def test_a_taskcat_test_gives_what_its_template_takes(name) -> None:
    test = TASKCAT["tests"][name]
    taken = PACKAGED[test["template"]]["Parameters"]
    for parameter, value in test["parameters"].items():
        assert value in taken[parameter].get("AllowedValues", [value]), parameter
    computed = {"AssetBucketName"}  # `make taskcat` writes it
    needed = {parameter for parameter, one in taken.items() if "Default" not in one}
    assert needed - set(test["parameters"]) <= computed
    if test["template"].endswith("delivery.yaml"):
        assert refusals(**test["parameters"]) == []


def test_taskcat_has_each_combination_that_is_supported() -> None:
    given = [(one["template"], one["parameters"]) for one in TASKCAT["tests"].values()]
    lakes = [parameters for template, parameters in given if template.endswith("lake.yaml")]
    deliveries = [parameters for template, parameters in given if template.endswith("delivery.yaml")]
    assert {one["DeletionProtection"] for one in lakes} == {"true", "false"}
    assert any(one.get("DeequJarKey") == "" for one in lakes)
    assert any("AdoptedRawBucketName" in one for one in lakes)
    assert len({one["EnvironmentName"] for one in lakes}) == len(lakes), "their tables and buckets stay"
    assert {one["SourceKind"] for one in deliveries} == {"codecommit", "connection"}
    providers = set(DELIVERY["Parameters"]["ConnectionProvider"]["AllowedValues"]) - {"none"}
    assert {one["ConnectionProvider"] for one in deliveries if one["SourceKind"] == "connection"} == providers
    teams = [one for one in deliveries if one.get("DeliveryName", "lake") != "lake"]
    assert [one["Pipelines"] for one in teams] == ["main"]
    assert {one["LastEnvironment"] for one in deliveries} == {"dev", "test", "prod"}
    assert {one.get("ApproveTest", "true") for one in deliveries} == {"true", "false"}
