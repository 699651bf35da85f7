"""Each way to reach for a team's things: one call of AWS for each, which changes nothing where it is allowed.

A write has a condition that fails, a batch is empty, an input does not parse, a receipt is nobody's: AWS decides
whether the caller may, and only then finds that there is nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tarn.contract import Contract
from tests.e2e import authorization

DENIED = ("AccessDenied", "AuthorizationError")
NEVER = {"ConditionExpression": "attribute_exists(nothing)"}


@dataclass(frozen=True)
class Attempt:
    """A call, and what it reaches for."""

    name: str
    service: str
    operation: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Belongings:
    """A team's things, as CloudFormation and the contract tell."""

    team: str
    contract: Contract
    by_type: dict[str, list[str]]
    secret: bytes
    """A text that is encrypted with the team's key."""


def belongings(session: boto3.Session, root: str, team: str) -> Belongings:
    """What the stacks of a team hold: those whose ``TeamName`` it is."""
    found: dict[str, list[str]] = {}
    for one in authorization.resources(session, root, team):
        found.setdefault(one["ResourceType"], []).append(one["PhysicalResourceId"])
    contract = Contract(session.client("ssm"), "local")
    encrypted = session.client("kms").encrypt(KeyId=contract.team(team, "key/arn"), Plaintext=b"secret")
    return Belongings(team, contract, found, encrypted["CiphertextBlob"])


def attempts(of: Belongings, mine: Belongings) -> Iterator[Attempt]:
    """Every attempt on the things of a team; ``mine`` is whose rows are mixed with them."""
    yield from _on_objects(of)
    yield from _on_rows(of, mine)
    yield from _on_queues_and_topics(of)
    yield from _on_keys(of)
    yield from _on_tables_and_jobs(of)
    yield from _on_functions_and_machines(of)


def _on_objects(of: Belongings) -> Iterator[Attempt]:
    key = f"{of.team}/isolation/none"
    for zone in ("raw", "stage", "analytics"):
        bucket = of.contract.foundations(f"{zone}-bucket/name")
        at = {"Bucket": bucket, "Key": key}
        part = {"UploadId": "none", "PartNumber": 1, "Body": b""}
        yield Attempt(f"read an object of {zone}", "s3", "get_object", at)
        yield Attempt(f"write an object of {zone}", "s3", "upload_part", {**at, **part})
        yield Attempt(f"delete an object of {zone}", "s3", "delete_object", {**at, "IfMatch": "none"})
        yield Attempt(f"list {zone}", "s3", "list_objects_v2", {"Bucket": bucket, "Prefix": f"{of.team}/"})
        yield Attempt(f"list versions of {zone}", "s3", "list_object_versions", {"Bucket": bucket, "Prefix": key})


def _on_rows(of: Belongings, mine: Belongings) -> Iterator[Attempt]:
    tables = {name: of.contract.foundations(f"{name}-table/name") for name in ("objects", "datasets", "batches")}
    for name, table in tables.items():
        key, own = _key(of, name), _key(mine, name)
        partition, value = next(iter(key.items()))
        row, asked = {"TableName": table, "Key": key}, {":it": value}
        equal = {"KeyConditionExpression": "#it = :it", "ExpressionAttributeValues": asked}
        yield Attempt(f"get a row of {name}", "dynamodb", "get_item", row)
        yield Attempt(
            f"query {name}",
            *("dynamodb", "query"),
            {"TableName": table, "ExpressionAttributeNames": {"#it": partition}, **equal},
        )
        yield Attempt(f"update a row of {name}", "dynamodb", "update_item", {**row, **NEVER})
        yield Attempt(f"put a row of {name}", "dynamodb", "put_item", {"TableName": table, "Item": key, **NEVER})
        yield Attempt(f"delete a row of {name}", "dynamodb", "delete_item", {**row, **NEVER})
        yield Attempt(f"scan {name}", "dynamodb", "scan", {"TableName": table, "Limit": 1})
        text = f"SELECT * FROM \"{table}\" WHERE {partition} = '{value['S']}'"  # noqa: S608 (our own names)
        yield Attempt(f"select from {name}", "dynamodb", "execute_statement", {"Statement": text})
        keys = [own, key] if own != key else [key]
        wanted = {"RequestItems": {table: {"Keys": keys}}}
        yield Attempt(f"get rows of {name}, one of them one's own", "dynamodb", "batch_get_item", wanted)
        deleted = {"RequestItems": {table: [{"DeleteRequest": {"Key": one}} for one in keys]}}
        yield Attempt(f"delete rows of {name}, one of them one's own", "dynamodb", "batch_write_item", deleted)
        read = {"TransactItems": [{"Get": {"TableName": table, "Key": one}} for one in keys]}
        yield Attempt(f"get rows of {name} in a transaction", "dynamodb", "transact_get_items", read)
        puts = [{"Put": {"TableName": table, "Item": one, **NEVER}} for one in keys]
        written = {"TransactItems": puts}
        yield Attempt(f"put rows of {name} in a transaction", "dynamodb", "transact_write_items", written)
    for name, index in (("objects", "attention"), ("batches", "unfinished")):
        at = {"TableName": tables[name], "IndexName": index, "ExpressionAttributeNames": {"#it": index}}
        asked = {":it": {"S": f"{of.team}#none#0"}}
        equal = {"KeyConditionExpression": "#it = :it", "ExpressionAttributeValues": asked}
        yield Attempt(f"query {index} of {name}", "dynamodb", "query", {**at, **equal})


