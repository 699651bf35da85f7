"""Kills a handler at one of its calls to AWS, before the service gets the call or after it has carried it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from botocore.client import BaseClient


class DiedError(BaseException):
    """The process is gone; no ``except Exception`` of its own sees it."""


@dataclass
class Death:
    """At which call, counted from 1, a process dies; and the calls that it made, that one included."""

    at: int
    after: bool
    calls: list[str] = field(default_factory=list)

    @property
    def came(self) -> bool:
        """Whether the process got as far as that call."""
        return len(self.calls) >= self.at


@contextmanager
def dying(death: Death) -> Iterator[None]:
    """Let what runs inside die at that call; what follows the block is another process."""
    real = BaseClient._make_api_call

    def call(client: BaseClient, operation: str, arguments: Any) -> Any:
        if death.came:
            raise DiedError
        death.calls.append(operation)
        if not death.came:
            return real(client, operation, arguments)
        if death.after:
            real(client, operation, arguments)
        raise DiedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        try:
            yield
        except DiedError:
            assert death.came


def at_each_call(work: Callable[[Death], None], after: bool) -> list[str]:
    """Do ``work`` with a death at its first call, its second, and so on; gives the calls of the one that lived."""
    for at in count(1):
        death = Death(at, after)
        work(death)
        if not death.came:
            return death.calls
    raise AssertionError("unreachable")


@dataclass
class Pause:
    """Before which call a process stands still while ``meanwhile`` happens; and what it did afterwards, as far as the
    service carried it out."""

    at: int
    meanwhile: Callable[[], None]
    calls: int = 0
    done_after: list[str] = field(default_factory=list)

    @property
    def came(self) -> bool:
        """Whether the process got as far as that call."""
        return self.calls >= self.at


@contextmanager
def pausing(pause: Pause) -> Iterator[None]:
    """Let what runs inside stand still before that call, until ``meanwhile`` has been done."""
    real, stands_still = BaseClient._make_api_call, False

    def call(client: BaseClient, operation: str, arguments: Any) -> Any:
        nonlocal stands_still
        if not stands_still and not pause.came:
            pause.calls += 1
            if pause.came:
                stands_still = True
                pause.meanwhile()
                stands_still = False
        answer = real(client, operation, arguments)
        if pause.came and not stands_still:
            pause.done_after.append(operation)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        yield
