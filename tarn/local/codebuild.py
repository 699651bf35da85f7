"""CodeBuild on this machine: runs a real ``buildspec.yml`` phase by phase, as a build project would.

One shell lives through the whole build, as with buildspec version 0.2, so that ``cd`` and ``export`` last. A failing
command ends its phase, never silently: the phase's ``finally`` still runs, and then the transitions of CodeBuild
decide. What this runner does not perform is refused before anything runs; it is not ignored.

Sources: CodeBuild user guide, "Build specification reference for CodeBuild", "Environment variables in build
environments" and "View build details" (phase transitions).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import boto3
import yaml

PHASES = ("install", "pre_build", "build", "post_build")
SHELLS = ("sh", "bash")
ABORT, CONTINUE = "ABORT", "CONTINUE"
ANSWERS = 3
"""The shell's descriptor for the status of each command."""
KNOWN: Mapping[str, Any] = {
    "version": None,
    "env": {"shell": None, "variables": None, "parameter-store": None, "exported-variables": None},
    "phases": {
        phase: {"on-failure": None, "commands": None, "finally": None}
        | ({"runtime-versions": None} if phase == "install" else {})
        for phase in PHASES
    },
    "artifacts": {
        "name": None,
        "files": None,
        "base-directory": None,
        "exclude-paths": None,
        "discard-paths": None,
    },
    "reports": {},
}
"""Every key that is performed here. ``runtime-versions`` picks from an image, and this machine is one; the names of
report groups are free."""
REPORT = {"file-format": None, "files": None, "base-directory": None}


class BuildspecError(Exception):
    """The buildspec cannot be run; the message names the key, and nothing has run."""


@dataclass(frozen=True)
class Phase:
    """How a phase ended: SUCCEEDED, FAILED or SKIPPED, in seconds, and the command that failed."""

    name: str
    status: str
    seconds: float = 0.0
    failed_command: str = ""


@dataclass(frozen=True)
class Build:
    """A finished build: its phases in order, what it exported, and where its artifact is (None: not uploaded)."""

    phases: tuple[Phase, ...]
    exported: Mapping[str, str]
    artifact: Path | None
    log: Path

    @property
    def succeeded(self) -> bool:
        """Whether no phase failed."""
        return all(phase.status != "FAILED" for phase in self.phases)

    @property
    def seconds(self) -> float:
        """The time of all phases."""
        return sum(phase.seconds for phase in self.phases)

    def failure(self) -> str:
        """The first phase that failed and its command; empty where none did."""
        failed = next((phase for phase in self.phases if phase.status == "FAILED"), None)
        return f"{failed.name}: {failed.failed_command}" if failed else ""


