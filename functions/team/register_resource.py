"""register_resource: a team's registrar, which writes the rows of its datasets and pipelines.

Woken by CloudFormation for ``Custom::TarnDataset`` and ``Custom::TarnPipeline``. Changes one row of the datasets
table, which belongs to StackId/LogicalId. Answers CloudFormation on every path, and returns what it answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from lake import custom_resource, registrar, settings
from lake.observability import logger
from lake.registration import RegistrationError

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


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    """Create, update or delete one registration."""
    known_id = event.get("PhysicalResourceId", custom_resource.NEVER_MADE)
    told = {"request": event["RequestType"], "type": event["ResourceType"], "logical_id": event["LogicalResourceId"]}
    try:
        physical_id = _apply(event, known_id)
    except RegistrationError as error:
        logger.warning("refused", extra={**told, "reason": error.whole})
        return custom_resource.answer(event, "FAILED", known_id, str(error))
    except Exception as error:  # noqa: BLE001 - unanswered, CloudFormation would hang until its time is over
        logger.exception("failed", extra=told)
        return custom_resource.answer(event, "FAILED", known_id, f"{type(error).__name__}: {error}")
    logger.info("registered", extra={**told, "physical_id": physical_id})
    return custom_resource.answer(event, "SUCCESS", physical_id)


def _apply(event: dict[str, Any], known_id: str) -> str:
    owner = f"{event['StackId']}/{event['LogicalResourceId']}"
    if event["RequestType"] == "Delete":
        registrar.unregister(DATASETS, SETTINGS.team_name, owner, known_id)
        return known_id
    registered = registrar.register(
        DATASETS,
        S3,
        team=SETTINGS.team_name,
        owner=owner,
        resource_type=event["ResourceType"],
        properties=event["ResourceProperties"],
    )
    return registered.physical_id
