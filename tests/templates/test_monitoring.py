"""Alarms and the dashboard ask for metrics that exist, tell somebody, and are in the runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lake import metrics
from tarn import templates

MONITORING = templates.load(Path("pipeline/monitoring.yaml"))
RUNBOOK = (templates.ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
AWS_METRICS = {
    # what AWS's documents give as a metric's dimensions
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {("QueueName",)},
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"): {("QueueName",)},
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): {("QueueName",)},
    ("AWS/Lambda", "Errors"): {("FunctionName",)},
    ("AWS/Lambda", "Throttles"): {("FunctionName",)},
    ("AWS/Lambda", "Duration"): {("FunctionName",)},
    ("AWS/DynamoDB", "ReadThrottleEvents"): {("TableName",), ("GlobalSecondaryIndexName", "TableName")},
    ("AWS/DynamoDB", "WriteThrottleEvents"): {("TableName",), ("GlobalSecondaryIndexName", "TableName")},
    **{
        ("AWS/States", f"Executions{end}"): {("StateMachineArn",)}
        for end in ("Started", "Succeeded", "Failed", "Aborted", "TimedOut")
    },
    ("AWS/States", "ExecutionTime"): {("StateMachineArn",)},
}
PARAMETER_OF = {
    "Environment": "EnvironmentName",
    "Team": "TeamName",
    "Pipeline": "PipelineName",
    "Dataset": "DatasetName",
}
ALARMS = [
    pytest.param(name, resource["Properties"], id=f"{path}:{name}")
    for path in templates.paths()
    for name, resource in templates.load(path).get("Resources", {}).items()
    if resource["Type"] == "AWS::CloudWatch::Alarm"
]


@pytest.fixture(scope="module")
def sent() -> set[tuple[str, str, tuple[str, ...]]]:
    """Namespace, name and dimensions of every metric that the functions send."""
    values = {
        value: 1.0
        for name, value in vars(metrics).items()
        if name.isupper() and isinstance(value, str) and name not in ("NAMESPACE", "HOURS_SINCE_PUBLISHED")
    }
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
        patch.setenv("POWERTOOLS_SERVICE_NAME", "finish_batch")  # as in Lambda: no dimension may come of it
        patch.setattr("builtins.print", lines.append)
        metrics.of_batch("dev", "air", "main", "flights", values)
        metrics.of_freshness("dev", "air", {"flights": 1.5})
    directives = [one for line in lines for one in json.loads(line)["_aws"]["CloudWatchMetrics"]]
    return {
        (one["Namespace"], metric["Name"], tuple(sorted(dimensions)))
        for one in directives
        for dimensions in one["Dimensions"]
        for metric in one["Metrics"]
    }


def metrics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics that an alarm asks for, of metric math too."""
    if "Metrics" in alarm:
        return [one["MetricStat"]["Metric"] for one in alarm["Metrics"] if "MetricStat" in one]
    return [alarm]


def test_there_are_alarms() -> None:
    assert len(ALARMS) >= 15


@pytest.mark.parametrize(("name", "alarm"), ALARMS)
def test_an_alarm_asks_for_a_metric_that_exists(name, alarm, sent) -> None:
    for metric in metrics_of(alarm):
        dimensions = tuple(sorted(one["Name"] for one in metric["Dimensions"]))
        asked = (metric["Namespace"], metric["MetricName"], dimensions)
        if metric["Namespace"] == metrics.NAMESPACE:
            assert asked in sent
            for one in metric["Dimensions"]:
                assert one["Value"] == {"Ref": PARAMETER_OF[one["Name"]]}
        else:
            assert dimensions in AWS_METRICS[asked[:2]]


@pytest.mark.parametrize(("name", "alarm"), ALARMS)
def test_an_alarm_tells_a_topic_what_it_means_and_what_to_do_first(name, alarm) -> None:
    (action,) = alarm["AlarmActions"]
    assert action["Ref"] in ("TopicArn", "OperationsTopicArn", "OperationsTopic")
    said = alarm["AlarmDescription"]
    text = said["Fn::Sub"] if isinstance(said, dict) else said
    assert len(text) <= 1024
    assert re.search(r"\b(tarn (status|logs)|aws \w+)", text), "no command"
    assert alarm["TreatMissingData"]


@pytest.mark.parametrize(("name", "alarm"), ALARMS)
def test_metric_math_is_one_answer_of_at_most_ten_metrics(name, alarm) -> None:
    asked = alarm.get("Metrics", [])
    answers = [one for one in asked if one.get("ReturnData", True)]
    assert len(asked) - len(answers) <= 10
    assert len({one["Id"] for one in asked}) == len(asked)
    assert all(re.fullmatch(r"[a-z][a-zA-Z0-9_]*", one["Id"]) for one in asked)
    assert len(answers) == bool(asked)
    assert len({one["MetricStat"]["Period"] for one in asked if "MetricStat" in one}) <= 1


