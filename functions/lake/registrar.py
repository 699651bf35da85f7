"""Registering: a custom resource's properties, checked, become a row that its stack owns (protocol 8).

Registering writes the row and nothing else: what waited for the dataset is routed by the tick.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr
from botocore.exceptions import ClientError

from lake import datasets, registration, rows, rules_text, sql_text
from lake.registration import RegistrationError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

DATASET_TYPE = "Custom::TarnDataset"
PIPELINE_TYPE = "Custom::TarnPipeline"
MOST_TEXT_BYTES = 1_000_000
"""Of an SQL or rules file: what is longer is no such text."""


@dataclass(frozen=True)
class Registered:
    """A row that was written; ``place`` is its sort key under the team."""

    team: str
    place: str

    @property
    def physical_id(self) -> str:
        """The resource's identity: another team, dataset or pipeline is another resource."""
        return f"{self.team}/{self.place}"


def register(
    table: Table, s3: S3Client, *, team: str, owner: str, resource_type: str, properties: Mapping[str, Any]
) -> Registered:
    """Check and write a registration of ``team`` under its owner's name (StackId/LogicalId).

    Raises:
        RegistrationError: the properties, SQL or rules are refused, or another stack owns the name.
    """
    if resource_type == DATASET_TYPE:
        dataset = registration.read(registration.Dataset, properties)
        _require_team(dataset.team, team)
        check_assets(s3, dataset)
        values = registration.row(dataset)
        registered = Registered(dataset.team, dataset.dataset)
        kind: str = datasets.DATASET
    elif resource_type == PIPELINE_TYPE:
        pipeline = registration.read(registration.Pipeline, properties)
        _require_team(pipeline.team, team)
        values = registration.row(pipeline)
        registered = Registered(pipeline.team, datasets.pipeline_key(pipeline.pipeline))
        kind = datasets.PIPELINE
    else:
        raise RegistrationError([f"resource type {resource_type}: must be {DATASET_TYPE} or {PIPELINE_TYPE}"])
    row = {**values, "schema": rows.SCHEMA, "kind": kind, "dataset": registered.place, "owner": owner}
    try:
        rows.put(table, row, Attr("team").not_exists() | Attr("owner").eq(owner))
    except rows.ConditionFailedError as error:
        raise RegistrationError(
            [f"{kind} {registered.physical_id} is registered by {error.row.get('owner')}: choose another name"]
        ) from error
    return registered


def unregister(table: Table, team: str, owner: str, physical_id: str) -> bool:
    """Delete the row of ``physical_id`` if ``owner`` has it; False where it is another's, or was never made."""
    row_team, _, place = physical_id.partition("/")
    if row_team != team or not place:
        return False
    try:
        table.delete_item(Key={"team": row_team, "dataset": place}, ConditionExpression=Attr("owner").eq(owner))
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def check_assets(s3: S3Client, dataset: registration.Dataset) -> None:
    """Read the dataset's files from the asset bucket and check what can be checked without data.

    Raises:
        RegistrationError: with every finding, the file's name first.
    """
    findings: list[str] = []
    for name in (dataset.transform_sql, dataset.heavy_transform, dataset.rules):
        if name is None:
            continue
        try:
            text = _text(s3, dataset.asset_bucket_name, f"{dataset.asset_prefix}{name}")
            if name == dataset.transform_sql:
                sql_text.check(text, [(column.name, column.type) for column in dataset.columns])
            elif name == dataset.rules:
                rules_text.check(text)
            elif name.endswith(".py"):
                ast.parse(text, name)
        except SyntaxError as error:
            findings.append(f"{name}: line {error.lineno}: {error.msg}")
        except ValueError as error:
            findings += [f"{name}: {line}" for line in str(error).splitlines() if line.strip()]
    if findings:
        raise RegistrationError(findings)


def _require_team(given: str, own: str) -> None:
    if given != own:
        raise RegistrationError([f"Team: given {given!r}; must be {own!r}: each team has a registrar of its own"])


def _text(s3: S3Client, bucket: str, key: str) -> str:
    """A text file of the asset bucket.

    Raises:
        ValueError: it is not there, not UTF-8, or too long for a text.
    """
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        # 403 is what S3 answers for a missing key to a role that may not list.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            code = error.response["Error"]["Code"]
            raise ValueError(f"s3://{bucket}/{key} cannot be read ({code}): upload it, or correct the name") from error
        raise
    if answer["ContentLength"] > MOST_TEXT_BYTES:
        raise ValueError(f"{answer['ContentLength']} bytes; must be at most {MOST_TEXT_BYTES}")
    return answer["Body"].read().decode()
