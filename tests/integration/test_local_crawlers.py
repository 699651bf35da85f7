"""A crawler on a laptop reads the files with its role and registers them; stock MiniStack 1.5.33 creates nothing."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tarn.local import emulator as local
from tests.integration.local_world import Roles, Stacks, allowing, client_of, until

GLUE, STATES = "glue.amazonaws.com", "states.amazonaws.com"
TEMPLATE = Path(__file__).resolve().parents[2] / "pipeline" / "crawler.yaml"
READ = allowing("s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject")
WRITE = allowing(
    "glue:GetDatabase", "glue:GetTable", "glue:CreateTable", "glue:UpdateTable",
    "glue:BatchGetPartition", "glue:BatchCreatePartition", "glue:BatchUpdatePartition",
)  # fmt: skip
LOG = allowing("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
ROW = """
SELECT 1::BIGINT AS id, 'n' AS Name, 1.50::DECIMAL(10,2) AS price, DATE '2026-11-23' AS day, true AS ok,
       TIMESTAMP '2026-11-23 10:00:00' AS seen, ['a', 'b'] AS tags, {'city': 'Rome', 'zip': 184} AS home,
       MAP {'k': 1.5::DOUBLE} AS rates, 2::FLOAT AS small, 'x'::BLOB AS raw
