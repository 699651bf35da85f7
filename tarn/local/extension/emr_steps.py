"""Steps of an EMR cluster that really run, and `elasticmapreduce:addStep[.sync]` and `cancelStep`.

Stock MiniStack 1.5.33 marks every step COMPLETED without running it. Here a `spark-submit` of `command-runner.jar` is a
local Spark process with the step's role; no cluster's size, applications or bootstrap actions matter.
https://docs.aws.amazon.com/emr/latest/APIReference/API_AddJobFlowSteps.html
https://docs.aws.amazon.com/step-functions/latest/dg/connect-emr.html
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarn.local.extension import spark_process, sync_tasks
from tarn.local.extension.clients import Clients
from tarn.local.extension.decisions import Call
from tarn.local.extension.patching import original, replace, require
from tarn.local.extension.program_runs import STOPPED, SUCCEEDED, End, JobError, Program, ProgramRuns, Start
from tarn.local.extension.role_sessions import RoleSession, handed_on
from tarn.local.extension.spark_process import SparkScript
from tarn.local.extension.sync_tasks import Ended
from tarn.local.settings import Settings

EMR = "ministack.services.emr"
ACTIONS = "ministack.core.iam_actions"
RULE = "StepFunctionsGetEventForEMRAddJobFlowStepsRule"
SERVICE = "ec2.amazonaws.com"
"""Who assumes the role of a cluster's instance profile, which then assumes the step's own.

Source: https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-steps-runtime-roles.html
"""
ALIVE = ("WAITING", "RUNNING")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
FLAGS = {"--verbose", "--supervise"}
"""Options of spark-submit without a value."""
_POLL_SECONDS = 0.1


def install(settings: Settings) -> None:
    """Replace the start and the cancellation of steps, and add the integrations."""
    require(EMR, "_clusters", "_steps", "_make_step", "_now_iso", "json_response", "error_response_json")
    steps = Steps(settings)
    handlers = original(EMR, "_HANDLERS")
    handlers["AddJobFlowSteps"], handlers["CancelSteps"] = steps.add, steps.cancel
    restore = original(EMR, "_restore_state")

    def restored(data: Any) -> Any:
        result = restore(data)
        for steps_of_cluster in original(EMR, "_steps").values():
            for step in steps_of_cluster:
                if step["Status"]["State"] not in ENDED:
                    end(step, "INTERRUPTED", "The emulator was stopped while the step ran")
        return result

    replace(EMR, "_restore_state", restored)
    _tell_the_role()
    sync_tasks.add(settings, EmrStep())
    sync_tasks.add(settings, CancelledStep())
    names = "ministack.services.stepfunctions"
    original(names, "_AWS_SDK_SERVICE_MAP")["emr"] = {
        "target_prefix": "ElasticMapReduce",
        "protocol": "json",
        "service_key": "elasticmapreduce",
    }
    original(names, "_AWS_SDK_ERROR_PREFIX")["emr"] = "Emr"


def _tell_the_role() -> None:
    """The condition key `elasticmapreduce:ExecutionRoleArn` of AddJobFlowSteps.

    Source: Service authorization reference, "Actions, resources, and condition keys for Amazon Elastic MapReduce".
    """
    stock = original(ACTIONS, "request_tag_context")

    def request_context(service: str, action: str, body: bytes, parameters: Any) -> dict[str, Any]:
        context: dict[str, Any] = stock(service, action, body, parameters)
        role = json.loads(body).get("ExecutionRoleArn") if action == "elasticmapreduce:AddJobFlowSteps" else None
        return context if role is None else {**context, "elasticmapreduce:executionrolearn": role}

    replace(ACTIONS, "request_tag_context", request_context)


class Steps:
    """AddJobFlowSteps and CancelSteps."""

    def __init__(self, settings: Settings) -> None:
        self._clients = Clients(settings)
        self._programs = ProgramRuns(settings, "emr")
        self._turns: dict[str, threading.Semaphore] = {}

    def add(self, request: dict[str, Any]) -> Any:
        """AddJobFlowSteps: each waits for its turn, as many at once as the cluster allows."""
        cluster = original(EMR, "_clusters").get(request.get("JobFlowId"))
        if cluster is None or cluster["Status"]["State"] not in ALIVE:
            state = "not valid" if cluster is None else cluster["Status"]["State"]
            return _error("InvalidRequestException", f"A job flow that is {state} may not be modified.")
        steps = []
        for wanted in request.get("Steps", []):
            step = original(EMR, "_make_step")(wanted)
            step["Status"] = {
                "State": "PENDING",
                "StateChangeReason": {},
                "Timeline": {"CreationDateTime": original(EMR, "_now_iso")()},
            }
            role = request.get("ExecutionRoleArn")
            if role:
                step["ExecutionRoleArn"] = role
            original(EMR, "_steps").setdefault(cluster["Id"], []).append(step)
            self._begin(cluster, step, role)
            steps.append(step)
        return original(EMR, "json_response")({"StepIds": [step["Id"] for step in steps]})

    def cancel(self, request: dict[str, Any]) -> Any:
        """CancelSteps: a step that has not ended is CANCELLED when its processes are gone."""
        told = []
        for step in original(EMR, "_steps").get(request.get("ClusterId"), []):
            if step["Id"] not in request.get("StepIds", []):
                continue
            if step["Status"]["State"] in ENDED:
                reason = f"The step is {step['Status']['State']}"
                told.append({"StepId": step["Id"], "Status": "FAILED", "Reason": reason})
                continue
            self._programs.stop(step["Id"])
            told.append({"StepId": step["Id"], "Status": "SUBMITTED"})
        return original(EMR, "json_response")({"CancelStepsInfoList": told})

    def _begin(self, cluster: dict[str, Any], step: dict[str, Any], role: str | None) -> None:
        turns = self._turns.setdefault(
            cluster["Id"], threading.Semaphore(int(cluster.get("StepConcurrencyLevel") or 1))
        )

        @contextmanager
        def prepare(machine: RoleSession, folder: Path) -> Iterator[Program]:
            session = handed_on(machine, role, step["Id"]) if role else machine
            script = script_of(step["Config"])
            with (
                _turn(turns, lambda: self._programs.is_stopping(step["Id"])),
                spark_process.prepared(self._clients, script, session, folder) as program,
            ):
                yield program

        def running() -> None:
            step["Status"]["State"] = "RUNNING"
            step["Status"]["Timeline"]["StartDateTime"] = original(EMR, "_now_iso")()

        def ended(how: End) -> None:
            state = {SUCCEEDED: "COMPLETED", STOPPED: "CANCELLED"}.get(how.state, "FAILED")
            end(step, state, how.message)

        machines = cluster["Ec2InstanceAttributes"]["IamInstanceProfile"]
        start = Start(step["Id"], self._role_of(machines), SERVICE, step["Id"], prepare, ())
        self._programs.start(start, running=running, ended=ended)

    def _role_of(self, profile: str) -> str:
        """The role of an instance profile; of one that is not there the name, which then fails the step."""
        found = original("ministack.services.iam", "_instance_profiles").get(profile, {}).get("Roles")
        return str(found[0]) if found else profile


@contextmanager
def _turn(turns: threading.Semaphore, is_stopping: Any) -> Iterator[None]:
    """Wait until it is this step's turn, or it is cancelled."""
    while not (taken := turns.acquire(timeout=_POLL_SECONDS)):
        if is_stopping():
            break
    try:
        yield
    finally:
        if taken:
            turns.release()


