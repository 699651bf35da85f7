"""Dead letters: where they wait, what each one is, and SQS's own move of them back to where they came from.

The move is SQS's ("redrive"): it takes a message out of the dead-letter queue when the other queue has it, goes on when
nobody looks, and is one at a time for a queue. What comes back twice changes nothing, for the queues' readers settle
everything by rows.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING, Any

from lake import catalog, events, hop_items, queues, waiting
from tarn.contract import ContractError
from tarn.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import StartMessageMoveTaskRequestTypeDef

ENDS = ("dead-letter-queue", "dead-letters")
UNDER_WAY = ("RUNNING", "CANCELLING")
MOST_POLLS_UNSEEN = 30
"""Looks at the list of tasks within which a new one must show."""
MOST_POLLS_STILL = 600
"""Looks at a move that moves nothing more, after which nobody waits for it any longer."""
REMEDIES = {
    "AWS.SimpleQueueService.NonExistentQueue": (
        "the queue that a letter came from is gone, with its dataset; what is before that letter was moved. "
        "tarn reconcile --fix tells a dataset of today what it is missing"
    ),
    "CouldNotDetermineMessageSource": "a letter was sent there by hand, and not by a queue; name where it belongs: "
    "aws sqs start-message-move-task --destination-arn",
}


@dataclass(frozen=True)
class DeadLetters:
    """A dead-letter queue of the lake: its place in the contract, what it holds, and the queues it holds it for."""

    place: str
    url: str
    arn: str
    depth: waiting.Depth
    sources: list[str]

    @property
    def are_calls(self) -> bool:
        """Whether no queue's messages come here, but calls of start_batch that Lambda or EventBridge gave up."""
        return not self.sources


@dataclass(frozen=True)
class Moved:
    """How a move ended: SQS's status, how many messages it moved, and why it ended if it failed."""

    status: str
    messages: int
    reason: str = ""


def find(lake: Lake, sqs: SQSClient, place: str | None = None) -> list[DeadLetters]:
    """The dead-letter queues of a lake, or the one at ``place``.

    Raises:
        ContractError: there is none of that name.
    """
    known = {name: url for name, url in lake.contract.queues().items() if name.endswith(ENDS)}
    if place is not None and place not in known:
        raise ContractError(f"{place!r} is no dead-letter queue of this lake: it has {', '.join(known)}")
    return [_look(sqs, name, url) for name, url in known.items() if place in (None, name)]


def move(
    sqs: SQSClient,
    letters: DeadLetters,
    rate: int | None,
    progress: Callable[[int, int], None],
    poll_seconds: float = 1.0,
) -> Moved:
    """Move the letters back and wait for the end; a move that is under way already is waited for, while it moves.

    ``rate`` is messages per second (1 to 500; None leaves it to SQS); ``progress`` is told moved and to move.

    Raises:
        ClientError: SQS refused.
    """
    last = _latest(sqs, letters.arn)
    before = None if last.get("Status") in UNDER_WAY else last.get("StartedTimestamp", 0)
    if before is not None:
        given: StartMessageMoveTaskRequestTypeDef = {"SourceArn": letters.arn}
        sqs.start_message_move_task(**(given if rate is None else {**given, "MaxNumberOfMessagesPerSecond": rate}))
    unseen, still, last_moved = 0, 0, -1
    while True:
        task = _latest(sqs, letters.arn)
        if task.get("StartedTimestamp", 0) == before and unseen < MOST_POLLS_UNSEEN:
            unseen += 1
        else:
            moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
            progress(moved, int(task.get("ApproximateNumberOfMessagesToMove", moved)))
            if task.get("Status") not in UNDER_WAY:
                reason = str(task.get("FailureReason", ""))
                return Moved(str(task.get("Status")), moved, ": ".join(filter(None, [reason, REMEDIES.get(reason)])))
            still, last_moved = (still + 1 if moved == last_moved else 0), moved
            if still == MOST_POLLS_STILL:
                return Moved(
                    str(task["Status"]), moved, "nothing more moves; SQS goes on, and tarn redrive waits again"
                )
        sleep(poll_seconds)


def peek(lake: Lake, sqs: SQSClient, letters: DeadLetters) -> list[str]:
    """What up to ten of the letters are, each in a line. They stay: nothing counts how often a dead letter is seen."""
    received = sqs.receive_message(
        QueueUrl=letters.url, MaxNumberOfMessages=queues.MOST_IN_A_CALL, VisibilityTimeout=0, WaitTimeSeconds=1
    )
    return [explain(lake, letters.place, one["Body"]) for one in received.get("Messages", [])]


def explain(lake: Lake, place: str, body: str) -> str:
    """What a dead letter is about, and how its object stands now; or why nobody can read it."""
    try:
        told = queues.read(body)
        if "Records" in told or place.startswith("foundations/"):
            raw_bucket = lake.contract.foundations("raw-bucket/name")
            found = [
                _stands(lake, one.id, one.sequencer)
                if one.bucket == raw_bucket
                else f"an event of bucket {one.bucket}: the raw zone is {raw_bucket}"
                for one in events.parse(body)
            ]
            return "; ".join(found) or "S3's word that it notifies this queue"
        if "key" in told:
            landed = hop_items.Landed.of_body(body)
            return _stands(lake, landed.item.id, landed.item.sequencer)
        if told.get("schema") == 1 and isinstance(told.get("id"), str):
            return _stands(lake, told["id"], str(told.get("sequencer")))
    except (events.MalformedEventError, hop_items.MalformedMessageError, queues.UnreadableMessageError) as error:
        return f"unreadable: {error}"
    return f"unreadable: no message that this version knows: {body[:200]!r}"


def _stands(lake: Lake, identity: str, sequencer: str) -> str:
    row = lake.object_row(identity)
    if row is None:
        return f"{identity}: it has no row in the object catalog"
    try:
        stands = f"{catalog.readable(row)['state']}{_because(row)}"
    except catalog.UnreadableRowError as error:
        return f"{identity}: {error}"
    later = ", by a later event" if row["sequencer"] > sequencer else ""
    return f"{identity} is {stands}{later}{_gone(lake, row)}"


def _because(row: Mapping[str, Any]) -> str:
    return f" ({row['reason']})" if row.get("reason") else ""


def _gone(lake: Lake, row: Mapping[str, Any]) -> str:
    known = {(one.team, one.dataset) for one in lake.contract.datasets()}
    place = (row.get("team"), row.get("dataset"))
    return "" if place in known else f"; dataset {place[0]}/{place[1]} is not deployed"


def _look(sqs: SQSClient, place: str, url: str) -> DeadLetters:
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pages = sqs.get_paginator("list_dead_letter_source_queues").paginate(QueueUrl=url)
    sources = [source.rpartition("/")[2] for page in pages for source in page.get("queueUrls", [])]
    return DeadLetters(place, url, arn, waiting.depth(sqs, url), sorted(sources))


def _latest(sqs: SQSClient, arn: str) -> Mapping[str, Any]:
    found = sqs.list_message_move_tasks(SourceArn=arn, MaxResults=1).get("Results", [])
    return found[0] if found else {}
