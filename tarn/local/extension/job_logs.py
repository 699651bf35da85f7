"""Ship what a job prints to CloudWatch Logs, where Glue puts it.

https://docs.aws.amazon.com/glue/latest/dg/monitor-continuous-logging.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

logger = logging.getLogger("tarn.local.glue")
OUTPUT_GROUP = "/aws-glue/jobs/output"
ERROR_GROUP = "/aws-glue/jobs/error"
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_MOST_EVENTS = 1_000
_LONGEST_LINE = 8_192


class LogShipper:
    """Sends the growing file `path` to a log group, in a stream that is named by the run.

    It uses the job's role. A role that may not write logs runs all the same, as on AWS, and what it
    printed is not kept; the emulator's log says so.
    """

    def __init__(
        self, logs: CloudWatchLogsClient, group: str, stream: str, path: Path, *, creates_group: bool = True
    ) -> None:
        self._logs, self._group, self._stream, self._path = logs, group, stream, path
        self._creates_group = creates_group
        self._sent = 0
        self._allowed = True
        self._do(self._create)

    def ship(self, final: bool = False) -> None:
        """Send the whole lines that were added; at the end also an unfinished one."""
        if not self._allowed or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._sent)
            added = file.read()
        if not final:
            added = added[: added.rfind(b"\n") + 1]
        self._sent += len(added)
        lines = [line[:_LONGEST_LINE] for line in added.decode(errors="replace").splitlines() if line.strip()]
        for first in range(0, len(lines), _MOST_EVENTS):
            self._do(partial(self._put, lines[first : first + _MOST_EVENTS]))

    def _put(self, lines: list[str]) -> None:
        now = int(time.time() * 1000)
        self._logs.put_log_events(
            logGroupName=self._group,
            logStreamName=self._stream,
            logEvents=[{"timestamp": now, "message": line} for line in lines],
        )

    def _create(self) -> None:
        if self._creates_group:
            with suppress(self._logs.exceptions.ResourceAlreadyExistsException):
                self._logs.create_log_group(logGroupName=self._group)
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):  # a crawler writes to one stream
            self._logs.create_log_stream(logGroupName=self._group, logStreamName=self._stream)

    def _do(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ClientError as error:
            logger.warning("the output of %s is not kept in %s: %s", self._stream, self._group, error)
            self._allowed = False
