"""Routing: from what S3 tells to a row of the object catalog and a message to the pipeline (protocols 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Key
from botocore.exceptions import BotoCoreError, ClientError

from lake import catalog, datasets, events, names, queues, rows
from lake.catalog import Applied, Verdict
from lake.datasets import Pipeline, Registry
from lake.events import Created, MalformedEventError, Removed
from lake.queues import Message

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

FAILS_ALONE = (
    MalformedEventError,
    catalog.UnreadableRowError,
    rows.ConditionFailedError,
    rows.UnknownSchemaError,
    ClientError,
    BotoCoreError,
)
"""What is wrong with one message, and must not keep the others of its batch."""
EMPTY = "empty"
FOLDER_MARKER = "FOLDER_MARKER"


@dataclass(frozen=True)
class Clients:
    """What the router works with; ``registry`` remembers lookups between calls."""

    objects: Table
    registry: Registry
    s3: S3Client
    sqs: SQSClient


@dataclass
class Routed:
    """What came of a message batch, for the answer and the log."""

    outcomes: list[tuple[str, str]] = field(default_factory=list)
    """Identity and outcome of each object."""
    failed: dict[str, str] = field(default_factory=dict)
    """The messages that must come back, and why."""


@dataclass(frozen=True)
class _Judged:
    verdict: Verdict
    pipeline: Pipeline | None = None


def route(clients: Clients, raw_bucket: str, bodies: Mapping[str, str], moment: datetime) -> Routed:
    """Apply the events of a message batch (body by message id) and send on what goes on; each message fails alone."""
    routed = Routed()
    sends: dict[str, list[Message]] = {}
    for message_id, body in bodies.items():
        try:
            for event in events.parse(body):
                applied, pipeline = _apply(clients, raw_bucket, event, moment)
                routed.outcomes.append((event.id, applied.outcome))
                if applied.row is not None and pipeline is not None:
                    sends.setdefault(pipeline.queue_url, []).append(message(message_id, applied.row))
        except FAILS_ALONE as error:
            routed.failed[message_id] = f"{type(error).__name__}: {error}"
    for queue_url, messages in sends.items():
        try:
            routed.failed |= queues.send(clients.sqs, queue_url, messages)
        except (ClientError, BotoCoreError) as error:
            # Some may have been sent: they are sent again, and staged to the same keys.
            routed.failed |= {one.tag: f"{type(error).__name__}: {error}" for one in messages}
    return routed


def resend_unrouted(
    clients: Clients, datasets_table: Table, ingest_queue_url: str, most: int, moment: datetime
) -> dict[str, int]:
    """Send a notification again for up to ``most`` objects that wait for a dataset which now exists.

    Gives the number by ``team/dataset``. While the ingest queue itself holds ``most`` messages nothing is added:
    what was sent again and not yet routed would only be sent twice. Each tick begins at another dataset, so that
    a great backlog does not keep the others waiting.
    """
    depth = clients.sqs.get_queue_attributes(QueueUrl=ingest_queue_url, AttributeNames=["ApproximateNumberOfMessages"])
    left = most - int(depth["Attributes"]["ApproximateNumberOfMessages"])
    pairs = datasets.registered(datasets_table)
    first = int(moment.timestamp() // 60) % max(len(pairs), 1)
    sent: dict[str, int] = {}
    for dataset, _ in pairs[first:] + pairs[:first]:
        if left <= 0:
            break
        group = f"{dataset.team}/{dataset.dataset}"
        waiting = list(_unrouted(clients.objects, dataset.team, dataset.dataset, left))
        messages = [Message(row["id"], events.notification(row), group) for row in waiting]
        failed = queues.send(clients.sqs, ingest_queue_url, messages)
        if messages:
            sent[group] = len(messages) - len(failed)
            left -= len(messages)
    return sent


def _apply(
    clients: Clients, raw_bucket: str, event: Created | Removed, moment: datetime
) -> tuple[Applied, Pipeline | None]:
    if event.bucket != raw_bucket:
        raise MalformedEventError(f"an event of bucket {event.bucket}; this queue is for {raw_bucket}")
    if isinstance(event, Removed):
        event = catalog.settle(clients.s3, event)
    if isinstance(event, Removed):
        return catalog.apply_removed(clients.objects, event, moment), None
    if event.is_folder_marker:
        return Applied(FOLDER_MARKER), None
    judged = _judge(clients.registry, event, moment)
    return catalog.apply_created(clients.objects, event, judged.verdict, moment), judged.pipeline


def _judge(registry: Registry, created: Created, moment: datetime) -> _Judged:
    """Whether a version that landed goes on, and where to."""
    if created.size == 0:
        return _Judged(Verdict(catalog.QUARANTINED, EMPTY))
    place = names.locate(created.key)
    if place is None:
        return _Judged(Verdict(catalog.UNROUTED, "its key does not begin with <team>/<dataset>/"))
    dataset = registry.dataset(place.team, place.dataset, moment)
    if dataset is None or dataset.team != place.team:
        return _Judged(Verdict(catalog.UNROUTED, f"dataset {place.team}/{place.dataset} is not registered"))
    pipeline = registry.pipeline(place.team, dataset.pipeline, moment)
    if pipeline is None:
        return _Judged(Verdict(catalog.UNROUTED, f"pipeline {dataset.pipeline} of team {place.team} is not deployed"))
    return _Judged(Verdict(catalog.LANDED), pipeline)


def message(tag: str, row: Mapping[str, Any]) -> Message:
    """What a pipeline's queue is told of a raw object's row."""
    bucket, key = names.split_object_id(row["id"])
    body = {
        "schema": rows.SCHEMA,
        "id": row["id"],
        "team": row["team"],
        "dataset": row["dataset"],
        "bucket": bucket,
        "key": key,
        "size": int(row["size"]),
        "version_id": row.get("version_id"),
        "sequencer": row["sequencer"],
    }
    return Message(tag, body, f"{row['team']}/{row['dataset']}")


def _unrouted(objects: Table, team: str, dataset: str, most: int) -> Iterator[Mapping[str, Any]]:
    """Rows of a dataset that still wait, the oldest of each shard first, up to ``most``."""
    identities: list[str] = []
    for shard in range(names.ATTENTION_SHARDS):
        if len(identities) >= most:
            break
        page = objects.query(
            IndexName="attention",
            KeyConditionExpression=Key("attention").eq(names.attention_shard(team, dataset, shard))
            & Key("attention_at").begins_with(f"{catalog.UNROUTED}#"),
            Limit=min(most - len(identities), rows.MOST_KEYS_IN_A_CALL),
        )
        identities += [str(row["id"]) for row in page["Items"]]
    # Rows that the index shows too late have gone their way.
    yield from (row for row in rows.get_many(objects, identities).values() if row["state"] == catalog.UNROUTED)
