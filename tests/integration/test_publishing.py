"""Publishing in moto: stopped at any AWS call and run again, also as another attempt, it ends in the same state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lake import batches, crawls, names, outcomes, publishing
from lake.batches import Batch, NotInStateError, State
from tests.integration.tables import REGION, Lake, load_handler, open_lake

NOW = datetime(2026, 11, 23, 16, 44, tzinfo=UTC)
TEAM, DATASET, BATCH_ID = "air", "flights", "20261123t164400-0123456789ab"
COLUMNS = {"flight": "int", "carrier": "string"}


class CrashError(Exception):
    """The function died here."""


class Crash:
    """Ends a run at its ``at``-th AWS call: before the service gets it, or after, when its answer is lost."""

    def __init__(self, at: int | None = None, answered: bool = False) -> None:
        self.at, self.answered, self.calls = at, answered, 0

    def before(self, **_: Any) -> None:
        self.calls += 1
        if self.at is not None and (self.calls > self.at or (self.calls == self.at and not self.answered)):
            raise CrashError

    def after(self, **_: Any) -> None:
        if self.at is not None and self.calls >= self.at:
            raise CrashError


class Bench:
    """A lake in moto with the clients of publish_batch, whose calls a ``Crash`` watches."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.crash = lake, Crash()
        self.clients = publishing.Clients(
            s3=boto3.client("s3", region_name=REGION),
            glue=boto3.client("glue", region_name=REGION),
            batches=boto3.resource("dynamodb", region_name=REGION).Table("BatchesTable"),
        )
        for client in (self.clients.s3, self.clients.glue, self.clients.batches.meta.client):
            client.meta.events.register_first("before-call.*.*", self._before)
            client.meta.events.register_last("after-call.*.*", self._after)
        self.glue = boto3.client("glue", region_name=REGION)
        self.glue.create_database(DatabaseInput={"Name": "air"})

    def _before(self, **call: Any) -> None:
        self.crash.before(**call)

    def _after(self, **call: Any) -> None:
        self.crash.after(**call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lake, name)

    def empty(self) -> None:
        """As if nothing had been published ever."""
        for bucket in (self.lake.stage_bucket, self.lake.analytics_bucket):
            for one in outcomes.list_files(self.lake.s3, bucket, ""):
                self.lake.s3.delete_object(Bucket=bucket, Key=one.key)
        for one in self.glue.get_tables(DatabaseName="air")["TableList"]:
            self.glue.delete_table(DatabaseName="air", Name=one["Name"])


def run_of(lake: Bench, attempt: int) -> outcomes.Run:
    base = f"s3://{lake.stage_bucket}/{names.attempt_prefix(TEAM, DATASET, BATCH_ID, attempt)}"
    return outcomes.Run(
        team=TEAM,
        dataset=DATASET,
        batch_id=BATCH_ID,
        attempt=attempt,
        manifest_uri=f"s3://{lake.stage_bucket}/{names.manifest_key(TEAM, DATASET, BATCH_ID)}",
        pending_uri=f"s3://{lake.analytics_bucket}/{names.pending_prefix(TEAM, BATCH_ID, attempt)}",
        transform_outcome_uri=f"{base}transform.json",
        quality_outcome_uri=f"{base}quality.json",
    )


def put(lake: Bench, uri: str, value: Any) -> None:
    bucket, key = names.split_object_id(uri)
    lake.s3.put_object(Bucket=bucket, Key=key, Body=value if isinstance(value, bytes) else json.dumps(value).encode())


