"""Pushes through the real buildspec.yml, against the embedded AWS: what ``make pipeline-test`` runs."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from tests.delivery import pipeline
from tests.delivery.pipeline import Row


@pytest.mark.slow
def test_every_push_has_the_outcome_that_it_should() -> None:
    assert pipeline.main() == 0


def test_an_environment_that_a_build_gets_is_its_own(tmp_path: Path) -> None:
    """What it links to names the working copy, which must stay as it is."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text(f"#!{pipeline.ROOT}/.venv/bin/python\n")
    ours.chmod(0o755)
    os.link(ours, theirs)
    pipeline.rehome(theirs, tmp_path / "build")
    assert theirs.read_text() == f"#!{tmp_path}/build/.venv/bin/python\n"
    assert os.access(theirs, os.X_OK)
    assert ours.read_text() == f"#!{pipeline.ROOT}/.venv/bin/python\n"


def test_a_change_that_finds_nothing_to_change_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("Default: 30\n")
    with pytest.raises(AssertionError, match="has no 'Default: 31'"):
        pipeline.edit("a.yaml", "Default: 31", "Default: 14")(tmp_path)


def test_the_table_closes_with_what_passed_and_failed() -> None:
    screen = io.StringIO()
    rows = [Row("first", "deployed", "", 61.4), Row("second", "fails", "it [did] not", 2.0)]
    pipeline.show(Console(file=screen, width=100), rows)
    lines = screen.getvalue().splitlines()
    assert lines[-2:] == ["second: it [did] not", "1 passed, 1 failed"]
