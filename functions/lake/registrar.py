"""Registering: a custom resource's properties, checked, become a row that its stack owns (protocol 8).

Registering writes the row and nothing else: what waited for the dataset is routed by the tick.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, Key
from botocore.exceptions import ClientError

from lake import datasets, dependencies, engines, handover, python_text, registration, rows, rules_text, sql_text
from lake.registration import RegistrationError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

DATASET_TYPE = "Custom::TarnDataset"
PIPELINE_TYPE = "Custom::TarnPipeline"
TEAM_TYPE = "Custom::TarnTeam"
KINDS: Mapping[str, tuple[type[registration.Dataset | registration.Pipeline | registration.Team], str]] = {
    DATASET_TYPE: (registration.Dataset, datasets.DATASET),
    PIPELINE_TYPE: (registration.Pipeline, datasets.PIPELINE),
    TEAM_TYPE: (registration.Team, datasets.TEAM),
}
"""What each resource type is read as, and what its row is called."""
MOST_NAMED = 20
"""Of what stands in the way of a removal; the rest is counted."""
MOST_TEXT_BYTES = 1_000_000
"""Of an SQL or rules file: what is longer is no such text."""
TEAM_TAG = "tarn:team"
"""All of a team's things carry it, and the boundary tells them apart by it."""
NOT_THE_TEAMS = ("AccessDenied", "AccessDeniedException", "AWS.SimpleQueueService.NonExistentQueue", "InvalidAddress")
"""What SQS answers of a queue that the boundary keeps from the registrar, that is not there, or that is no queue."""


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
    table: Table,
    s3: S3Client,
    sqs: SQSClient,
    *,
    team: str,
    owner: str,
    resource_type: str,
    properties: Mapping[str, Any],
    now: datetime,
) -> Registered:
    """Check and write a registration of ``team`` under its owner's name (StackId/LogicalId).

    Raises:
        RegistrationError: the properties, queue, SQL or rules are refused, or another stack owns the name.
    """
    if resource_type not in KINDS:
        raise RegistrationError(
            [f"resource type {resource_type}: must be {DATASET_TYPE}, {PIPELINE_TYPE} or {TEAM_TYPE}"]
        )
    model, kind = KINDS[resource_type]
    given = registration.read(model, properties)
    _require_team(given.team, team)
    if not isinstance(given, registration.Team):
        require_queue(sqs, given)
    if isinstance(given, registration.Dataset):
        check_assets(s3, given)
        check_place(table, given)
    elif isinstance(given, registration.Pipeline):
        require_engines(table, given)
    registered = Registered(team, _place(resource_type, properties))
    row = {**registration.row(given), "schema": rows.SCHEMA, "kind": kind, "dataset": registered.place, "owner": owner}
    before = rows.get(table, {"team": team, "dataset": registered.place})
    is_free = Attr("team").not_exists() | (Attr("owner").eq(owner) & Attr(handover.FORMER).not_exists())
    try:
        rows.put(table, row, is_free)
    except rows.ConditionFailedError as error:
        if kind != datasets.DATASET or not handover.take_over(table, row, error.row, now):
            raise RegistrationError(
                [f"{kind} {registered.physical_id} is registered by {error.row.get('owner')}: choose another name"]
            ) from error
    if isinstance(given, registration.Dataset):
        _check_again(table, given, owner, before)
    return registered


def _check_again(table: Table, given: registration.Dataset, owner: str, before: Mapping[str, Any] | None) -> None:
    """Look for a circle also after the write: datasets of one template are registered in the same moment.

    Each of a circle writes its row before it looks, so that the last one sees them all, and undoes its own.

    Raises:
        RegistrationError: naming the circle; the row stands as ``before``.
    """
    try:
        check_place(table, given)
    except RegistrationError:
        if before is None:
            _delete(table, given.team, given.dataset, owner)
        else:
            with contextlib.suppress(rows.ConditionFailedError):
                rows.put(table, before, Attr("owner").eq(owner))
        raise


def unregister(
    table: Table,
    mover: handover.Mover,
    *,
    team: str,
    owner: str,
    resource_type: str,
    physical_id: str,
    properties: Mapping[str, Any],
) -> bool:
    """Delete the row of a resource if ``owner`` has it; False where it is another's, or was never made.

    A creation that never answered has no id of ours, and may have written its row all the same: then the properties
    tell which. Only what ``owner`` wrote is ever deleted.

    Raises:
        RegistrationError: pipelines or datasets still stand on it.
    """
    row_team, _, place = physical_id.partition("/")
    if row_team != team or not place:
        row_team, place = str(properties.get("Team")), _place(resource_type, properties)
    if row_team != team or not place:
        return False
    row = rows.get(table, {"team": team, "dataset": place})
    if row is None:
        return False
    if handover.FORMER in row and row["owner"] == owner:
        handover.give_back(table, mover, row)
        return True
    if handover.FORMER in row and row[handover.FORMER]["owner"] == owner:
        handover.complete(table, mover, row)
        return True
    if row["owner"] != owner:
        return False
    require_unused(table, row)
    return _delete(table, team, place, owner)


