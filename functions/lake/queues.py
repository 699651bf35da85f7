"""SQS in batches of ten, where what failed is named and nothing else is tried again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

MOST_IN_A_CALL = 10
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

T = TypeVar("T")


class UnreadableMessageError(ValueError):
    """A message's body is no JSON object that AWS would take again: it fails alone, and ends with the dead letters."""


@dataclass(frozen=True)
class Message:
    """What is sent: ``tag`` is the sender's own name for it, by which a failure is told.

    A ``body`` that is text is sent as it is. ``group`` makes a standard queue a fair queue (one group's backfill does
    not starve the others):
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
    """

    tag: str
    body: Mapping[str, Any] | str
    group: str


def read(body: str) -> dict[str, Any]:
    """The JSON object that is a message's body.

    Raises:
        UnreadableMessageError: it is not JSON, nested deeper than can be read, no object, or holds half a character.
    """
    try:
        told = json.loads(body)
        json.dumps(told, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UnreadableMessageError(f"not JSON ({type(error).__name__}: {error}): {body[:200]!r}") from error
    if not isinstance(told, dict):
        raise UnreadableMessageError(f"a JSON {type(told).__name__}, not an object: {body[:200]!r}")
    return told


def send(sqs: SQSClient, queue_url: str, messages: Iterable[Message]) -> dict[str, str]:
    """Send ``messages``; gives the reason for each tag that the queue did not take."""
    failed: dict[str, str] = {}
    for some in tens(messages):
        answer = sqs.send_message_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(place), "MessageBody": _text(one.body), "MessageGroupId": one.group}
                for place, one in enumerate(some)
            ],
        )
        failed |= {some[int(one["Id"])].tag: one.get("Message", one["Code"]) for one in answer.get("Failed", [])}
    return failed


def _text(body: Mapping[str, Any] | str) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def delete(sqs: SQSClient, queue_url: str, receipts: Iterable[str]) -> int:
    """Delete messages by receipt handle; gives how many the queue kept (they come back, and are deleted then)."""
    kept = 0
    for some in tens(receipts):
        answer = sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(some)],
        )
        kept += len(answer.get("Failed", []))
    return kept


def partial_failure(message_ids: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """What a function answers to its event source mapping: only these messages are delivered again.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    return {"batchItemFailures": [{"itemIdentifier": one} for one in message_ids]}


def tens(things: Iterable[T]) -> Iterable[Sequence[T]]:
    """As many at a time as one call takes."""
    rest = iter(things)
    while some := list(islice(rest, MOST_IN_A_CALL)):
        yield some
