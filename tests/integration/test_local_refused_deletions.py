"""What a stack may not delete stays, and what it depends on stays with it; the next try goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.local_world import Stacks

TEMPLATE = """
Resources:
  Below:
    Type: AWS::SSM::Parameter
    Properties: {Type: String, Name: /refused/below, Value: x}
  Retained:
    Type: AWS::SSM::Parameter
    DeletionPolicy: Retain
    Properties: {Type: String, Name: /refused/retained, Value: x}
  Bucket:
    Type: AWS::S3::Bucket
    DependsOn: [Below, Retained]
    Properties: {BucketName: refused-deletions}
  Beside:
    Type: AWS::SSM::Parameter
    Properties: {Type: String, Name: /refused/beside, Value: x}
  Above:
    Type: AWS::SSM::Parameter
    DependsOn: Bucket
    Properties: {Type: String, Name: /refused/above, Value: x}
"""


def test_what_a_resource_that_was_not_deleted_depends_on_is_kept(client: Callable[[str], Any], stacks: Stacks) -> None:
    made = stacks.create(TEMPLATE)
    assert made["StackStatus"] == "CREATE_COMPLETE", made["Reasons"]
    client("s3").put_object(Bucket="refused-deletions", Key="file", Body=b"x")

    for _ in range(2):
        refused = stacks.delete(made["StackName"])
        assert refused["StackStatus"] == "DELETE_FAILED"
        assert "Kept: Bucket depends on it, and was not deleted" in refused["Reasons"]
        left = stacks.api.describe_stack_resources(StackName=made["StackName"])["StackResources"]
        assert sorted(one["LogicalResourceId"] for one in left) == ["Below", "Bucket", "Retained"]

    client("s3").delete_object(Bucket="refused-deletions", Key="file")
    assert stacks.delete(made["StackName"])["StackStatus"] == "DELETE_COMPLETE"
    assert client("ssm").get_parameters_by_path(Path="/refused")["Parameters"][0]["Name"] == "/refused/retained"