def _delete(table: Table, team: str, place: str, owner: str) -> bool:
    """Delete ``owner``'s row; False where it is another's."""
    try:
        table.delete_item(Key={"team": team, "dataset": place}, ConditionExpression=Attr("owner").eq(owner))
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def require_unused(table: Table, row: Mapping[str, Any]) -> None:
    """Refuse to remove a pipeline with datasets, or a team with pipelines or datasets.

    Raises:
        RegistrationError: naming them, and what to do.
    """
    kind, team = row.get("kind"), str(row["team"])
    if kind not in (datasets.PIPELINE, datasets.TEAM):
        return
    found = [datasets.of_row(one) for one in rows.query(table, KeyConditionExpression=Key("team").eq(team))]
    users = [
        f"dataset {one.dataset}"
        for one in found
        if isinstance(one, datasets.Dataset) and (kind == datasets.TEAM or one.pipeline == row["pipeline"])
    ]
    if kind == datasets.TEAM:
        users += [f"pipeline {one.pipeline}" for one in found if isinstance(one, datasets.Pipeline)]
    if not users:
        return
    what = f"pipeline {row['pipeline']} of team {team}" if kind == datasets.PIPELINE else f"team {team}"
    raise RegistrationError([f"{what} is in use by {_named(users)}: remove their stacks first, then this one again"])


def check_place(table: Table, dataset: registration.Dataset) -> None:
    """Refuse an engine that the dataset's pipeline does not have, and datasets that wait for each other in a circle.

    Raises:
        RegistrationError: naming the parameters that bring the engine, and the circle.
    """
    if dataset.engine == engines.GLUE and not dataset.depends_on:
        return
    found = list(rows.query(table, KeyConditionExpression=Key("team").eq(dataset.team), ConsistentRead=True))
    by_place = {row["dataset"]: row for row in found}
    findings = []
    pipeline = by_place.get(datasets.pipeline_key(dataset.pipeline), {})
    if lacks := engines.lacking(dataset.engine, dataset.pipeline, pipeline.get("engines") or [engines.GLUE]):
        findings.append(lacks)
    name = f"{dataset.team}/{dataset.dataset}"
    edges = {f"{row['team']}/{row['dataset']}": row.get("depends_on") or [] for row in found}
    if circle := dependencies.circle({**edges, name: dataset.depends_on}):
        findings.append(f"DependsOn: given {', '.join(dataset.depends_on)}; is a circle: {' -> '.join(circle)}")
    if findings:
        raise RegistrationError(findings)


def require_engines(table: Table, pipeline: registration.Pipeline) -> None:
    """Refuse to take an engine from a pipeline while datasets use it.

    Raises:
        RegistrationError: naming them.
    """
    found = rows.query(table, KeyConditionExpression=Key("team").eq(pipeline.team), ConsistentRead=True)
    users = [
        f"dataset {row['dataset']} uses {row['engine']}"
        for row in found
        if row.get("kind") == datasets.DATASET
        and row["pipeline"] == pipeline.pipeline
        and row.get("engine", engines.GLUE) not in pipeline.engines
    ]
    if users:
        raise RegistrationError(
            [f"pipeline {pipeline.pipeline} is to have {', '.join(pipeline.engines)}, and {_named(users)}"]
        )


def _named(users: list[str]) -> str:
    """The first of what stands in the way, and how many more."""
    more = f" and {len(users) - MOST_NAMED} more" if len(users) > MOST_NAMED else ""
    return ", ".join(users[:MOST_NAMED]) + more


def _place(resource_type: str, properties: Mapping[str, Any]) -> str:
    """The sort key of a resource's row; empty where it names none."""
    if resource_type == TEAM_TYPE:
        return datasets.TEAM_KEY
    if resource_type == PIPELINE_TYPE:
        return datasets.pipeline_key(str(properties.get("Pipeline")))
    return str(properties.get("Dataset", ""))


def check_assets(s3: S3Client, dataset: registration.Dataset) -> None:
    """Read the dataset's files from the asset bucket and check what can be checked without data.

    Raises:
        RegistrationError: with every finding, the file's name first.
    """
    findings: list[str] = []
    for name in (dataset.light_transform, dataset.heavy_transform, dataset.rules):
        if name is None:
            continue
        try:
            text = _text(s3, dataset.asset_bucket_name, f"{dataset.asset_prefix}{name}")
            if name == dataset.light_transform and dataset.is_python:
                python_text.check(text)
            elif name == dataset.light_transform:
                sql_text.check(text, [(column.name, column.type) for column in dataset.columns])
            elif name == dataset.rules:
                rules_text.check(text)
            elif name.endswith(".py"):
                ast.parse(text, name)
            elif name.endswith(".ipynb"):
                engines.check_notebook(text)
        except SyntaxError as error:
            findings.append(f"{name}: line {error.lineno}: {error.msg}")
        except ValueError as error:
            findings += [f"{name}: {line}" for line in str(error).splitlines() if line.strip()]
    if findings:
        raise RegistrationError(findings)


def require_queue(sqs: SQSClient, given: registration.Dataset | registration.Pipeline) -> None:
    """Refuse a queue that does not carry the team's tag: the router may send to the queues of every team.

    Raises:
        RegistrationError: naming the queue, and the tag that it must carry.
    """
    try:
        carried = sqs.list_queue_tags(QueueUrl=given.queue_url).get("Tags", {}).get(TEAM_TAG)
    except ClientError as error:
        if (code := error.response["Error"]["Code"]) not in NOT_THE_TEAMS:
            raise
        found = f"cannot be asked for its tags ({code})"
    else:
        if carried == given.team:
            return
        found = f"carries {TEAM_TAG}={carried}" if carried else f"carries no tag {TEAM_TAG}"
    raise RegistrationError(
        [f"QueueUrl: given {given.queue_url!r}; {found}, and must be a queue of the team, with {TEAM_TAG}={given.team}"]
    )


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
