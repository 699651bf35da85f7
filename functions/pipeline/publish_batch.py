"""publish_batch: makes what was audited what is read.

Woken by the stage_to_analytics machine. Changes the dataset's published prefix, its table and its partitions.
Gives the numbers of files, bytes and partitions that stand published, and for a crawled dataset which crawler has to
run now, and since when the files stand. Woken to withdraw an attempt that failed since, it takes the batch's files
away. Run again, it goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from lake import clock, publishing, settings
from lake.observability import logger
from lake.outcomes import Run


@dataclass(frozen=True)
class Settings:
    """Environment of this function."""

    batches_table_name: str


SETTINGS = settings.read(Settings)
CONNECTIONS = 40
"""Copies at once times parts at once, and some to spare."""

clients = publishing.Clients(
    s3=boto3.client("s3", config=Config(max_pool_connections=CONNECTIONS, retries={"mode": "standard"})),
    glue=boto3.client("glue"),
    batches=boto3.resource("dynamodb").Table(SETTINGS.batches_table_name),
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Publish ``event["run"]``, whose transform answered ``event["transform"]``; or withdraw it (``event["action"]``).

    Raises:
        As lake.publishing.publish and lake.publishing.withdraw.
    """
    run = Run.parse(event["run"])
    if event.get("action") == "withdraw":
        withdrawn = {"files": publishing.withdraw(clients, run)}
        logger.info("batch withdrawn", extra={"batch_id": run.batch_id, "attempt": run.attempt, **withdrawn})
        return withdrawn
    receipt = publishing.publish(clients, run, event["transform"]["run_id"], clock.now())
    answer: dict[str, Any] = {
        "files": len(receipt.files),
        "bytes": sum(size for _, size in receipt.files),
        "partitions": len(receipt.partitions),
    }
    if receipt.crawler_name and receipt.partitions:  # a crawl for no file would cost ten minutes' price
        # In whole seconds, rounded down: the crawl's own time may have no more.
        copied_at = clock.stamp(clock.now().replace(microsecond=0))
        answer |= {"crawler_name": receipt.crawler_name, "copied_at": copied_at}
    logger.info("batch published", extra={"batch_id": run.batch_id, "attempt": run.attempt, **answer})
    return answer
