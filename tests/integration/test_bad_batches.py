"""Messages that nobody should have sent to a dataset's queue, and rows of staged objects and batches that were edited.

Each ends in a named state with a reason, never in a loop, and the others of its batch go on.
"""

from __future__ import annotations

from typing import Any

import pytest

from lake import batches, executions
from lake.batches import Batch, State
from tests.integration.test_bad_input import NOT_JSON, edit
from tests.integration.test_start_batch import NOON, TIMEOUT, Site, shared, site

__all__ = ["shared", "site"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": "many"}, "none that can be claimed"),
        ({"rows": {"a"}}, "none that can be claimed"),
        ({"version_id": 7}, "none that can be claimed"),
        ({"state": None}, "none that can be claimed"),
        ({"state": "FOO"}, "none that can be claimed"),
        ({"sequencer": 7}, "its row has sequencer"),
        ({"batch_id": "nobody's"}, "batch nobody's has no row"),
    ],
    ids=["size", "rows", "version", "no state", "state", "sequencer", "batch"],
)
def test_an_edited_staged_row_keeps_its_object_out_of_a_batch_and_no_other(
    site: Site, changed: dict[str, Any], said: str
) -> None:
    site.register()
    site.stage(1, 2)
    edit(site.lake, site.identity(1), **changed)
    report = site.go()
    assert report.messages == {"won": 1, "unknown": 1}
    assert said in report.unknown[site.identity(1)]
    assert site.left() == 1, "it reaches the dead letters"
    [batch] = site.batches()
    assert (batch["state"], batch["objects"]) == ("STARTED", 1)


def test_a_staged_object_whose_row_was_deleted_is_left_to_the_dead_letters(site: Site) -> None:
    site.register()
    site.stage(1)
    site.lake.objects.delete_item(Key={"id": site.identity(1)})
    assert site.go().unknown == {site.identity(1): f"it has no row, the message '{1:032x}'"}


def test_what_is_no_message_of_the_dataset_stays_for_the_dead_letters(site: Site) -> None:
    site.register(max_items=20)
    site.stage(1)
    bodies = [body for body in NOT_JSON if body not in ("", "\x00")]  # which SQS does not take
    for body in bodies:
        site.send(body)
    report = site.go()
    assert report.messages == {"won": 1, "unknown": len(bodies)}
    assert all(reason.startswith(("not JSON", "a JSON")) for reason in report.unknown.values())
    assert site.left() == len(bodies)


def test_a_staged_message_of_an_older_version_of_tarn_says_so(site: Site) -> None:
    site.register()
    site.stage(1)
    site.send({"schema": 0, "id": site.identity(1), "team": "air", "dataset": "flights", "sequencer": "1"})
    report = site.go()
    assert report.messages == {"won": 1, "unknown": 1}
    assert next(iter(report.unknown.values())).startswith("no message of schema 1 to this dataset")


def test_one_edited_registration_does_not_keep_the_tick_from_the_others(site: Site) -> None:
    site.register("airports", min_items="many")
    site.register("flights", min_items=1)
    site.stage(1, dataset="airports")
    site.stage(2)
    report = site.tick()
    assert report.due == {"flights": "enough"}
    assert "many" in report.failed["airports"]


# Rows of batches that somebody has edited


@pytest.mark.parametrize(
    "changed",
    [
        {"attempt": None},
        {"attempt": "first"},
        {"state": "FOO"},
        {"state": None},
        {"state": "OPEN", "created_at": "yesterday"},
        {"state": "STARTED", "execution_arn": None},
    ],
    ids=["no attempt", "attempt", "state", "no state", "time", "execution"],
)
def test_an_edited_batch_fails_with_its_reason_and_the_others_go_on(site: Site, changed: dict[str, Any]) -> None:
    site.register()
    site.stage(1)
    site.go()
    [batch] = site.batches()
    row = {**batch, "started_at": batch["created_at"], **changed}
    site.lake.batches.put_item(Item={name: value for name, value in row.items() if value is not None})
    site.stage(2)
    assert len(site.go().committed) == 1
    edited = next(row for row in site.batches() if row["batch_id"] == batch["batch_id"])
    assert edited["state"] == "FAILED"
    assert edited["reason"].startswith("its row was edited and cannot be read: ")
    assert "unfinished" not in edited


# A batch whose dataset was removed


def unfinished(site: Site, state: State) -> Batch:
    batch = Batch("air", "flights", batches.new_id(NOON))
    batches.open_batch(site.lake.batches, batch, NOON)
    if state != State.OPEN:
        batches.commit(site.lake.batches, batch, NOON, objects=1, size=1, has_rules=False)
    if state == State.STARTED:
        arn = f"{site.place.machine.execution_arn(batch.execution_name)}"
        batches.mark_started(site.lake.batches, batch, arn, NOON)
    return batch


def remove(site: Site) -> None:
    site.lake.sqs.delete_queue(QueueUrl=site.url())
    site.lake.datasets.delete_item(Key={"team": "air", "dataset": "flights"})


@pytest.mark.parametrize(
    ("state", "ends", "said"),
    [
        (State.OPEN, "ABANDONED", "its run did not come to a commit in its time"),
        (State.READY, "FAILED", "its dataset is not registered any more"),
        (State.STARTED, "FAILED", "execution FAILED: there is no such execution"),
    ],
)
def test_a_batch_whose_dataset_was_removed_ends_with_its_reason(site: Site, state: State, ends: str, said: str) -> None:
    site.register()
    site.go()
    unfinished(site, state)
    remove(site)
    site.now += max(TIMEOUT, executions.SHOWS_WITHIN)
    assert site.tick().due == {"flights": "unfinished"}
    assert site.functions.invoked == [{"team": "air", "dataset": "flights", "claim": False}]
    assert site.go(claims=False).outcome == "unregistered"
    [batch] = site.batches()
    assert (batch["state"], batch["reason"].startswith(said)) == (ends, True), batch
    assert site.executions() == [], "nothing of it is started"
    assert site.tick().due == {}, "and no tick wakes for it again"


def test_a_removed_dataset_of_another_pipeline_is_left_to_it(site: Site) -> None:
    site.register(pipeline="other")
    site.go()
    unfinished(site, State.READY)
    remove(site)
    assert site.tick().due == {}