def transformed(
    lake: Bench,
    attempt: int,
    files: Mapping[str, bytes],
    columns: Mapping[str, str] = COLUMNS,
    partition_by: tuple[str, ...] = (),
    **registered: str,
) -> outcomes.Run:
    """What start_batch and the transform job leave: manifest, row, pending files, outcome."""
    run = run_of(lake, attempt)
    registration = {"database_name": "air", "table_name": "flights", "partition_by": list(partition_by)}
    registration |= registered
    put(lake, run.manifest_uri, {"schema": 1, "registration": registration, "objects": []})
    for name, body in files.items():
        put(lake, run.pending_uri + name, body)
    put(lake, f"{run.pending_uri}_SUCCESS", b"")
    _, prefix = names.split_object_id(run.pending_uri)
    put(
        lake,
        run.transform_outcome_uri,
        {
            "schema": 1,
            "job": "transform",
            "run_id": f"jr_{attempt}",
            "batch_id": BATCH_ID,
            "attempt": attempt,
            "rows_in": 7,
            "rows_out": 7 if files else 0,
            "columns": [{"name": name, "type": kind} for name, kind in columns.items()],
            "partition_columns": [{"name": name, "type": "int"} for name in partition_by],
            "files": [prefix + name for name in files],
        },
    )
    lake.batches.put_item(
        Item={
            **batches.row_key(TEAM, DATASET, BATCH_ID),
            "team": TEAM,
            "dataset": DATASET,
            "attempt": attempt,
            "state": "STARTED",
            "unfinished": "air#flights",
        }
    )
    return run


def publish(lake: Bench, run: outcomes.Run, crash: Crash | None = None) -> publishing.Receipt:
    lake.crash = crash or Crash()
    return publishing.publish(lake.clients, run, f"jr_{run.attempt}", NOW)


def published(lake: Bench) -> dict[str, bytes]:
    found = outcomes.list_files(lake.s3, lake.analytics_bucket, "air/flights/")
    return {one.key: lake.s3.get_object(Bucket=lake.analytics_bucket, Key=one.key)["Body"].read() for one in found}


def partitions(lake: Bench) -> dict[tuple[str, ...], str]:
    found = lake.glue.get_partitions(DatabaseName="air", TableName="flights")["Partitions"]
    return {tuple(one["Values"]): one["StorageDescriptor"]["Location"] for one in found}


def view_columns(lake: Bench) -> list[str]:
    view = lake.glue.get_table(DatabaseName="air", Name="flights_view")["Table"]
    return [one["Name"] for one in view["StorageDescriptor"]["Columns"]]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_lake() as opened:
        yield Bench(opened)


@pytest.fixture
def lake(bench) -> Bench:
    bench.empty()
    return bench


def test_the_published_prefix_is_the_audited_one(lake) -> None:
    run = transformed(lake, 1, {"part-0.parquet": b"a", "part-1.parquet": b"bb"})
    receipt = publish(lake, run)
    prefix = f"air/flights/batch={BATCH_ID}/"
    assert published(lake) == {f"{prefix}part-0.parquet": b"a", f"{prefix}part-1.parquet": b"bb"}
    assert partitions(lake) == {(BATCH_ID,): f"s3://{lake.analytics_bucket}/{prefix}"}
    assert receipt == publishing.read_receipt(lake.s3, run)
    assert [size for _, size in receipt.files] == [1, 2]


def test_the_table_is_created_with_the_batch_as_its_last_partition_key(lake) -> None:
    publish(lake, transformed(lake, 1, {"month=1/p.parquet": b"a"}, partition_by=("month",)))
    table = lake.glue.get_table(DatabaseName="air", Name="flights")["Table"]
    assert [(one["Name"], one["Type"]) for one in table["PartitionKeys"]] == [("month", "int"), ("batch", "string")]
    assert {one["Name"]: one["Type"] for one in table["StorageDescriptor"]["Columns"]} == COLUMNS
    assert table["StorageDescriptor"]["Location"] == f"s3://{lake.analytics_bucket}/air/flights/"
    assert list(partitions(lake)) == [("1", BATCH_ID)]


def test_an_attempt_of_which_nothing_is_left_takes_out_what_stood(lake) -> None:
    """It knows no column: of no file, no type is known, not even that of a partition."""
    publish(lake, transformed(lake, 1, {"month=1/p.parquet": b"a", "month=2/p.parquet": b"b"}, partition_by=("month",)))
    table = lake.glue.get_table(DatabaseName="air", Name="flights")["Table"]
    run = transformed(lake, 2, {}, columns={})
    registration = {"database_name": "air", "table_name": "flights", "partition_by": ["month"]}
    put(lake, run.manifest_uri, {"schema": 1, "registration": registration, "objects": []})
    receipt = publish(lake, run)
    assert (published(lake), partitions(lake), receipt.files, len(receipt.deleted)) == ({}, {}, [], 2)
    assert lake.glue.get_table(DatabaseName="air", Name="flights")["Table"] == table


