"""The end of an attempt: rows of what was published, and last of all the batch's own row.

The batch's row is the commit: everything before it may be written again by the next try.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from lake import attempts, batches, clock, freshness, names, outcomes, publishing, rows
from lake.batches import Batch, NotInStateError, State
from lake.notifications import LONGEST_RULE, Ending, metrics_of
from lake.outcomes import Rule, Run

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

LONGEST_REASON = batches.LONGEST_REASON
MOST_RULES_BYTES = 64 * 1024
"""Of a row's 400 KB, what the rules may take: failed ones first, the rest is counted."""
WRITES_AT_ONCE = 8


@dataclass(frozen=True)
class Clients:
    """What finishing works with."""

    s3: S3Client
    objects: Table
    datasets: Table
    batches: Table


@dataclass(frozen=True)
class Verdict:
    """What the machine knows of the quality: passed, failed, not judged or no rules; ``answer`` is verify_outcome's."""

    outcome: str
    answer: Mapping[str, Any]


@dataclass(frozen=True)
class Quality:
    """What of the verdict is kept: the row's ``quality``, the reason to tell (empty when all is well), what failed."""

    row: Mapping[str, Any]
    reason: str = ""
    rule: Rule | None = None

    def ending(self, state: State, statistics: Mapping[str, int]) -> Ending:
        """How the attempt ended, for the notification."""
        failed, total = int(self.row.get("rules_failed", 0)), int(self.row.get("rules_total", 0))
        return Ending(state, self.reason, self.rule, failed, total, statistics)


def publish(clients: Clients, run: Run, transformed: Mapping[str, Any], verdict: Verdict, now: datetime) -> Ending:
    """The attempt is published: its outputs and its staged objects get their rows, then the batch is PUBLISHED.

    After the commit the dataset is fresh; a try that dies between the two is made again, and says so again.

    Raises:
        OutcomeMissingError: publish_batch left no receipt.
        NotInStateError: the batch is at another attempt, or has finished otherwise.
    """
    publishing.check_turn(clients.batches, run, or_at=State.PUBLISHED)
    receipt = publishing.read_receipt(clients.s3, run)
    manifest = outcomes.read_json(clients.s3, run.manifest_uri)
    bucket, _ = names.split_object_id(run.pending_uri)
    _write_outputs(clients.objects, run, bucket, receipt)
    _each(
        lambda one: _change(
            clients.objects,
            one["id"],
            {"state": State.PUBLISHED},
            Attr("batch_id").eq(run.batch_id) & Attr("state").eq("BATCHED"),
        ),
        manifest["objects"],
    )
    attempts.settle_left_out(clients.objects, run.batch_id, manifest.get("left_out", []))
    quality = _quality(clients.s3, run, verdict, int(transformed["rows_out"]))
    statistics = {
        **_rows(transformed),
        "files": len(receipt.files),
        "bytes": sum(size for _, size in receipt.files),
        "partitions": len(receipt.partitions),
    }
    _finish(clients, run, State.PUBLISHED, quality, statistics, now=now)
    freshness.published(clients.datasets, run.team, run.dataset, now)
    return quality.ending(State.PUBLISHED, statistics)


def block(clients: Clients, run: Run, transformed: Mapping[str, Any], verdict: Verdict, now: datetime) -> Ending:
    """The rules failed and the dataset blocks: nothing was published, the objects stay with their batch.

    Raises:
        NotInStateError: the batch is at another attempt, or has finished otherwise.
    """
    quality = _quality(clients.s3, run, verdict, int(transformed["rows_out"]))
    statistics = _rows(transformed)
    _finish(clients, run, State.FAILED_QUALITY, quality, statistics, now=now)
    return quality.ending(State.FAILED_QUALITY, statistics)


def fail(table: Table, run: Run, failure: Mapping[str, Any], now: datetime) -> Ending:
    """The attempt failed; its objects stay with their batch, for its next attempt.

    A batch that has finished otherwise in the meantime (the answer of the write that said so was lost) stays as it
    is, and is what the notification tells.
    """
    reason = reason_of(failure)
    try:
        batches.finish(table, _batch(run), State.FAILED, now, reason=reason)
    except NotInStateError:
        row = rows.get(table, _batch(run).key) or {}
        return Ending(str(row.get("state", "unknown")), str(row.get("reason", "")))
    return Ending(State.FAILED, reason)


def reason_of(failure: Mapping[str, Any]) -> str:
    """What a person needs to know of an error that the machine caught: the job's own message, where there is one.

    ``Cause`` is JSON when a job (its service's description of it) or a function (its error) failed, and text otherwise.
    """
    error, cause, told = str(failure.get("Error", "")), str(failure.get("Cause", "")), _told(failure)
    if (job := _job(told)) is not None:
        what, why = job
        said = f"{what}: {why or 'it gave no message'}"
    elif "errorMessage" in told:
        said = f"{told.get('errorType') or error}: {told['errorMessage']}"
    else:
        said = ": ".join(filter(None, [error, cause])) or "unknown"
    return said[:LONGEST_REASON]


def is_job_failure(failure: Mapping[str, Any]) -> bool:
    """Whether a job of an engine ended badly, rather than a function or the machine."""
    return _job(_told(failure)) is not None