@dataclass(frozen=True)
class Project:
    """A build project: its name, and the variables that its definition and the start of the build give."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)


def read(text: str) -> dict[str, Any]:
    """A buildspec as data.

    Raises:
        BuildspecError: it is not one that CodeBuild takes, or it asks for what is not performed here.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BuildspecError(f"the buildspec is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise BuildspecError("the buildspec is no mapping")
    _refuse_unknown(content, KNOWN, "")
    if str(content.get("version")) != "0.2":
        raise BuildspecError(f"version is {content.get('version')!r}: it must be 0.2")
    if not content.get("phases"):
        raise BuildspecError("phases is missing")
    for name, phase in content["phases"].items():
        _check_phase(name, phase)
    if (shell := (content.get("env") or {}).get("shell", "sh")) not in SHELLS:
        raise BuildspecError(f"env.shell is {shell!r}: it can be {' or '.join(SHELLS)}")
    for group, report in (content.get("reports") or {}).items():
        _refuse_unknown({group: report}, {group: REPORT}, "reports.")
    if "artifacts" in content:
        _lines(content["artifacts"].get("files"), "artifacts.files")
    return content


def run(
    buildspec: str,
    source: Path,
    workspace: Path,
    project: Project,
    *,
    environment: Mapping[str, str],
    secondary_sources: Mapping[str, Path] | None = None,
    source_version: str = "",
    prepare: Callable[[Path], None] = lambda _: None,
) -> Build:
    """Run a build of ``source`` and leave its artifact and its log in ``workspace``, a folder of this build alone.

    ``environment`` is the image's own; the precedence above it is the buildspec's variables, then the project's,
    then those that the build was started with. ``secondary_sources`` are further inputs by their name. ``prepare``
    puts into the source's folder what a cache or the image would.

    Raises:
        BuildspecError: nothing has run.
    """
    content = read(buildspec)
    workspace.mkdir(parents=True)
    folders = _sources(source, secondary_sources or {}, workspace)
    prepare(folders[""])
    variables = _variables(content, project, environment) | {
        **{f"CODEBUILD_SRC_DIR{f'_{name}' if name else ''}": str(folder) for name, folder in folders.items()},
        "CODEBUILD_BUILD_ID": f"{project.name}:{workspace.name}",
        "CODEBUILD_BUILD_ARN": f"arn:aws:codebuild:eu-west-1:000000000000:build/{project.name}:{workspace.name}",
        "CODEBUILD_BUILD_NUMBER": "1",
        "CODEBUILD_BUILD_URL": f"file://{workspace}/build.log",
        "CODEBUILD_BUILD_IMAGE": "this machine",
        "CODEBUILD_BUILD_SUCCEEDING": "1",
        "CODEBUILD_INITIATOR": "codepipeline/local",
        "CODEBUILD_KMS_KEY_ID": "alias/aws/s3",
        "CODEBUILD_LOG_PATH": str(workspace / "build.log"),
        "CODEBUILD_RESOLVED_SOURCE_VERSION": source_version,
        "CODEBUILD_SOURCE_VERSION": f"arn:aws:s3:::local/{project.name}",
        "CODEBUILD_START_TIME": str(int(time.time() * 1000)),
        "CI": "true",
    }
    env = content.get("env") or {}
    log = workspace / "build.log"
    with _Shell(env.get("shell", "sh"), folders[""], workspace, variables, log) as shell:
        phases = _run_phases(content["phases"], shell)
        exported = shell.values(_lines(env.get("exported-variables"), "env.exported-variables"))
    for group, report in (content.get("reports") or {}).items():
        _copy(report, folders[""], workspace / "reports" / group)
    ran = {phase.name: phase.status for phase in phases}
    artifact = None
    if "artifacts" in content and ran["build"] != "SKIPPED":
        artifact = _copy(content["artifacts"], folders[""], workspace / "artifact")
    return Build(phases, exported, artifact, log)


def _run_phases(phases: Mapping[str, Any], shell: _Shell) -> tuple[Phase, ...]:
    """In order; after a failure of install or pre_build nothing more runs, after one of build post_build does."""
    done: list[Phase] = []
    stopped = False
    for name in PHASES:
        if name not in phases or stopped:
            done.append(Phase(name, "SKIPPED"))
            continue
        began = time.monotonic()
        failed = shell.run(name, _lines(phases[name].get("commands"), name))
        failed_at_last = shell.run(name, _lines(phases[name].get("finally"), name))
        command = failed or failed_at_last
        seconds = time.monotonic() - began
        done.append(Phase(name, "FAILED" if command else "SUCCEEDED", seconds, command))
        if command:
            shell.tell_failure()
            policy = phases[name].get("on-failure")
            stopped = policy == ABORT or (policy is None and name != "build")
    return tuple(done)


class _Shell:
    """One shell for all commands. A command that ends the shell (``exit``) has failed if its status says so."""

    def __init__(self, name: str, folder: Path, workspace: Path, variables: Mapping[str, str], log: Path) -> None:
        self._name, self._folder, self._variables = name, folder, dict(variables)
        self._scripts = workspace / "commands"
        self._scripts.mkdir()
        self._count = 0
        self._log = log.open("ab")
        self._open()

    def __enter__(self) -> _Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._log.close()

    def _open(self) -> None:
        read_end, write_end = os.pipe()
        self._process = subprocess.Popen(
            # sh knows descriptors of one digit only
            ["bash", "-c", f"exec {self._name} {ANSWERS}>&{write_end} {write_end}>&-"],
            cwd=self._folder,
            env=self._variables,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
        )
        os.close(write_end)
        self._answers = os.fdopen(read_end)

    def _close(self) -> int:
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._answers.close()
        return self._process.wait()

    def run(self, phase: str, commands: Sequence[str]) -> str:
        """Run them until one fails; gives that one, or nothing."""
        for command in commands:
            self._say(f"[{phase}] Running command {command}")
            if (status := self._run(command)) != 0:
                self._say(f"[{phase}] Command did not exit successfully {command} exit status {status}")
                return command
        return ""

    def tell_failure(self) -> None:
        """As CodeBuild tells later phases that one has failed."""
        self._variables["CODEBUILD_BUILD_SUCCEEDING"] = "0"
        self._run("export CODEBUILD_BUILD_SUCCEEDING=0")

    def values(self, names: Sequence[str]) -> dict[str, str]:
        """What the build's variables are at its end."""
        file = self._scripts / "exported"
        if names:
            self._run("".join(f"printf '%s\\0' \"${{{name}-}}\" >> '{file}'\n" for name in names))
        return dict(zip(names, file.read_text().split("\0"), strict=False)) if names else {}

    def _run(self, command: str) -> int:
        self._count += 1
        script = self._scripts / f"{self._count}.sh"
        script.write_text(command + "\n")
        assert self._process.stdin is not None  # noqa: S101 (opened with a pipe)
        # The descriptor belongs to the shell alone: what a command leaves in the background must not hold it open.
        self._process.stdin.write(f". '{script}' </dev/null {ANSWERS}>&-\necho $? >&{ANSWERS}\n".encode())
        self._process.stdin.flush()
        if answer := self._answers.readline():
            return int(answer)
        status = self._close()
        self._open()
        return status

    def _say(self, line: str) -> None:
        self._log.write(f"[Container] {line}\n".encode())
        self._log.flush()


def _sources(source: Path, secondary: Mapping[str, Path], workspace: Path) -> dict[str, Path]:
    """Each input in a folder of its own, which the build may change; the primary one has no name."""
    found = {}
    for name, folder in {"": source, **secondary}.items():
        found[name] = workspace / f"src{f'-{name}' if name else ''}"
        shutil.copytree(folder, found[name], symlinks=True)
    return found


def _variables(content: Mapping[str, Any], project: Project, environment: Mapping[str, str]) -> dict[str, str]:
    env = content.get("env") or {}
    stored = {**(env.get("parameter-store") or {})}
    found = {**environment, **{name: str(value) for name, value in (env.get("variables") or {}).items()}}
    if stored:
        ssm = boto3.client("ssm")
        found |= {
            name: ssm.get_parameter(Name=place, WithDecryption=True)["Parameter"]["Value"]
            for name, place in stored.items()
        }
    return {**found, **project.variables, **project.overrides}


def _copy(chosen: Mapping[str, Any], source: Path, target: Path) -> Path:
    """Copy what the patterns name, as CodeBuild uploads it: under its path below the base directory."""
    base = source / chosen.get("base-directory", ".")
    wanted = [_pattern(one) for one in chosen["files"]]
    excluded = [_pattern(one) for one in chosen.get("exclude-paths") or ()]
    target.mkdir(parents=True)
    for folder, _, names in os.walk(base):  # which does not follow links
        for path in (Path(folder) / name for name in names):
            name = str(path.relative_to(base))
            if any(one.fullmatch(name) for one in wanted) and not any(one.fullmatch(name) for one in excluded):
                place = target / (path.name if chosen.get("discard-paths") in (True, "yes") else name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)
    return target


def _pattern(text: str) -> re.Pattern[str]:
    """``*`` is anything in one folder, ``**/`` any number of folders, also hidden ones."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", text)
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts))


def _refuse_unknown(content: Mapping[str, Any], known: Mapping[str, Any], place: str) -> None:
    for key, value in content.items():
        if key not in known:
            raise BuildspecError(f"{place}{key} is no key that is known here: it can be {', '.join(known)}")
        if known[key] and value is not None:
            if not isinstance(value, dict):
                _fail_type(f"{place}{key}", "a mapping", value)
            _refuse_unknown(value, known[key], f"{place}{key}.")


def _check_phase(name: str, phase: Any) -> None:
    if not isinstance(phase, dict):
        _fail_type(f"phases.{name}", "a mapping", phase)
    for key in ("commands", "finally"):
        _lines(phase.get(key), f"phases.{name}.{key}")
    if not phase.get("commands"):
        raise BuildspecError(f"phases.{name}.commands is missing")
    if (policy := phase.get("on-failure", ABORT)) not in (ABORT, CONTINUE):
        raise BuildspecError(f"phases.{name}.on-failure is {policy!r}: it can be {ABORT} or {CONTINUE}")


def _lines(value: Any, place: str) -> list[str]:
    """A list of text; CodeBuild refuses a command that YAML read as a mapping (an unquoted colon)."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        _fail_type(place, "a list of text", value)
    return list(value)


def _fail_type(place: str, wanted: str, value: Any) -> NoReturn:
    raise BuildspecError(f"{place} is {value!r}: it must be {wanted}")
