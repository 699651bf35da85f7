"""A dataset's whole registration, as the functions of its pipeline need it.

Believed for a minute, like the router's view of it: what travels is settled by rows, never by a registration.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lake import rows
from lake.datasets import BELIEVED_FOR, DATASET

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table


class NotRegisteredError(Exception):
    """The dataset has no registration: its stack is being made or deleted, and its objects wait in their queue."""


def light_transform(registration: Mapping[str, Any]) -> str | None:
    """The file of the dataset's light transform, ``.sql`` or ``.py``; None where the rows are taken as they are.

    Rows that an earlier version has written call it ``transform_sql``.
    """
    named = registration.get("light_transform") or registration.get("transform_sql")
    return str(named) if named else None


class Registrations:
    """Registration rows, remembered for as long as the function's instance lives."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._found: dict[tuple[str, str], tuple[datetime, Mapping[str, Any]]] = {}

    def get(self, team: str, dataset: str, moment: datetime) -> Mapping[str, Any]:
        """The registration row of a team's dataset.

        Raises:
            NotRegisteredError: there is none.
        """
        since, known = self._found.get((team, dataset), (None, None))
        if since is not None and known is not None and moment - since < BELIEVED_FOR:
            return known
        row = rows.get(self._table, {"team": team, "dataset": dataset})
        if row is None or row.get("kind") != DATASET:
            raise NotRegisteredError(f"dataset {dataset} of team {team} is not registered")
        self._found[team, dataset] = (moment, row)
        return row
