"""Outcome files: what a job leaves as its last act, and the only proof that it worked.

A job that ends well without its file, or with the file of another run, did nothing that may be published:
the job's exit status is never believed alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lake.names import split_object_id
from lake.rows import SCHEMA

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PASSED = "passed"
FAILED = "failed"
NOT_JUDGED = "not judged"
NO_RULES = "no rules"
WARN = "warn"
"""The registration's ``OnQualityFailure`` that publishes all the same; anything else blocks."""


class OutcomeMissingError(Exception):
    """A job ended well and left no outcome file: it is not known to have done anything."""


class OutcomeMismatchError(Exception):
    """An outcome file is not that of the run that just ended, or does not agree with what stands in S3."""


@dataclass(frozen=True)
class Run:
    """One attempt of a batch, as ``start_batch`` hands it to the state machine. URIs are ``s3://bucket/key``."""

    team: str
    dataset: str
    batch_id: str
    attempt: int
    manifest_uri: str
    pending_uri: str
    transform_outcome_uri: str
    quality_outcome_uri: str

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Run:
        """Read the machine's input. Raises KeyError where a name is missing."""
        return cls(**{name: given[name] for name in cls.__annotations__} | {"attempt": int(given["attempt"])})


@dataclass(frozen=True)
class Column:
    """A column of the written data; ``kind`` is Spark's short name of its type, which is also Glue's."""

    name: str
    kind: str


@dataclass(frozen=True)
class TransformOutcome:
    """What the transform job wrote. ``files`` are keys in the analytics bucket."""

    run_id: str
    rows_in: int
    rows_out: int
    columns: Sequence[Column]
    partition_columns: Sequence[Column]
    files: Sequence[str]


@dataclass(frozen=True)
class Rule:
    """One rule as Deequ judged it; ``outcome`` is Passed, Failed, or Error where it could not be run."""

    text: str
    outcome: str
    reason: str
    metrics: Mapping[str, Any]

    @property
    def is_met(self) -> bool:
        """Whether the rule passed: one that could not be run did not."""
        return self.outcome == "Passed"


@dataclass(frozen=True)
class QualityOutcome:
    """What the quality job found; ``rows`` is how many it read."""

    run_id: str
    rows: int
    rules: Sequence[Rule]

    @property
    def failed(self) -> list[Rule]:
        """The rules that were not met, in the job's order."""
        return [one for one in self.rules if not one.is_met]


@dataclass(frozen=True)
class PendingFile:
    """A data file below the pending prefix; ``size`` in bytes."""

    key: str
    size: int
    etag: str