def _key(of: Belongings, table: str) -> dict[str, dict[str, str]]:
    """The key of a row that is not there."""
    if table == "objects":
        return {"id": {"S": f"s3://{of.contract.foundations('stage-bucket/name')}/{of.team}/isolation/none"}}
    if table == "datasets":
        return {"team": {"S": of.team}, "dataset": {"S": "none"}}
    return {"owner": {"S": f"{of.team}#none"}, "batch_id": {"S": "none"}}


def _on_queues_and_topics(of: Belongings) -> Iterator[Attempt]:
    for url in of.by_type["AWS::SQS::Queue"]:
        at = {"QueueUrl": url}
        yield Attempt("send a message", "sqs", "send_message_batch", {**at, "Entries": []})
        yield Attempt("receive a message", "sqs", "receive_message", {**at, "VisibilityTimeout": 0})
        yield Attempt("delete a message", "sqs", "delete_message", {**at, "ReceiptHandle": "none"})
        yield Attempt("count messages", "sqs", "get_queue_attributes", {**at, "AttributeNames": ["All"]})
        yield Attempt("ask whose queue it is", "sqs", "list_queue_tags", at)
    for arn in of.by_type["AWS::SNS::Topic"]:
        yield Attempt("notify", "sns", "publish", {"TopicArn": arn, "Message": ""})


def _on_keys(of: Belongings) -> Iterator[Attempt]:
    key = of.contract.team(of.team, "key/arn")
    yield Attempt("decrypt", "kms", "decrypt", {"CiphertextBlob": of.secret})
    yield Attempt("make a data key", "kms", "generate_data_key", {"KeyId": key, "KeySpec": "AES_256"})


def _on_tables_and_jobs(of: Belongings) -> Iterator[Attempt]:
    database = of.contract.team(of.team, "database/name")
    table = {"DatabaseName": database, "TableName": "none"}
    yield Attempt("read a table", "glue", "get_table", {"DatabaseName": database, "Name": "none"})
    yield Attempt("change a table", "glue", "update_table", {"DatabaseName": database, "TableInput": {"Name": "none"}})
    yield Attempt("publish", "glue", "create_partition", {**table, "PartitionInput": {"Values": ["none"]}})
    yield Attempt("unpublish", "glue", "delete_partition", {**table, "PartitionValues": ["none"]})
    for name in of.by_type["AWS::Glue::Job"]:
        yield Attempt("look at a job", "glue", "get_job_run", {"JobName": name, "RunId": "none"})
        yield Attempt("stop a job", "glue", "batch_stop_job_run", {"JobName": name, "JobRunIds": ["none"]})
    for name in _crawlers(of):
        yield Attempt("look at a crawler", "glue", "get_crawler", {"Name": name})


def _crawlers(of: Belongings) -> list[str]:
    """Those that there are, and one that could be: they are named after their team."""
    return [*of.by_type.get("AWS::Glue::Crawler", []), f"tarn-local-{of.team}-none"]


