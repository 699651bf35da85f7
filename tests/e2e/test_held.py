"""An operator on a whole lake: a held object is released and discarded, dead letters are explained and moved back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lake import waiting
from tests.e2e.lake_world import Demo, wait_for

TARN = Path(sys.executable).with_name("tarn")
DEAD = "foundations/ingest-dead-letter-queue"


def tarn(*words: str, status: int = 0) -> str:
    """What a command printed; the fixture ``demo`` has set the variables by which it finds the lake."""
    environment = {**os.environ, "COLUMNS": "300"}
    done = subprocess.run([str(TARN), *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def spoilt(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An object of the airports that is quarantined."""
    file = tmp_path_factory.mktemp("spoilt") / "operators.csv"
    file.write_text("no,such,columns\n1,2,3\n")
    identity = demo.lake.put("air", "airports", file)
    held_since(demo, identity, "")
    return identity


def held_since(demo: Demo, identity: str, before: str) -> str:
    """When it was quarantined, later than ``before``."""

    def look() -> str | None:
        row = demo.lake.object_row(identity) or {}
        since = str(row.get("attention_at", ""))
        return since if row.get("state") == "QUARANTINED" and since > before else None

    return wait_for(look, f"{identity} is not quarantined")


def test_a_released_object_goes_through_its_pipeline_again(demo: Demo, spoilt: str) -> None:
    first = held_since(demo, spoilt, "")
    assert f"would be released: {spoilt}" in tarn("release", "air/airports", "--dry-run")
    assert held_since(demo, spoilt, "") == first
    assert f"released: {spoilt}" in tarn("release", "air/airports")
    second = held_since(demo, spoilt, first)
    assert f"released: {spoilt}" in tarn("release", spoilt)
    held_since(demo, spoilt, second)


def test_a_discarded_object_needs_nobody(demo: Demo, spoilt: str) -> None:
    tarn("discard", spoilt, "--reason", "a test's own")
    row = demo.lake.object_row(spoilt) or {}
    assert (row["state"], row["reason"]) == ("DISCARDED", "a test's own")
    assert row["discarded"]["by"].startswith("arn:aws:")
    assert spoilt not in [one["id"] for one in demo.lake.status().attention]
    assert f"already discarded: {spoilt}" in tarn("discard", spoilt)


@contextmanager
def impatient(demo: Demo) -> Iterator[None]:
    """The ingest queue gives a message up at its first failure."""
    sqs, url = demo.session.client("sqs"), demo.lake.contract.foundations("ingest-queue/url")
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy", "VisibilityTimeout"])["Attributes"]
    policy = {**json.loads(before["RedrivePolicy"]), "maxReceiveCount": 1}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "1"})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=before)


def test_dead_letters_are_explained_and_moved_back(demo: Demo) -> None:
    sqs, contract = demo.session.client("sqs"), demo.lake.contract
    dead, ingest = contract.foundations("ingest-dead-letter-queue/url"), contract.foundations("ingest-queue/url")

    def buried(count: int) -> bool | None:
        return waiting.depth(sqs, dead) == waiting.Depth(count, 0) or None

    try:
        with impatient(demo):
            sqs.send_message(QueueUrl=ingest, MessageBody="no notification")
            wait_for(lambda: buried(1), "the message is no dead letter")
            told = tarn("redrive", DEAD, "--dry-run")
            assert f"{DEAD}: 1 for" in told
            assert "unreadable: not JSON" in told
            assert f"{DEAD}: 1 moved, COMPLETED" in tarn("redrive", "--all")
            wait_for(lambda: buried(1), "what nobody can read does not come back")
    finally:
        sqs.purge_queue(QueueUrl=dead)
    assert tarn("redrive", "--all").startswith("No dead letters in")