def read_json(s3: S3Client, uri: str) -> dict[str, Any]:
    """The JSON object at ``uri``.

    Raises:
        OutcomeMissingError: nothing stands there.
        OutcomeMismatchError: what stands there is no JSON object.
    """
    bucket, key = split_object_id(uri)
    # Asked by listing: to a role that may list only below a prefix, S3 answers 403 for a key that is not there.
    if not any(one.key == key for one in list_files(s3, bucket, key)):
        raise OutcomeMissingError(f"{uri} does not exist")
    text = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        read = json.loads(text)
    except ValueError as error:
        raise OutcomeMismatchError(f"{uri} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise OutcomeMismatchError(f"{uri} is not a JSON object")
    return read


def transform(s3: S3Client, run: Run, run_id: str) -> TransformOutcome:
    """The outcome of the transform's run ``run_id``, whose files stand below the pending prefix and nothing else does.

    Raises:
        OutcomeMissingError: there is no outcome file.
        OutcomeMismatchError: it is of another run, batch, attempt or version, or names other files than stand there.
    """
    found = _of_this_run(s3, run.transform_outcome_uri, run, "transform", run_id)
    try:
        outcome = TransformOutcome(
            run_id=run_id,
            rows_in=int(found["rows_in"]),
            rows_out=int(found["rows_out"]),
            columns=_columns(found["columns"]),
            partition_columns=_columns(found.get("partition_columns", [])),
            files=[str(key) for key in found["files"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OutcomeMismatchError(f"{run.transform_outcome_uri} cannot be read: {error!r}") from error
    stand = {one.key for one in pending_files(s3, run)}
    if stand != set(outcome.files):
        missing, extra = sorted(set(outcome.files) - stand), sorted(stand - set(outcome.files))
        raise OutcomeMismatchError(
            f"{run.pending_uri} is not what the job says it wrote: "
            f"{len(missing)} missing {missing[:3]}, {len(extra)} extra {extra[:3]}"
        )
    if outcome.rows_out and not outcome.files:
        raise OutcomeMismatchError(f"{run.transform_outcome_uri} tells of {outcome.rows_out} rows and of no file")
    return outcome


def quality(s3: S3Client, run: Run, run_id: str, rows_out: int) -> QualityOutcome:
    """The verdict of the quality job's run ``run_id`` on the ``rows_out`` rows that the transform wrote.

    Raises:
        OutcomeMissingError: there is no outcome file.
        OutcomeMismatchError: it is of another run, batch, attempt or version; it judged other rows; it holds no rule;
            or it says that it passed while a rule failed.
    """
    found = _of_this_run(s3, run.quality_outcome_uri, run, "quality", run_id)
    try:
        verdict = QualityOutcome(
            run_id=run_id,
            rows=int(found["rows"]),
            rules=[
                Rule(str(one["rule"]), str(one["outcome"]), str(one.get("reason") or ""), one.get("metrics") or {})
                for one in found["rules"]
            ],
        )
        passed = found["passed"]
    except (KeyError, TypeError, ValueError) as error:
        raise OutcomeMismatchError(f"{run.quality_outcome_uri} cannot be read: {error!r}") from error
    if verdict.rows != rows_out:
        raise OutcomeMismatchError(f"the quality job judged {verdict.rows} rows, the transform wrote {rows_out}")
    if not verdict.rules:
        raise OutcomeMismatchError(f"{run.quality_outcome_uri} holds no rule: nothing was judged")
    if passed is not (not verdict.failed):
        raise OutcomeMismatchError(
            f"{run.quality_outcome_uri} says passed={passed} while {len(verdict.failed)} rules were not met"
        )
    return verdict


def pending_files(s3: S3Client, run: Run) -> list[PendingFile]:
    """The data files below the attempt's pending prefix; Spark's markers (``_SUCCESS``) are none."""
    bucket, prefix = split_object_id(run.pending_uri)
    return [one for one in list_files(s3, bucket, prefix) if _is_data(one.key.removeprefix(prefix))]


def list_files(s3: S3Client, bucket: str, prefix: str) -> Iterator[PendingFile]:
    """Every object below ``prefix``."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for one in page.get("Contents", []):
            yield PendingFile(one["Key"], one["Size"], one["ETag"])


def _is_data(name: str) -> bool:
    """Whether a name below the pending prefix is a data file: Spark's committers and Hadoop leave others."""
    leftover = any(part.startswith(("__magic", "_temporary")) for part in name.split("/"))
    return not leftover and not name.rpartition("/")[2].startswith(("_", ".")) and not name.endswith(("/", "_$folder$"))


def _columns(found: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Columns in lower case, as the Glue Data Catalog keeps them."""
    return [Column(str(one["name"]).lower(), str(one["type"])) for one in found]


def _of_this_run(s3: S3Client, uri: str, run: Run, job: str, run_id: str) -> dict[str, Any]:
    found = read_json(s3, uri)
    expected = {"schema": SCHEMA, "job": job, "run_id": run_id, "batch_id": run.batch_id, "attempt": run.attempt}
    wrong = [
        f"{name} is {found.get(name)!r}, not {value!r}" for name, value in expected.items() if found.get(name) != value
    ]
    if wrong:
        raise OutcomeMismatchError(f"{uri}: {', '.join(wrong)}")
    return found
