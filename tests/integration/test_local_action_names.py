"""The permission of a call in batches is that of the single call; stock MiniStack 1.5.33 asks for another."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local_world import Roles


@pytest.fixture(scope="module")
def queue(client: Callable[[str], Any]) -> str:
    return client("sqs").create_queue(QueueName=f"queue-{uuid.uuid4().hex[:8]}")["QueueUrl"]


def test_who_may_send_and_delete_may_do_so_in_batches(roles: Roles, queue: str) -> None:
    actions = ["sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
    sqs = roles.client(roles.create({"Effect": "Allow", "Action": actions, "Resource": "*"}), "sqs")
    sent = sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": "0", "MessageBody": "{}"}])
    assert not sent.get("Failed")
    receipt = sqs.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
    entry = {"Id": "0", "ReceiptHandle": receipt}
    sqs.change_message_visibility_batch(QueueUrl=queue, Entries=[{**entry, "VisibilityTimeout": 30}])
    assert not sqs.delete_message_batch(QueueUrl=queue, Entries=[entry]).get("Failed")


def test_who_may_not_send_may_not_do_so_in_batches(roles: Roles, queue: str) -> None:
    sqs = roles.client(roles.create({"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": "*"}), "sqs")
    with pytest.raises(ClientError, match="sqs:SendMessage"):
        sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": "0", "MessageBody": "{}"}])
