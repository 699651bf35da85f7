"""finish_batch: writes how an attempt of a batch ended.

Woken by the stage_to_analytics machine as its last act before the notification. Changes the batch's row and, when
the batch is published, the rows of its outputs and of its staged objects. Gives what the team is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from lake import clock, finishing, settings
from lake.batches import State
from lake.observability import logger
from lake.outcomes import Run


@dataclass(frozen=True)
class Settings:
    """Environment of this function."""

    batches_table_name: str
    objects_table_name: str


SETTINGS = settings.read(Settings)
dynamodb = boto3.resource("dynamodb", config=Config(max_pool_connections=20))
clients = finishing.Clients(
    s3=boto3.client("s3"),
    objects=dynamodb.Table(SETTINGS.objects_table_name),
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
        notification = finishing.fail(clients.batches, run, event["failure"], now)
    else:
        verdict = finishing.Verdict(event["quality"]["outcome"], event["quality"])
        finish = finishing.publish if state == State.PUBLISHED else finishing.block
        notification = finish(clients, run, event["transform"], verdict, now)
    logger.info("batch finished", extra=notification)
    return notification
