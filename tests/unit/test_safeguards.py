"""Rollback alarms: told once, through an update with the template that stands."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from tarn import safeguards

STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/tarn-prod/1"
ALARM = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:dead-letters"
STANDING = {"StackName": "tarn-prod", "StackId": STACK_ID, "CreationTime": 0, "StackStatus": "UPDATE_COMPLETE"}
TRIGGERS = {"RollbackTriggers": [{"Arn": ALARM, "Type": "AWS::CloudWatch::Alarm"}], "MonitoringTimeInMinutes": 5}


@pytest.fixture
def cloudformation() -> Any:
    return boto3.client("cloudformation", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")


def stack(**more: Any) -> dict[str, Any]:
    return {"Stacks": [STANDING | more]}


def test_a_stack_is_told_its_alarms_and_keeps_what_it_has(cloudformation: Any) -> None:
    said: list[str] = []
    with Stubber(cloudformation) as stub:
        parameters = [{"ParameterKey": "LogRetentionDays", "ParameterValue": "365"}]
        stub.add_response("describe_stacks", stack(Parameters=parameters))
        stub.add_response(
            "update_stack",
            {"StackId": STACK_ID},
            {
                "StackName": "tarn-prod",
                "UsePreviousTemplate": True,
                "Parameters": [{"ParameterKey": "LogRetentionDays", "UsePreviousValue": True}],
                "Capabilities": ANY,
                "RollbackConfiguration": TRIGGERS,
            },
        )
        stub.add_response("describe_stacks", stack())
        safeguards._roll_back_on(cloudformation, "tarn-prod", ["dead-letters"], say=said.append)
        stub.assert_no_pending_responses()
    assert said == ["tarn-prod: its deployments are rolled back when an alarm goes off (dead-letters)"]


def test_a_stack_that_knows_its_alarms_is_not_updated(cloudformation: Any) -> None:
    with Stubber(cloudformation) as stub:
        stub.add_response("describe_stacks", stack(RollbackConfiguration=TRIGGERS))
        safeguards._roll_back_on(cloudformation, "tarn-prod", ["dead-letters"], say=pytest.fail)


def test_it_is_said_when_cloudformation_does_not_take_them(cloudformation: Any) -> None:
    said: list[str] = []
    with Stubber(cloudformation) as stub:
        stub.add_response("describe_stacks", stack())
        stub.add_client_error("update_stack", "ValidationError", "No updates are to be performed.")
        safeguards._roll_back_on(cloudformation, "tarn-prod", ["dead-letters"], say=said.append)
    assert said == ["tarn-prod: CloudFormation did not take the rollback alarms (dead-letters)"]


def test_the_policy_denies_replacing_and_deleting_what_holds_data_and_nothing_else() -> None:
    allow, deny = safeguards.POLICY["Statement"]
    assert (allow["Effect"], allow["Action"]) == ("Allow", "Update:*")
    assert (deny["Effect"], deny["Action"]) == ("Deny", ["Update:Replace", "Update:Delete"])
    assert set(safeguards.KEEPS_DATA) == {
        "AWS::DynamoDB::Table", "AWS::Glue::Database", "AWS::KMS::Key", "AWS::S3::Bucket",
    }  # fmt: skip
    assert {"Statement": [allow]} == safeguards.OPEN_POLICY
