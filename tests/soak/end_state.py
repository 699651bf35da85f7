"""The end state against what S3 holds: each live object's rows once, nothing else that is not explained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import boto3

from lake import names
from tarn.lake import Lake
from tests.soak.load import DATASETS, JUDGED, LINES, REPLACING, SPOILED_KEY, TEAM, Load, amounts

MOST_SHOWN = 20


@dataclass
class Verdict:
    """What differs; ``wrong`` says each difference in words."""

    lost: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    stale: int = 0
    rows: int = 0
    checksum: str = ""
    expected_rows: int = 0
    expected_checksum: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the lake is as S3 is."""
        return not (self.lost or self.twice or self.wrong)


@dataclass(frozen=True)
class Published:
    """The rows of one put in a published table."""

    rows: int
    lines: int
    total: int


def compare(lake: Lake, load: Load, batches: Mapping[str, str]) -> Verdict:
    """Hold published rows, catalog rows and ``batches`` (states by identity) against the bucket's versions."""
    datasets = (*DATASETS, JUDGED)
    versions = {
        key: found for dataset in datasets for key, found in _versions(load.s3, load.bucket, f"{TEAM}/{dataset}/")
    }
    tables = _tables(lake.contract.team(TEAM, "database/name"))
    published = {one: found for dataset in datasets if dataset in tables for one, found in _published(lake, dataset)}
    catalog = {row["id"]: row for row in _catalog(lake)}
    staged: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in catalog.values():
        if row["zone"] == "stage":
            staged[row["source_id"], row.get("source_version_id", "")].append(row["state"])

    return judge(load, versions, published, catalog, staged, batches)


def judge(
    load: Load,
    versions: dict[str, list[dict[str, Any]]],
    published: dict[tuple[str, int], Published],
    catalog: dict[str, dict[str, Any]],
    staged: dict[tuple[str, str], list[str]],
    batches: Mapping[str, str],
) -> Verdict:
    """The verdict on what was found: versions by key, published rows by key and put, rows of the catalog by identity,
    states of staged rows by their raw object's identity and version, and states of batches."""
    verdict = Verdict()
    _compare_puts(verdict, load, versions)
    live = {key: found[0] for key, found in versions.items() if found[0]["IsLatest"] and "ETag" in found[0]}
    expected = {
        (key, load.puts.get(key, {}).get(_etag(version), 0)) for key, version in live.items() if _is_readable(load, key)
    }
    _compare_rows(verdict, load, expected, published, versions, staged)
    for key in versions:
        _compare_catalog(verdict, load, key, catalog, live.get(key), staged)
    if SPOILED_KEY in load.puts:
        _compare_spoiled(verdict, load, catalog, batches)
    mine = {one: found for one, found in published.items() if one in expected}
    verdict.rows, verdict.checksum = sum(one.rows for one in mine.values()), _checksum(mine)
    right = {one: Published(LINES, LINES, sum(amounts(*one))) for one in expected}
    verdict.expected_rows, verdict.expected_checksum = LINES * len(right), _checksum(right)
    if verdict.checksum != verdict.expected_checksum:
        verdict.wrong.append(f"the rows' checksum is {verdict.checksum}, not {verdict.expected_checksum}")
    return verdict


def _compare_puts(verdict: Verdict, load: Load, versions: dict[str, list[dict[str, Any]]]) -> None:
    """All was put, and S3 holds each key's last put: else there is less to hold the lake against."""
    if load.error:
        verdict.wrong.append(f"the load broke off: {load.error}")
    if load.done != load.objects:
        verdict.wrong.append(f"{load.done} of {load.objects} objects were put")
    for key, last in sorted(load.last.items()):
        stands = next(iter(versions.get(key, [])), {})
        found = load.puts.get(key, {}).get(_etag(stands)) if "ETag" in stands else None
        if not stands.get("IsLatest") or found != (None if last.body is None else last.number):
            verdict.lost.add(key)
            verdict.wrong.append(f"S3: {key} is at put {found}, and its last is {last.number}")


def _compare_spoiled(
    verdict: Verdict, load: Load, catalog: dict[str, dict[str, Any]], batches: Mapping[str, str]
) -> None:
    identity = names.object_id(load.bucket, SPOILED_KEY)
    found = [batches.get(str(row.get("batch_id"))) for row in catalog.values() if row.get("source_id") == identity]
    if found != ["FAILED_QUALITY"]:
        verdict.wrong.append(f"the batch of {SPOILED_KEY} is {found}, not FAILED_QUALITY")


