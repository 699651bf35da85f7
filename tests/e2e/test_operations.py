"""What people have to look at a lake with: logs, numbers of a batch, metrics, a dashboard of real resources."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from tarn.logs import Reader
from tests.e2e.lake_world import batches_of

LONG_AGO = datetime.now(UTC) - timedelta(days=1)
"""The lake began within this run."""


@pytest.fixture(scope="module")
def airports(demo):
    """The batch that the demo published of the airports."""
    return next(row for row in batches_of(demo, "airports") if row["state"] == "PUBLISHED")


def test_logs_show_the_whole_way_of_a_dataset(demo) -> None:
    reader = Reader(demo.lake, demo.lake.contract.address("air", "airports"), session=demo.session)
    lines = reader.lines(LONG_AGO)
    assert [one.at for one in lines] == sorted(one.at for one in lines)
    assert {
        *("route_object", "transform_objects", "record_outcomes", "start_batch", "transform_batch", "judge_batch"),
        *("verify_outcome", "publish_batch", "finish_batch"),
    } <= {one.source for one in lines}
    assert not [one for one in lines if one.source == "transform_objects" and "air/airports" not in one.text]


def test_logs_of_a_batch_are_of_no_other(demo, airports) -> None:
    address = demo.lake.contract.address("air", "airports")
    lines = Reader(demo.lake, address, airports["batch_id"], demo.session).lines(LONG_AGO)
    named = {found for one in lines for found in re.findall(r"[0-9]{8}t[0-9]{6}-[0-9a-f]{12}", one.text)}
    assert named == {airports["batch_id"]}
    assert any(one.shown.startswith("Passed: RowCount") for one in lines if one.source == "judge_batch")


def test_the_row_of_a_batch_has_its_numbers(airports) -> None:
    assert (airports["rows_in"], airports["rows_out"], airports["partitions"]) == (1458, 1458, 1)
    assert airports["files"] >= 1
    assert airports["bytes"] > 1000
    assert airports["transform_seconds"] > 0
    assert airports["quality_seconds"] > 0


def test_the_end_of_a_batch_is_sent_as_a_metric(demo, airports) -> None:
    group = demo.lake.contract.log_groups("air", "main")["finish_batch"]
    pages = demo.session.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    sent = [json.loads(one["message"]) for page in pages for one in page["events"] if '"_aws"' in one["message"]]
    (mine,) = [one for one in sent if one["Dataset"] == "airports" and "BatchesPublished" in one]
    assert (mine["Environment"], mine["Team"], mine["Pipeline"]) == ("local", "air", "main")
    assert mine["RowsPublished"] == [1458.0]
    assert "service" not in mine


def test_the_dashboard_draws_resources_that_exist(demo) -> None:
    cloudwatch = demo.session.client("cloudwatch")
    body = json.loads(cloudwatch.get_dashboard(DashboardName="tarn-local-air-main")["DashboardBody"])
    drawn = [
        line
        for widget in body["widgets"]
        for line in widget["properties"].get("metrics", [])
        if isinstance(line[0], str) and line[0].startswith("AWS/")
    ]
    named = {
        dimension: {line[3] for line in drawn if line[2] == dimension} for dimension in {line[2] for line in drawn}
    }
    pages = demo.session.client("lambda").get_paginator("list_functions").paginate()
    functions = {one["FunctionName"] for page in pages for one in page["Functions"]}
    queues = {url.rpartition("/")[2] for url in demo.session.client("sqs").list_queues()["QueueUrls"]}
    machines = {
        one["stateMachineArn"] for one in demo.session.client("stepfunctions").list_state_machines()["stateMachines"]
    }
    assert len(named["FunctionName"]) >= 8
    assert named["FunctionName"] <= functions
    assert len(named["QueueName"]) == 4
    assert named["QueueName"] <= queues
    assert len(named["StateMachineArn"]) == 2
    assert named["StateMachineArn"] <= machines


def test_every_alarm_that_is_deployed_tells_a_topic(demo) -> None:
    """Those on metric math are recorded apart: MiniStack has no such alarm."""
    pages = demo.session.client("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [one for page in pages for one in page["MetricAlarms"]]
    topics = {one["TopicArn"] for one in demo.session.client("sns").list_topics()["Topics"]}
    assert len(alarms) >= 8
    assert [one["AlarmName"] for one in alarms if not set(one["AlarmActions"]) & topics] == []
