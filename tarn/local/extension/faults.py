"""The embedded AWS fails as AWS does, by random seed, when `TARN_FAULTS` says so (tarn/local/faults.py).

Without that variable nothing here is installed. Each mode takes hold where the fault would arise: in the function's
process, in S3's delivery, in a queue's receive, in a service's answer, in a job's run. Nothing of the lake knows of it.

Sources: SQS developer guide "At-least-once delivery"; S3 user guide "Event ordering and duplicate events"; API
references of each service, "Common errors"; Glue "JobRun" (its terminal states).
"""

from __future__ import annotations

import contextvars
import json
import logging
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Any

from tarn.local.extension.encryption import KEY_ACTIONS
from tarn.local.extension.lambda_errors import DIED, RUNTIME
from tarn.local.extension.patching import PlugPointMissing, original, replace, require
from tarn.local.faults import VARIABLE, Plan, counts_path, switch_path
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.faults")
APP = "ministack.app"
ROUTER = "ministack.core.router"
IAM_ACTIONS = "ministack.core.iam_actions"
S3 = "ministack.services.s3"
SQS = "ministack.services.sqs"
STS = "ministack.services.sts"
GLUE = "ministack.services.glue"
JOBS = "tarn.local.extension.glue_jobs"

_KEPT_SECONDS = 0.5
_THROTTLES: Mapping[str, tuple[int, str]] = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "s3": (503, "SlowDown"),
    "sqs": (400, "RequestThrottled"),
    "lambda": (429, "TooManyRequestsException"),
    "states": (400, "ThrottlingException"),
    "glue": (400, "ThrottlingException"),
}
_KEY_DENIALS: Mapping[str, tuple[int, str]] = {
    "dynamodb": (400, "AccessDeniedException"),
    "s3": (403, "AccessDenied"),
    "sqs": (400, "KMS.AccessDeniedException"),
}
_BURSTS = (1, 2, 8)
"""Calls that are refused in a row: the SDK tries a call five times at most."""
_BURST_SECONDS = 4
_DEATH = "_tarn_death"
# What the worker's script says, and what it says instead: it counts the calls of an invocation, tells them with its
# result, and dies at the one that it was told.
_IN_WORKER = {
    "    _ms_install_invoke_depth()\n": "    _ms_install_invoke_depth()\n    _ms_install_death()\n",
    '        _ms_durable = _ms_ctx.get("durable") or {}\n': (
        '        _ms_durable = _ms_ctx.get("durable") or {}\n'
        "        _ms_calls.clear()\n"
        f'        _ms_death.update(_ms_durable.get("{_DEATH}") or {{"when": ""}})\n'
    ),
    '{"status": "ok", "result": result}': '{"status": "ok", "result": result, "calls": _ms_calls.get("before", {})}',
    "def run():\n": """\
_ms_calls, _ms_death = {}, {}

def _ms_install_death():
    import signal
    from botocore.handlers import BUILTIN_HANDLERS

    def meet(when, model):
        counted = _ms_calls.setdefault(when, {})
        counted[model.name] = counted.get(model.name, 0) + 1
        planned = (_ms_death.get("when"), _ms_death.get("call"), _ms_death.get("nth"))
        if planned == (when, model.name, counted[model.name]):
            os.kill(os.getpid(), signal.SIGKILL)

    BUILTIN_HANDLERS.append(("before-call", lambda model, **_: meet("before", model)))
    BUILTIN_HANDLERS.append(("after-call", lambda model, **_: meet("after", model)))

def run():
""",
}


