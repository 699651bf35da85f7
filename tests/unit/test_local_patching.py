"""A name that MiniStack no longer has is a clear error, before anything is served."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from tarn.local.extension.patching import PINNED_VERSION, PlugPointMissing, original, replace


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("fake_service")
    made.__dict__.update(name="old", Worker=SimpleNamespace(wait=1))
    monkeypatch.setitem(sys.modules, "fake_service", made)
    return made


def test_replace_returns_what_stood_there(module: ModuleType) -> None:
    assert replace("fake_service", "name", "new") == "old"
    assert module.name == "new"


def test_a_dotted_name_reaches_into_a_class(module: ModuleType) -> None:
    assert replace("fake_service", "Worker.wait", 2) == 1
    assert module.Worker.wait == 2


@pytest.mark.parametrize(
    ("name_of_module", "name"),
    [("fake_service", "gone"), ("fake_service", "Gone.wait"), ("fake_service", "Worker.gone"), ("no.such.module", "x")],
)
def test_a_missing_name_is_named(module: ModuleType, name_of_module: str, name: str) -> None:
    with pytest.raises(PlugPointMissing, match=f"{name_of_module}.{name} is not there.*{PINNED_VERSION}"):
        original(name_of_module, name)


def test_a_missing_name_is_not_created(module: ModuleType) -> None:
    with pytest.raises(PlugPointMissing):
        replace("fake_service", "gone", 1)
    assert not hasattr(module, "gone")
