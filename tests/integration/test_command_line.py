"""``tarn put`` and ``tarn status`` on what is, for them, an account: they find the lake through its contract."""

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from typer.testing import CliRunner

from tarn import cli, watching
from tests.integration.tables import lake

__all__ = ["lake"]


@pytest.fixture
def published(lake):
    """The lake, with its contract published."""
    ssm = boto3.client("ssm")
    contract = {
        "foundations/raw-bucket/name": lake.raw_bucket,
        "foundations/objects-table/name": lake.objects.name,
        "foundations/batches-table/name": lake.batches.name,
        "foundations/datasets-table/name": lake.datasets.name,
        "foundations/ingest-queue/url": lake.ingest_queue_url,
        "team/air/workgroup/name": "air",
        "dataset/air/main/flights/queue/url": lake.dataset_queue_url,
    }
    for name, value in contract.items():
        ssm.put_parameter(Name=f"/tarn/test/{name}", Value=value, Type="String")
    return lake


def tarn(*words: str):
    return CliRunner().invoke(cli.app, [*words, "--environment", "test"])


def test_put_lands_files_under_their_dataset(published, tmp_path) -> None:
    file = tmp_path / "2013-01-01 ñ.csv"
    file.write_text("a,b\n1,2\n")
    done = tarn("put", "air/flights", str(file))
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [f"s3://{published.raw_bucket}/air/flights/2013-01-01 ñ.csv"]
    stored = published.s3.get_object(Bucket=published.raw_bucket, Key="air/flights/2013-01-01 ñ.csv")
    assert stored["Body"].read() == b"a,b\n1,2\n"


def test_status_shows_batches_queues_and_what_needs_a_person(published) -> None:
    published.batches.put_item(
        Item={
            "owner": "air#flights",
            "batch_id": "20261123t164401-0123456789ab",
            "team": "air",
            "dataset": "flights",
            "state": "FAILED_QUALITY",
            "attempt": 1,
            "objects": 3,
            "created_at": "2026-11-23T16:44:01.123Z",
            "reason": 'ColumnValues "distance" > 0',
        }
    )
    published.objects.put_item(
        Item={
            "id": f"s3://{published.raw_bucket}/air/flights/x.csv",
            "zone": "raw",
            "team": "air",
            "dataset": "flights",
            "state": "QUARANTINED",
            "attention": "air#flights#3",
            "attention_at": "QUARANTINED#2026-11-23T16:44:01.123Z",
            "reason": "empty",
        }
    )
    published.sqs.send_message(QueueUrl=published.dataset_queue_url, MessageBody="{}")
    done = tarn("status", "--json", "--exact")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert [(one["batch_id"], one["state"], one["objects"]) for one in found["batches"]] == [
        ("20261123t164401-0123456789ab", "FAILED_QUALITY", 3)
    ]
    assert found["attention"][0]["reason"] == "empty"
    assert found["queues"]["dataset/air/main/flights/queue"] == {"visible": 1, "in_flight": 0}
    assert found["objects"] == {"air/flights": {"raw QUARANTINED": 1}}

    shown = tarn("status").output
    assert "FAILED_QUALITY" in shown
    assert "QUARANTINED" in shown


def watched(lake, dataset: str, hours: float, *, allowed: int, published_once: bool = True) -> None:
    """A dataset that is watched, and has published nothing for some hours."""
    moment = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    lake.datasets.put_item(Item={"team": "air", "dataset": dataset, "kind": "dataset", "freshness_hours": allowed})
    row = {"team": "air", "dataset": f"tick#{dataset}", "kind": "tick"}
    lake.datasets.put_item(Item=row | {"published_at" if published_once else "watched_since": moment})