def install(settings: Settings) -> None:
    """Take hold wherever the plan has a rate."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return
    faults = Faults(Plan.parse(text), settings.state_dir)
    _kill_functions(faults)
    _kill_idle_functions(faults)
    _shuffle_notifications(faults)
    _shuffle_receives(faults)
    _refuse_calls(faults)
    _end_runs(faults)
    logger.warning("faults strike while %s is there: %s", faults.switch, text)


class Dice:
    """Strikes at irregular opportunities, one in ``1 / rate`` on average and never later than the second such."""

    def __init__(self, chance: random.Random, rate: float) -> None:
        self._chance, self._rate = chance, rate
        self._left = self._gap()

    def strikes(self) -> bool:
        """Whether it strikes at this opportunity."""
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._gap()
        return True

    def _gap(self) -> float:
        return self._chance.randint(1, max(1, round(2 / self._rate) - 1)) if self._rate else math.inf


class Faults:
    """The dice of each mode, and what has struck."""

    def __init__(self, plan: Plan, state_dir: Path) -> None:
        self.chance = random.Random(plan.seed)  # noqa: S311 (chance that can be repeated is the point)
        self.switch = switch_path(state_dir)
        self.counts: Counter[str] = Counter()
        self.rates = dict(plan.rates)
        self._seed = plan.seed
        self._dice: dict[tuple[str, str], Dice] = {}
        self._lock = threading.Lock()
        self._path = counts_path(state_dir)
        self._path.unlink(missing_ok=True)
        threading.Thread(target=self._keep_counts, name="tarn-faults", daemon=True).start()

    def are_on(self) -> bool:
        """Whether faults may strike now."""
        return self.switch.exists()

    def may_strike(self, mode: str, of: str) -> bool:
        """Whether this mode may strike now."""
        try:
            named = self.switch.read_text().split()
        except FileNotFoundError:
            return False
        return not named or mode in named or f"{mode}:{of}" in named

    def strike(self, mode: str, of: str = "") -> bool:
        """Whether the mode strikes at this opportunity (``of`` has its own ones); the caller counts what came of it."""
        if mode not in self.rates or not self.may_strike(mode, of):
            return False
        with self._lock:
            if (mode, of) not in self._dice:
                chance = random.Random(f"{self._seed} {mode} {of}")  # noqa: S311
                self._dice[mode, of] = Dice(chance, self.rates[mode])
            return self._dice[mode, of].strikes()

    def count(self, mode: str, by: int = 1) -> None:
        """It struck."""
        with self._lock:
            self.counts[mode] += by

    def later(self, least: float, most: float, work: Callable[[], Any]) -> None:
        """Do ``work`` between so many seconds from now, with this request's account and region."""
        context = contextvars.copy_context()
        timer = threading.Timer(self.chance.uniform(least, most), context.run, (work,))
        timer.daemon = True
        timer.start()

    def _keep_counts(self) -> None:
        written: dict[str, int] = {}
        while True:
            with self._lock:
                now = dict(self.counts)
            if now != written:
                unfinished = self._path.with_suffix(".new")
                unfinished.write_text(json.dumps(now, sort_keys=True))
                unfinished.replace(self._path)
                written = now
            time.sleep(_KEPT_SECONDS)


def _kill_functions(faults: Faults) -> None:
    """Kill a function's process at a call that its invocations make, each kind of call being as likely."""
    script: str = original(RUNTIME, "_PYTHON_WORKER_SCRIPT")
    for stock, ours in _IN_WORKER.items():
        if script.count(stock) != 1:
            raise PlugPointMissing(RUNTIME, f"_PYTHON_WORKER_SCRIPT, once {stock!r}")
        script = script.replace(stock, ours)
    replace(RUNTIME, "_PYTHON_WORKER_SCRIPT", script)
    invoke = original(RUNTIME, "Worker.invoke")
    known: dict[str, dict[str, int]] = {}
    pending: dict[str, dict[str, Any]] = {}

    def planned(handler: str) -> dict[str, Any]:
        """The death that waits for this function, or one that is due now."""
        if death := pending.get(handler):  # which another invocation may take first
            return pending.pop(handler, {}) if faults.may_strike(death["mode"], handler) else {}
        calls = known.setdefault(handler, {})
        mode = next((mode for mode in ("kill_before", "kill_after") if calls and faults.strike(mode, handler)), None)
        if mode is None:
            return {}
        call = faults.chance.choice(sorted(calls))
        return {"mode": mode, "when": mode[5:], "call": call, "nth": faults.chance.randint(1, calls[call])}

    def invoke_or_die(worker: Any, *arguments: Any, durable: Any = None, **named: Any) -> Any:
        handler = worker.config.get("Handler", "")
        death = planned(handler)
        answer = invoke(worker, *arguments, durable={**(durable or {}), **({_DEATH: death} if death else {})}, **named)
        if answer.get("status") == "ok":
            known[handler].update(answer.get("calls", {}))
        if death and answer.get("error") != DIED:  # it made no or fewer such calls, or its time was over before
            pending[handler] = death | {"nth": 1}
        elif death:
            faults.count(death["mode"])
            logger.info("%s was killed %s call %d of %s", handler, *(death[word] for word in ("when", "nth", "call")))
        return answer

    replace(RUNTIME, "Worker.invoke", invoke_or_die)


