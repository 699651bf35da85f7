"""``tarn logs``: the lines about one dataset, or one batch, from wherever they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from tarn import cli, logs, watching
from tarn.lake import Lake
from tarn.logs import Line, Reader
from tests.integration.tables import Lake as Deployed
from tests.integration.tables import open_lake

NOW = datetime.now(UTC).replace(microsecond=0)
BATCH, OTHER = "20261123t164401-0123456789ab", "20261123t164402-ba9876543210"
RUN = "jr_0123"
REQUEST = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def opened() -> Iterator[Deployed]:
    """A lake whose log groups are in its contract, with two datasets and a batch of each."""
    with open_lake() as one:
        yield _deployed(one)


def _deployed(lake: Deployed) -> Deployed:
    contract = {
        "foundations/batches-table/name": lake.batches.name,
        "foundations/datasets-table/name": lake.datasets.name,
        "foundations/route-object-log-group/name": "route",
        "pipeline/air/main/transform-objects-log-group/name": "transform",
        "pipeline/air/main/stage-to-analytics-log-group/name": "/aws/vendedlogs/states/second",
        "pipeline/air/other/transform-objects-log-group/name": "another pipeline's",
        "pipeline/air/main/transform-batch-job/name": "transform-job",
        "pipeline/air/main/judge-batch-job/name": "none",
        "dataset/air/main/flights/queue/url": "url",
        "dataset/air/main/flight/queue/url": "url",
    }
    for name, value in contract.items():
        boto3.client("ssm").put_parameter(Name=f"/tarn/test/{name}", Value=value, Type="String")
    for dataset, batch in (("flights", BATCH), ("flight", OTHER)):
        row = {"owner": f"air#{dataset}", "batch_id": batch, "team": "air", "dataset": dataset}
        lake.batches.put_item(Item=row | {"created_at": (NOW - timedelta(minutes=10)).isoformat()})
        lake.datasets.put_item(Item={"team": "air", "dataset": dataset, "kind": "dataset"})
    return lake


@pytest.fixture
def published(opened, monkeypatch) -> list[dict[str, Any]]:
    """The lake while nothing was written yet; gives the list of its job runs, to add to."""
    client = boto3.client("logs")
    for group in client.describe_log_groups()["logGroups"]:
        client.delete_log_group(logGroupName=group["logGroupName"])
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr(Reader, "__post_init__", lambda reader: _use(reader, runs))
    return runs


def _use(reader: Reader, runs: list[dict[str, Any]]) -> None:
    """moto keeps no runs: these stand for Glue's own answer."""
    reader._logs = boto3.client("logs")

    class Glue:
        def get_job_runs(self, JobName: str, MaxResults: int) -> dict[str, Any]:  # noqa: N803 - boto3's names
            assert JobName == "transform-job"
            return {"JobRuns": runs[:MaxResults]}

    reader._glue = Glue()  # type: ignore[assignment]


def write(group: str, *texts: Any, seconds_ago: float = 60, stream: str = "stream") -> None:
    client = boto3.client("logs")
    with suppress(client.exceptions.ResourceAlreadyExistsException):
        client.create_log_group(logGroupName=group)
    with suppress(client.exceptions.ResourceAlreadyExistsException):
        client.create_log_stream(logGroupName=group, logStreamName=stream)
    at = int((NOW - timedelta(seconds=seconds_ago)).timestamp() * 1000)
    events = [
        {"timestamp": at + place, "message": one if isinstance(one, str) else json.dumps(one)}
        for place, one in enumerate(texts)
    ]
    client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def read(batch: str | None = None, dataset: str = "flights", minutes: int = 60) -> list[tuple[str, str]]:
    found = Lake("test")
    reader = Reader(found, found.contract.address("air", dataset), batch)
    return [(one.source, one.shown) for one in reader.lines(NOW - timedelta(minutes=minutes))]


