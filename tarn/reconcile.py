"""What S3 holds, the object catalog says, batches did and the Glue Data Catalog shows, compared with each other.

Nothing is changed here; each finding names the one repair that leads back, or the command for a person. What is
younger than an hour is on its way, and not judged.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from lake import batches, catalog, clock, names, waiting
from lake.batches import State
from tarn.contract import DatasetAddress
from tarn.ledger import LINES_AT_ONCE
from tarn.survey import Survey

AFTER = timedelta(hours=1)
"""Twice the time after which a failed message of the pipeline's queue comes back: what is older will not go on."""
NOTHING_SEEN = "0" * names.SEQUENCER_DIGITS
"""The place in the order of events of an object whose events are lost: before every real one."""


class Kind(StrEnum):
    """How a thing differs from what S3 holds, or from where it should be by now."""

    MISSING = "missing"
    EXTRA = "extra"
    STALE = "stale"
    STUCK = "stuck"


@dataclass(frozen=True)
class Event:
    """Tell the router of an object again, as S3 would; what ``retired`` names was staged of former versions."""

    thing: Mapping[str, Any]
    removed: bool = False
    retired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Announcement:
    """Send the message of a staged object, whose row this is, to its dataset's queue again."""

    row: Mapping[str, Any]


@dataclass(frozen=True)
class Restoration:
    """Write the row of a staged object again, as far as its batch's manifest knows it."""

    row: Mapping[str, Any]
    replaced: bool
    """Whether its raw object has changed since."""


@dataclass(frozen=True)
class NewAttempt:
    """Run a batch again from its manifest: publishing makes everything equal to what it writes."""

    team: str
    dataset: str
    batch_id: str


@dataclass(frozen=True)
class Wake:
    """Let start_batch take on what stands."""

    team: str
    dataset: str


