"""``tarn explain``: the whole life of one object, from what its rows, its batch, S3 and the logs tell.

Times come from S3 (when it landed, when it was staged), the batch's row and the lines that name the object; what the
logs keep no longer is missing, and the rest still stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError
from rich.console import Console, Group
from rich.text import Text

from lake import batches, catalog, clock, names, outcomes, publishing, rows
from lake.batches import State
from lake.executions import Machine, execution_input
from lake.outcomes import OutcomeMismatchError, OutcomeMissingError, Run
from tarn.contract import ContractError, DatasetAddress
from tarn.lake import Lake
from tarn.logs import Line, Reader
from tarn.screen import coloured, log_colour, table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3.client import S3Client

MOST_RELATIVES = 20
"""Ancestors and descendants that are looked at; a batch may have thousands."""
AROUND = timedelta(minutes=10)
"""Lines are looked for so long before the first thing that is known, and after the last."""
LONGEST_LOOK = timedelta(days=1)
"""And so long after it for an object that has not come to an end, in a batch or by itself."""


@dataclass(frozen=True)
class Moment:
    """Something that happened: when, what, by which function or execution, and what was said."""

    at: str
    what: str
    where: str
    detail: str = ""

    @property
    def order(self) -> tuple[str, bool, str]:
        """S3 tells whole seconds: what it tells comes after all else of that second."""
        return (self.at[:19], self.at[19:] == ".000Z", self.at)


@dataclass
class Life:
    """All that is known of an object."""

    id: str
    zone: str
    state: str = "unknown"
    why: str = ""
    following: str = ""
    """The next command."""
    moments: list[Moment] = field(default_factory=list)
    ancestors: list[str] = field(default_factory=list)
    descendants: list[str] = field(default_factory=list)


def explain(lake: Lake, identity: str, session: boto3.Session | None = None) -> Life:
    """Look at everything that names the object.

    Raises:
        ContractError: it is in no zone of this lake, or neither S3 nor the object catalog knows it.
    """
    return _Explainer(lake, session or boto3.Session()).explain(identity)


@dataclass
class _Explainer:
    lake: Lake
    session: boto3.Session

    def __post_init__(self) -> None:
        contract = self.lake.contract
        self._s3: S3Client = self.session.client("s3")
        self._zones = {contract.foundations(f"{zone}-bucket/name"): zone for zone in ("raw", "stage", "analytics")}
        self._buckets = {zone: bucket for bucket, zone in self._zones.items()}
        name = contract.foundations("batches-table/name")
        self._batches: Table = self.session.resource("dynamodb").Table(name)

    def explain(self, identity: str) -> Life:
        bucket, key = names.split_object_id(identity)
        if bucket not in self._zones:
            raise ContractError(f"{identity} is in no zone of this lake: they are {', '.join(self._zones)}")
        life = Life(identity, self._zones[bucket])
        row, head = self.lake.object_row(identity), self._head(identity)
        if row is None and head is None:
            raise ContractError(f"neither S3 nor the object catalog knows {identity}")
        life.state = str(row["state"]) if row else "no row"
        life.why = str((row or {}).get("reason", ""))
        place = names.locate(key)
        address = _address(self.lake, place)
        whose = f"{place.team}/{place.dataset}" if place else "TEAM/DATASET"
        if life.zone == "raw":
            self._of_raw(life, row, head, whose)
        elif life.zone == "stage":
            self._of_staged(life, identity, row or {}, whose)
            if source := (row or {}).get("source_id"):
                life.ancestors.append(str(source))
                self._landed(life, str(source), self.lake.object_row(str(source)), self._head(str(source)))
        else:
            self._of_published(life, row or {}, head, whose)
        if row is None:
            life.why, life.following = "the object catalog has no row of it", f"tarn reconcile {whose}"
        if address:
            named = [identity, *life.ancestors, *life.descendants]
            life.moments += self._lines(address, life, [one for one in named if self._zone(one) != "analytics"])
        life.moments.sort(key=lambda one: one.order)
        return life

    # --- by zone

    def _of_raw(self, life: Life, row: Mapping[str, Any] | None, head: Mapping[str, Any] | None, whose: str) -> None:
        self._landed(life, life.id, row, head)
        life.following = _next_of_raw(row or {}, life.id, whose, is_there=head is not None)
        for staged_id in self._staged_of(life.id, row or {}):
            life.descendants.append(staged_id)
            staged = self.lake.object_row(staged_id) or {}
            mine = staged_id == (row or {}).get("staged_id")
            told = Life(staged_id, "stage", why=str(staged.get("reason", "")))
            self._of_staged(told, staged_id, staged, whose)
            life.moments += told.moments
            life.descendants += told.descendants
            if mine and life.state == catalog.STAGED:
                life.following = told.following
                life.why = life.why or told.why

    def _of_staged(self, life: Life, identity: str, row: Mapping[str, Any], whose: str) -> None:
        if head := self._head(identity):
            size = f"{head['ContentLength']} bytes" + (f", {row['rows']} rows" if "rows" in row else "")
            life.moments.append(Moment(clock.stamp(head["LastModified"]), "staged", "transform_objects", size))
        state, batch_id = str(row.get("state", "no row")), str(row.get("batch_id", ""))
        life.following = _next_of_staged(state, life.id, whose)
        if not batch_id:
            return
        batch = rows.get(self._batches, {"owner": whose.replace("/", "#"), "batch_id": batch_id})
        if batch is None:
            life.why = f"its batch {batch_id} has no row"
            return
        life.moments += _of_batch(batch)
        if state != catalog.STALE:
            life.why = life.why or str(batch.get("reason", ""))
            life.following = _next_of_batch(batch, whose)
        life.descendants += self._files(batch)

    def _of_published(self, life: Life, row: Mapping[str, Any], head: Mapping[str, Any] | None, whose: str) -> None:
        if head:
            size = f"{head['ContentLength']} bytes"
            life.moments.append(Moment(clock.stamp(head["LastModified"]), "published", "publish_batch", size))
        elif row:
            life.why = "it is gone from the analytics zone"
            life.following = f"tarn reconcile {whose}"
        owner = {"owner": whose.replace("/", "#"), "batch_id": str(row.get("batch_id", "-"))}
        if (batch := rows.get(self._batches, owner)) is None:
            return
        life.moments += _of_batch(batch)
        life.following = life.following or _next_of_batch(batch, whose)
        held = self._held(batch)
        for one in islice(held, MOST_RELATIVES):
            life.ancestors.append(one)
            if source := (self.lake.object_row(one) or {}).get("source_id"):
                life.ancestors.append(str(source))
        if len(held) > MOST_RELATIVES:
            life.ancestors.append(f"and {len(held) - MOST_RELATIVES} more objects of batch {batch['batch_id']}")

    # --- what S3 keeps

    def _head(self, identity: str) -> Mapping[str, Any] | None:
        bucket, key = names.split_object_id(identity)
        try:
            return self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return None

    def _landed(self, life: Life, identity: str, row: Mapping[str, Any] | None, head: Mapping[str, Any] | None) -> None:
        if row and row.get("event_time"):
            what = "deleted" if row["state"] == catalog.DELETED else "landed"
            known = {name: row[name] for name in ("size", "version_id", "sequencer") if name in row}
            moment = clock.stamp(clock.parse(str(row["event_time"])))
            life.moments.append(Moment(moment, what, "S3", _fields(known)))
        elif head:
            moment = clock.stamp(head["LastModified"])
            life.moments.append(Moment(moment, "landed", "S3", _fields({"size": head["ContentLength"]})))
        if row and head and row.get("version_id") not in (None, head.get("VersionId")):
            moment = clock.stamp(head["LastModified"])
            life.moments.append(Moment(moment, "replaced", "S3", f"the row of {identity} is of another version"))

    def _staged_of(self, identity: str, row: Mapping[str, Any]) -> list[str]:
        """What was staged of a raw object, of its former versions, too."""
        _, key = names.split_object_id(identity)
        bucket = self._buckets["stage"]
        listed = self._s3.list_objects_v2(Bucket=bucket, Prefix=f"{key}~", MaxKeys=MOST_RELATIVES).get("Contents", [])
        found = [names.object_id(bucket, one["Key"]) for one in listed]
        latest = str(row.get("staged_id", ""))
        return found + ([latest] if latest and latest not in found else [])

    def _held(self, batch: Mapping[str, Any]) -> list[str]:
        try:
            uri = names.object_id(self._buckets["stage"], str(batch["manifest"]))
            return [str(one["id"]) for one in outcomes.read_json(self._s3, uri)["objects"]]
        except (KeyError, OutcomeMissingError, OutcomeMismatchError):
            return []

    def _files(self, batch: Mapping[str, Any]) -> list[str]:
        """What the batch published; the object's rows are in some of it."""
        if batch["state"] != State.PUBLISHED:
            return []
        machine = Machine("", self._buckets["stage"], self._buckets["analytics"])
        try:
            run = Run.parse(execution_input(machine, batches.of_row(batch), has_rules=False))
            files = publishing.read_receipt(self._s3, run).files
        except (OutcomeMissingError, OutcomeMismatchError):
            return []
        found = [names.object_id(self._buckets["analytics"], key) for key, _ in files[:MOST_RELATIVES]]
        more = len(files) - len(found)
        return found + ([f"and {more} more files of batch {batch['batch_id']}"] if more else [])

    def _zone(self, identity: str) -> str:
        return self._zones.get(names.split_object_id(identity)[0], "analytics")

    # --- the logs

    def _lines(self, address: DatasetAddress, life: Life, named: list[str]) -> Iterator[Moment]:
        """What functions wrote that names the object, while it was on its way."""
        known = sorted(clock.parse(one.at) for one in life.moments)
        if not known:
            return
        is_over = life.state in (catalog.DELETED, catalog.PUBLISHED) or any(
            one.where == "finish_batch" for one in life.moments
        )
        end = known[-1] if is_over else min(datetime.now(UTC), known[-1] + LONGEST_LOOK)
        reader = Reader(self.lake, address, session=self.session, objects=tuple(named), until=end + AROUND)
        for line in reader.lines(known[0] - AROUND):
            yield Moment(clock.stamp(line.at), *_said(line, named))


