"""Foundations, and what all layers share: names that tell lakes apart, deletion that asks first, adoption."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tarn import templates

PHYSICAL_NAMES = {
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::SSM::Parameter": "Name",
    "AWS::Serverless::Function": "FunctionName",
    "AWS::Serverless::StateMachine": "Name",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::Events::Rule": "Name",
    "AWS::SNS::Topic": "TopicName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::CompositeAlarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::ECS::Cluster": "ClusterName",
    "AWS::ECS::TaskDefinition": "Family",
    "AWS::EMRServerless::Application": "Name",
    "AWS::Glue::Job": "Name",
    "AWS::Glue::Crawler": "Name",
    "AWS::Glue::SecurityConfiguration": "Name",
    "AWS::Athena::WorkGroup": "Name",
    "AWS::Athena::NamedQuery": "Name",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Lambda::LayerVersion": "LayerName",
}
GUARDED = [Path("team/template.yaml"), Path("pipeline/template.yaml")]


def resources() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (f"{path}:{name}", resource["Type"], resource.get("Properties", {}))
        for path in templates.paths()
        for name, resource in templates.load(path)["Resources"].items()
    ]


def test_every_physical_name_holds_the_environment() -> None:
    """Two lakes stand side by side in an account and region."""
    named = {
        place: properties[PHYSICAL_NAMES[kind]]
        for place, kind, properties in resources()
        if kind in PHYSICAL_NAMES and PHYSICAL_NAMES[kind] in properties
    } | {
        place: properties["DatabaseInput"]["Name"]
        for place, kind, properties in resources()
        if kind == "AWS::Glue::Database"
    }
    assert len(named) > 20
    # A zone's bucket is called as its wiring says, which computes or adopts.
    computed = {place: name for place, name in named.items() if not place.startswith("foundations/zones.yaml")}
    computed |= {
        f"zones:{name}": json.dumps(value)
        for name, value in templates.load(Path("foundations/template.yaml"))["Resources"]["ZonesStack"]["Properties"][
            "Parameters"
        ].items()
        if name in ("RawBucketName", "StageBucketName", "AnalyticsBucketName")
    }
    assert {place: name for place, name in computed.items() if "${EnvironmentName}" not in json.dumps(name)} == {}


def test_every_type_that_may_have_a_physical_name_is_looked_at() -> None:
    """A type that nobody has thought of is looked up in AWS's template reference, and put above or below."""
    unnamed = {
        "AWS::CloudFormation::Stack",
        "AWS::Glue::Database",
        "AWS::KMS::Key",
        "AWS::Lambda::Permission",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::IAM::Policy",
    }
    kinds = {kind for _, kind, _ in resources() if not kind.startswith("Custom::")}
    assert kinds - set(PHYSICAL_NAMES) - unnamed == set()


def mentions(value: Any) -> set[str]:
    """Logical ids that a part of a template refers to."""
    if isinstance(value, dict):
        found = {one for part in value.values() for one in mentions(part)}
        if "Ref" in value:
            found.add(value["Ref"])
        if "Fn::GetAtt" in value:
            found.add(value["Fn::GetAtt"][0])
        if "Fn::Sub" in value:
            text = value["Fn::Sub"] if isinstance(value["Fn::Sub"], str) else value["Fn::Sub"][0]
            found |= {name.split(".")[0] for name in re.findall(r"\$\{([^}!]+)\}", text)}
        return found
    if isinstance(value, list):
        return {one for part in value for one in mentions(part)}
    return set()


@pytest.mark.parametrize("path", GUARDED, ids=str)
def test_a_layers_registration_is_deleted_before_anything_else(path) -> None:
    """CloudFormation deletes side by side what does not depend on each other: a refusal must come before all of it."""
    found = templates.load(path)["Resources"]
    reached, left = set(), ["Registration"]
    while left:
        resource = found[left.pop()]
        depends = resource.get("DependsOn", [])
        names = mentions(resource["Properties"]) | set([depends] if isinstance(depends, str) else depends)
        left += [name for name in names & set(found) if name not in reached]
        reached |= names & set(found)
    assert set(found) - reached - {"Registration"} == set(), "put these into the registration's DependsOn"


@pytest.mark.parametrize("path", GUARDED, ids=str)
def test_what_the_registrar_needs_to_refuse_stands_until_it_has(path) -> None:
    assert templates.load(path)["Resources"]["Registration"]["Properties"]["ServiceTimeout"] == 120


def test_nothing_outside_the_adoption_is_made_of_an_adopted_bucket_or_key() -> None:
    zones = templates.load(Path("foundations/zones.yaml"))["Resources"]
    for name, resource in zones.items():
        if resource["Type"] != "AWS::SSM::Parameter":
            zone = name.removesuffix("Policy").removesuffix("Bucket")
            assert resource["Condition"] == f"Makes{zone}Bucket", name
    foundations = templates.load(Path("foundations/template.yaml"))["Resources"]
    assert foundations["FoundationsKey"]["Condition"] == "MakesKey"
    adoption = templates.load(Path("foundations/adoption.yaml"))["Resources"]
    assert {one["Type"] for one in adoption.values()} == {
        "AWS::Logs::LogGroup",
        "AWS::IAM::Role",
        "AWS::Serverless::Function",
        "Custom::TarnAdoptedKey",
        "Custom::TarnAdoptedBucket",
    }


def test_the_adopted_key_is_asked_for_what_our_own_admits() -> None:
    """The services in the key's policy are those that adoption looks for."""
    template = templates.load(Path("foundations/template.yaml"))
    admitted = {
        json.dumps(one["Principal"]["Service"]).replace("${AWS::Region}", "eu-west-1")
        for one in template["Resources"]["FoundationsKey"]["Properties"]["KeyPolicy"]["Statement"]
        if "Service" in one["Principal"]
    }
    text = (templates.ROOT / "functions/foundations/adopt_resource.py").read_text(encoding="utf-8")
    wanted = re.findall(r'"([a-z0-9.{}A-Z_]+amazonaws\.com)"', text)
    assert len(wanted) == len(admitted)
    for service in wanted:
        known = service.replace("{SETTINGS.region_name}", "eu-west-1")
        assert any(known in one for one in admitted), service
