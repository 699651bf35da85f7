"""The second hop's machine, read from its files: every task has its way out, every way ends in a named final state.

And for both machines: what their states call is what their roles, in the templates, allow.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import jsonata
import pytest

from lake import engines
from tarn import templates
from tests.rules.lake import EVENTS, SYNC_ACTIONS, under_condition
from tests.templates import asl

DEFINITION = "pipeline/stage_to_analytics.asl.yaml"
TEMPLATE = "pipeline/stage_to_analytics.yaml"
MACHINE = asl.definition(DEFINITION)
STATES = dict(asl.states(MACHINE))
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
FINAL = {"BatchPublished": "Succeed", "BatchBlocked": "Fail", "BatchFailed": "Fail"}
CATCH = [
    {"ErrorEquals": ["States.ALL"], "Assign": {"failure": "{% $states.errorOutput %}"}, "Next": "FinishFailedBatch"}
]
WHILE_PUBLISHED = {"PublishBatch", "StartCrawl", "LookAtCrawl", "HasCrawlEnded", "VerifyCrawl"}
"""What fails there may leave files of the batch where a crawl sees them."""
AFTER_THE_ROW = {
    "NotifyPublished": "BatchPublished",
    "NotifyBlocked": "BatchBlocked",
    "NotifyFailed": "BatchFailed",
    "FinishFailedBatch": "BatchFailed",
}
TIDYING = {"FindStep", "CancelStep", "WithdrawBatch"}
"""What tidies up behind a failure: the batch fails of that, whatever becomes of the tidying."""
ENGINES = {
    "glue": "TransformBatch",
    "fargate": "RunTask",
    "emr-serverless": "RunServerlessJob",
    "emr-step": "RunStep",
    "sagemaker": "RunNotebook",
}
ACTIONS = {
    # https://docs.aws.amazon.com/step-functions/latest/dg/connect-glue.html and its neighbours
    **SYNC_ACTIONS,
    "ecs:runTask.sync": {*SYNC_ACTIONS["ecs:runTask.sync"], "iam:PassRole"},
    "emr-serverless:startJobRun.sync": {*SYNC_ACTIONS["emr-serverless:startJobRun.sync"], "iam:PassRole"},
    "sagemaker:createProcessingJob.sync": {
        *SYNC_ACTIONS["sagemaker:createProcessingJob.sync"],
        "sagemaker:AddTags",  # of the job's own tags, and Step Functions'
        "iam:PassRole",
    },
    "aws-sdk:emr:listSteps": {"elasticmapreduce:ListSteps"},
    "elasticmapreduce:cancelStep": {"elasticmapreduce:CancelSteps"},
    "aws-sdk:glue:startCrawler": {"glue:StartCrawler"},
    "aws-sdk:glue:getCrawler": {"glue:GetCrawler"},
    "lambda:invoke": {"lambda:InvokeFunction"},
    "sns:publish": {"sns:Publish"},
}
ABOUT_THE_TARGET = {
    "ecs:runTask.sync": {"ecs:RunTask"},
    "emr-serverless:startJobRun.sync": SYNC_ACTIONS["emr-serverless:startJobRun.sync"] - EVENTS,
    "elasticmapreduce:addStep.sync": SYNC_ACTIONS["elasticmapreduce:addStep.sync"] - EVENTS,
    "sagemaker:createProcessingJob.sync": {"iam:PassRole"},
}
"""Of those actions the ones on what a task names below; the others are on rules, roles, and what the task starts."""
TARGETS = {
    "glue:startJobRun.sync": "JobName",
    "ecs:runTask.sync": "TaskDefinition",
    "emr-serverless:startJobRun.sync": "ApplicationId",
    "elasticmapreduce:addStep.sync": "ClusterId",
    "aws-sdk:emr:listSteps": "ClusterId",
    "elasticmapreduce:cancelStep": "ClusterId",
    "sagemaker:createProcessingJob.sync": "RoleArn",
    "aws-sdk:glue:startCrawler": "Name",
    "aws-sdk:glue:getCrawler": "Name",
    "lambda:invoke": "FunctionName",
    "sns:publish": "TopicArn",
}


def ways_on(state: dict[str, Any]) -> list[str]:
    ways = [state[name] for name in ("Next", "Default") if name in state]
    return ways + [one["Next"] for name in ("Catch", "Choices") for one in state.get(name, [])]


def test_the_definition_is_a_valid_machine() -> None:
    given = templates.load(TEMPLATE)["Resources"]["StageToAnalyticsStateMachine"]["Properties"]
    names = dict.fromkeys(given["DefinitionSubstitutions"], "arn:aws:lambda:eu-west-1:123456789012:function:f")
    plain = {"Partition": "aws", "QualityMode": "on", "JobTimeoutMinutes": "120"}
    [limit] = asl.findings(MACHINE, names | plain)
    assert "'RunStep', 'TimeoutSeconds']" in limit, "cfn-lint knows no expression there"
    assert "is not of type 'number'" in limit


def test_every_task_has_the_one_catch_route_until_the_row_says_how_the_batch_ended() -> None:
    for name, task in TASKS.items():
        if name in AFTER_THE_ROW:
            assert task["Catch"] == [{"ErrorEquals": ["States.ALL"], "Next": AFTER_THE_ROW[name]}], name
        elif name in TIDYING:
            assert task["Catch"] == [{"ErrorEquals": ["States.ALL"], "Next": "FinishFailedBatch"}], name
        elif name in WHILE_PUBLISHED:
            assert task["Catch"] == [CATCH[0] | {"Next": "WithdrawBatch"}], name
        else:
            assert task["Catch"][-1:] == CATCH, name
            assert len(task["Catch"]) == 1 or name == "RunStep"


def test_what_fails_while_it_is_published_is_withdrawn_before_the_row_says_that_it_failed() -> None:
    assert {name for name, state in STATES.items() if "WithdrawBatch" in ways_on(state)} == WHILE_PUBLISHED
    assert not [name for name in WHILE_PUBLISHED if "FinishFailedBatch" in ways_on(STATES[name])]
    assert STATES["WithdrawBatch"]["Next"] == "FinishFailedBatch"
    asked = STATES["WithdrawBatch"]["Arguments"]
    assert asked["FunctionName"] == STATES["PublishBatch"]["Arguments"]["FunctionName"], "its role may do it"
    assert asked["Payload"]["action"] == "withdraw"


def test_a_step_without_end_is_found_and_cancelled_and_its_failure_is_the_time_limit() -> None:
    late = STATES["RunStep"]["Catch"][0]
    assert (late["ErrorEquals"], late["Assign"], late["Next"]) == (["States.Timeout"], CATCH[0]["Assign"], "FindStep")
    steps = [{"Id": "s-1", "Name": "other-1"}, {"Id": "s-2", "Name": "b-1"}]
    states = {"result": {"Steps": steps}, "context": {"Execution": {"Name": "b-1"}}}
    found = evaluate(STATES["FindStep"]["Assign"]["steps"], {"states": states})
    assert found == steps[1:]
    assert evaluate(STATES["CancelStep"]["Arguments"]["StepId"], {"steps": found}) == "s-2"
    assert STATES["RunStep"]["Arguments"]["Step"]["Name"] == "{% $states.context.Execution.Name %}"
    gone = states | {"result": {"Steps": steps[:1]}}
    assert evaluate(STATES["FindStep"]["Assign"]["steps"], {"states": gone}) == []
    assert STATES["IsFound"]["Default"] == "FinishFailedBatch"


def test_every_way_ends_in_a_named_final_state() -> None:
    assert {name: state["Type"] for name, state in STATES.items() if not ways_on(state)} == FINAL
    to_an_end = set(FINAL)
    ways = {name: set(ways_on(state)) for name, state in STATES.items()}
    ways["HasCrawlEnded"].remove("WaitForCrawl")  # the one loop, whose looks are counted
    while more := {name for name in STATES if name not in to_an_end and ways[name] <= to_an_end}:
        to_an_end |= more
    assert to_an_end == set(STATES), "a loop, or a state that leads nowhere"
    assert {way for state in STATES.values() for way in ways_on(state)} | {MACHINE["StartAt"]} == set(STATES)


def test_every_task_has_its_own_time_limit_and_the_machine_has_none() -> None:
    """An execution that reached the machine's limit would end without a word to the batch's row."""
    assert "TimeoutSeconds" not in MACHINE
    jobs = templates.load("pipeline/jobs.yaml")["Parameters"]["JobTimeoutMinutes"]
    for name, task in TASKS.items():
        if name == "RunStep":
            for minutes in (jobs["Default"], jobs["MaxValue"]):
                seconds = task["TimeoutSeconds"].replace("${JobTimeoutMinutes}", str(minutes))
                assert evaluate(seconds, {}) == minutes * 60 + 4 * 3600, "its own time, and the cluster's queue"
            continue
        assert task["TimeoutSeconds"] > 0, name
        if ".sync" in task["Resource"]:
            assert task["TimeoutSeconds"] > jobs["MaxValue"] * 60
    functions = templates.load(TEMPLATE)["Resources"]
    for name, task in TASKS.items():
        if "lambda" in task["Resource"]:
            function = functions[task["Arguments"]["FunctionName"][2:-1].removesuffix("Arn")]
            assert task["TimeoutSeconds"] > function["Properties"]["Timeout"], name


def test_one_retry_profile_for_each_class_of_error() -> None:
    by_service: dict[str, list[Any]] = {}
    for task in TASKS.values():
        by_service.setdefault(task["Resource"].partition(":::")[2], []).append(task["Retry"])
    for service, profiles in by_service.items():
        assert all(one == profiles[0] for one in profiles), service
    assert "Glue.ConcurrentRunsExceededException" in by_service["glue:startJobRun.sync"][0][0]["ErrorEquals"]
    for name in ENGINES.values():
        busy = TASKS[name]["Retry"][0]
        assert busy["IntervalSeconds"] >= 60, "a quota is asked for again in minutes"
        assert busy["MaxAttempts"] <= 60, "and not for ever"
        assert not {"States.TaskFailed", "States.Timeout"} & {
            one for r in TASKS[name]["Retry"] for one in r["ErrorEquals"]
        }
    assert all("States.ALL" not in one["ErrorEquals"] for task in TASKS.values() for one in task["Retry"])
    assert all("States.TaskFailed" not in one["ErrorEquals"] for one in by_service["glue:startJobRun.sync"][0]), (
        "a job that failed is a failed batch: its retry is a new attempt"
    )


def test_a_crawler_that_runs_is_waited_for_and_its_calls_are_tried_as_all_of_glues_api() -> None:
    waiting, calls = STATES["StartCrawl"]["Retry"]
    assert waiting["ErrorEquals"] == ["Glue.CrawlerRunningException"]
    assert waiting["IntervalSeconds"] * waiting["MaxAttempts"] == 2 * 3600
    assert waiting["BackoffRate"] == 1
    assert STATES["LookAtCrawl"]["Retry"] == [calls]


def test_the_machine_may_run_the_crawlers_that_datasets_make() -> None:
    [name] = [
        one["Properties"]["Name"]["Fn::Sub"]
        for one in templates.load("pipeline/crawler.yaml")["Resources"].values()
        if one["Type"] == "AWS::Glue::Crawler"
    ]
    _, statements = machine_of(templates.load(TEMPLATE))
    [allowed] = [one["Resource"]["Fn::Sub"] for one in statements if "glue:StartCrawler" in listed(one["Action"])]
    assert name.replace("${DatasetName}", "*") == allowed.rpartition(":crawler/")[2]


def test_nothing_is_published_before_it_is_judged() -> None:
    before = {name for name, state in STATES.items() if "PublishBatch" in ways_on(state)}
    assert before == {"HasRules", "IsBlocked"}
    assert {name for name, state in STATES.items() if "HasRules" in ways_on(state)} == {"VerifyTransform"}
    verified = {name for name, state in STATES.items() if "VerifyTransform" in ways_on(state)}
    assert verified == set(ENGINES.values()), "the outcome file of every engine is looked at"
    assert STATES["HasRules"]["Choices"][0]["Next"] == "JudgeBatch"
    assert ways_on(STATES["JudgeBatch"]) == ["VerifyVerdict", "FinishFailedBatch"]
    assert ways_on(STATES["VerifyVerdict"]) == ["IsBlocked", "FinishFailedBatch"]


def evaluate(expression: str, bindings: dict[str, Any]) -> Any:
    compiled = jsonata.Jsonata.jsonata(expression.removeprefix("{%").removesuffix("%}"))
    frame = compiled.create_frame()
    for name, value in bindings.items():
        frame.bind(name, value)
    return compiled.evaluate(None, frame)


@pytest.mark.parametrize(
    ("has_rules", "mode", "goes_to_the_judge"), [(True, "on", True), (True, "off", False), (False, "on", False)]
)
def test_rules_are_judged_unless_quality_is_off(has_rules, mode, goes_to_the_judge) -> None:
    condition = STATES["HasRules"]["Choices"][0]["Condition"].replace("${QualityMode}", mode)
    states = {"context": {"Execution": {"Input": {"has_rules": has_rules}}}}
    assert evaluate(condition, {"states": states}) is goes_to_the_judge


@pytest.mark.parametrize(("has_rules", "outcome"), [(True, "not judged"), (False, "no rules")])
def test_what_was_not_judged_is_called_so(has_rules, outcome) -> None:
    states = {"context": {"Execution": {"Input": {"has_rules": has_rules}}}}
    assert evaluate(STATES["VerifyTransform"]["Assign"]["quality"], {"states": states}) == {"outcome": outcome}


def chosen(given: dict[str, Any], has: str = "yes") -> tuple[str, dict[str, Any]]:
    """Where ChooseEngine leads, and what it assigns; ``has`` is what stands for each engine's resource."""
    states = {"context": {"Execution": {"Input": given}}}
    for one in STATES["ChooseEngine"]["Choices"]:
        if evaluate(re.sub(r"\$\{\w+\}", has, one["Condition"]), {"states": states}) is True:
            return one["Next"], one.get("Assign", {})
    return STATES["ChooseEngine"]["Default"], {}


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_each_engine_has_a_task_of_its_own_and_a_run_id_that_its_program_is_told(engine) -> None:
    state, assigned = chosen({"engine": engine, "missing": []})
    assert state == ENGINES[engine]
    if engine == "glue":
        assert "transform_run_id" in STATES[state]["Assign"]
    else:
        assert assigned == {"transform_run_id": "{% $uuid() %}"}
        assert json.dumps(STATES[state]["Arguments"]).count('"{% $transform_run_id %}"') >= 1
        assert chosen({"engine": engine, "missing": []}, has="none")[0] == "RefuseEngine"