def _said(line: Line, named: Iterable[str]) -> tuple[str, str, str]:
    """What a line says of these objects, who wrote it, and the rest; of a list of objects, theirs alone."""
    fields = line.fields
    told = fields.get("objects")
    if not isinstance(told, list):
        said = str(fields.get("message") or "log")
        rest = line.shown.removeprefix(said).strip() if fields else line.shown
        return said, line.source, rest
    mine = [str(one[1]) for one in told if isinstance(one, list) and len(one) == 2 and one[0] in named]
    execution = {name: fields[name] for name in ("execution",) if name in fields}
    return str(fields.get("message")), line.source, " ".join(filter(None, [*mine, _fields(execution)]))


def _of_batch(batch: Mapping[str, Any]) -> Iterator[Moment]:
    """A batch's times, as its row keeps them."""
    execution = str(batch.get("execution_arn", "")).rpartition(":")[2]
    told: tuple[tuple[str, str, str, Callable[[], str]], ...] = (
        ("created_at", "batch is made", "start_batch", lambda: str(batch["batch_id"])),
        ("committed_at", "batch is committed", "start_batch", lambda: f"{batch.get('objects')} objects"),
        ("started_at", "batch is started", "start_batch", lambda: f"execution={execution}"),
        ("finished_at", str(batch["state"]), "finish_batch", lambda: str(batch.get("reason", ""))),
    )
    for name, what, where, detail in told:
        if name in batch:
            yield Moment(str(batch[name]), what, where, detail())


