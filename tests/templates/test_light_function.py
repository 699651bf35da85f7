"""The function of a dataset whose light transform is Python: the shared one's handler, with a role of less reach."""

from __future__ import annotations

from typing import Any

import pytest

from tarn import templates

TEMPLATE = templates.load(templates.ROOT / "pipeline/light_function.yaml")
SHARED = templates.load(templates.ROOT / "pipeline/raw_to_stage.yaml")
NAME = "tarn-${EnvironmentName}-${TeamName}-${DatasetName}"


def properties(template: dict[str, Any], logical_id: str) -> dict[str, Any]:
    return dict(template["Resources"][logical_id]["Properties"])


def statements(template: dict[str, Any], role: str) -> dict[str, dict[str, Any]]:
    policy = properties(template, role)["Policies"][0]["PolicyDocument"]["Statement"]
    return {one["Sid"]: one for one in policy}


FUNCTION = properties(TEMPLATE, "TransformObjectsFunction")
SHARED_FUNCTION = properties(SHARED, "TransformObjectsFunction")
STATEMENTS = statements(TEMPLATE, "TransformObjectsRole")


def test_it_is_the_shared_function_but_for_name_dataset_and_role() -> None:
    own = {**FUNCTION, "Environment": {**FUNCTION["Environment"]["Variables"], "DATASET_NAME": ""}}
    shared = {
        **SHARED["Globals"]["Function"],
        **SHARED_FUNCTION,
        "Environment": SHARED_FUNCTION["Environment"]["Variables"],
    }
    assert own.pop("FunctionName") == {"Fn::Sub": NAME}
    assert own == shared
    assert FUNCTION["Environment"]["Variables"]["DATASET_NAME"] == {"Ref": "DatasetName"}


def test_the_machine_may_call_it_by_its_name_within_the_teams_boundary() -> None:
    allowed = statements(SHARED, "RawToStageStateMachineRole")["CallTheFunctionsOfTheTeamsDatasets"]
    pattern = allowed["Resource"]["Fn::Sub"].rpartition(":")[2]
    assert pattern == NAME.removesuffix("${DatasetName}") + "*"
    boundary = templates.load(templates.ROOT / "team/template.yaml")["Resources"]["Boundary"]["Properties"]
    functions = [one for one in boundary["PolicyDocument"]["Statement"] if one.get("Action") == "lambda:InvokeFunction"]
    named = str([one["Resource"] for one in functions])
    assert "function:tarn-${EnvironmentName}-" in named


@pytest.mark.parametrize(
    ("sid", "ends"),
    [
        ("ReadRawObjectsOfTheDataset", "${RawBucketName}/${TeamName}/${DatasetName}/*"),
        ("WriteStageObjectsOfTheDataset", "${StageBucketName}/${TeamName}/${DatasetName}/*"),
        ("ReadTheDatasetsPython", "${AssetBucketName}/${AssetPrefix}*"),
    ],
)
def test_its_objects_are_the_datasets(sid: str, ends: str) -> None:
    assert STATEMENTS[sid]["Resource"]["Fn::Sub"].endswith(f":s3:::{ends}")


def test_it_reaches_no_bucket_otherwise() -> None:
    reaching = {name for name, one in STATEMENTS.items() if "s3:" in str(one["Action"])}
    assert reaching == {
        "ReadRawObjectsOfTheDataset", "WriteStageObjectsOfTheDataset", "ReadTheDatasetsPython",
        "SeeWhetherAVersionIsGone",
    }  # fmt: skip
    condition = STATEMENTS["SeeWhetherAVersionIsGone"]["Condition"]
    assert condition == {"StringLike": {"s3:prefix": [{"Fn::Sub": "${TeamName}/${DatasetName}/*"}]}}


def test_its_registrations_are_the_teams_by_leading_key() -> None:
    condition = STATEMENTS["ReadRegistrationsOfTheTeam"]["Condition"]
    assert condition["ForAllValues:StringEquals"] == {"dynamodb:LeadingKeys": [{"Ref": "TeamName"}]}
    assert condition["Null"] == {"dynamodb:LeadingKeys": "false"}


def test_its_role_is_bounded_and_its_log_encrypted() -> None:
    assert properties(TEMPLATE, "TransformObjectsRole")["PermissionsBoundary"] == {"Ref": "BoundaryArn"}
    assert properties(TEMPLATE, "TransformObjectsLogGroup")["KmsKeyId"] == {"Ref": "TeamKeyArn"}
    assert set(STATEMENTS) - set(statements(SHARED, "TransformObjectsRole")) == {
        "ReadRawObjectsOfTheDataset", "WriteStageObjectsOfTheDataset", "ReadTheDatasetsPython",
    }  # fmt: skip


def test_its_alarm_watches_it_until_what_failed_once_has_come_back() -> None:
    alarm = properties(TEMPLATE, "TransformObjectsErrorsAlarm")
    watched = [one["MetricStat"] for one in alarm["Metrics"] if "MetricStat" in one]
    assert {one["Metric"]["MetricName"] for one in watched} == {"Errors", "Throttles"}
    dimension = [{"Name": "FunctionName", "Value": {"Ref": "TransformObjectsFunction"}}]
    assert all(one["Metric"]["Dimensions"] == dimension for one in watched)
    comes_back = properties(SHARED, "RawToStageQueue")["VisibilityTimeout"]
    assert (alarm["EvaluationPeriods"] - 1) * watched[0]["Period"] > comes_back
    assert alarm["DatapointsToAlarm"] == 2
    given = properties(templates.load(templates.ROOT / "pipeline/dataset.yaml"), "LightFunctionStack")["Parameters"]
    assert given["TopicArn"] == {"Ref": "TopicArn"}


def test_its_wiring_has_no_default_and_its_tuning_has() -> None:
    without = {name for name, one in TEMPLATE["Parameters"].items() if "Default" not in one}
    assert without == {
        "EnvironmentName", "TeamName", "DatasetName", "AssetBucketName", "AssetPrefix", "DependenciesLayerArn",
        "FoundationsKeyArn", "TeamKeyArn", "BoundaryArn", "TopicArn", "RawBucketName", "StageBucketName",
        "DatasetsTableName", "DatasetsTableArn", "LogRetentionDays",
    }  # fmt: skip


def test_duckdb_and_its_spill_fit_into_the_function() -> None:
    default = {name: one.get("Default") for name, one in TEMPLATE["Parameters"].items()}
    assert default["DuckDbMemoryMiB"] < default["TransformMemoryMiB"]
    assert default["DuckDbSpillMiB"] < default["TransformStorageMiB"]
