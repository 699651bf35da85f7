"""SQS's own redrive: a task that moves the messages of a dead-letter queue back to where they came from.

Stock MiniStack 1.5.33 answers InvalidAction to `StartMessageMoveTask`, `ListMessageMoveTasks`,
`CancelMessageMoveTask` and `ListDeadLetterSourceQueues`. Here a task really moves, message by message: the destination
has it before the source is without it, the counts are those of what was moved, and a task that cannot go on is FAILED
with SQS's reason and leaves the rest where it is. Standard queues only; a task ends with the emulator that runs it.

Sources: SQS API reference of the four; developer guide "Learn how to configure a dead-letter queue redrive" (a redriven
message has a new id and a new time) and "Troubleshoot DLQ redrive" (the reasons of failures).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tarn.local.extension.patching import original, replace, require
from tarn.local.settings import Settings

SQS = "ministack.services.sqs"
ACTIONS = "ministack.core.iam_actions"
HIGHEST_RATE = 500
MOST_LISTED = 10
AT_ONCE = 10
"""Messages that a task without a rate moves before it lets others go on."""


@dataclass
class Task:
    """A move as SQS tells of it; times in milliseconds since 1970."""

    source_arn: str
    to_move: int
    destination_arn: str | None = None
    rate: int | None = None
    handle: str = field(default_factory=lambda: f"AQEB{uuid4().hex}")
    status: str = "RUNNING"
    moved: int = 0
    failure_reason: str | None = None
    started_at: int = field(default_factory=lambda: int(time.time() * 1000))

    def told(self) -> dict[str, Any]:
        """The task as ListMessageMoveTasks shows it: only one that runs has its handle."""
        told = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source_arn,
            "DestinationArn": self.destination_arn,
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.failure_reason,
            "StartedTimestamp": self.started_at,
        }
        return {name: value for name, value in told.items() if value is not None}


def install(_settings: Settings) -> None:
    """Add the four calls, and the queue that each is about to what IAM is asked."""
    require(SQS, "_queues", "_queues_lock", "_queue_by_arn", "_get_q", "_refresh_counts", "_Err", "esm_wake")
    require(SQS, "_ensure_msg_fields", "_externalize_url", "queue_delay", "new_uuid")
    moves = Moves()
    original(SQS, "_HANDLERS").update(
        {
            "StartMessageMoveTask": moves.start,
            "ListMessageMoveTasks": moves.show,
            "CancelMessageMoveTask": moves.cancel,
            "ListDeadLetterSourceQueues": list_sources,
        }
    )
    stock = original(ACTIONS, "extract_resource_arn")

    def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: bytes, *rest: Any) -> str:
        if service == "sqs" and str(headers.get("x-amz-target", "")).endswith(("MessageMoveTask", "MessageMoveTasks")):
            given = json.loads(body or b"{}")
            return str(given.get("SourceArn") or moves.source_of(str(given.get("TaskHandle"))) or "*")
        return str(stock(service, method, path, headers, body, *rest))

    replace(ACTIONS, "extract_resource_arn", extract_resource_arn)


def list_sources(given: Mapping[str, Any], url: str) -> dict[str, Any]:
    """The queues whose dead letters come to a queue, all of them in one page."""
    queue = original(SQS, "_get_q")(given.get("QueueUrl", url), "sqs:ListDeadLetterSourceQueues")
    shown = original(SQS, "_externalize_url")
    return {"queueUrls": [shown(one["url"]) for one in _sources(queue["attributes"]["QueueArn"])]}


class Moves:
    """The tasks of this emulator, newest last. Its calls and its moves run on the event loop, as all of SQS does."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self._running: set[asyncio.Task[None]] = set()

    def start(self, given: Mapping[str, Any], _url: str) -> dict[str, Any]:
        """StartMessageMoveTask."""
        source_arn, destination_arn = str(given.get("SourceArn", "")), given.get("DestinationArn")
        rate = given.get("MaxNumberOfMessagesPerSecond")
        source = _existing(source_arn, "SourceArn")
        if rate is not None and not 1 <= int(rate) <= HIGHEST_RATE:
            raise _error(
                "InvalidParameterValue",
                f"Value {rate} for parameter MaxNumberOfMessagesPerSecond is invalid. "
                f"Reason: You must enter a value between 1 and {HIGHEST_RATE}.",
            )
        if not any(_sources(source_arn)):
            raise _error("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        if destination_arn:
            _existing(str(destination_arn), "DestinationArn")
        if source["is_fifo"]:
            raise _error("UnsupportedOperation", "the embedded AWS moves the messages of standard queues only")
        if any(one.status in ("RUNNING", "CANCELLING") for one in self._of(source_arn)):
            raise _error(
                "InvalidParameterValue",
                "There is already a task running. Only one active task is allowed for a source queue arn at a "
                "given time.",
            )
        original(SQS, "_refresh_counts")(source)
        task = Task(
            source_arn,
            to_move=int(source["attributes"]["ApproximateNumberOfMessages"]),
            destination_arn=destination_arn,
            rate=None if rate is None else int(rate),
        )
        self._tasks = [*(one for one in self._tasks if one not in self._of(source_arn)[MOST_LISTED - 1 :]), task]
        running = asyncio.get_running_loop().create_task(self._run(task))
        self._running.add(running)  # the loop itself keeps no hold of it
        running.add_done_callback(self._running.discard)
        return {"TaskHandle": task.handle}

    def show(self, given: Mapping[str, Any], _url: str) -> dict[str, Any]:
        """ListMessageMoveTasks: the latest first, one unless more are asked for."""
        source_arn, most = str(given.get("SourceArn", "")), int(given.get("MaxResults", 1))
        _existing(source_arn, "SourceArn")
        if not 1 <= most <= MOST_LISTED:
            raise _error(
                "InvalidParameterValue",
                f"Value {most} for parameter MaxResults is invalid. Reason: Must be between 1 and {MOST_LISTED}.",
            )
        return {"Results": [one.told() for one in self._of(source_arn)[:most]]}

    def cancel(self, given: Mapping[str, Any], _url: str) -> dict[str, Any]:
        """CancelMessageMoveTask: what was moved stays where it is."""
        task = next((one for one in self._tasks if one.handle == given.get("TaskHandle")), None)
        if task is None:
            raise _error("ResourceNotFoundException", "Task does not exist.", 404)
        if task.status != "RUNNING":
            raise _error("UnsupportedOperation", "Only active tasks can be cancelled.")
        task.status = "CANCELLING"
        return {"ApproximateNumberOfMessagesMoved": task.moved}

    def source_of(self, handle: str) -> str | None:
        """The queue of a task."""
        return next((one.source_arn for one in self._tasks if one.handle == handle), None)

    def _of(self, source_arn: str) -> list[Task]:
        return [one for one in reversed(self._tasks) if one.source_arn == source_arn]

    async def _run(self, task: Task) -> None:
        while task.status == "RUNNING":
            for _ in range(1 if task.rate else AT_ONCE):
                if task.status == "RUNNING":
                    _move_one(task)
            await asyncio.sleep(1 / task.rate if task.rate else 0)
        if task.status == "CANCELLING":
            task.status = "CANCELLED"


def _move_one(task: Task) -> None:
    """Move the message that has waited longest; the task ends where there is none, or it has no way to go."""
    with original(SQS, "_queues_lock"):
        by_arn = original(SQS, "_queue_by_arn")
        source = by_arn(task.source_arn)
        if source is None:
            _fail(task, "AWS.SimpleQueueService.NonExistentQueue")
            return
        now = time.time()
        message = next((one for one in source["messages"] if one.get("visible_at", 0) <= now), None)
        if message is None:
            task.status = "COMPLETED"
            return
        original(SQS, "_ensure_msg_fields")(message)
        back_to = task.destination_arn or message["sys"].get("DeadLetterQueueSourceArn")
        if back_to is None:
            _fail(task, "CouldNotDetermineMessageSource")
            return
        destination = by_arn(back_to)
        if destination is None:
            _fail(task, "AWS.SimpleQueueService.NonExistentQueue")
            return
        destination["messages"].append(
            {
                **message,
                "id": original(SQS, "new_uuid")(),
                "receipt_handle": None,
                "sent_at": now,
                "visible_at": now + original(SQS, "queue_delay")(destination),
                "receive_count": 0,
                "first_receive_at": None,
                "sys": {
                    **{name: one for name, one in message["sys"].items() if name != "DeadLetterQueueSourceArn"},
                    "SentTimestamp": str(int(now * 1000)),
                },
            }
        )
        source["messages"].remove(message)
        task.moved += 1
    original(SQS, "esm_wake").set()


def _fail(task: Task, reason: str) -> None:
    task.status, task.failure_reason = "FAILED", reason


def _sources(arn: str) -> Iterator[dict[str, Any]]:
    """Queues whose redrive policy names this one."""
    for queue in original(SQS, "_queues").values():
        policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
        if policy.get("deadLetterTargetArn") == arn:
            yield queue


def _existing(arn: str, parameter: str) -> dict[str, Any]:
    queue: dict[str, Any] | None = original(SQS, "_queue_by_arn")(arn)
    if queue is None:
        why = f"The resource that you specified for the {parameter} parameter doesn't exist."
        raise _error("ResourceNotFoundException", why, 404)
    return queue


def _error(code: str, message: str, status: int = 400) -> Exception:
    made: Exception = original(SQS, "_Err")(code, message, status)
    return made
