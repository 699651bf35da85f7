"""What arrives while a queue's messages are taken out stays in the queue; stock MiniStack 1.5.33 loses it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, threading, time
from tarn.local.extension import queue_races
from tarn.local.settings import Settings
from ministack.services import s3, sqs
from pathlib import Path

if "{plug}":
    queue_races.install(Settings(Path("."), 1, "eu-west-1"))
url = sqs._act_create_queue({{"QueueName": "race"}}, "")["QueueUrl"]
queue = sqs._queues[url]
notified = threading.Thread(
    target=lambda: s3._deliver_event_to_sqs(queue["attributes"]["QueueArn"], {{"late": True}}, sqs.get_region())
)
sqs.queue_policy_allows = lambda *_: True

class Slow(list):
    def __iter__(self):
        yield from super().__iter__()
        if not notified.ident:
            notified.start()
            notified.join(1)

for number in range(3):
    sqs._act_send_message({{"QueueUrl": url, "MessageBody": str(number)}}, url)
received = sqs._receive_messages_for_esm(url, 10)
queue["messages"] = Slow(queue["messages"])
{take}
notified.join()
print([one["body"] for one in queue["messages"]])
"""
TAKES = {
    "a function's batch": "sqs._delete_messages_for_esm(url, {one['receipt_handle'] for one in received})",
    "one by one": "[sqs._act_delete_message({'QueueUrl': url, 'ReceiptHandle': one['receipt_handle']}, url)"
    " for one in received]",
}


def left(take: str, plug: str = "plugged") -> str:
    done = run(SCRIPT.format(plug=plug, take=TAKES[take]))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(script: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as what is plugged stays."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_what_arrives_while_a_functions_batch_is_deleted_stays() -> None:
    assert left("a function's batch") == """['{"late": true}']"""


def test_what_arrives_while_messages_are_deleted_stays() -> None:
    assert left("one by one") == """['{"late": true}']"""


def test_stock_loses_it() -> None:
    """Else the plug point is not needed any more."""
    assert left("a function's batch", plug="") == "[]"


def test_old_messages_are_looked_for_every_few_seconds_and_not_at_every_call() -> None:
    script = """
from pathlib import Path
from tarn.local.extension import queue_races
from tarn.local.settings import Settings
from ministack.services import sqs

queue_races.install(Settings(Path("."), 1, "eu-west-1"))
url = sqs._act_create_queue({"QueueName": "kept", "Attributes": {"MessageRetentionPeriod": "60"}}, "")["QueueUrl"]
queue = sqs._queues[url]

def left(seconds):
    queue["retention_looked_at"] = queue.get("retention_looked_at", 0) - seconds
    return sqs._act_get_queue_attributes({"QueueUrl": url}, url)["Attributes"]["ApproximateNumberOfMessages"]

def send_old():
    sqs._act_send_message({"QueueUrl": url, "MessageBody": "old"}, url)
    queue["messages"][-1]["sent_at"] -= 61

send_old()
first = left(0)
send_old()
print(first, left(0), left(10))
"""
    done = run(script)
    assert (done.stdout, done.stderr) == ("0 1 0\n", "")
