"""Glue job runs that really run.

Stock MiniStack marks a Spark job SUCCEEDED without running it when there is no Docker, forgets
`ExecutionProperty`, and stops a run by name only. Here `StartJobRun` starts a process
(`program_runs`) whose end alone decides the state of the run: SUCCEEDED means that it ran and
exited with 0.
https://docs.aws.amazon.com/glue/latest/dg/aws-glue-api-jobs-runs.html
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tarn.local.extension.clients import Clients
from tarn.local.extension.job_logs import ERROR_GROUP, OUTPUT_GROUP
from tarn.local.extension.patching import original, replace
from tarn.local.extension.program_runs import JobError, Log, Program, ProgramRuns, Start
from tarn.local.extension.role_sessions import RoleSession
from tarn.local.extension.spark_process import SparkScript, prepared
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.glue")
GLUE = "ministack.services.glue"
# whose Spark is installed here (requirements/main.in)
GLUE_VERSION = "5.1"
ACTIVE = ("STARTING", "RUNNING", "STOPPING")
# Of a job and of a job's properties in CloudFormation, and dropped by MiniStack.
_KEPT = ("ExecutionProperty", "ExecutionClass", "MaintenanceWindow", "JobRunQueuingEnabled")
# Glue's own: they configure the process and mean nothing to the script.
_FOR_GLUE = {"--conf", "--extra-jars", "--extra-py-files", "--extra-files", "--user-jars-first", "--job-language"}
_UNSUPPORTED = {"--additional-python-modules", "--class"}


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
    """Starts and stops runs; no request waits for one."""

    def __init__(self, settings: Settings) -> None:
        self._clients = Clients(settings)
        self._programs = ProgramRuns(settings, "glue")
        # a job's `Timeout` is in minutes, and a test should not take one
        self._minute_seconds = float(os.environ.get("TARN_GLUE_MINUTE_SECONDS", "60"))
        self._lock = threading.Lock()

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
            self._begin(job, run)
            runs.append(run)
        return _answer({"JobRunId": run["Id"]})

    def _begin(self, job: dict[str, Any], run: dict[str, Any]) -> None:
        command, arguments = job.get("Command", {}), _arguments(job, run)

        def prepare(role: RoleSession, folder: Path) -> AbstractContextManager[Program]:
            return prepared(self._clients, script_of(command, arguments), role, folder)

        logs = [Log(OUTPUT_GROUP, run["Id"], "output"), Log(ERROR_GROUP, run["Id"], "errors")]
        seconds = run["Timeout"] * self._minute_seconds
        self._programs.start(
            Start(run["Id"], job.get("Role", ""), "glue.amazonaws.com", "GlueJobRunnerSession", prepare, logs, seconds),
            running=lambda: run.update(JobRunState="RUNNING"),
            ended=lambda end: _finish(run, end.state, end.message),
        )

    def stop(self, request: dict[str, Any]) -> Any:
        """BatchStopJobRun: the runs are STOPPING; each is STOPPED when its processes are gone."""
        name = request.get("JobName", "")
        found = {run["Id"]: run for run in original(GLUE, "_job_runs").get(name, [])}
        submitted, errors = [], []
        for run_id in request.get("JobRunIds", []):
            run = found.get(run_id)
            if run is not None and run["JobRunState"] in ACTIVE:
                run["JobRunState"] = "STOPPING"
                self._programs.stop(run_id)
                submitted.append({"JobName": name, "JobRunId": run_id})
                continue
            code = "EntityNotFoundException" if run is None else "InvalidInputException"
            message = "Job run not found" if run is None else f"Job run is in state {run['JobRunState']}"
            detail = {"ErrorCode": code, "ErrorMessage": message}
            errors.append({"JobName": name, "JobRunId": run_id, "ErrorDetail": detail})
        return _answer({"SuccessfulSubmissions": submitted, "Errors": errors})


def script_of(command: Mapping[str, Any], arguments: Mapping[str, str]) -> SparkScript:
    """What Glue makes of a job's command and arguments; those that configure Glue mean nothing to the script.

    Source: https://docs.aws.amazon.com/glue/latest/dg/aws-glue-programming-etl-glue-arguments.html

    Raises:
        JobError: an argument that this machine has nothing for.
    """
    for option in _UNSUPPORTED & arguments.keys():
        raise JobError(f"{option} is not supported on a laptop: jobs use the modules that are installed here")
    return SparkScript(
        location=command.get("ScriptLocation", ""),
        arguments=[part for item in arguments.items() if item[0] not in _FOR_GLUE for part in item],
        modules=_listed(arguments.get("--extra-py-files")),
        jars=_listed(arguments.get("--extra-jars")),
        files=_listed(arguments.get("--extra-files")),
        conf=_spark_options(arguments.get("--conf", "")),
        user="glue",
        is_plain_python=command.get("Name") == "pythonshell",
    )


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


def _spark_options(value: str) -> list[str]:
    """Glue takes several settings in one `--conf`, as `a=1 --conf b=2`."""
    return [pair.strip() for pair in value.split(" --conf ") if pair.strip()]


def _listed(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def _answer(body: dict[str, Any]) -> Any:
    return original(GLUE, "json_response")(body)


def _error(code: str, message: str) -> Any:
    return original(GLUE, "error_response_json")(code, message, 400)
