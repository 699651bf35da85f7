"""Assets: what ``sam package`` does not upload. SQL, rules and scripts of the datasets, Deequ's jars, dependencies.

Each goes to ``assets/{sha256}/{name}`` of the environment's asset bucket: a key never changes its bytes, so a
deployment in the middle of a batch changes nothing for it, and unchanged things are not uploaded again. A team's own
delivery has ``assets/{team}/``: a key that is there is believed, and others deploy from theirs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PACKAGES = "packages"
"""Where a deployment's packages are in the asset bucket."""
ASSETS = "assets"
"""Where assets are."""
DATASET_ASSETS = ("*.sql", "*.dqdl", "*.py", "*.ipynb")
"""What of a dataset's folder runs in the lake; samples, tests and notes stay at home."""


@dataclass(frozen=True)
class Asset:
    """A file, and the key under which the lake finds it."""

    key: str
    file: Path


def package_prefix() -> str:
    """Where sam's packages go in the asset bucket: ``packages``, or where the stage may write (cicd/stages.mk).

    What asks for a change set before anybody has approved it must not write where a deployment reads: sam leaves out
    an upload when an object of that hash is there.
    """
    return os.environ.get("TARN_PACKAGE_PREFIX", PACKAGES)


def prefix() -> str:
    """Where assets go in the asset bucket: ``assets``, or where the delivery may write (cicd/stages.mk)."""
    return os.environ.get("TARN_ASSET_PREFIX", ASSETS)


def of_file(file: Path) -> Asset:
    """One file under the hash of its bytes."""
    return Asset(f"{prefix()}/{sha256(file.read_bytes()).hexdigest()}/{file.name}", file)


def of_dataset(folder: Path) -> tuple[str, list[Asset]]:
    """A dataset's prefix (the hash of all its assets' names and bytes, then its name), and its assets."""
    files = sorted(
        file for pattern in DATASET_ASSETS for file in folder.glob(pattern) if not file.name.startswith("test_")
    )
    digest = sha256()
    for file in files:
        digest.update(f"{file.name}\0{sha256(file.read_bytes()).hexdigest()}\0".encode())
    place = f"{prefix()}/{digest.hexdigest()}/{folder.name}/"
    return place, [Asset(place + file.name, file) for file in files]


def upload(s3: S3Client, bucket: str, assets: list[Asset]) -> int:
    """Upload what the bucket does not have yet; gives how many were."""
    missing = [one for one in assets if not _is_there(s3, bucket, one.key)]
    for one in missing:
        s3.upload_file(str(one.file), bucket, one.key)
    return len(missing)


def _is_there(s3: S3Client, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True
