"""What the registrar refuses to delete, and how a dataset is handed over to a nested stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from lake import clock, handover
from tests.integration.tables import lake, receive_all
from tests.integration.test_register_resource import OTHER, PIPELINE, STACK, Registrar, registrar
from tests.unit.test_registration import GIVEN

__all__ = ["lake", "registrar"]

TEAM = {"ServiceToken": "arn", "Team": "air"}
NESTED = STACK.replace("tarn-test/", "tarn-test-DatasetStack-1A2B3C4D5E6F/")


def team(registrar: Registrar, kind: str, **more: Any) -> dict[str, Any]:
    return registrar.request(kind, TEAM, resource_type="Custom::TarnTeam", **more)


def pipeline(registrar: Registrar, kind: str, **more: Any) -> dict[str, Any]:
    return registrar.request(kind, PIPELINE, resource_type="Custom::TarnPipeline", **more)


def test_a_pipeline_is_not_deleted_while_datasets_are_registered_in_it(registrar: Registrar) -> None:
    pipeline(registrar, "Create")
    registrar.request("Create")
    other = {**GIVEN, "Dataset": "trains", "Pipeline": "other"}
    registrar.request("Create", other)
    answer = pipeline(registrar, "Delete", physical_id="air/pipeline#main")
    assert (answer["Status"], answer["Reason"]) == (
        "FAILED",
        "pipeline main of team air is in use by dataset flights: remove their stacks first, then this one again",
    )
    assert registrar.row("pipeline#main") is not None
    registrar.request("Delete", physical_id="air/flights")
    assert pipeline(registrar, "Delete", physical_id="air/pipeline#main")["Status"] == "SUCCESS"
    assert registrar.row("pipeline#main") is None


def test_a_team_is_not_deleted_while_anything_stands_on_it(registrar: Registrar) -> None:
    created = team(registrar, "Create")
    assert (created["Status"], created["PhysicalResourceId"]) == ("SUCCESS", "air/team#")
    row = registrar.row("team#")
    assert row is not None
    assert (row["kind"], row["owner"], row["schema"]) == ("team", f"{STACK}/Registration", 1)
    pipeline(registrar, "Create")
    registrar.request("Create")
    refused = team(registrar, "Delete", physical_id="air/team#")
    assert refused["Status"] == "FAILED"
    assert refused["Reason"].startswith("team air is in use by dataset flights, pipeline main: ")
    registrar.request("Delete", physical_id="air/flights")
    assert team(registrar, "Delete", physical_id="air/team#")["Status"] == "FAILED"
    pipeline(registrar, "Delete", physical_id="air/pipeline#main")
    assert team(registrar, "Delete", physical_id="air/team#")["Status"] == "SUCCESS"
    assert registrar.lake.datasets.scan()["Count"] == 0


def test_what_is_in_the_way_is_counted_where_it_cannot_all_be_named(registrar: Registrar) -> None:
    team(registrar, "Create")
    for number in range(120):
        row = {"team": "air", "dataset": f"d{number:03}", "kind": "dataset", "pipeline": "main"}
        registrar.lake.datasets.put_item(Item=row)
    reason = team(registrar, "Delete", physical_id="air/team#")["Reason"]
    assert "dataset d019 and 100 more" in reason


def test_a_team_that_another_stack_has_is_neither_taken_nor_deleted(registrar: Registrar) -> None:
    team(registrar, "Create")
    registrar.request("Create")
    assert team(registrar, "Create", stack=OTHER)["Status"] == "FAILED"
    assert team(registrar, "Delete", physical_id="never-made", stack=OTHER)["Status"] == "SUCCESS"
    assert registrar.row("team#") is not None


@pytest.mark.parametrize("physical_id", ["never-made", "tarn-test-Registration-1A2B3C4D5E6F"])
def test_a_creation_whose_answer_was_lost_leaves_no_row_in_the_way(registrar: Registrar, physical_id: str) -> None:
    """CloudFormation rolls it back under an id that is not ours; the pipeline's own roll-back must not be refused."""
    pipeline(registrar, "Create")
    registrar.request("Create")
    assert registrar.request("Delete", physical_id=physical_id)["Status"] == "SUCCESS"
    assert registrar.row() is None
    assert pipeline(registrar, "Delete", physical_id="air/pipeline#main")["Status"] == "SUCCESS"


class Clock:
    """Time that passes two seconds a look, and what happens forty seconds from now."""

    def __init__(self) -> None:
        self.moment = clock.now()
        self.happens_at = self.moment + timedelta(seconds=40)
        self.happens: Callable[[], object] = lambda: None

    def __call__(self) -> datetime:
        before, self.moment = self.moment, self.moment + timedelta(seconds=2)
        if before < self.happens_at <= self.moment:
            self.happens()
        return self.moment


