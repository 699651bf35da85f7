"""`glue:startJobRun` and `glue:startJobRun.sync` as Step Functions tasks.

A permission that `.sync` needs and the role lacks (`glue:GetJobRun`, `glue:BatchStopJobRun`) fails the task here too.
https://docs.aws.amazon.com/step-functions/latest/dg/connect-glue.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tarn.local.extension import sync_tasks
from tarn.local.extension.decisions import Call
from tarn.local.extension.sync_tasks import Ended
from tarn.local.settings import Settings

_FAILED = ("FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")


def install(settings: Settings) -> None:
    """Add the integration."""
    sync_tasks.add(settings, GlueJobRun())


class GlueJobRun:
    """A job run; Step Functions asks Glue how it goes, and no rule."""

    resource = "glue:startJobRun"
    service = "glue"
    errors = "Glue"

    def asked(self, _request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """Nothing beside the calls."""
        return ()

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """StartJobRun."""
        run = {"JobName": request["JobName"], "RunId": client.start_job_run(**request)["JobRunId"]}
        return run, {"JobName": run["JobName"], "JobRunId": run["RunId"]}

    def look(self, client: Any, job: Any) -> Ended | None:
        """GetJobRun."""
        run = client.get_job_run(**job)["JobRun"]
        state = run["JobRunState"]
        return Ended(state == "SUCCEEDED", run) if state == "SUCCEEDED" or state in _FAILED else None

    def stop(self, client: Any, job: Any) -> None:
        """BatchStopJobRun."""
        client.batch_stop_job_run(JobName=job["JobName"], JobRunIds=[job["RunId"]])
