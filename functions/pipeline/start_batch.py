"""Make batches of a dataset's staged objects, and start each one's execution of stage_to_analytics.

Woken by the pipeline's rule: looks at each dataset of the pipeline, invokes itself asynchronously for each one that
is due, and sends how long ago each one published whose freshness is watched. Woken with ``{"team", "dataset"}`` (by
itself, or by record_outcomes when a full batch waits): one run for that dataset; with ``"claim": false`` it only takes
on what earlier runs left. In a dataset with ``OnChange: replace`` a run also makes new attempts of published batches
whose raw objects have changed. Changes batch rows, the ``batch_id`` of staged objects, tick rows and the dataset's
queue; writes manifests; starts executions. Returns what it did.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3

from lake import claim, clock, metrics, settings, ticks
from lake.executions import Machine
from lake.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@dataclass(frozen=True)
class Settings:
    """Set by pipeline/stage_to_analytics.yaml."""

    objects_table_name: str
    datasets_table_name: str
    batches_table_name: str
    stage_bucket_name: str
    analytics_bucket_name: str
    asset_bucket_name: str
    state_machine_arn: str
    environment_name: str
    team_name: str
    pipeline_name: str
    function_timeout_seconds: int


class WrongTeamError(ValueError):
    """The event names another team than the one whose function this is."""


class TickIncompleteError(RuntimeError):
    """Some datasets could not be looked at; the others were."""


SETTINGS = settings.read(Settings)
_tables = boto3.resource("dynamodb")
CLIENTS = claim.Clients(
    objects=_tables.Table(SETTINGS.objects_table_name),
    datasets=_tables.Table(SETTINGS.datasets_table_name),
    batches=_tables.Table(SETTINGS.batches_table_name),
    sqs=boto3.client("sqs"),
    s3=boto3.client("s3"),
    states=boto3.client("stepfunctions"),
)
TICK_CLIENTS = ticks.Clients(CLIENTS.datasets, CLIENTS.batches, CLIENTS.sqs, boto3.client("lambda"), CLIENTS.objects)
PLACE = claim.Place(
    machine=Machine(SETTINGS.state_machine_arn, SETTINGS.stage_bucket_name, SETTINGS.analytics_bucket_name),
    asset_bucket=SETTINGS.asset_bucket_name,
    function_timeout=timedelta(seconds=SETTINGS.function_timeout_seconds),
)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """A run for the dataset that the event names, or else the tick.

    Raises:
        WrongTeamError: the event names another team.
        TickIncompleteError: the queue of some dataset could not be read, or its run not be invoked.
    """
    return _run(event, context) if "dataset" in event else _tick(context)


def _run(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    team, dataset = str(event["team"]), str(event["dataset"])
    if team != SETTINGS.team_name:
        raise WrongTeamError(f"this function makes batches of team {SETTINGS.team_name}, not of {team}")
    deadline = clock.now() + timedelta(milliseconds=context.get_remaining_time_in_millis())
    run = claim.Run(CLIENTS, PLACE, team, dataset, clock.now, deadline)
    report = run.go(context.aws_request_id, claims=bool(event.get("claim", True)))
    answer = asdict(report)
    logger.info("run for a dataset", extra={"team": team, "dataset": dataset, **answer})
    return answer


def _tick(context: LambdaContext) -> dict[str, Any]:
    report = ticks.tick(TICK_CLIENTS, SETTINGS.team_name, SETTINGS.pipeline_name, context.function_name, clock.now())
    metrics.of_freshness(SETTINGS.environment_name, SETTINGS.team_name, report.hours_since_published)
    answer = asdict(report)
    logger.info("tick", extra={"team": SETTINGS.team_name, "pipeline": SETTINGS.pipeline_name, **answer})
    if report.failed:
        raise TickIncompleteError(f"could not look at {', '.join(sorted(report.failed))}: {report.failed}")
    return answer
