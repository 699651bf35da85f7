"""Glue job runs that really run.

Stock MiniStack marks a Spark job SUCCEEDED without running it when there is no Docker, forgets
`ExecutionProperty`, and stops a run by name only. Here `StartJobRun` starts a process
(`spark_process`) whose end alone decides the state of the run: SUCCEEDED means that it ran and
exited with 0.
https://docs.aws.amazon.com/glue/latest/dg/aws-glue-api-jobs-runs.html
"""

from __future__ import annotations

import contextvars
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tarn.local.extension.clients import Clients
from tarn.local.extension.job_logs import ERROR_GROUP, OUTPUT_GROUP, LogShipper
from tarn.local.extension.patching import original, replace
from tarn.local.extension.role_sessions import RoleError, RoleSession, assumed
from tarn.local.extension.s3_filesystem import S3FileSystem
from tarn.local.extension.spark_process import JobError, JobProcess, JobScript
from tarn.local.extension.webhdfs import FileSystemServer
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.glue")
GLUE = "ministack.services.glue"
# whose Spark is installed here (requirements/main.in)
GLUE_VERSION = "5.1"
ACTIVE = ("STARTING", "RUNNING", "STOPPING")
# Of a job and of a job's properties in CloudFormation, and dropped by MiniStack.
_KEPT = ("ExecutionProperty", "ExecutionClass", "MaintenanceWindow", "JobRunQueuingEnabled")
_LOG_SECONDS = 2.0


def install(settings: Settings) -> None:
    """Replace the start and the stop of runs, and keep the properties of jobs that runs obey."""
    runs = JobRuns(settings)
    replace(GLUE, "_start_job_run", runs.start)
    replace(GLUE, "_batch_stop_job_run", runs.stop)
    _keep_properties()
    restore = original(GLUE, "_restore_state")

    def restored(data: Any) -> Any:
        result = restore(data)
        _fail_interrupted(_all_runs())
        return result

    replace(GLUE, "_restore_state", restored)


class JobRuns:
    """Starts and stops runs; each has a thread of its own, and no request waits for one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = Clients(settings)
        # a job's `Timeout` is in minutes, and a test should not take one
        self._minute_seconds = float(os.environ.get("TARN_GLUE_MINUTE_SECONDS", "60"))
        self._lock = threading.Lock()
        self._stopping: dict[str, threading.Event] = {}

    def start(self, request: dict[str, Any]) -> Any:
        """StartJobRun: accept the run and go on beside it."""
        name = request.get("JobName", "")
        job = original(GLUE, "_jobs").get(name)
        if job is None:
            return _error("EntityNotFoundException", f"Failed to start job run due to missing metadata: {name}")
        command = job.get("Command", {})
        if command.get("Name") not in ("glueetl", "pythonshell"):
            return _error("InvalidInputException", f"A {command.get('Name')} job cannot run on a laptop")
        if job.get("GlueVersion") != GLUE_VERSION:
            logger.warning("the job %s of Glue %s runs on Glue %s's Spark", name, job.get("GlueVersion"), GLUE_VERSION)
        run = _job_run(job, request)
        with self._lock:
            runs = original(GLUE, "_job_runs").setdefault(name, [])
            limit = job.get("ExecutionProperty", {}).get("MaxConcurrentRuns", 1)
            if sum(other["JobRunState"] in ACTIVE for other in runs) >= limit:
                return _error("ConcurrentRunsExceededException", f"Concurrent runs exceeded for {name}")
            runs.append(run)
            self._stopping[run["Id"]] = threading.Event()
        script = JobScript(
            command["Name"],
            command.get("ScriptLocation", ""),
            _arguments(job, run),
            run["Timeout"] * self._minute_seconds,
        )
        # a new thread starts without the request's account and region, which the services look up
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._run, run, job.get("Role", ""), script), name=run["Id"], daemon=True
        ).start()
        return _answer({"JobRunId": run["Id"]})

    def stop(self, request: dict[str, Any]) -> Any:
        """BatchStopJobRun: the runs are STOPPING; each is STOPPED when its processes are gone."""
        name = request.get("JobName", "")
        found = {run["Id"]: run for run in original(GLUE, "_job_runs").get(name, [])}
        submitted, errors = [], []
        for run_id in request.get("JobRunIds", []):
            run = found.get(run_id)
            if run is not None and run["JobRunState"] in ACTIVE:
                run["JobRunState"] = "STOPPING"
                self._stopping[run_id].set()
                submitted.append({"JobName": name, "JobRunId": run_id})
                continue
            code = "EntityNotFoundException" if run is None else "InvalidInputException"
            message = "Job run not found" if run is None else f"Job run is in state {run['JobRunState']}"
            detail = {"ErrorCode": code, "ErrorMessage": message}
            errors.append({"JobName": name, "JobRunId": run_id, "ErrorDetail": detail})
        return _answer({"SuccessfulSubmissions": submitted, "Errors": errors})

    def _run(self, run: dict[str, Any], role: str, script: JobScript) -> None:
        folder = self._settings.state_dir / "glue" / run["Id"]
        state, message = "FAILED", ""
        try:
            folder.mkdir(parents=True)
            with assumed(self._settings, self._clients, role, "glue.amazonaws.com", "GlueJobRunnerSession") as session:
                state = self._execute(run, session, script, folder)
        except (JobError, RoleError, ClientError, BotoCoreError, OSError) as error:
            message = str(error)
        except Exception as error:
            logger.exception("the run %s broke the runner itself", run["Id"])
            message = f"{type(error).__name__}: {error}"
        finally:
            _finish(run, state, message)
            self._stopping.pop(run["Id"])
            shutil.rmtree(folder, ignore_errors=True)

    def _execute(self, run: dict[str, Any], session: RoleSession, script: JobScript, folder: Path) -> str:
        process = JobProcess(script, session, folder)
        stopping = self._stopping[run["Id"]]
        logs = session.client("logs")
        shippers = [
            LogShipper(logs, group, run["Id"], path)
            for group, path in ((OUTPUT_GROUP, process.output), (ERROR_GROUP, process.errors))
        ]
        scratch = folder / "scratch"
        scratch.mkdir()
        buckets = [bucket["Name"] for bucket in self._clients.get("s3").list_buckets()["Buckets"]]
        with FileSystemServer(S3FileSystem(session.client("s3"), scratch)) as server:
            command = process.prepare(server, buckets)
            if stopping.is_set():
                return "STOPPED"
            run["JobRunState"] = "RUNNING"
            try:
                return process.run(command, stopping, _every(_LOG_SECONDS, shippers))
            finally:
                for shipper in shippers:
                    shipper.ship(final=True)


def _job_run(job: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    run = {
        "Id": f"jr_{secrets.token_hex(32)}",
        "Attempt": 0,
        "JobName": job["Name"],
        "StartedOn": now,
        "LastModifiedOn": now,
        "JobRunState": "STARTING",
        "Arguments": request.get("Arguments", {}),
        "PredecessorRuns": [],
        "ExecutionTime": 0,
        "Timeout": request.get("Timeout") or job.get("Timeout", 2880),
        "LogGroupName": "/aws-glue/jobs",
        "GlueVersion": job.get("GlueVersion"),
    }
    sizes = {
        name: request.get(name) or job.get(name)
        for name in ("MaxCapacity", "WorkerType", "NumberOfWorkers", "SecurityConfiguration", "ExecutionClass")
    }
    return run | {name: value for name, value in sizes.items() if value}


def _arguments(job: dict[str, Any], run: dict[str, Any]) -> dict[str, str]:
    """Glue's own, then the job's, the run's over them, and what nobody may override last."""
    return {
        "--JOB_ID": f"j_{job['Name']}",
        "--JOB_RUN_ID": run["Id"],
        "--JOB_NAME": job["Name"],
        **job.get("DefaultArguments", {}),
        **run["Arguments"],
        **job.get("NonOverridableArguments", {}),
    }