def test_every_alarm_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(sections) == sorted({alarm.values[0] for alarm in ALARMS})
    for section in re.split(r"^### ", RUNBOOK, flags=re.MULTILINE)[1:]:
        assert re.search(r"`(tarn|aws) ", section), f"no command in {section.splitlines()[0]}"


# The pipeline's functions, in its alarms and on its dashboard


def functions() -> set[str]:
    """The functions of a pipeline; a dataset's own has an alarm of its own, beside it."""
    files = ("raw_to_stage", "start_batch", "stage_to_analytics")
    return {
        name
        for file in files
        for name, resource in templates.load(Path(f"pipeline/{file}.yaml"))["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


@pytest.mark.parametrize("alarm", ["FunctionErrorsAlarm", "FunctionThrottlesAlarm"])
def test_an_alarm_on_functions_watches_all_of_them(alarm) -> None:
    watched = [one["Dimensions"][0]["Value"]["Ref"] for one in metrics_of(MONITORING["Resources"][alarm]["Properties"])]
    assert sorted(watched) == sorted(f"{name}Name" for name in functions())


def test_what_is_wired_is_what_its_name_says() -> None:
    """An output of another function under this name would be a metric of the wrong function."""
    given = templates.load(Path("pipeline/template.yaml"))["Resources"]["MonitoringStack"]["Properties"]["Parameters"]
    for name, value in given.items():
        if "Fn::GetAtt" in value and value["Fn::GetAtt"][1].startswith("Outputs."):
            assert value["Fn::GetAtt"][1] == f"Outputs.{name}"
    for file in ("raw_to_stage", "start_batch", "stage_to_analytics"):
        for name, output in templates.load(Path(f"pipeline/{file}.yaml"))["Outputs"].items():
            if name.endswith("FunctionName"):
                assert output["Value"] == {"Ref": name.removesuffix("Name")}
            elif name.endswith("QueueName"):
                assert output["Value"] == {"Fn::GetAtt": [name.removesuffix("Name"), "QueueName"]}


# The dashboard


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    """The dashboard's body with each parameter in its place, in angle brackets."""
    body = MONITORING["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    names = set(re.findall(r"\$\{([^}]+)\}", body))
    assert names <= MONITORING["Parameters"].keys() | {"AWS::Region"}
    return dict(json.loads(re.sub(r"\$\{([^}]+)\}", r"<\1>", body)))


def test_the_dashboard_draws_metrics_that_exist(dashboard, sent) -> None:
    drawn = 0
    for widget in dashboard["widgets"]:
        if widget["type"] == "text":
            continue
        for line in widget["properties"]["metrics"]:
            if isinstance(line[0], dict):
                schema = re.search(r"SEARCH\('\{([^}]+)\} MetricName=\"(\w+)\"", line[0]["expression"])
                assert schema, line
                namespace, *dimensions = schema[1].split(",")
                name = schema[2]
            else:
                namespace, name, *pairs = [one for one in line if isinstance(one, str)]
                dimensions = pairs[::2]
            asked = tuple(sorted(dimensions))
            known = (namespace, name, asked) in sent or asked in AWS_METRICS.get((namespace, name), set())
            assert known, line
            drawn += 1
    assert drawn > 30


def test_the_dashboard_names_the_dimension_that_its_parameter_is(dashboard) -> None:
    pairs = {
        (line[place], line[place + 1])
        for widget in dashboard["widgets"]
        if widget["type"] != "text"
        for line in widget["properties"]["metrics"]
        if isinstance(line[0], str)
        for place in range(2, len([one for one in line if isinstance(one, str)]), 2)
    }
    assert {name for _, name in pairs if name.endswith("FunctionName>")} == {f"<{one}Name>" for one in functions()}
    for dimension, value in pairs:
        assert value == f"<{PARAMETER_OF.get(dimension)}>" or value.strip("<>").endswith(dimension), (dimension, value)


def test_widgets_do_not_lie_on_each_other(dashboard) -> None:
    taken = [
        (x, y)
        for one in dashboard["widgets"]
        for x in range(one["x"], one["x"] + one["width"])
        for y in range(one["y"], one["y"] + one["height"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


# What tarn logs reads


def test_every_log_group_that_an_object_passes_is_in_the_contract() -> None:
    for file in (
        "foundations/ingest",
        *(f"pipeline/{one}" for one in ("raw_to_stage", "start_batch", "stage_to_analytics")),
    ):
        resources = templates.load(Path(f"{file}.yaml"))["Resources"]
        groups = {name for name, one in resources.items() if one["Type"] == "AWS::Logs::LogGroup"}
        assert groups
        published = {
            one["Properties"]["Value"]["Ref"]: one["Properties"]["Name"]["Fn::Sub"]
            for one in resources.values()
            if one["Type"] == "AWS::SSM::Parameter" and "Ref" in one["Properties"]["Value"]
        }
        for group in groups:
            kebab = re.sub(r"(?<!^)([A-Z])", r"-\1", group).lower()
            assert published[group].endswith(f"/{kebab}/name")
