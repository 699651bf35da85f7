"""The commit hook refuses what would not deploy: `git commit` itself, in a fresh repository with these files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tarn.templates import ROOT

COPIED = (".pre-commit-config.yaml", ".cfnlintrc", "pyproject.toml", "foundations", "cicd", "tests/rules")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with a first commit and the hook installed; its environments are those of this checkout."""
    for name in COPIED:
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(ROOT / name, place) if (ROOT / name).is_dir() else shutil.copy(ROOT / name, place)
    for name in (".venv", ".venvs"):
        (tmp_path / name).symlink_to(ROOT / name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", *COPIED)
    git(tmp_path, "commit", "--quiet", "--message", "first")
    subprocess.run(
        [".venv/bin/pre-commit", "install"], cwd=tmp_path, env=environment(tmp_path), check=True, capture_output=True
    )
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    """No configuration of this machine's git, and a cache of its own for pre-commit."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    nobody = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**ours, **nobody, "GIT_CONFIG_GLOBAL": os.devnull, "PRE_COMMIT_HOME": str(folder.parent / "pre-commit")}


def git(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment(folder), check=check, capture_output=True, text=True
    )


def commit(folder: Path) -> subprocess.CompletedProcess[str]:
    return git(folder, "commit", "--all", "--message", "change", check=False)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("foundations/assets.yaml", "VersioningConfiguration:", "VersionConfiguration:", "VersionConfiguration"),
        ("cicd/store.yaml", "!GetAtt DeliveryKey.Arn", "!GetAtt NoSuchKey.Arn", "NoSuchKey"),
    ],
)
def test_a_bad_template_is_refused(clone, file, old, new, said) -> None:
    before = git(clone, "rev-parse", "HEAD").stdout
    replace(clone / file, old, new)
    done = commit(clone)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert git(clone, "rev-parse", "HEAD").stdout == before


def test_a_good_template_is_taken(clone) -> None:
    before = git(clone, "rev-parse", "HEAD").stdout
    replace(clone / "foundations" / "assets.yaml", "DaysAfterInitiation: 7", "DaysAfterInitiation: 8")
    done = commit(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cfn-lint" in done.stdout + done.stderr
    assert git(clone, "rev-parse", "HEAD").stdout != before
