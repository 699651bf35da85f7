"""What the pipeline's templates hand to the registrar is what it takes, and a dataset stays small."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lake import engines, registration
from tarn import templates
from tests.templates.delivery_policies import Resolved

DATASET = templates.load("pipeline/dataset.yaml")
PIPELINE = templates.load("pipeline/template.yaml")
GIVEN = {
    "EnvironmentName": "local",
    "TeamName": "air",
    "PipelineName": "main",
    "DatasetName": "flights",
    "TableName": "flights",
    "DatabaseName": "tarn_local_air",
    "AssetBucketName": "tarn-local-assets",
    "AssetPrefix": "assets/0123/flights/",
    "RegistrarFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:registrar",
    "Columns": "year:int, carrier:string:required",
    "EnginesStack": "glue,fargate",
    "DatasetQueue": "https://sqs.eu-west-1.amazonaws.com/123456789012/tarn-local-air-flights",
}
ABSENT = object()


def sent(template: dict[str, Any], resource: str, given: dict[str, str]) -> Any:
    """Properties of a custom resource as CloudFormation sends them: references resolved, lists split, the rest text."""
    declared = template["Parameters"]

    def value_of(name: str) -> Any:
        value = str(given.get(name, declared.get(name, {}).get("Default")))
        listed = declared.get(name, {}).get("Type") == "CommaDelimitedList"
        return [one.strip() for one in value.split(",")] if listed else value

    def holds(condition: str) -> bool:
        if condition.startswith("Has"):
            return any(value_of(condition.removeprefix("Has")))
        parameter, value = template["Conditions"][condition]["Fn::Equals"]
        return bool(value_of(parameter["Ref"]) == value)

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "Ref" in value:
                return ABSENT if value["Ref"] == "AWS::NoValue" else value_of(value["Ref"])
            if "Fn::GetAtt" in value:
                return given.get(value["Fn::GetAtt"][0], given["DatasetQueue"])
            if "Fn::If" in value:
                condition, there, absent = value["Fn::If"]
                return resolve(there if holds(condition) else absent)
            return {name: one for name, one in ((n, resolve(v)) for n, v in value.items()) if one is not ABSENT}
        return str(value)

    return resolve(template["Resources"][resource]["Properties"])


def test_the_registrar_takes_a_dataset_with_nothing_but_its_names() -> None:
    read = registration.read(registration.Dataset, sent(DATASET, "Registration", GIVEN))
    assert [(one.name, one.type, one.required) for one in read.columns] == [
        ("year", "int", False),
        ("carrier", "string", True),
    ]
    assert (read.light_transform, read.heavy_transform, read.rules, read.partition_by) == (None, None, None, [])
    assert (read.format.separator, read.format.header, read.format.null_tokens) == (",", True, ["NA"])


def test_the_registrar_takes_a_dataset_with_everything() -> None:
    more = {"LightTransform": "light.sql", "HeavyTransform": "heavy.py", "Rules": "rules.dqdl", "Header": "false"}
    given = GIVEN | more | {"PartitionBy": "year, month", "NullTokens": "NA,-", "OnQualityFailure": "warn"}
    read = registration.read(registration.Dataset, sent(DATASET, "Registration", given))
    assert (read.light_transform, read.heavy_transform, read.rules) == ("light.sql", "heavy.py", "rules.dqdl")
    assert (read.partition_by, read.format.header, read.format.null_tokens) == (["year", "month"], False, ["NA", "-"])


def test_the_registrar_takes_a_dataset_in_python_that_is_crawled() -> None:
    more = {"LightTransform": "light.py", "Publish": "crawler", "FormatType": "json", "FreshnessHours": "24"}
    function = "arn:aws:lambda:eu-west-1:123456789012:function:tarn-local-air-flights"
    more |= {"LightFunctionStack": function, "CrawlerStack": "tarn-local-air-flights"}
    read = registration.read(registration.Dataset, sent(DATASET, "Registration", GIVEN | more))
    assert (read.transform_function_arn, read.crawler_name) == (function, "tarn-local-air-flights")
    assert (read.publish, read.format.type, read.freshness_hours) == ("crawler", "json", 24)


def test_the_registrar_takes_the_pipelines_row() -> None:
    read = registration.read(registration.Pipeline, sent(PIPELINE, "Registration", GIVEN))
    assert (read.team, read.pipeline, read.engines) == ("air", "main", ["glue", "fargate"])


def test_the_registrar_takes_a_dataset_on_another_engine_that_waits_for_others() -> None:
    given = GIVEN | {"Engine": "sagemaker", "HeavyTransform": "heavy.ipynb", "DependsOn": "air/planes, air/airlines"}
    read = registration.read(registration.Dataset, sent(DATASET, "Registration", given))
    assert (read.engine, read.depends_on, read.depends_on_hours) == ("sagemaker", ["air/planes", "air/airlines"], 24)


def test_the_template_offers_the_engines_that_the_registrar_knows_and_the_pipeline_can_have() -> None:
    assert tuple(DATASET["Parameters"]["Engine"]["AllowedValues"]) == engines.ENGINES
    _, listed = templates.load("pipeline/engines.yaml")["Outputs"]["EngineNames"]["Value"]["Fn::Join"]
    assert tuple(one["Fn::If"][1] if isinstance(one, dict) else one for one in listed) == engines.ENGINES
    for named in engines.PARAMETERS.values():
        for parameter in re.findall(r"[A-Z]\w+", named):
            assert parameter in PIPELINE["Parameters"]
            assert parameter in templates.load("template.yaml")["Parameters"]


@pytest.mark.parametrize("edge", ["MinValue", "MaxValue"])
@pytest.mark.parametrize(
    "name",
    [
        "MinItems",
        "MaxItems",
        "MaxWaitMinutes",
        "MaxObjectMiB",
        "FreshnessHours",
        "DependsOnHours",
        "DependsOnMaxWaitHours",
    ],
)
def test_the_template_allows_no_number_that_the_registrar_refuses(name, edge) -> None:
    given = GIVEN | {"MinItems": "1", "MaxItems": "10000", name: str(DATASET["Parameters"][name][edge])}
    registration.read(registration.Dataset, sent(DATASET, "Registration", given))


def test_a_dataset_is_at_most_ten_resources_and_owns_no_table() -> None:
    kinds = [one["Type"] for one in DATASET["Resources"].values()]
    assert len(kinds) <= 10
    assert not [one for one in kinds if one.startswith(("AWS::Glue", "AWS::S3"))]


def test_a_datasets_queue_outlasts_a_run_of_start_batch() -> None:
    function = templates.load("pipeline/start_batch.yaml")["Resources"]["StartBatchFunction"]["Properties"]
    queue = DATASET["Resources"]["DatasetQueue"]["Properties"]
    assert queue["VisibilityTimeout"] == function["Timeout"] + 60
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 50
    assert function["Environment"]["Variables"]["FUNCTION_TIMEOUT_SECONDS"] == str(function["Timeout"])


def test_jobs_are_pinned_bounded_and_never_tried_again_by_glue() -> None:
    jobs = [
        one for one in templates.load("pipeline/jobs.yaml")["Resources"].values() if one["Type"] == "AWS::Glue::Job"
    ]
    assert len(jobs) == 2
    for job in (one["Properties"] for one in jobs):
        assert (job["GlueVersion"], job["MaxRetries"]) == ("5.1", 0)
        assert job["Timeout"] == {"Ref": "JobTimeoutMinutes"}
        assert job["ExecutionProperty"]["MaxConcurrentRuns"] == {"Ref": "MaxConcurrentRuns"}
        assert "SecurityConfiguration" in job
        assert (templates.ROOT / "pipeline" / job["Command"]["ScriptLocation"]).is_file()


ENGINE_PARAMETERS = {
    "fargate": {"FargateSubnetIds": "subnet-1", "FargateSecurityGroupIds": "sg-1", "FargateImageUri": "image"},
    "emr-serverless": {"EmrServerless": "on"},
    "emr-step": {"EmrClusterId": "j-1"},
    "sagemaker": {"NotebookImageUri": "image"},
}
ENGINE_STACKS = {
    "fargate": ("FargateStack", "FargatePolicy"),
    "emr-serverless": ("EmrServerlessStack", "EmrServerlessPolicy"),
    "emr-step": ("EmrStepStack", "EmrStepPolicy"),
    "sagemaker": ("NotebookStack", "NotebookPolicy"),
}
NO_ENGINE = {
    "FargateSubnetIds": "",
    "FargateSecurityGroupIds": "",
    "FargateImageUri": "",
    "EmrServerless": "off",
    "EmrClusterId": "",
    "NotebookImageUri": "",
    "DeequJarKey": "",
}


def stacks_with(**given: str) -> set[str]:
    return set(Resolved("template.yaml", layer="pipeline", **NO_ENGINE | given).resources("AWS::CloudFormation::Stack"))


@pytest.mark.parametrize("engine", ENGINE_PARAMETERS)
def test_an_engine_brings_its_own_stack_and_policy_and_no_others(engine) -> None:
    stack, policy = ENGINE_STACKS[engine]
    without = stacks_with()
    assert not without & {"EnginesStack", *(one for one, _ in ENGINE_STACKS.values())}
    assert stacks_with(**ENGINE_PARAMETERS[engine]) == without | {stack, "EnginesStack"}
    pipeline = Resolved("template.yaml", layer="pipeline", **NO_ENGINE | ENGINE_PARAMETERS[engine])
    handed = pipeline.resource("EnginesStack")["Parameters"]
    inside = Resolved("engines.yaml", layer="pipeline", **handed)
    assert inside.resources("AWS::IAM::Policy") == [policy]
    listed = [one for one in inside.value(inside.content["Outputs"]["EngineNames"]["Value"]["Fn::Join"][1]) if one]
    assert listed == ["glue", engine]


@pytest.mark.parametrize("missing", ENGINE_PARAMETERS["fargate"])
def test_fargate_stands_with_all_of_its_parameters_only(missing) -> None:
    assert stacks_with(**ENGINE_PARAMETERS["fargate"] | {missing: ""}) == stacks_with()


def test_the_machine_may_run_every_revision_of_its_definition_and_no_other_definition() -> None:
    arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/tarn-dev-air-main-transform:7"
    engines_stack = Resolved("engines.yaml", layer="pipeline", FargateTaskDefinitionArn=arn)
    [run, *_] = engines_stack.resource("FargatePolicy")["PolicyDocument"]["Statement"]
    assert run["Resource"].endswith(":task-definition/tarn-dev-air-main-transform:*")


def test_a_step_is_added_under_the_steps_role_alone() -> None:
    engines_stack = Resolved("engines.yaml", layer="pipeline", EmrClusterId="j-1", EmrStepRoleArn="arn:step")
    statements = engines_stack.resource("EmrStepPolicy")["PolicyDocument"]["Statement"]
    [add] = [one for one in statements if "elasticmapreduce:AddJobFlowSteps" in one["Action"]]
    assert add["Action"] == "elasticmapreduce:AddJobFlowSteps"
    assert add["Condition"] == {"ArnEquals": {"elasticmapreduce:ExecutionRoleArn": "arn:step"}}