def _job(told: Mapping[str, Any]) -> tuple[str, str] | None:
    """What ended and how, and what its service says why; None where ``told`` describes no job.

    Of Glue the JobRun, of EMR Serverless the JobRun, of EMR the Step, of ECS the Task, of SageMaker the processing job.
    """
    if "JobRunState" in told:
        return f"job {told.get('JobName')} {told['JobRunState']}", str(told.get("ErrorMessage") or "")
    if "ProcessingJobStatus" in told:
        why = told.get("ExitMessage") or told.get("FailureReason")
        return f"processing job {told.get('ProcessingJobName')} {told['ProcessingJobStatus']}", str(why or "")
    if "JobRunId" in told and "State" in told:
        return f"job run {told['JobRunId']} {told['State']}", str(told.get("StateDetails") or "")
    if isinstance(step := told.get("Step"), dict):
        why = step["Status"].get("FailureDetails", {}).get("Message")
        return f"step {step['Id']} {step['Status']['State']}", str(why or "")
    if "TaskArn" in told:
        container = next(iter(told.get("Containers") or [{}]))
        code = f" with exit code {container['ExitCode']}" if "ExitCode" in container else ""
        why = container.get("Reason") or told.get("StoppedReason")
        return f"task {str(told['TaskArn']).rpartition('/')[2]} {told.get('LastStatus')}{code}", str(why or "")
    return None


def _told(failure: Mapping[str, Any]) -> dict[str, Any]:
    try:
        told = json.loads(str(failure.get("Cause", "")))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _finish(
    clients: Clients, run: Run, state: State, quality: Quality, statistics: Mapping[str, int], *, now: datetime
) -> None:
    values = {**statistics, **_times(clients, run), "quality": quality.row}
    batches.finish(clients.batches, _batch(run), state, now, reason=quality.reason or None, values=values)


def _rows(transformed: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(transformed[name]) for name in ("rows_in", "rows_out")}


def _times(clients: Clients, run: Run) -> dict[str, int]:
    """Whole seconds from the start to the transform's outcome file, and from there to the verdict's.

    They hold all that a batch waited for: capacity, the job's start, its work.
    """
    started = (rows.get(clients.batches, _batch(run).key) or {}).get("started_at")
    bucket, _ = names.split_object_id(run.manifest_uri)
    prefix = names.attempt_prefix(run.team, run.dataset, run.batch_id, run.attempt)
    listed = clients.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    left = {names.object_id(bucket, one["Key"]): one["LastModified"] for one in listed}
    moments = (
        clock.parse(str(started)) if started else None,
        left.get(run.transform_outcome_uri),
        left.get(run.quality_outcome_uri),
    )
    between = zip(("transform_seconds", "quality_seconds"), moments, moments[1:], strict=False)
    return {name: max(round((end - start).total_seconds()), 0) for name, start, end in between if start and end}


def _batch(run: Run) -> Batch:
    return Batch(run.team, run.dataset, run.batch_id, run.attempt)


def _write_outputs(objects: Table, run: Run, bucket: str, receipt: publishing.Receipt) -> None:
    """A row for each published file; what earlier attempts had published and is gone becomes DELETED."""
    with objects.batch_writer(overwrite_by_pkeys=["id"]) as writer:
        for key, size in receipt.files:
            writer.put_item(
                Item={
                    "id": names.object_id(bucket, key),
                    "schema": rows.SCHEMA,
                    "zone": "analytics",
                    "team": run.team,
                    "dataset": run.dataset,
                    "size": size,
                    "event_time": receipt.at,
                    "state": "PUBLISHED",
                    "batch_id": run.batch_id,
                }
            )
    _each(
        lambda key: _change(
            objects, names.object_id(bucket, key), {"state": "DELETED"}, Attr("batch_id").eq(run.batch_id)
        ),
        receipt.deleted,
    )


def _change(objects: Table, identity: str, values: Mapping[str, Any], condition: Any) -> None:
    """Change an object's row where the condition holds; a row that went its own way (STALE, DELETED) stays so."""
    try:
        rows.update(objects, {"id": identity}, values, condition=condition)
    except rows.ConditionFailedError:
        return


def _each(work: Callable[[Any], None], things: Iterable[Any]) -> None:
    with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
        list(pool.map(work, things))


def _quality(s3: S3Client, run: Run, verdict: Verdict, rows_out: int) -> Quality:
    if verdict.outcome == outcomes.NOT_JUDGED:
        return Quality(
            {"outcome": verdict.outcome},
            "not judged: the dataset has rules, and quality is switched off in this pipeline",
        )
    if verdict.outcome == outcomes.NO_RULES:
        return Quality({"outcome": verdict.outcome})
    found = outcomes.quality(s3, run, str(verdict.answer["run_id"]), rows_out)
    failed = found.failed
    quality = {
        "outcome": outcomes.FAILED if failed else outcomes.PASSED,
        "rules_total": len(found.rules),
        "rules_failed": len(failed),
        "rules": _that_fit([*failed, *(one for one in found.rules if one.is_met)]),
    }
    if not failed:
        return Quality(quality)
    reason = f"{len(failed)} of {len(found.rules)} rules failed, first {failed[0].text}: {failed[0].reason}"
    return Quality(quality, reason[:LONGEST_REASON], failed[0])


def _that_fit(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules for the row, cut each and in sum."""
    kept: list[dict[str, Any]] = []
    left = MOST_RULES_BYTES
    for one in rules:
        rule = {
            "rule": one.text[:LONGEST_RULE],
            "outcome": one.outcome,
            "reason": one.reason[:LONGEST_RULE],
            "metrics": metrics_of(one),
        }
        left -= len(json.dumps(rule, default=str).encode())
        if left < 0:
            break
        kept.append(rule)
    return kept
