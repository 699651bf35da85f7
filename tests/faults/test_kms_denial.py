"""KMS denial: what needs the key waits, then is a dead letter, and goes on when the key is given back."""

from __future__ import annotations

import json

from tests.e2e.lake_world import wait_for
from tests.faults.standing import Standing

DENIAL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"}],
}


def test_a_transform_without_the_key_stages_nothing_and_loses_nothing(standing: Standing) -> None:
    queue = standing.lake.contract.pipeline("air", "main", "queue/url")
    dead = standing.lake.contract.pipeline("air", "main", "dead-letter-queue/url")
    iam = standing.session.client("iam")
    role = standing.function("pipeline.transform_objects")["Role"].rpartition("/")[2]
    iam.put_role_policy(RoleName=role, PolicyName="no-key", PolicyDocument=json.dumps(DENIAL))
    try:
        with standing.hasty(queue):
            identity = standing.put("without the key.csv")
            wait_for(lambda: standing.depth(dead) == 1 or None, "the denial did not end in the dead letters")
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="no-key")
    assert standing.row(identity)["state"] == "LANDED"
    assert standing.staged("without the key.csv") == []
    [letter] = standing.sqs.receive_message(QueueUrl=dead)["Messages"]
    standing.tell(letter["Body"], queue)
    standing.sqs.delete_message(QueueUrl=dead, ReceiptHandle=letter["ReceiptHandle"])
    standing.wait_for_state("STAGED", identity)