Repair = Event | Announcement | Restoration | NewAttempt | Wake


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be; ``remedy`` is for a person, where there is no repair."""

    kind: Kind
    place: str
    id: str
    says: str
    repair: Repair | None = None
    remedy: str = ""


def findings(survey: Survey) -> Iterator[Finding]:
    """Read the lake and compare; what looks wrong is looked at again before it is told."""
    survey.read()
    survey.say("comparing")
    _confirm(survey)
    waits = _Waits(survey)
    yield from _raw(survey, waits)
    yield from _stage(survey, waits)
    yield from _lost_rows(survey)
    yield from _stage_files(survey)
    yield from _batches(survey)
    yield from _published(survey)
    yield from _nobodys(survey)


def _confirm(survey: Survey) -> None:
    """What looks wrong is read again: a scan may be behind, and an inventory is old."""
    survey.ledger.run("DELETE FROM suspects")
    for view in ("raw_findings", "stage_findings", "lost_rows"):
        found = survey.ledger.all(view)
        named = ({"id": row.get(name)} for row in found for name in ("id", "staged_id", "source_id"))
        survey.ledger.fill("suspects", (one for one in named if one["id"]))
    some: list[str] = []
    for one in survey.ledger.ask("SELECT DISTINCT id FROM suspects"):
        some.append(str(one["id"]))
        if len(some) == LINES_AT_ONCE:
            survey.look_again(some)
            some = []
    if some:
        survey.look_again(some)


# --- raw objects


def _raw(survey: Survey, waits: _Waits) -> Iterator[Finding]:
    for row in survey.ledger.all("raw_and_staged"):
        _, key = names.split_object_id(row["id"])
        whose = names.locate(key)
        place = f"{whose.team}/{whose.dataset}" if whose else "-"
        kind, says = RAW_SAYS[row["what"]]
        following = _following(row["sequencer"], row["seen"])
        thing = {name: row[name] for name in ("id", "size", "etag", "version_id")} | {"event_time": row["moment"]}
        repair: Event | None
        match row["what"]:
            case "no row":
                repair = _of_the_lost(thing, row)
            case "no object":
                gone = {"id": row["id"], "event_time": clock.stamp(survey.cut), "sequencer": following}
                repair = Event(gone, removed=True) if following else None
            case "deleted" | "other version":
                repair = Event({**thing, "sequencer": following}) if following else None
            case _:
                repair = Event({**thing, "sequencer": row["sequencer"]}) if following else None
        held_up = waits.for_the_first_hop(place) if row["what"] == "landed" else waits.for_the_router(row["what"])
        if held_up or repair is None:
            remedy = held_up or f"its sequencer is {row['sequencer']!r}, which no event can follow: see tarn explain"
            yield Finding(kind, place, row["id"], says, None, remedy)
        else:
            yield Finding(kind, place, row["id"], says, repair)


RAW_SAYS = {
    "no row": (Kind.MISSING, "it stands in the raw zone and has no row"),
    "no object": (Kind.EXTRA, "its row says that it stands in the raw zone, and it does not"),
    "deleted": (Kind.STALE, "its row says DELETED, and it stands in the raw zone"),
    "other version": (Kind.STALE, "its row is of another version than the one that stands"),
    "landed": (Kind.STUCK, "it landed and was not staged"),
    "unrouted": (Kind.STUCK, "it is UNROUTED, and its dataset is registered"),
    "no staged row": (Kind.MISSING, "it is STAGED, and what was staged has no row"),
}


def _of_the_lost(thing: Mapping[str, Any], known: Mapping[str, Any]) -> Event:
    """The event of an object whose row is lost: of the same version, as it was staged, so that it is staged once.

    Of another version, what was staged is retired, for no row names it any more.
    """
    if known["ever"] is None:
        return Event({**thing, "sequencer": NOTHING_SEEN})
    following = _following(known["ever"])
    if known["standing"] is None:
        return Event({**thing, "sequencer": following})
    if known["standing_version"] in ("", thing["version_id"]):
        return Event({**thing, "sequencer": known["standing"]})
    return Event({**thing, "sequencer": following}, retired=(str(known["standing_id"]),))


def _following(*sequencers: str | None) -> str | None:
    """The next place in the order of events: every event that S3 is still to send comes later. None after none."""
    latest = max((one for one in sequencers if one), default="")
    try:
        return f"{int(latest, 16) + 1:0{names.SEQUENCER_DIGITS}x}"
    except ValueError:
        return None


class _Waits:
    """Queues that hold as many messages as objects seem lost: they may hold theirs, and need no second ones."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._sqs = survey.session.client("sqs")
        self._depths: dict[str, int] = {}
        counted = survey.ledger.ask("""
            SELECT what, coalesce(team || '/' || dataset, '-') AS place, count(*) AS count
            FROM (SELECT what, team, dataset FROM raw_findings UNION ALL SELECT what, team, dataset FROM stage_findings)
            GROUP BY ALL
        """)
        self._counts = {(str(one["what"]), str(one["place"])): int(one["count"]) for one in counted}

    def for_the_router(self, what: str) -> str:
        """Why an object is not told of again for now; nothing where it is."""
        if what not in THE_ROUTERS:
            return ""
        count = sum(count for (found, _), count in self._counts.items() if found in THE_ROUTERS)
        return self._holds(self._survey.lake.contract.foundations("ingest-queue/url"), count, "the ingest queue")

    def for_the_first_hop(self, place: str) -> str:
        """Why an object that landed is left alone for now."""
        if (address := _address(self._survey, place)) is None:
            return ""
        url = self._survey.lake.contract.pipeline(address.team, address.pipeline, "queue/url")
        return self._holds(url, self._counts["landed", place], f"the queue of pipeline {address.pipeline}")

    def for_a_batch(self, place: str) -> str:
        """Why a staged object is left alone for now."""
        if (address := _address(self._survey, place)) is None:
            return ""
        url = str(self._survey.registrations[address]["queue_url"])
        return self._holds(url, self._counts["in no batch", place], "its dataset's queue")

    def _holds(self, url: str, count: int, name: str) -> str:
        if url not in self._depths:
            depth = waiting.depth(self._sqs, url)
            self._depths[url] = depth.visible + depth.in_flight
        if self._depths[url] < count:
            return ""
        return f"it may be among the {self._depths[url]} messages in {name}: look again when they are gone"


THE_ROUTERS = frozenset(RAW_SAYS) - {"landed", "no staged row"}
"""What is wrong with objects whose notification may still be in the ingest queue."""


def _address(survey: Survey, place: str) -> DatasetAddress | None:
    return next((one for one in survey.registrations if str(one) == place), None)


# --- staged objects


def _stage(survey: Survey, waits: _Waits) -> Iterator[Finding]:
    for row in survey.ledger.all("stage_findings"):
        place = f"{row['team']}/{row['dataset']}"
        again = _replay(place, row["source_id"])
        match row["what"]:
            case "in no batch":
                held_up = waits.for_a_batch(place)
                repair = None if held_up else Announcement(row)
                yield Finding(Kind.STUCK, place, row["id"], "it is staged, and no batch took it", repair, held_up)
            case "no file yet":
                yield _unstaged(row, place)
            case "no batch":
                says = f"it is in batch {row['batch_id']}, which has no row"
                yield Finding(Kind.EXTRA, place, row["id"], says, None, again)
            case "no file":
                says = f"its file is gone from the stage zone, and batch {row['batch_id']} names it"
                yield Finding(Kind.MISSING, place, row["id"], says, None, again)
            case _:
                says = f"it is BATCHED, and its batch {row['batch_id']} is PUBLISHED"
                yield Finding(
                    Kind.STALE, place, row["id"], says, NewAttempt(row["team"], row["dataset"], row["batch_id"])
                )