def test_status_shows_whom_a_dataset_waits_for(published) -> None:
    limits = {"depends_on_hours": 24, "depends_on_max_wait_hours": 3}
    tick = {"held_by": ["air/planes"], "held_since": "2026-11-24T10:00:00.000Z"}
    came = {"flights": "2026-11-24T09:00:00.000Z", "airlines": "2026-11-24T09:00:00.000Z"}
    for dataset, named in {"flights": ["air/planes"], "airlines": [], "airports": ["air/planes"]}.items():
        row = {"team": "air", "dataset": dataset, "kind": "dataset", "depends_on": named, **limits}
        published.datasets.put_item(Item=row)
        waits = {"waiting_since": came[dataset]} if dataset in came else {}
        published.datasets.put_item(Item={"team": "air", "dataset": f"tick#{dataset}", "kind": "tick", **waits, **tick})
    found = json.loads(tarn("status", "--json").output)["waits"]
    assert found == [{"team": "air", "dataset": "flights", "depends_on_max_wait_hours": 3, **tick}]
    shown = " ".join(tarn("status").output.split())
    assert "air/flights waits for air/planes since 2026-11-24T10:00:00.000Z, for 3 h at most" in shown
    assert "air/airlines waits" not in shown, "it names nobody any more"
    assert "air/airports waits" not in shown, "its queue is empty"


def test_status_shows_stale_datasets(published) -> None:
    watched(published, "flights", 30, allowed=24)
    watched(published, "airports", 2, allowed=24)
    watched(published, "planes", 49.5, allowed=48, published_once=False)
    published.datasets.put_item(Item={"team": "air", "dataset": "airlines", "kind": "dataset"})
    found = json.loads(tarn("status", "--json").output)["freshness"]
    assert {one["dataset"]: (one["hours"], one["stale"]) for one in found} == {
        "flights": (30.0, True),
        "airports": (2.0, False),
        "planes": (49.5, True),
    }
    shown = " ".join(tarn("status").output.split())
    assert "air/flights is stale: nothing published for 30 h (last 20" in shown
    assert "air/planes is stale: nothing published for 49.5 h (never), and 48 h are allowed" in shown
    assert "air/airports is stale" not in shown


def test_status_fits_into_eighty_columns(published) -> None:
    for place, numbers in enumerate(
        ({}, {"objects": 99999, "files": 1, "rows_in": 987654321, "rows_out": 99999999999})
    ):
        published.batches.put_item(
            Item={
                "owner": "air#flights",
                "batch_id": f"20261123t164401-0123456789a{place}",
                "team": "air",
                "dataset": "flights",
                "state": "FAILED_QUALITY",
                "attempt": 1,
                "created_at": "2026-11-23T16:44:01.123Z",
                "started_at": "2026-11-23T16:44:02.000Z",
                "finished_at": "2026-11-23T16:45:02.000Z",
                "quality": {"outcome": "failed"},
                **numbers,
            }
        )
    lines = tarn("status").output.splitlines()
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    assert "20261123t164401-0123456789a1   60 s" in shown, "an id is not folded"
    assert all(one in shown for one in ("99999", "987.7M", "100.0G"))


def test_watch_looks_again_until_ctrl_c_and_ends_without_a_trace(published, monkeypatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        published.sqs.send_message(QueueUrl=published.dataset_queue_url, MessageBody="{}")
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "sleep", nap)  # and of nobody else: other threads sleep, too
    done = tarn("status", "--watch")
    assert done.exit_code == 0, done.output
    assert naps == [2.0, 2.0, 2.0]
    assert "dataset/air/main/flights/queue" in done.output
    assert "Traceback" not in done.output


def test_a_lake_that_is_not_there_is_one_clear_message(lake) -> None:
    done = tarn("status")
    assert done.exit_code == 1
    assert "no SSM parameter under /tarn/test/" in done.output
    assert "Traceback" not in done.output


def test_an_unknown_team_is_named(published) -> None:
    done = tarn("query", "SELECT 1", "--team", "rail")
    assert done.exit_code == 1
    assert "/tarn/test/team/rail/workgroup/name" in done.output
