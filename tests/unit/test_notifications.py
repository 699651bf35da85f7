"""What a team is told: short and plain enough for SNS, whatever the names and the rules are."""

from __future__ import annotations

import json

import pytest

from lake import notifications
from lake.batches import State
from lake.notifications import Ending
from lake.outcomes import Rule, Run

RUN = Run(
    team="a" * 20,
    dataset="d" * 32,
    batch_id="20261123t164400-0123456789ab",
    attempt=3,
    manifest_uri="s3://stage/m",
    pending_uri="s3://analytics/p",
    transform_outcome_uri="s3://stage/t",
    quality_outcome_uri="s3://stage/q",
)
RULE = Rule(
    'ColumnValues "é" in [\n"x"]' * 1000, "Failed", "no", {f"metric{place}": float("nan") for place in range(50)}
)


@pytest.mark.parametrize("state", list(State))
def test_a_subject_is_what_sns_takes(state) -> None:
    ending = Ending(state, "é\n" * 500, RULE, rules_failed=10_000, rules_total=10_000)
    subject = notifications.notification("local", RUN, ending)["subject"]
    assert 0 < len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    assert f"{RUN.team}/{RUN.dataset} {state}" in subject


def test_a_notification_stays_small_and_is_json() -> None:
    told = notifications.notification("local", RUN, Ending("FAILED_QUALITY", "r" * 1000, RULE, 1, 1))
    assert len(json.dumps(told, allow_nan=False)) < 8_000
    assert len(told["metric"]) == 10


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("PUBLISHED", "Its data is published."),
        ("FAILED_QUALITY", "Nothing was published"),
        ("FAILED", "for its next attempt"),
        ("STARTED", "It is not this attempt's any more."),
        ("unknown", "It is not this attempt's any more."),
    ],
)
def test_a_message_says_what_the_state_means(state, says) -> None:
    message = notifications.notification("dev", RUN, Ending(state))["message"]
    assert says in message
    assert message.endswith(f"--batch {RUN.batch_id} --environment dev\n  tarn status --environment dev")


def test_figures_are_those_that_are_known() -> None:
    ending = Ending("PUBLISHED", statistics={"rows_in": 5, "rows_out": 4, "files": 1, "bytes": 7, "partitions": 2})
    message = notifications.notification("dev", RUN, ending)["message"]
    assert "Figures: rows in 5, rows out 4, files 1, bytes 7, partitions 2" in message
