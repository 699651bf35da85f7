"""A deployment in words: what loses data is marked and comes first."""

from __future__ import annotations

import pytest

from tarn import changes
from tarn.changes import ADDED, CHANGED, MAY_BE_REPLACED, MAY_CHANGE, REMOVED, REPLACED, Change
from tarn.losses import QUEUE

TABLE = Change("Foundations/Catalog/ObjectsTable", "AWS::DynamoDB::Table", REPLACED, ("KeySchema",), keeps=True)
ROLE = Change("Air/Role", "AWS::IAM::Role", CHANGED, ("Policies",))


@pytest.mark.parametrize("verb", [REPLACED, MAY_BE_REPLACED, REMOVED])
@pytest.mark.parametrize("holder", ["AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Glue::Database"])
def test_a_holder_of_data_that_goes_loses_data_also_when_it_is_kept(holder: str, verb: str) -> None:
    assert Change("A", holder, verb, keeps=True).loses_data
    assert not Change("A", holder, CHANGED).loses_data
    assert not Change("A", "AWS::Lambda::Function", verb).loses_data


def test_a_queue_loses_data_when_it_has_messages() -> None:
    assert Change("A", QUEUE, REMOVED, holds="3 messages in it").loses_data
    assert not Change("A", QUEUE, REMOVED).loses_data
    assert "with 3 messages in it" in Change("A", QUEUE, REMOVED, holds="3 messages in it").effect()


def test_what_loses_data_comes_first_and_additions_last() -> None:
    bucket = Change("Z/Bucket", "AWS::S3::Bucket", REMOVED, keeps=False)
    function = Change("A/Function", "AWS::Lambda::Function", REMOVED)
    new = Change("A/New", "AWS::S3::Bucket", ADDED)
    listed = changes.as_text("tarn-dev", [new, ROLE, function, TABLE, bucket]).splitlines()
    assert listed == [
        "tarn-dev: 5 changes, 2 of them LOSING DATA",
        "  LOSES DATA  Z/Bucket (AWS::S3::Bucket): removed - the old one is deleted",
        "  LOSES DATA  Foundations/Catalog/ObjectsTable (AWS::DynamoDB::Table): "
        "replaced (KeySchema) - the old one stays, outside the stack",
        "  A/Function (AWS::Lambda::Function): removed",
        "  Air/Role (AWS::IAM::Role): changed (Policies)",
        "  A/New (AWS::S3::Bucket): added",
    ]


def test_what_only_refers_to_a_change_is_counted_and_no_change() -> None:
    text = changes.as_text("tarn-dev", [ROLE, Change("A/Rule", "AWS::Events::Rule", MAY_CHANGE)])
    assert text.splitlines()[0] == "tarn-dev: 1 change"
    assert text.splitlines()[-1] == "  and 1 that may change, because they refer to what does"


def test_an_approval_gets_a_table() -> None:
    text = changes.as_markdown("tarn-dev", [ROLE, TABLE], ["A note."])
    assert text.startswith("### tarn-dev: 2 changes, 1 of them LOSING DATA\n\nA note.\n")
    assert "| **LOSES DATA** | `Foundations/Catalog/ObjectsTable` |" in text.splitlines()[6]


def test_nothing_is_said_to_be_nothing() -> None:
    assert changes.as_text("tarn-dev", []) == "tarn-dev: nothing to change"
