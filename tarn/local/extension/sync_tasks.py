"""Step Functions tasks that run a job of another service, with `.sync` to its end.

Stock MiniStack has none of these but `ecs:runTask`, which wants Docker. The calls are made over the API with the state
machine's role, so a permission that `.sync` needs and the role lacks fails the task here too. The wait is on the
execution's own thread; the server goes on. A task whose execution was stopped, or whose time is over, stops its job.
https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-sync
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import ClientError, ParamValidationError
from botocore.model import ListShape, MapShape, Shape, StructureShape

from tarn.local.extension.clients import Clients
from tarn.local.extension.decisions import RESPONSES, Call, denial, require_evaluator, role_in_session
from tarn.local.extension.patching import original, replace
from tarn.local.extension.role_sessions import RoleError, assumed
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.tasks")
STEP_FUNCTIONS = "ministack.services.stepfunctions"
_POLL_SECONDS = 0.25
_RULE_ACTIONS = ("events:PutTargets", "events:PutRule", "events:DescribeRule")


@dataclass(frozen=True)
class Ended:
    """How a job ended, and the service's description of it."""

    well: bool
    description: dict[str, Any]


class Integration(Protocol):
    """One job-running API of a service, as Step Functions uses it."""

    resource: str
    """Without `.sync`."""
    service: str
    """boto3's name of the service."""
    errors: str
    """What Step Functions puts before the name of an error of the API."""

    def asked(self, request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """What the role needs beside the calls that are made here: roles it passes, rules that tell of the end."""

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Start a job: what it is known by, and the answer of a task that does not wait."""

    def look(self, client: Any, job: Any) -> Ended | None:
        """How the job ended; None while it goes on."""

    def stop(self, client: Any, job: Any) -> None:
        """Ask the service to stop the job."""


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


def install(_settings: Settings) -> None:
    """Make known to a task when its execution, or its own time, has ended."""
    require_evaluator()
    execute = original(STEP_FUNCTIONS, "_execute_task")
    with_timeout = original(STEP_FUNCTIONS, "_invoke_resource_with_timeout")
    fail = original(STEP_FUNCTIONS, "_fail_execution")
    evaluated = original(STEP_FUNCTIONS, "_apply_jsonata_template")

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
            return with_timeout(resource, task_input, evaluated(timeout, task_input))  # stock waits for a text
        finally:
            task.late.set()
            _task.reset(token)

    def fail_execution(execution: dict[str, Any], error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":  # a stopped execution stays ABORTED whatever its task becomes
            fail(execution, error, cause)

    replace(STEP_FUNCTIONS, "_execute_task", execute_task)
    replace(STEP_FUNCTIONS, "_invoke_resource_with_timeout", invoke_with_timeout)
    replace(STEP_FUNCTIONS, "_fail_execution", fail_execution)


def add(settings: Settings, integration: Integration) -> None:
    """Let state machines use an integration."""
    clients = Clients(settings)

    def run(resource: str, request: dict[str, Any]) -> dict[str, Any]:
        return _run(settings, clients, integration, resource, request)

    original(STEP_FUNCTIONS, "_SERVICE_DISPATCH")[f"arn:aws:states:::{integration.resource}"] = run


def _run(
    settings: Settings, clients: Clients, integration: Integration, resource: str, request: dict[str, Any]
) -> dict[str, Any]:
    task = _task.get()
    machine = original(STEP_FUNCTIONS, "_state_machines")[task.execution["stateMachineArn"]]
    name = task.execution["name"][:64]
    sync = resource.endswith(".sync")
    try:
        with assumed(settings, clients, machine["roleArn"], "states.amazonaws.com", name) as role:
            principal = role_in_session(machine["roleArn"], name)
            for call in integration.asked(request, sync=sync):
                if why := denial(principal, call):
                    raise failure(f"{integration.errors}.AccessDeniedException", why)
            client = role.client(integration.service)
            job, answer = integration.start(client, request)
            return _end_of(integration, client, job, task) if sync else answer
    except ClientError as error:
        raise failure(f"{integration.errors}.{error.response['Error']['Code']}", str(error)) from error
    except (RoleError, ParamValidationError) as error:
        raise failure("States.Runtime", str(error)) from error


def _end_of(integration: Integration, client: Any, job: Any, task: _Task) -> dict[str, Any]:
    while True:
        if (ended := integration.look(client, job)) is not None:
            description = told(ended.description)
            if ended.well:
                return dict(description)
            raise failure("States.TaskFailed", json.dumps(description))
        if task.is_abandoned:
            try:
                integration.stop(client, job)
            except ClientError as error:
                logger.warning("the job %s goes on after its task: %s", job, error)
            raise TaskAbandoned(f"the execution {task.execution['name']} no longer waits for {job}")
        task.late.wait(_POLL_SECONDS)


def failure(error: str, cause: str) -> Exception:
    """An error by which a task's Retry and Catch match."""
    made: Exception = original(STEP_FUNCTIONS, "_ExecutionError")(error, cause)
    return made


def passed(role_arn: str | None, service: str) -> Iterable[Call]:
    """The question whether a role may be passed to a service; none where no role is named."""
    if role_arn:
        yield Call("iam:PassRole", role_arn, {"iam:PassedToService": service})


def told_by(rule: str, *, sync: bool) -> Iterable[Call]:
    """What `.sync` asks for the managed rule by whose events Step Functions hears of a job's end."""
    region, account = original(RESPONSES, "get_region")(), original(RESPONSES, "get_account_id")()
    if sync:
        yield from (Call(action, f"arn:aws:events:{region}:{account}:rule/{rule}") for action in _RULE_ACTIONS)


def asked_for(client: Any, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """A task's request, which is in PascalCase, with the names that the service's own API has."""
    meta = client.meta
    shape = meta.service_model.operation_model(meta.method_to_api_mapping[operation]).input_shape
    return dict(_renamed(shape, request))


def _renamed(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        renamed = {}
        for name, member in value.items():
            own = name if name in shape.members else name[:1].lower() + name[1:]
            renamed[own] = _renamed(shape.members[own], member) if own in shape.members else member
        return renamed
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_renamed(shape.member, member) for member in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {name: _renamed(shape.value, member) for name, member in value.items()}
    return value


def told(value: Any) -> Any:
    """A description as Step Functions writes it: names in PascalCase, times in milliseconds."""
    if isinstance(value, dict):
        return {name[:1].upper() + name[1:]: told(one) for name, one in value.items() if name != "ResponseMetadata"}
    if isinstance(value, list):
        return [told(one) for one in value]
    return int(value.timestamp() * 1000) if isinstance(value, datetime) else value
