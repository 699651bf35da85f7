"""The Express machine: valid states, clocks that nest, one retry profile, nothing that fails its neighbours."""

from __future__ import annotations

import copy
import json

import pytest

from tarn import templates
from tests.templates import asl

PATH = "pipeline/raw_to_stage.asl.yaml"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:record"
SUBSTITUTIONS = {"Partition": "aws", "RecordOutcomesFunctionArn": ARN}
MACHINE = asl.definition(PATH)
TEMPLATE = templates.load(templates.ROOT / "pipeline/raw_to_stage.yaml")["Resources"]
STATES = dict(asl.states(MACHINE))


def properties(logical_id: str) -> dict:
    return TEMPLATE[logical_id]["Properties"]


def test_the_linter_finds_nothing() -> None:
    assert asl.findings(MACHINE, SUBSTITUTIONS) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda machine: machine.update(StartAt="Elsewhere"),
        lambda machine: machine["States"]["SettleGroups"].update(Type="Mapp"),
        lambda machine: machine["States"]["SettleGroups"]["ItemProcessor"]["States"]["RecordOutcomes"].pop("Resource"),
    ],
)
def test_the_linter_would_find_what_is_wrong(spoil) -> None:
    machine = copy.deepcopy(MACHINE)
    spoil(machine)
    assert asl.findings(machine, SUBSTITUTIONS) != []


def test_the_template_substitutes_what_the_definition_names() -> None:
    text = json.dumps(MACHINE)
    given = properties("RawToStageStateMachine")["DefinitionSubstitutions"]
    assert set(given) == set(SUBSTITUTIONS)
    assert all("${" + name + "}" in text for name in given)


def test_the_clocks_nest() -> None:
    starter = properties("StartRawToStageFunction")
    transform = properties("TransformObjectsFunction")["Timeout"]
    record = properties("RecordOutcomesFunction")["Timeout"]
    assert transform == STATES["TransformObjects"]["TimeoutSeconds"] == 240
    assert record == STATES["RecordOutcomes"]["TimeoutSeconds"] == 40
    assert transform + record < MACHINE["TimeoutSeconds"] == 285 < starter["Timeout"] == 300
    assert properties("RawToStageQueue")["VisibilityTimeout"] == 1800 >= 6 * starter["Timeout"]


def test_a_task_tries_again_alike_and_gives_its_group_back_to_the_queue() -> None:
    tasks = [state for state in STATES.values() if state["Type"] == "Task"]
    assert len(tasks) == 2
    assert all(task["Retry"] == tasks[0]["Retry"] for task in tasks)
    assert [task["Catch"] for task in tasks] == [[{"ErrorEquals": ["States.ALL"], "Next": "LeaveGroupToQueue"}]] * 2
    assert STATES["LeaveGroupToQueue"]["Result"] == []


def test_the_log_holds_errors_and_no_data() -> None:
    logging = properties("RawToStageStateMachine")["Logging"]
    assert (logging["Level"], logging["IncludeExecutionData"]) == ("ERROR", False)
    name = properties("RawToStageLogGroup")["LogGroupName"]["Fn::Sub"]
    assert name.startswith("/aws/vendedlogs/states/tarn-")


def test_the_starter_may_start_synchronously_and_nothing_else() -> None:
    statements = properties("StartRawToStageRole")["Policies"][0]["PolicyDocument"]["Statement"]
    actions = [one["Action"] for one in statements if "states" in str(one["Action"])]
    assert actions == ["states:StartSyncExecution"]


def test_every_role_is_bounded() -> None:
    roles = [one["Properties"] for one in TEMPLATE.values() if one["Type"] == "AWS::IAM::Role"]
    assert len(roles) == 4
    assert all(role["PermissionsBoundary"] == {"Ref": "BoundaryArn"} for role in roles)


def test_the_starter_reads_registrations_of_its_team_alone() -> None:
    policy = properties("StartRawToStageRole")["Policies"][0]["PolicyDocument"]["Statement"]
    (reads,) = [one for one in policy if "dynamodb" in str(one["Action"])]
    assert reads["Action"] == "dynamodb:GetItem"
    assert reads["Condition"]["ForAllValues:StringEquals"] == {"dynamodb:LeadingKeys": [{"Ref": "TeamName"}]}
    assert reads["Condition"]["Null"] == {"dynamodb:LeadingKeys": "false"}
    keys = [one["Resource"] for one in policy if one["Action"] == "kms:Decrypt"]
    assert keys == [[{"Ref": "TeamKeyArn"}, {"Ref": "FoundationsKeyArn"}]]


def test_the_shared_function_is_no_datasets_own() -> None:
    assert properties("TransformObjectsFunction")["Environment"]["Variables"]["DATASET_NAME"] == ""
