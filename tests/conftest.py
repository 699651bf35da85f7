"""Tests run side by side, a file at a time; the end-to-end tests share one lake, and so stay together."""

from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

# The same examples at each run: what fails, fails again. TARN_EXPLORE looks further.
settings.register_profile("tarn", derandomize=True, database=None, print_blob=True)
settings.load_profile("tarn")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group each test with those of its file; ``e2e`` is one group, and begins first: it waits the most."""
    for item in items:
        place = item.path.relative_to(HERE)
        item.add_marker(pytest.mark.xdist_group("e2e" if place.parts[0] == "e2e" else str(place)))
    items.sort(key=lambda item: item.path.relative_to(HERE).parts[0] != "e2e")