def test_an_attempt_of_which_nothing_is_left_needs_no_table(lake) -> None:
    assert publish(lake, transformed(lake, 1, {}, columns={})).files == []
    with pytest.raises(lake.glue.exceptions.EntityNotFoundException):
        lake.glue.get_table(DatabaseName="air", Name="flights")


def test_new_columns_are_appended_and_old_ones_stay(lake) -> None:
    publish(lake, transformed(lake, 1, {"p.parquet": b"a"}))
    publish(lake, transformed(lake, 2, {"p.parquet": b"a"}, columns={"gate": "string", "flight": "int"}))
    table = lake.glue.get_table(DatabaseName="air", Name="flights")["Table"]
    assert [one["Name"] for one in table["StorageDescriptor"]["Columns"]] == ["flight", "carrier", "gate"]


def test_a_changed_type_is_told_by_name_and_changes_nothing(lake) -> None:
    publish(lake, transformed(lake, 1, {"p.parquet": b"a"}))
    before = published(lake), partitions(lake)
    run = transformed(lake, 2, {"q.parquet": b"b"}, columns={"flight": "string"})
    with pytest.raises(publishing.ColumnTypeChangedError, match="flight is int in the table and string in the batch"):
        publish(lake, run)
    assert (published(lake), partitions(lake)) == before


def test_other_partition_keys_and_other_locations_are_refused(lake) -> None:
    publish(lake, transformed(lake, 1, {"p.parquet": b"a"}))
    with pytest.raises(publishing.TableConflictError, match="partition keys cannot change"):
        publish(lake, transformed(lake, 2, {"month=1/p.parquet": b"a"}, partition_by=("month",)))


def test_a_file_outside_the_declared_directories_is_refused(lake) -> None:
    run = transformed(lake, 1, {"p.parquet": b"a"}, partition_by=("month",))
    with pytest.raises(publishing.PendingLayoutError):
        publish(lake, run)
    assert published(lake) == {}


def test_partition_values_are_read_as_spark_escapes_them(lake) -> None:
    publish(lake, transformed(lake, 1, {"city=New%20York%2FJFK/p.parquet": b"a"}, partition_by=("city",)))
    assert list(partitions(lake)) == [("New York/JFK", BATCH_ID)]


@pytest.mark.parametrize("what", ["missing", "extra"])
def test_a_pending_prefix_that_is_not_what_the_job_wrote_is_refused(lake, what) -> None:
    run = transformed(lake, 1, {"p.parquet": b"a", "q.parquet": b"b"})
    bucket, prefix = names.split_object_id(run.pending_uri)
    if what == "missing":
        lake.s3.delete_object(Bucket=bucket, Key=f"{prefix}q.parquet")
    else:
        lake.s3.put_object(Bucket=bucket, Key=f"{prefix}stray.parquet", Body=b"x")
    with pytest.raises(outcomes.OutcomeMismatchError, match=f"1 {what}"):
        publish(lake, run)
    assert published(lake) == {}


def test_an_attempt_whose_turn_is_over_publishes_nothing(lake) -> None:
    run = transformed(lake, 1, {"p.parquet": b"a"})
    transformed(lake, 2, {"q.parquet": b"b"})
    with pytest.raises(NotInStateError):
        publish(lake, run)
    batches.finish(lake.batches, Batch(TEAM, DATASET, BATCH_ID, 2), State.FAILED, NOW)
    with pytest.raises(NotInStateError):
        publish(lake, run_of(lake, 2))
    assert published(lake) == {}


def test_a_batch_without_rows_has_no_partition(lake) -> None:
    publish(lake, transformed(lake, 1, {"p.parquet": b"a"}))
    receipt = publish(lake, transformed(lake, 2, {}))
    assert (published(lake), partitions(lake), receipt.files) == ({}, {}, [])
    assert receipt.deleted == [f"air/flights/batch={BATCH_ID}/p.parquet"]


