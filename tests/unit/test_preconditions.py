"""prod is deployed from a commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tarn import preconditions
from tarn.preconditions import PreconditionError


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit."""
    monkeypatch.delenv("CODEBUILD_RESOLVED_SOURCE_VERSION", raising=False)
    (tmp_path / "template.yaml").write_text("a")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *settings, *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_commit_is_deployed(clone: Path) -> None:
    preconditions.check_tree("prod", clone)


@pytest.mark.parametrize("change", ["template.yaml", "new.yaml"])
def test_what_no_commit_has_is_refused_for_prod_alone(clone: Path, change: str) -> None:
    (clone / change).write_text("b")
    with pytest.raises(PreconditionError, match=rf"1 files differ from it \({change}\).*--allow-dirty"):
        preconditions.check_tree("prod", clone)
    preconditions.check_tree("prod", clone, allow_dirty=True)
    preconditions.check_tree("dev", clone)


def test_a_build_of_the_delivery_pipeline_has_a_commit_and_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CODEBUILD_RESOLVED_SOURCE_VERSION", raising=False)
    with pytest.raises(PreconditionError, match="is no clone"):
        preconditions.check_tree("prod", tmp_path)
    monkeypatch.setenv("CODEBUILD_RESOLVED_SOURCE_VERSION", "1234")
    preconditions.check_tree("prod", tmp_path)
