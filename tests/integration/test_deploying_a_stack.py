"""``deploy_stack`` by either program: what is removed with data in it is refused, a failure has its reason, and no-op
succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tarn import deployment
from tarn.local.emulator import Emulator
from tarn.preconditions import PreconditionError
from tests.e2e.own_emulator import seen

ROOT = """
Parameters:
  EnvironmentName: { Type: String }
  HasTeam: { Type: String, Default: "yes" }
  RoleName: { Type: String, Default: none }
Conditions:
  HasTeam: !Equals [!Ref HasTeam, "yes"]
Resources:
  Topic: { Type: AWS::SNS::Topic }
  TeamStack:
    Type: AWS::CloudFormation::Stack
    Condition: HasTeam
    Properties:
      TemplateURL: team.yaml
      Parameters: { RoleName: !Ref RoleName }
"""
TEAM = """
Parameters:
  RoleName: { Type: String }
Conditions:
  IsBroken: !Not [!Equals [!Ref RoleName, none]]
Resources:
  Queue: { Type: AWS::SQS::Queue }
  Table:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{ AttributeName: id, AttributeType: S }]
      KeySchema: [{ AttributeName: id, KeyType: HASH }]
  NobodysFunction:
    Type: AWS::Lambda::Function
    Condition: IsBroken
    Properties:
      Runtime: python3.13
      Handler: index.handler
      Code: { ZipFile: "" }
      Role: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${RoleName}"
"""


@pytest.fixture(scope="module", autouse=True)
def _session(emulator: Emulator) -> Iterator[None]:
    with seen(emulator.settings.state_dir):
        deployment.deploy_asset_bucket("local", say=lambda _: None)
        yield


@pytest.fixture(scope="module", params=deployment.ROUTES)
def deploy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Deploy the root by a route; gives what was said."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "root.yaml").write_text(ROOT)
    (folder / "team.yaml").write_text(TEAM)
    bucket = boto3.client("ssm").get_parameter(Name="/tarn/local/assets/bucket/name")["Parameter"]["Value"]

    def run(*allow_loss: str, **parameters: str) -> str:
        said: list[str] = []
        deployment.deploy_stack(
            *("local", str(folder / "root.yaml"), name(request.param), {"EnvironmentName": "local", **parameters}),
            bucket=bucket,
            protected=False,
            route=request.param,
            allow_loss=allow_loss,
            say=said.append,
        )
        return "\n".join(said)

    run.stack = name(request.param)  # type: ignore[attr-defined]
    return run


def name(route: str) -> str:
    return f"deployed-by-{route}"


def resources(stack: str) -> dict[str, tuple[str, str]]:
    """Everything that stands in a stack and in its team's, by logical id: physical id and state."""
    api = boto3.client("cloudformation")
    found = {}
    for one in api.describe_stack_resources(StackName=stack)["StackResources"]:
        if one["ResourceStatus"].startswith("DELETE"):
            continue
        found[one["LogicalResourceId"]] = (one["PhysicalResourceId"], one["ResourceStatus"])
        if one["LogicalResourceId"] == "TeamStack":
            found |= resources(one["PhysicalResourceId"])
    return found


def test_it_is_deployed_and_again_changes_nothing(deploy) -> None:
    assert "nothing to change" not in deploy()
    before = resources(deploy.stack)
    assert {"Topic", "TeamStack", "Queue", "Table"} == set(before)
    assert f"{deploy.stack}: nothing to change" in deploy()
    assert resources(deploy.stack) == before


def test_a_failure_begins_with_its_leaf_and_is_rolled_back(deploy) -> None:
    before = resources(deploy.stack)
    with pytest.raises(deployment.DeploymentError) as failed:
        deploy(RoleName="nobody")
    first, then, ended = str(failed.value).splitlines()[:3]
    assert first.startswith("TeamStack/NobodysFunction (AWS::Lambda::Function) failed: ")
    assert then.endswith("Everything is as it was before.")
    assert f"deploy of {deploy.stack} ended with " in ended
    assert set(resources(deploy.stack)) >= set(before)
    assert resources(deploy.stack)["Table"][0] == before["Table"][0]


def test_a_team_with_data_is_not_removed_unless_it_is_named_and_what_stays_is_told(deploy) -> None:
    sqs, before = boto3.client("sqs"), resources(deploy.stack)
    sqs.send_message(QueueUrl=before["Queue"][0], MessageBody="{}")
    with pytest.raises(PreconditionError) as refused:
        deploy(HasTeam="no")
    said = str(refused.value)
    assert "  - TeamStack/Queue (AWS::SQS::Queue): removed - the old one is deleted with 1 messages in it" in said
    assert "  - TeamStack/Table (AWS::DynamoDB::Table): removed - the old one stays, outside the stack" in said
    with pytest.raises(PreconditionError, match="TeamStack/Table"):
        deploy("TeamStack/Queue", HasTeam="no")
    assert resources(deploy.stack) == before

    table = before["Table"][0]
    told = deploy("TeamStack", HasTeam="no")
    assert f"left behind: AWS::DynamoDB::Table {table}" in told
    assert set(resources(deploy.stack)) == {"Topic"}
    assert boto3.client("dynamodb").describe_table(TableName=table)["Table"]["TableStatus"] == "ACTIVE"
