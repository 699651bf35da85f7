"""The registrar against moto: what it writes, what it refuses, and that it always answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lake import custom_resource, rows
from tests.integration.tables import FakeContext, Lake, lake, load_handler
from tests.unit.test_registration import GIVEN

__all__ = ["lake"]

STACK = "arn:aws:cloudformation:eu-west-1:123456789012:stack/tarn-test/00000000-0000-0000-0000-000000000001"
OTHER = STACK.replace("0001", "0002")
PIPELINE = {
    "ServiceToken": "arn",
    "ServiceTimeout": "120",
    "Team": "air",
    "Pipeline": "main",
    "QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/main",
}


class Registrar:
    """The function, and what CloudFormation was answered."""

    def __init__(self, lake: Lake, patch: pytest.MonkeyPatch) -> None:
        self.lake = lake
        self.sent: list[dict[str, Any]] = []
        self.module = load_handler(
            "team.register_resource", {"DATASETS_TABLE_NAME": lake.datasets.name, "TEAM_NAME": "air"}
        )
        patch.setattr(custom_resource.HTTP, "request", self._request)
        for name in ("main", "tarn-test-air-flights"):
            self.queue(name, "air")

    def _request(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> None:
        assert (method, url, headers) == ("PUT", "https://example.com/answer?signed", {"Content-Type": ""})
        assert len(body) <= 4096
        self.sent.append(json.loads(body))

    def queue(self, name: str, team: str | None) -> str:
        """URL of a queue that carries a team's tag, or none."""
        tags = {"tarn:team": team} if team else {}
        return self.lake.sqs.create_queue(QueueName=name, tags=tags)["QueueUrl"]

    def request(
        self,
        kind: str,
        properties: dict[str, Any] | None = None,
        *,
        physical_id: str | None = None,
        stack: str = STACK,
        resource_type: str = "Custom::TarnDataset",
    ) -> dict[str, Any]:
        """What CloudFormation is answered."""
        event = {
            "RequestType": kind,
            "ResponseURL": "https://example.com/answer?signed",
            "StackId": stack,
            "RequestId": "r1",
            "LogicalResourceId": "Registration",
            "ResourceType": resource_type,
            "ResourceProperties": dict(GIVEN) if properties is None else properties,
        }
        if physical_id is not None:
            event["PhysicalResourceId"] = physical_id
        answered = self.module.handler(event, FakeContext())
        assert answered == self.sent[-1]
        assert (answered["StackId"], answered["RequestId"], answered["LogicalResourceId"]) == (
            stack,
            "r1",
            "Registration",
        )
        return dict(answered)

    def row(self, dataset: str = "flights") -> dict[str, Any] | None:
        """The row of a registration."""
        row = self.lake.datasets.get_item(Key={"team": "air", "dataset": dataset}).get("Item")
        return None if row is None else dict(row)

    def upload(self, name: str, text: str) -> None:
        """An asset of the dataset."""
        self.lake.s3.put_object(Bucket=self.lake.asset_bucket, Key=f"{GIVEN['AssetPrefix']}{name}", Body=text.encode())


@pytest.fixture
def registrar(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Registrar:
    registrar = Registrar(lake, monkeypatch)
    registrar.upload("light.sql", "SELECT year, tailnum FROM source")
    return registrar


def test_a_dataset_is_registered_with_its_owner_and_nothing_else_happens(registrar: Registrar) -> None:
    answer = registrar.request("Create")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "air/flights")
    row = registrar.row()
    assert row is not None
    assert (row["kind"], row["owner"], row["schema"]) == ("dataset", f"{STACK}/Registration", 1)
    assert (row["min_items"], row["format"]["header"], row["columns"][0]["required"]) == (3, True, True)
    assert "rules" not in row
    assert registrar.lake.datasets.scan()["Count"] == 1


def test_a_pipeline_is_registered(registrar: Registrar) -> None:
    answer = registrar.request("Create", PIPELINE, resource_type="Custom::TarnPipeline")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "air/pipeline#main")
    assert registrar.row("pipeline#main") == {
        "team": "air",
        "dataset": "pipeline#main",
        "schema": 1,
        "kind": "pipeline",
        "pipeline": "main",
        "queue_url": PIPELINE["QueueUrl"],
        "engines": ["glue"],
        "owner": f"{STACK}/Registration",
    }