def test_a_file_of_the_same_name_and_size_but_other_content_is_copied_again(lake) -> None:
    publish(lake, transformed(lake, 1, {"p.parquet": b"old"}))
    publish(lake, transformed(lake, 2, {"p.parquet": b"new"}))
    assert list(published(lake).values()) == [b"new"]


def test_nothing_is_copied_or_deregistered_when_all_is_there(lake, monkeypatch) -> None:
    run = transformed(lake, 1, {"p.parquet": b"a"})
    publish(lake, run)
    monkeypatch.setattr(publishing, "_copy", lambda *_: pytest.fail("copied"))
    monkeypatch.setattr(publishing, "_deregister", lambda *_: pytest.fail("deregistered"))
    publish(lake, run)


def test_whoever_reads_the_catalog_sees_a_batch_whole_or_not_at_all(lake, monkeypatch) -> None:
    """While files change, the partition is not in the catalog, also when another attempt had registered it."""
    publish(lake, transformed(lake, 1, {"p.parquet": b"a"}))
    seen = []
    copy = publishing._copy
    monkeypatch.setattr(publishing, "_copy", lambda *some: (seen.append(partitions(lake)), copy(*some)))
    publish(lake, transformed(lake, 2, {"q.parquet": b"b", "r.parquet": b"c"}))
    assert seen == [{}, {}]


FIRST = {"month=1/a.parquet": b"1", "month=2/b.parquet": b"22", "month=2/c.parquet": b"3"}
SECOND = {"month=2/other.parquet": b"22", "month=3/d.parquet": b"4"}


def end_state(lake: Bench) -> tuple[dict[str, bytes], dict[tuple[str, ...], str]]:
    return published(lake), partitions(lake)


def expected(files: Mapping[str, bytes], lake: Bench) -> tuple[dict[str, bytes], dict[tuple[str, ...], str]]:
    where = {}
    for name, body in files.items():
        month, file = name.split("/")
        where[f"air/flights/{month}/batch={BATCH_ID}/{file}"] = body
    return where, {
        (key.split("/")[2].removeprefix("month="), BATCH_ID): f"s3://{lake.analytics_bucket}/{key.rpartition('/')[0]}/"
        for key in where
    }


@pytest.mark.parametrize("answered", [False, True], ids=["not sent", "answer lost"])
@pytest.mark.parametrize("retried_as", ["the same attempt", "another attempt"])
def test_stopped_at_any_call_and_run_again(bench, answered, retried_as, monkeypatch) -> None:
    monkeypatch.setattr(publishing, "COPIES_AT_ONCE", 1)
    for at in count(1):
        bench.empty()
        run = transformed(bench, 1, FIRST, partition_by=("month",))
        try:
            publish(bench, run, Crash(at, answered))
        except CrashError:
            pass
        else:
            break
        if retried_as == "the same attempt":
            publish(bench, run)
            assert end_state(bench) == expected(FIRST, bench), f"stopped at call {at}"
            assert view_columns(bench) == ["flight", "carrier", "month"], f"stopped at call {at}"
        else:
            publish(bench, transformed(bench, 2, SECOND, partition_by=("month",)))
            assert end_state(bench) == expected(SECOND, bench), f"stopped at call {at}"
    assert at > 20


FILES = st.dictionaries(
    st.builds("month={}/{}.parquet".format, st.integers(1, 3), st.sampled_from("abc")),
    st.binary(min_size=1, max_size=2),
    max_size=4,
)
STOP = st.tuples(st.integers(1, 45), st.booleans())


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(attempts=st.lists(st.tuples(FILES, st.lists(STOP, max_size=3)), min_size=1, max_size=3))
def test_however_often_it_is_stopped_and_whatever_the_attempts_wrote(bench, attempts) -> None:
    """The end state is the last attempt's output, whatever earlier ones left when they were stopped."""
    bench.empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "COPIES_AT_ONCE", 1)
        for attempt, (files, stops) in enumerate(attempts, start=1):
            run = transformed(bench, attempt, files, partition_by=("month",))
            for at, answered in stops:
                with suppress(CrashError):
                    publish(bench, run, Crash(at, answered))
        last = attempts[-1][0]
        receipt = publish(bench, run)
    assert end_state(bench) == expected(last, bench)
    assert {key for key, _ in receipt.files} == set(expected(last, bench)[0])
    assert set(receipt.deleted).isdisjoint(key for key, _ in receipt.files)


