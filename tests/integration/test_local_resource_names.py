"""A path of parameters, and the stack of a change set, are asked for by name; stock MiniStack 1.5.33 asks for `*`.

Glue's resources: with the crawlers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local_world import Roles, allowing

TEMPLATE = "Resources: {Topic: {Type: AWS::SNS::Topic}}"


def test_who_may_read_one_path_of_parameters_reads_that_one(roles: Roles, client: Callable[[str], Any]) -> None:
    for name in ("/named/one/key", "/named/other/key"):
        client("ssm").put_parameter(Name=name, Value="value", Type="String", Overwrite=True)
    one = "arn:aws:ssm:eu-west-1:000000000000:parameter/named/one/*"
    ssm = roles.client(roles.create(allowing("ssm:GetParametersByPath", resource=one)), "ssm")
    found = ssm.get_parameters_by_path(Path="/named/one/", Recursive=True)["Parameters"]
    assert [parameter["Name"] for parameter in found] == ["/named/one/key"]
    with pytest.raises(ClientError, match="not authorized to perform: ssm:GetParametersByPath"):
        ssm.get_parameters_by_path(Path="/named/other/", Recursive=True)


def test_who_may_ask_one_stack_reads_and_deletes_its_change_sets_by_their_arn(
    roles: Roles, client: Callable[[str], Any]
) -> None:
    made = {}
    for name in ("named-one", "named-other"):
        given = {"StackName": name, "ChangeSetName": "asked", "ChangeSetType": "CREATE", "TemplateBody": TEMPLATE}
        made[name] = client("cloudformation").create_change_set(**given)["Id"]
    one = "arn:aws:cloudformation:eu-west-1:000000000000:stack/named-one/*"
    actions = ("cloudformation:DescribeChangeSet", "cloudformation:DeleteChangeSet")
    asks = roles.client(roles.create(allowing(*actions, resource=one)), "cloudformation")
    assert asks.describe_change_set(ChangeSetName=made["named-one"])["StackName"] == "named-one"
    asks.delete_change_set(ChangeSetName=made["named-one"])
    for call in (asks.describe_change_set, asks.delete_change_set):
        with pytest.raises(ClientError, match="not authorized"):
            call(ChangeSetName=made["named-other"])
    for name in made:
        client("cloudformation").delete_stack(StackName=name)
