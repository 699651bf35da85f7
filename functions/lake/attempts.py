"""New attempts of finished batches: what runs again, from which objects (protocol 6).

An attempt has a manifest of its own, which lists what stands of the former one: in a dataset with ``OnChange: replace``
without the objects whose raw object has changed since. It is written first, under a key that its contents give; then
one conditional write makes the batch ``READY`` at the next attempt and points to it. That write is the commit: whatever
dies before it has done nothing, and two that want the same attempt make one. What was left out keeps its place in
``attention`` until an attempt without it is published.

The manifest has the registration as it is now, so that what was mended since is what runs. Manifests only ever get
shorter: no object comes back to a batch that has let it go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr, Key

from lake import batches, catalog, manifests, names, outcomes, rows
from lake.batches import Batch, Contents, State
from lake.engines import GLUE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

REPLACE = "replace"
"""The registration's ``OnChange`` by which published rows of changed objects are taken out; anything else keeps."""
ATTENTION_INDEX = "attention"
MOST_CHANGED = 10_000
"""Changed objects that one run looks at; the next run begins at another shard of the index."""


@dataclass(frozen=True)
class Clients:
    """What making an attempt works with."""

    objects: Table
    batches: Table
    s3: S3Client
    stage_bucket: str


@dataclass(frozen=True)
class Planned:
    """The next attempt of a batch, not made yet: its manifest's text, and the objects that the former one had."""

    former: Batch
    contents: Contents
    text: bytes
    left_out: list[str]


@dataclass(frozen=True)
class Made:
    """An attempt that is committed and can be started."""

    batch: Batch
    contents: Contents


def replaces(registration: Mapping[str, Any]) -> bool:
    """Whether the dataset takes out published rows whose raw object has changed."""
    return registration.get("on_change") == REPLACE


def plan(clients: Clients, row: Mapping[str, Any], registration: Mapping[str, Any]) -> Planned:
    """What the next attempt of the batch in ``row`` takes; changes nothing.

    Raises:
        OutcomeMissingError, OutcomeMismatchError: the manifest of the former attempt is gone, or no manifest.
    """
    former = batches.of_row(row)
    manifest = outcomes.read_json(clients.s3, names.object_id(clients.stage_bucket, former.manifest_key))
    found = rows.get_many(clients.objects, (one["id"] for one in manifest["objects"]))
    left_out = (catalog.STALE, catalog.SUPERSEDED) if replaces(registration) else ()
    gone = [identity for identity, one in found.items() if one["state"] in left_out]
    stand = [
        manifests.entry(one["id"], found[one["id"]]) if one["id"] in found else one
        for one in manifest["objects"]
        if one["id"] not in set(gone)
    ]
    text = manifests.text(
        {
            **manifest,
            "attempt": former.attempt + 1,
            "registration": registration,
            "objects": stand,
            "left_out": sorted({*manifest.get("left_out", []), *gone}),
        }
    )
    digest = sha256(text).hexdigest()[:12]
    key = names.attempt_manifest_key(former.team, former.dataset, former.batch_id, former.attempt + 1, digest)
    size = sum(int(one.get("size") or 0) for one in stand)
    # Where nothing is left there is nothing to judge: no rule may keep rows in that are to be taken out.
    has_rules = bool(stand) and bool(registration.get("rules"))
    contents = Contents(key, len(stand), size, has_rules, str(registration.get("engine", GLUE)))
    return Planned(former, contents, text, sorted(gone))


def make(clients: Clients, planned: Planned, now: datetime) -> Made:
    """Write the manifest, then commit the attempt.

    Raises:
        NotInStateError: the batch is no longer where it was when the attempt was planned.
    """
    manifests.put(clients.s3, clients.stage_bucket, planned.contents.manifest, planned.text)
    return Made(batches.new_attempt(clients.batches, planned.former, now, planned.contents), planned.contents)


def replace(clients: Clients, registration: Mapping[str, Any], batch_id: str, now: datetime) -> Made | None:
    """A new attempt of a published batch without its changed objects; None where there is none to make.

    A batch that is on its way is looked at when it is published. One that has failed waits for a person: its retry
    leaves out the same objects.

    Raises:
        NotInStateError: another run was quicker, and came to other objects.
        OutcomeMissingError, OutcomeMismatchError: the manifest of the former attempt is gone, or no manifest.
    """
    row = rows.get(clients.batches, batches.row_key(str(registration["team"]), str(registration["dataset"]), batch_id))
    if row is None or row["state"] != State.PUBLISHED:
        return None
    planned = plan(clients, row, registration)
    return make(clients, planned, now) if planned.left_out else None


def changed_batches(objects: Table, team: str, dataset: str, now: datetime) -> list[str]:
    """The batches that hold changed objects, as the sparse index shows them; a hint, for it may be behind."""
    first = int(now.timestamp() // 60)
    shards = ((first + shard) % names.ATTENTION_SHARDS for shard in range(names.ATTENTION_SHARDS))
    shown = chain.from_iterable(_stale(objects, team, dataset, shard) for shard in shards)
    found = rows.get_many(objects, (str(row["id"]) for row in islice(shown, MOST_CHANGED)))
    stale = (row for row in found.values() if row["state"] == catalog.STALE)
    return sorted({str(row["batch_id"]) for row in stale if "batch_id" in row})


def has_changed(objects: Table, team: str, dataset: str) -> bool:
    """Whether the sparse index shows a changed object; one row of each shard is read."""
    return any(
        next(_stale(objects, team, dataset, shard, Limit=1), None) is not None
        for shard in range(names.ATTENTION_SHARDS)
    )


def settle_left_out(objects: Table, batch_id: str, left_out: Iterable[str]) -> None:
    """What an attempt was published without is ``SUPERSEDED``, and needs nobody any more. Safe to repeat."""
    for identity in left_out:
        try:
            rows.update(
                objects,
                {"id": identity},
                {"state": catalog.SUPERSEDED, "attention": None, "attention_at": None},
                condition=Attr("batch_id").eq(batch_id) & Attr("state").eq(catalog.STALE),
            )
        except rows.ConditionFailedError:
            continue


def _stale(objects: Table, team: str, dataset: str, shard: int, **arguments: Any) -> Iterator[dict[str, Any]]:
    return rows.query(
        objects,
        IndexName=ATTENTION_INDEX,
        KeyConditionExpression=Key("attention").eq(names.attention_shard(team, dataset, shard))
        & Key("attention_at").begins_with(f"{catalog.STALE}#"),
        **arguments,
    )
