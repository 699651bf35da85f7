"""ECS tasks on Fargate that really run, and `ecs:runTask[.sync]`.

Stock MiniStack 1.5.33 hands a task to Docker; without one, the task is RUNNING for ever. Here the task's container is a
process (`container_images`), whose exit status is the container's. MiniStack keeps the records.
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
https://docs.aws.amazon.com/step-functions/latest/dg/connect-ecs.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarn.local.extension import sync_tasks
from tarn.local.extension.container_images import Image, ImageError, image_of
from tarn.local.extension.decisions import Call
from tarn.local.extension.patching import original, replace, require
from tarn.local.extension.program_runs import STOPPED, End, Log, Program, ProgramRuns, Start
from tarn.local.extension.role_sessions import RoleSession
from tarn.local.extension.sync_tasks import Ended
from tarn.local.settings import Settings

ECS = "ministack.services.ecs"
ACTIONS = "ministack.core.iam_actions"
SERVICE = "ecs-tasks.amazonaws.com"
RULE = "StepFunctionsGetEventsForECSTaskRule"
KILLED = 137
"""The exit status of a container that was killed: 128 and SIGKILL's number."""


def install(settings: Settings) -> None:
    """Replace the start and the stop of tasks, name their resources as IAM does, and add the integration."""
    require(ECS, "_tasks", "_task_defs", "_clusters", "_resolve_td_key", "_resolve_task", "_resolve_cluster_name")
    require(ECS, "_mark_task_stopped", "_sanitize", "json_response", "error_response_json")
    replace(ECS, "_get_docker", lambda: None)
    tasks = Tasks(settings)
    actions = original(ECS, "_ACTION_MAP")
    actions["RunTask"], actions["StopTask"] = tasks.run, tasks.stop
    restore = original(ECS, "_restore_state")

    def restored(data: Any) -> Any:
        result = restore(data)
        for arn, task in original(ECS, "_tasks").items():
            if task["lastStatus"] != "STOPPED":
                stopped(arn, task, "The emulator was stopped while the task ran", "TerminationNotice", KILLED)
        return result

    replace(ECS, "_restore_state", restored)
    _name_resources()
    sync_tasks.add(settings, FargateTask())


class Tasks:
    """RunTask and StopTask."""

    def __init__(self, settings: Settings) -> None:
        self._programs = ProgramRuns(settings, "ecs")
        self._register = original(ECS, "_run_task")

    def run(self, request: dict[str, Any]) -> Any:
        """RunTask: MiniStack writes the record; the process is ours."""
        cluster = original(ECS, "_resolve_cluster_name")(request.get("cluster", "default"))
        if cluster not in original(ECS, "_clusters"):
            return _error("ClusterNotFoundException", "Cluster not found.")
        definition = original(ECS, "_task_defs").get(original(ECS, "_resolve_td_key")(request["taskDefinition"]))
        subnets = request.get("networkConfiguration", {}).get("awsvpcConfiguration", {}).get("subnets")
        if definition and definition["networkMode"] == "awsvpc" and not subnets:
            return _error(
                "InvalidParameterException",
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            )
        answer = self._register(request)
        if answer[0] < 300:
            for told in json.loads(answer[2])["tasks"]:
                self._begin(original(ECS, "_tasks")[told["taskArn"]], definition, request.get("overrides", {}))
        return answer

    def stop(self, request: dict[str, Any]) -> Any:
        """StopTask: the container is killed, and the task STOPPED."""
        cluster = original(ECS, "_resolve_cluster_name")(request.get("cluster", "default"))
        task = original(ECS, "_resolve_task")(request.get("task", ""), cluster)
        if not task:
            return _error("InvalidParameterException", "The referenced task was not found.")
        stopped(task["taskArn"], task, request.get("reason", "Task stopped by user"), "UserInitiated", KILLED)
        self._programs.stop(_id(task))
        return original(ECS, "json_response")({"task": original(ECS, "_sanitize")(task)})

    def _begin(self, task: dict[str, Any], definition: dict[str, Any], overrides: dict[str, Any]) -> None:
        arn = task["taskArn"]
        container, *others = definition["containerDefinitions"]
        override: dict[str, Any] = next(
            (one for one in overrides.get("containerOverrides", []) if one.get("name") == container["name"]), {}
        )
        try:
            if others:
                raise ImageError("ResourceInitializationError: a task of one container can be run here, and no other")
            image = image_of(container["image"])
        except ImageError as error:
            stopped(arn, task, str(error), "TaskFailedToStart", None)
            return
        role = overrides.get("taskRoleArn") or definition.get("taskRoleArn") or ""
        logs = list(_logs(container, _id(task)))

        def ended(end: End) -> None:
            if end.state == STOPPED:
                return  # who stopped it has written so
            if end.message:
                task["containers"][0]["reason"] = end.message
            if end.exit_status is None:
                stopped(arn, task, end.message, "TaskFailedToStart", None)
                return
            status = end.exit_status if end.exit_status >= 0 else 128 - end.exit_status
            stopped(arn, task, "Essential container in task exited", "EssentialContainerExited", status)

        start = Start(
            _id(task),
            role,
            SERVICE,
            _id(task),
            _prepare(image, container, override),
            logs,
            log_role=definition.get("executionRoleArn"),
        )
        self._programs.start(start, running=lambda: None, ended=ended)


