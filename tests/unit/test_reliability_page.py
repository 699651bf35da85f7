"""docs/reliability.md names every mode of failure, and for each a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "tests" / "faults"
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.count(" | ") == 3]
TABLE = {cells[0].strip("| "): cells[2].strip("`") for cells in ROWS if cells[2].startswith("`test_")}
MODES = (
    "duplicate event",
    "out of order, overwrite, delete",
    "URL-encoded keys",
    "`s3:TestEvent`",
    "folder, zero-byte",
    "burst",
    "poison message",
    "throttling",
    "duplicate execution",
    "concurrent batches",
    "crash while claiming",
    "Glue at its concurrency limit",
    "partial write",
    "hot DynamoDB item",
    "redrive",
    "schema drift",
    "corrupt file",
    "KMS denial",
    "clock skew",
)
GENERAL = {"test_kill_between_calls.py", "test_kill_while_finishing.py"}


def words(text: str) -> set[str]:
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return set(re.findall(r"[a-z0-9]+", f"{text} {parted}".lower()))


def test_every_mode_has_its_row() -> None:
    assert tuple(TABLE) == MODES


@pytest.mark.parametrize("mode", MODES)
def test_the_test_of_a_mode_is_there_and_named_after_it(mode: str) -> None:
    tree = ast.parse((FAULTS / TABLE[mode]).read_text(encoding="utf-8"))
    assert [one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
    assert words(TABLE[mode].removesuffix(".py")) - {"test"} <= words(mode) | {"test"}


def test_no_test_of_a_fault_is_left_out() -> None:
    assert {path.name for path in FAULTS.glob("test_*.py")} - GENERAL == set(TABLE.values())
    assert all(name in PAGE for name in GENERAL)
