"""SQS's own redrive, which stock MiniStack 1.5.33 answers with InvalidAction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.local_world import Roles, allowing, until

HIGHEST = 500


class Queues:
    """Work queues whose dead letters come to one queue, after one receive."""

    def __init__(self, sqs: Any, works: int = 1) -> None:
        self.sqs, name = sqs, uuid.uuid4().hex[:8]
        self.dead = sqs.create_queue(QueueName=f"dead-{name}")["QueueUrl"]
        policy = json.dumps({"deadLetterTargetArn": self.arn(self.dead), "maxReceiveCount": "1"})
        self.works = [
            sqs.create_queue(QueueName=f"work-{name}-{place}", Attributes={"RedrivePolicy": policy})["QueueUrl"]
            for place in range(works)
        ]

    def arn(self, url: str) -> str:
        return str(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])

    def bury(self, count: int, work: int = 0, **message: Any) -> None:
        """Let ``count`` messages fail."""
        url = self.works[work]
        for number in range(count):
            self.sqs.send_message(QueueUrl=url, MessageBody=f"{work}.{number}", **message)
        for _ in range(count):
            self.sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
        self.sqs.receive_message(QueueUrl=url)
        assert self.depth(url) == 0

    def depth(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(
            int(one) for one in self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()
        )

    def start(self, **given: Any) -> str:
        return str(self.sqs.start_message_move_task(SourceArn=self.arn(self.dead), **given)["TaskHandle"])

    def tasks(self, most: int = 10) -> list[dict[str, Any]]:
        return list(self.sqs.list_message_move_tasks(SourceArn=self.arn(self.dead), MaxResults=most)["Results"])

    def ended(self) -> dict[str, Any]:
        assert until(lambda: self.tasks()[0]["Status"] not in ("RUNNING", "CANCELLING"))
        return self.tasks()[0]


@pytest.fixture
def queues(client: Callable[[str], Any]) -> Queues:
    return Queues(client("sqs"), works=2)


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_each_message_goes_back_to_where_it_came_from_as_a_new_one(queues: Queues) -> None:
    group = {"MessageGroupId": "air/flights"}
    attribute = {"MessageAttributes": {"kind": {"DataType": "String", "StringValue": "x"}}}
    queues.bury(12, work=0, **group, **attribute)
    queues.bury(3, work=1)
    assert queues.depth(queues.dead) == 15
    queues.start()
    task = queues.ended()
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"], task["ApproximateNumberOfMessagesToMove"]) == (
        "COMPLETED",
        15,
        15,
    )
    assert [queues.depth(url) for url in (queues.dead, *queues.works)] == [0, 12, 3]
    [back] = queues.sqs.receive_message(
        QueueUrl=queues.works[0], MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"]
    )["Messages"]
    assert back["Body"] == "0.0"
    assert back["Attributes"]["MessageGroupId"] == "air/flights"
    assert back["Attributes"]["ApproximateReceiveCount"] == "1", "it has all its tries again"
    assert "DeadLetterQueueSourceArn" not in back["Attributes"]
    assert back["MessageAttributes"]["kind"]["StringValue"] == "x"


def test_nothing_in_the_queue_is_a_task_that_moved_nothing(queues: Queues) -> None:
    queues.start()
    assert (queues.ended()["Status"], queues.ended()["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 0)


def test_a_message_that_is_in_flight_is_left_to_who_has_it(queues: Queues) -> None:
    queues.bury(2)
    queues.sqs.receive_message(QueueUrl=queues.dead, VisibilityTimeout=60)
    queues.start()
    assert queues.ended()["ApproximateNumberOfMessagesMoved"] == 1
    assert (queues.depth(queues.dead), queues.depth(queues.works[0])) == (1, 1)


def test_a_destination_of_ones_own(queues: Queues) -> None:
    queues.bury(2)
    queues.start(DestinationArn=queues.arn(queues.works[1]))
    assert queues.ended()["DestinationArn"] == queues.arn(queues.works[1])
    assert [queues.depth(url) for url in queues.works] == [0, 2]


@pytest.mark.parametrize("cause", ["sent there", "its queue is gone"])
def test_what_cannot_go_back_stays_and_says_why(queues: Queues, cause: str) -> None:
    if cause == "sent there":
        queues.sqs.send_message(QueueUrl=queues.dead, MessageBody="by hand")
        reason = "CouldNotDetermineMessageSource"
    else:
        queues.bury(1)
        queues.sqs.delete_queue(QueueUrl=queues.works[0])
        reason = "AWS.SimpleQueueService.NonExistentQueue"
    queues.start()
    task = queues.ended()
    assert (task["Status"], task["FailureReason"]) == ("FAILED", reason)
    assert queues.depth(queues.dead) == 1


def test_one_task_at_a_time_which_can_be_cancelled_and_started_again(queues: Queues) -> None:
    queues.bury(6)
    handle = queues.start(MaxNumberOfMessagesPerSecond=1)
    assert until(lambda: queues.tasks()[0]["ApproximateNumberOfMessagesMoved"])
    running = queues.tasks()[0]
    assert (running["TaskHandle"], running["MaxNumberOfMessagesPerSecond"]) == (handle, 1)
    assert refusal(queues.start)[0] == "InvalidParameterValue"
    moved = queues.sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    assert 1 <= moved < 6
    cancelled = queues.ended()
    assert cancelled["Status"] == "CANCELLED"
    assert "TaskHandle" not in cancelled
    assert queues.depth(queues.dead) + queues.depth(queues.works[0]) == 6, "each message is in one queue"
    queues.start()
    assert queues.ended()["Status"] == "COMPLETED"
    assert [one["Status"] for one in queues.tasks()] == ["COMPLETED", "CANCELLED"], "the newest first"
    assert len(queues.tasks(most=1)) == 1
    assert queues.depth(queues.works[0]) == 6
    assert refusal(lambda: queues.sqs.cancel_message_move_task(TaskHandle=handle))[0].endswith("UnsupportedOperation")


def test_what_sqs_refuses_is_refused(queues: Queues) -> None:
    sqs, nobody = queues.sqs, queues.arn(queues.dead) + "-nobody"
    no_dead_letters = lambda: sqs.start_message_move_task(SourceArn=queues.arn(queues.works[0]))  # noqa: E731
    assert refusal(no_dead_letters) == (
        "InvalidParameterValue",
        "Source queue must be configured as a Dead Letter Queue.",
    )
    assert refusal(lambda: sqs.start_message_move_task(SourceArn=nobody))[0] == "ResourceNotFoundException"
    assert refusal(lambda: queues.start(DestinationArn=nobody))[0] == "ResourceNotFoundException"
    assert refusal(lambda: queues.start(MaxNumberOfMessagesPerSecond=HIGHEST + 1))[0] == "InvalidParameterValue"
    assert refusal(lambda: sqs.list_message_move_tasks(SourceArn=nobody))[0] == "ResourceNotFoundException"
    assert refusal(lambda: queues.tasks(most=11))[0] == "InvalidParameterValue"
    assert refusal(lambda: sqs.cancel_message_move_task(TaskHandle="nobody's"))[0] == "ResourceNotFoundException"
    assert queues.tasks() == []


def test_the_queues_whose_dead_letters_these_are(queues: Queues) -> None:
    assert sorted(queues.sqs.list_dead_letter_source_queues(QueueUrl=queues.dead)["queueUrls"]) == queues.works
    assert queues.sqs.list_dead_letter_source_queues(QueueUrl=queues.works[0])["queueUrls"] == []


def test_iam_is_asked_about_the_queue(queues: Queues, roles: Roles) -> None:
    arn = queues.arn(queues.dead)
    mine = roles.client(roles.create(allowing("sqs:StartMessageMoveTask", resource=arn)), "sqs")
    mine.start_message_move_task(SourceArn=arn)
    other = roles.client(roles.create(allowing("sqs:StartMessageMoveTask", resource=arn + "-other")), "sqs")
    assert refusal(lambda: other.start_message_move_task(SourceArn=arn))[0].startswith("AccessDenied")
