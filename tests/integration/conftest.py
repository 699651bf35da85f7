"""One emulator for all integration tests of a worker, and what a test does with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tarn.local import emulator as local
from tarn.local.emulator import Emulator
from tests.integration.local_world import Roles, Stacks, client_of


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A running emulator in a folder of its own."""
    folder = tmp_path_factory.mktemp("emulator")
    yield local.start(folder)
    local.stop(folder, purge=True)


@pytest.fixture(scope="session")
def client(emulator: Emulator) -> Callable[[str], Any]:
    """Clients of the administrator, by the name of the service."""
    return cache(lambda service: client_of(emulator, service))


@pytest.fixture(scope="session")
def stacks(emulator: Emulator, client: Callable[[str], Any]) -> Stacks:
    """Deploy, look and delete."""
    return Stacks(emulator, client)


@pytest.fixture(scope="session")
def roles(emulator: Emulator, client: Callable[[str], Any]) -> Roles:
    """Make roles, and act as them."""
    return Roles(emulator, client)
