"""What a person does with a lake, through AWS's own APIs: the same on an account and on a laptop."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.conditions import Key

from lake import clock, dependencies, freshness, names, waiting
from tarn.contract import Contract, ContractError, DatasetAddress

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import DynamoDBServiceResource, Table

LATEST_BATCHES = 20
"""Batch rows shown for a dataset: a screenful, not its history."""


class QueryError(Exception):
    """Athena did not answer; the message is Athena's own reason."""


@dataclass(frozen=True)
class Answer:
    """A query's rows, all values as text (Athena's API gives no other), NULL as None."""

    columns: list[str]
    rows: list[list[str | None]]


@dataclass(frozen=True)
class Status:
    """The lake at one moment."""

    environment: str
    batches: list[dict[str, Any]]
    """Batch rows, newest first."""
    queues: dict[str, dict[str, int]]
    """Messages visible and in flight by queue (approximate, as SQS gives them)."""
    attention: list[dict[str, Any]]
    """Objects that need a person: identity, state, since when, why."""
    freshness: list[dict[str, Any]] = field(default_factory=list)
    """Datasets whose freshness is watched: hours since they published, hours that are allowed, whether stale."""
    waits: list[dict[str, Any]] = field(default_factory=list)
    """Datasets whose batches wait until others have published: for whom, since when, how long at most."""
    objects: dict[str, dict[str, int]] = field(default_factory=dict)
    """Objects by dataset and state: only when counted exactly (a scan of the object catalog)."""


