"""SageMaker processing jobs that really run, and `sagemaker:createProcessingJob[.sync]`.

Stock MiniStack 1.5.33 does not have the service. Here a job's container is a process (`container_images`), with the
job's role, environment and arguments; inputs and outputs that SageMaker copies itself are refused.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html
https://docs.aws.amazon.com/step-functions/latest/dg/connect-sagemaker.html
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarn.local.extension import sync_tasks
from tarn.local.extension.container_images import image_of
from tarn.local.extension.decisions import Call
from tarn.local.extension.own_services import ApiError, OwnService
from tarn.local.extension.program_runs import STOPPED, SUCCEEDED, TIMEOUT, End, Log, Program, ProgramRuns, Start
from tarn.local.extension.role_sessions import RoleSession
from tarn.local.extension.sync_tasks import Ended
from tarn.local.settings import ACCOUNT_ID, Settings

NAME = "sagemaker"
SERVICE = "sagemaker.amazonaws.com"
RULE = "StepFunctionsGetEventsForSageMakerProcessingJobsRule"
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
ENDED = ("Completed", "Failed", "Stopped")
REFUSED = ("ProcessingInputs", "ProcessingOutputConfig", "ExperimentConfig")
DEFAULT_SECONDS = 86_400


def install(settings: Settings) -> None:
    """Add the service and the integration."""
    jobs = Jobs(settings)
    jobs.service.install(target="SageMaker", resource=_resource, restored=jobs.restored)
    sync_tasks.add(settings, ProcessingJob())


class Jobs:
    """The operations."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._programs = ProgramRuns(settings, "sagemaker")
        self.service = OwnService(
            NAME,
            {
                "CreateProcessingJob": self.create,
                "DescribeProcessingJob": self._job,
                "StopProcessingJob": self.stop,
                "ListProcessingJobs": self.listed,
            },
        )

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateProcessingJob: names are taken once."""
        name = request["ProcessingJobName"]
        if name in self.service.store:
            raise ApiError("ResourceInUse", f"Processing job {name} already exists")
        if refused := [one for one in REFUSED if request.get(one)]:
            raise ApiError("ValidationException", f"{', '.join(refused)} cannot be had on a laptop")
        kept = {key: value for key, value in request.items() if key not in ("path", "Tags")}
        now = time.time()
        job = self.service.store[name] = kept | {
            "ProcessingJobArn": f"arn:aws:sagemaker:{self._settings.region}:{ACCOUNT_ID}:processing-job/{name}",
            "ProcessingJobStatus": "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        self._begin(name, job)
        return {"ProcessingJobArn": job["ProcessingJobArn"]}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopProcessingJob: Stopped when its processes are gone."""
        job = self._job(request)
        if job["ProcessingJobStatus"] == "InProgress":
            job["ProcessingJobStatus"] = "Stopping"
            self._programs.stop(request["ProcessingJobName"])
        return {}

    def listed(self, _request: dict[str, Any]) -> dict[str, Any]:
        """ListProcessingJobs, newest first."""
        jobs = sorted(self.service.store.values(), key=lambda one: one["CreationTime"], reverse=True)
        return {"ProcessingJobSummaries": jobs}

    def restored(self) -> None:
        """A job that was going when the emulator ended had its processes killed with it."""
        for job in self.service.store.values():
            if job["ProcessingJobStatus"] not in ENDED:
                _end(job, "Failed", "The emulator was stopped while the job ran")

    def _begin(self, name: str, job: dict[str, Any]) -> None:
        specification = job["AppSpecification"]

        @contextmanager
        def prepare(role: RoleSession, folder: Path) -> Iterator[Program]:
            image = image_of(specification["ImageUri"])
            if entry_point := specification.get("ContainerEntrypoint"):
                image.entry_point = entry_point
            arguments = specification.get("ContainerArguments", [])
            yield image.program(role, folder, arguments, job.get("Environment", {}))

        def ended(how: End) -> None:
            state = {SUCCEEDED: "Completed", STOPPED: "Stopped"}.get(how.state, "Failed")
            if how.exit_status is not None:
                job["ExitMessage"] = how.message
            late = "MaxRuntimeExceeded: the job ran longer than MaxRuntimeInSeconds"
            _end(job, state, late if how.state == TIMEOUT else how.message)

        seconds = job.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_SECONDS)
        logs = [Log(LOG_GROUP, f"{name}/algo-1-{int(time.time())}", "output")]
        self._programs.start(
            Start(name, job["RoleArn"], SERVICE, "SageMaker", prepare, logs, seconds),
            running=lambda: job.update(ProcessingStartTime=time.time()),
            ended=ended,
        )

    def _job(self, request: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] | None = self.service.store.get(request["ProcessingJobName"])
        if found is None:
            raise ApiError("ValidationException", f"Could not find processing job {request['ProcessingJobName']}")
        return found


def _end(job: dict[str, Any], state: str, message: str) -> None:
    if message:
        job["FailureReason"] = message[:1024]
    job.update(ProcessingEndTime=time.time(), LastModifiedTime=time.time(), ProcessingJobStatus=state)


def _resource(_action: str, _path: str, request: dict[str, Any], region: str, account: str) -> str:
    return f"arn:aws:sagemaker:{region}:{account}:processing-job/{request.get('ProcessingJobName', '*').lower()}"


class ProcessingJob:
    """A processing job."""

    resource = "sagemaker:createProcessingJob"
    service = NAME
    errors = "SageMaker"

    def asked(self, request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """The job's role is passed."""
        yield from sync_tasks.passed(request.get("RoleArn"), SERVICE)
        yield from sync_tasks.told_by(RULE, sync=sync)

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """CreateProcessingJob; tags may be a map in a task."""
        given = dict(request)
        if isinstance(given.get("Tags"), dict):
            given["Tags"] = [{"Key": key, "Value": value} for key, value in given["Tags"].items()]
        answer = client.create_processing_job(**given)
        return given["ProcessingJobName"], dict(sync_tasks.told(answer))

    def look(self, client: Any, job: Any) -> Ended | None:
        """DescribeProcessingJob."""
        found = client.describe_processing_job(ProcessingJobName=job)
        state = found["ProcessingJobStatus"]
        return Ended(state == "Completed", found) if state in ENDED else None

    def stop(self, client: Any, job: Any) -> None:
        """StopProcessingJob."""
        client.stop_processing_job(ProcessingJobName=job)