def _replay(place: str, source_id: str | None) -> str:
    """The command that stages an object again, with the others whose names begin like its own."""
    if source_id is None:
        return f"tarn replay {place} --from raw"
    _, key = names.split_object_id(source_id)
    return f"tarn replay {place} --from raw --prefix {shlex.quote(key.removeprefix(f'{place}/'))}"


def _unstaged(row: Mapping[str, Any], place: str) -> Finding:
    """A staged object whose file was lost before a batch took it: it is staged again, under the same key."""
    says = "its file is gone from the stage zone"
    if row["source_state"] == catalog.STAGED and row["source_staged_id"] == row["id"]:
        source = {name: row[f"source_{name}"] for name in ("id", "size", "etag", "sequencer", "event_time")}
        source["version_id"] = row["source_version"]
        return Finding(Kind.MISSING, place, str(row["source_id"]), f"what was staged of it: {says}", Event(source))
    remedy = f"tarn explain {row['source_id']}"
    return Finding(Kind.MISSING, place, row["id"], says, None, remedy)


def _lost_rows(survey: Survey) -> Iterator[Finding]:
    for row in survey.ledger.all("lost_rows"):
        published = row["state"] == State.PUBLISHED
        kept = {
            name: row[name] for name in ("id", "team", "dataset", "batch_id", "size", "rows", "version_id", "sequencer")
        }
        kept["state"] = catalog.PUBLISHED if published else catalog.BATCHED
        known = row["source_sequencer"]
        if known is not None:
            kept["source_id"] = row["source_id"]
            kept["source_version_id"] = row["source_version_id"] if known == row["sequencer"] else None
        replaced = known is not None and (known > row["sequencer"] or row["source_state"] == catalog.DELETED)
        says = f"batch {row['batch_id']} holds it, and it has no row"
        yield Finding(Kind.MISSING, f"{row['team']}/{row['dataset']}", row["id"], says, Restoration(kept, replaced))


def _stage_files(survey: Survey) -> Iterator[Finding]:
    for row in survey.ledger.all("stage_files"):
        place = names.locate(names.split_object_id(row["id"])[1])
        whose = f"{place.team}/{place.dataset}" if place else "-"
        says = "a file of the stage zone that no row and no manifest names"
        yield Finding(Kind.EXTRA, whose, row["id"], says, None, "delete it if you know that nobody needs it")


# --- batches, and what they published


def _batches(survey: Survey) -> Iterator[Finding]:
    for row in survey.ledger.all("unfinished"):
        says = f"it is {row['state']} since {row['moment']}"
        place = f"{row['team']}/{row['dataset']}"
        yield Finding(Kind.STUCK, place, row["batch_id"], says, Wake(row["team"], row["dataset"]))


def _published(survey: Survey) -> Iterator[Finding]:
    for row in survey.ledger.all("published_findings"):
        place = f"{row['team']}/{row['dataset']}"
        faults = {
            "lost": "published files are gone or of another size",
            "rowless": "published files have no row",
            "extra": "files are in its partitions that it did not publish",
            "unregistered": "of its partitions are not in the Glue Data Catalog",
        }
        told = [f"{row[name]} {says}" for name, says in faults.items() if row[name]]
        if not row["has_receipt"]:
            told.append("its receipt is gone")
        kind = Kind.EXTRA if set(told) == {f"{row['extra']} {faults['extra']}"} else Kind.MISSING
        repair: Repair | None = NewAttempt(row["team"], row["dataset"], row["batch_id"])
        remedy = ""
        if not row["has_manifest"]:
            repair, remedy = None, "its manifest is gone, too: it cannot be run again"
        elif row["unstaged"]:
            repair, remedy = None, f"{row['unstaged']} of its staged files are gone: tarn replay {place} --from raw"
        yield Finding(kind, place, row["batch_id"], ", ".join(told), repair, remedy)


def _nobodys(survey: Survey) -> Iterator[Finding]:
    for row in survey.ledger.all("nobodys_files"):
        batch = f"batch {row['batch_id']}, which is {row['state']}" if row["batch_id"] else "no batch that is known"
        says = f"a file of the analytics zone of {batch}"
        remedy = (
            f"tarn retry {row['batch_id']}"
            if row["state"] in batches.FINISHED - {State.PUBLISHED}
            else "delete it if you know that nobody needs it"
        )
        yield Finding(Kind.EXTRA, f"{row['team']}/{row['dataset']}", row["id"], says, None, remedy)
    for row in survey.ledger.all("nobodys_partitions"):
        says = "a partition of the Glue Data Catalog that no batch published"
        remedy = "aws glue delete-partition if you know that nobody needs it"
        yield Finding(Kind.EXTRA, f"{row['team']}/{row['dataset']}", row["spelled"], says, None, remedy)