def test_lines_of_the_dataset_come_from_every_group_in_their_order(published) -> None:
    write(
        "transform", {"message": "object transformed", "team": "air", "dataset": "flights", "rows": 3}, seconds_ago=50
    )
    write("route", {"message": "routed", "objects": [["s3://raw/air/flights/1.csv", "LANDED"]]}, seconds_ago=60)
    write("/aws/vendedlogs/states/second", {"type": "TaskFailed", "execution": f"arn:x:{BATCH}-1"}, seconds_ago=40)
    write("another pipeline's", {"message": "x", "team": "air", "dataset": "flights"})
    assert read() == [
        ("route_object", 'routed objects=[["s3://raw/air/flights/1.csv","LANDED"]]'),
        ("transform_objects", "object transformed rows=3"),
        ("stage_to_analytics", f"TaskFailed execution=arn:x:{BATCH}-1"),
    ]


def test_a_name_that_begins_alike_is_another_dataset(published) -> None:
    write("transform", {"message": "a", "team": "air", "dataset": "flights"})
    write("route", {"message": "b", "objects": ["s3://raw/air/flights/1.csv"]})
    write("transform", {"message": "c", "team": "sea", "dataset": "flight"}, "air/flight-2/x", OTHER, seconds_ago=20)
    assert read(dataset="flight") == [("transform_objects", OTHER)]


def test_a_ticks_line_names_its_datasets(published) -> None:
    write("transform", {"message": "tick", "team": "air", "due": {"flights": "enough"}})
    assert read() == [("transform_objects", 'tick due={"flights":"enough"}')]
    assert read(dataset="flight") == []


def test_only_what_concerns_the_batch(published) -> None:
    write("transform", {"message": "a", "team": "air", "dataset": "flights"}, {"message": "b", "batch_id": BATCH})
    assert read(BATCH) == [("transform_objects", f"b batch_id={BATCH}")]


def test_a_call_that_ended_without_a_word_is_shown_with_what_it_said_before(published) -> None:
    write(
        "transform",
        f"START RequestId: {REQUEST} Version: $LATEST",
        {"message": "object transformed", "team": "air", "dataset": "flights", "function_request_id": REQUEST},
        f"2026-11-23T16:44:00Z {REQUEST} Task timed out after 240.00 seconds",
        f"END RequestId: {REQUEST}",
        "2026-11-23T16:44:00Z another-call Task timed out after 240.00 seconds",
    )
    assert [text for _, text in read()] == [
        "object transformed",
        f"2026-11-23T16:44:00Z {REQUEST} Task timed out after 240.00 seconds",
    ]


def test_metrics_are_no_lines(published) -> None:
    write("transform", {"_aws": {}, "Team": "air", "Dataset": "flights", "team": "air", "dataset": "flights"})
    assert read() == []


def job_run(batch: str, dataset: str = "flights", run: str = RUN, **more: Any) -> dict[str, Any]:
    arguments = {"--team": "air", "--dataset": dataset, "--batch_id": batch, "--attempt": "1"}
    return {"Id": run, "LogGroupName": "/aws-glue/jobs", "Arguments": arguments, **more}


def test_a_jobs_lines_are_those_of_the_runs_of_the_dataset(published) -> None:
    published += [job_run(BATCH), job_run(OTHER, "flight", "jr_4567")]
    write("/aws-glue/jobs/output", "3 rows in", stream=RUN)
    write("/aws-glue/jobs/output", "of an executor", stream=f"{RUN}_g-1", seconds_ago=59)
    write("/aws-glue/jobs/output", "9 rows in", stream="jr_4567")
    write("/aws-glue/jobs/error", "a warning", stream=RUN, seconds_ago=58)
    assert read() == [
        ("transform_batch", "3 rows in"),
        ("transform_batch", "of an executor"),
        ("transform_batch", "a warning"),
    ]
    assert read(OTHER, "flight") == [("transform_batch", "9 rows in")]
    assert read(BATCH, "flight") == []