def test_an_execution_of_an_older_lake_runs_on_glue() -> None:
    assert chosen({}) == ("TransformBatch", {})


def test_a_batch_whose_wait_was_too_long_fails_by_name_before_anything_runs() -> None:
    given = {"engine": "glue", "missing": ["air/planes", "air/airlines"]}
    state, assigned = chosen(given)
    assert (state, assigned["failure"]["Error"]) == ("FinishFailedBatch", "DependencyNotPublished")
    states = {"context": {"Execution": {"Input": given}}}
    told = evaluate(assigned["failure"]["Cause"], {"states": states})
    assert told.startswith("air/planes, air/airlines did not publish")


def test_an_engine_that_the_pipeline_lacks_is_named() -> None:
    failure = STATES["RefuseEngine"]["Assign"]["failure"]
    assert failure["Error"] == "EngineMissing"
    states = {"context": {"Execution": {"Input": {"engine": "fargate"}}}}
    assert evaluate(failure["Cause"], {"states": states}).startswith("this pipeline has no engine fargate")


def test_every_program_is_told_the_same_words() -> None:
    """As Glue tells them: what a word means does not depend on the engine."""
    glue = {name[2:]: value for name, value in STATES["TransformBatch"]["Arguments"]["Arguments"].items()}
    words = glue | {"JOB_RUN_ID": "{% $transform_run_id %}"}
    argv = {
        "RunTask": STATES["RunTask"]["Arguments"]["Overrides"]["ContainerOverrides"][0]["Command"],
        "RunServerlessJob": STATES["RunServerlessJob"]["Arguments"]["JobDriver"]["SparkSubmit"]["EntryPointArguments"],
        "RunStep": STATES["RunStep"]["Arguments"]["Step"]["HadoopJarStep"]["Args"][6:],
    }
    for name, given in argv.items():
        assert dict(zip(given[::2], given[1::2], strict=True)) == {f"--{word}": words[word] for word in words}, name
    environment = STATES["RunNotebook"]["Arguments"]["Environment"]
    assert environment == {f"TARN_{word.upper()}": words[word] for word in words}


