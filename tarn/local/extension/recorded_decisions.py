"""What the lake's roles ask for, written down: `TARN_RECORD_DECISIONS=1 tarn up`.

Stock MiniStack 1.5.33 decides and forgets. Here each distinct question that a role of a service asked
becomes a line of `decisions.jsonl` in the state folder: role, action, resource, condition keys, and
whether it was allowed. From these a test proves that no statement of a policy is there for nothing.
Who assumes a role over STS (a person, a test) asks what the role's service never would: that is left out, unless a
role itself assumes it, as a cluster's machines do for a step.

It is off unless asked: it costs microseconds a call, but the questions name objects, so the file
grows with the data.
"""

from __future__ import annotations

import json
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tarn.local.extension import decisions
from tarn.local.extension.decisions import EVALUATOR, Call
from tarn.local.extension.patching import original, replace, require
from tarn.local.settings import Settings

SESSIONS = "ministack.services.sts"
_is_taken_over_sts: ContextVar[bool] = ContextVar("is_taken_over_sts", default=False)


def install(settings: Settings) -> None:
    """Listen to the decisions about signed requests and to our own, if the settings say so."""
    require(EVALUATOR, "enforce", "AuthError")
    require(SESSIONS, "_sessions")
    if not settings.records_decisions:
        return
    recording = Recording(settings.decisions_path)
    decisions.listeners.append(recording.note)
    _listen_to_requests(recording)


class Recording:
    """The file of questions, each of them once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = set(path.read_text().splitlines()) if path.exists() else set()
        self._lock = threading.Lock()

    def note(self, principal: str, call: Call, is_allowed: bool) -> None:
        """Write the question down, unless it is known or no service asked it."""
        if _is_taken_over_sts.get() or ":assumed-role/" not in principal:
            return
        account, name = principal.split(":")[4], principal.split("/")[1]
        question = {
            "role": f"arn:aws:iam::{account}:role/{name}",
            "action": call.action,
            "resource": call.resource,
            "context": call.context,
            "allowed": is_allowed,
        }
        line = json.dumps(question, sort_keys=True, default=str)
        with self._lock:
            if line not in self._known:
                self._known.add(line)
                with self._path.open("a") as file:
                    file.write(line + "\n")


def _listen_to_requests(recording: Recording) -> None:
    enforce = original(EVALUATOR, "enforce")
    refusal = original(EVALUATOR, "AuthError")

    def enforce_and_note(  # noqa: PLR0917 - called as MiniStack calls its own
        access_key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        session = original(SESSIONS, "_sessions").get(access_key) or {}
        by = session.get("SourcePrincipalArn", "")
        token = _is_taken_over_sts.set(bool(by) and ":assumed-role/" not in by)
        try:
            denied = enforce(
                access_key, action, service, region, resource_arn=resource_arn, service_context=service_context
            )
            if not isinstance(denied, refusal):  # which says who asks, or what the key answers: no word on this call
                call = Call(action, resource_arn, service_context or {})
                recording.note(session.get("Arn", ""), call, denied is None)
            return denied
        finally:
            _is_taken_over_sts.reset(token)

    replace(EVALUATOR, "enforce", enforce_and_note)
