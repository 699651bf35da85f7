"""The lines that the lake's functions, machines and jobs wrote about one dataset, or one batch of it, in their order.

Log groups are found through the contract; a dataset's own function through its registration; a job's lines through
its runs, whose arguments name the batch. Everybody else logs for many datasets at once, so that a line is kept when
it names this one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import sleep
from typing import TYPE_CHECKING, Any

import boto3

from lake import names
from tarn.contract import DatasetAddress
from tarn.lake import Lake

if TYPE_CHECKING:
    from mypy_boto3_glue.client import GlueClient
    from mypy_boto3_logs.client import CloudWatchLogsClient

OVERLAP = timedelta(seconds=30)
"""CloudWatch shows a line some seconds after it was written: each look goes back this far, and drops what it knows."""
PLATFORM = re.compile(r"^(INIT_START|START|END|REPORT|XRAY) ")
"""What Lambda itself writes of each call, and says nothing of the work."""
NOT_SHOWN = frozenset(
    """level message timestamp service location cold_start function_name function_memory_size function_arn
    function_request_id xray_trace_id team dataset schema""".split()  # noqa: SIM905 (readable so)
)
"""Fields of a line that say no more than its place, its colour or the command that shows it."""
NOTEBOOK_GROUP = "/aws/sagemaker/ProcessingJobs"
"""Where every processing job of an account logs: https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html"""
MOST_RUNS = 50
"""Runs of a job that are looked at, newest first."""


@dataclass(frozen=True)
class Line:
    """A line as it was written: when, by whom (``transform_objects``), in which stream."""

    at: datetime
    source: str
    stream: str
    text: str

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields, where it is a JSON object; else none."""
        if not self.text.lstrip().startswith("{"):
            return {}
        try:
            read = json.loads(self.text)
        except ValueError:
            return {}
        return read if isinstance(read, dict) else {}

    @property
    def level(self) -> str:
        """INFO, WARNING or ERROR; a line that gives none is an INFO, or an ERROR where Lambda tells of one."""
        fields = self.fields
        if "level" in fields:
            return str(fields["level"])
        failed = re.search(r"Task timed out|Runtime\.|Traceback|\bERROR\b|^Failed: ", self.text)
        return "ERROR" if failed or str(fields.get("type", "")).endswith(("Failed", "TimedOut", "Aborted")) else "INFO"

    @property
    def shown(self) -> str:
        """The line as a person reads it: its message, then its other fields as ``name=value``."""
        fields = self.fields
        if not fields:
            return self.text.rstrip()
        said = str(fields.get("message") or fields.get("type") or "")
        rest = [f"{name}={_plain(one)}" for name, one in fields.items() if name not in NOT_SHOWN | {"type"} and one]
        return " ".join([said, *rest]).strip()


