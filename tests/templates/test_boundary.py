"""The boundary of a team is no wider than what the roles of a team are given."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from tarn import templates
from tests.rules.lake import under_condition

TEAM_LAYERS = ("team", "pipeline")


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    properties = resource["Properties"]
    policies = properties.get("Policies", [properties])
    return [under_condition(one) for policy in policies for one in policy["PolicyDocument"]["Statement"]]


def allowed(statements: list[dict[str, Any]]) -> set[str]:
    return {
        action
        for one in statements
        if one["Effect"] == "Allow"
        for action in map(under_condition, listed(one["Action"]))
    }


def test_the_boundary_allows_what_the_roles_of_a_team_are_allowed_and_no_more() -> None:
    roles = [
        resource
        for path in templates.paths()
        if path.parts[0] in TEAM_LAYERS
        for resource in templates.load(path)["Resources"].values()
        if resource["Type"] in ("AWS::IAM::Role", "AWS::IAM::Policy")
    ]
    assert len(roles) >= 12
    boundary = templates.load("team/template.yaml")["Resources"]["Boundary"]
    given = set().union(*(allowed(statements_of(one)) for one in roles))
    assert allowed(statements_of(boundary)) == given


def written_out(value: Any, names: Mapping[str, str]) -> Any:
    """A policy as IAM counts it, every condition true: references are ARNs of the longest kind."""
    if isinstance(value, list):
        return [written_out(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    if "Fn::If" in value:
        return written_out(value["Fn::If"][1], names)
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:]+)\}", lambda found: names[found[1]], value["Fn::Sub"])
    if "Ref" in value or "Fn::GetAtt" in value:
        return names.get(str(value.get("Ref")), f"arn:aws:kms:{names['AWS::Region']}:{'1' * 12}:key/{uuid.UUID(int=0)}")
    return {name: written_out(one, names) for name, one in value.items()}


def test_the_boundary_with_every_engine_is_as_long_as_iam_takes_at_most() -> None:
    """6,144 characters without white space: IAM user guide, "IAM and AWS STS quotas"."""
    region, team = "ap-southeast-2", "t" * 20
    names = {
        "AWS::Partition": "aws",
        "AWS::Region": region,
        "AWS::AccountId": "1" * 12,
        "EnvironmentName": "local",
        "TeamName": team,
        "TeamDatabase": f"tarn_local_{team}",
    } | {
        f"{zone}BucketName": f"tarn-local-{zone}-{'1' * 12}-{region}" for zone in ("Raw", "Stage", "Analytics", "Asset")
    }
    policy = templates.load("team/template.yaml")["Resources"]["Boundary"]["Properties"]["PolicyDocument"]
    assert len(re.sub(r"\s", "", json.dumps(written_out(policy, names)))) <= 6144


def test_all_that_can_be_called_or_read_is_tagged_with_its_team() -> None:
    """What the boundary refuses of other teams, it knows by this tag: on the resource, or on the stack that has it."""
    callable_types = (
        *("AWS::Serverless::Function", "AWS::Serverless::StateMachine", "AWS::Glue::Job", "AWS::SQS::Queue"),
        *("AWS::SNS::Topic", "AWS::KMS::Key", "AWS::ECS::Cluster", "AWS::ECS::TaskDefinition"),
        "AWS::EMRServerless::Application",
    )
    tag = {"Key": "tarn:team", "Value": {"Ref": "TeamName"}}
    layers = {path: templates.load(path)["Resources"] for path in templates.paths() if path.parts[0] in TEAM_LAYERS}
    by_stack = {
        path.parent / resource["Properties"]["TemplateURL"]
        for path, resources in layers.items()
        for resource in resources.values()
        if resource["Type"] == "AWS::CloudFormation::Stack" and tag in resource["Properties"].get("Tags", [])
    }
    untagged = [
        f"{path}:{name}"
        for path, resources in layers.items()
        if path not in by_stack
        for name, resource in resources.items()
        if resource["Type"] in callable_types
        and resource["Properties"].get("Tags") not in ([tag], {tag["Key"]: tag["Value"]})
    ]
    assert untagged == []
