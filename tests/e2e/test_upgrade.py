"""The previous commit's lake, updated to this one while files are everywhere on their way: each is published once."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tarn import deployment, templates
from tarn.lake import Lake
from tarn.local import emulator
from tests.e2e.lake_world import FINAL, Demo, batches_of, stage, start_batch, wait_for
from tests.e2e.own_emulator import own_emulator

SAMPLES = templates.ROOT / "datasets" / "air"
DAYS = sorted((SAMPLES / "flights" / "samples").glob("*.csv"))
QUEUED, FLYING = DAYS[:5], DAYS[5:20]
LAYERS = ("template.yaml", "foundations", "team", "pipeline", "functions", "glue", "engines", "datasets")
DEPLOYED = (*LAYERS, ":(exclude)*.md")
"""What makes a lake, as git names it: the previous commit is the last one in which any of it was otherwise."""
DEPLOY = """
import sys
from pathlib import Path
from tarn import deployment
assert Path(deployment.__file__).is_relative_to(Path.cwd()), deployment.__file__
deployment.deploy("local", quality=False, overrides={"TickExpression": "rate(1 day)"})
"""

pytestmark = pytest.mark.slow


def unproven(reason: str) -> NoReturn:
    """No earlier lake can be had: who has no history is told so, and CI, which has one, fails."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("git")
    if program is None:
        unproven("git is not there, and knows the previous commit")
    # Asking must not write to the repository, not even its index.
    command = [program, "--no-optional-locks", "-C", str(templates.ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=False)


def previous_commit() -> str:
    """The last commit that deploys another lake than this checkout does."""
    log = git("log", "--first-parent", "--format=%H", "-n", "50", "HEAD", "--", *DEPLOYED)
    for commit in log.stdout.decode().split():
        if git("diff", "--quiet", commit, "--", *DEPLOYED).returncode == 1:
            return commit
    unproven("this checkout has no history (git fetch --unshallow): no earlier commit deploys another lake")


@pytest.fixture(scope="module")
def previous(tmp_path_factory) -> Path:
    """The previous commit's files, in a folder of their own."""
    folder = tmp_path_factory.mktemp("previous")
    archive = folder / "previous.tar"
    made = git("archive", "--format=tar", "--output", str(archive), previous_commit())
    assert made.returncode == 0, made.stderr
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Upgrade:
    """A lake that was updated; what was on its way then, and what was put."""

    demo: Demo
    states: Counter[str]
    batches: Counter[str]
    messages: list[dict[str, Any]]
    raw: list[str]


@pytest.fixture(scope="module")
def upgrade(previous, tmp_path_factory) -> Iterator[Upgrade]:
    """Deploy the previous lake from its own code, fill it, and deploy this one over it."""
    state = tmp_path_factory.mktemp("upgrade")
    with own_emulator(state) as session:
        environment = emulator.command_environment(state) | {"PYTHONPATH": str(previous)}
        environment["PATH"] = f"{templates.ROOT / '.venvs' / 'sam' / 'bin'}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [sys.executable, "-c", DEPLOY], cwd=previous, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        demo = Demo(0, "", state, Lake("local", session), session)

        queued = [stage(demo, "flights", day, day.name) for day in QUEUED]
        airports = stage(demo, "airports", SAMPLES / "airports" / "samples" / "airports.csv", "airports.csv")
        running = start_batch(demo, "airports")
        wait_for(lambda: runs(demo) or None, "no job runs")
        messages = look(demo)
        flying = [demo.lake.put("air", "flights", day) for day in FLYING]

        rows = [demo.lake.object_row(identity) or {"state": "notified"} for identity in (*queued, *flying)]
        batches = Counter([demo.lake.batch(running["owner"], running["batch_id"])["state"]])
        deployment.deploy("local", quality=False)
        demo = Demo(0, "", state, Lake("local", session), session)
        yield Upgrade(demo, Counter(row["state"] for row in rows), batches, messages, [*queued, *flying, airports])


def runs(demo: Demo) -> list[str]:
    """Glue's runs that are under way."""
    glue = demo.session.client("glue")
    return [
        run["Id"]
        for job in glue.get_jobs()["Jobs"]
        for run in glue.get_job_runs(JobName=job["Name"])["JobRuns"]
        if run["JobRunState"] == "RUNNING"
    ]


def look(demo: Demo) -> list[dict[str, Any]]:
    """What waits in the queue of the flights; it can be received again at once."""
    [url] = [url for place, url in demo.lake.contract.queues().items() if place.startswith("dataset/air/main/flights/")]
    sqs = demo.session.client("sqs")
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
    return [json.loads(one["Body"]) for one in got]


def finished(demo: Demo, files: int) -> list[dict[str, Any]] | None:
    """The flights' batches once they hold all the files and have ended."""
    found = batches_of(demo, "flights")
    ended = all(row["state"] in FINAL for row in found)
    return found if ended and sum(int(row.get("objects", 0)) for row in found) >= files else None


def test_the_update_met_files_everywhere(upgrade) -> None:
    assert upgrade.batches == Counter(["STARTED"])
    assert upgrade.states["STAGED"] >= len(QUEUED)
    assert upgrade.states["STAGED"] < len(QUEUED) + len(FLYING), "nothing was in the first hop"
    assert len(upgrade.messages) == len(QUEUED)


def test_everything_is_published_exactly_once(upgrade) -> None:
    demo = upgrade.demo
    flights = wait_for(lambda: finished(demo, len(QUEUED) + len(FLYING)), "the flights are not published", seconds=420)
    assert {row["state"] for row in flights} == {"PUBLISHED"}, flights
    assert sum(int(row["objects"]) for row in flights) == len(QUEUED) + len(FLYING)
    assert [row["state"] for row in batches_of(demo, "airports")] == ["PUBLISHED"]
    expected = sum(sum(1 for _ in csv.DictReader(day.open())) for day in (*QUEUED, *FLYING))
    assert demo.lake.query("SELECT count(*) FROM flights", "air").rows == [[str(expected)]]
    assert demo.lake.query("SELECT count(*) FROM airports", "air").rows == [["1458"]]
    assert {(demo.lake.object_row(identity) or {}).get("state") for identity in upgrade.raw} == {"STAGED"}


def test_nothing_is_left_over(upgrade) -> None:
    status = upgrade.demo.lake.status()
    assert status.attention == []
    assert {place: depth for place, depth in status.queues.items() if any(depth.values())} == {}


def test_everything_that_may_meet_another_version_says_its_own(upgrade) -> None:
    demo = upgrade.demo
    assert {message["schema"] for message in upgrade.messages} == {1}
    for name in ("objects", "datasets", "batches"):
        table = demo.session.resource("dynamodb").Table(demo.lake.contract.foundations(f"{name}-table/name"))
        found = table.scan()["Items"]
        assert found
        # A tick's row is of the previous version until the next tick that has something to note.
        assert [row for row in found if row.get("schema") != 1 and row.get("kind") != "tick"] == [], name
    bucket, s3 = demo.lake.contract.foundations("stage-bucket/name"), demo.session.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="air/_batches/")
    texts = [one["Key"] for page in pages for one in page.get("Contents", []) if one["Key"].endswith(".json")]
    assert [key for key in texts if key.endswith("/manifest.json")]
    for key in texts:
        assert json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["schema"] == 1, key


def test_each_dataset_has_one_registration_and_one_queue(upgrade) -> None:
    """What was handed over from stack to stack is handed over whole."""
    demo = upgrade.demo
    table = demo.session.resource("dynamodb").Table(demo.lake.contract.foundations("datasets-table/name"))
    rows = [row for row in table.scan()["Items"] if row.get("kind") == "dataset"]
    assert {"flights", "airports", "airlines"} <= {row["dataset"] for row in rows}
    assert [row["dataset"] for row in rows if "former" in row] == []
    published = set(demo.lake.contract.queues().values())
    assert {row["queue_url"] for row in rows} <= published
    stacks = {one["StackId"] for one in demo.session.client("cloudformation").describe_stacks()["Stacks"]}
    assert {row["owner"].rpartition("/")[0] for row in rows} <= stacks
