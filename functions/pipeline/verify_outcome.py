"""verify_outcome: believes a job only when its outcome file is that of the run that just ended.

Woken by the stage_to_analytics machine after each job. Changes nothing. Gives the counts (after the transform)
or the verdict (after the quality job) that the machine decides on.
"""

from __future__ import annotations

from typing import Any

import boto3

from lake import outcomes
from lake.observability import logger

s3 = boto3.client("s3")

LONGEST_REASON = 500
"""Characters of a rule or its reason that travel through the machine (its payloads are capped at 256 KiB)."""


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Check the outcome of ``event["job"]`` (``transform`` or ``quality``), run ``event["run_id"]``.

    Raises:
        OutcomeMissingError, OutcomeMismatchError: the run proved nothing; the batch fails.
    """
    run = outcomes.Run.parse(event["run"])
    if event["job"] == "transform":
        answer = _transformed(run, event["run_id"])
    else:
        answer = _judged(run, event["run_id"], int(event["transform"]["rows_out"]))
    logger.info("outcome verified", extra={"job": event["job"], "batch_id": run.batch_id, **answer})
    return answer


def _transformed(run: outcomes.Run, run_id: str) -> dict[str, Any]:
    outcome = outcomes.transform(s3, run, run_id)
    return {"run_id": run_id, "rows_in": outcome.rows_in, "rows_out": outcome.rows_out, "files": len(outcome.files)}


def _judged(run: outcomes.Run, run_id: str, rows_out: int) -> dict[str, Any]:
    verdict = outcomes.quality(s3, run, run_id, rows_out)
    registration = outcomes.read_json(s3, run.manifest_uri)["registration"]
    failed = verdict.failed
    answer: dict[str, Any] = {
        "run_id": run_id,
        "outcome": outcomes.FAILED if failed else outcomes.PASSED,
        "rules": len(verdict.rules),
        "failed": len(failed),
        "blocked": bool(failed) and registration.get("on_quality_failure") != outcomes.WARN,
    }
    if failed:
        answer["first_failed"] = {
            "rule": failed[0].text[:LONGEST_REASON],
            "reason": failed[0].reason[:LONGEST_REASON],
            "metrics": {name: str(value) for name, value in list(failed[0].metrics.items())[:5]},
        }
    return answer