@dataclass
class Reader:
    """Looks for the lines about a dataset, or one batch of it, or some of its objects; each line is given once."""

    lake: Lake
    address: DatasetAddress
    batch_id: str | None = None
    session: boto3.Session = field(default_factory=boto3.Session)
    objects: tuple[str, ...] = ()
    """Identities; of a call that concerns several objects, the lines about the others are left out."""
    until: datetime | None = None
    _known: set[tuple[str, str, int, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._logs: CloudWatchLogsClient = self.session.client("logs")
        self._glue: GlueClient = self.session.client("glue")

    def begin(self, now: datetime) -> datetime:
        """From when on the lines are worth a look: the batch's first moment, or an hour ago."""
        if not self.batch_id:
            return now - timedelta(hours=1)
        row = self.lake.batch(names.owner_key(self.address.team, self.address.dataset), self.batch_id)
        return datetime.fromisoformat(str(row["created_at"])).astimezone(now.tzinfo)

    def lines(self, since: datetime) -> list[Line]:
        """The lines written since then that were not given before, oldest first."""
        words = self._words()
        found: list[Line] = []
        for source, group in self._groups().items():
            found += _concerned(self._read(source, group, since), words, bool(self.objects))
        for source, group, stream in () if self.objects else self._job_streams(since):
            found += self._read(source, group, since, stream)
        for stream in self._notebook_streams():
            found += self._read("run_notebook", NOTEBOOK_GROUP, since, stream)
        fresh = [one for one in found if (key := _key(one)) not in self._known and not self._known.add(key)]  # type: ignore[func-returns-value]
        return sorted(fresh, key=lambda one: one.at)

    def follow(self, since: datetime, poll_seconds: float = 2.0) -> Iterator[Line]:
        """The lines since then, and each new one when it can be seen, until nobody asks any more."""
        while True:
            looked = datetime.now(since.tzinfo)
            yield from self.lines(since)
            since = max(since, looked - OVERLAP)
            sleep(poll_seconds)

    def _groups(self) -> dict[str, str]:
        groups = self.lake.contract.log_groups(self.address.team, self.address.pipeline)
        if own := self.lake.registration(self.address).get("transform_function_arn"):
            told = self.session.client("lambda").get_function_configuration(FunctionName=str(own))
            groups["light_transform"] = told["LoggingConfig"]["LogGroup"]
        return groups

    def _words(self) -> list[re.Pattern[str]]:
        """What a line about the dataset holds: its path, its fields, or the id of one of its batches."""
        if self.batch_id:
            return [re.compile(re.escape(self.batch_id))]
        if self.objects:
            # as they are, and as they stand in JSON; followed by no further letter of a longer key
            spelled = {form for one in self.objects for form in (one, json.dumps(one)[1:-1])}
            return [re.compile(rf"(?:{'|'.join(map(re.escape, spelled))})(?![^\s\"'\\,\])}}])")]
        team, dataset = re.escape(self.address.team), re.escape(self.address.dataset)
        path = re.compile(rf"(?<![\w-]){team}[/#]{dataset}(?![\w-])")
        # a tick names its datasets as fields of their own
        fields = re.compile(rf'(?=.*"team": ?"{team}")(?=.*("dataset": ?"{dataset}"|"{dataset}":))', re.DOTALL)
        batches = [str(row["batch_id"]) for row in self.lake.batches_of(self.address)]
        return [path, fields, *([re.compile("|".join(map(re.escape, batches)))] if batches else [])]

    def _read(self, source: str, group: str, since: datetime, stream: str | None = None) -> Iterator[Line]:
        arguments: dict[str, Any] = {"logGroupName": group, "startTime": int(since.timestamp() * 1000)}
        if self.until:
            arguments["endTime"] = int(self.until.timestamp() * 1000)
        if stream:
            arguments["logStreamNamePrefix"] = stream  # Glue's executors add their number to the run's id
        try:
            for page in self._logs.get_paginator("filter_log_events").paginate(**arguments):
                for event in page["events"]:
                    if stream and not event["logStreamName"].startswith(stream):
                        continue  # MiniStack gives every stream of the group
                    at = datetime.fromtimestamp(event["timestamp"] / 1000, since.tzinfo)
                    yield Line(at, source, event["logStreamName"], event["message"])
        except self._logs.exceptions.ResourceNotFoundException:
            return  # a job that has not run yet

    def _notebook_streams(self) -> Iterator[str]:
        """How the streams of a dataset's processing jobs begin: with the job's name, which holds the batch's id."""
        if self.lake.registration(self.address).get("engine") != "sagemaker":
            return
        known = self.lake.batches_of(self.address)
        for batch in [self.batch_id] if self.batch_id else [row["batch_id"] for row in known]:
            yield f"tarn-{self.lake.contract.environment}-{self.address.team}-{batch}-"

    def _job_streams(self, since: datetime) -> Iterator[tuple[str, str, str]]:
        """Who writes, the log group and the stream of each job run of the dataset or batch.

        The run itself says where its log is: with a security configuration the group has another name.
        https://docs.aws.amazon.com/glue/latest/dg/monitor-continuous-logging.html
        """
        wanted = {"--team": self.address.team, "--dataset": self.address.dataset}
        if self.batch_id:
            wanted["--batch_id"] = self.batch_id
        for source, job in self.lake.contract.jobs(self.address.team, self.address.pipeline).items():
            for run in self._glue.get_job_runs(JobName=job, MaxResults=MOST_RUNS)["JobRuns"]:
                ended = run.get("CompletedOn")
                if wanted.items() <= run.get("Arguments", {}).items() and (ended is None or ended >= since - OVERLAP):
                    group = run["LogGroupName"].rstrip("/")
                    yield source, f"{group}/output", run["Id"]
                    yield source, f"{group}/error", run["Id"]


def _concerned(lines: Iterable[Line], words: list[re.Pattern[str]], of_objects: bool = False) -> list[Line]:
    """Lines with one of the words, and what else was said in the same calls (a time-out names nothing but the call)."""
    others: list[Line] = []
    kept: list[Line] = []
    calls: set[str] = set()
    for line in lines:
        if PLATFORM.match(line.text) or "_aws" in line.fields:  # Lambda's own, and metrics
            continue
        if any(word.search(line.text) for word in words):
            kept.append(line)
            calls.add(str(line.fields.get("function_request_id", "")))
        elif not (of_objects and "s3://" in line.text):
            others.append(line)
    calls.discard("")
    return kept + [line for line in others if any(call in line.text for call in calls)]


def _key(line: Line) -> tuple[str, str, int, str]:
    return line.source, line.stream, int(line.at.timestamp() * 1000), line.text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