def _compare_rows(
    verdict: Verdict,
    load: Load,
    expected: set[tuple[str, int]],
    published: dict[tuple[str, int], Published],
    versions: dict[str, list[dict[str, Any]]],
    staged: dict[tuple[str, str], list[str]],
) -> None:
    for one in sorted(expected):
        found = published.get(one)
        if found is None or found.lines < LINES:
            verdict.lost.add(one[0])
            verdict.wrong.append(f"lost: {one[0]} put {one[1]}: {found}")
    for one, found in sorted(published.items()):
        key, number = one
        if found.rows > LINES:
            verdict.twice.add(key)
            verdict.wrong.append(f"twice: {key} put {number}: {found}")
        if one in expected:
            continue
        states = [
            state
            for version in versions.get(key, [])
            if "ETag" in version and load.puts.get(key, {}).get(_etag(version)) == number
            for state in staged.get((names.object_id(load.bucket, key), version["VersionId"]), [])
        ]
        if (
            "STALE" in states and key.split("/")[1] != REPLACING
        ):  # replaced after its batch took it, and its row says so
            verdict.stale += 1
        else:
            verdict.twice.add(key)
            verdict.wrong.append(f"published beside what stands: {key} put {number}, its staged rows {states}")


def _compare_catalog(
    verdict: Verdict,
    load: Load,
    key: str,
    catalog: dict[str, dict[str, Any]],
    version: dict[str, Any] | None,
    staged: dict[tuple[str, str], list[str]],
) -> None:
    identity = names.object_id(load.bucket, key)
    row = catalog.get(identity, {})
    state = "DELETED" if version is None else "STAGED" if _is_readable(load, key) else "QUARANTINED"
    if key == SPOILED_KEY:
        state = "STAGED"
    if row.get("state") != state:
        verdict.wrong.append(f"catalog: {key} is {row.get('state')} ({row.get('reason')}), not {state}")
    elif version is not None and row["version_id"] != version["VersionId"]:
        verdict.wrong.append(f"catalog: {key} is at version {row['version_id']}, not {version['VersionId']}")
    elif state == "STAGED" and key != SPOILED_KEY:
        states = Counter(staged.get((identity, version["VersionId"]), []) if version else [])
        if states["PUBLISHED"] != 1:
            verdict.wrong.append(f"catalog: {key} stands, and what was staged of it is {dict(states)}")


def _is_readable(load: Load, key: str) -> bool:
    return key not in load.unreadable and key != SPOILED_KEY


def _etag(version: dict[str, Any]) -> str:
    return str(version["ETag"]).strip('"')


def _versions(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Versions and delete markers of each key, the one that stands first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for one in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            found[one["Key"]].append(one)
    for key, versions in found.items():
        yield key, sorted(versions, key=lambda one: not one["IsLatest"])


def _published(lake: Lake, dataset: str) -> Iterator[tuple[tuple[str, int], Published]]:
    answer = lake.query(
        f"SELECT object, put, count(*), count(DISTINCT line), sum(amount) FROM {dataset} GROUP BY object, put",  # noqa: S608 (our own two names)
        TEAM,
    )
    for key, number, rows, lines, total in answer.rows:
        yield (str(key), int(number or 0)), Published(int(rows or 0), int(lines or 0), int(float(total or 0)))


def _tables(database: str) -> set[str]:
    """The tables that anything was ever published to."""
    pages = boto3.client("glue").get_paginator("get_tables").paginate(DatabaseName=database)
    return {table["Name"] for page in pages for table in page["TableList"]}


def _checksum(found: dict[tuple[str, int], Published]) -> str:
    digest = sha256()
    for (key, number), one in sorted(found.items()):
        digest.update(f"{key}\0{number}\0{one.rows}\0{one.lines}\0{one.total}\n".encode())
    return digest.hexdigest()[:16]


def _catalog(lake: Lake) -> Iterator[dict[str, Any]]:
    name = lake.contract.foundations("objects-table/name")
    pages = boto3.resource("dynamodb").meta.client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    for page in pages:
        yield from page["Items"]
