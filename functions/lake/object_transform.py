"""The light transform of a group's objects: down from the raw zone, through SQL or Python, up into the stage zone.

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

from lake import light_transform, python_text, python_transform, registrations
from lake.file_schema import FileSchema, schema_of
from lake.hop_items import Item, Outcome, Result
from lake.light_transform import DEFAULT_SQL, DEFAULT_SQL_NAME, Limits, OutOfTimeError
from lake.raw_file import RefusedFileError, TooMuchTextError, cut

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

DEFAULT_MAX_OBJECT_MIB = 2048
MIB = 1 << 20
CHUNK_BYTES = 1 << 20
SLOWEST_BYTES_PER_SECOND = 10 * MIB
"""What an object is certain to make, down, through and up, by measurement with room to spare: what would not fit
into the time that is left is not begun."""
LONGEST_NAME_BYTES = 255
"""Of a file on Linux."""
GONE_CODES = ("NoSuchKey", "NoSuchVersion", "404")


class ObjectGoneError(Exception):
    """That version of the raw object is no longer there."""


class TransformFileMissingError(Exception):
    """The file that the registration names is not in the asset bucket."""


@dataclass(frozen=True)
class Place:
    """Where transforms work: the two zones, a local folder of their own, and the limits.

    Of ``limits``, ``seconds`` and ``text_mib`` are unused: an object has its own. ``python_mib`` is the memory that a
    dataset's own Python may take.
    """

    raw_bucket: str
    stage_bucket: str
    folder: Path
    limits: Limits
    python_mib: int


@dataclass(frozen=True)
class Recipe:
    """What a dataset's registration makes of each of its objects, by the ``text`` of the file ``name``."""

    schema: FileSchema
    name: str
    text: str
    most_bytes: int

    @property
    def is_python(self) -> bool:
        """Whether the text is Python, which runs in the dataset's own function alone."""
        return self.name.endswith(".py")

    def seconds(self, size: int) -> float:
        """The time within which an object of ``size`` bytes is certain to be settled."""
        return 1 + size / SLOWEST_BYTES_PER_SECOND + (python_transform.SECONDS if self.is_python else 0)


class TransformTexts:
    """The datasets' transforms, read once: an asset's key names its content, so that its text never changes."""

    def __init__(self, s3: S3Client) -> None:
        self._s3 = s3
        self._texts: dict[tuple[str, str], str] = {}

    def of(self, registration: Mapping[str, Any]) -> tuple[str, str]:
        """Name and text of a registration's light transform; the default SQL where it names none.

        Raises:
            TransformFileMissingError: naming the key that is not there.
            PythonTextError: the Python cannot be run at all, whatever the object.
        """
        name = registrations.light_transform(registration)
        if name is None:
            return DEFAULT_SQL_NAME, DEFAULT_SQL
        bucket, key = str(registration["asset_bucket_name"]), f"{registration['asset_prefix']}{name}"
        if (bucket, key) not in self._texts:
            try:
                body = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except self._s3.exceptions.NoSuchKey as error:
                raise TransformFileMissingError(f"the light transform is not in the asset bucket: {key}") from error
            text = body.decode()
            if name.endswith(".py"):
                python_text.check(text, name)
            self._texts[bucket, key] = text
        return name, self._texts[bucket, key]


def recipe(registration: Mapping[str, Any], name: str, text: str) -> Recipe:
    """What ``registration`` makes of its objects, by the ``text`` of the file ``name``."""
    most_mib = int(registration.get("max_object_mib") or DEFAULT_MAX_OBJECT_MIB)
    return Recipe(schema_of(registration), name, text, most_mib * MIB)


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
        elif begun and seconds_left() < made.seconds(item.size):
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
    raw = folder / ("file" if made.is_python else "") / _file_name(item, made)
    raw.parent.mkdir(parents=True)
    try:
        _download(s3, place.raw_bucket, item, raw)
        limits = replace(place.limits, seconds=seconds_left(), text_mib=_text_mib(folder, made))
        done = _transform(place, made, raw, folder / "staged.parquet", limits)
        return _upload(s3, place.stage_bucket, item, folder / "staged.parquet", done)
    except TooMuchTextError as error:
        return Result(item.id, Outcome.TOO_LARGE, error.reason)
    except RefusedFileError as error:
        return Result(item.id, Outcome.QUARANTINED, error.reason)
    except ObjectGoneError as error:
        return Result(item.id, Outcome.GONE, str(error))
    except (OutOfTimeError, ClientError, BotoCoreError, duckdb.Error) as error:
        return Result(item.id, Outcome.FAILED, cut(f"{type(error).__name__}: {error}"))
    finally:
        shutil.rmtree(folder)


def _transform(place: Place, made: Recipe, raw: Path, target: Path, limits: Limits) -> light_transform.Transformed:
    if made.is_python:
        code = python_transform.Code(made.name, made.text)
        return python_transform.transform(raw, target, made.schema, code, limits, memory_mib=place.python_mib)
    return light_transform.transform(raw, target, made.schema, made.text, limits, sql_name=made.name)


def _file_name(item: Item, made: Recipe) -> str:
    """What the raw file is called on disk: Python may want to know its own name, which DuckDB would guess from."""
    name = item.key.rpartition("/")[2]
    plain = made.is_python and name not in (".", "..") and "\0" not in name and len(name.encode()) <= LONGEST_NAME_BYTES
    return name if plain and name else "raw"


def _text_mib(folder: Path, made: Recipe) -> int:
    """How much text a compressed file may become: as much as the dataset's objects, and half of the free disk.

    The other half is for the Parquet and for what DuckDB spills.
    """
    return min(made.most_bytes, shutil.disk_usage(folder).free // 2) // MIB


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
