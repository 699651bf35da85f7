"""What a deployment takes away with data in it: found before it begins, refused unless it is named, told afterwards.

A dataset, pipeline or team is removed by taking it out of the template. CloudFormation deletes last, when the update
has succeeded: whatever refuses then is left behind, and messages and batches are gone. So it is asked first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import boto3

from lake import waiting
from tarn.again import UNDER_WAY
from tarn.changes import ADDED, GOING, REMOVED, REPLACED, Change
from tarn.contract import Contract, ContractError, DatasetAddress
from tarn.lake import Lake
from tarn.preconditions import PreconditionError

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

QUEUE, DATASET = "AWS::SQS::Queue", "Custom::TarnDataset"


def with_what_they_hold(session: boto3.Session, environment: str, found: Sequence[Change]) -> tuple[Change, ...]:
    """Queues that go, with how many messages go with them; datasets that go, with their batches under way.

    Raises:
        ContractError: a dataset goes, and the lake's batches are not where its contract says.
    """
    moved = _handed_over(found)
    held = {}
    for one in found:
        if one.verb not in GOING or not one.physical_id or _stack(one) in moved:
            continue
        if one.type == QUEUE:
            held[one.path] = _messages(session.client("sqs"), one.physical_id)
        elif one.type == DATASET and one.verb == REMOVED:
            held[one.path] = _batches(Lake(environment, session), one.physical_id)
    return tuple(replace(one, holds=held.get(one.path, "")) for one in found)


def _messages(sqs: SQSClient, url: str) -> str:
    count = sum(asdict(waiting.depth(sqs, url)).values())
    return f"{count} messages in it" if count else ""


def _batches(lake: Lake, dataset: str) -> str:
    team, _, name = dataset.partition("/")
    rows = lake.batches_of(DatasetAddress(team, "", name))
    return ", ".join(f"batch {row['batch_id']} {row['state']}" for row in rows if row["state"] in UNDER_WAY)


def _handed_over(found: Iterable[Change]) -> set[str]:
    """The stacks whose dataset goes into a stack that is nested in them: the registrar moves its messages there.

    It knows no other handover (``lake.handover``): what goes to a stack of its own is removed here and made there.
    """
    registrations = [one for one in found if one.type == DATASET]
    return {
        _stack(old)
        for old in registrations
        if old.verb == REMOVED
        and any(new.verb == ADDED and new.path.startswith(f"{_stack(old)}/") for new in registrations)
    }


def _stack(change: Change) -> str:
    """The path of the stack that a resource is in."""
    return change.path.rpartition("/")[0]


def unnamed(found: Iterable[Change], allowed: Iterable[str]) -> list[Change]:
    """What loses data and is not allowed to, by its own path or by that of a stack around it."""
    named = tuple(allowed)
    return [
        one
        for one in found
        if one.loses_data and not any(one.path == name or one.path.startswith(f"{name}/") for name in named)
    ]


def check(environment: str, stack: str, found: Iterable[Change], allowed: Iterable[str]) -> None:
    """Refuse a deployment that loses what nobody has named.

    Raises:
        PreconditionError: naming each loss, and how to go on.
    """
    if not (lost := unnamed(found, allowed)):
        return
    paths = [one.path for one in lost]
    raise PreconditionError(
        "\n".join(
            [
                f"nothing has changed, deploying {stack} would lose data:",
                *(f"  - {one.path} ({one.type}): {one.effect()}" for one in lost),
                "Messages and batches: wait for their end (tarn status), and deploy again. What may be lost, and what "
                "only goes to a stack of its own, is named:",
                f"  tarn deploy {' '.join(f'--allow-loss {path}' for path in paths)}",
                f"  or, by a push, in samconfig.toml: [{environment}.allow_loss] {stack} = {json.dumps(paths)}",
            ]
        )
    )


def left_behind(environment: str, found: Iterable[Change]) -> Iterator[str]:
    """What stays outside the stack when a deployment has succeeded."""
    for one in found:
        if one.verb in (REMOVED, REPLACED) and one.keeps:
            yield f"{one.type} {one.physical_id}"
    moved = _handed_over(found)
    for one in found:
        if one.type == DATASET and one.verb == REMOVED and _stack(one) not in moved:
            yield from data_of(environment, *one.physical_id.split("/", 1))


def data_of(environment: str, team: str, dataset: str) -> list[str]:
    """What is no resource of a dataset's stack and stays: files, tables and rows."""
    try:
        contract = Contract(boto3.client("ssm"), environment)
        buckets = [contract.foundations(f"{zone}-bucket/name") for zone in ("raw", "stage", "analytics")]
        database = contract.team(team, "database/name")
    except ContractError:
        return []
    folder = f"{team}/{dataset}/"
    return [*(f"files below s3://{bucket}/{folder}" for bucket in buckets), f"its table in {database}, and its rows"]