def test_a_view_without_the_batch_follows_the_tables_columns(lake) -> None:
    publish(lake, transformed(lake, 1, {"month=1/p.parquet": b"a"}, partition_by=("month",)))
    assert view_columns(lake) == ["flight", "carrier", "month"]
    publish(lake, transformed(lake, 2, {"month=1/p.parquet": b"a"}, {"gate": "string"}, partition_by=("month",)))
    assert view_columns(lake) == ["flight", "carrier", "gate", "month"]


def test_a_table_that_somebody_else_made_under_the_views_name_stays_as_it_is(lake) -> None:
    theirs = {"Name": "flights_view", "StorageDescriptor": {"Columns": [{"Name": "own", "Type": "int"}]}}
    lake.glue.create_table(DatabaseName="air", TableInput=theirs)
    publish(lake, transformed(lake, 1, {"p.parquet": b"a"}))
    assert view_columns(lake) == ["own"]
    assert list(partitions(lake)) == [(BATCH_ID,)]


# --- Publish: crawler

CRAWLED = {"publish": "crawler", "crawler_name": "tarn-test-air-flights"}


def crawl(lake: Bench, keys: tuple[str, ...] = ("month", "batch"), is_raw: bool = False) -> None:
    """What a crawler does: table and partitions of whatever files stand; ``is_raw`` keeps values as they stand."""
    location = f"s3://{lake.analytics_bucket}/air/flights/"
    with suppress(lake.glue.exceptions.AlreadyExistsException):
        lake.glue.create_table(
            DatabaseName="air",
            TableInput={
                "Name": "flights",
                "PartitionKeys": [{"Name": name, "Type": "string"} for name in keys],
                "StorageDescriptor": {"Columns": [{"Name": "flight", "Type": "int"}], "Location": location},
            },
        )
    for prefix in {key.rpartition("/")[0] + "/" for key in published(lake)}:
        with suppress(lake.glue.exceptions.AlreadyExistsException):
            lake.glue.create_partition(
                DatabaseName="air",
                TableName="flights",
                PartitionInput={
                    "Values": publishing.spellings("air/flights/", prefix)[-1 if is_raw else 0],
                    "StorageDescriptor": {"Location": f"s3://{lake.analytics_bucket}/{prefix}"},
                },
            )


def verify(lake: Bench, run: outcomes.Run, crash: Crash | None = None) -> int:
    lake.crash = crash or Crash()
    return crawls.verify(lake.clients.s3, lake.clients.glue, run)


def crawled(lake: Bench, attempt: int, files: Mapping[str, bytes]) -> outcomes.Run:
    return transformed(lake, attempt, files, partition_by=("month",), **CRAWLED)


def test_for_a_crawler_files_are_copied_and_nothing_is_registered(lake) -> None:
    run = crawled(lake, 1, FIRST)
    receipt = publish(lake, run)
    assert published(lake) == expected(FIRST, lake)[0]
    assert lake.glue.get_tables(DatabaseName="air")["TableList"] == []
    assert receipt.crawler_name == "tarn-test-air-flights"
    assert receipt == publishing.read_receipt(lake.s3, run)


def test_a_column_that_a_crawled_table_has_with_another_type_is_refused_before_anything_is_copied(lake) -> None:
    publish(lake, crawled(lake, 1, FIRST))
    crawl(lake)
    before = published(lake), partitions(lake)
    run = transformed(
        lake, 2, {"month=1/q.parquet": b"q"}, columns={"flight": "string"}, partition_by=("month",), **CRAWLED
    )
    with pytest.raises(publishing.ColumnTypeChangedError, match="flight is int in the table and string in the batch"):
        publish(lake, run)
    assert (published(lake), partitions(lake)) == before


