"""The tick of a pipeline: which of its datasets get a run now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError

from lake import attempts, batches, freshness, rows, waiting
from lake.waiting import Due

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_lambda.client import LambdaClient
    from mypy_boto3_sqs.client import SQSClient


@dataclass(frozen=True)
class Clients:
    """What a tick works with."""

    datasets: Table
    batches: Table
    sqs: SQSClient
    functions: LambdaClient
    objects: Table


@dataclass
class Report:
    """What a tick found: each due dataset with its reason, and each one that could not be looked at.

    ``hours_since_published`` has the datasets whose freshness is watched.
    """

    datasets: int = 0
    due: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    hours_since_published: dict[str, float] = field(default_factory=dict)


def tick(clients: Clients, team: str, pipeline: str, run_function: str, now: datetime) -> Report:
    """Look at each dataset of the pipeline, and invoke ``run_function`` asynchronously for each that is due.

    A dataset whose queue cannot be read (its stack is being made or deleted) does not hold up the others.
    """
    report = Report()
    # registrations and tick rows come in one query
    read = list(rows.query(clients.datasets, KeyConditionExpression=Key("team").eq(team), ConsistentRead=True))
    ticks = {row["dataset"]: row for row in read}
    for row in read:
        if row.get("kind") != "dataset" or row.get("pipeline") != pipeline:
            continue
        dataset = str(row["dataset"])
        tick_row = ticks.get(waiting.tick_key(team, dataset)["dataset"], {})
        report.datasets += 1
        try:
            hours = freshness.hours(clients.datasets, row, tick_row, now)
            if hours is not None:
                report.hours_since_published[dataset] = hours
            why = _look(clients, row, tick_row, now)
            if why is not None:
                _invoke(clients.functions, run_function, team, dataset, why)
                report.due[dataset] = why.value
        except (ClientError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            report.failed[dataset] = f"{type(error).__name__}: {error}"
    for row in read:
        if row.get("kind") == waiting.TICK and row.get("pipeline", pipeline) == pipeline:
            _wake_for_the_removed(clients, report, run_function, ticks, row)
    return report


def _wake_for_the_removed(
    clients: Clients, report: Report, run_function: str, known: Mapping[str, Any], tick_row: Mapping[str, Any]
) -> None:
    """A dataset that is not registered any more gets a run as long as batches of its own have not ended."""
    team, dataset = str(tick_row["team"]), waiting.dataset_of(tick_row)
    if dataset in known:
        return
    try:
        if batches.has_unfinished(clients.batches, team, dataset):
            _invoke(clients.functions, run_function, team, dataset, Due.UNFINISHED)
            report.due[dataset] = Due.UNFINISHED.value
    except ClientError as error:
        report.failed[dataset] = f"{type(error).__name__}: {error}"


def _look(clients: Clients, row: Mapping[str, Any], tick_row: Mapping[str, Any], now: datetime) -> Due | None:
    team, dataset = str(row["team"]), str(row["dataset"])
    holds = waiting.depth(clients.sqs, str(row["queue_url"]))
    since = waiting.note(clients.datasets, team, dataset, holds=holds, tick=tick_row, now=now)
    why = waiting.due(row, holds, since, batches.has_unfinished(clients.batches, team, dataset), now)
    if why is None and attempts.replaces(row) and attempts.has_changed(clients.objects, team, dataset):
        return Due.CHANGED
    return why


def _invoke(functions: LambdaClient, run_function: str, team: str, dataset: str, why: Due) -> None:
    event = {"team": team, "dataset": dataset, "claim": why not in (Due.UNFINISHED, Due.CHANGED)}
    functions.invoke(FunctionName=run_function, InvocationType="Event", Payload=json.dumps(event).encode())
