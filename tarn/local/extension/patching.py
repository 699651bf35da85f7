"""Replace private names of MiniStack, and say clearly when one is not there.

MiniStack releases often and the names that we plug into are private, so its version is pinned
(`requirements/main.in`) and every patched name is looked up before anything is replaced: a name
that moved stops the start with its module, its name and the version that has it.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PINNED_VERSION = "1.5.33"
_ABSENT = object()


class PlugPointMissing(RuntimeError):  # noqa: N818 - says what is wrong
    """A name that the extension replaces is not in the MiniStack that is installed."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(
            f"{module}.{name} is not there: the extension is written for ministack=={PINNED_VERSION}, "
            f"and {_installed()} is installed. Install the pinned one (requirements/main.txt), "
            f"or adapt the plug point that names it."
        )


def original(module: str, name: str) -> Any:
    """What `module` has under `name` (dots reach into classes), or `PlugPointMissing`."""
    owner, attribute = _owner(module, name)
    value = getattr(owner, attribute, _ABSENT)
    if value is _ABSENT:
        raise PlugPointMissing(module, name)
    return value


def replace(module: str, name: str, new: object) -> Any:
    """Put `new` in the place of `module.name`, which must exist, and return what stood there."""
    old = original(module, name)
    owner, attribute = _owner(module, name)
    setattr(owner, attribute, new)
    return old


def require(module: str, *names: str) -> None:
    """Look up names that are used later, so that one that is missing stops the start and not a request."""
    for name in names:
        original(module, name)


def _owner(module: str, name: str) -> tuple[Any, str]:
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise PlugPointMissing(module, name) from error
    *path, attribute = name.split(".")
    for step in path:
        owner = getattr(owner, step, _ABSENT)
    return owner, attribute


def _installed() -> str:
    try:
        return f"ministack {version('ministack')}"
    except PackageNotFoundError:
        return "no ministack"
