"""What must hold before a deployment begins; each refusal says what is wrong, and nothing has changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CLEAN_ONLY = ("prod",)
"""Environments that only a committed state reaches."""
APPROVED_ONLY = ("prod",)
"""Environments that a person approves each deployment of."""
NOT_FOUND = 404
MOVED = 301


class PreconditionError(Exception):
    """The deployment must not begin; the message says why, and what to do."""


def check_approval(environment: str, *, approved: bool = False) -> None:
    """Refuse what nobody has approved, where the environment wants a person to.

    A build of the delivery pipeline, or a job of GitHub's environment, is begun by an approval.

    Raises:
        PreconditionError: nobody has.
    """
    in_pipeline = os.environ.get("CODEBUILD_INITIATOR", "").startswith("codepipeline/")
    if environment in APPROVED_ONLY and not (approved or in_pipeline or os.environ.get("GITHUB_ACTIONS") == "true"):
        raise PreconditionError(
            f"{environment} is deployed after an approval, and this is no build of the delivery pipeline: push, or say "
            "--approved (of make: APPROVED=yes) if a person has read tarn diff and approves"
        )


def check_tree(environment: str, folder: Path, *, allow_dirty: bool = False) -> None:
    """Refuse what no commit has, where the environment wants one.

    A build of the delivery pipeline has the sources of one commit and no repository; CodeBuild names the commit.

    Raises:
        PreconditionError: the tree is not clean, or it is no clone.
    """
    if environment not in CLEAN_ONLY or allow_dirty:
        return
    if not (folder / ".git").exists():
        if os.environ.get("CODEBUILD_RESOLVED_SOURCE_VERSION"):
            return
        raise PreconditionError(
            f"{environment} is deployed from a commit, and {folder} is no clone of a repository: clone it, "
            "or say --allow-dirty"
        )
    done = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True)
    if changed := done.stdout.splitlines():
        names = ", ".join(line[3:] for line in changed[:5]) + (" ..." if len(changed) > 5 else "")
        raise PreconditionError(
            f"{environment} is deployed from a commit, and {len(changed)} files differ from it ({names}): commit or "
            "stash them, or say --allow-dirty"
        )


def check_bucket(s3: S3Client, bucket: str, *, environment: str) -> None:
    """Refuse an asset bucket that is gone, is not ours to see, or is in another region than the deployment.

    Raises:
        PreconditionError: which of these it is.
    """
    here = s3.meta.region_name
    remedy = f"the contract names it (/tarn/{environment}/assets/bucket/name): deploy where it is"
    try:
        headers = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        if answer["HTTPStatusCode"] == NOT_FOUND:
            raise PreconditionError(
                f"the asset bucket {bucket} is gone, and {remedy}; or, if it was deleted, delete the stack "
                f"tarn-{environment}-assets, which the next deployment makes anew"
            ) from None
        if answer["HTTPStatusCode"] != MOVED:
            raise PreconditionError(f"the asset bucket {bucket} cannot be read ({error}); {remedy}") from None
        headers = answer["HTTPHeaders"]
    if (region := headers.get("x-amz-bucket-region", here)) != here:
        raise PreconditionError(f"the asset bucket {bucket} is in {region} and the deployment is in {here}; {remedy}")