@pytest.fixture
def queues(registrar: Registrar, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The queues of the former and of the new stack; three messages wait in the former."""
    sqs = registrar.lake.sqs
    former, new = (registrar.queue(name, "air") for name in ("former", "new"))
    for number in range(3):
        sqs.send_message(QueueUrl=former, MessageBody=json.dumps({"schema": 1, "id": f"s3://b/{number}"}))
    monkeypatch.setattr(handover, "POLL_SECONDS", 0)
    monkeypatch.setattr(registrar.module, "MOVER", handover.Mover(sqs, Clock()))
    return former, new


def test_a_nested_stack_takes_a_dataset_over_with_all_that_waits(registrar: Registrar, queues: tuple[str, str]) -> None:
    former, new = queues
    registrar.request("Create", {**GIVEN, "QueueUrl": former})
    for _ in range(2):  # a request may come twice
        assert registrar.request("Create", {**GIVEN, "QueueUrl": new}, stack=NESTED)["Status"] == "SUCCESS"
    row = registrar.row()
    assert row is not None
    assert (row["owner"], row["queue_url"], row["former"]["queue_url"]) == (f"{NESTED}/Registration", new, former)

    deleted = registrar.request("Delete", {**GIVEN, "QueueUrl": former}, physical_id="air/flights")
    assert deleted["Status"] == "SUCCESS"
    row = registrar.row()
    assert row is not None
    assert (row["owner"], "former" in row, "handed_over_at" in row) == (f"{NESTED}/Registration", False, False)
    assert sorted(body["id"] for body in receive_all(registrar.lake.sqs, new)) == [f"s3://b/{n}" for n in range(3)]
    assert receive_all(registrar.lake.sqs, former) == []


def test_a_message_that_is_no_json_is_handed_over_as_it_is(registrar: Registrar, queues: tuple[str, str]) -> None:
    former, new = queues
    sqs = registrar.lake.sqs
    sqs.purge_queue(QueueUrl=former)
    sqs.send_message(QueueUrl=former, MessageBody="{no json")
    registrar.request("Create", {**GIVEN, "QueueUrl": former})
    registrar.request("Create", {**GIVEN, "QueueUrl": new}, stack=NESTED)
    deleted = registrar.request("Delete", {**GIVEN, "QueueUrl": former}, physical_id="air/flights")
    assert deleted["Status"] == "SUCCESS"
    assert [one["Body"] for one in sqs.receive_message(QueueUrl=new)["Messages"]] == ["{no json"]


def test_what_a_function_sends_by_the_former_registration_is_moved_too(
    registrar: Registrar, queues: tuple[str, str]
) -> None:
    former, new = queues
    registrar.request("Create", {**GIVEN, "QueueUrl": former})
    registrar.request("Create", {**GIVEN, "QueueUrl": new}, stack=NESTED)
    late = json.dumps({"schema": 1, "id": "s3://b/late"})
    registrar.module.MOVER.now.happens = lambda: registrar.lake.sqs.send_message(QueueUrl=former, MessageBody=late)
    registrar.request("Delete", {**GIVEN, "QueueUrl": former}, physical_id="air/flights")
    assert "s3://b/late" in {body["id"] for body in receive_all(registrar.lake.sqs, new)}


def test_a_handover_that_is_rolled_back_gives_the_dataset_back(registrar: Registrar, queues: tuple[str, str]) -> None:
    former, new = queues
    registrar.request("Create", {**GIVEN, "QueueUrl": former})
    before = registrar.row()
    registrar.request("Create", {**GIVEN, "QueueUrl": new}, stack=NESTED)
    registrar.lake.sqs.send_message(QueueUrl=new, MessageBody=json.dumps({"schema": 1, "id": "s3://b/late"}))
    assert registrar.request("Delete", physical_id="air/flights", stack=NESTED)["Status"] == "SUCCESS"
    assert registrar.row() == before
    waiting = sorted(body["id"] for body in receive_all(registrar.lake.sqs, former))
    assert waiting == ["s3://b/0", "s3://b/1", "s3://b/2", "s3://b/late"]


def test_a_handover_waits_for_messages_in_flight_and_fails_rather_than_lose_them(
    registrar: Registrar, queues: tuple[str, str]
) -> None:
    former, new = queues
    registrar.request("Create", {**GIVEN, "QueueUrl": former})
    registrar.request("Create", {**GIVEN, "QueueUrl": new}, stack=NESTED)
    registrar.lake.sqs.receive_message(QueueUrl=former, VisibilityTimeout=600)
    answer = registrar.request("Delete", {**GIVEN, "QueueUrl": former}, physical_id="air/flights")
    assert answer["Status"] == "FAILED"
    assert "still in flight" in answer["Reason"]
    row = registrar.row()
    assert row is not None
    assert "former" in row, "the next try finds nothing to complete"


@pytest.mark.parametrize(
    "stack",
    [
        OTHER,
        STACK.replace("tarn-test/", "tarn-test-other/"),
        STACK.replace("tarn-test/", "tarn-testing-DatasetStack-1A2B3C4D5E6F/"),
        NESTED.replace("123456789012", "210987654321"),
    ],
)
def test_a_stack_that_is_not_nested_in_the_owner_takes_nothing_over(registrar: Registrar, stack: str) -> None:
    registrar.request("Create")
    before = registrar.row()
    assert registrar.request("Create", stack=stack)["Status"] == "FAILED"
    assert registrar.row() == before


def test_a_pipeline_is_not_handed_over(registrar: Registrar) -> None:
    pipeline(registrar, "Create")
    assert pipeline(registrar, "Create", stack=NESTED)["Status"] == "FAILED"