def _kill_idle_functions(faults: Faults) -> None:
    require(RUNTIME, "_workers", "_lock")

    def kill_one() -> None:
        while True:
            time.sleep(1)
            if not faults.strike("kill_idle"):
                continue
            with original(RUNTIME, "_lock"):
                pools = original(RUNTIME, "_workers").values()
                idle = [
                    one for pool in pools for one in pool if not one.in_use and one._proc and one._proc.poll() is None
                ]
                if idle:
                    faults.chance.choice(idle)._proc.kill()
                    faults.count("kill_idle")

    threading.Thread(target=kill_one, name="tarn-kill-idle", daemon=True).start()


def _shuffle_notifications(faults: Faults) -> None:
    deliver = original(S3, "_deliver_event_to_sqs")

    def deliver_shuffled(*arguments: Any, **named: Any) -> None:
        def deliver_held() -> None:
            try:
                deliver(*arguments, **named)
            finally:
                faults.count("held", -1)

        held = 0
        if faults.strike("duplicate"):
            faults.count("duplicate")
            held += 1
        if faults.strike("reorder"):
            faults.count("reorder")
            held += 1
        else:
            deliver(*arguments, **named)
        for _ in range(held):
            faults.count("held")
            faults.later(0.2, 4, deliver_held)

    replace(S3, "_deliver_event_to_sqs", deliver_shuffled)


def _shuffle_receives(faults: Faults) -> None:
    collect = original(SQS, "_collect_msgs")

    def collect_shuffled(queue: dict[str, Any], *limits: int) -> Any:
        received = collect(queue, *limits)
        kept = []
        for message in received:
            if faults.strike("delay"):
                faults.count("delay")
                message["visible_at"] = time.time() + faults.chance.uniform(1, 5)
                message["receive_count"] -= 1
                continue
            if faults.strike("expire"):
                faults.count("expire")
                message["visible_at"] = time.time()
            kept.append(message)
        return kept

    replace(SQS, "_collect_msgs", collect_shuffled)


def _refuse_calls(faults: Faults) -> None:
    """Throttles and denials of keys, as each service answers them, to a call and those like it that follow.

    Each second may draw a role among those that have made such a call, whose next one it is, if it comes soon: a job
    makes a thousand calls where a function makes ten, and would else have nearly all.
    """
    dispatch = original(APP, "_dispatch_service_request")
    access_key = original(ROUTER, "extract_access_key_id")
    service_of = original(ROUTER, "detect_service")
    action_of = original(IAM_ACTIONS, "extract_iam_action")
    routing = original(APP, "_routing_params")
    answer = original(IAM_ACTIONS, "access_denied_response")
    sessions = original(STS, "_sessions")
    callers: dict[str, list[str]] = {"throttle": [], "deny_key": []}
    drawn: dict[tuple[str, str], float] = {}
    bursts: dict[tuple[str, str], tuple[str, int, float]] = {}

    def draw() -> None:
        while True:
            time.sleep(1)
            for mode, roles in callers.items():
                if roles and faults.strike(mode):
                    drawn[mode, faults.chance.choice(roles)] = time.monotonic() + _BURST_SECONDS

    async def dispatch_or_refuse(  # noqa: PLR0917 - called as MiniStack calls its own
        method: str, path: str, headers: Any, body: bytes, query: Any, request_id: str
    ) -> Any:
        session = sessions.get(access_key(headers, query) or "", {}) if faults.are_on() else {}
        if ":assumed-role/" in session.get("Arn", ""):
            parameters = routing(method, path, headers, body, query)
            service = service_of(method, path, headers, parameters)
            action = action_of(service, method, path, headers, body, parameters) or ""
            if (mode := refused(session["Arn"].split("/")[1], service, action)) is not None:
                status, code = (_THROTTLES if mode == "throttle" else _KEY_DENIALS)[service]
                message = "Rate exceeded" if mode == "throttle" else "The ciphertext refers to a key without access"
                _, its_headers, text = answer(
                    service, action, "", request_id, error_code=code, message=message, headers=headers
                )
                return status, its_headers, text
        return await dispatch(method, path, headers, body, query, request_id)

    def refused(role: str, service: str, action: str) -> str | None:
        modes = [mode for mode in callers if _can_be(mode, service, action)]
        for mode in modes:
            if role not in callers[mode]:
                callers[mode].append(role)
        mode, left, until = bursts.pop((role, action), ("", 0, 0.0))
        if time.monotonic() > until:
            mode = next((mode for mode in modes if drawn.pop((mode, role), 0) > time.monotonic()), "")
            if not mode:
                return None
            faults.count(mode)
            left, until = faults.chance.choice(_BURSTS), time.monotonic() + _BURST_SECONDS
            logger.info("%s of %s by %s, %d times", mode, action, role, left)
        if left > 1:
            bursts[role, action] = (mode, left - 1, until)
        return mode

    replace(APP, "_dispatch_service_request", dispatch_or_refuse)
    threading.Thread(target=draw, name="tarn-refuse", daemon=True).start()


