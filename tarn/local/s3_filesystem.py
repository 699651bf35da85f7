"""`s3://` for a local Spark: a file system whose every call is an S3 call with the job's own role.

Nothing is guessed and nothing is copied ahead: a job reads, lists and writes what it asks for, when it
asks for it (over `webhdfs`), and a permission that its role lacks fails the very call that needs it, as
on AWS.

A small object is asked for once in a run: Spark opens a file a dozen times, and a batch of a thousand small files
would be a quarter of an hour of requests. What the run itself writes, moves or deletes it finds as it is.

What lies under `_temporary` (the scratch of Hadoop's committer) stays on this disk, and moving a file
out of it is its upload: no unfinished file is ever an object, which is what the committers on AWS do
with multipart uploads.
https://docs.aws.amazon.com/emr/latest/ReleaseGuide/emr-spark-s3-optimized-committer.html
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHUNK = 1 << 20
_ABSENT = {"404", "NoSuchKey", "NotFound"}
MOST_KEPT_BYTES = 64 << 10
"""Of an object that is read whole: a batch has ten thousand of them at most."""


@dataclass(frozen=True)
class Location:
    """A bucket and a key without slashes at its ends; the empty key is the bucket itself."""

    bucket: str
    key: str

    @classmethod
    def of(cls, path: str) -> Location:
        bucket, _, key = path.strip("/").partition("/")
        return cls(bucket, key)

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def child(self, relative: str) -> Location:
        return Location(self.bucket, self.prefix + relative)

    @property
    def is_scratch(self) -> bool:
        """Whether a committer keeps unfinished work here (Hadoop's, or Spark's dynamic overwrite)."""
        return any(part == "_temporary" or part.startswith(".spark-staging-") for part in self.key.split("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Entry:
    """A file (with its size) or a directory (without)."""

    name: str
    size: int | None
    modified: float = 0.0

    @property
    def is_directory(self) -> bool:
        return self.size is None


class S3FileSystem:
    """The file operations of Spark, on S3 for what is finished and on `scratch` for what is not."""

    def __init__(self, s3: S3Client, scratch: Path) -> None:
        self._s3 = s3
        self._scratch = scratch
        self._found: dict[Location, Entry] = {}
        self._read: dict[Location, bytes] = {}

    def keeps(self, at: Location) -> bool:
        """Whether all of an object is known here, so that S3 is not asked for it again."""
        return at in self._read

    def find(self, at: Location) -> Entry | None:
        """What stands at `at`, or None."""
        if at in self._found:
            return self._found[at]
        local = self._local(at)
        if local.is_file():
            return Entry("", local.stat().st_size, local.stat().st_mtime)
        if local.is_dir() or not at.key:
            return Entry("", None)
        if at.is_scratch:
            return None
        try:
            return self._look(at)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _ABSENT:
                raise
        listed = self._s3.list_objects_v2(Bucket=at.bucket, Prefix=at.prefix, MaxKeys=1)
        return Entry("", None) if listed["KeyCount"] else None

    def entries(self, at: Location) -> list[Entry]:
        """The children of a directory, or the one file itself."""
        found = self._existing(at)
        if not found.is_directory:
            return [found]
        found_at: dict[str, Entry] = {}
        if not at.is_scratch:
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=at.bucket, Prefix=at.prefix, Delimiter="/"
            )
            for page in pages:
                for folder in page.get("CommonPrefixes", []):
                    name = folder["Prefix"].removeprefix(at.prefix).rstrip("/")
                    found_at[name] = Entry(name, None)
                for item in page.get("Contents", []):
                    if name := item["Key"].removeprefix(at.prefix):
                        found_at[name] = Entry(name, item["Size"], item["LastModified"].timestamp())
        local = self._local(at)
        for child in local.iterdir() if local.is_dir() else ():
            size = None if child.is_dir() else child.stat().st_size
            found_at.setdefault(child.name, Entry(child.name, size, child.stat().st_mtime))
        return [found_at[name] for name in sorted(found_at)]

    def read(self, at: Location, offset: int) -> tuple[int, Iterator[bytes]]:
        """How many bytes follow `offset`, and those bytes."""
        if at in self._read:
            rest = self._read[at][offset:]
            return len(rest), iter((rest,))
        if at.is_scratch:
            local = self._local(at)
            if not local.is_file():
                raise FileNotFoundError(str(at))
            return max(0, local.stat().st_size - offset), _file_chunks(local, offset)
        try:
            got = self._s3.get_object(Bucket=at.bucket, Key=at.key, Range=f"bytes={offset}-")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "InvalidRange":  # a read that starts at the end, as of an empty object
                return 0, iter(())
            if code in _ABSENT:
                raise FileNotFoundError(str(at)) from error
            raise
        return got["ContentLength"], got["Body"].iter_chunks(_CHUNK)

    def write(self, at: Location, chunks: Iterable[bytes], overwrite: bool) -> None:
        """A whole file; it becomes visible when its last byte is here."""
        if not overwrite and (found := self.find(at)) and not found.is_directory:
            raise FileExistsError(str(at))
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=".incoming-", delete=False) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
        received = Path(incoming.name)
        self._place(received, at)

    def make_directory(self, at: Location) -> None:
        """A directory until the run ends: S3 has none, so no marker object is written."""
        self._local(at).mkdir(parents=True, exist_ok=True)

    def rename(self, source: Location, target: Location) -> bool:
        """Move a file or a tree; into the target when that is a directory, as Hadoop has it."""
        found = self.find(source)
        if found is None:
            return False
        if (there := self.find(target)) and there.is_directory:
            target = target.child(source.name)
        for relative in self._files(source) if found.is_directory else [""]:
            origin = source.child(relative) if relative else source
            goal = target.child(relative) if relative else target
            if origin.is_scratch:
                self._place(self._local(origin), goal)
            else:
                self._forget(goal)
                self._s3.copy({"Bucket": origin.bucket, "Key": origin.key}, goal.bucket, goal.key)
                self._delete(origin)
        if found.is_directory:
            shutil.rmtree(self._local(source), ignore_errors=True)
            self.make_directory(target)
        return True

    def delete(self, at: Location, recursive: bool) -> bool:
        """Remove a file or a tree; False when nothing is there."""
        found = self.find(at)
        if found is None:
            return False
        if found.is_directory and not recursive and self.entries(at):
            raise OSError(f"{at} is not empty")
        if not at.is_scratch:
            for relative in self._objects(at) if found.is_directory else [""]:
                self._delete(at.child(relative) if relative else at)
        shutil.rmtree(self._local(at), ignore_errors=True)
        self._local(at).unlink(missing_ok=True)
        return True

    def _look(self, at: Location) -> Entry:
        """What S3 says of an object, and all of its bytes if they are few, in one request."""
        try:
            got: Any = self._s3.get_object(Bucket=at.bucket, Key=at.key, Range=f"bytes=0-{MOST_KEPT_BYTES - 1}")
            size = int(got["ContentRange"].rpartition("/")[2])
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidRange":  # as an empty object has no first byte
                raise
            got, size = self._s3.get_object(Bucket=at.bucket, Key=at.key), 0
        if size <= MOST_KEPT_BYTES:
            self._read[at] = got["Body"].read()
        got["Body"].close()
        self._found[at] = Entry("", size, got["LastModified"].timestamp())
        return self._found[at]

    def _existing(self, at: Location) -> Entry:
        found = self.find(at)
        if found is None:
            raise FileNotFoundError(str(at))
        return found

    def _local(self, at: Location) -> Path:
        return self._scratch / at.bucket / at.key

    def _place(self, file: Path, at: Location) -> None:
        if at.is_scratch:
            self._local(at).parent.mkdir(parents=True, exist_ok=True)
            file.replace(self._local(at))
            return
        self._forget(at)
        with file.open("rb") as body:
            self._s3.put_object(Bucket=at.bucket, Key=at.key, Body=body)
        file.unlink()

    def _delete(self, at: Location) -> None:
        self._forget(at)
        self._s3.delete_object(Bucket=at.bucket, Key=at.key)

    def _forget(self, at: Location) -> None:
        self._found.pop(at, None)
        self._read.pop(at, None)

    def _files(self, at: Location) -> list[str]:
        """Every file under a directory, by its path from there."""
        local = self._local(at)
        on_disk = [str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()]
        return on_disk if at.is_scratch else self._objects(at)

    def _objects(self, at: Location) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=at.prefix)
        return [item["Key"].removeprefix(at.prefix) for page in pages for item in page.get("Contents", [])]


def _file_chunks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        yield from iter(lambda: file.read(_CHUNK), b"")
