"""Change sets as CloudFormation may answer them: in pages, failed, nested, with stacks that go."""

from __future__ import annotations

from typing import Any

import pytest

from tarn import previews, safeguards
from tarn.changes import ADDED, CHANGED, MAY_BE_REPLACED, MAY_CHANGE, REMOVED, REPLACED

STACK = "AWS::CloudFormation::Stack"


class CloudFormation:
    """Answers from change sets by id; the pages of a change set are a list."""

    def __init__(self, **change_sets: Any) -> None:
        self._change_sets = change_sets

    def describe_change_set(self, ChangeSetName: str, NextToken: str = "0") -> dict[str, Any]:  # noqa: N803
        found = self._change_sets[ChangeSetName]
        if isinstance(found, str):
            return {"Status": "FAILED", "StatusReason": found}
        page = int(NextToken)
        following = {"NextToken": str(page + 1)} if page + 1 < len(found) else {}
        return {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": one} for one in found[page]], **following}


def told(name: str, action: str = "Modify", kind: str = "AWS::SQS::Queue", **more: Any) -> dict[str, Any]:
    return {"LogicalResourceId": name, "Action": action, "ResourceType": kind, **more}


def leaves(**change_sets: Any) -> list[Any]:
    return list(previews._leaves(CloudFormation(**change_sets), "root", ()))  # type: ignore[arg-type]


def test_leaves_are_read_through_pages_and_levels() -> None:
    found = leaves(
        root=[[told("A", kind=STACK, ChangeSetId="a")], [told("Queue")]],
        a=[[told("B", kind=STACK, ChangeSetId="b")]],
        b=[[told("New", "Add")]],
    )
    assert [(one.path, one.verb) for one in found] == [("A/B/New", ADDED), ("Queue", CHANGED)]


@pytest.mark.parametrize(
    "reason",
    [
        "The submitted information didn't contain changes. Submit different information.",
        "No updates are to be performed.",
    ],
)
def test_a_change_set_without_changes_is_no_failure(reason: str) -> None:
    assert leaves(root=[[told("A", kind=STACK, ChangeSetId="a"), told("Queue")]], a=reason)[0].path == "Queue"
    assert leaves(root=reason) == []


def test_the_reason_of_a_nested_failure_is_its_own() -> None:
    root = "Nested change set arn:aws:a was not successfully created: Currently in FAILED."
    change_sets = {"root": root, "arn:aws:a": "Parameter Days failed to satisfy constraint"}
    with pytest.raises(previews.PreviewError, match="Parameter Days failed to satisfy constraint"):
        leaves(**change_sets)


@pytest.mark.parametrize(
    ("change", "verb", "keeps"),
    [
        (told("A", "Remove", PolicyAction="Retain"), REMOVED, True),
        (told("A", "Remove", PolicyAction="Delete"), REMOVED, False),
        (told("A", "Remove"), REMOVED, None),
        (told("A", Replacement="True", PolicyAction="ReplaceAndRetain"), REPLACED, True),
        (told("A", Replacement="True", PolicyAction="ReplaceAndDelete"), REPLACED, False),
        (told("A", Replacement="Conditional"), MAY_BE_REPLACED, None),
        (told("A", Replacement="False"), CHANGED, None),
        (
            told("A", Replacement="False", Details=[{"Target": {"Name": "Url"}, "Evaluation": "Dynamic"}]),
            MAY_CHANGE,
            None,
        ),
        (told("A", "Import"), ADDED, None),
    ],
)
def test_each_action_has_its_word(change: dict[str, Any], verb: str, keeps: bool | None) -> None:
    [found] = leaves(root=[[change]])
    assert (found.verb, found.keeps) == (verb, keeps)


def test_everything_in_a_nested_stack_that_goes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change set says of it no more than that it goes."""
    resources = ({"LogicalResourceId": "Table", "ResourceType": "AWS::DynamoDB::Table", "PhysicalResourceId": "t"},)
    nested = safeguards.NestedStack(("A", "Catalog"), "id", resources)
    monkeypatch.setattr(safeguards, "tree", lambda *_: iter([nested]))
    monkeypatch.setattr(previews, "_resources", lambda *_: {"Table": {"DeletionPolicy": "RetainExceptOnCreate"}})
    [found] = leaves(root=[[told("A", "Remove", STACK, PhysicalResourceId="id")]])
    assert (found.path, found.verb, found.keeps, found.loses_data) == ("A/Catalog/Table", REMOVED, True, True)
