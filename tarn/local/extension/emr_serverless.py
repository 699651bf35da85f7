"""EMR Serverless: applications, job runs that really run, and `emr-serverless:startJobRun[.sync]`.

Stock MiniStack 1.5.33 does not have the service. Here a job run is a local Spark process with the execution role; an
application is a record (its release, sizes and network matter to nothing).
https://docs.aws.amazon.com/emr-serverless/latest/APIReference/API_StartJobRun.html
https://docs.aws.amazon.com/step-functions/latest/dg/connect-emr-serverless.html
"""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarn.local.extension import spark_process, sync_tasks
from tarn.local.extension.clients import Clients
from tarn.local.extension.decisions import Call
from tarn.local.extension.emr_steps import spark_submit
from tarn.local.extension.own_services import ApiError, OwnService
from tarn.local.extension.patching import original
from tarn.local.extension.program_runs import (
    STOPPED,
    SUCCEEDED,
    TIMEOUT,
    End,
    JobError,
    Log,
    Program,
    ProgramRuns,
    Start,
)
from tarn.local.extension.role_sessions import RoleSession
from tarn.local.extension.sync_tasks import Ended
from tarn.local.settings import ACCOUNT_ID, Settings

NAME = "emr-serverless"
SERVICE = "emr-serverless.amazonaws.com"
RULE = "StepFunctionsGetEventsForEMRServerlessJobRule"
TYPE = "AWS::EMRServerless::Application"
ENDED = ("SUCCESS", "FAILED", "CANCELLED")
DEFAULT_MINUTES = 720


def install(settings: Settings) -> None:
    """Add the service, its resource type, and the integration."""
    runs = JobRuns(settings)
    runs.service.install(resource=_resource, restored=runs.restored)
    original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")[TYPE] = {
        "create": runs.create,
        "update": lambda physical_id, _old, new, *_: (physical_id, runs.updated(physical_id, new)),
        "delete": lambda physical_id, _properties: runs.applications.pop(physical_id, None),
    }
    sync_tasks.add(settings, ServerlessJobRun())


class JobRuns:
    """The operations."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = Clients(settings)
        self._programs = ProgramRuns(settings, "emr-serverless")
        # as a Glue job's: a limit is in minutes, and a test should not take one
        self._minute_seconds = float(os.environ.get("TARN_GLUE_MINUTE_SECONDS", "60"))
        self.service = OwnService(
            NAME,
            {
                "GetApplication": lambda request: {"application": self._application(request)},
                "StartJobRun": self.start,
                "GetJobRun": lambda request: {"jobRun": self._run(request)},
                "CancelJobRun": self.cancel,
                "ListJobRuns": self.listed,
            },
        )

    @property
    def applications(self) -> dict[str, Any]:
        """Applications by their id, each with its runs."""
        return self.service.store

    def create(self, logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, str]]:
        """An application of a template."""
        found = secrets.token_hex(8)
        self.applications[found] = {"applicationId": found, "name": logical_id, "state": "CREATED", "runs": {}}
        return found, self.updated(found, properties)

    def updated(self, application_id: str, properties: dict[str, Any]) -> dict[str, str]:
        """Note what a template says; gives the attributes."""
        arn = f"arn:aws:emr-serverless:{self._settings.region}:{ACCOUNT_ID}:/applications/{application_id}"
        self.applications[application_id] |= {
            "arn": arn,
            "releaseLabel": properties.get("ReleaseLabel"),
            "type": properties.get("Type", "SPARK"),
        }
        return {"Arn": arn, "ApplicationId": application_id}

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        """StartJobRun; the same client token starts nothing twice."""
        application = self._application(request)
        for known in application["runs"].values():
            if known["clientToken"] == request.get("clientToken"):
                return _started(known)
        now, run_id = time.time(), secrets.token_hex(8)
        run = {
            "applicationId": application["applicationId"],
            "jobRunId": run_id,
            "arn": f"{application['arn']}/jobruns/{run_id}",
            "name": request.get("name"),
            "createdBy": f"arn:aws:iam::{ACCOUNT_ID}:root",
            "createdAt": now,
            "updatedAt": now,
            "executionRole": request["executionRoleArn"],
            "state": "SUBMITTED",
            "stateDetails": "",
            "releaseLabel": application["releaseLabel"],
            "jobDriver": request["jobDriver"],
            "executionTimeoutMinutes": request.get("executionTimeoutMinutes", DEFAULT_MINUTES),
            "clientToken": request.get("clientToken"),
        }
        application["runs"][run_id] = run
        monitoring = request.get("configurationOverrides", {}).get("monitoringConfiguration", {})
        self._begin(run, monitoring.get("cloudWatchLoggingConfiguration", {}))
        return _started(run)

    def cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        """CancelJobRun: CANCELLED when its processes are gone."""
        run = self._run(request)
        if run["state"] not in ENDED:
            run["state"] = "CANCELLING"
            self._programs.stop(run["jobRunId"])
        return {"applicationId": run["applicationId"], "jobRunId": run["jobRunId"]}

    def listed(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListJobRuns, newest first."""
        runs = sorted(self._application(request)["runs"].values(), key=lambda one: one["createdAt"], reverse=True)
        return {"jobRuns": [one | {"id": one["jobRunId"]} for one in runs]}

    def restored(self) -> None:
        """A run that was going when the emulator ended had its processes killed with it."""
        for application in self.applications.values():
            for run in application["runs"].values():
                if run["state"] not in ENDED:
                    _end(run, "FAILED", "The emulator was stopped while the job ran")

    def _begin(self, run: dict[str, Any], logging: dict[str, Any]) -> None:
        submit = run["jobDriver"].get("sparkSubmit", {})

        @contextmanager
        def prepare(role: RoleSession, folder: Path) -> Iterator[Program]:
            if not submit:
                raise JobError("Only sparkSubmit can run on a laptop")
            words = [*shlex.split(submit.get("sparkSubmitParameters", "")), submit["entryPoint"]]
            script = spark_submit([*words, *submit.get("entryPointArguments", [])])
            with spark_process.prepared(self._clients, script, role, folder) as program:
                yield program

        def running() -> None:
            if run["state"] == "SUBMITTED":
                run.update(state="RUNNING", startedAt=time.time(), updatedAt=time.time())

        def ended(how: End) -> None:
            state = {SUCCEEDED: "SUCCESS", STOPPED: "CANCELLED"}.get(how.state, "FAILED")
            late = f"Job execution timed out after {run['executionTimeoutMinutes']} minutes"
            _end(run, state, late if how.state == TIMEOUT else how.message)

        # a job whose time is 0 has no limit
        seconds = run["executionTimeoutMinutes"] * self._minute_seconds or None
        name = run["jobRunId"]
        start = Start(run["jobRunId"], run["executionRole"], SERVICE, name, prepare, list(_logs(run, logging)), seconds)
        self._programs.start(start, running=running, ended=ended)

    def _application(self, request: dict[str, Any]) -> dict[str, Any]:
        found = self.applications.get(request["path"][1])
        if found is None:
            raise ApiError("ResourceNotFoundException", f"Application {request['path'][1]} does not exist", 404)
        return found  # type: ignore[no-any-return]

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        runs = self._application(request)["runs"]
        if (found := runs.get(request["path"][3])) is None:
            raise ApiError("ResourceNotFoundException", f"Job run {request['path'][3]} does not exist", 404)
        return found  # type: ignore[no-any-return]