def test_another_type_of_resource_is_refused(registrar: Registrar) -> None:
    answer = registrar.request("Create", resource_type="Custom::TarnLake")
    assert answer["Status"] == "FAILED"
    assert "must be Custom::TarnDataset, Custom::TarnPipeline or Custom::TarnTeam" in answer["Reason"]


def test_an_update_replaces_the_row_and_leaves_the_ticks_alone(registrar: Registrar) -> None:
    registrar.lake.datasets.put_item(Item={"team": "air", "dataset": "tick#flights", "waiting_since": "x"})
    registrar.request("Create")
    answer = registrar.request("Update", {**GIVEN, "MinItems": "7", "LightTransform": ""}, physical_id="air/flights")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "air/flights")
    row = registrar.row()
    assert row is not None
    assert row["min_items"] == 7
    assert "light_transform" not in row
    assert registrar.row("tick#flights") is not None


def test_another_name_is_another_resource_whose_predecessor_is_deleted(registrar: Registrar) -> None:
    registrar.request("Create")
    answer = registrar.request("Update", {**GIVEN, "Dataset": "departures"}, physical_id="air/flights")
    assert answer["PhysicalResourceId"] == "air/departures"
    registrar.request("Delete", physical_id="air/flights")
    assert registrar.row() is None
    assert registrar.row("departures") is not None


def test_a_refused_update_keeps_the_row_and_the_id(registrar: Registrar) -> None:
    registrar.request("Create")
    before = registrar.row()
    answer = registrar.request("Update", {**GIVEN, "MinItems": "0"}, physical_id="air/flights")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "air/flights")
    assert registrar.row() == before


def test_a_name_clash_fails_and_its_roll_back_leaves_the_owners_row(registrar: Registrar) -> None:
    registrar.request("Create")
    answer = registrar.request("Create", stack=OTHER)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == f"dataset air/flights is registered by {STACK}/Registration: choose another name"
    registrar.request("Delete", physical_id=answer["PhysicalResourceId"], stack=OTHER)
    row = registrar.row()
    assert row is not None
    assert row["owner"] == f"{STACK}/Registration"
    registrar.request("Delete", physical_id="air/flights", stack=OTHER)
    assert registrar.row() == row


def test_a_deletion_deletes_and_can_be_repeated(registrar: Registrar) -> None:
    registrar.request("Create")
    for _ in range(2):
        assert registrar.request("Delete", physical_id="air/flights")["Status"] == "SUCCESS"
    assert registrar.row() is None


@pytest.mark.parametrize("physical_id", ["sea/flights", "air", "air/", "2026/11/23/[$LATEST]0123", ""])
def test_an_id_that_is_not_the_teams_deletes_nothing(registrar: Registrar, physical_id: str) -> None:
    registrar.lake.datasets.put_item(Item={"team": "sea", "dataset": "flights", "owner": f"{STACK}/Registration"})
    assert registrar.request("Delete", physical_id=physical_id)["Status"] == "SUCCESS"
    assert registrar.lake.datasets.scan()["Count"] == 1


def test_another_team_is_refused(registrar: Registrar) -> None:
    answer = registrar.request("Create", {**GIVEN, "Team": "sea"})
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Team: given 'sea'; must be 'air'")
    assert registrar.lake.datasets.scan()["Count"] == 0


@pytest.mark.parametrize("resource_type", ["Custom::TarnPipeline", "Custom::TarnDataset"])
@pytest.mark.parametrize(
    ("team", "said"),
    [("sky", "carries tarn:team=sky"), (None, "carries no tag tarn:team")],
    ids=["another's", "nobody's"],
)
def test_a_queue_that_is_not_the_teams_is_refused_and_the_row_stays(
    registrar: Registrar, resource_type: str, team: str | None, said: str
) -> None:
    properties, place = (
        (PIPELINE, "pipeline#main") if resource_type == "Custom::TarnPipeline" else (dict(GIVEN), "flights")
    )
    url = registrar.queue("theirs", team)
    refused = registrar.request("Create", properties | {"QueueUrl": url}, resource_type=resource_type)
    assert (refused["Status"], registrar.row(place)) == ("FAILED", None)
    assert refused["Reason"] == (
        f"QueueUrl: given {url!r}; {said}, and must be a queue of the team, with tarn:team=air"
    )
    registrar.request("Create", properties, resource_type=resource_type)
    row = registrar.row(place)
    assert row is not None
    physical_id = f"air/{place}"
    for stack in (STACK, OTHER):
        changed = registrar.request(
            "Update", properties | {"QueueUrl": url}, physical_id=physical_id, stack=stack, resource_type=resource_type
        )
        assert (changed["Status"], changed["PhysicalResourceId"]) == ("FAILED", physical_id)
        assert registrar.row(place) == row


