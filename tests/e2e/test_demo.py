"""The demo's lake, looked at from outside: what was published, what was not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tarn.lake import QueryError
from tests.e2e.lake_world import Demo, batches_of, partitions_of, published_keys


def test_the_demo_passes_and_says_so(demo) -> None:
    assert demo.returncode == 0, demo.screen
    assert "Passed in" in demo.screen
    assert "DIFFERS" not in demo.screen
    assert "27,004" in demo.screen


def test_the_passed_batch_is_published_and_its_objects_say_so(demo) -> None:
    batch = batches_of(demo, "flights")[0]
    assert batch["state"] == "PUBLISHED"
    assert batch["objects"] == 31
    assert batch["rows_in"] == batch["rows_out"] == 27004
    days = [f"2013-01-{day:02}" for day in range(1, 32)]
    assert sorted(partitions_of(demo, "flights")) == [[day, batch["batch_id"]] for day in days]
    keys = published_keys(demo, "air/flights/")
    assert keys
    bucket = demo.lake.contract.foundations("analytics-bucket/name")
    for key in keys:
        row = demo.lake.object_row(f"s3://{bucket}/{key}")
        assert row is not None
        assert (row["state"], row["batch_id"]) == ("PUBLISHED", batch["batch_id"])
    counted = demo.lake.status(exact=True).objects["air/flights"]
    assert counted["stage PUBLISHED"] == 31


def test_the_spoiled_batch_names_its_rule_and_is_not_published(demo) -> None:
    blocked = batches_of(demo, "flights")[1]
    assert blocked["state"] == "FAILED_QUALITY"
    failed = [rule for rule in blocked["quality"]["rules"] if rule["outcome"] != "Passed"]
    assert failed
    assert all(rule["metrics"] or rule["reason"] for rule in failed)
    assert failed[0]["rule"] in blocked["reason"]
    assert blocked["batch_id"] not in {values[-1] for values in partitions_of(demo, "flights")}
    assert not [key for key in published_keys(demo, "air/flights/") if blocked["batch_id"] in key]
    assert failed[0]["rule"][:20] in demo.screen


def test_an_object_that_waited_for_its_dataset_is_published(demo) -> None:
    assert [batch["state"] for batch in batches_of(demo, "airlines")] == ["PUBLISHED"]
    assert demo.lake.query("SELECT count(*) AS airlines FROM airlines", "air").rows == [["16"]]


def test_a_dataset_in_python_is_staged_by_a_function_of_its_own_and_published(demo) -> None:
    [batch] = batches_of(demo, "planes")
    assert (batch["state"], batch["rows_in"], batch["rows_out"]) == ("PUBLISHED", 3322, 3322)
    makers = "SELECT count(*) FROM planes_view WHERE manufacturer = 'AIRBUS' AND decade IS NOT NULL"
    assert demo.lake.query(makers, "air").rows == [["718"]]
    functions = demo.session.client("lambda").get_paginator("list_functions").paginate()
    names = {one["FunctionName"] for page in functions for one in page["Functions"]}
    assert "tarn-local-air-planes" in names


def test_a_crawled_dataset_has_its_partitions_from_the_crawler(demo) -> None:
    [batch] = batches_of(demo, "weather")
    assert (batch["state"], batch["objects"], batch["rows_out"]) == ("PUBLISHED", 3, 2226)
    days = sorted(day for day, _ in partitions_of(demo, "weather", "sky"))
    assert (days[0], days[-1], len(days)) == ("2013-01-01", "2013-02-01", 32), "hours in UTC"
    crawler = demo.session.client("glue").get_crawler(Name="tarn-local-sky-weather")["Crawler"]
    assert crawler["LastCrawl"]["Status"] == "SUCCEEDED"


def test_a_view_shows_the_table_without_its_batches(demo) -> None:
    for team, table in (("air", "flights"), ("sky", "weather")):
        seen = demo.lake.query(f"SELECT * FROM {table}_view LIMIT 1", team).columns  # noqa: S608 (our own names)
        behind = demo.lake.query(f"SELECT * FROM {table} LIMIT 1", team).columns  # noqa: S608
        assert behind == [*seen, "batch"]


@contextmanager
def spoilt(demo: Demo, prefix: str) -> Iterator[None]:
    """Parquet files without their rows; each still has its footer, from which the emulator takes its columns."""
    s3, bucket = demo.session.client("s3"), demo.lake.contract.foundations("analytics-bucket/name")
    right = {key: s3.get_object(Bucket=bucket, Key=key) for key in published_keys(demo, prefix)}
    bodies = {key: found["Body"].read() for key, found in right.items()}
    assert bodies
    for key, body in bodies.items():
        footer = int.from_bytes(body[-8:-4], "little") + 8
        s3.put_object(Bucket=bucket, Key=key, Body=bytes(len(body) - footer) + body[-footer:])
    try:
        yield
    finally:
        for key, body in bodies.items():
            s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=right[key]["Metadata"])


@pytest.mark.parametrize(
    ("team", "table", "column", "day"),
    [("air", "flights", "distance", "flight_date = DATE "), ("sky", "weather", "temperature_f", "observed_on = ")],
    ids=["registered by publish_batch", "registered by a crawler"],
)
def test_a_query_reads_the_partitions_that_it_asks_for_alone(demo, team, table, column, day) -> None:
    for name in (table, f"{table}_view"):
        asked = f"SELECT count({column}), max({column}) FROM {name}"  # noqa: S608 (our own names)
        one_day = f"{asked} WHERE {day}'2013-01-05'"
        before = demo.lake.query(one_day, team).rows
        assert int(before[0][0]) > 0
        with spoilt(demo, f"{team}/{table}/{day.partition(' ')[0]}=2013-01-06/"):
            assert demo.lake.query(one_day, team).rows == before
            for reads_it in (asked, f"{asked} WHERE {day}'2013-01-06'"):
                with pytest.raises(QueryError):
                    demo.lake.query(reads_it, team)
        assert demo.lake.query(one_day, team).rows == before


def test_athena_answers_from_the_published_table_alone(demo) -> None:
    answer = demo.lake.query("SELECT origin, count(*) AS flights FROM flights GROUP BY origin ORDER BY origin", "air")
    assert answer.rows == [["EWR", "9893"], ["JFK", "9161"], ["LGA", "7950"]]

    glue = demo.session.client("glue")
    database = demo.lake.contract.team("air", "database/name")
    table = glue.get_table(DatabaseName=database, Name="airports")["Table"]
    assert demo.lake.query("SELECT count(*) FROM airports", "air").rows[0][0] == "1458"
    glue.delete_table(DatabaseName=database, Name="airports")
    with pytest.raises(QueryError, match="airports"):
        demo.lake.query("SELECT count(*) FROM airports", "air")
    assert published_keys(demo, "air/airports/"), f"the data itself stays where {table['Name']} was"


def test_no_message_is_left_and_nothing_came_to_the_dead_letters(demo) -> None:
    assert demo.lake.status().queues
    assert {place: depth for place, depth in demo.lake.status().queues.items() if any(depth.values())} == {}