def _finish(run: dict[str, Any], state: str, message: str) -> None:
    now = time.time()
    run.update(CompletedOn=now, LastModifiedOn=now, ExecutionTime=round(now - run["StartedOn"]))
    if message:
        run["ErrorMessage"] = message
    run["JobRunState"] = state


def _every(seconds: float, shippers: list[LogShipper]) -> Callable[[], None]:
    """A function that ships the logs, but not more often than this."""
    last = time.monotonic()

    def ship() -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            for shipper in shippers:
                shipper.ship()

    return ship


def _keep_properties() -> None:
    """`CreateJob` and `UpdateJob`, from the API or from CloudFormation, keep what runs obey."""
    create, update = original(GLUE, "_create_job"), original(GLUE, "_update_job")
    fields = original("ministack.services.cloudformation.provisioners", "_glue_job_fields")

    def kept(name: str, properties: dict[str, Any], answer: Any) -> Any:
        if answer[0] < 300:
            original(GLUE, "_jobs")[name].update({key: properties[key] for key in _KEPT if key in properties})
        return answer

    replace(GLUE, "_create_job", lambda data: kept(data.get("Name"), data, create(data)))
    replace(GLUE, "_update_job", lambda data: kept(data.get("JobName"), data.get("JobUpdate", {}), update(data)))
    replace(
        "ministack.services.cloudformation.provisioners",
        "_glue_job_fields",
        lambda properties: fields(properties) | {key: properties[key] for key in _KEPT if key in properties},
    )


def _all_runs() -> Iterator[dict[str, Any]]:
    for runs in original(GLUE, "_job_runs").values():
        yield from runs


def _fail_interrupted(runs: Iterator[dict[str, Any]]) -> None:
    """A run that was going when the emulator ended had its processes killed with it."""
    for run in runs:
        if run["JobRunState"] in ACTIVE:
            _finish(run, "FAILED", "The emulator was stopped while the job ran")


def _answer(body: dict[str, Any]) -> Any:
    return original(GLUE, "json_response")(body)


def _error(code: str, message: str) -> Any:
    return original(GLUE, "error_response_json")(code, message, 400)
