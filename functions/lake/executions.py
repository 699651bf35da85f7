"""Executions of stage_to_analytics: one for each attempt of a batch, by its name, whatever is started twice.

Names are closed to reuse for 90 days, whatever the input; an execution that runs under the same name with the
same input is not started again: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lake import batches, names, rows
from lake.batches import Batch, State
from lake.clock import parse

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_stepfunctions.client import SFNClient

GOING_WELL = frozenset({"RUNNING", "SUCCEEDED", "PENDING_REDRIVE"})
ENDED_BADLY = frozenset({"FAILED", "TIMED_OUT", "ABORTED"})
SHOWS_WITHIN = timedelta(minutes=10)
"""DescribeExecution is eventually consistent: what was started a moment ago may not be there yet."""


@dataclass(frozen=True)
class Machine:
    """The state machine that runs batches, and the two buckets that its input names."""

    arn: str
    stage_bucket: str
    analytics_bucket: str

    def execution_arn(self, name: str) -> str:
        """ARN of its execution ``name``."""
        return f"{self.arn.replace(':stateMachine:', ':execution:', 1)}:{name}"


def execution_input(machine: Machine, batch: Batch, has_rules: bool) -> dict[str, Any]:
    """What an attempt is started with: the same for every start of the same attempt."""
    outcomes = names.object_id(
        machine.stage_bucket, names.attempt_prefix(batch.team, batch.dataset, batch.batch_id, batch.attempt)
    )
    return {
        "schema": rows.SCHEMA,
        "team": batch.team,
        "dataset": batch.dataset,
        "batch_id": batch.batch_id,
        "attempt": batch.attempt,
        "manifest_uri": names.object_id(machine.stage_bucket, batch.manifest_key),
        "pending_uri": names.object_id(
            machine.analytics_bucket, names.pending_prefix(batch.team, batch.batch_id, batch.attempt)
        ),
        "transform_outcome_uri": f"{outcomes}transform.json",
        "quality_outcome_uri": f"{outcomes}quality.json",
        "has_rules": has_rules,
        "engine": batch.engine,
        "missing": list(batch.missing),
    }


def start(states: SFNClient, table: Table, machine: Machine, batch: Batch, *, has_rules: bool, now: datetime) -> State:
    """Start a ``READY`` attempt, or find that it was started before; gives the state that this leads to.

    An execution of that name that has ended badly before anybody wrote down its start leaves the batch ``FAILED``.
    """
    arn = machine.execution_arn(batch.execution_name)
    try:
        states.start_execution(
            stateMachineArn=machine.arn,
            name=batch.execution_name,
            input=json.dumps(execution_input(machine, batch, has_rules)),
        )
    except states.exceptions.ExecutionAlreadyExists:
        told = states.describe_execution(executionArn=arn)
        if told["status"] not in GOING_WELL:
            return fail(table, batch, _what(told), now)
    batches.mark_started(table, batch, arn, now)
    return State.STARTED


def settle(states: SFNClient, table: Table, row: Mapping[str, Any], now: datetime) -> State:
    """Close a ``STARTED`` attempt whose execution has ended without doing so: stopped, or past its time limit."""
    batch = batches.of_row(row)
    try:
        told: Mapping[str, Any] = states.describe_execution(executionArn=str(row["execution_arn"]))
    except (states.exceptions.ExecutionDoesNotExist, states.exceptions.InvalidArn):
        if now - parse(str(row["started_at"])) < SHOWS_WITHIN:
            return State.STARTED
        told = {"status": "FAILED", "cause": "there is no such execution (any more)"}
    return fail(table, batch, _what(told), now) if told["status"] in ENDED_BADLY else State.STARTED


def _what(told: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, [f"execution {told['status']}", told.get("error"), told.get("cause")]))


def fail(table: Table, batch: Batch, reason: str, now: datetime) -> State:
    """Close an attempt whose own execution cannot; gives the state that this leads to."""
    try:
        batches.finish(table, batch, State.FAILED, now, reason=reason)
    except batches.NotInStateError:
        return State.STARTED  # it did finish, in its own way, after the row was read
    return State.FAILED
