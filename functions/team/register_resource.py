"""register_resource: a team's registrar, which writes the rows of its datasets and pipelines.

Woken by CloudFormation for ``Custom::TarnDataset``, ``Custom::TarnPipeline`` and ``Custom::TarnTeam``. Changes one row
of the datasets table, which belongs to StackId/LogicalId; what others stand on is not deleted. Answers CloudFormation
on every path, and returns what it answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from lake import clock, custom_resource, handover, registrar, settings
from lake.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True)
class Settings:
    """Set by team/template.yaml."""

    datasets_table_name: str
    team_name: str


SETTINGS = settings.read(Settings)
DATASETS = boto3.resource("dynamodb").Table(SETTINGS.datasets_table_name)
S3 = boto3.client("s3")
SQS = boto3.client("sqs")
MOVER = handover.Mover(SQS)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    """Create, update or delete one registration."""
    return custom_resource.serve(event, _apply)


def _apply(event: Mapping[str, Any], known_id: str) -> str:
    owner = f"{event['StackId']}/{event['LogicalResourceId']}"
    resource_type, properties = event["ResourceType"], event["ResourceProperties"]
    if event["RequestType"] == "Delete":
        registrar.unregister(
            DATASETS,
            MOVER,
            team=SETTINGS.team_name,
            owner=owner,
            resource_type=resource_type,
            physical_id=known_id,
            properties=properties,
        )
        return known_id
    registered = registrar.register(
        DATASETS,
        S3,
        SQS,
        team=SETTINGS.team_name,
        owner=owner,
        resource_type=resource_type,
        properties=properties,
        now=clock.now(),
    )
    return registered.physical_id
