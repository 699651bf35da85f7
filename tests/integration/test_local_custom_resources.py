"""Custom resources under IAM and TLS: the function's own `urllib` must trust the emulator to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.local_world import TEMPLATES, Stacks

TEMPLATE = (TEMPLATES / "custom_resource.yaml").read_text()
REASON = "the provider was told to fail"


def _asked(client: Callable[[str], Any], table: str) -> set[str]:
    return {item["id"]["S"] for item in client("dynamodb").scan(TableName=table)["Items"]}


def test_create_update_failed_update_and_delete(client: Callable[[str], Any], stacks: Stacks) -> None:
    created = stacks.create(TEMPLATE, Outcome="SUCCESS", Value="one")
    assert created["StackStatus"] == "CREATE_COMPLETE", created["Reasons"]
    assert created["Values"]["Echo"] == "ONE"
    name, table = created["StackName"], created["Values"]["TableName"]

    updated = stacks.update(TEMPLATE, name, Outcome="SUCCESS", Value="two")
    assert (updated["Values"]["Echo"], updated["Values"]["Id"]) == ("TWO", created["Values"]["Id"])

    failed = stacks.update(TEMPLATE, name, Outcome="FAILED", Value="three")
    assert failed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert failed["Reasons"] == [REASON]
    assert failed["Values"]["Echo"] == "TWO"

    assert stacks.delete(name)["StackStatus"] == "DELETE_COMPLETE"
    assert _asked(client, table) == {"Create one", "Update two", "Update three", "Delete two"}


def test_a_creation_that_fails_is_rolled_back_with_its_reason(stacks: Stacks) -> None:
    failed = stacks.create(TEMPLATE, Outcome="FAILED", Value="never")
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    assert failed["Reasons"] == [REASON]
