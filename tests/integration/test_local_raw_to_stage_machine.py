"""The Express machine's own definition, run by the embedded AWS with functions that answer on demand."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.local_world import Roles, allowing
from tests.templates import asl

TRANSFORM = """
def handler(event, context):
    if event["dataset"] == "broken":
        raise RuntimeError("broken")
    return {"results": [{"id": one["id"], "outcome": "STAGED"} for one in event["items"]]}
"""
RECORD = """
def handler(event, context):
    if event["dataset"] == "unrecorded":
        raise RuntimeError("unrecorded")
    return {"outcomes": [{**one, "reason": event["team"]} for one in event["results"]]}
"""


def zipped(code: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.py", code)
    return file.getvalue()


@pytest.fixture(scope="module")
def run(client: Callable[[str], Any], roles: Roles) -> Callable[..., dict[str, Any]]:
    """Run the machine to its end for these datasets, two items each."""
    arns = {
        name: client("lambda").create_function(
            FunctionName=f"{name}-{uuid.uuid4().hex[:8]}",
            Runtime="python3.11",
            Handler="index.handler",
            Role=roles.create(),
            Code={"ZipFile": zipped(code)},
        )["FunctionArn"]
        for name, code in (("transform", TRANSFORM), ("record", RECORD))
    }
    text = json.dumps(asl.definition("pipeline/raw_to_stage.asl.yaml"))
    for name, value in {"Partition": "aws", "RecordOutcomesFunctionArn": arns["record"]}.items():
        text = text.replace("${" + name + "}", value)
    machine = client("stepfunctions").create_state_machine(
        name=f"raw-to-stage-{uuid.uuid4().hex[:8]}",
        type="EXPRESS",
        definition=text,
        roleArn=roles.create(allowing("lambda:InvokeFunction"), service="states.amazonaws.com"),
    )["stateMachineArn"]

    def go(*datasets: str) -> dict[str, Any]:
        groups = [
            {
                "team": "air",
                "dataset": dataset,
                "transform_function_arn": arns["transform"],
                "items": [{"id": f"{dataset}/{place}"} for place in range(2)],
            }
            for dataset in datasets
        ]
        document = json.dumps({"schema": 1, "groups": groups})
        return dict(client("stepfunctions").start_sync_execution(stateMachineArn=machine, input=document))

    return go


def test_each_group_is_transformed_and_recorded(run: Callable[..., dict[str, Any]]) -> None:
    answer = run("flights", "airports")
    assert answer["status"] == "SUCCEEDED", answer
    assert json.loads(answer["output"]) == [
        [{"id": f"{dataset}/{place}", "outcome": "STAGED", "reason": "air"} for place in range(2)]
        for dataset in ("flights", "airports")
    ]


def test_a_group_that_breaks_off_has_no_outcomes_and_its_neighbours_have(run: Callable[..., dict[str, Any]]) -> None:
    answer = run("broken", "flights", "unrecorded")
    assert answer["status"] == "SUCCEEDED", answer
    assert [len(group) for group in json.loads(answer["output"])] == [0, 2, 0]
