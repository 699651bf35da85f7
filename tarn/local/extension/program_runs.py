"""Programs of AWS's services that really run here: a process each, under the role that the service was given.

Whatever the service (a Glue job, a Fargate task, an EMR step, a notebook), a run is a thread beside the server that
waits for a process. How the process ends is all that decides how the run ends: SUCCEEDED means that it ran and exited
with 0.
"""

from __future__ import annotations

import contextvars
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tarn.local.extension.clients import Clients
from tarn.local.extension.job_logs import LogShipper
from tarn.local.extension.role_sessions import RoleError, RoleSession, assumed
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local.programs")
SUCCEEDED, FAILED, STOPPED, TIMEOUT = "SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT"
# The process ends with the emulator, however that ends: a watcher in the same process group kills
# the group when the other end of the pipe on its standard input is closed.
_UNTIL_WE_END = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -s KILL 0) & exec 3<&-; exec "$@"'
_POLL_SECONDS = 0.1
_LOG_SECONDS = 2.0


class JobError(Exception):
    """The run failed, for the reason in the message; with the exit status of its process, if one ran."""

    def __init__(self, message: str, exit_status: int | None = None) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True)
class Program:
    """What is started: a command line, in a folder, with an environment and nothing of ours."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Log:
    """A log group and stream, for what the process prints (``output``), its errors, or both in their order."""

    group: str
    stream: str
    what: str
    """``output`` or ``errors``; errors are among the output when no log is for them."""
    creates_group: bool = True


@dataclass(frozen=True)
class Start:
    """A run: its id, the role, who assumes it and as what session, how its program is prepared, its logs, its time.

    ``log_role`` writes the logs; without one the run's own role does.
    """

    run_id: str
    role: str
    service: str
    session: str
    prepare: Callable[[RoleSession, Path], AbstractContextManager[Program]]
    logs: Sequence[Log]
    timeout_seconds: float | None = None
    log_role: str | None = None


@dataclass(frozen=True)
class End:
    """How a run ended: its state, why, and the exit status where its process came to an end by itself."""

    state: str
    message: str = ""
    exit_status: int | None = None


class ProgramRuns:
    """Starts and stops runs; each has a thread of its own, and no request waits for one."""

    def __init__(self, settings: Settings, kind: str) -> None:
        self._settings, self._kind = settings, kind
        self._clients = Clients(settings)
        self._stopping: dict[str, threading.Event] = {}

    def start(self, start: Start, running: Callable[[], None], ended: Callable[[End], None]) -> None:
        """Go on beside the request; ``running`` is told when the process is about to start, ``ended`` once."""
        self._stopping[start.run_id] = threading.Event()
        # a new thread starts without the request's account and region, which the services look up
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._run, start, running, ended), name=start.run_id, daemon=True
        ).start()

    def stop(self, run_id: str) -> None:
        """The run ends STOPPED when its processes are gone; one that has ended stays as it is."""
        if stopping := self._stopping.get(run_id):
            stopping.set()

    def is_stopping(self, run_id: str) -> bool:
        """Whether the run, which has not ended, was told to stop."""
        return self._stopping[run_id].is_set()

    def _run(self, start: Start, running: Callable[[], None], ended: Callable[[End], None]) -> None:
        folder = self._settings.state_dir / self._kind / start.run_id
        end = End(FAILED)
        try:
            folder.mkdir(parents=True)
            with assumed(self._settings, self._clients, start.role, start.service, start.session) as role:
                end = self._execute(start, role, folder, running)
        except JobError as error:
            end = End(FAILED, str(error), error.exit_status)
        except (RoleError, ClientError, BotoCoreError, OSError) as error:
            end = End(FAILED, str(error))
        except Exception as error:
            logger.exception("the run %s broke the runner itself", start.run_id)
            end = End(FAILED, f"{type(error).__name__}: {error}")
        finally:
            ended(end)
            self._stopping.pop(start.run_id)
            shutil.rmtree(folder, ignore_errors=True)

    def _execute(self, start: Start, role: RoleSession, folder: Path, running: Callable[[], None]) -> End:
        stopping = self._stopping[start.run_id]
        with start.prepare(role, folder) as program, self._shippers(start, role, folder) as shippers:
            if stopping.is_set():
                return End(STOPPED)
            running()
            try:
                split = any(log.what == "errors" for log in start.logs)
                return run(
                    program,
                    folder,
                    split=split,
                    timeout_seconds=start.timeout_seconds,
                    stopping=stopping,
                    while_waiting=_every(_LOG_SECONDS, shippers),
                )
            finally:
                for shipper in shippers:
                    shipper.ship(final=True)

    @contextmanager
    def _shippers(self, start: Start, role: RoleSession, folder: Path) -> Iterator[list[LogShipper]]:
        writer = (
            assumed(self._settings, self._clients, start.log_role, start.service, start.session)
            if start.log_role
            else nullcontext(role)
        )
        with writer as session:
            logs = session.client("logs")
            yield [
                LogShipper(logs, log.group, log.stream, folder / f"{log.what}.log", creates_group=log.creates_group)
                for log in start.logs
            ]


def run(
    program: Program,
    folder: Path,
    *,
    split: bool,
    timeout_seconds: float | None,
    stopping: threading.Event,
    while_waiting: Callable[[], None],
) -> End:
    """Run to the end; what it prints is in ``output.log`` of ``folder``, with ``split`` its errors in ``errors.log``.

    Raises:
        JobError: unless it was stopped, late, or exited with 0.
    """
    output, errors = folder / "output.log", folder / "errors.log"
    with output.open("wb") as printed, errors.open("wb") as complained:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_WE_END, "job", *program.command],
            cwd=program.folder,
            env=dict(program.environment),
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=complained if split else subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while process.poll() is None:
            if stopping.is_set():
                return End(STOPPED)
            if deadline is not None and time.monotonic() > deadline:
                return End(TIMEOUT)
            while_waiting()
            time.sleep(_POLL_SECONDS)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()  # type: ignore[union-attr]
    if process.returncode != 0:
        raise JobError(explain(process.returncode, output, errors), process.returncode)
    return End(SUCCEEDED, exit_status=0)


def environment(role: RoleSession, folder: Path) -> dict[str, str]:
    """Of ours nothing but where Java and Python are; AWS only as the run's role; a home below ``folder``."""
    inherited = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "TZ") if name in os.environ}
    (folder / "temp").mkdir(exist_ok=True)
    return {
        **inherited,
        **role.environment(),
        "HOME": str(folder),
        "TMPDIR": str(folder / "temp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def explain(exit_code: int, output: Path, errors: Path) -> str:
    """What a person needs to see of a failed process: its last exception with the causes, or its last words.

    The driver's exceptions are in its output under `spark-submit`, the JVM's own among its errors.
    """
    ended = f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    texts = [path.read_text(errors="replace") for path in (output, errors)]
    for text in texts:
        _, found, traceback = text.rpartition("Traceback (most recent call last):\n")
        if found:
            raised = [line for line in traceback.splitlines() if not re.match(r"\s", line) and line.strip()]
            causes = [line for line in raised[1:] if line.startswith((": ", "Caused by: "))]  # Java's
            return "\n".join([*raised[:1], *causes])[:2_000] + f" ({ended})"
    last_words = [line for text in reversed(texts) for line in text.strip().splitlines()[-3:]]
    return "\n".join([f"The job's process ended: {ended}", *last_words])[:2_000]


def _every(seconds: float, shippers: list[LogShipper]) -> Callable[[], None]:
    """A function that ships the logs, but not more often than this."""
    last = time.monotonic()

    def ship() -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            for shipper in shippers:
                shipper.ship()

    return ship