def test_a_notebooks_lines_are_those_of_the_jobs_of_its_batches(published, opened) -> None:
    group = "/aws/sagemaker/ProcessingJobs"
    write(group, "In [2] raised", stream=f"tarn-test-air-{BATCH}-1/algo-1-1700000000")
    write(group, "of another dataset", stream=f"tarn-test-air-{OTHER}-1/algo-1-1700000000")
    assert read() == []  # the dataset's engine is Glue
    opened.datasets.put_item(Item={"team": "air", "dataset": "flights", "kind": "dataset", "engine": "sagemaker"})
    try:
        assert read() == [("run_notebook", "In [2] raised")]
        assert read(BATCH) == [("run_notebook", "In [2] raised")]
    finally:
        opened.datasets.put_item(Item={"team": "air", "dataset": "flights", "kind": "dataset"})


def test_a_run_that_ended_before_is_not_asked_for(published) -> None:
    published.append(job_run(BATCH, CompletedOn=NOW - timedelta(hours=2)))
    write("/aws-glue/jobs/output", "late", stream=RUN)
    assert read() == []
    assert read(minutes=180) == [("transform_batch", "late")]


def test_a_python_transforms_own_function_is_found_by_its_registration(published, opened) -> None:
    opened.datasets.put_item(Item={"team": "air", "dataset": "flights", "transform_function_arn": "arn:own"})
    write("own", {"message": "mine", "team": "air", "dataset": "flights"})

    class Functions:
        def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
            return {"LoggingConfig": {"LogGroup": {"arn:own": "own"}[FunctionName]}}

    class Session(boto3.Session):
        def client(self, name: str, *rest: Any, **more: Any) -> Any:
            return Functions() if name == "lambda" else super().client(name, *rest, **more)

    found = Lake("test")
    reader = Reader(found, found.contract.address("air", "flights"), session=Session())
    assert [(one.source, one.shown) for one in reader.lines(NOW - timedelta(hours=1))] == [("light_transform", "mine")]
    opened.datasets.put_item(Item={"team": "air", "dataset": "flights", "kind": "dataset"})


def _since_now() -> float:
    """So many seconds "ago" is this very moment."""
    return (NOW - datetime.now(UTC)).total_seconds()


def test_followed_lines_are_given_once_and_late_ones_too(published, monkeypatch) -> None:
    line = {"message": "first", "team": "air", "dataset": "flights"}
    naps = 0

    def nap(seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 1:
            write("transform", line | {"message": "late"}, seconds_ago=_since_now() + 5, stream="b")
        elif naps == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(logs, "sleep", nap)
    write("transform", line, seconds_ago=_since_now())
    done = CliRunner().invoke(cli.app, ["logs", "air/flights", "--environment", "test", "--follow"])
    assert done.exit_code == 0, done.output
    assert [text.split()[2:] for text in done.output.splitlines()] == [["first"], ["late"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["air/nothing"], "this lake has no dataset air/nothing: it has air/flight, air/flights"),
        (["flights"], "is not TEAM/DATASET"),
        (["air/flights", "--since", "soon"], "'soon' is not a length of time such as 90s, 15m, 1h or 2d"),
        (["air/flights", "--batch", "nope"], "air/flights has no batch nope"),
    ],
)
def test_what_cannot_be_shown_is_said(published, words, said) -> None:
    done = CliRunner().invoke(cli.app, ["logs", *words, "--environment", "test"])
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172800)], ids=str)
def test_lengths_of_time(text, seconds) -> None:
    assert NOW - watching.moment(text, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "level", "shown"),
    [
        ('{"level":"WARNING","message":"careful","id":"x","empty":""}', "WARNING", "careful id=x"),
        ('{"type":"TaskFailed","details":{"cause":"é"}}', "ERROR", 'TaskFailed details={"cause":"é"}'),
        ("Task timed out after 3 seconds", "ERROR", "Task timed out after 3 seconds"),
        ("Failed: RowCount > 0", "ERROR", "Failed: RowCount > 0"),
        ("Passed: RowCount > 0\n", "INFO", "Passed: RowCount > 0"),
        ('{"half', "INFO", '{"half'),
        ("[1]", "INFO", "[1]"),
    ],
)
def test_a_line_as_a_person_reads_it(text, level, shown) -> None:
    line = Line(NOW, "finish_batch", "stream", text)
    assert (line.level, line.shown) == (level, shown)
