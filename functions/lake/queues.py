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


@dataclass(frozen=True)
class Message:
    """What is sent: ``tag`` is the sender's own name for it, by which a failure is told.

    ``group`` makes a standard queue a fair queue (one group's backfill does not starve the others):
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
    """

    tag: str
    body: Mapping[str, Any]
    group: str


def send(sqs: SQSClient, queue_url: str, messages: Iterable[Message]) -> dict[str, str]:
    """Send ``messages``; gives the reason for each tag that the queue did not take."""
    failed: dict[str, str] = {}
    for some in _tens(messages):
        answer = sqs.send_message_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(place), "MessageBody": json.dumps(one.body), "MessageGroupId": one.group}
                for place, one in enumerate(some)
            ],
        )
        failed |= {some[int(one["Id"])].tag: one.get("Message", one["Code"]) for one in answer.get("Failed", [])}
    return failed


def delete(sqs: SQSClient, queue_url: str, receipts: Iterable[str]) -> int:
    """Delete messages by receipt handle; gives how many the queue kept (they come back, and are deleted then)."""
    kept = 0
    for some in _tens(receipts):
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


def _tens(things: Iterable[T]) -> Iterable[Sequence[T]]:
    rest = iter(things)
    while some := list(islice(rest, MOST_IN_A_CALL)):
        yield some
