"""adopt_resource: what a lake does with buckets and a key that somebody else made.

Woken by CloudFormation for ``Custom::TarnAdoptedBucket`` and ``Custom::TarnAdoptedKey``. Checks them; puts the ingest
queue among the listeners of the raw bucket, and takes it away on deletion. Answers CloudFormation on every path, and
returns what it answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from lake import adoption, custom_resource, settings
from lake.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True)
class Settings:
    """Set by foundations/adoption.yaml."""

    environment_name: str
    region_name: str


SETTINGS = settings.read(Settings)
S3 = boto3.client("s3")
KMS = boto3.client("kms")
USE = ("kms:Decrypt", "kms:GenerateDataKey")
SERVICES = {
    "s3.amazonaws.com": USE,
    "cloudwatch.amazonaws.com": USE,
    "events.amazonaws.com": USE,
    f"logs.{SETTINGS.region_name}.amazonaws.com": ("kms:Encrypt", *USE),
}
"""Who uses the key of the foundations, besides the roles of the account."""


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    """Adopt or release one bucket, or check the key."""
    return custom_resource.serve(event, _apply)


def _apply(event: Mapping[str, Any], known_id: str) -> str:
    properties, is_deleted = event["ResourceProperties"], event["RequestType"] == "Delete"
    if event["ResourceType"] == adoption.KEY_TYPE:
        if not is_deleted:
            adoption.adopt_key(KMS, properties["KeyArn"], SERVICES)
        return str(properties["KeyArn"])
    bucket = adoption.Bucket.of(properties, SETTINGS.environment_name, SETTINGS.region_name)
    if is_deleted:
        adoption.release_bucket(S3, bucket)
        return known_id
    adoption.adopt_bucket(S3, bucket)
    return bucket.name
