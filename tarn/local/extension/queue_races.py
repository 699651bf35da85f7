"""A queue loses no message to its own threads.

Stock MiniStack 1.5.33 removes messages by putting a new list in the place of the old one, on the event loop and on the
thread that polls for functions, while S3's, SNS's and EventBridge's threads append to the old one: what is appended
in between is gone. One message in some thousands was. Here they take turns, a receive looks no further than it
needs to, and old messages are looked for every few seconds instead of at every call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

SQS = "ministack.services.sqs"
_REWRITING = (
    "_act_send_message",
    "_act_delete_message",
    "_act_delete_message_batch",
    "_act_purge_queue",
    "_expire_retained",
    "_dlq_sweep",
)
_APPENDING = (
    ("ministack.services.s3", "_deliver_event_to_sqs"),
    ("ministack.services.sns", "_deliver_to_sqs"),
    ("ministack.services.eventbridge", "_dispatch_to_sqs"),
    ("ministack.services.lambda_svc", "_route_async_failure"),
)
_RETENTION_LOOK_SECONDS = 10
"""The shortest retention is a minute, and each look reads the whole queue."""


def install(_settings: Settings) -> None:
    """Let one lock guard whatever rewrites a queue's list of messages or appends to it."""
    lock = threading.RLock()  # MiniStack's own is not reentrant, and its holders call what takes it here
    replace(SQS, "_queues_lock", lock)
    for module, name in (*((SQS, name) for name in _REWRITING), *_APPENDING):
        replace(module, name, _in_turn(lock, original(module, name)))
    expire = original(SQS, "_expire_retained")
    fifo = original(SQS, "_collect_msgs")
    ensure = original(SQS, "_ensure_msg_fields")

    def collect(queue: dict[str, Any], most: int, visibility_seconds: int) -> Any:
        if queue["is_fifo"]:
            return fifo(queue, most, visibility_seconds)
        now = time.time()
        with lock:
            received = list(islice((one for one in queue["messages"] if one["visible_at"] <= now), most))
            for message in received:
                ensure(message)
                message["receipt_handle"] = original(SQS, "new_uuid")()
                message["visible_at"] = now + visibility_seconds
                message["receive_count"] += 1
                message["first_receive_at"] = message.get("first_receive_at") or now
        return received

    def expire_at_times(queue: dict[str, Any]) -> None:
        now = time.time()
        if now - queue.get("retention_looked_at", 0) >= _RETENTION_LOOK_SECONDS:
            queue["retention_looked_at"] = now
            expire(queue)

    replace(SQS, "_collect_msgs", collect)
    replace(SQS, "_expire_retained", expire_at_times)


def _in_turn(lock: threading.RLock, work: Callable[..., Any]) -> Callable[..., Any]:
    def in_turn(*arguments: Any, **named: Any) -> Any:
        with lock:
            return work(*arguments, **named)

    return in_turn
