"""The light transform of a group's objects: down from the raw zone, through DuckDB, up into the stage zone.

One object's fault is that object's outcome, and the others go on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from botocore.exceptions import BotoCoreError, ClientError

from lake import light_transform
from lake.file_schema import FileSchema, schema_of
from lake.hop_items import Item, Outcome, Result
from lake.light_transform import DEFAULT_SQL, Limits, OutOfTimeError
from lake.raw_file import RefusedFileError, cut

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DEFAULT_MAX_OBJECT_MIB = 2048
MIB = 1 << 20
CHUNK_BYTES = 1 << 20
SLOWEST_BYTES_PER_SECOND = 10 * MIB
"""What an object is certain to make, down, through and up, by measurement with room to spare: what would not fit
into the time that is left is not begun."""
GONE_CODES = ("NoSuchKey", "NoSuchVersion", "404")


class ObjectGoneError(Exception):
    """That version of the raw object is no longer there."""


class TransformSqlMissingError(Exception):
    """The SQL that the registration names is not in the asset bucket."""


@dataclass(frozen=True)
class Place:
    """Where transforms work: the two zones, a local folder of their own, and DuckDB's limits (``seconds`` unused)."""

    raw_bucket: str
    stage_bucket: str
    folder: Path
    limits: Limits


@dataclass(frozen=True)
class Recipe:
    """What a dataset's registration makes of each of its objects."""

    schema: FileSchema
    sql: str
    most_bytes: int


class SqlTexts:
    """The datasets' SQL, read once: an asset's key names its content, so that the text under it never changes."""

    def __init__(self, s3: S3Client) -> None:
        self._s3 = s3
        self._texts: dict[tuple[str, str], str] = {}

    def of(self, registration: Mapping[str, Any]) -> str:
        """The SQL of a registration; the default where it names none.

        Raises:
            TransformSqlMissingError: naming the key that is not there.
        """
        if not registration.get("transform_sql"):
            return DEFAULT_SQL
        bucket = str(registration["asset_bucket_name"])
        key = f"{registration['asset_prefix']}{registration['transform_sql']}"
        if (bucket, key) not in self._texts:
            try:
                body = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except self._s3.exceptions.NoSuchKey as error:
                raise TransformSqlMissingError(f"the transform's SQL is not in the asset bucket: {key}") from error
            self._texts[bucket, key] = body.decode()
        return self._texts[bucket, key]


def recipe(registration: Mapping[str, Any], sql: str) -> Recipe:
    """What ``registration`` makes of its objects, by the text ``sql``."""
    most_mib = int(registration.get("max_object_mib") or DEFAULT_MAX_OBJECT_MIB)
    return Recipe(schema_of(registration), sql, most_mib * MIB)


def transform_all(
    s3: S3Client, place: Place, made: Recipe, items: Iterable[Item], seconds_left: Callable[[], float]
) -> Iterator[Result]:
    """Transform each item, the smallest first: a slow or large one takes its time from nobody but itself.

    What does not fit into ``seconds_left()`` fails, and comes back with another batch. The first is always tried.
    """
    begun = False
    for item in sorted(items, key=lambda one: one.size):
        if too_large := _too_large(place, made, item):
            yield Result(item.id, Outcome.TOO_LARGE, too_large)
        elif begun and seconds_left() < 1 + item.size / SLOWEST_BYTES_PER_SECOND:
            yield Result(item.id, Outcome.FAILED, "no time was left in this run")
        else:
            begun = True
            yield _transform_one(s3, place, made, item, seconds_left)


def working_folder(parent: Path) -> Path:
    """An empty folder of this process; what processes before it left (a crash, a timeout) is removed.

    On Lambda ``/tmp`` outlives a crashed process; on a laptop other workers are alive beside this one.
    """
    for old in parent.glob("tarn-light-*"):
        if old.name == f"tarn-light-{os.getpid()}" or not _is_alive(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    folder = parent / f"tarn-light-{os.getpid()}"
    folder.mkdir(mode=0o700)
    return folder


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _too_large(place: Place, made: Recipe, item: Item) -> str | None:
    """Why the object is not begun at all, whatever the time."""
    if item.size > made.most_bytes:
        return f"{item.size / MIB:,.1f} MiB; the dataset's MaxObjectMiB is {made.most_bytes // MIB:,}"
    if item.size > (free := shutil.disk_usage(place.folder).free):
        return f"{item.size / MIB:,.1f} MiB; the transform has {free // MIB:,} MiB of disk left"
    return None


def _transform_one(s3: S3Client, place: Place, made: Recipe, item: Item, seconds_left: Callable[[], float]) -> Result:
    folder = place.folder / "object"
    folder.mkdir()
    try:
        _download(s3, place.raw_bucket, item, folder / "raw")
        limits = replace(place.limits, seconds=seconds_left())
        done = light_transform.transform(folder / "raw", folder / "staged.parquet", made.schema, made.sql, limits)
        return _upload(s3, place.stage_bucket, item, folder / "staged.parquet", done)
    except RefusedFileError as error:
        return Result(item.id, Outcome.QUARANTINED, error.reason)
    except ObjectGoneError as error:
        return Result(item.id, Outcome.GONE, str(error))
    except (OutOfTimeError, ClientError, BotoCoreError, duckdb.Error) as error:
        return Result(item.id, Outcome.FAILED, cut(f"{type(error).__name__}: {error}"))
    finally:
        shutil.rmtree(folder)


def _download(s3: S3Client, bucket: str, item: Item, target: Path) -> None:
    """Write exactly that version of the raw object to ``target``."""
    version = {"VersionId": item.version_id} if item.version_id else {}
    try:
        body = s3.get_object(Bucket=bucket, Key=item.key, **version)["Body"]  # type: ignore[arg-type]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code in GONE_CODES or (code == "AccessDenied" and not _stands(s3, bucket, item)):
            raise ObjectGoneError("that version of the object is gone") from error
        raise
    with target.open("wb") as file:
        for chunk in body.iter_chunks(CHUNK_BYTES):
            file.write(chunk)


def _stands(s3: S3Client, bucket: str, item: Item) -> bool:
    """Whether that version is in the bucket. Who may not list all of it is told 403 of what is gone, not 404."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=item.key)
    return any(
        one["Key"] == item.key and item.version_id in (None, one["VersionId"])
        for page in pages
        for one in page.get("Versions", [])
    )


def _upload(s3: S3Client, bucket: str, item: Item, staged: Path, done: light_transform.Transformed) -> Result:
    """Put the staged file under its immutable key; one PUT holds 5 GB, more than a function's disk."""
    size = staged.stat().st_size
    with staged.open("rb") as file:
        answer = s3.put_object(
            Bucket=bucket,
            Key=item.stage_key,
            Body=file,
            ContentType="application/vnd.apache.parquet",
            # Metadata is for whoever looks at the object; the object catalog holds the same. ASCII only, so no key.
            Metadata={
                "rows": str(done.rows_out),
                "source-version-id": item.version_id or "",
                "source-sequencer": item.sequencer,
            },
        )
    return Result(
        item.id,
        Outcome.STAGED,
        _remarks(done),
        size=size,
        etag=answer["ETag"].strip('"'),
        version_id=answer.get("VersionId"),
        rows=done.rows_out,
    )


def _remarks(done: light_transform.Transformed) -> str:
    """What was put up with in a file that was staged, for the log and the outcome."""
    parts = [f"{count} of {name!r} became NULL" for name, count in done.nulled.items()]
    if done.extra:
        parts.append(f"not declared: {', '.join(done.extra)}")
    return cut("; ".join(parts))
