"""A role that is missing, or trusts somebody else, fails the deployment; stock MiniStack takes any name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.local_world import Roles, Stacks

CODE = {"ZipFile": "def handler(event, context):\n    return event\n"}
DEFINITION = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
COMMAND = {"Name": "glueetl", "ScriptLocation": "s3://nowhere/main.py"}
USERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "AWS::Lambda::Function": (
        "Role",
        "lambda.amazonaws.com",
        {"Runtime": "python3.13", "Handler": "index.handler", "Code": CODE},
    ),
    "AWS::StepFunctions::StateMachine": ("RoleArn", "states.amazonaws.com", {"Definition": DEFINITION}),
    "AWS::Glue::Job": ("Role", "glue.amazonaws.com", {"GlueVersion": "5.1", "Command": COMMAND}),
}


def _template(resource_type: str, role: str) -> str:
    name, _, properties = USERS[resource_type]
    return json.dumps({"Resources": {"User": {"Type": resource_type, "Properties": {**properties, name: role}}}})


@pytest.mark.parametrize("resource_type", USERS)
def test_a_role_is_assumable(stacks: Stacks, roles: Roles, resource_type: str) -> None:
    service = USERS[resource_type][1]
    trusted = stacks.create(_template(resource_type, roles.create(service=service)))
    assert trusted["StackStatus"] == "CREATE_COMPLETE", trusted["Reasons"]

    foreign = stacks.create(_template(resource_type, roles.create(service="ec2.amazonaws.com")))
    assert foreign["StackStatus"] == "ROLLBACK_COMPLETE"
    assert f"{service} is not authorized to assume the role" in foreign["Reasons"][0]

    missing = stacks.create(_template(resource_type, "arn:aws:iam::000000000000:role/nobody"))
    assert missing["Reasons"] == ["The role arn:aws:iam::000000000000:role/nobody does not exist"]
