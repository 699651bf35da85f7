"""A handler's error is its own, as on AWS: named by its class, with message and stack trace.

Stock MiniStack reports every error as `Runtime.HandlerError`, so no `Retry` or `Catch` that names an
error ever matches, and it throws away the worker of a handler that raised, which AWS keeps. Its wait
for a function's log lines is a guess of up to 50 ms for each invocation: here the worker says when an
invocation has printed its last line.
https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
"""

from __future__ import annotations

import json
import queue
import time
from contextvars import ContextVar
from typing import Any

from tarn.local.extension.patching import PlugPointMissing, original, replace
from tarn.local.settings import Settings

RUNTIME = "ministack.core.lambda_runtime"
LAMBDA = "ministack.services.lambda_svc"
_END_OF_LOG = "\x1eend of invocation"
_LONGEST_WAIT_SECONDS = 0.25
_INIT_FAILED = "Worker init failed: "
DIED = "Worker process died"

# What the worker's script says, and what it says instead.
_IN_WORKER = {
    # a module that cannot be imported, or whose top level raises
    '"error": str(e)}) + "\\n")\n        _real_stdout.flush()\n        return': (
        '"error": json.dumps(_ms_error(e, ""))}) + "\\n")\n        _real_stdout.flush()\n        return'
    ),
    # a handler that raises: an answer like any other for the worker, so that it lives on
    '"status": "error", "error": str(e), "trace": traceback.format_exc()': (
        '"status": "ok", "raised": _ms_error(e, _ms_ctx.get("request_id", ""))'
    ),
    "        _real_stdout.flush()\n\nrun()": (
        f'        sys.__stderr__.write("{_END_OF_LOG}\\n")\n'
        "        sys.__stderr__.flush()\n"
        "        _real_stdout.flush()\n\nrun()"
    ),
    "def run():\n": '''\
def _ms_error(error, request_id):
    """The error as AWS's runtime reports it, after printing it as that runtime does."""
    name, message = type(error).__name__, str(error)
    if not request_id and isinstance(error, ImportError):
        name, message = "Runtime.ImportModuleError", "Unable to import the handler's module: " + message
    if not request_id and isinstance(error, AttributeError):
        name = "Runtime.HandlerNotFound"
    frames = traceback.format_tb(error.__traceback__)[1:]
    print("[ERROR] " + name + ": " + message + "\\nTraceback (most recent call last):\\n" + "".join(frames), flush=True)
    return {"errorMessage": message, "errorType": name, "requestId": request_id, "stackTrace": frames}

def run():
''',
}

_raised: ContextVar[dict[str, Any] | None] = ContextVar("raised", default=None)


def install(_settings: Settings) -> None:
    """Change the Python worker's script, and pass on what it says of an error."""
    replace(RUNTIME, "_PYTHON_WORKER_SCRIPT", _worker_script())
    invoke = original(RUNTIME, "Worker.invoke")
    drain = original(RUNTIME, "Worker._drain_stderr_bounded")
    execute = original(LAMBDA, "_execute_function_warm")

    def invoke_and_remember(worker: Any, *arguments: Any, **named: Any) -> Any:
        response = invoke(worker, *arguments, **named)
        _raised.set(response.get("raised"))
        return response

    def drain_to_the_end(worker: Any, *arguments: Any, **named: Any) -> str:
        if not worker.config.get("Runtime", "").startswith("python"):
            return str(drain(worker, *arguments, **named))
        return _lines_of_invocation(worker._stderr_queue)

    def execute_warm(function: Any, event: Any, request_id: str) -> Any:
        _raised.set(None)
        return _with_error(execute(function, event, request_id), request_id)

    replace(RUNTIME, "Worker.invoke", invoke_and_remember)
    replace(RUNTIME, "Worker._drain_stderr_bounded", drain_to_the_end)
    replace(LAMBDA, "_execute_function_warm", execute_warm)


def _worker_script() -> str:
    script: str = original(RUNTIME, "_PYTHON_WORKER_SCRIPT")
    for stock, ours in _IN_WORKER.items():
        if script.count(stock) != 1:
            raise PlugPointMissing(RUNTIME, f"_PYTHON_WORKER_SCRIPT, once {stock!r}")
        script = script.replace(stock, ours)
    return script


def _with_error(result: dict[str, Any], request_id: str) -> dict[str, Any]:
    if (raised := _raised.get()) is not None:
        return {**result, "body": raised, "error": True}
    body = result.get("body")
    if not result.get("error") or not isinstance(body, dict):
        return result
    message = str(body.get("errorMessage", ""))
    if message.startswith(_INIT_FAILED):
        return {**result, "body": json.loads(message.removeprefix(_INIT_FAILED)) | {"requestId": request_id}}
    if message == DIED:
        exited = {"errorMessage": f"RequestId: {request_id} Error: Runtime exited", "errorType": "Runtime.ExitError"}
        return {**result, "body": exited}
    return result


def _lines_of_invocation(lines: queue.Queue[str]) -> str:
    """What the invocation printed, up to the worker's mark; a process that died leaves none."""
    found: list[str] = []
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            break
        before, mark, _ = line.partition(_END_OF_LOG)
        if before or not mark:
            found.append(before)
        if mark:
            break
    return "\n".join(found)