def script_of(config: dict[str, Any]) -> SparkScript:
    """The script in the words of a step.

    Source: https://docs.aws.amazon.com/emr/latest/ReleaseGuide/emr-commandrunner.html

    Raises:
        JobError: it is not spark-submit.
    """
    command, *words = config["Args"] or [""]
    if config["Jar"] != "command-runner.jar" or command != "spark-submit":
        raise JobError("Only spark-submit of command-runner.jar can run on a laptop")
    return spark_submit(words)


def spark_submit(words: Iterable[str]) -> SparkScript:
    """The script that a command line of spark-submit names, with what it brings.

    Raises:
        JobError: there is no script, or it is no Python.
    """
    left = list(words)
    given: dict[str, list[str]] = {}
    while left and left[0].startswith("--"):
        option = left.pop(0)
        if option not in FLAGS:
            given.setdefault(option, []).append(left.pop(0))
    if not left:
        raise JobError("spark-submit names no script")
    listed = {
        name: [one for value in given.get(f"--{name}", []) for one in value.split(",") if one]
        for name in ("py-files", "jars", "files")
    }
    return SparkScript(
        location=left[0],
        arguments=left[1:],
        modules=listed["py-files"],
        jars=listed["jars"],
        files=listed["files"],
        conf=given.get("--conf", []),
    )


def end(step: dict[str, Any], state: str, message: str) -> None:
    """How a step ended, as DescribeStep tells it."""
    status = step["Status"]
    status["Timeline"]["EndDateTime"] = original(EMR, "_now_iso")()
    if message:
        status["FailureDetails"] = {"Reason": "Unknown Error.", "Message": message}
    status["State"] = state


def _error(code: str, message: str) -> Any:
    return original(EMR, "error_response_json")(code, message, 400)


class EmrStep:
    """One step of a cluster."""

    resource = "elasticmapreduce:addStep"
    service = "emr"
    errors = "EMR"

    def asked(self, request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """The step's role is handed over by the cluster, not passed."""
        del request
        yield from sync_tasks.told_by(RULE, sync=sync)

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """AddJobFlowSteps, of one."""
        role = {"ExecutionRoleArn": request["ExecutionRoleArn"]} if "ExecutionRoleArn" in request else {}
        answer = client.add_job_flow_steps(JobFlowId=request["ClusterId"], Steps=[request["Step"]], **role)
        (step,) = answer["StepIds"]
        return {"ClusterId": request["ClusterId"], "StepId": step}, {"StepId": step}

    def look(self, client: Any, job: Any) -> Ended | None:
        """DescribeStep."""
        step = client.describe_step(**job)["Step"]
        state = step["Status"]["State"]
        return Ended(state == "COMPLETED", {"Step": step}) if state in ENDED else None

    def stop(self, client: Any, job: Any) -> None:
        """CancelSteps."""
        client.cancel_steps(ClusterId=job["ClusterId"], StepIds=[job["StepId"]])


class CancelledStep:
    """The cancellation of one step, which does not wait."""

    resource = "elasticmapreduce:cancelStep"
    service = "emr"
    errors = "EMR"

    def asked(self, request: dict[str, Any], *, sync: bool) -> Iterable[Call]:
        """Nothing beside the call."""
        del request, sync
        return ()

    def start(self, client: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """CancelSteps, of one."""
        answer = client.cancel_steps(ClusterId=request["ClusterId"], StepIds=[request["StepId"]])
        (told,) = answer["CancelStepsInfoList"]
        return None, {"CancelStepsInfo": told}

    def look(self, client: Any, job: Any) -> Ended | None:
        """Nobody waits for it."""
        raise NotImplementedError

    def stop(self, client: Any, job: Any) -> None:
        """Nobody stops it."""
        raise NotImplementedError