class Lake:
    """A deployed lake, found through its contract.

    Raises:
        ContractError: no lake of this environment in the session's account and region.
    """

    def __init__(self, environment: str, session: boto3.Session | None = None) -> None:
        self._session = session or boto3.Session()
        self.contract = Contract(self._session.client("ssm"), environment)

    def put(self, team: str, dataset: str, file: Path, name: str | None = None) -> str:
        """Land a file in the raw zone under ``team/dataset/``, under its own name or ``name``; gives its identity."""
        bucket = self.contract.foundations("raw-bucket/name")
        key = f"{team}/{dataset}/{name or file.name}"
        self._session.client("s3").upload_file(str(file), bucket, key)
        return f"s3://{bucket}/{key}"

    def status(self, *, exact: bool = False) -> Status:
        """Batches, queues and what needs a person; with ``exact`` also a count of every object."""
        registered = self._registered()
        return Status(
            environment=self.contract.environment,
            batches=self._batches(),
            queues=self._depths(),
            attention=self._attention(),
            freshness=_freshness(registered, datetime.now(UTC)),
            waits=_waits(registered),
            objects=self._count() if exact else {},
        )

    def query(self, sql: str, team: str | None = None, poll_seconds: float = 0.5) -> Answer:
        """Ask Athena in the team's workgroup and database.

        Raises:
            QueryError: the query failed or was cancelled.
            ContractError: no such team, or several teams and none named.
        """
        team = team or self._only_team()
        athena = self._session.client("athena")
        query_id = athena.start_query_execution(
            QueryString=sql,
            WorkGroup=self.contract.team(team, "workgroup/name"),
            QueryExecutionContext={"Database": self.contract.team(team, "database/name")},
        )["QueryExecutionId"]
        while True:
            status = athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"]
            if status["State"] == "SUCCEEDED":
                break
            if status["State"] in ("FAILED", "CANCELLED"):
                raise QueryError(status.get("StateChangeReason", f"the query ended {status['State']}"))
            time.sleep(poll_seconds)
        pages = athena.get_paginator("get_query_results").paginate(QueryExecutionId=query_id)
        columns: list[str] = []
        rows: list[list[str | None]] = []
        for page in pages:
            columns = [one["Name"] for one in page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]]
            rows += [[cell.get("VarCharValue") for cell in row.get("Data", [])] for row in page["ResultSet"]["Rows"]]
        return Answer(columns, rows[1:])

    def batch(self, owner: str, batch_id: str) -> dict[str, Any]:
        """One batch row, read consistently.

        Raises:
            ContractError: there is none.
        """
        key = {"owner": owner, "batch_id": batch_id}
        row = self._table("batches").get_item(Key=key, ConsistentRead=True).get("Item")
        if row is None:
            raise ContractError(f"{owner.replace('#', '/')} has no batch {batch_id}: tarn status shows its latest")
        return dict(row)

    def batches_of(self, address: DatasetAddress) -> list[dict[str, Any]]:
        """The latest batch rows of a dataset, newest first."""
        found = self._table("batches").query(
            KeyConditionExpression=Key("owner").eq(names.owner_key(address.team, address.dataset)),
            ScanIndexForward=False,
            Limit=LATEST_BATCHES,
        )
        return [dict(row) for row in found["Items"]]

    def registration(self, address: DatasetAddress) -> dict[str, Any]:
        """A dataset's registration row; empty while its stack is being made or deleted."""
        found = self._table("datasets").get_item(Key={"team": address.team, "dataset": address.dataset})
        return dict(found.get("Item", {}))

    def object_row(self, identity: str) -> dict[str, Any] | None:
        """An object's row in the object catalog."""
        row = self._table("objects").get_item(Key={"id": identity}, ConsistentRead=True).get("Item")
        return dict(row) if row else None

    def _table(self, thing: str) -> Table:
        return self._dynamodb.Table(self.contract.foundations(f"{thing}-table/name"))

    @cached_property
    def _dynamodb(self) -> DynamoDBServiceResource:
        """Made once, when a table is first asked for: botocore reads the service's whole model for each."""
        return self._session.resource("dynamodb")

    def _only_team(self) -> str:
        teams = self.contract.teams()
        if len(teams) != 1:
            raise ContractError(f"name a team with --team: this lake has {', '.join(teams) or 'none'}")
        return teams[0]

    def _batches(self) -> list[dict[str, Any]]:
        rows = [row for address in self.contract.datasets() for row in self.batches_of(address)]
        return sorted(rows, key=lambda row: str(row.get("created_at", "")), reverse=True)

    def _depths(self) -> dict[str, dict[str, int]]:
        sqs = self._session.client("sqs")
        return {place: asdict(waiting.depth(sqs, url)) for place, url in self.contract.queues().items()}

    def _registered(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Each dataset's registration and tick row, by the rows that the tick reads, in order of their names."""
        name = self.contract.foundations("datasets-table/name")
        query = self._table("datasets").meta.client.get_paginator("query")
        found = []
        for team in self.contract.teams():
            pages = query.paginate(TableName=name, KeyConditionExpression=Key("team").eq(team))  # type: ignore[arg-type]
            rows = {str(row["dataset"]): row for page in pages for row in page["Items"]}
            ticks = {dataset: rows.get(waiting.tick_key(team, dataset)["dataset"], {}) for dataset in rows}
            found += [(dict(row), dict(ticks[dataset])) for dataset, row in sorted(rows.items())]
        return found

    def _attention(self) -> list[dict[str, Any]]:
        """The whole of the sparse index: it holds only what needs a person."""
        pages = (
            self._table("objects")
            .meta.client.get_paginator("scan")
            .paginate(TableName=self.contract.foundations("objects-table/name"), IndexName="attention")
        )
        rows = []
        for page in pages:
            for row in page["Items"]:
                state, _, since = str(row["attention_at"]).partition("#")
                rows.append({"id": row["id"], "state": state, "since": since, "reason": row.get("reason", "")})
        return sorted(rows, key=lambda row: (row["state"], row["since"]))

    def _count(self) -> dict[str, dict[str, int]]:
        pages = (
            self._table("objects")
            .meta.client.get_paginator("scan")
            .paginate(
                TableName=self.contract.foundations("objects-table/name"),
                ProjectionExpression="team, #dataset, #zone, #state",
                ExpressionAttributeNames={"#dataset": "dataset", "#zone": "zone", "#state": "state"},
            )
        )
        counts: dict[str, Counter[str]] = {}
        for page in pages:
            for row in page["Items"]:
                place = f"{row.get('team', '-')}/{row.get('dataset', '-')}"
                counts.setdefault(place, Counter())[f"{row['zone']} {row['state']}"] += 1
        return {place: dict(sorted(states.items())) for place, states in sorted(counts.items())}


def _freshness(registered: list[tuple[dict[str, Any], dict[str, Any]]], now: datetime) -> list[dict[str, Any]]:
    """What the alarm of a dataset is told, and when."""
    found = []
    for row, tick in registered:
        allowed, moment = freshness.limit(row), freshness.since(tick)
        if allowed and moment:
            hours = (now - moment) / timedelta(hours=1)
            found.append(
                {
                    "team": row["team"],
                    "dataset": row["dataset"],
                    "published_at": tick.get("published_at"),
                    "hours": round(hours, 1),
                    "freshness_hours": allowed,
                    "stale": hours >= allowed,
                }
            )
    return found


def _waits(registered: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Whom datasets with something in their queue wait for; what names nobody any more waits for nobody."""
    return [
        {
            "team": row["team"],
            "dataset": row["dataset"],
            "held_by": list(tick[dependencies.HELD_BY]),
            "held_since": clock.stamp(since),
            "depends_on_max_wait_hours": int(row["depends_on_max_wait_hours"]),
        }
        for row, tick in registered
        if row.get("depends_on") and tick.get("waiting_since") and (since := dependencies.waited_since(tick))
    ]