def _started(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("applicationId", "jobRunId", "arn")}


def _end(run: dict[str, Any], state: str, message: str) -> None:
    run.update(stateDetails=message, endedAt=time.time(), updatedAt=time.time(), state=state)


def _logs(run: dict[str, Any], logging: dict[str, Any]) -> Iterator[Log]:
    """The driver's streams.

    Source: https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/logging.html (CloudWatch)
    """
    if logging.get("enabled"):
        group = logging.get("logGroupName", "/aws/emr-serverless")
        place = f"applications/{run['applicationId']}/jobs/{run['jobRunId']}/SPARK_DRIVER"
        prefix = f"{logging['logStreamNamePrefix']}/" if logging.get("logStreamNamePrefix") else ""
        yield Log(group, f"{prefix}{place}/stdout", "output", creates_group=False)
        yield Log(group, f"{prefix}{place}/stderr", "errors", creates_group=False)


def _resource(_action: str, path: str, _request: dict[str, Any], region: str, account: str) -> str:
    """The application, or one of its runs; all of its runs are the application's.

    Source: Service authorization reference, "Actions, resources, and condition keys for Amazon EMR Serverless".
    """
    return f"arn:aws:emr-serverless:{region}:{account}:{path.rstrip('/').removesuffix('/jobruns')}"


class ServerlessJobRun:
    """A job run."""

    resource = "emr-serverless:startJobRun"
    service = NAME
    errors = "EMRServerless"

    def asked(self, request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """The execution role is passed."""
        yield from sync_tasks.passed(request.get("ExecutionRoleArn"), SERVICE)
        yield from sync_tasks.told_by(RULE, sync=sync)

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """StartJobRun."""
        answer = client.start_job_run(**sync_tasks.asked_for(client, "start_job_run", request))
        return {name: answer[name] for name in ("applicationId", "jobRunId")}, dict(sync_tasks.told(answer))

    def look(self, client: Any, job: Any) -> Ended | None:
        """GetJobRun."""
        run = client.get_job_run(**job)["jobRun"]
        return Ended(run["state"] == "SUCCESS", run) if run["state"] in ENDED else None

    def stop(self, client: Any, job: Any) -> None:
        """CancelJobRun."""
        client.cancel_job_run(**job)
