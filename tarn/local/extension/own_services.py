"""Services that MiniStack does not have: a handler and a store of ours, found, authorized and kept as its own are.

Requests are told by their signature's scope or their target; a service's state is saved and restored with all others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tarn.local.extension.patching import original, replace, require

APP = "ministack.app"
ACTIONS = "ministack.core.iam_actions"
ROUTER = "ministack.core.router"
RESPONSES = "ministack.core.responses"


class ApiError(Exception):
    """An error of the API: its code, and the message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class OwnService:
    """One service: operations by name, each with the request's members, and a store that outlives the emulator."""

    def __init__(self, name: str, operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
        self.name = name
        self.store: dict[str, Any] = {}
        self._operations = operations
        self._restored: Callable[[], None] = lambda: None

    def install(
        self,
        *,
        target: str | None = None,
        resource: Callable[[str, str, dict[str, Any], str, str], str],
        restored: Callable[[], None],
    ) -> None:
        """Let requests reach it. ``resource`` names what an action is asked on: action, path, request, region, account.

        ``target`` is the prefix of a JSON service's; ``restored`` is called when the store was read.
        """
        require(APP, "SERVICE_HANDLERS", "_state_map", "_loaded_modules")
        self._restored = restored
        original(ROUTER, "SERVICE_PATTERNS")[self.name] = {"target_prefixes": [target]} if target else {}
        original(ACTIONS, "SERVICE_TO_IAM_NAMESPACE")[self.name] = self.name
        if target is None:
            original(ACTIONS, "_BOTOCORE_SERVICE_MAP")[self.name] = [self.name]
        original(APP, "SERVICE_HANDLERS")[self.name] = self._handle
        original(APP, "_state_map")[self.name] = self.name
        original(APP, "_loaded_modules")[self.name] = self
        self._name_resources(resource)

    def get_state(self) -> dict[str, Any]:
        """What is saved."""
        return {"store": json.loads(json.dumps(self.store))}

    def load_persisted_state(self, data: dict[str, Any]) -> None:
        """What was saved, at the start."""
        self.store.update(data["store"])
        self._restored()

    async def _handle(self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        action = original(ACTIONS, "extract_iam_action")(self.name, method, path, headers, body, query)
        operation = str(action).rpartition(":")[2]
        request = (json.loads(body) if body else {}) | {"path": path.strip("/").split("/")}
        try:
            if operation not in self._operations:
                raise ApiError("UnknownOperationException", f"{operation} of {self.name} is not there on a laptop")
            answer = self._operations[operation](request)
        except ApiError as error:
            return original(RESPONSES, "error_response_json")(error.code, str(error), error.status)
        return original(RESPONSES, "json_response")(answer)

    def _name_resources(self, resource: Callable[[str, str, dict[str, Any], str, str], str]) -> None:
        stock = original(ACTIONS, "extract_resource_arn")

        def extract_resource_arn(service: str, method: str, path: str, headers: Any, body: Any, *rest: Any) -> Any:
            if service != self.name:
                return stock(service, method, path, headers, body, *rest)
            parameters, region, account = rest
            action = original(ACTIONS, "extract_iam_action")(service, method, path, headers, body, parameters)
            return resource(str(action).rpartition(":")[2], path, json.loads(body) if body else {}, region, account)

        replace(ACTIONS, "extract_resource_arn", extract_resource_arn)
