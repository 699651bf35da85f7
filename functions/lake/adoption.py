"""Buckets and a key that somebody else made, and that a lake is told to use as they are.

Nothing of them is made, deleted or configured anew, with one exception: the raw bucket must tell the ingest queue what
lands. That one configuration is put beside the others of the bucket, under an id of its own, and taken away again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lake.registration import RegistrationError

if TYPE_CHECKING:
    from mypy_boto3_kms.client import KMSClient
    from mypy_boto3_s3.client import S3Client

BUCKET_TYPE = "Custom::TarnAdoptedBucket"
KEY_TYPE = "Custom::TarnAdoptedKey"
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
"""Restore and lifecycle events carry no sequencer, and an expiry is no retraction: neither is asked for."""
KINDS = ("QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations")
GONE = ("NoSuchBucket", "404")


@dataclass(frozen=True)
class Bucket:
    """An adopted bucket. ``queue_arn`` is the ingest queue where it is the raw zone's; ``key_arn`` the lake's key."""

    name: str
    environment: str
    region: str
    key_arn: str
    queue_arn: str | None = None

    @property
    def notification_id(self) -> str:
        """Name of our configuration among the bucket's own."""
        return f"tarn-{self.environment}"

    @staticmethod
    def of(properties: Mapping[str, Any], environment: str, region: str) -> Bucket:
        """The bucket in a custom resource's properties."""
        return Bucket(
            name=str(properties["BucketName"]),
            environment=environment,
            region=region,
            key_arn=str(properties["KeyArn"]),
            queue_arn=str(properties["QueueArn"]) if properties.get("QueueArn") else None,
        )


def adopt_bucket(s3: S3Client, bucket: Bucket) -> None:
    """Check an adopted bucket; let the raw zone's tell the ingest queue.

    Raises:
        RegistrationError: with everything that is missing, and how to mend it.
    """
    try:
        told = s3.get_bucket_notification_configuration(Bucket=bucket.name) if bucket.queue_arn else None
        findings = list(_findings(s3, bucket, told or {}))
    except ClientError as error:
        code, name = error.response["Error"]["Code"], bucket.name
        if code in GONE or error.response["ResponseMetadata"]["HTTPStatusCode"] in (301, 403, 404):
            raise RegistrationError(
                [
                    f"bucket {name} cannot be adopted ({error.operation_name}: {code}): it must be of this account, in "
                    f"region {bucket.region}, and its policy must not deny this account"
                ]
            ) from error
        raise
    if findings:
        raise RegistrationError([f"bucket {bucket.name} cannot be adopted: {one}" for one in findings])
    if told is not None:
        _put(s3, bucket.name, _with(_without(told, bucket), bucket))


def release_bucket(s3: S3Client, bucket: Bucket) -> None:
    """Take our configuration away from the bucket; everything else of it stays."""
    if bucket.queue_arn is None:
        return
    try:
        told = s3.get_bucket_notification_configuration(Bucket=bucket.name)
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            return
        raise
    left = _without(told, bucket)
    if left != _plain(told):
        _put(s3, bucket.name, left)


def adopt_key(kms: KMSClient, key_arn: str, services: Mapping[str, Iterable[str]]) -> None:
    """Check an adopted key: usable, and open to the services that use the lake's own key.

    ``services`` are the actions that each service principal needs. Conditions of the policy's statements are not
    weighed: a source account or ARN in them must admit this lake.

    Raises:
        RegistrationError: with everything that is missing, and how to mend it.
    """
    findings = []
    try:
        told = kms.describe_key(KeyId=key_arn)["KeyMetadata"]
        policy = json.loads(kms.get_key_policy(KeyId=key_arn, PolicyName="default")["Policy"])
    except ClientError as error:
        raise RegistrationError(
            [f"key {key_arn} cannot be adopted ({error.operation_name}: {error.response['Error']['Code']})"]
        ) from error
    if (told["KeyState"], told["KeyUsage"], told["KeySpec"]) != ("Enabled", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"):
        findings.append(
            f"it is {told['KeyState']}, {told['KeyUsage']}, {told['KeySpec']}; it must be enabled and symmetric"
        )
    for service, actions in services.items():
        missing = [action for action in actions if not _admits(policy, service, action)]
        if missing:
            findings.append(f"its policy does not let {service} use {', '.join(missing)}: allow it")
    if findings:
        raise RegistrationError([f"key {key_arn} cannot be adopted: {one}" for one in findings])


def _findings(s3: S3Client, bucket: Bucket, told: Mapping[str, Any]) -> Iterator[str]:
    region = s3.get_bucket_location(Bucket=bucket.name).get("LocationConstraint") or "us-east-1"
    if region != bucket.region:
        yield f"it is in region {region}, and the lake in {bucket.region}: a lake has one region"
    key = _encryption_key(s3, bucket.name)
    if key not in (None, bucket.key_arn):
        yield f"it is encrypted with {key}: give that key as AdoptedKeyArn, or let S3 encrypt with the key of the lake"
    if bucket.queue_arn is None:
        return
    if s3.get_bucket_versioning(Bucket=bucket.name).get("Status") != "Enabled":
        yield "it has no versions, by which Tarn tells one file from the next under its key: turn versioning on"
    taken = {other for other in _events_of_others(told, bucket) if any(fnmatchcase(other, ours) for ours in EVENTS)}
    if taken:
        yield (
            f"it already tells somebody else of {', '.join(sorted(taken))}, and S3 tells one only: let the other "
            "listen by EventBridge, which hears of everything"
        )


def _encryption_key(s3: S3Client, name: str) -> str | None:
    """The KMS key that the bucket encrypts with by default; None for S3's own."""
    try:
        rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServerSideEncryptionConfigurationNotFoundError":
            return None
        raise
    default = rules[0]["ApplyServerSideEncryptionByDefault"]
    return default.get("KMSMasterKeyID", "aws/s3") if default["SSEAlgorithm"].startswith("aws:kms") else None


def _events_of_others(told: Mapping[str, Any], bucket: Bucket) -> Iterator[str]:
    left = _without(told, bucket)
    for kind in KINDS:
        for one in left.get(kind, []):
            yield from one["Events"]


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "ResponseMetadata"}


def _without(told: Mapping[str, Any], bucket: Bucket) -> dict[str, Any]:
    left = _plain(told)
    queues = [one for one in left.get(KINDS[0], []) if one.get("Id") != bucket.notification_id]
    return {**left, KINDS[0]: queues} if queues else {name: left[name] for name in left if name != KINDS[0]}


def _with(told: Mapping[str, Any], bucket: Bucket) -> dict[str, Any]:
    ours = {"Id": bucket.notification_id, "QueueArn": bucket.queue_arn, "Events": EVENTS}
    return {**told, KINDS[0]: [*told.get(KINDS[0], []), ours]}


def _put(s3: S3Client, name: str, configuration: Any) -> None:
    s3.put_bucket_notification_configuration(
        Bucket=name,
        NotificationConfiguration=configuration,
        # S3 would ask every listener of the bucket, and refuse all for one of somebody else that is gone.
        SkipDestinationValidation=True,
    )


def _admits(policy: Mapping[str, Any], service: str, action: str) -> bool:
    for one in _listed(policy["Statement"]):
        principal = one.get("Principal")
        services = _listed(principal.get("Service")) if isinstance(principal, dict) else []
        admitted = any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _listed(one.get("Action")))
        if one["Effect"] == "Allow" and service in services and admitted:
            return True
    return False


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
