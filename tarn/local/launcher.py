"""The emulator's process: `python -m tarn.local.launcher`.

Installs the extension, which looks up every name that it patches before anything is served, and
runs MiniStack's application. `tarn.local.emulator` makes the environment that is read here.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop

from tarn.local import extension, lock
from tarn.local.extension.patching import PlugPointMissing, original, require
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local")
SAVE_ATTEMPTS = 5
# One line for each service at each save, and a complaint about the SAM translator's own metrics.
NOISY_LOGGERS = {"persistence": logging.WARNING, "samtranslator.metrics.metrics": logging.ERROR}
FEW_COLLECTIONS = (50_000, 20, 50)
"""What the emulator stores lives as long as it: looking for garbage among it took half of its time."""

SWITCH_SECONDS = 0.0005
"""Python's own is ten times as long: so long every answer waits, at each of its system calls, for each busy thread."""


def main() -> int:
    """Serve until SIGTERM; 1 with one line of reason when that is not possible."""
    settings = Settings.from_environment()
    try:
        lock.hold(settings.state_dir)
        require("ministack.app", "app", "_build_persistence_save_dict")
        require("ministack.core.persistence", "save_state")
        extension.install(settings)
    except (PlugPointMissing, BlockingIOError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(*FEW_COLLECTIONS)
    for name, level in NOISY_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(
        target=_keep_saved, args=(settings.autosave_seconds, stopping), name="tarn-autosave", daemon=True
    ).start()
    # MiniStack's application on loopback alone (its own `main` also takes port 443, if free)
    config = uvicorn.Config(
        original("ministack.app", "app"),
        host="127.0.0.1",
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.certificate_key,
        http="httptools",
        timeout_keep_alive=75,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        date_header=False,
    )
    uvloop.run(_Server(config).serve())
    return 0


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not at all: `_keep_saved` ends the process."""
        yield


def _keep_saved(seconds: float, stopping: threading.Event) -> None:
    """Save on a timer, so that a killed emulator loses seconds only; save and leave on SIGTERM.

    Leaving at once is on purpose: the server's own way waits for the TLS farewell of each idle
    connection, up to 25 s.
    """
    while not stopping.wait(seconds):
        save_state()
    save_state()
    os._exit(0)


def save_state() -> None:
    """Write the state of every service that was used.

    A store can change while it is copied, which is an error of that copy only: try again.
    """
    services: dict[str, Any] = original("ministack.app", "_build_persistence_save_dict")()
    save = original("ministack.core.persistence", "save_state")
    for name, get_state in services.items():
        for attempt in range(1, SAVE_ATTEMPTS + 1):
            try:
                state = get_state()
            except RuntimeError as error:
                log = logger.error if attempt == SAVE_ATTEMPTS else logger.debug
                log("state of %s not saved (attempt %d): %s", name, attempt, error)
            else:
                if state is not None:
                    save(name, state)
                break


if __name__ == "__main__":
    sys.exit(main())
