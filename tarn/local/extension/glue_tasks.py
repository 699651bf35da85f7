"""`glue:startJobRun` and `glue:startJobRun.sync` as Step Functions tasks.

Stock MiniStack has neither. The calls are made over the API with the state machine's role, so a
permission that `.sync` needs and the role lacks (`glue:GetJobRun`, `glue:BatchStopJobRun`) fails the
task here too. The wait is on the execution's own thread; the server goes on.
https://docs.aws.amazon.com/step-functions/latest/dg/connect-glue.html
https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-sync
"""

from __future__ import annotations

import json
import logging
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError, ParamValidationError

from tarn.local.extension.clients import Clients
from tarn.local.extension.patching import original, replace
from tarn.local.extension.role_sessions import RoleError, assumed
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.glue")
STEP_FUNCTIONS = "ministack.services.stepfunctions"
_RESOURCE = "arn:aws:states:::glue:startJobRun"
_FAILED = ("FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")
_POLL_SECONDS = 0.25


@dataclass
class _Task:
    """The task that is being executed, for the handlers, which only get its resource and input."""

    execution: dict[str, Any]
    late: threading.Event = field(default_factory=threading.Event)

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the result: the execution was stopped, or the task's time is over."""
        return self.execution["status"] != "RUNNING" or self.late.is_set()


_task: ContextVar[_Task] = ContextVar("task")


class TaskAbandoned(Exception):  # noqa: N818 - no error: what becomes of a task whose execution ended
    """Ends a task without a result, past every Retry and Catch."""


def install(settings: Settings) -> None:
    """Add the integration, and make known to it when its execution or its task has ended."""
    original(STEP_FUNCTIONS, "_SERVICE_DISPATCH")[_RESOURCE] = GlueTasks(settings).start_job_run
    execute = original(STEP_FUNCTIONS, "_execute_task")
    with_timeout = original(STEP_FUNCTIONS, "_invoke_resource_with_timeout")
    fail = original(STEP_FUNCTIONS, "_fail_execution")

    def execute_task(state: Any, task_input: Any, execution: Any, context: Any) -> Any:
        token = _task.set(_Task(execution))
        try:
            return execute(state, task_input, execution, context)
        finally:
            _task.reset(token)

    def invoke_with_timeout(resource: str, task_input: Any, timeout: Any) -> Any:
        task = _Task(_task.get().execution)
        token = _task.set(task)  # each attempt of a Retry has a time of its own
        try:
            return with_timeout(resource, task_input, timeout)
        finally:
            task.late.set()
            _task.reset(token)

    def fail_execution(execution: dict[str, Any], error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":  # a stopped execution stays ABORTED whatever its task becomes
            fail(execution, error, cause)

    replace(STEP_FUNCTIONS, "_execute_task", execute_task)
    replace(STEP_FUNCTIONS, "_invoke_resource_with_timeout", invoke_with_timeout)
    replace(STEP_FUNCTIONS, "_fail_execution", fail_execution)


class GlueTasks:
    """The task's handler."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = Clients(settings)

    def start_job_run(self, resource: str, request: dict[str, Any]) -> dict[str, Any]:
        """Start a run, and with `.sync` wait for its end: its JobRun is the result, or the cause."""
        task = _task.get()
        machine = original(STEP_FUNCTIONS, "_state_machines")[task.execution["stateMachineArn"]]
        name = task.execution["name"][:64]
        try:
            with assumed(self._settings, self._clients, machine["roleArn"], "states.amazonaws.com", name) as role:
                glue = role.client("glue")
                run_id = glue.start_job_run(**request)["JobRunId"]
                if not resource.endswith(".sync"):
                    return {"JobName": request["JobName"], "JobRunId": run_id}
                return _end_of(glue, request["JobName"], run_id, task)
        except ClientError as error:
            raise _failure(f"Glue.{error.response['Error']['Code']}", str(error)) from error
        except (RoleError, ParamValidationError) as error:
            raise _failure("States.Runtime", str(error)) from error


def _end_of(glue: Any, job: str, run_id: str, task: _Task) -> dict[str, Any]:
    while True:
        run = glue.get_job_run(JobName=job, RunId=run_id)["JobRun"]
        if run["JobRunState"] == "SUCCEEDED":
            return _in_milliseconds(run)
        if run["JobRunState"] in _FAILED:
            raise _failure("States.TaskFailed", json.dumps(_in_milliseconds(run)))
        if task.is_abandoned:
            try:
                glue.batch_stop_job_run(JobName=job, JobRunIds=[run_id])
            except ClientError as error:
                logger.warning("the run %s goes on after its task: %s", run_id, error)
            raise TaskAbandoned(f"the execution {task.execution['name']} no longer waits for {run_id}")
        task.late.wait(_POLL_SECONDS)


def _in_milliseconds(run: dict[str, Any]) -> dict[str, Any]:
    """A JobRun with its times as Step Functions writes them."""
    return {
        name: int(value.timestamp() * 1000) if isinstance(value, datetime) else value for name, value in run.items()
    }


def _failure(error: str, cause: str) -> Exception:
    failure: Exception = original(STEP_FUNCTIONS, "_ExecutionError")(error, cause)
    return failure
