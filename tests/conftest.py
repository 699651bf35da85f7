"""Tests run side by side, a file at a time; the end-to-end tests share one lake, and so stay together."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group each test with those of its file; ``e2e`` is one group, and begins first: it waits the most."""
    for item in items:
        place = item.path.relative_to(HERE)
        item.add_marker(pytest.mark.xdist_group("e2e" if place.parts[0] == "e2e" else str(place)))
    items.sort(key=lambda item: item.path.relative_to(HERE).parts[0] != "e2e")
