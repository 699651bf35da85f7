"""S3 Inventory: a listing of a bucket that S3 itself made, for buckets that take hours to list.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html (the manifest) and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html (its fields). It is up to two days old and
only eventually complete: whatever looks wrong by it is looked at with HeadObject before it is believed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake import names
from tarn.ledger import Ledger

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

NEEDED = frozenset({"bucket", "key", "size", "lastmodifieddate", "etag"})
"""Fields, as a CSV's schema calls them without regard to case; versions are used where they are."""
PARQUET_NAMES = {
    "versionid": "version_id",
    "islatest": "is_latest",
    "isdeletemarker": "is_delete_marker",
    "lastmodifieddate": "last_modified_date",
    "etag": "e_tag",
}
"""How a Parquet file calls the fields whose names have several words."""


class InventoryError(Exception):
    """The manifest, or a file that it names, cannot be used; the message says why."""


@dataclass(frozen=True)
class Inventory:
    """A manifest: where its files lie, their form, and when S3 began to look."""

    bucket: str
    created_at: datetime
    is_parquet: bool
    fields: tuple[str, ...]
    """In the files' order, in lower case, as a CSV's schema calls them."""
    files: tuple[tuple[str, str], ...]
    """Key and MD5 checksum of each."""


def read_manifest(s3: S3Client, uri: str, source_bucket: str) -> Inventory:
    """The inventory whose ``manifest.json`` stands at ``uri``.

    Raises:
        InventoryError: it is of another bucket, in ORC, lacks a field, or is no manifest.
    """
    bucket, key = names.split_object_id(uri)
    try:
        told = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        found = Inventory(
            bucket=str(told["destinationBucket"]).rpartition(":")[2],
            created_at=datetime.fromtimestamp(int(told["creationTimestamp"]) / 1000, UTC),
            is_parquet=told["fileFormat"] == "Parquet",
            fields=_fields(told["fileFormat"], told["fileSchema"]),
            files=tuple((one["key"], one["MD5checksum"]) for one in told["files"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InventoryError(f"{uri} is not the manifest.json of an S3 Inventory: {error!r}") from error
    if told["sourceBucket"] != source_bucket:
        raise InventoryError(f"{uri} is of bucket {told['sourceBucket']}, and the raw zone is {source_bucket}")
    if missing := sorted(NEEDED - set(found.fields)):
        raise InventoryError(f"{uri} lacks the fields {', '.join(missing)}: add them to the inventory's configuration")
    return found


def load(s3: S3Client, inventory: Inventory, prefix: str, ledger: Ledger, folder: Path) -> None:
    """Put what the inventory tells of live keys below ``prefix`` into the ledger's listing.

    Raises:
        InventoryError: a file is not the one that the manifest names.
    """
    for key, checksum in inventory.files:
        file = folder / ("inventory.parquet" if inventory.is_parquet else "inventory.csv.gz")
        s3.download_file(inventory.bucket, key, str(file))
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != checksum:
            raise InventoryError(f"s3://{inventory.bucket}/{key} is not the file of the manifest: its MD5 differs")
        ledger.run(_load(inventory), file=str(file), prefix=prefix)


def _fields(form: str, schema: str) -> tuple[str, ...]:
    match form:
        case "CSV":
            return tuple(one.strip().lower() for one in schema.split(","))
        case "Parquet":
            plain = {parquet: name for name, parquet in PARQUET_NAMES.items()}
            found = re.findall(r"(?:required|optional)\s+\w+\s+(\w+)", schema)
            return tuple(plain.get(one, one) for one in found)
    raise ValueError(f"its files are {form}: CSV and Parquet can be read")


def _load(inventory: Inventory) -> str:
    """The statement that takes one file in."""
    has = inventory.fields.__contains__
    if inventory.is_parquet:
        source = "read_parquet($file)"
        column = {name: PARQUET_NAMES.get(name, name) for name in inventory.fields}
        key, moment = "key", "make_timestamp(epoch_ms(last_modified_date) * 1000)"
    else:
        kinds: dict[str, Any] = dict.fromkeys(inventory.fields, "VARCHAR")
        source = f"read_csv($file, header = false, auto_detect = false, delim = ',', quote = '\"', columns = {kinds})"
        column = {name: name for name in inventory.fields}
        # In a CSV alone, keys are encoded as in a URL.
        key, moment = "url_decode(replace(key, '+', '%20'))", "CAST(lastmodifieddate AS TIMESTAMP)"
    version = f"nullif(nullif({column['versionid']}, ''), 'null')" if has("versionid") else "NULL"
    gone = f"coalesce(CAST({column['isdeletemarker']} AS BOOLEAN), false)" if has("isdeletemarker") else "false"
    latest = f"CAST({column['islatest']} AS BOOLEAN)" if has("islatest") else "true"
    return f"""
        INSERT INTO listed
        SELECT 'raw', 's3://' || bucket || '/' || {key}, {version}, trim({column["etag"]}, '"'), CAST(size AS BIGINT),
               strftime({moment}, '%Y-%m-%dT%H:%M:%S.%gZ'), {gone}
        FROM {source} WHERE {latest} AND starts_with({key}, $prefix)
    """  # noqa: S608 (names of our own)
