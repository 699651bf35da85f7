"""What a stack may not delete.

Stock MiniStack 1.5.33 deletes a bucket with all that is in it (and finds it again on its disk at the
next start), and a table whose deletion protection is on. S3 and DynamoDB refuse both, and the
stack ends DELETE_FAILED; so it does here.

Sources: DeleteBucket (BucketNotEmpty), DynamoDB developer guide "Using deletion protection".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tarn.local.extension.clients import Clients
from tarn.local.extension.patching import original
from tarn.local.settings import Settings


def install(settings: Settings) -> None:
    """Replace the deletion of buckets, and ask before that of tables."""
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    clients = Clients(settings)
    handlers["AWS::S3::Bucket"]["delete"] = lambda name, _properties: _delete_bucket(clients, name)
    table = handlers["AWS::DynamoDB::Table"]
    table["delete"] = _unless_protected(table["delete"])


def _delete_bucket(clients: Clients, name: str) -> None:
    try:
        clients.call("s3", "delete_bucket", Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def _unless_protected(delete: Callable[..., None]) -> Callable[..., None]:
    tables = original("ministack.services.dynamodb", "_tables")

    def delete_unless_protected(name: str, properties: dict[str, Any]) -> None:
        if (tables.get(name) or {}).get("DeletionProtectionEnabled") is True:
            raise ValueError(f"Table {name} can't be deleted while DeletionProtectionEnabled is true")
        delete(name, properties)

    return delete_unless_protected
