"""Start, find and stop the emulator of a state folder.

Several may run side by side: port, certificate, temporary files and data belong to the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import boto3

from tarn.local import lock
from tarn.local.extension.patching import PINNED_VERSION
from tarn.local.settings import ADMINISTRATOR_KEY, Settings

START_SECONDS = 60.0
STOP_SECONDS = 20.0
LET_GO_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]
# All that the emulator gets of our own environment: its functions and jobs inherit what it has,
# so no keys, profiles or proxies may be among it.
_INHERITED = ("PATH", "JAVA_HOME", "LANG", "LC_ALL", "TZ")
_INHERITED_PREFIX = "TARN_"


class EmulatorError(Exception):
    """The emulator cannot be started or reached; the message says what to do."""


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    settings: Settings
    pid: int

    @property
    def endpoint_url(self) -> str:
        """The address of every service."""
        return self.settings.endpoint_url

    @property
    def ca_bundle(self) -> Path:
        """The certificate that a client must trust."""
        return self.settings.certificate


def start(state_dir: Path, region: str = "eu-west-1", options: Mapping[str, str] | None = None) -> Emulator:
    """Start the emulator of this folder, or return the one that runs.

    The port is chosen once and kept: queue URLs with it are in deployed stacks.
    `options` are further variables of MiniStack (`SFN_WAIT_SCALE=0` makes waits immediate).
    """
    if (found := running(state_dir)) is not None:
        return found
    if not _is_let_go(state_dir):
        raise EmulatorError(f"The emulator in {state_dir} runs, but does not answer. Stop it, then start it again.")
    _require_packages()
    from tarn.local import certificates  # noqa: PLC0415 - needs a package that may be missing

    settings = _settings(state_dir) or Settings(state_dir.resolve(), _free_port(), region)
    if not _port_is_free(settings.port):
        raise EmulatorError(
            f"Port {settings.port} is in use by another program, and the stacks in {state_dir} hold URLs "
            "with it. Stop that program, or start anew with an empty state folder."
        )
    shutil.rmtree(settings.temp_dir, ignore_errors=True)
    for folder in (settings.temp_dir, settings.objects_dir, settings.state_dir / "home"):
        folder.mkdir(parents=True, exist_ok=True)
    certificates.ensure(settings)
    with settings.log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tarn.local.launcher"],
            cwd=_ROOT,
            env={**_launcher_environment(settings), **(options or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _record(settings, process.pid)
    _wait_until_healthy(settings, process)
    return Emulator(settings, process.pid)


def _is_let_go(state_dir: Path) -> bool:
    """Whether nobody holds the folder; a killed emulator answers no more some moments before it is gone."""
    deadline = time.monotonic() + LET_GO_SECONDS
    while lock.is_held(state_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def running(state_dir: Path) -> Emulator | None:
    """The emulator of this folder, if it runs: it answers with the folder's own certificate."""
    settings = _settings(state_dir)
    pid = _recorded(state_dir).get("pid")
    if settings is None or pid is None or not lock.is_held(state_dir) or not _is_healthy(settings):
        return None
    return Emulator(settings, pid)


def stop(state_dir: Path, purge: bool = False) -> None:
    """Stop the emulator with all that it started; its state stays, unless `purge`."""
    settings = _settings(state_dir)
    pid = _recorded(state_dir).get("pid")
    if settings is not None and pid is not None:
        if lock.is_held(state_dir):  # else the pid may be somebody else's by now
            _terminate(pid)
        _record(settings, None)
    if purge:
        shutil.rmtree(state_dir, ignore_errors=True)


