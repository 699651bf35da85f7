"""What a person does again, and what the lake does by itself when a file changes: the table ends as the files are."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tarn import cli
from tests.e2e.lake_world import (
    Demo,
    end_of,
    job_script,
    partitions_of,
    published_keys,
    stage,
    start_batch,
    wait_for,
)

pytestmark = pytest.mark.slow


def airlines(folder: Path, *carriers: str, name: str = "Some Airline Inc.") -> Path:
    file = folder / "airlines.csv"
    file.write_text("carrier,name\n" + "".join(f"{carrier},{name}\n" for carrier in carriers))
    return file


def ours(demo: Demo) -> list[list[str | None]]:
    """The rows that these tests have made, whose carriers begin with a Z."""
    question = "SELECT carrier, name FROM airlines_view WHERE carrier LIKE 'Z%' ORDER BY carrier, name"
    return demo.lake.query(question, "air").rows


def tarn(*words: str) -> str:
    done = CliRunner().invoke(cli.app, [*words, "--environment", "local"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def at_attempt(demo: Demo, batch: dict, attempt: int) -> dict:
    """The batch's row once that attempt has ended."""

    def reached() -> bool | None:
        return demo.lake.batch(batch["owner"], batch["batch_id"])["attempt"] == attempt or None

    wait_for(reached, f"batch {batch['batch_id']} comes to no attempt {attempt}")
    return end_of(demo, batch)


def stale(demo: Demo) -> list[str]:
    return [row["id"] for row in demo.lake.status().attention if row["state"] == "STALE"]


@pytest.fixture(scope="module")
def pair(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A published batch of two files."""
    folder = tmp_path_factory.mktemp("pair")
    stage(demo, "airlines", airlines(folder, "ZA", "ZB"), "pair-1.csv")
    stage(demo, "airlines", airlines(folder, "ZC"), "pair-2.csv")
    batch = end_of(demo, start_batch(demo, "airlines"))
    assert (batch["state"], batch["objects"]) == ("PUBLISHED", 2)
    return batch


def test_a_file_that_comes_again_replaces_its_rows(demo: Demo, pair: dict, tmp_path: Path) -> None:
    stage(demo, "airlines", airlines(tmp_path, "ZA", name="Another Airline Inc."), "pair-1.csv")
    newer = end_of(demo, start_batch(demo, "airlines"))
    again = at_attempt(demo, pair, 2)
    assert [(row["state"], row["objects"]) for row in (newer, again)] == [("PUBLISHED", 1), ("PUBLISHED", 1)]
    assert ours(demo) == [["ZA", "Another Airline Inc."], ["ZC", "Some Airline Inc."]]
    assert stale(demo) == []


def test_retry_runs_a_failed_batch_again(demo: Demo, pair: dict, tmp_path: Path) -> None:
    stage(demo, "airlines", airlines(tmp_path, "ZD"), "retried.csv")
    with job_script(demo, "raise ValueError('not today')"):
        failed = end_of(demo, start_batch(demo, "airlines"))
    assert failed["state"] == "FAILED"
    name = f"{failed['batch_id']}-2"
    assert tarn("retry", failed["batch_id"], "--dry-run") == f"{name} would take 1 objects\n"
    assert demo.lake.batch(failed["owner"], failed["batch_id"])["attempt"] == 1
    assert tarn("retry", failed["batch_id"]) == f"{name} takes 1 objects\n"
    assert tarn("retry", failed["batch_id"]).startswith(name)
    assert at_attempt(demo, failed, 2)["state"] == "PUBLISHED"
    assert ["ZD", "Some Airline Inc."] in ours(demo)


def test_replay_from_raw_ends_in_the_same_table(demo: Demo, pair: dict) -> None:
    before = ours(demo)
    said = tarn("replay", "air/airlines", "--from", "raw", "--prefix", "pair-2")
    assert "objects: 1 STAGED\nstaged again: 1 STAGED\nattempts made: 1\n" in said
    assert at_attempt(demo, pair, 3)["state"] == "PUBLISHED"
    assert ours(demo) == before


def test_a_file_that_is_taken_back_takes_its_rows_along(demo: Demo, pair: dict) -> None:
    """Nothing is left of its batch then: no file, no partition, and no rule that keeps the rows in."""
    bucket = demo.lake.contract.foundations("raw-bucket/name")
    demo.session.client("s3").delete_object(Bucket=bucket, Key="air/airlines/pair-2.csv")
    ended = at_attempt(demo, pair, 4)  # the tick finds it by itself
    assert (ended["state"], ended["objects"], ended["quality"]["outcome"]) == ("PUBLISHED", 0, "no rules")
    assert "ZC" not in {row[0] for row in ours(demo)}
    assert pair["batch_id"] not in {values[-1] for values in partitions_of(demo, "airlines")}
    assert not [key for key in published_keys(demo, "air/airlines/") if pair["batch_id"] in key]
    assert stale(demo) == []


def test_what_did_not_fail_is_not_tried_again(demo: Demo, pair: dict) -> None:
    done = CliRunner().invoke(cli.app, ["retry", pair["batch_id"], "--environment", "local"])
    assert done.exit_code == 1
    assert "is PUBLISHED, and did not fail" in done.output
