"""Tests run side by side, a file at a time; those that share a lake stay together."""

from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
END_TO_END = ROOT / "tests" / "e2e"
# It looks back at what the roles asked for in all the other end-to-end tests.
LAST_END_TO_END = "test_least_privilege.py"

# The same examples at each run: what fails, fails again. TARN_EXPLORE looks further.
settings.register_profile("tarn", derandomize=True, database=None, print_blob=True)
settings.load_profile("tarn")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group each test with those of its file, or of its lake; end-to-end and slow ones wait most and begin first."""
    for item in items:
        lakes = {"demo", "standing"} & set(getattr(item, "fixturenames", ()))
        place = lakes.pop() if lakes else str(item.path.relative_to(ROOT))
        item.add_marker(pytest.mark.xdist_group(place))
    items.sort(
        key=lambda item: (
            END_TO_END not in item.path.parents and item.get_closest_marker("slow") is None,
            item.path.name == LAST_END_TO_END,
        )
    )
