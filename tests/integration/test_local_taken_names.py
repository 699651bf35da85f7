"""A stack that claims the name of another's queue fails; stock MiniStack 1.5.33 replaces and then deletes it."""

from __future__ import annotations

import json
import uuid

from tests.integration.local_world import Stacks


def test_a_queue_keeps_its_messages_when_another_stack_claims_its_name(stacks: Stacks) -> None:
    name, sqs = f"taken-{uuid.uuid4().hex[:8]}", stacks.client("sqs")
    queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}}
    template = json.dumps({"Resources": {"Queue": queue}})
    owner = stacks.create(template)
    assert owner["StackStatus"] == "CREATE_COMPLETE", owner["Reasons"]
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="kept")

    refused = stacks.create(template)
    assert refused["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "already exists" in refused["Reasons"][0]
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "kept"

    stacks.delete(refused["StackName"])
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    stacks.delete(owner["StackName"])
    again = stacks.create(template)
    assert again["StackStatus"] == "CREATE_COMPLETE", again["Reasons"]
