"""The soak's lake: the real templates with two datasets, whose clocks are shortened so that faults end in minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import boto3

from tarn import assets, deployment, templates
from tarn.contract import Contract
from tarn.lake import Lake
from tests.e2e.lake_world import limit_jobs
from tests.soak.load import DATASETS, JUDGED, REPLACING, TEAM

FOLDER = Path(__file__).parent / "datasets"
DATASET_TEMPLATE = "pipeline/dataset.yaml"
COLUMNS = ",".join(["object:string:required", "put:int:required", "line:int:required", "amount:int:required"])
OF_ORDERS = {"LightTransform": "light.sql", "Rules": "rules.dqdl"}
OF_DATASET = {
    "orders": OF_ORDERS,
    JUDGED: OF_ORDERS,
    REPLACING: {
        "OnChange": "replace",
        "LightTransform": "light.sql",
        "HeavyTransform": "heavy.sql",
        "PartitionBy": "half",
    },
}
VISIBILITY_SECONDS = {"foundations/ingest-queue": 20, "pipeline/air/main/queue": 45}
"""As AWS counts them they are 6 minutes and half an hour: so long is a message hidden whose function was killed."""


@dataclass(frozen=True)
class Size:
    """What follows from how many objects there are: the size of batches, and the clocks.

    ``run_seconds`` is the time limit of start_batch: a run that was killed holds its objects, and the lease, for as
    long. ``max_wait_minutes`` is long enough for full batches.
    """

    least_items: int
    most_items: int
    run_seconds: int
    max_wait_minutes: int


def deploy(quality: bool, size: Size, session: boto3.Session, say: Callable[[str], None]) -> Lake:
    """Deploy it, and shorten its clocks."""
    prefixes = {name: "" for name in deployment.root_parameters() if name.endswith("AssetPrefix")}
    deployment.deploy("local", quality=quality, overrides=prefixes, say=say)
    contract = Contract(boto3.client("ssm"), "local")
    for dataset in (*DATASETS, *((JUDGED,) if quality else ())):
        _deploy_dataset(contract, dataset, size, say)
    lake = Lake("local", session)
    _shorten(lake, size)
    # this machine is no Glue, and the state machine's retries at the limit are met
    limit_jobs(session, lake.contract.jobs(TEAM, "main").values(), 2)
    _limit_functions()
    return lake


def _deploy_dataset(contract: Contract, dataset: str, size: Size, say: Callable[[str], None]) -> None:
    prefix, files = assets.of_dataset(FOLDER / ("orders" if dataset == JUDGED else dataset))
    bucket = contract.value("/tarn/local/assets/bucket/name")
    assets.upload(boto3.client("s3"), bucket, files)
    given = {
        "EnvironmentName": "local",
        "TeamName": TEAM,
        "PipelineName": "main",
        "DatasetName": dataset,
        "TableName": dataset,
        "AssetBucketName": bucket,
        "AssetPrefix": prefix,
        "Columns": COLUMNS,
        "LogRetentionDays": "1",
        "MinItems": str(size.least_items),
        "MaxItems": str(size.most_items),
        "MaxWaitMinutes": str(size.max_wait_minutes),
        **OF_DATASET[dataset],
    }
    taken = templates.load(Path(DATASET_TEMPLATE))["Parameters"]
    published = templates.published()
    wired = {
        name: contract.value(Template(published[name]).substitute(given))
        for name in taken
        if name in published and name not in given
    }
    stack = f"tarn-local-dataset-{TEAM}-{dataset}"
    deployment.deploy_stack("local", DATASET_TEMPLATE, stack, given | wired, bucket=bucket, protected=False, say=say)


def _limit_functions() -> None:
    """As few invocations at a time as a queue's mapping can have: with more of them a claim, which calls one after the
    other, takes four times as long.
    """
    functions = boto3.client("lambda")
    for page in functions.get_paginator("list_event_source_mappings").paginate():
        for one in page["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=one["UUID"], ScalingConfig={"MaximumConcurrency": 2})


def _shorten(lake: Lake, size: Size) -> None:
    """Visibility and the run's time limit, in their proportions: what is in work may not show before work's end."""
    sqs, functions = boto3.client("sqs"), boto3.client("lambda")
    for place, url in lake.contract.queues().items():
        seconds = size.run_seconds + 10 if place.endswith("staged-queue") else VISIBILITY_SECONDS.get(place)
        if seconds:
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})
    name = lake.contract.pipeline(TEAM, "main", "start-batch/arn")
    stands = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name,
        Timeout=size.run_seconds,
        Environment={"Variables": stands | {"FUNCTION_TIMEOUT_SECONDS": str(size.run_seconds)}},
    )


def wake(lake: Lake, dataset: str | None = None) -> None:
    """Wake start_batch: for one dataset, or the tick."""
    event = {"team": TEAM, "dataset": dataset} if dataset else {"schema": 1, "pipeline": "main"}
    boto3.client("lambda").invoke(
        FunctionName=lake.contract.pipeline(TEAM, "main", "start-batch/arn"),
        InvocationType="Event",
        Payload=json.dumps(event).encode(),
    )