def test_small_integers_are_one_type_to_a_crawler(lake) -> None:
    publish(lake, crawled(lake, 1, FIRST))
    crawl(lake)
    columns = {"flight": "smallint", "tags": "array<tinyint>"}
    publish(lake, transformed(lake, 2, SECOND, columns=columns, partition_by=("month",), **CRAWLED))
    assert published(lake) == expected(SECOND, lake)[0]


def test_an_older_lakes_manifest_and_receipt_mean_partition(lake) -> None:
    run = transformed(lake, 1, {"p.parquet": b"a"})
    assert publish(lake, run).crawler_name is None
    bucket, key = names.split_object_id(publishing.receipt_uri(run))
    older = json.loads(lake.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    del older["crawler_name"]
    put(lake, publishing.receipt_uri(run), older)
    assert publishing.read_receipt(lake.s3, run).crawler_name is None
    assert publish(lake, transformed(lake, 2, {"p.parquet": b"a"}, publish="partition")).crawler_name is None
    assert list(partitions(lake)) == [(BATCH_ID,)]


def test_a_crawl_is_believed_when_every_partition_stands(lake) -> None:
    run = crawled(lake, 1, FIRST)
    publish(lake, run)
    crawl(lake)
    assert verify(lake, run) == 2
    assert view_columns(lake) == ["flight", "month"]


@pytest.mark.parametrize("is_raw", [False, True], ids=["values as Spark meant them", "values as they stand"])
def test_values_that_spark_escapes_are_found_and_taken_out_however_the_crawler_spells_them(lake, is_raw) -> None:
    run = crawled(lake, 1, {"month=a%2Fb/p.parquet": b"1"})
    publish(lake, run)
    crawl(lake, is_raw=is_raw)
    assert verify(lake, run) == 1
    assert list(partitions(lake)) == [("a%2Fb" if is_raw else "a/b", BATCH_ID)]
    publish(lake, crawled(lake, 2, {"month=a%2Fb/q.parquet": b"2"}))
    assert partitions(lake) == {}


def test_a_crawl_without_the_table_or_a_partition_is_named(lake) -> None:
    run = crawled(lake, 1, FIRST)
    publish(lake, run)
    with pytest.raises(crawls.CrawlIncompleteError, match=r"the crawler made no table air\.flights$"):
        verify(lake, run)
    crawl(lake)
    lake.glue.delete_partition(DatabaseName="air", TableName="flights", PartitionValues=["2", BATCH_ID])
    missing = rf"table air\.flights: the crawler did not register partition s3://.*/month=2/batch={BATCH_ID}/"
    with pytest.raises(crawls.CrawlIncompleteError, match=missing):
        verify(lake, run)
    elsewhere = {"Values": ["2", BATCH_ID], "StorageDescriptor": {"Location": "s3://elsewhere/"}}
    lake.glue.create_partition(DatabaseName="air", TableName="flights", PartitionInput=elsewhere)
    with pytest.raises(crawls.CrawlIncompleteError, match=r"registered \['s3://elsewhere/'\] as partition s3://"):
        verify(lake, run)


def test_a_table_elsewhere_is_not_the_crawlers(lake) -> None:
    run = crawled(lake, 1, FIRST)
    publish(lake, run)
    elsewhere = {"Name": "flights", "StorageDescriptor": {"Columns": [], "Location": "s3://elsewhere/"}}
    lake.glue.create_table(DatabaseName="air", TableInput=elsewhere)
    with pytest.raises(crawls.CrawlIncompleteError, match="lies at s3://elsewhere/"):
        verify(lake, run)


def test_nothing_is_verified_of_what_was_not_published(lake) -> None:
    with pytest.raises(outcomes.OutcomeMissingError):
        verify(lake, crawled(lake, 1, FIRST))


def test_more_partitions_than_one_call_asks_for(lake, monkeypatch) -> None:
    monkeypatch.setattr(crawls, "MOST_PARTITIONS_IN_A_CALL", 2)
    run = crawled(lake, 1, {f"month={month}/p.parquet": b"1" for month in range(5)})
    publish(lake, run)
    crawl(lake)
    assert verify(lake, run) == 5


@pytest.mark.slow
@pytest.mark.parametrize("answered", [False, True], ids=["not sent", "answer lost"])
@pytest.mark.parametrize("retried_as", ["the same attempt", "another attempt"])
def test_a_crawled_batch_stopped_at_any_call_and_run_again(bench, answered, retried_as, monkeypatch) -> None:
    """Publishing, a crawl whenever one comes by, verifying: whoever is stopped, the end state is that of no fault."""
    monkeypatch.setattr(publishing, "COPIES_AT_ONCE", 1)
    for at in count(1):
        bench.empty()
        run = crawled(bench, 1, FIRST)
        crash = Crash(at, answered)
        try:
            publish(bench, run, crash)
            crawl(bench)
            verify(bench, run, crash)
        except CrashError:
            pass
        else:
            break
        bench.crash = Crash()
        files = FIRST
        if retried_as == "another attempt":
            run, files = crawled(bench, 2, SECOND), SECOND
        publish(bench, run)
        crawl(bench)
        verify(bench, run)
        assert end_state(bench) == expected(files, bench), f"stopped at call {at}"
        assert view_columns(bench) == ["flight", "month"]
    assert at > 25


def test_a_crawled_partition_leaves_the_catalog_before_its_files_change(lake, monkeypatch) -> None:
    run = crawled(lake, 1, {"month=1/p.parquet": b"a"})
    publish(lake, run)
    crawl(lake)
    seen = []
    copy = publishing._copy
    monkeypatch.setattr(publishing, "_copy", lambda *some: (seen.append(partitions(lake)), copy(*some)))
    publish(lake, crawled(lake, 2, {"month=1/q.parquet": b"b"}))
    assert seen == [{}]


def test_the_functions_tell_which_crawler_has_to_run_and_since_when(lake) -> None:
    handler = load_handler("pipeline.publish_batch", {"BATCHES_TABLE_NAME": "BatchesTable"}).handler
    run = crawled(lake, 1, FIRST)
    event = {"run": vars(run), "transform": {"run_id": "jr_1"}}
    before = datetime.now(UTC).replace(microsecond=0)
    answer = handler(event, None)
    assert (answer["files"], answer["partitions"], answer["crawler_name"]) == (3, 2, "tarn-test-air-flights")
    assert before <= datetime.fromisoformat(answer["copied_at"]) <= datetime.now(UTC)
    assert answer["copied_at"].endswith(".000Z")
    crawl(lake)
    assert load_handler("pipeline.verify_crawl", {}).handler(event, None) == {"partitions": 2}
    assert "crawler_name" not in handler({"run": vars(crawled(lake, 2, {})), "transform": {"run_id": "jr_2"}}, None)
    lake.empty()
    partitioned = transformed(lake, 3, {"p.parquet": b"a"})
    assert "copied_at" not in handler({"run": vars(partitioned), "transform": {"run_id": "jr_3"}}, None)


# --- An attempt that failed while it was published


def withdraw(lake: Bench, run: outcomes.Run, crash: Crash | None = None) -> int:
    lake.crash = crash or Crash()
    return publishing.withdraw(lake.clients, run)


def somebody_elses(lake: Bench) -> dict[str, bytes]:
    """A file of another batch of the dataset, in the same month."""
    key = "air/flights/month=1/batch=other/a.parquet"
    lake.s3.put_object(Bucket=lake.analytics_bucket, Key=key, Body=b"theirs")
    return {key: b"theirs"}


@pytest.mark.parametrize("publish_mode", ["partition", "crawler"])
def test_what_was_withdrawn_is_gone_and_its_next_attempt_is_published_once(lake, publish_mode) -> None:
    theirs = somebody_elses(lake)
    registered = CRAWLED | {"publish": publish_mode}
    run = transformed(lake, 1, FIRST, partition_by=("month",), **registered)
    publish(lake, run)
    crawl(lake)  # for another batch, after the copy
    assert (withdraw(lake, run), withdraw(lake, run)) == (3, 3)
    assert published(lake) == theirs
    assert BATCH_ID not in {batch for _, batch in partitions(lake)}
    receipt = publish(lake, transformed(lake, 2, SECOND, partition_by=("month",), **registered))
    crawl(lake)
    assert published(lake) == expected(SECOND, lake)[0] | theirs
    assert {month for month, batch in partitions(lake) if batch == BATCH_ID} == {"2", "3"}
    assert len(receipt.deleted) == 3


def test_an_attempt_that_did_not_set_out_to_publish_leaves_what_an_earlier_one_published(lake) -> None:
    publish(lake, crawled(lake, 1, FIRST))
    crawl(lake)
    before = end_state(lake)
    changed = {"flight": "string"}
    run = transformed(lake, 2, SECOND, columns=changed, partition_by=("month",), **CRAWLED)
    with pytest.raises(publishing.ColumnTypeChangedError):
        publish(lake, run)
    assert withdraw(lake, run) == 0
    assert end_state(lake) == before


def test_an_attempt_whose_turn_is_over_withdraws_nothing(lake) -> None:
    run = crawled(lake, 1, FIRST)
    publish(lake, run)
    publish(lake, crawled(lake, 2, SECOND))
    with pytest.raises(NotInStateError):
        withdraw(lake, run)
    batches.finish(lake.batches, Batch(TEAM, DATASET, BATCH_ID, 2), State.PUBLISHED, NOW)
    with pytest.raises(NotInStateError):
        withdraw(lake, run_of(lake, 2))
    assert published(lake) == expected(SECOND, lake)[0]


def test_what_an_older_lake_was_publishing_stays_until_its_next_attempt(lake) -> None:
    run = crawled(lake, 1, FIRST)
    publish(lake, run)
    prefix = names.batch_prefix(TEAM, DATASET, BATCH_ID)
    put(lake, f"s3://{lake.stage_bucket}/{prefix}publishing.json", {"schema": 1, "keys": list(published(lake))})
    assert withdraw(lake, run) == 0
    publish(lake, crawled(lake, 2, SECOND))
    assert published(lake) == expected(SECOND, lake)[0]


@pytest.mark.parametrize("answered", [False, True], ids=["not sent", "answer lost"])
@pytest.mark.parametrize("stopped", ["publishing", "withdrawing"])
def test_stopped_at_any_call_and_withdrawn_nothing_is_left(bench, answered, stopped, monkeypatch) -> None:
    """Whatever a crawl for another batch has registered meanwhile; and a next attempt is published as if alone."""
    monkeypatch.setattr(publishing, "COPIES_AT_ONCE", 1)
    for at in count(1):
        bench.empty()
        theirs = somebody_elses(bench)
        run, crash = crawled(bench, 1, FIRST), Crash(at, answered)
        with suppress(CrashError):
            publish(bench, run, crash if stopped == "publishing" else None)
            crawl(bench)
        with suppress(CrashError):
            withdraw(bench, run, crash if stopped == "withdrawing" else None)
        crawl(bench)
        withdraw(bench, run)
        assert published(bench) == theirs, f"stopped at call {at}"
        assert set(partitions(bench)) == {("1", "other")}, f"stopped at call {at}"
        run = crawled(bench, 2, SECOND)
        publish(bench, run)
        crawl(bench)
        assert verify(bench, run) == 2
        assert published(bench) == expected(SECOND, bench)[0] | theirs, f"stopped at call {at}"
        if crash.calls < at:
            break
    assert at > 10


def test_the_function_withdraws_when_it_is_told_to(lake) -> None:
    handler = load_handler("pipeline.publish_batch", {"BATCHES_TABLE_NAME": "BatchesTable"}).handler
    run = crawled(lake, 1, FIRST)
    handler({"run": vars(run), "transform": {"run_id": "jr_1"}}, None)
    assert handler({"action": "withdraw", "run": vars(run)}, None) == {"files": 3}
    assert published(lake) == {}
