"""The lock that a running emulator holds on its folder: the proof that it lives, whatever its pid was."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def hold(state_dir: Path) -> None:
    """Take the lock until this process ends; `BlockingIOError` when another emulator has it."""
    handle = os.open(_path(state_dir), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"another emulator runs in {state_dir}") from error


def is_held(state_dir: Path) -> bool:
    """Whether an emulator lives in this folder."""
    if not _path(state_dir).exists():
        return False
    with _path(state_dir).open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _path(state_dir: Path) -> Path:
    return state_dir / "lock"
