"""Every function is what its template says: its handler, its settings, its queue, its dead letters."""

import ast
from pathlib import Path

import pytest

from tarn import templates

ROOT = templates.ROOT
POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL", "POWERTOOLS_METRICS_NAMESPACE"}


def resources(kind: str) -> list:
    found = []
    for path in templates.paths():
        template = templates.load(path)
        for name, resource in template.get("Resources", {}).items():
            if resource["Type"] == kind:
                found.append(pytest.param(template, name, resource["Properties"], id=f"{path}:{name}"))
    return found


FUNCTIONS = resources("AWS::Serverless::Function")
QUEUES = resources("AWS::SQS::Queue")


def function_globals(template) -> dict:
    return template.get("Globals", {}).get("Function", {})


def module_of(handler: str) -> Path:
    module, _, function = handler.rpartition(".")
    assert function == "handler"
    return ROOT / "functions" / f"{module.replace('.', '/')}.py"


def settings_of(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    return {
        statement.target.id.upper()
        for node in classes
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def test_there_are_functions_and_queues() -> None:
    assert len(FUNCTIONS) >= 9
    assert len(QUEUES) >= 4


@pytest.mark.parametrize(("template", "name", "properties"), FUNCTIONS)
def test_the_environment_is_exactly_the_settings(template, name, properties) -> None:
    module = module_of(properties["Handler"])
    assert module.exists(), f"{name}: no {module}"
    given = {
        **function_globals(template).get("Environment", {}).get("Variables", {}),
        **properties.get("Environment", {}).get("Variables", {}),
    }
    assert set(given) - POWERTOOLS == settings_of(module)


@pytest.mark.parametrize(("template", "name", "properties"), FUNCTIONS)
def test_a_function_names_its_code_itself(template, name, properties) -> None:
    """`aws cloudformation package` reads no Globals, and would upload the template's own folder as the code."""
    assert properties["CodeUri"] == "../functions"
    assert "CodeUri" not in function_globals(template)


@pytest.mark.parametrize(("template", "name", "properties"), FUNCTIONS)
def test_its_role_writes_its_own_log_and_traces_and_no_more(template, name, properties) -> None:
    role = template["Resources"][properties["Role"]["Fn::GetAtt"][0]]["Properties"]
    (group,) = properties["LoggingConfig"].values()
    told = {
        (one["Sid"], action, str(one["Resource"]))
        for policy in role["Policies"]
        for one in policy["PolicyDocument"]["Statement"]
        if isinstance(one, dict) and "Sid" in one
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
        if action.startswith(("logs:", "xray:"))
    }
    log = str({"Fn::GetAtt": [group["Ref"], "Arn"]})
    assert told == {
        ("WriteItsLog", "logs:CreateLogStream", log),
        ("WriteItsLog", "logs:PutLogEvents", log),
        ("SendTraces", "xray:PutTraceSegments", "*"),
        ("SendTraces", "xray:PutTelemetryRecords", "*"),
    }


@pytest.mark.parametrize(("template", "name", "properties"), FUNCTIONS)
def test_the_names_of_a_function_say_the_same(template, name, properties) -> None:
    verb_noun = properties["Handler"].split(".")[-2]
    assert name == "".join(word.capitalize() for word in verb_noun.split("_")) + "Function"
    everything = {**function_globals(template), **properties}
    assert everything["Architectures"] == ["arm64"]
    assert "Timeout" in everything
    assert "MemorySize" in everything


@pytest.mark.parametrize(("template", "name", "properties"), FUNCTIONS)
def test_a_queue_that_wakes_a_function_gets_its_failures_back_and_waits_long_enough(template, name, properties) -> None:
    for event in properties.get("Events", {}).values():
        if event["Type"] != "SQS":
            continue
        assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert event["Properties"]["ScalingConfig"]["MaximumConcurrency"]
        queue = template["Resources"][event["Properties"]["Queue"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * {**function_globals(template), **properties}["Timeout"]


@pytest.mark.parametrize(("template", "name", "properties"), QUEUES)
def test_a_queue_redrives_or_is_dead_letters_with_an_alarm(template, name, properties) -> None:
    if "RedrivePolicy" in properties:
        assert properties["RedrivePolicy"]["maxReceiveCount"] >= 3
        return
    assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600
    watched = [
        dimension["Value"].get("Fn::GetAtt", [None])[0]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
        for dimension in resource["Properties"].get("Dimensions", [])
        if isinstance(dimension["Value"], dict)
    ]
    assert name in watched, f"nobody is told when a message comes to {name}"
