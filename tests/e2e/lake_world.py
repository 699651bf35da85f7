"""What end-to-end tests do with the demo's lake: put, start, wait, look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3

from tarn import deployment
from tarn.lake import Lake

T = TypeVar("T")
FINAL = {"PUBLISHED", "FAILED", "FAILED_QUALITY"}
HIDDEN_SECONDS = 400
"""So long a dataset's queue hides messages that a run received: one that was killed leaves them so."""

TAKEN_AT_UPDATE = (
    *("Role", "Command", "DefaultArguments", "NonOverridableArguments", "GlueVersion", "Timeout", "MaxRetries"),
    *("WorkerType", "NumberOfWorkers", "SecurityConfiguration"),
)
"""UpdateJob replaces the whole job."""


@dataclass(frozen=True)
class Demo:
    """A finished run of ``tarn demo --keep``, and the lake that it left."""

    returncode: int
    screen: str
    state: Path
    lake: Lake
    session: boto3.Session


def leaving_out_all_but(dataset: str) -> dict[str, str]:
    """Overrides of a deployment with one dataset, which is called as its parameters are: ``AirAirlines``."""
    ending = deployment.ASSET_PREFIX_PARAMETER
    return {one: "" for one in deployment.root_parameters() if one.endswith(ending) and one != f"{dataset}{ending}"}


def wait_for(look: Callable[[], T | None], what: str, seconds: float = 180) -> T:
    """What ``look`` gives once it gives anything; the bound is only there so that a hang is a failure."""
    until = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < until, f"after {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


def batches_of(demo: Demo, dataset: str) -> list[dict[str, Any]]:
    """A dataset's batches, oldest first, without those that came to nothing."""
    found = [row for row in demo.lake.status().batches if row["dataset"] == dataset and row["state"] != "ABANDONED"]
    return sorted(found, key=lambda row: row["batch_id"])


def published_keys(demo: Demo, prefix: str) -> list[str]:
    """What lies in the analytics zone under a prefix."""
    bucket = demo.lake.contract.foundations("analytics-bucket/name")
    pages = demo.session.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


def partitions_of(demo: Demo, table: str, team: str = "air") -> list[list[str]]:
    """Values of each partition that the Glue Data Catalog has."""
    database = demo.lake.contract.team(team, "database/name")
    pages = demo.session.client("glue").get_paginator("get_partitions").paginate(DatabaseName=database, TableName=table)
    return [one["Values"] for page in pages for one in page["Partitions"]]


def stage(demo: Demo, dataset: str, file: Path, name: str, team: str = "air") -> str:
    """Put a file and wait until it is staged; gives the raw object's identity."""
    identity = demo.lake.put(team, dataset, file, name)

    def staged() -> bool | None:
        return (demo.lake.object_row(identity) or {}).get("state") == "STAGED" or None

    wait_for(staged, f"{identity} is not staged")
    return identity


def start_batch(demo: Demo, dataset: str, team: str = "air") -> dict[str, Any]:
    """Wake start_batch for a dataset, as a full queue does, and give the batch that it made."""
    known = {row["batch_id"] for row in batches_of(demo, dataset)}

    def made() -> dict[str, Any] | None:
        demo.session.client("lambda").invoke(
            FunctionName=demo.lake.contract.pipeline(team, "main", "start-batch/arn"),
            Payload=json.dumps({"team": team, "dataset": dataset}),
        )
        return next((row for row in batches_of(demo, dataset) if row["batch_id"] not in known), None)

    return wait_for(made, f"no batch of {dataset} was made", HIDDEN_SECONDS)


def end_of(demo: Demo, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch's row once it has ended."""

    def ended() -> dict[str, Any] | None:
        row = demo.lake.batch(batch["owner"], batch["batch_id"])
        return row if row["state"] in FINAL else None

    return wait_for(ended, f"batch {batch['batch_id']} does not end")


def limit_jobs(session: boto3.Session, names: Iterable[str], most: int) -> None:
    """Let each of these jobs have so many runs at a time."""
    glue = session.client("glue")
    for name in names:
        stands = glue.get_job(JobName=name)["Job"]
        kept = {field: stands[field] for field in TAKEN_AT_UPDATE if field in stands}
        glue.update_job(JobName=name, JobUpdate={**kept, "ExecutionProperty": {"MaxConcurrentRuns": most}})


@contextmanager
def job_script(demo: Demo, text: str) -> Iterator[None]:
    """Let the transform job run another script; the right one is put back."""
    glue, s3 = demo.session.client("glue"), demo.session.client("s3")
    location = next(
        job["Command"]["ScriptLocation"] for job in glue.get_jobs()["Jobs"] if "TransformBatchJob" in job["Name"]
    )
    bucket, _, key = location.removeprefix("s3://").partition("/")
    right = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
    try:
        yield
    finally:
        s3.put_object(Bucket=bucket, Key=key, Body=right)


@contextmanager
def notifications(demo: Demo, team: str = "air") -> Iterator[Callable[[str], dict[str, Any]]]:
    """Listen to a team's topic; gives a look-up of what was said about a batch."""
    sqs, sns = demo.session.client("sqs"), demo.session.client("sns")
    url = sqs.create_queue(QueueName=f"listener-{time.monotonic_ns()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = demo.lake.contract.team(team, "topic/arn")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
            }
        ],
    }
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    heard: list[dict[str, Any]] = []

    def about(batch_id: str) -> dict[str, Any]:
        def said() -> dict[str, Any] | None:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                body = json.loads(message["Body"])
                state = body["Subject"].rsplit(" ", 1)[-1]
                heard.append({"state": state, "subject": body["Subject"], "message": body["Message"]})
            return next((one for one in heard if batch_id in one["message"]), None)

        return wait_for(said, f"nobody was told of batch {batch_id}", seconds=30)

    try:
        yield about
    finally:
        sns.unsubscribe(SubscriptionArn=subscription)
        sqs.delete_queue(QueueUrl=url)