def test_a_queue_that_is_not_there_is_refused(registrar: Registrar) -> None:
    gone = PIPELINE["QueueUrl"].replace("main", "gone")
    refused = registrar.request("Create", PIPELINE | {"QueueUrl": gone}, resource_type="Custom::TarnPipeline")
    assert "cannot be asked for its tags (AWS.SimpleQueueService.NonExistentQueue)" in refused["Reason"]


def test_a_wrong_registration_names_every_field(registrar: Registrar) -> None:
    answer = registrar.request("Create", {**GIVEN, "MinItems": "0", "OnMismatch": "drop"})
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].splitlines() == [
        "OnMismatch: given 'drop'; input should be 'quarantine' or 'null'",
        "MinItems: given '0'; input should be greater than or equal to 1",
    ]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", "light.sql: Parser Error: syntax error"),
        ("SELECT dep_delay FROM source", 'light.sql: Binder Error: Referenced column "dep_delay" not found'),
        ("DELETE FROM source", "light.sql: must be a single SELECT; it holds DELETE"),
    ],
)
def test_sql_that_cannot_run_is_refused(registrar: Registrar, sql: str, words: str) -> None:
    registrar.upload("light.sql", sql)
    answer = registrar.request("Create")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith(words)
    assert registrar.row() is None


def test_rules_that_cannot_be_judged_are_refused_with_place_and_remedy(registrar: Registrar) -> None:
    registrar.upload("rules.dqdl", 'Rules = [\n    RowCount > 0,\n    IsCompleet "year"\n]')
    answer = registrar.request("Create", {**GIVEN, "Rules": "rules.dqdl"})
    assert answer["Reason"] == (
        'rules.dqdl: line 3: rule IsCompleet "year": IsCompleet is not a rule type, and one unknown type fails '
        "the whole ruleset: write IsComplete"
    )


def test_a_heavy_transform_that_is_no_python_is_refused(registrar: Registrar) -> None:
    registrar.upload("heavy.py", "def transform(df):\n    return df.(\n")
    answer = registrar.request("Create", {**GIVEN, "HeavyTransform": "heavy.py"})
    assert answer["Reason"].startswith("heavy.py: line 2: ")


def test_a_file_that_is_not_there_is_named(registrar: Registrar) -> None:
    answer = registrar.request("Create", {**GIVEN, "Rules": "rules.dqdl", "HeavyTransform": "heavy.sql"})
    assert [line.split(": ")[0] for line in answer["Reason"].splitlines()] == ["heavy.sql", "rules.dqdl"]
    assert "upload it, or correct the name" in answer["Reason"]


def test_a_file_that_is_no_text_is_refused(registrar: Registrar) -> None:
    registrar.lake.s3.put_object(
        Bucket=registrar.lake.asset_bucket, Key=f"{GIVEN['AssetPrefix']}light.sql", Body=b"\xff\xfe\x00"
    )
    answer = registrar.request("Create")
    assert (answer["Status"], answer["Reason"][:11]) == ("FAILED", "light.sql: ")


def test_what_nobody_expected_is_answered_too(registrar: Registrar) -> None:
    registrar.lake.datasets.delete()
    answer = registrar.request("Create")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "never-made")
    assert "ResourceNotFoundException" in answer["Reason"]


def test_the_reason_is_cut_in_bytes(registrar: Registrar) -> None:
    answer = registrar.request("Create", {**GIVEN, **{f"Größe{n}": "ü" * 200 for n in range(60)}})
    assert answer["Status"] == "FAILED"
    assert len(answer["Reason"].encode()) <= 1000


# Engines, and datasets that wait for others


def test_an_engine_that_the_pipeline_lacks_is_refused_with_its_parameters(registrar: Registrar) -> None:
    registrar.request("Create", PIPELINE, resource_type="Custom::TarnPipeline")
    answer = registrar.request("Create", GIVEN | {"Engine": "fargate"})
    assert answer["Status"] == "FAILED"
    assert "Engine: given 'fargate'; pipeline main has glue" in answer["Reason"]
    assert "FargateSubnetIds, FargateSecurityGroupIds and FargateImageUri" in answer["Reason"]
    assert registrar.row() is None


