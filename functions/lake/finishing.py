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

from lake import batches, names, outcomes, publishing, rows
from lake.batches import Batch, NotInStateError, State
from lake.outcomes import Rule, Run

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

LONGEST_REASON = batches.LONGEST_REASON
LONGEST_RULE = 500
MOST_RULES_BYTES = 64 * 1024
"""Of a row's 400 KB, what the rules may take: failed ones first, the rest is counted."""
MOST_METRICS = 10
WRITES_AT_ONCE = 8


@dataclass(frozen=True)
class Clients:
    """What finishing works with."""

    s3: S3Client
    objects: Table
    batches: Table


@dataclass(frozen=True)
class Verdict:
    """What the machine knows of the quality: passed, failed, not judged or no rules; ``answer`` is verify_outcome's."""

    outcome: str
    answer: Mapping[str, Any]


def publish(
    clients: Clients, run: Run, transformed: Mapping[str, Any], verdict: Verdict, now: datetime
) -> dict[str, Any]:
    """The attempt is published: its outputs and its staged objects get their rows, then the batch is PUBLISHED.

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
    quality, reason, first = _quality(clients.s3, run, verdict, int(transformed["rows_out"]))
    values = {
        "rows_in": int(transformed["rows_in"]),
        "rows_out": int(transformed["rows_out"]),
        "files": len(receipt.files),
        "quality": quality,
    }
    batches.finish(clients.batches, _batch(run), State.PUBLISHED, now, reason=reason, values=values)
    return _notification(run, State.PUBLISHED, reason, first)


def block(
    clients: Clients, run: Run, transformed: Mapping[str, Any], verdict: Verdict, now: datetime
) -> dict[str, Any]:
    """The rules failed and the dataset blocks: nothing was published, the objects stay with their batch.

    Raises:
        NotInStateError: the batch is at another attempt, or has finished otherwise.
    """
    quality, reason, first = _quality(clients.s3, run, verdict, int(transformed["rows_out"]))
    values = {
        "rows_in": int(transformed["rows_in"]),
        "rows_out": int(transformed["rows_out"]),
        "quality": quality,
    }
    batches.finish(clients.batches, _batch(run), State.FAILED_QUALITY, now, reason=reason, values=values)
    return _notification(run, State.FAILED_QUALITY, reason, first)


def fail(table: Table, run: Run, failure: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The attempt failed; its objects stay with their batch, for its next attempt.

    A batch that has finished otherwise in the meantime (the answer of the write that said so was lost) stays as it
    is, and is what the notification tells.
    """
    reason = reason_of(failure)
    try:
        batches.finish(table, _batch(run), State.FAILED, now, reason=reason)
    except NotInStateError:
        row = rows.get(table, _batch(run).key) or {}
        return _notification(run, str(row.get("state", "unknown")), str(row.get("reason", "")), None)
    return _notification(run, State.FAILED, reason, None)


def reason_of(failure: Mapping[str, Any]) -> str:
    """What a person needs to know of an error that the machine caught: the job's own message, where there is one.

    ``Cause`` is JSON when a Glue job (its JobRun) or a function (its error) failed, and text otherwise.
    """
    error, cause = str(failure.get("Error", "")), str(failure.get("Cause", ""))
    try:
        told = json.loads(cause)
    except ValueError:
        told = None
    if isinstance(told, dict) and "JobRunState" in told:
        said = f"job {told.get('JobName')} {told['JobRunState']}: {told.get('ErrorMessage') or 'it gave no message'}"
    elif isinstance(told, dict) and "errorMessage" in told:
        said = f"{told.get('errorType') or error}: {told['errorMessage']}"
    else:
        said = ": ".join(filter(None, [error, cause])) or "unknown"
    return said[:LONGEST_REASON]


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


def _quality(s3: S3Client, run: Run, verdict: Verdict, rows_out: int) -> tuple[dict[str, Any], str | None, Rule | None]:
    """The row's ``quality``, the reason to tell (None when all is well), and the first rule that failed."""
    if verdict.outcome == outcomes.NOT_JUDGED:
        return (
            {"outcome": verdict.outcome},
            "not judged: the dataset has rules, and quality is switched off in this pipeline",
            None,
        )
    if verdict.outcome == outcomes.NO_RULES:
        return {"outcome": verdict.outcome}, None, None
    found = outcomes.quality(s3, run, str(verdict.answer["run_id"]), rows_out)
    failed = found.failed
    kept = _that_fit([*failed, *(one for one in found.rules if one.is_met)])
    quality = {
        "outcome": outcomes.FAILED if failed else outcomes.PASSED,
        "rules_total": len(found.rules),
        "rules_failed": len(failed),
        "rules": kept,
    }
    if not failed:
        return quality, None, None
    reason = f"{len(failed)} of {len(found.rules)} rules failed, first {failed[0].text}: {failed[0].reason}"
    return quality, reason[:LONGEST_REASON], failed[0]


def _that_fit(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules for the row, cut each and in sum."""
    kept: list[dict[str, Any]] = []
    left = MOST_RULES_BYTES
    for one in rules:
        rule = {
            "rule": one.text[:LONGEST_RULE],
            "outcome": one.outcome,
            "reason": one.reason[:LONGEST_RULE],
            "metrics": _metrics(one),
        }
        left -= len(json.dumps(rule, default=str).encode())
        if left < 0:
            break
        kept.append(rule)
    return kept


def _notification(run: Run, state: str, reason: str | None, rule: Rule | None) -> dict[str, Any]:
    """What the team is told by SNS."""
    return {
        "team": run.team,
        "dataset": run.dataset,
        "batch_id": run.batch_id,
        "attempt": run.attempt,
        "state": str(state),
        "reason": reason or "",
        "rule": rule.text[:LONGEST_RULE] if rule else "",
        "metric": _metrics(rule) if rule else {},
    }


def _metrics(rule: Rule) -> dict[str, str]:
    """As text: DynamoDB takes neither floats nor NaN, and a person reads them."""
    return {name: str(value) for name, value in list(rule.metrics.items())[:MOST_METRICS]}