def _on_functions_and_machines(of: Belongings) -> Iterator[Attempt]:
    for name in of.by_type["AWS::Lambda::Function"]:
        yield Attempt("call a function", "lambda", "invoke", {"FunctionName": name, "InvocationType": "DryRun"})
    for arn in of.by_type["AWS::StepFunctions::StateMachine"]:
        unread = {"stateMachineArn": arn, "input": "not json"}
        run = arn.replace(":stateMachine:", ":execution:") + ":none"
        yield Attempt("start a machine", "stepfunctions", "start_execution", unread)
        yield Attempt("run a machine", "stepfunctions", "start_sync_execution", unread)
        yield Attempt("look at an execution", "stepfunctions", "describe_execution", {"executionArn": run})


def starts(of: Belongings) -> Iterator[Attempt]:
    """What would do something where it is allowed, and so is tried on others' things alone."""
    for name in of.by_type["AWS::Glue::Job"]:
        yield Attempt("start a job", "glue", "start_job_run", {"JobName": name})
    for name in _crawlers(of):
        yield Attempt("start a crawler", "glue", "start_crawler", {"Name": name})


def looks_at_engines(of: Belongings) -> Iterator[Attempt]:
    """Attempts on what runs heavy transforms beside Glue, which find nothing where they are allowed."""
    (cluster,) = of.by_type["AWS::ECS::Cluster"]
    (application,) = of.by_type["AWS::EMRServerless::Application"]
    job = f"tarn-local-{of.team}-none"
    yield Attempt("look at a task", "ecs", "describe_tasks", {"cluster": cluster, "tasks": ["none"]})
    run = {"applicationId": application, "jobRunId": "none"}
    yield Attempt("look at a run", "emr-serverless", "get_job_run", run)
    yield Attempt("cancel a run", "emr-serverless", "cancel_job_run", run)
    yield Attempt("look at a notebook", "sagemaker", "describe_processing_job", {"ProcessingJobName": job})
    yield Attempt("stop a notebook", "sagemaker", "stop_processing_job", {"ProcessingJobName": job})


def starts_of_engines(of: Belongings, roles: Mapping[str, str], flow: str) -> Iterator[Attempt]:
    """What would run a job of a team, or something as its job roles (ARNs by logical id); on others' things alone."""
    (cluster,) = of.by_type["AWS::ECS::Cluster"]
    (definition,) = of.by_type["AWS::ECS::TaskDefinition"]
    (application,) = of.by_type["AWS::EMRServerless::Application"]
    yield Attempt("run a task", "ecs", "run_task", {"cluster": cluster, "taskDefinition": definition})
    yield Attempt(
        "start a run",
        *("emr-serverless", "start_job_run"),
        {"applicationId": application, "executionRoleArn": roles["ServerlessJobRole"]},
    )
    steps = [{"Name": "none", "HadoopJarStep": {"Jar": "command-runner.jar"}}]
    taken = {"JobFlowId": flow, "Steps": steps, "ExecutionRoleArn": roles["StepRole"]}
    yield Attempt("add a step", "emr", "add_job_flow_steps", taken)


class Actor:
    """Somebody with credentials of a role."""

    def __init__(self, session: boto3.Session) -> None:
        config = Config(retries={"total_max_attempts": 1})
        self._client = cache(lambda service: session.client(service, config=config))

    def may(self, attempt: Attempt) -> bool:
        """Whether AWS does not refuse the call itself: any other answer is one to somebody who may ask."""
        try:
            getattr(self._client(attempt.service), attempt.operation)(**attempt.arguments)
        except ClientError as error:
            return not any(word in error.response["Error"]["Code"] for word in DENIED)
        return True


@contextmanager
def acting_as(session: boto3.Session, role_arn: str) -> Iterator[Actor]:
    """Take a role, which trusts the administrator for as long."""
    iam, name = session.client("iam"), role_arn.rpartition("/")[2]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    administrator = {"AWS": f"arn:aws:iam::{role_arn.split(':')[4]}:root"}
    us = {"Effect": "Allow", "Principal": administrator, "Action": "sts:AssumeRole"}
    open_trust = {**trust, "Statement": [*trust["Statement"], us]}
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(open_trust))
    try:
        keys = session.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="isolation")["Credentials"]
        yield Actor(boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]))
    finally:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