def test_an_engine_that_the_pipeline_has_is_taken_and_stays_while_it_is_used(registrar: Registrar) -> None:
    has = PIPELINE | {"Engines": "glue,fargate"}
    registrar.request("Create", has, resource_type="Custom::TarnPipeline")
    assert registrar.request("Create", GIVEN | {"Engine": "fargate"})["Status"] == "SUCCESS"
    row = registrar.row()
    assert row is not None
    assert row["engine"] == "fargate"
    less = registrar.request("Update", PIPELINE, physical_id="air/pipeline#main", resource_type="Custom::TarnPipeline")
    assert less["Status"] == "FAILED"
    assert "pipeline main is to have glue, and dataset flights uses fargate" in less["Reason"]
    registrar.request("Update", GIVEN | {"Engine": "glue"}, physical_id="air/flights")
    less = registrar.request("Update", PIPELINE, physical_id="air/pipeline#main", resource_type="Custom::TarnPipeline")
    assert less["Status"] == "SUCCESS"


def test_a_pipeline_that_an_earlier_version_registered_has_glue(registrar: Registrar) -> None:
    registrar.request("Create", PIPELINE, resource_type="Custom::TarnPipeline")
    key = {"team": "air", "dataset": "pipeline#main"}
    registrar.lake.datasets.update_item(Key=key, UpdateExpression="REMOVE engines")
    assert "pipeline main has glue" in registrar.request("Create", GIVEN | {"Engine": "emr-step"})["Reason"]


def test_a_notebook_that_is_none_is_refused(registrar: Registrar) -> None:
    has = PIPELINE | {"Engines": "glue,sagemaker"}
    registrar.request("Create", has, resource_type="Custom::TarnPipeline")
    registrar.upload("heavy.ipynb", '{"nbformat": 4, "cells": []}')
    answer = registrar.request("Create", GIVEN | {"Engine": "sagemaker", "HeavyTransform": "heavy.ipynb"})
    assert "heavy.ipynb: has no cell of code" in answer["Reason"]


def test_datasets_that_wait_for_each_other_are_refused_with_the_circle(registrar: Registrar) -> None:
    for dataset, named in {"flights": "air/planes", "planes": "air/airlines"}.items():
        answer = registrar.request("Create", GIVEN | {"Dataset": dataset, "DependsOn": named})
        assert answer["Status"] == "SUCCESS", answer["Reason"]
    answer = registrar.request("Create", GIVEN | {"Dataset": "airlines", "DependsOn": "air/flights"})
    assert answer["Status"] == "FAILED"
    circle = answer["Reason"].rpartition("is a circle: ")[2].split(" -> ")
    assert circle[0] == circle[-1]
    assert set(circle) == {"air/flights", "air/planes", "air/airlines"}
    assert circle[circle.index("air/flights") + 1] == "air/planes", "each waits for the next"
    assert registrar.row("airlines") is None


@pytest.mark.parametrize("stood_before", [False, True])
def test_a_circle_that_is_closed_between_the_look_and_the_write_is_refused(
    registrar: Registrar, monkeypatch: pytest.MonkeyPatch, stood_before: bool
) -> None:
    if stood_before:
        registrar.request("Create", GIVEN | {"MinItems": "2"})
    before = registrar.row()
    put = rows.put

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(rows, "put", put)
        other = registrar.request("Create", GIVEN | {"Dataset": "planes", "DependsOn": "air/flights"})
        assert other["Status"] == "SUCCESS"
        put(*arguments)

    monkeypatch.setattr(rows, "put", late)
    kind, named = ("Update", "air/flights") if stood_before else ("Create", None)
    answer = registrar.request(kind, GIVEN | {"DependsOn": "air/planes"}, physical_id=named)
    assert answer["Status"] == "FAILED"
    assert "is a circle: air/" in answer["Reason"]
    assert registrar.row() == before
    assert registrar.row("planes") is not None


def test_a_dataset_may_change_for_whom_it_waits(registrar: Registrar) -> None:
    registrar.request("Create", GIVEN | {"DependsOn": "air/planes"})
    registrar.request("Update", GIVEN, physical_id="air/flights")
    assert registrar.request("Create", GIVEN | {"Dataset": "planes", "DependsOn": "air/flights"})["Status"] == "SUCCESS"