def _can_be(mode: str, service: str, action: str) -> bool:
    return service in _THROTTLES if mode == "throttle" else service in _KEY_DENIALS and action in KEY_ACTIONS


def _end_runs(faults: Faults) -> None:
    """Runs that end badly do so in each way before any way comes again.

    Until each has come once, every second run does at least, so that few runs show them all.
    """
    make, finish = original(JOBS, "_job_run"), original(JOBS, "_finish")
    start, stop = original(GLUE, "_start_job_run"), original(GLUE, "_batch_stop_job_run")
    faults.rates["glue"] = min(sum(faults.rates.get(_mode(state), 0) for state in _ENDINGS), 1)
    all_ways = [state for state in _ENDINGS if faults.rates.get(_mode(state))]
    ways: list[str] = []
    is_second = cycle((False, True))
    planned: dict[str, tuple[str, int]] = {}
    made: contextvars.ContextVar[str] = contextvars.ContextVar("made")

    def ending() -> str:
        is_owed = not all(faults.counts[_mode(state)] for state in all_ways)
        is_due = is_owed and faults.may_strike("glue", "") and next(is_second)
        if not (faults.strike("glue") or is_due):
            return ""
        if not ways:
            ways.extend(all_ways)
            faults.chance.shuffle(ways)
        return ways.pop()

    def job_run(job: dict[str, Any], request: dict[str, Any]) -> Any:
        run = make(job, request)
        made.set(run["Id"])
        if state := ending():
            planned[run["Id"]] = (state, run["Timeout"])
        if state in ("ERROR", "EXPIRED"):
            run["Timeout"] = 0
        elif state == "TIMEOUT":
            run["Timeout"] = faults.chance.uniform(1, 8) / 60
        elif state == "STOPPED":
            faults.later(1, 8, lambda: stop({"JobName": run["JobName"], "JobRunIds": [run["Id"]]}))
        return run

    def start_run(request: dict[str, Any]) -> Any:
        made.set("")
        answer = start(request)
        if answer[0] >= HTTPStatus.BAD_REQUEST and made.get() in planned:  # the limit of runs
            ways.append(planned.pop(made.get())[0])
        return answer

    def finish_run(run: dict[str, Any], state: str, message: str) -> None:
        wanted, run["Timeout"] = planned.pop(run["Id"], ("", run["Timeout"]))
        if wanted and state == _REACHED.get(wanted, wanted):
            faults.count(_mode(wanted))
            state, message = wanted, "a fault"
        elif wanted:  # it was quicker, or failed by itself: the next one, then
            ways.append(wanted)
        finish(run, state, message)

    replace(JOBS, "_job_run", job_run)
    replace(JOBS, "_finish", finish_run)
    replace(GLUE, "_start_job_run", start_run)


_ENDINGS = ("FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED")
_REACHED = {"FAILED": "SUCCEEDED", "ERROR": "TIMEOUT", "EXPIRED": "TIMEOUT"}
"""What a run that is to end so comes to by itself: all its work is done, or its time was over when it began."""


def _mode(state: str) -> str:
    return f"glue_{state.lower()}"
