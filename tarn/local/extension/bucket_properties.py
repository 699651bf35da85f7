"""The properties of a bucket that stock MiniStack 1.5.33 drops, in the words of S3's API.

Source: AWS::S3::Bucket in the CloudFormation template reference against PutBucketEncryption,
PutBucketLifecycleConfiguration, PutBucketLogging and PutBucketTagging.
"""

from __future__ import annotations

from typing import Any

from tarn.local.extension.clients import Clients


def _encrypt(clients: Clients, bucket: str, value: Any) -> None:
    rules = [
        {
            "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
            "BucketKeyEnabled": rule.get("BucketKeyEnabled", False),
        }
        for rule in value["ServerSideEncryptionConfiguration"]
    ]
    clients.call("s3", "put_bucket_encryption", Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})


def _encrypt_by_default(clients: Clients, bucket: str) -> None:
    clients.call("s3", "delete_bucket_encryption", Bucket=bucket)


def _expire(clients: Clients, bucket: str, value: Any) -> None:
    rules = [lifecycle_rule(rule) for rule in value["Rules"]]
    clients.call("s3", "put_bucket_lifecycle_configuration", Bucket=bucket, LifecycleConfiguration={"Rules": rules})


def _expire_nothing(clients: Clients, bucket: str) -> None:
    clients.call("s3", "delete_bucket_lifecycle", Bucket=bucket)


def lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as the API has it: filter and expiration are structures of their own there."""
    expiration = {
        theirs: rule[ours]
        for ours, theirs in (
            ("ExpirationInDays", "Days"),
            ("ExpirationDate", "Date"),
            ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
        )
        if ours in rule
    }
    noncurrent = rule.get("NoncurrentVersionExpiration")
    if "NoncurrentVersionExpirationInDays" in rule:
        noncurrent = {"NoncurrentDays": rule["NoncurrentVersionExpirationInDays"]}
    translated = {
        "ID": rule.get("Id"),
        "Status": rule["Status"],
        "Filter": _lifecycle_filter(rule),
        "Expiration": expiration,
        "NoncurrentVersionExpiration": noncurrent,
        "AbortIncompleteMultipartUpload": rule.get("AbortIncompleteMultipartUpload"),
        "Transitions": [
            _renamed(transition, "TransitionInDays", "Days", "TransitionDate", "Date")
            for transition in rule.get("Transitions", [])
        ],
        "NoncurrentVersionTransitions": [
            _renamed(transition, "TransitionInDays", "NoncurrentDays")
            for transition in rule.get("NoncurrentVersionTransitions", [])
        ],
    }
    return {name: value for name, value in translated.items() if value or name == "Filter"}


def _lifecycle_filter(rule: dict[str, Any]) -> dict[str, Any]:
    names = ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
    wanted = {name: rule[name] for name in names if name in rule}
    if rule.get("TagFilters"):
        wanted["Tags"] = rule["TagFilters"]
    if len(wanted) > 1 or "Tags" in wanted:
        return {"And": wanted}
    return wanted or {"Prefix": ""}


def _renamed(value: dict[str, Any], *pairs: str) -> dict[str, Any]:
    names = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return {names.get(name, name): member for name, member in value.items()}


def _log(clients: Clients, bucket: str, value: Any) -> None:
    target = {
        "TargetBucket": value.get("DestinationBucketName", bucket),
        "TargetPrefix": value.get("LogFilePrefix", ""),
    }
    clients.call("s3", "put_bucket_logging", Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": target})


def _log_nothing(clients: Clients, bucket: str) -> None:
    clients.call("s3", "put_bucket_logging", Bucket=bucket, BucketLoggingStatus={})


def _tag(clients: Clients, bucket: str, value: Any) -> None:
    clients.call("s3", "put_bucket_tagging", Bucket=bucket, Tagging={"TagSet": value})


def _untag(clients: Clients, bucket: str) -> None:
    clients.call("s3", "delete_bucket_tagging", Bucket=bucket)


def _version(clients: Clients, bucket: str, value: Any) -> None:
    """Stock enables versioning, but does not suspend it."""
    clients.call("s3", "put_bucket_versioning", Bucket=bucket, VersioningConfiguration=value)


def _suspend_versions(clients: Clients, bucket: str) -> None:
    _version(clients, bucket, {"Status": "Suspended"})


PROPERTIES = (
    ("BucketEncryption", _encrypt, _encrypt_by_default),
    ("LifecycleConfiguration", _expire, _expire_nothing),
    ("LoggingConfiguration", _log, _log_nothing),
    ("Tags", _tag, _untag),
    ("VersioningConfiguration", _version, _suspend_versions),
)
