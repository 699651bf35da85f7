"""finish_batch: writes how an attempt of a batch ended.

Woken by the stage_to_analytics machine as its last act before the notification. Changes the batch's row and, when
the batch is published, the rows of its outputs and of its staged objects and the dataset's tick row. Counts the
ending in the pipeline's metrics. Gives what the team is told: fields, and ``subject`` and ``message`` for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from lake import clock, finishing, metrics, notifications, settings
from lake.batches import State
from lake.notifications import Ending
from lake.observability import logger
from lake.outcomes import Run


@dataclass(frozen=True)
class Settings:
    """Environment of this function."""

    batches_table_name: str
    objects_table_name: str
    datasets_table_name: str
    environment_name: str
    pipeline_name: str


SETTINGS = settings.read(Settings)
dynamodb = boto3.resource("dynamodb", config=Config(max_pool_connections=20))
clients = finishing.Clients(
    s3=boto3.client("s3"),
    objects=dynamodb.Table(SETTINGS.objects_table_name),
    datasets=dynamodb.Table(SETTINGS.datasets_table_name),
    batches=dynamodb.Table(SETTINGS.batches_table_name),
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Finish ``event["run"]`` as ``event["state"]``: PUBLISHED, FAILED_QUALITY or FAILED (with ``event["failure"]``).

    Raises:
        NotInStateError: the batch is at another attempt, or has finished otherwise (never when it failed).
        OutcomeMissingError, OutcomeMismatchError: there is no proof of what is to be written.
    """
    run, state, now = Run.parse(event["run"]), State(event["state"]), clock.now()
    if state == State.FAILED:
        ending = finishing.fail(clients.batches, run, event["failure"], now)
    else:
        verdict = finishing.Verdict(event["quality"]["outcome"], event["quality"])
        finish = finishing.publish if state == State.PUBLISHED else finishing.block
        ending = finish(clients, run, event["transform"], verdict, now)
    values = _counted(ending, by_job=finishing.is_job_failure(event.get("failure", {})))
    if values:
        metrics.of_batch(SETTINGS.environment_name, run.team, SETTINGS.pipeline_name, run.dataset, values)
    notification = notifications.notification(SETTINGS.environment_name, run, ending)
    logger.info("batch finished", extra={name: one for name, one in notification.items() if name != "message"})
    return notification


def _counted(ending: Ending, *, by_job: bool) -> dict[str, int]:
    """The metrics of an ending. A try that is made again counts again, which no alarm minds."""
    match ending.state:
        case State.PUBLISHED:
            return {
                metrics.BATCHES_PUBLISHED: 1,
                metrics.ROWS_PUBLISHED: ending.statistics.get("rows_out", 0),
                metrics.BYTES_PUBLISHED: ending.statistics.get("bytes", 0),
            }
        case State.FAILED_QUALITY:
            return {metrics.BATCHES_BLOCKED: 1}
        case State.FAILED:
            return {metrics.BATCHES_FAILED: 1} | ({metrics.JOB_RUNS_FAILED: 1} if by_job else {})
    return {}
