"""Manifests: what an attempt's jobs read, a JSON file beside the batch's other records in the stage bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lake import names

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

KEPT = {"size": "N", "rows": "N", "version_id": "S"}
"""What a manifest takes from an object's row, as DynamoDB names its type: nobody can put a text into a sum."""


def entry(identity: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A staged object as a manifest lists it, by its row."""
    return {
        "id": identity,
        "key": names.split_object_id(identity)[1],
        **{name: row.get(name) for name in ("sequencer", *KEPT)},
    }


def text(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it is written: the same text for the same contents."""
    return json.dumps(manifest, default=_number, sort_keys=True).encode()


def put(s3: S3Client, bucket: str, key: str, body: bytes) -> None:
    """Write a manifest's text."""
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")


def _number(value: object) -> int | float:
    """DynamoDB's numbers come as Decimal."""
    if not isinstance(value, Decimal):
        raise TypeError(f"a manifest cannot hold a {type(value).__name__}")
    return int(value) if value == value.to_integral_value() else float(value)