def client_environment(state_dir: Path) -> dict[str, str]:
    """The variables that make any AWS client, the SAM CLI included, talk to this emulator only.

    `AWS_DISABLE_HOST_PREFIX_INJECTION`: botocore puts `sync-` before the host of
    `StartSyncExecution`, and there is no such host here.
    """
    settings = _settings(state_dir)
    if settings is None:
        raise EmulatorError(f"No emulator was ever started in {state_dir}.")
    return {
        **_only_emulated_aws(settings),
        "AWS_ENDPOINT_URL": settings.endpoint_url,
        "AWS_CA_BUNDLE": str(settings.certificate),
        "AWS_ACCESS_KEY_ID": ADMINISTRATOR_KEY,
        "AWS_SECRET_ACCESS_KEY": ADMINISTRATOR_KEY,
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",
        "SAM_CLI_ENABLE_LANGUAGE_EXTENSIONS": "1",
    }


def command_environment(state_dir: Path) -> dict[str, str]:
    """Our own environment for a command (`sam`), without what it says of real AWS, and with the emulator's.

    Leaving out is the point: a profile or a session token that is set would still be used.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return ours | client_environment(state_dir)


def use(state_dir: Path) -> None:
    """Let this process's AWS clients, and the programs it starts, see this emulator and nothing else."""
    variables = command_environment(state_dir)
    os.environ.clear()
    os.environ.update(variables)
    boto3.DEFAULT_SESSION = None  # it would remember whose keys it had


def _launcher_environment(settings: Settings) -> dict[str, str]:
    """A clean environment. The bundle is for the workers: Python's ssl, botocore and requests."""
    inherited = {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIX)
    }
    return {
        **inherited,
        **_only_emulated_aws(settings),
        **settings.environment(),
        "HOME": str(settings.state_dir / "home"),
        "TMPDIR": str(settings.temp_dir),
        "PYTHONUNBUFFERED": "1",
        "SSL_CERT_FILE": str(settings.ca_bundle),
        "AWS_CA_BUNDLE": str(settings.ca_bundle),
        "REQUESTS_CA_BUNDLE": str(settings.ca_bundle),
    }


def _only_emulated_aws(settings: Settings) -> dict[str, str]:
    """What keeps an AWS client from finding a real account: files, profiles, instance metadata."""
    return {
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _require_packages() -> None:
    try:
        installed = version("ministack")
        version("cryptography")
    except PackageNotFoundError as error:
        raise EmulatorError(
            f"The package {error.name} is missing: pip install --require-hashes -r requirements/main.txt"
        ) from error
    if installed != PINNED_VERSION:
        raise EmulatorError(
            f"ministack {installed} is installed, and the extension is written for {PINNED_VERSION}: "
            "pip install --require-hashes -r requirements/main.txt"
        )


def _record_path(state_dir: Path) -> Path:
    return state_dir / "emulator.json"


def _record(settings: Settings, pid: int | None) -> None:
    record = {
        "pid": pid,
        "port": settings.port,
        "region": settings.region,
        "endpoint_url": settings.endpoint_url,
        "ca_bundle": str(settings.certificate),
    }
    path = _record_path(settings.state_dir)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(record, indent=2))
    unfinished.replace(path)


def _recorded(state_dir: Path) -> dict[str, int]:
    path = _record_path(state_dir)
    return json.loads(path.read_text()) if path.exists() else {}


def _settings(state_dir: Path) -> Settings | None:
    recorded = _recorded(state_dir)
    return Settings(state_dir.resolve(), recorded["port"], str(recorded["region"])) if recorded else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _is_healthy(settings: Settings) -> bool:
    try:
        trust = ssl.create_default_context(cafile=str(settings.certificate))
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with direct.open(f"{settings.endpoint_url}/_ministack/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _wait_until_healthy(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last_lines = settings.log_path.read_text().strip().splitlines()[-3:]
            raise EmulatorError("The emulator did not start: " + "\n".join(last_lines))
        if _is_healthy(settings):
            return
        time.sleep(0.1)
    _terminate(process.pid)
    raise EmulatorError(f"The emulator did not answer within {START_SECONDS:.0f} s; see {settings.log_path}.")


def _is_alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        # A child of this very process stays a zombie, which would look alive, until it is waited for.
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _terminate(pid: int) -> None:
    """SIGTERM, then SIGKILL for what is left of the process group (workers, Spark)."""
    try:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
