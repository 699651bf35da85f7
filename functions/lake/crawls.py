"""Crawls: a crawler's own word is not believed either; what it was to register must be in the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lake import names, outcomes, publishing, views
from lake.outcomes import Run

if TYPE_CHECKING:
    from mypy_boto3_glue.client import GlueClient
    from mypy_boto3_glue.type_defs import PartitionValueListTypeDef
    from mypy_boto3_s3.client import S3Client

MOST_PARTITIONS_IN_A_CALL = 1000
"""https://docs.aws.amazon.com/glue/latest/webapi/API_BatchGetPartition.html"""


class CrawlIncompleteError(Exception):
    """The crawl ended well, and the table or a partition of the batch is not in the Glue Data Catalog."""


def verify(s3: S3Client, glue: GlueClient, run: Run) -> int:
    """Every published partition of the attempt is registered where its files are; then the view is made equal.

    Returns:
        How many partitions that are.

    Raises:
        OutcomeMissingError: the attempt was not published.
        CrawlIncompleteError: names the table and the first partition that is missing.
        ViewConflictError: others changed the view at every try.
    """
    registration = outcomes.read_json(s3, run.manifest_uri)["registration"]
    database, table = registration["database_name"], registration["table_name"]
    bucket, _ = names.split_object_id(run.pending_uri)
    prefixes = publishing.read_receipt(s3, run).partitions
    _check_table(glue, database, table, names.object_id(bucket, names.table_prefix(run.team, run.dataset)))
    spelt = {one: publishing.spellings(names.table_prefix(run.team, run.dataset), one) for one in prefixes}
    found = _locations(glue, database, table, [values for spellings in spelt.values() for values in spellings])
    for prefix, spellings in spelt.items():
        wanted = names.object_id(bucket, prefix)
        locations = {found[tuple(values)] for values in spellings if tuple(values) in found}
        if not locations:
            raise CrawlIncompleteError(f"table {database}.{table}: the crawler did not register partition {wanted}")
        if wanted not in locations:
            raise CrawlIncompleteError(
                f"table {database}.{table}: the crawler registered {sorted(locations)} as partition {wanted}"
            )
    views.ensure(glue, database, table, f"{run.team}/{run.dataset}", publishing.BATCH_COLUMN)
    return len(prefixes)


def _check_table(glue: GlueClient, database: str, table: str, wanted: str) -> None:
    """A crawler whose folder's name is taken by a table elsewhere makes one under another name."""
    try:
        stands = glue.get_table(DatabaseName=database, Name=table)["Table"]
    except glue.exceptions.EntityNotFoundException:
        raise CrawlIncompleteError(f"the crawler made no table {database}.{table}") from None
    location = _folder(stands["StorageDescriptor"].get("Location", ""))
    if location != wanted:
        raise CrawlIncompleteError(f"table {database}.{table} lies at {location}: it is not this dataset's")


def _locations(
    glue: GlueClient, database: str, table: str, wanted: Sequence[Sequence[str]]
) -> dict[tuple[str, ...], str]:
    """Location of each of these partitions that is registered."""
    found = {}
    left: list[PartitionValueListTypeDef] = [{"Values": list(values)} for values in wanted]
    while left:
        some, left = left[:MOST_PARTITIONS_IN_A_CALL], left[MOST_PARTITIONS_IN_A_CALL:]
        answer = glue.batch_get_partition(DatabaseName=database, TableName=table, PartitionsToGet=some)
        for one in answer["Partitions"]:
            found[tuple(one["Values"])] = _folder(one["StorageDescriptor"].get("Location", ""))
        if answer["Partitions"]:  # else what was not processed is not there
            left += [{"Values": one["Values"]} for one in answer.get("UnprocessedKeys", [])]
    return found


def _folder(location: str) -> str:
    return location.rstrip("/") + "/"
