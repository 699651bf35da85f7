"""A build as CodeBuild runs it: phases, their failures, ``finally``, variables, artifacts; unknown keys."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tarn import templates
from tarn.local import codebuild
from tarn.local.codebuild import Build, BuildspecError, Project
from tests.mocked_aws import mocked_aws

IMAGE = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
TEMPLATE = """
version: 0.2
phases:
  install: {{ commands: ['{install}'], finally: ['echo end of install'] }}
  pre_build: {{ commands: ['{pre_build}'], finally: ['echo end of pre_build'] }}
  build: {{ commands: ['{build}', 'echo after build'], finally: ['echo end of build'] }}
  post_build: {{ commands: ['{post_build}'], finally: ['echo end of post_build'] }}
artifacts: {{ files: ['**/*'] }}
"""


def build(text: str, folder: Path, source: Path | None = None, **project) -> Build:
    if source is None:
        source = folder / "repository"
        source.mkdir()
        (source / "kept.txt").write_text("kept")
    return codebuild.run(text, source, folder / "work", Project("deploy", **project), environment=IMAGE)


def spoken(done: Build) -> list[str]:
    return [line for line in done.log.read_text().splitlines() if not line.startswith("[Container]")]


def phases(**failing: str) -> str:
    return TEMPLATE.format(**{name: failing.get(name, f"echo {name}") for name in codebuild.PHASES})


def test_phases_run_in_order_in_one_shell(tmp_path: Path) -> None:
    text = """
version: 0.2
phases:
  install: { commands: ['export WORD=said', 'mkdir below', 'cd below'] }
  build: { commands: ['echo $WORD in $(basename $PWD) >../out.txt', 'read line || echo nothing to read'] }
artifacts: { files: [out.txt] }
"""
    done = build(text, tmp_path)
    assert done.succeeded
    assert done.artifact is not None
    assert (done.artifact / "out.txt").read_text() == "said in below\n"
    assert spoken(done) == ["nothing to read"]
    assert [phase.status for phase in done.phases] == ["SUCCEEDED", "SKIPPED", "SUCCEEDED", "SKIPPED"]


@pytest.mark.parametrize(
    ("failing", "statuses", "said"),
    [
        ("install", ["FAILED", "SKIPPED", "SKIPPED", "SKIPPED"], ["end of install"]),
        (
            "pre_build",
            ["SUCCEEDED", "FAILED", "SKIPPED", "SKIPPED"],
            ["install", "end of install", "end of pre_build"],
        ),
        (
            "build",
            ["SUCCEEDED", "SUCCEEDED", "FAILED", "SUCCEEDED"],
            [
                *("install", "end of install", "pre_build", "end of pre_build"),
                *("end of build", "post_build", "end of post_build"),
            ],
        ),
        (
            "post_build",
            ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "FAILED"],
            [
                *("install", "end of install", "pre_build", "end of pre_build"),
                *("build", "after build", "end of build", "end of post_build"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("command", ["false", "exit 3", "no-such-command-at-all 2>/dev/null"])
def test_a_failing_command_ends_its_phase(tmp_path: Path, failing: str, statuses, said, command: str) -> None:
    done = build(phases(**{failing: command}), tmp_path)
    assert not done.succeeded
    assert done.failure() == f"{failing}: {command}"
    assert [phase.status for phase in done.phases] == statuses
    assert spoken(done) == said
    # what was built is uploaded to look at, unless nothing was built
    assert (done.artifact is None) == (failing in ("install", "pre_build"))


def test_a_failing_finally_fails_the_phase(tmp_path: Path) -> None:
    done = build("version: 0.2\nphases: {install: {commands: [echo a], finally: ['false', echo b]}}", tmp_path)
    assert (done.failure(), spoken(done)) == ("install: false", ["a"])


@pytest.mark.parametrize(
    ("phase", "policy", "then"),
    [
        ("install", "CONTINUE", True),
        ("install", "ABORT", False),
        ("build", "ABORT", False),
        ("build", "CONTINUE", True),
    ],
)
def test_on_failure_decides_what_runs_next(tmp_path: Path, phase: str, policy: str, then: bool) -> None:
    text = f"""
version: 0.2
phases:
  {phase}: {{ on-failure: {policy}, commands: ['false'] }}
  post_build: {{ commands: ['echo succeeding $CODEBUILD_BUILD_SUCCEEDING'] }}
"""
    done = build(text, tmp_path)
    assert not done.succeeded
    assert spoken(done) == (["succeeding 0"] if then else [])


def test_the_start_of_a_build_wins_over_the_project_and_this_over_the_buildspec(tmp_path: Path) -> None:
    text = """
version: 0.2
env:
  variables: { A: buildspec, B: buildspec, C: buildspec, HOME: buildspec }
  exported-variables: [A, B, C, HOME, D]
phases: { build: { commands: ['export D="two words $CODEBUILD_RESOLVED_SOURCE_VERSION"'] } }
"""
    done = build(text, tmp_path, variables={"B": "project", "C": "project"}, overrides={"C": "start"})
    assert dict(done.exported) == {
        "A": "buildspec",
        "B": "project",
        "C": "start",
        "HOME": "buildspec",
        "D": "two words ",
    }


def test_parameters_are_read_from_the_parameter_store(tmp_path: Path) -> None:
    with mocked_aws():
        boto3.client("ssm").put_parameter(Name="/cicd/word", Value="stored", Type="String")
        text = """