"""
TYPES = {
    "id": "bigint", "name": "string", "price": "decimal(10,2)", "day": "date", "ok": "boolean", "seen": "timestamp",
    "tags": "array<string>", "home": "struct<city:string,zip:int>", "rates": "map<string,double>", "small": "float",
    "raw": "binary",
}  # fmt: skip


class Crawled:
    """A bucket, a database, and a crawler of one folder."""

    def __init__(self, client: Callable[[str], Any], role: str) -> None:
        self.s3, self.glue, self.logs = (client(name) for name in ("s3", "glue", "logs"))
        suffix = uuid.uuid4().hex[:8]
        self.bucket, self.database, self.name = f"crawled-{suffix}", f"db_{suffix}", f"crawler-{suffix}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.glue.create_database(DatabaseInput={"Name": self.database})
        self.glue.create_crawler(
            Name=self.name,
            Role=role,
            DatabaseName=self.database,
            Targets={"S3Targets": [{"Path": f"s3://{self.bucket}/air/flights/"}]},
            SchemaChangePolicy={"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"},
        )

    def write(self, key: str, sql: str = ROW) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "part.parquet"
            duckdb.sql(f"COPY ({sql}) TO '{file}' (FORMAT parquet)")
            self.s3.upload_file(str(file), self.bucket, f"air/flights/{key}")

    def crawler(self) -> dict[str, Any]:
        found: dict[str, Any] = self.glue.get_crawler(Name=self.name)["Crawler"]
        return found

    def crawl(self) -> dict[str, Any]:
        """Start a run and wait: how it ended."""
        self.glue.start_crawler(Name=self.name)
        return self.ended()

    def ended(self) -> dict[str, Any]:
        until(lambda: self.crawler()["State"] == "READY")
        last: dict[str, Any] = self.crawler()["LastCrawl"]
        return last

    def table(self, name: str = "flights") -> dict[str, Any]:
        found: dict[str, Any] = self.glue.get_table(DatabaseName=self.database, Name=name)["Table"]
        return found

    def columns(self) -> dict[str, str]:
        return {column["Name"]: column["Type"] for column in self.table()["StorageDescriptor"]["Columns"]}

    def partitions(self) -> dict[tuple[str, ...], str]:
        found = self.glue.get_partitions(DatabaseName=self.database, TableName="flights")["Partitions"]
        return {tuple(one["Values"]): one["StorageDescriptor"]["Location"] for one in found}


@pytest.fixture
def crawled(client: Callable[[str], Any], roles: Roles) -> Crawled:
    return Crawled(client, roles.create(READ, WRITE, LOG, service=GLUE))


def test_it_registers_the_table_and_every_folder_as_a_partition(crawled: Crawled) -> None:
    crawled.write("month=1/batch=b1/part-0.parquet")
    crawled.write("month=2/batch=b1/part-0.parquet")
    crawled.write("month=2/batch=b1/_SUCCESS")
    crawled.write("_pending/b2/part-0.parquet")
    before = datetime.now(UTC)
    last = crawled.crawl()
    assert (last["Status"], last["LogGroup"], last["LogStream"]) == ("SUCCEEDED", "/aws-glue/crawlers", crawled.name)
    assert before - timedelta(seconds=1) <= last["StartTime"] <= datetime.now(UTC)
    assert crawled.columns() == TYPES
    table = crawled.table()
    assert [(key["Name"], key["Type"]) for key in table["PartitionKeys"]] == [("month", "string"), ("batch", "string")]
    assert table["StorageDescriptor"]["Location"] == f"s3://{crawled.bucket}/air/flights/"
    assert table["Parameters"]["classification"] == "parquet"
    assert crawled.partitions() == {
        (month, "b1"): f"s3://{crawled.bucket}/air/flights/month={month}/batch=b1/" for month in ("1", "2")
    }
    events = crawled.logs.get_log_events(logGroupName=last["LogGroup"], logStreamName=last["LogStream"])["events"]
    assert "2 partitions" in events[-1]["message"]


def test_the_next_crawl_appends_columns_and_partitions(crawled: Crawled) -> None:
    crawled.write("batch=b1/p.parquet", "SELECT 1 AS id, 'x' AS gone")
    crawled.crawl()
    crawled.s3.delete_object(Bucket=crawled.bucket, Key="air/flights/batch=b1/p.parquet")
    crawled.write("batch=b2/p.parquet", "SELECT 2 AS id, 1.5::DOUBLE AS gained")
    assert crawled.crawl()["Status"] == "SUCCEEDED"
    assert crawled.columns() == {"id": "int", "gone": "string", "gained": "double"}
    assert set(crawled.partitions()) == {("b1",), ("b2",)}, "DeleteBehavior LOG takes nothing out"
    events = crawled.logs.get_log_events(logGroupName="/aws-glue/crawlers", logStreamName=crawled.name)["events"]
    assert len(events) == 6, "both crawls write to one stream"


@pytest.mark.parametrize(
    ("kind", "body"), [("json", b'{"id": 1, "home": {"city": "Rome"}}\n'), ("csv", b"id,home\n1,Rome\n")]
)
def test_it_knows_json_and_csv_by_their_content(crawled: Crawled, kind: str, body: bytes) -> None:
    crawled.s3.put_object(Bucket=crawled.bucket, Key="air/flights/batch=b1/part", Body=body)
    assert crawled.crawl()["Status"] == "SUCCEEDED"
    assert crawled.table()["Parameters"]["classification"] == kind
    assert crawled.columns() == {"id": "bigint", "home": "struct<city:string>" if kind == "json" else "string"}


def test_without_files_there_is_no_table(crawled: Crawled) -> None:
    assert crawled.crawl()["Status"] == "SUCCEEDED"
    with pytest.raises(crawled.glue.exceptions.EntityNotFoundException):
        crawled.table()


def test_a_table_elsewhere_keeps_its_name(crawled: Crawled) -> None:
    elsewhere = {"Location": f"s3://{crawled.bucket}/elsewhere/", "Columns": []}
    crawled.glue.create_table(
        DatabaseName=crawled.database, TableInput={"Name": "flights", "StorageDescriptor": elsewhere}
    )
    crawled.write("batch=b1/p.parquet")
    assert crawled.crawl()["Status"] == "SUCCEEDED"
    names = {one["Name"] for one in crawled.glue.get_tables(DatabaseName=crawled.database)["TableList"]}
    assert len(names) == 2
    assert crawled.partitions() == {}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["a=1/p.parquet", "b=1/p.parquet"], "are not of one table"),
        (["a=1/p.parquet", "p.parquet"], "are not of one table"),
        (["id=1/p.parquet"], "id is a column of the files and a partition key"),
    ],
)
def test_files_that_make_no_table_fail_the_crawl(crawled: Crawled, keys: list[str], reason: str) -> None:
    for key in keys:
        crawled.write(key)
    last = crawled.crawl()
    assert last["Status"] == "FAILED"
    assert reason in last["ErrorMessage"]
    assert crawled.crawler()["State"] == "READY"


def test_a_file_that_cannot_be_read_fails_the_crawl(crawled: Crawled) -> None:
    crawled.s3.put_object(Bucket=crawled.bucket, Key="air/flights/batch=b1/p.parquet", Body=b"PAR1 and no more")
    assert crawled.crawl()["Status"] == "FAILED"


@pytest.mark.parametrize("missing", ["s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject", "glue:GetDatabase",
                                     "glue:GetTable", "glue:CreateTable", "glue:BatchGetPartition",
                                     "glue:BatchCreatePartition"])  # fmt: skip
def test_it_may_do_what_its_role_may_do(client: Callable[[str], Any], roles: Roles, missing: str) -> None:
    given = [
        allowing(*(action for action in statement["Action"] if action != missing)) for statement in (READ, WRITE, LOG)
    ]
    crawled = Crawled(client, roles.create(*given, service=GLUE))
    crawled.write("batch=b1/p.parquet")
    last = crawled.crawl()
    assert last["Status"] == "FAILED"
    assert f"is not authorized to perform: {missing}" in last["ErrorMessage"]


def test_its_role_must_trust_glue(client: Callable[[str], Any], roles: Roles) -> None:
    crawled = Crawled(client, roles.create(READ, WRITE, service=STATES))
    last = crawled.crawl()
    assert last["Status"] == "FAILED"
    assert "does not let glue.amazonaws.com assume the role" in last["ErrorMessage"]


def test_one_run_at_a_time_and_a_stopped_one_is_cancelled(crawled: Crawled) -> None:
    for number in range(20):
        crawled.write(f"batch=b{number}/p.parquet")
    crawled.glue.start_crawler(Name=crawled.name)
    with pytest.raises(crawled.glue.exceptions.CrawlerRunningException):
        crawled.glue.start_crawler(Name=crawled.name)
    crawled.glue.stop_crawler(Name=crawled.name)
    last = crawled.ended()
    assert last["Status"] == "CANCELLED"
    with pytest.raises(crawled.glue.exceptions.CrawlerNotRunningException):
        crawled.glue.stop_crawler(Name=crawled.name)
    assert crawled.crawl()["Status"] == "SUCCEEDED"
    for call in (crawled.glue.start_crawler, crawled.glue.stop_crawler):
        with pytest.raises(crawled.glue.exceptions.EntityNotFoundException):
            call(Name="nobody")


def test_the_templates_crawler_is_deployed_with_all_its_properties(
    client: Callable[[str], Any], roles: Roles, stacks: Stacks
) -> None:
    crawled = Crawled(client, roles.create(service=GLUE))
    role = roles.create(READ, WRITE, LOG, service=GLUE)
    deployed = stacks.create(
        TEMPLATE.read_text(),
        EnvironmentName="local",
        TeamName="air",
        DatasetName=crawled.database,
        DatabaseName=crawled.database,
        AnalyticsBucketName=crawled.bucket,
        CrawlerRoleArn=role,
        TeamKeyArn="arn:aws:kms:eu-west-1:000000000000:key/k",
    )
    assert deployed["StackStatus"] == "CREATE_COMPLETE", deployed["Reasons"]
    crawled.name = deployed["Values"]["CrawlerName"]
    assert crawled.name == f"tarn-local-air-{crawled.database}"
    found = crawled.crawler()
    assert found["Role"].rpartition("/")[2] == role.rpartition("/")[2]
    assert found["Targets"]["S3Targets"] == [{"Path": f"s3://{crawled.bucket}/air/{crawled.database}/"}]
    assert found["SchemaChangePolicy"] == {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"}
    assert found["RecrawlPolicy"] == {"RecrawlBehavior": "CRAWL_EVERYTHING"}
    assert found["CrawlerSecurityConfiguration"] == f"{crawled.name}-crawler"
    assert json.loads(found["Configuration"])["Grouping"]["TableLevelConfiguration"] == 3
    assert not found.get("Schedule")
    crawled.s3.put_object(Bucket=crawled.bucket, Key=f"air/{crawled.database}/batch=b/p.csv", Body=b"id\n1\n")
    assert crawled.crawl()["Status"] == "SUCCEEDED"
    assert crawled.table(crawled.database)["Parameters"]["UPDATED_BY_CRAWLER"] == crawled.name
    assert stacks.delete(deployed["StackName"])["StackStatus"] == "DELETE_COMPLETE"


def _task(action: str, crawler: str, **more: Any) -> dict[str, Any]:
    return {
        "Type": "Task", "Resource": f"arn:aws:states:::aws-sdk:glue:{action}", "Arguments": {"Name": crawler},
    } | (more or {"End": True})  # fmt: skip


def _executed(client: Callable[[str], Any], role: str, states: dict[str, Any]) -> dict[str, Any]:
    machines = client("stepfunctions")
    definition = json.dumps({"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states})
    machine = machines.create_state_machine(name=f"m-{uuid.uuid4().hex[:8]}", definition=definition, roleArn=role)
    execution = machines.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    until(lambda: machines.describe_execution(executionArn=execution)["status"] != "RUNNING")
    found: dict[str, Any] = machines.describe_execution(executionArn=execution)
    return found


def test_a_state_machine_runs_the_crawlers_that_its_role_names(
    client: Callable[[str], Any], roles: Roles, crawled: Crawled
) -> None:
    crawled.write("batch=b1/p.parquet")
    states = {
        "Start": _task("startCrawler", crawled.name, Next="Wait"),
        "Wait": {"Type": "Wait", "Seconds": 3, "Next": "Look"},
        "Look": _task("getCrawler", crawled.name),
    }
    arn = f"arn:aws:glue:eu-west-1:000000000000:crawler/{crawled.name[:-4]}*"
    role = roles.create(allowing("glue:StartCrawler", "glue:GetCrawler", resource=arn), service=STATES)
    ended = _executed(client, role, states)
    assert ended["status"] == "SUCCEEDED", ended
    crawler = json.loads(ended["output"])["Crawler"]
    assert (crawler["State"], crawler["LastCrawl"]["Status"]) == ("READY", "SUCCEEDED")
    started = datetime.fromisoformat(crawler["LastCrawl"]["StartTime"])
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=1)

    other = roles.create(
        allowing("glue:StartCrawler", "glue:GetCrawler", resource=arn.replace("crawler-", "other-")), service=STATES
    )
    for action in ("startCrawler", "getCrawler"):
        denied = _executed(client, other, {"Ask": _task(action, crawled.name)})
        assert denied["status"] == "FAILED"
        assert f"crawler/{crawled.name}" in denied["cause"]
        assert denied["error"] in ("Glue.GlueException", "Glue.AccessDeniedException")


def test_a_running_crawler_has_the_error_that_the_machine_waits_on(
    client: Callable[[str], Any], roles: Roles, crawled: Crawled
) -> None:
    for number in range(20):
        crawled.write(f"batch=b{number}/p.parquet")
    role = roles.create(allowing("glue:StartCrawler"), service=STATES)
    states = {"One": _task("startCrawler", crawled.name, Next="Two"), "Two": _task("startCrawler", crawled.name)}
    assert _executed(client, role, states)["error"] == "Glue.CrawlerRunningException"
    crawled.ended()


def test_crawls_outlive_the_emulator_and_one_that_was_interrupted_has_failed(tmp_path: Path) -> None:
    options = {"TARN_AUTOSAVE_SECONDS": "0.2"}
    try:
        running = local.start(tmp_path, options=options)

        def client(service: str) -> Any:
            return client_of(running, service)

        crawled = Crawled(client, Roles(running, client).create(READ, WRITE, LOG, service=GLUE))
        crawled.write("batch=b1/p.parquet")
        last = crawled.crawl()
        local.stop(tmp_path)
        running = local.start(tmp_path, options=options)
        crawled.s3, crawled.glue = client_of(running, "s3"), client_of(running, "glue")
        assert crawled.crawler()["LastCrawl"] == last
        assert set(crawled.partitions()) == {("b1",)}

        crawled.s3.delete_object(Bucket=crawled.bucket, Key="air/flights/batch=b1/p.parquet")
        for number in range(600):
            crawled.s3.put_object(Bucket=crawled.bucket, Key=f"air/flights/batch=b{number}/p", Body=b"id\n1\n")
        crawled.glue.start_crawler(Name=crawled.name)
        assert until(lambda: any('"RUNNING"' in path.read_text() for path in (tmp_path / "services").glob("glue*")))
        os.kill(running.pid, signal.SIGKILL)
        assert until(lambda: local.running(tmp_path) is None)
        crawled.glue = client_of(local.start(tmp_path), "glue")
        crawler = crawled.crawler()
        assert (crawler["State"], crawler["LastCrawl"]["Status"]) == ("READY", "FAILED")
        assert "emulator was stopped" in crawler["LastCrawl"]["ErrorMessage"]
    finally:
        local.stop(tmp_path, purge=True)