def test_a_notebooks_job_is_called_as_the_role_allows_and_sagemaker_takes() -> None:
    """At most 63 characters: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html"""
    name = STATES["RunNotebook"]["Arguments"]["ProcessingJobName"]
    given = name.replace("${EnvironmentName}", "local").replace("${TeamName}", "t" * 20)
    batch = f"{datetime(2026, 11, 24, tzinfo=UTC):%Y%m%dt%H%M%S}-{'0' * 12}-99"
    told = evaluate(given, {"states": {"context": {"Execution": {"Name": batch}}}})
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", told), len(told)
    policy = templates.load("pipeline/engines.yaml")["Resources"]["NotebookPolicy"]["Properties"]["PolicyDocument"]
    allowed = policy["Statement"][0]["Resource"]["Fn::Sub"].rpartition("/")[2]
    assert allowed == "tarn-${EnvironmentName}-${TeamName}-*"


COPIED_AT = "2026-11-23T16:44:01.000Z"
EARLIER, SAME_SECOND, LATER = "2026-11-23T16:44:00Z", "2026-11-23T16:44:01Z", "2026-11-23T16:44:01.5Z"


@pytest.mark.parametrize(
    ("state", "last", "looks", "goes"),
    [
        ("READY", {"Status": "SUCCEEDED", "StartTime": LATER}, 1, "VerifyCrawl"),
        ("READY", {"Status": "SUCCEEDED", "StartTime": SAME_SECOND}, 1, "VerifyCrawl"),
        ("READY", {"Status": "SUCCEEDED", "StartTime": LATER}, 240, "VerifyCrawl"),
        ("READY", {"Status": "SUCCEEDED", "StartTime": EARLIER}, 1, "WaitForCrawl"),
        ("READY", {}, 1, "WaitForCrawl"),
        ("RUNNING", {}, 1, "WaitForCrawl"),
        ("RUNNING", {"Status": "FAILED", "StartTime": LATER}, 1, "WaitForCrawl"),
        ("STOPPING", {"Status": "SUCCEEDED", "StartTime": EARLIER}, 239, "WaitForCrawl"),
        ("RUNNING", {"Status": "SUCCEEDED", "StartTime": EARLIER}, 240, "CrawlTimedOut"),
        ("READY", {"Status": "FAILED", "StartTime": LATER, "ErrorMessage": "no"}, 1, "CrawlFailed"),
        ("READY", {"Status": "CANCELLED", "StartTime": LATER}, 1, "CrawlFailed"),
        ("READY", {"Status": "FAILED", "StartTime": EARLIER}, 1, "WaitForCrawl"),
    ],
)
def test_a_crawl_is_judged_by_its_own_run(state, last, looks, goes) -> None:
    published = {"crawler_name": "c", "copied_at": COPIED_AT}
    known = {"published": published, "crawl_state": state, "last_crawl": last, "looks": looks}
    choice = STATES["HasCrawlEnded"]
    taken = next((one for one in choice["Choices"] if evaluate(one["Condition"], known) is True), None)
    assert all(evaluate(one["Condition"], known) in (True, False) for one in choice["Choices"])
    if taken is None:
        assert choice["Default"] == goes
    elif taken["Next"] == "WithdrawBatch":
        assert taken["Assign"]["failure"]["Error"] == goes
        assert "crawler c" in evaluate(taken["Assign"]["failure"]["Cause"], known)
    else:
        assert taken["Next"] == goes


