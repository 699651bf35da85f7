"""The boundary of a team is no wider than what the roles of a team are given."""

from __future__ import annotations

from typing import Any

from tarn import templates

TEAM_LAYERS = ("team", "pipeline")


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    properties = resource["Properties"]
    policies = properties.get("Policies", [properties])
    return [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]


def allowed(statements: list[dict[str, Any]]) -> set[str]:
    return {action for one in statements if one["Effect"] == "Allow" for action in listed(one["Action"])}


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


def test_all_that_can_be_called_or_read_is_tagged_with_its_team() -> None:
    """What the boundary refuses of other teams, it knows by this tag: on the resource, or on the stack that has it."""
    callable_types = (
        *("AWS::Serverless::Function", "AWS::Serverless::StateMachine", "AWS::Glue::Job", "AWS::SQS::Queue"),
        *("AWS::SNS::Topic", "AWS::KMS::Key"),
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