version: 0.2
env: { parameter-store: { WORD: /cicd/word }, variables: { WORD: plain } }
phases: { build: { commands: ['echo $WORD'] } }
"""
        assert spoken(build(text, tmp_path)) == ["stored"]


def test_the_source_is_a_copy_and_names_itself(tmp_path: Path) -> None:
    text = """
version: 0.2
phases: { build: { commands: ['echo changed > $CODEBUILD_SRC_DIR/kept.txt', 'test "$PWD" = "$CODEBUILD_SRC_DIR"'] } }
"""
    assert build(text, tmp_path).succeeded
    assert (tmp_path / "repository" / "kept.txt").read_text() == "kept"


def test_another_project_gets_the_artifact_as_a_second_source(tmp_path: Path) -> None:
    first = build("version: 0.2\nphases: {build: {commands: [mkdir out, echo 1 > out/a]}}\n"
                  "artifacts: {base-directory: out, files: ['**/*']}", tmp_path)  # fmt: skip
    assert first.artifact is not None
    second = codebuild.run(
        "version: 0.2\nphases: {build: {commands: [cat $CODEBUILD_SRC_DIR_check/a]}}",
        tmp_path / "repository",
        tmp_path / "second",
        Project("next"),
        environment=IMAGE,
        secondary_sources={"check": first.artifact},
    )
    assert spoken(second) == ["1"]


def test_artifacts_are_what_the_patterns_name(tmp_path: Path) -> None:
    source = tmp_path / "repository"
    for name in ("out/a.txt", "out/deep/b.txt", "out/deep/c.log", "other.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    text = """
version: 0.2
phases: { build: { commands: ['true'] } }
artifacts: { base-directory: out, files: ['**/*'], exclude-paths: ['**/*.log'] }
"""
    done = build(text, tmp_path, source)
    assert done.artifact is not None
    names = sorted(str(path.relative_to(done.artifact)) for path in done.artifact.rglob("*") if path.is_file())
    assert names == ["a.txt", "deep/b.txt"]


def test_reports_are_kept_also_of_a_build_that_fails(tmp_path: Path) -> None:
    text = """
version: 0.2
phases: { build: { commands: ['mkdir out; echo 1 > out/a.xml; echo 2 > out/a.log', 'false'] } }
reports: { tests: { file-format: JUNITXML, base-directory: out, files: ['*.xml'] } }
"""
    build(text, tmp_path)
    assert [path.name for path in (tmp_path / "work" / "reports" / "tests").iterdir()] == ["a.xml"]


def test_the_buildspec_of_this_repository_is_understood() -> None:
    codebuild.read((templates.ROOT / "buildspec.yml").read_text())


def test_what_a_command_leaves_behind_does_not_hold_the_build(tmp_path: Path) -> None:
    done = build("version: 0.2\nphases: {build: {commands: ['sleep 30 & true']}}", tmp_path)
    assert done.succeeded
    assert done.seconds < 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 0.2\nphase: {}", "phase is no key that is known here"),
        ("version: 0.2\nphases: {build: {command: [ls]}}", "phases.build.command is no key"),
        ("version: 0.2\nphases: {test: {commands: [ls]}}", "phases.test is no key"),
        ("version: 0.2\nphases: {build: {commands: [ls], runtime-versions: {}}}", "phases.build.runtime-versions"),
        ("version: 0.2\nenv: {secrets: {}}\nphases: {build: {commands: [ls]}}", "env.secrets is no key"),
        ("version: 0.2\nphases: {build: {commands: [ls]}}\nartifacts: {file: [a]}", "artifacts.file is no key"),
        (
            "version: 0.2\nphases: {build: {commands: [ls]}}\nreports: {unit: {file: [a]}}",
            "reports.unit.file is no key",
        ),
        ("version: 0.2\ncache: {paths: [a]}\nphases: {build: {commands: [ls]}}", "cache is no key"),
        ("version: 0.2\nphases: {build: {commands: [ls], on-failure: STOP}}", "'STOP': it can be ABORT or CONTINUE"),
        ("version: 0.2\nphases: {build: {commands: [echo a: b]}}", "phases.build.commands is"),
        ("version: 0.2\nphases: {build: {commands: ls}}", "it must be a list of text"),
        ("version: 0.2\nphases: {build: {finally: [ls]}}", "phases.build.commands is missing"),
        ("version: 0.1\nphases: {build: {commands: [ls]}}", "version is 0.1"),
        ("version: 0.2", "phases is missing"),
        ("version: 0.2\nenv: {shell: zsh}\nphases: {build: {commands: [ls]}}", "env.shell is 'zsh'"),
        ("- a", "no mapping"),
    ],
)
def test_what_is_not_understood_is_refused_before_anything_runs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BuildspecError, match=message.replace("{", r"\{")):
        build(text.replace("ls", "touch ran"), tmp_path)
    assert not (tmp_path / "work").exists()