def _prepare(image: Image, container: dict[str, Any], override: dict[str, Any]) -> Any:
    given = {one["name"]: one["value"] for part in (container, override) for one in part.get("environment", [])}
    arguments = override.get("command") or container.get("command") or []
    if entry_point := container.get("entryPoint"):
        image.entry_point = entry_point

    @contextmanager
    def prepared(role: RoleSession, folder: Path) -> Iterator[Program]:
        yield image.program(role, folder, arguments, given)

    return prepared


def _logs(container: dict[str, Any], task_id: str) -> Iterator[Log]:
    """The awslogs driver's stream; both outputs are in it.

    Source: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html
    """
    options = container.get("logConfiguration", {}).get("options", {})
    if group := options.get("awslogs-group"):
        parts = (options.get("awslogs-stream-prefix"), container["name"], task_id)
        yield Log(group, "/".join(filter(None, parts)), "output", options.get("awslogs-create-group") == "true")


def _id(task: dict[str, Any]) -> str:
    return str(task["taskArn"].rpartition("/")[2])


def stopped(arn: str, task: dict[str, Any], reason: str, code: str, exit_status: int | None) -> None:
    """The end of a task, once."""
    if task["lastStatus"] != "STOPPED":
        original(ECS, "_mark_task_stopped")(arn, task, reason, code, exit_code=exit_status)


def _error(code: str, message: str) -> Any:
    return original(ECS, "error_response_json")(code, message, 400)


def _name_resources() -> None:
    """A task's permission is asked on its definition when it is run, and on the task itself later.

    Source: Service authorization reference, "Actions, resources, and condition keys for Amazon ECS".
    """
    stock = original(ACTIONS, "extract_resource_arn")

    def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: Any, *rest: Any) -> Any:
        action = headers.get("x-amz-target", "").rpartition(".")[2] if service == "ecs" else ""
        if action not in ("RunTask", "StopTask", "DescribeTasks"):
            return stock(service, method, path, headers, body, *rest)
        _parameters, region, account = rest
        request = json.loads(body)
        named = (
            request.get("taskDefinition", "") if action == "RunTask" else (request.get("task") or request["tasks"][0])
        )
        if named.startswith("arn:"):
            return named
        if action == "RunTask":
            return f"arn:aws:ecs:{region}:{account}:task-definition/{named}"
        return f"arn:aws:ecs:{region}:{account}:task/{request.get('cluster', 'default').rpartition('/')[2]}/{named}"

    replace(ACTIONS, "extract_resource_arn", extract_resource_arn)


class FargateTask:
    """One task. A container's exit status decides, and a task that did not start has none."""

    resource = "ecs:runTask"
    service = "ecs"
    errors = "ECS"

    def asked(self, request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """The definition's roles are passed to the task."""
        overrides = request.get("Overrides", {})
        key = original(ECS, "_resolve_td_key")(request.get("TaskDefinition", ""))
        definition = original(ECS, "_task_defs").get(key) or {}
        for name in ("taskRoleArn", "executionRoleArn"):
            role = overrides.get(name[:1].upper() + name[1:]) or definition.get(name)
            yield from sync_tasks.passed(role, SERVICE)
        yield from sync_tasks.told_by(RULE, sync=sync)

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """RunTask."""
        answer = client.run_task(**sync_tasks.asked_for(client, "run_task", request))
        if answer["failures"]:
            raise sync_tasks.failure("AmazonECS.Unknown", json.dumps(sync_tasks.told(answer["failures"])))
        (task,) = answer["tasks"]
        return (request.get("Cluster", "default"), task["taskArn"]), dict(sync_tasks.told(answer))

    def look(self, client: Any, job: Any) -> Ended | None:
        """DescribeTasks."""
        cluster, arn = job
        (task,) = client.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        if task["lastStatus"] != "STOPPED":
            return None
        return Ended(all(one.get("exitCode") == 0 for one in task["containers"]), task)

    def stop(self, client: Any, job: Any) -> None:
        """StopTask."""
        cluster, arn = job
        client.stop_task(cluster=cluster, task=arn, reason="The execution no longer waits for it")
