"""The first hop's run: a message batch becomes one execution of the Express machine, and its outcomes come back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lake import rows
from lake.hop_items import Item, Landed, Outcome

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.client import SFNClient


class MachineFailedError(Exception):
    """The execution did not succeed, or could not be asked: nothing is known of any of its objects."""


@dataclass(frozen=True)
class Told:
    """An outcome of the machine."""

    outcome: str
    reason: str


def newest(messages: Mapping[str, Landed]) -> dict[str, Item]:
    """The newest version of each object in a message batch, by id, with the sequencers of the others.

    Of two versions the older has been superseded already: the router writes the newer's row before it sends its
    message. Both messages share the newer's outcome; what an earlier try staged of the older is settled with it.
    """
    versions: dict[str, dict[str, Item]] = {}
    for message in messages.values():
        versions.setdefault(message.item.id, {})[message.item.sequencer] = message.item
    found = {}
    for identity, items in versions.items():
        *older, last = sorted(items)
        found[identity] = replace(items[last], older=tuple(older))
    return found


def machine_input(messages: Mapping[str, Landed], transform_function_arns: Mapping[tuple[str, str], str]) -> str:
    """The machine's input: the batch's objects grouped by dataset, so that each group is one call of its function."""
    items = newest(messages)
    groups: dict[tuple[str, str], dict[str, Item]] = {}
    for message in messages.values():
        groups.setdefault((message.team, message.dataset), {})[message.item.id] = items[message.item.id]
    document = {
        "schema": rows.SCHEMA,
        "groups": [
            {
                "team": team,
                "dataset": dataset,
                "transform_function_arn": transform_function_arns[team, dataset],
                "items": [asdict(item) for item in some.values()],
            }
            for (team, dataset), some in groups.items()
        ],
    }
    # Keys in their own letters: as \\u escapes they could be six times as long.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def run(states: SFNClient, machine_arn: str, name: str, document: str) -> dict[str, Told]:
    """Run the machine to its end; gives the outcome by object id.

    Raises:
        MachineFailedError: any status but SUCCEEDED, or no answer.
    """
    try:
        answer = states.start_sync_execution(stateMachineArn=machine_arn, name=name, input=document)
    except (ClientError, BotoCoreError) as error:
        raise MachineFailedError(f"{type(error).__name__}: {error}") from error
    if answer["status"] != "SUCCEEDED":
        raise MachineFailedError(
            f"{answer['executionArn']} is {answer['status']}: {answer.get('error', '')} {answer.get('cause', '')}"[
                :1000
            ]
        )
    groups: Iterable[Iterable[Mapping[str, Any]]] = json.loads(answer["output"])
    return {one["id"]: Told(one["outcome"], one.get("reason", "")) for group in groups for one in group}


def failed_messages(messages: Mapping[str, Landed], told: Mapping[str, Told]) -> list[str]:
    """The messages that must come back: their object has failed, or has no outcome."""
    return [
        message_id
        for message_id, message in messages.items()
        if message.item.id not in told or told[message.item.id].outcome == Outcome.FAILED
    ]
