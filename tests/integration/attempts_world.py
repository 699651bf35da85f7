"""A dataset with ``OnChange: replace`` in moto: the real claim, the real attempts, the real end of a batch.

Spark and the state machine are left out: an attempt that was started is *published* by finishing it with a receipt,
and what its manifest lists is then what the table holds of its batch.
"""

from __future__ import annotations

import json
from typing import Any

from lake import attempts, batches, catalog, claim, executions, finishing, names, publishing, rows
from lake.batches import Batch, State
from lake.clock import stamp
from lake.outcomes import Run
from tests.integration.batch_claim_world import TEAM, RealWorld, Site

NO_RULES = finishing.Verdict("no rules", {})
NO_ROWS = {"rows_in": 0, "rows_out": 0}


class Unleased(claim.Run):
    """A run as ``go`` makes it, but that no lease keeps apart from others."""

    def recover(self) -> None:
        super().recover()
        registration = rows.get(self.clients.datasets, {"team": self.team, "dataset": self.dataset})
        assert registration is not None
        self.replace(registration)


class ReplacingWorld(RealWorld):
    """A dataset whose published rows go when their raw object changes; unless ``on_change`` says otherwise."""

    def __init__(self, site: Site, on_change: str = "replace", leased: bool = True) -> None:
        super().__init__(site, claim.Run if leased else Unleased, leased)
        self.table: dict[str, list[int]] = {}
        self.transformed: dict[str, list[int]] = {}
        row = self.registration()
        site.lake.datasets.put_item(Item={**row, "on_change": on_change})

    def registration(self) -> dict[str, Any]:
        return dict(self.site.lake.datasets.get_item(Key={"team": TEAM, "dataset": self.dataset})["Item"])

    def clients(self) -> attempts.Clients:
        lake = self.site.lake
        return attempts.Clients(lake.objects, lake.batches, lake.s3, lake.stage_bucket)

    def change(self, thing: int) -> str | None:
        """As the router does when a newer version, or a removal, of the raw object has come."""
        return catalog.retire(self.site.lake.objects, self.identity(thing), catalog.REPLACED, self.now)

    def run(self) -> list[str]:
        """One run of start_batch, to its end; gives the attempts that it made again."""
        held = self.begin()
        while self.step(held):
            pass
        return list(held.answer.replaced)

    def under_way(self) -> list[Run]:
        """The attempts that are started and have not ended; their transform reads the manifest now, and not later."""
        self.read = None
        machine = self.site.place.machine
        found = [batches.of_row(row) for row in self.batches() if row["state"] == State.STARTED]
        for batch in found:
            if batch.execution_name not in self.transformed:
                self.manifests.clear()
                uri = names.object_id(machine.stage_bucket, batch.manifest_key)
                self.transformed[batch.execution_name] = self.listed(uri)
        return [Run.parse(executions.execution_input(machine, batch, has_rules=False)) for batch in found]

    def publish(self, run: Run) -> None:
        """What the machine does with an attempt that goes well."""
        uri = publishing.receipt_uri(run)
        bucket, key = names.split_object_id(uri)
        lake = self.site.lake
        receipt = {"at": stamp(self.now), "files": [], "partitions": [], "deleted": []}
        lake.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(receipt).encode())
        clients = finishing.Clients(lake.s3, lake.objects, lake.datasets, lake.batches)
        self.table[run.batch_id] = self.transformed[names.execution_name(run.batch_id, run.attempt)]
        finishing.publish(clients, run, NO_ROWS, NO_RULES, self.now)

    def fail(self, run: Run) -> None:
        """What the machine does with one that does not."""
        finishing.fail(self.site.lake.batches, run, {"Error": "Spark", "Cause": "no"}, self.now)

    def retry(self, batch_id: str) -> Batch:
        """What a person does with a batch that failed."""
        clients = self.clients()
        key = batches.row_key(TEAM, self.dataset, batch_id)
        row = self.site.lake.batches.get_item(Key=key, ConsistentRead=True)["Item"]
        return attempts.make(clients, attempts.plan(clients, row, self.registration()), self.now).batch

    def listed(self, uri: str) -> list[int]:
        return sorted(self.thing(one["id"]) for one in self.manifest(uri)["objects"])

    def state(self, thing: int) -> str:
        return str((self.site.lake.row(self.identity(thing)) or {}).get("state"))

    def changed(self) -> set[int]:
        """What the index shows as STALE."""
        mine = f"/{self.dataset}/"
        return {self.thing(row["id"]) for row in self.site.lake.attention("STALE") if mine in row["id"]}

    def published(self) -> list[int]:
        """What the table holds."""
        return sorted(thing for things in self.table.values() for thing in things)

    def batch_rows(self) -> list[dict[str, Any]]:
        self.read = None
        return sorted(self.batches(), key=lambda row: row["batch_id"])


def filled(site: Site, things: int, on_change: str = "replace", leased: bool = True) -> ReplacingWorld:
    """A world with one batch of so many objects, which is published."""
    world = ReplacingWorld(site, on_change, leased)
    for thing in range(things):
        world.land(thing)
    world.run()
    (run,) = world.under_way()
    world.publish(run)
    return world
