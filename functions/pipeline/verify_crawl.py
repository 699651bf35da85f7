"""verify_crawl: believes a crawl only when the batch's partitions are in the Glue Data Catalog.

Woken by the stage_to_analytics machine after the crawl. Changes the dataset's view, made equal to the table's columns.
Gives the number of partitions.
"""

from __future__ import annotations

from typing import Any

import boto3

from lake import crawls
from lake.observability import logger
from lake.outcomes import Run

s3 = boto3.client("s3")
glue = boto3.client("glue")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Check what the crawl of ``event["run"]`` registered.

    Raises:
        As lake.crawls.verify.
    """
    run = Run.parse(event["run"])
    answer = {"partitions": crawls.verify(s3, glue, run)}
    logger.info("crawl verified", extra={"batch_id": run.batch_id, "attempt": run.attempt, **answer})
    return answer
