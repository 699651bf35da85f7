"""A job's file system asks S3 once for a small object, and sees at once what the job itself changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pytest

from tarn.local.s3_filesystem import MOST_KEPT_BYTES, Location, S3FileSystem
from tests.mocked_aws import mocked_aws

HERE = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
AT = Location("lake", "a/b.parquet")


@pytest.fixture
def asked() -> Any:
    """A file system on a bucket of its own, and the operations that it asked for."""
    with mocked_aws():
        s3: Any = boto3.client("s3")
        s3.create_bucket(Bucket=AT.bucket, **HERE)
        calls: Counter[str] = Counter()
        s3.meta.events.register("before-call", lambda model, **_: calls.update([model.name]))
        yield s3, calls


def text(files: S3FileSystem, offset: int = 0) -> bytes:
    return b"".join(files.read(AT, offset)[1])


def test_a_small_object_is_asked_for_once(asked: Any, tmp_path: Path) -> None:
    s3, calls = asked
    s3.put_object(Bucket=AT.bucket, Key=AT.key, Body=b"0123456789")
    calls.clear()
    files = S3FileSystem(s3, tmp_path)
    for _ in range(5):
        assert getattr(files.find(AT), "size", None) == 10
        assert (text(files), text(files, 7), text(files, 10)) == (b"0123456789", b"789", b"")
    assert calls == {"GetObject": 1}


def test_an_empty_object_is_a_file(asked: Any, tmp_path: Path) -> None:
    s3, _ = asked
    s3.put_object(Bucket=AT.bucket, Key=AT.key, Body=b"")
    files = S3FileSystem(s3, tmp_path)
    assert getattr(files.find(AT), "size", None) == 0
    assert text(files) == b""


def test_of_a_large_one_only_what_is_read(asked: Any, tmp_path: Path) -> None:
    s3, calls = asked
    s3.put_object(Bucket=AT.bucket, Key=AT.key, Body=b"a" * (MOST_KEPT_BYTES + 1))
    calls.clear()
    files = S3FileSystem(s3, tmp_path)
    files.find(AT)
    assert text(files, MOST_KEPT_BYTES) == text(files, MOST_KEPT_BYTES) == b"a"
    assert calls == {"GetObject": 3}


def test_what_is_absent_is_asked_for_again(asked: Any, tmp_path: Path) -> None:
    s3, _ = asked
    files = S3FileSystem(s3, tmp_path)
    assert files.find(AT) is None
    s3.put_object(Bucket=AT.bucket, Key=AT.key, Body=b"a")
    assert text(files) == b"a"


def test_the_run_sees_what_it_changes(asked: Any, tmp_path: Path) -> None:
    s3, _ = asked
    s3.put_object(Bucket=AT.bucket, Key=AT.key, Body=b"first")
    files = S3FileSystem(s3, tmp_path)
    files.find(AT)
    assert text(files) == b"first"

    files.write(AT, [b"seconds"], overwrite=True)
    assert getattr(files.find(AT), "size", None) == 7
    assert text(files) == b"seconds"

    moved = Location(AT.bucket, "a/c.parquet")
    files.rename(AT, moved)
    assert files.find(AT) is None
    files.find(moved)
    files.write(AT, [b"third"], overwrite=True)
    files.delete(moved, recursive=False)
    files.rename(AT, moved)
    assert b"".join(files.read(moved, 0)[1]) == b"third"

    files.delete(Location(AT.bucket, "a"), recursive=True)
    assert files.find(moved) is None