def _next_of_raw(row: Mapping[str, Any], identity: str, whose: str, *, is_there: bool) -> str:
    match row.get("state"):
        case catalog.QUARANTINED | catalog.TOO_LARGE:
            return f"tarn release {identity} once its cause is gone, or tarn discard {identity}"
        case catalog.UNROUTED:
            return f"register {whose}, and it is routed by itself"
        case catalog.LANDED:
            return f"tarn status; when it has stood so for an hour: tarn reconcile {whose} --fix"
        case catalog.DELETED if is_there:
            return f"tarn reconcile {whose} --fix"
    return ""


def _next_of_staged(state: str, identity: str, whose: str) -> str:
    match state:
        case catalog.STAGED:
            return f"it waits for a batch: tarn status; when it has stood so for an hour: tarn reconcile {whose} --fix"
        case catalog.STALE:
            return (
                f"its rows are published still: register {whose} with OnChange: replace, and the next tick runs its "
                "batch again without it"
            )
        case "no row":
            return f"tarn reconcile {whose} --fix"
    return ""


def _next_of_batch(batch: Mapping[str, Any], whose: str) -> str:
    batch_id = batch["batch_id"]
    match batch["state"]:
        case State.FAILED | State.FAILED_QUALITY:
            return f"tarn logs {whose} --batch {batch_id}; then tarn retry {batch_id}"
        case State.PUBLISHED:
            return f"nothing is left to do (tarn logs {whose} --batch {batch_id} shows how it went)"
        case _:
            return f"tarn logs {whose} --batch {batch_id} --follow"


def _address(lake: Lake, place: names.Location | None) -> DatasetAddress | None:
    """Where the object's dataset stands; without a pipeline where it is not registered, for the router's lines."""
    if place is None:
        return None
    try:
        return lake.contract.address(place.team, place.dataset)
    except ContractError:
        return DatasetAddress(place.team, "", place.dataset)


def _fields(known: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in known.items())


# --- the screen


def show(console: Console, life: Life) -> None:
    """Print an object's life: what happened in its order, its relatives, why it stopped, the next command."""
    made = table(life.id, "when", "what", "who", "")
    for one in life.moments:
        made.add_row(one.at, coloured(one.what), Text(one.where, style=log_colour(one.where)), one.detail)
    relatives = [
        Text.assemble((f"{heading}\n", "bold"), "\n".join(f"  {one}" for one in some))
        for heading, some in (("Made from", life.ancestors), ("Made of it", life.descendants))
        if some
    ]
    console.print(Group(made, *relatives), soft_wrap=True)
    console.print(Text.assemble("\nIt is ", coloured(life.state), f": {life.why}" if life.why else ""), soft_wrap=True)
    if life.following:
        console.print(Text.assemble(("Next: ", "bold"), life.following), soft_wrap=True)
