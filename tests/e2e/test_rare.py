"""What happens seldom in a lake, once each: what comes twice, fails, is full or is handed over, with IAM enforced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lake import events, routing, waiting
from tarn.lake import Lake
from tests.e2e import test_registration as registrations
from tests.e2e.lake_world import Demo, batches_of, end_of, stage, wait_for


def landed(demo: Demo, dataset: str) -> dict[str, Any]:
    """The row of a dataset's raw object that the demo put and published."""
    bucket = demo.lake.contract.foundations("raw-bucket/name")
    found = demo.session.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"air/{dataset}/")["Contents"]
    rows = [demo.lake.object_row(f"s3://{bucket}/{one['Key']}") or {} for one in found]
    return next(row for row in rows if row["state"] == "STAGED")


def settled(demo: Demo, queue_url: str, body: Any) -> None:
    """Send a message, and wait until it has gone its way."""
    sqs = demo.session.client("sqs")
    sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(body))
    wait_for(lambda: waiting.depth(sqs, queue_url) == waiting.Depth(0, 0) or None, f"{queue_url} is not empty")


def test_an_event_that_comes_again_changes_nothing(demo: Demo) -> None:
    row = landed(demo, "airports")
    settled(demo, demo.lake.contract.foundations("ingest-queue/url"), events.notification(row))
    assert demo.lake.object_row(row["id"]) == row


@pytest.mark.parametrize("dataset", ["airports", "planes"])
def test_a_message_without_a_version_stages_the_same_again(demo: Demo, dataset: str) -> None:
    """As a bucket that keeps no versions sends them: what is there is read, and the stage key has the same bytes."""
    row = landed(demo, dataset)
    before = demo.lake.object_row(row["staged_id"]) or {}
    body = routing.message("m", row).body
    assert isinstance(body, dict)
    settled(demo, demo.lake.contract.pipeline("air", "main", "queue/url"), body | {"version_id": None})
    assert demo.lake.object_row(row["id"]) == row
    after = demo.lake.object_row(row["staged_id"]) or {}
    assert after["version_id"] != before["version_id"]
    assert after | {"version_id": before["version_id"]} == before


def test_a_run_that_fails_is_left_with_the_dead_letters(demo: Demo) -> None:
    sqs, contract = demo.session.client("sqs"), demo.lake.contract
    dead = contract.pipeline("air", "main", "start-batch-dead-letter-queue/url")
    told = {"team": "sky", "dataset": "weather"}
    demo.session.client("lambda").invoke(
        FunctionName=contract.pipeline("air", "main", "start-batch/arn"),
        InvocationType="Event",
        Payload=json.dumps(told),
    )
    try:
        wait_for(lambda: waiting.depth(sqs, dead).visible or None, "the run is not among the dead letters")
        (message,) = sqs.receive_message(QueueUrl=dead)["Messages"]
        assert json.loads(message["Body"])["requestPayload"] == told
    finally:
        sqs.purge_queue(QueueUrl=dead)


def test_a_full_batch_is_made_at_once_and_its_table_gets_the_columns_that_it_lacks(demo: Demo, tmp_path: Path) -> None:
    glue, database = demo.session.client("glue"), demo.lake.contract.team("air", "database/name")
    like = glue.get_table(DatabaseName=database, Name="airlines")["Table"]
    storage = like["StorageDescriptor"]
    storage |= {"Location": storage["Location"].replace("airlines", "rapid"), "Columns": storage["Columns"][:1]}
    narrow = {"Name": "rapid", "PartitionKeys": like["PartitionKeys"], "StorageDescriptor": storage}
    glue.create_table(DatabaseName=database, TableInput=narrow)
    prefix = registrations.upload(demo, tmp_path / "rapid", registrations.GOOD_SQL, registrations.GOOD_RULES)
    given = registrations.parameters(demo, "rapid", prefix, MaxItems="1", Rules="")
    assert registrations.deploy(demo, "rapid", given) is None
    lake = replace(demo, lake=Lake("local", demo.session))  # which knows the new dataset
    file = tmp_path / "carriers.csv"
    file.write_text("carrier,name\nYY,Some Airline Inc.\n")
    stage(lake, "rapid", file, "carriers.csv")
    (batch,) = wait_for(lambda: batches_of(lake, "rapid") or None, "nobody woke start_batch")
    ended = end_of(lake, batch)
    assert (ended["state"], ended["objects"]) == ("PUBLISHED", 1)
    columns = glue.get_table(DatabaseName=database, Name="rapid")["Table"]["StorageDescriptor"]["Columns"]
    assert [one["Name"] for one in columns] == ["carrier", "name"]
    registrations.delete(demo, "rapid")


@pytest.mark.slow  # it waits until nobody believes the former registration
def test_a_dataset_is_handed_over_to_a_nested_stack_with_what_waits(demo: Demo) -> None:
    sqs, s3, cloudformation = (demo.session.client(name) for name in ("sqs", "s3", "cloudformation"))
    key, tags = {"KmsMasterKeyId": demo.lake.contract.team("air", "key/arn")}, {"tarn:team": "air"}
    former, new = (
        sqs.create_queue(QueueName=f"tarn-local-air-moved-{name}", Attributes=key, tags=tags)["QueueUrl"]
        for name in ("former", "new")
    )
    bucket = registrations.bucket(demo)
    patient = {"MinItems": "10", "MaxItems": "10", "MaxWaitMinutes": "14400", "LightTransform": "", "Rules": ""}
    given = registrations.parameters(demo, "moved", "assets/none/moved/", **patient)
    assert registrations.deploy(demo, "moved", [], registrations.registration_alone(given, former)) is None
    sqs.send_message(QueueUrl=former, MessageBody="it waits")

    s3.put_object(Bucket=bucket, Key="packages/moved", Body=registrations.registration_alone(given, new))
    url = f"https://s3.{demo.session.region_name}.amazonaws.com/{bucket}/packages/moved"
    nested = {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": url}}
    template = json.dumps({"Resources": {"DatasetStack": nested}})
    cloudformation.update_stack(StackName="moved", TemplateBody=template, Capabilities=["CAPABILITY_AUTO_EXPAND"])
    waiter = cloudformation.get_waiter("stack_update_complete")
    waiter.wait(StackName="moved", WaiterConfig={"Delay": 1, "MaxAttempts": 300})

    row = registrations.registration(demo, "moved")
    assert row is not None
    assert (row["queue_url"], "former" in row) == (new, False)
    assert ":stack/moved-DatasetStack-" in row["owner"]
    wait_for(lambda: sqs.receive_message(QueueUrl=new).get("Messages"), "what waited was not moved")
    assert waiting.depth(sqs, former) == waiting.Depth(0, 0)
    registrations.delete(demo, "moved")
    assert registrations.registration(demo, "moved") is None
    for queue in (former, new):
        sqs.delete_queue(QueueUrl=queue)