def test_a_failed_crawl_is_told_with_its_message_and_its_log() -> None:
    last = {"Status": "FAILED", "ErrorMessage": "denied", "LogGroup": "/aws-glue/crawlers", "LogStream": "c"}
    cause = STATES["HasCrawlEnded"]["Choices"][1]["Assign"]["failure"]["Cause"]
    told = evaluate(cause, {"published": {"crawler_name": "c"}, "last_crawl": last})
    assert told == "crawler c FAILED: denied (log group /aws-glue/crawlers, stream c)"


# --- both machines and their roles


def called(definition: str) -> set[tuple[str, str]]:
    """Service action and target (a substitution, or a path into the input) of every task."""
    found = set()
    for _, state in asl.states(asl.definition(definition)):
        if state["Type"] == "Task":
            action = state["Resource"].partition(":::")[2]
            arguments = state.get("Arguments") or state["Parameters"]
            target = TARGETS[action]
            found.add((action, arguments.get(target) or arguments[f"{target}.$"]))
    return found


def machine_of(template: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Properties of the template's one machine, and the statements of its role."""
    [machine] = [one for one in template["Resources"].values() if one["Type"] == "AWS::Serverless::StateMachine"]
    name = machine["Properties"]["Role"]["Fn::GetAtt"][0]
    role = template["Resources"][name]["Properties"]
    policies = list(role["Policies"])
    if name == "StageToAnalyticsStateMachineRole":
        policies += [one["Properties"] for one in templates.load("pipeline/engines.yaml")["Resources"].values()]
    statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    return machine["Properties"], statements


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def logical_ids(value: Any) -> set[str]:
    """Every name that a value refers to."""
    text = json.dumps(value)
    found = set(re.findall(r'"Ref": "(\w+)"', text)) | set(re.findall(r'"Fn::GetAtt": \["(\w+)"', text))
    return found | set(re.findall(r"\$\{(\w+)\}", text))


@pytest.mark.parametrize("machine", ["raw_to_stage", "stage_to_analytics"])
def test_what_the_machine_calls_its_role_allows(machine) -> None:
    properties, statements = machine_of(templates.load(f"pipeline/{machine}.yaml"))
    assert properties["DefinitionUri"] == f"{machine}.asl.yaml"
    for action, target in called(f"pipeline/{machine}.asl.yaml"):
        for needed in ACTIONS[action]:
            allowing = [
                one
                for one in statements
                if one["Effect"] == "Allow" and needed in listed(one["Action"]) and one["Resource"] != "*"
            ]
            assert allowing, f"{machine}: no statement allows {needed}"
            if target.startswith("${") and needed in ABOUT_THE_TARGET.get(action, {needed}):
                meant = logical_ids(properties["DefinitionSubstitutions"][target[2:-1]]) - {"AWS"}
                allowed = {name for one in allowing for name in logical_ids(one["Resource"])}
                assert meant <= allowed, f"{machine}: {needed} is not allowed on {meant}"


def test_each_role_is_handed_to_its_engines_service_alone() -> None:
    _, statements = machine_of(templates.load(TEMPLATE))
    passed = {
        one["Condition"]["StringEquals"]["iam:PassedToService"]: logical_ids(one["Resource"])
        for one in statements
        if one["Action"] == "iam:PassRole"
    }
    assert passed == {
        "ecs-tasks.amazonaws.com": {"FargateTaskRoleArn", "FargateTaskStartRoleArn"},
        "emr-serverless.amazonaws.com": {"EmrServerlessJobRoleArn"},
        "sagemaker.amazonaws.com": {"NotebookRoleArn"},
    }
    boundary = templates.load("team/template.yaml")["Resources"]["Boundary"]["Properties"]["PolicyDocument"][
        "Statement"
    ]
    [most] = [one for one in map(under_condition, boundary) if one.get("Action") == "iam:PassRole"]
    assert set(most["Condition"]["StringEquals"]["iam:PassedToService"]) == set(passed)


@pytest.mark.parametrize("machine", ["raw_to_stage", "stage_to_analytics"])
def test_its_role_allows_nothing_that_it_does_not_call(machine) -> None:
    _, statements = machine_of(templates.load(f"pipeline/{machine}.yaml"))
    needed = {one for action, _ in called(f"pipeline/{machine}.asl.yaml") for one in ACTIONS[action]}
    allowed = {action for one in statements for action in listed(one["Action"])}
    assert {one for one in allowed - needed if one.partition(":")[0] not in ("logs", "xray", "kms")} == set()


@pytest.mark.parametrize("machine", ["raw_to_stage", "stage_to_analytics"])
def test_every_substitution_is_given_and_used(machine) -> None:
    properties, _ = machine_of(templates.load(f"pipeline/{machine}.yaml"))
    text = (templates.ROOT / f"pipeline/{machine}.asl.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(properties["DefinitionSubstitutions"])


def test_the_teams_boundary_allows_whatever_a_role_of_the_pipeline_may_do() -> None:
    """Else a role looks right in its template and is denied at run time."""
    boundary = templates.load("team/template.yaml")["Resources"]["Boundary"]["Properties"]["PolicyDocument"]
    most = {
        under_condition(action)
        for one in map(under_condition, boundary["Statement"])
        if one["Effect"] == "Allow"
        for action in listed(one["Action"])
    }
    beyond = {
        f"{path}:{name}: {action}"
        for path in templates.paths()
        if path.parent.name == "pipeline"
        for name, resource in templates.load(path)["Resources"].items()
        if resource["Type"] in ("AWS::IAM::Role", "AWS::IAM::Policy")
        for policy in resource["Properties"].get("Policies", [resource["Properties"]])
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
        if action not in most
    }
    assert beyond == set()
