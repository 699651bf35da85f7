"""A crawled dataset on a lake of its own: its crawler may read nothing, and then again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pytest
from typer.testing import CliRunner

from tarn import cli, templates
from tests.e2e.lake_world import (
    Demo,
    batches_of,
    end_of,
    notifications,
    partitions_of,
    published_keys,
    stage,
    start_batch,
    wait_for,
)
from tests.e2e.own_emulator import own_lake

pytestmark = pytest.mark.slow
SAMPLES = templates.ROOT / "datasets" / "sky" / "weather" / "samples"
CRAWLER = "tarn-local-sky-weather"
DENIAL = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}]}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A lake with the weather alone, whose tick never comes."""
    with own_lake(tmp_path_factory.mktemp("crawled"), "SkyWeather") as demo:
        yield demo


@contextmanager
def blind_crawlers(demo: Demo) -> Iterator[None]:
    """The team's crawlers may read no file."""
    iam, role = demo.session.client("iam"), demo.lake.contract.pipeline("sky", "main", "crawler-role/arn")
    name = role.rpartition("/")[2]
    iam.put_role_policy(RoleName=name, PolicyName="blind", PolicyDocument=json.dumps(DENIAL))
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="blind")


def crawl(demo: Demo) -> None:
    """A run of the crawler, as another batch of the dataset starts one."""
    glue = demo.session.client("glue")
    glue.start_crawler(Name=CRAWLER)
    wait_for(lambda: glue.get_crawler(Name=CRAWLER)["Crawler"]["State"] == "READY" or None, "the crawl does not end")
    assert glue.get_crawler(Name=CRAWLER)["Crawler"]["LastCrawl"]["Status"] == "SUCCEEDED"


def tables(demo: Demo) -> set[str]:
    database = demo.lake.contract.team("sky", "database/name")
    return {one["Name"] for one in demo.session.client("glue").get_tables(DatabaseName=database)["TableList"]}


def test_a_batch_whose_crawl_failed_leaves_nothing_and_its_retry_publishes_it_once(own: Demo) -> None:
    with notifications(own, "sky") as about, blind_crawlers(own):
        for file in sorted(SAMPLES.iterdir()):
            stage(own, "weather", file, file.name, "sky")
        failed = end_of(own, start_batch(own, "weather", "sky"))
        assert failed["state"] == "FAILED"
        assert failed["reason"].startswith(f"CrawlFailed: crawler {CRAWLER} FAILED: ")
        assert "s3:GetObject" in failed["reason"]
        said = about(failed["batch_id"])
    assert said["subject"] == "Tarn local: sky/weather FAILED"
    assert f"Reason: {failed['reason']}" in said["message"]
    crawl(own)
    assert published_keys(own, "sky/weather/") == []
    assert tables(own) == set()

    done = CliRunner().invoke(cli.app, ["retry", failed["batch_id"], "--environment", "local"])
    assert done.exit_code == 0, done.output
    batch = wait_for(
        lambda: next((row for row in batches_of(own, "weather") if row["state"] == "PUBLISHED"), None),
        "the retry is not published",
    )
    assert [row["batch_id"] for row in batches_of(own, "weather")] == [failed["batch_id"]]
    assert batch["attempt"] == 2
    rows = duckdb.read_json(f"{SAMPLES}/*").count("*").fetchall()
    assert own.lake.query("SELECT count(*) FROM weather", "sky").rows == [[str(count) for count in row] for row in rows]
    registered = partitions_of(own, "weather", "sky")
    assert {values[-1] for values in registered} == {batch["batch_id"]}
    assert len(registered) == batch["partitions"] > 1
