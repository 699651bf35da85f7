"""The delivery pipeline without an account: pushes to a clone, the real ``buildspec.yml``, the embedded AWS.

``make pipeline-test`` runs it and prints a table. As CodePipeline does, each push is one commit's files without its
repository; the project `check` builds and tests them, and its artifact is the source of the project `deploy`.

What is quicker than there, and why it proves the same:

- The environments are not installed from the index for each build: where the locks are those of the working copy, a
  build gets a hard-linked copy of its environments, made the build's own. Other locks are installed by ``make setup``.
- ``make check`` runs for the first push and for the one that fails a test. The others take the artifact that it would
  give: the files of their commit, with what the first push built (its locks are theirs).
- Deequ is off in what is deployed: nothing here judges data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from rich.console import Console

from tarn import screen, templates
from tarn.lake import Lake
from tarn.local import codebuild, emulator
from tarn.local.codebuild import Build, BuildspecError, Project

ROOT = templates.ROOT
ENVIRONMENT = "local"
STACK = f"tarn-{ENVIRONMENT}"
SAMPLE = ROOT / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"
LOCKS = (
    *(
        f"requirements/{name}.txt"
        for name in ("main", "sam", "checkov", "workflows", "taskcat", "awscli", "runtime", "jars")
    ),
    "pyproject.toml",
)
ENVIRONMENTS = (".venv", *(f".venvs/{name}" for name in ("sam", "checkov", "workflows", "taskcat", "awscli", "jars")))
STAGED_SECONDS = 120.0
MOST_SHOWN = 600
"""Characters of the text of an approval, which shows at most 1,000 with what else is in it."""
FAILING_TEST = '''"""A test that fails, so that nothing is deployed."""


def test_the_pushed_change_is_wrong() -> None:
    assert sum([1, 1]) == 3
'''


@dataclass(frozen=True)
class Row:
    """A line of the table: what was pushed, what should come of it, and what came of it (empty: just that)."""

    push: str
    expected: str
    failure: str
    seconds: float


@dataclass
class Delivery:
    """A repository, the projects that build its pushes, and the account that they deploy to."""

    folder: Path
    session: boto3.Session
    variables: dict[str, str]
    built: Path | None = None
    builds: int = 0
    files: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def repository(self) -> Path:
        """Where an engineer works, and pushes from."""
        return self.folder / "repository"

    def push(self, message: str, change: Callable[[Path], None]) -> str:
        """Commit a change; gives the commit."""
        change(self.repository)
        git(self.repository, "add", "--all")
        git(self.repository, "commit", "--quiet", "--message", message)
        return git(self.repository, "rev-parse", "HEAD")

    def undo(self) -> None:
        """Push the commit before the last one again, as a revert does."""
        git(self.repository, "revert", "--no-edit", "HEAD")

    def source(self, commit: str) -> Path:
        """A commit's files alone: what CodePipeline hands to its first build."""
        folder = self.folder / "sources" / commit
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", commit], cwd=self.repository, capture_output=True, check=True)
        subprocess.run(["tar", "--extract"], cwd=folder, input=archive.stdout, check=True)
        return folder

    def check(self, commit: str) -> Build:
        """The project `check`, whole."""
        build = self.build("check", commit, self.source(commit))
        if build.succeeded:
            self.built = build.artifact
        return build

    def as_checked(self, commit: str) -> Path:
        """The artifact that `check` would give for a commit: its files, and what was built from the same locks."""
        assert self.built is not None, "no push has been checked yet"
        folder = self.source(commit)
        assert locks(folder) == locks(self.built), "the locks changed: check must run"
        shutil.copytree(self.built / "build", folder / "build", dirs_exist_ok=True)
        return folder

    def build(self, stage: str, commit: str, source: Path, **overrides: str) -> Build:
        """One project of the delivery pipeline, on the artifact that it gets; ``overrides`` are of this build alone."""
        self.builds += 1
        project = Project(
            f"tarn-{stage}",
            variables={"TARN_STAGE": stage, "TARN_ENVIRONMENT": ENVIRONMENT},
            overrides={} if stage == "check" else {"QUALITY": "off", **overrides},
        )
        return codebuild.run(
            (source / "buildspec.yml").read_text(),
            source,
            self.folder / "builds" / f"{self.builds:02}-{stage}",
            project,
            environment=self.variables,
            source_version=commit,
            prepare=give_environments,
        )

    def deploy(self, commit: str, source: Path | None = None, **overrides: str) -> Build:
        """The project `deploy`."""
        return self.build("deploy", commit, source or self.as_checked(commit), **overrides)

    def stack(self) -> Any:
        """The root stack, as CloudFormation tells it."""
        return self.session.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]

    def updated(self) -> datetime | None:
        """When the stack was last touched; None where there is none."""
        with contextlib.suppress(self.session.client("cloudformation").exceptions.ClientError):
            found = self.stack()
            return found.get("LastUpdatedTime", found["CreationTime"])
        return None

    def takes_files(self) -> None:
        """Land a file, and see it staged."""
        self.files += 1
        lake = Lake(ENVIRONMENT, self.session)
        identity = lake.put("air", "airlines", SAMPLE, f"push-{self.files}.csv")
        until = time.monotonic() + STAGED_SECONDS
        while (state := (lake.object_row(identity) or {}).get("state")) != "STAGED":
            assert time.monotonic() < until, f"after {STAGED_SECONDS:.0f} s {identity} is {state}, not STAGED"
            time.sleep(0.5)

    def kept_days(self) -> set[int]:
        """How long the foundations keep their logs."""
        logs = self.session.client("logs")
        pages = logs.get_paginator("describe_log_groups").paginate()
        return {
            one["retentionInDays"]
            for page in pages
            for one in page["logGroups"]
            if "FoundationsStack" in one["logGroupName"]
        }

    @contextlib.contextmanager
    def row(self, push: str, expected: str) -> Iterator[None]:
        """One line of the table."""
        began, failure = time.monotonic(), ""
        try:
            yield
        except (AssertionError, BuildspecError) as error:
            failure = str(error) or repr(error)
        self.rows.append(Row(push, expected, failure, time.monotonic() - began))


def succeeded(build: Build) -> None:
    """A build must have succeeded; what it said last is told."""
    assert build.succeeded, f"{build.failure()}\n{tail(build)}"


def same(found: object, wanted: object) -> None:
    """What is found must be what is wanted."""
    assert found == wanted, f"{found}, not {wanted}"


def tail(build: Build) -> str:
    """The last lines of a build's log."""
    return "\n".join(build.log.read_text(errors="replace").splitlines()[-25:])


def said(build: Build, *words: str) -> None:
    """The log must have a line with all these words."""
    lines = build.log.read_text(errors="replace").splitlines()
    assert any(all(word in line for word in words) for line in lines), f"nothing of {words} in:\n{tail(build)}"


def failed_in(build: Build, phase: str) -> None:
    """A build must have failed in just this phase, and run no other after it."""
    statuses = {one.name: one.status for one in build.phases}
    assert statuses[phase] == "FAILED", f"{statuses}\n{tail(build)}"
    later = codebuild.PHASES[codebuild.PHASES.index(phase) + 1 :]
    assert {statuses[name] for name in later} <= {"SKIPPED"}, statuses


def play(delivery: Delivery) -> None:
    """Every push, in order: each finds what the ones before it left."""
    first(delivery)
    if delivery.built is None:
        return
    smoke(delivery)
    changed_template(delivery)
    nothing_changed(delivery)
    broken_template(delivery)
    failing_test(delivery)
    wrong_buildspecs(delivery)
    changed_by_the_cli(delivery)
    removed_dataset(delivery)


def first(delivery: Delivery) -> None:
    """Nothing stands yet: asset bucket, assets, stacks."""
    with delivery.row("first deployment", "checked, deployed; a file is staged"):
        commit = git(delivery.repository, "rev-parse", "HEAD")
        check = delivery.check(commit)
        succeeded(check)
        succeeded(delivery.deploy(commit, check.artifact))
        same(delivery.stack()["StackStatus"], "CREATE_COMPLETE")
        delivery.takes_files()


def changed_template(delivery: Delivery) -> None:
    """A parameter's default, seen in the lake afterwards."""
    with delivery.row("changes a template", "the approval shows it; deployed; seen in the lake"):
        same(delivery.kept_days(), {30})
        commit = delivery.push("Keep logs for 14 days", edit("template.yaml", "    Default: 30\n", "    Default: 14\n"))
        before = delivery.updated()
        difference = delivery.build("diff", commit, delivery.as_checked(commit))
        succeeded(difference)
        shown = difference.exported["TARN_CHANGES"]
        assert "(AWS::Logs::LogGroup): changed (RetentionInDays)" in shown, shown
        assert len(shown) <= MOST_SHOWN, "an approval would not show it whole"
        same(delivery.updated(), before)
        build = delivery.deploy(commit)
        succeeded(build)
        said(build, "FoundationsStack/IngestStack/", "AWS::Logs::LogGroup", "changed (RetentionInDays)")
        same(delivery.kept_days(), {14})
        delivery.takes_files()


def changed_by_the_cli(delivery: Delivery) -> None:
    """The other route: ``aws cloudformation package`` and ``deploy``, from the same files.

    Near the end: the two put what they package under other keys, so that a change of route changes every nested stack.
    """
    with delivery.row("changes a template, TARN_ROUTE=cloudformation", "deployed by the AWS CLI; seen in the lake"):
        same(delivery.kept_days(), {14})
        commit = delivery.push("Keep logs for 7 days", edit("template.yaml", "    Default: 14\n", "    Default: 7\n"))
        build = delivery.deploy(commit, TARN_ROUTE="cloudformation")
        succeeded(build)
        said(build, "Successfully created/updated stack")
        same(delivery.kept_days(), {7})
        delivery.takes_files()


def removed_dataset(delivery: Delivery) -> None:
    """Taken out of the root while a file is on its way; then named in the commit."""
    with delivery.row("removes a dataset with data in the way", "refused, nothing has changed; named, it goes"):
        delivery.takes_files()
        before = delivery.updated()
        gone = edit("template.yaml", block("  AirlinesDatasetStack:\n"), "")
        build = delivery.deploy(delivery.push("Remove the airlines", gone), TARN_ROUTE="cloudformation")
        failed_in(build, "build")
        said(build, "nothing has changed, deploying", "would lose data")
        said(build, "- AirlinesDatasetStack/DatasetStack/", "removed", " with ")
        same(delivery.updated(), before)
        named = f'\n[{ENVIRONMENT}.allow_loss]\n{STACK} = ["AirlinesDatasetStack"]\n'
        settings = delivery.repository / "samconfig.toml"
        commit = delivery.push("Let them go", lambda _: void(settings.write_text(settings.read_text() + named)))
        build = delivery.deploy(commit, TARN_ROUTE="cloudformation")
        succeeded(build)
        said(build, "left behind: files below s3://", "/air/airlines/")
        contract = Lake(ENVIRONMENT, delivery.session).contract
        assert "air/airlines" not in map(str, contract.datasets()), "it is still there"


def block(head: str) -> str:
    """A resource of the root, from its name to the blank line behind it."""
    text = (ROOT / "template.yaml").read_text()
    begin = text.index(head)
    return text[begin : text.index("\n\n", begin) + 2]


def smoke(delivery: Delivery) -> None:
    """A file through the whole lake, with the real transform; what failed would be told by its reason."""
    with delivery.row("smoke test of what was deployed", "a file is published"):
        commit = git(delivery.repository, "rev-parse", "HEAD")
        build = delivery.build("smoke", commit, delivery.as_checked(commit))
        succeeded(build)
        said(build, "PUBLISHED")


def nothing_changed(delivery: Delivery) -> None:
    """Only a text that is not deployed."""
    with delivery.row("changes nothing that is deployed", "succeeds; the stack is not touched"):
        before = delivery.updated()
        commit = delivery.push("Say so", edit("README.md", "# Tarn\n", "# Tarn\n\nA lake.\n"))
        build = delivery.deploy(commit)
        succeeded(build)
        said(build, f"{STACK}: nothing to change")
        same(delivery.updated(), before)


def broken_template(delivery: Delivery) -> None:
    """A registration that only the registrar can refuse: CloudFormation is half way when it does."""
    with delivery.row("breaks a template", "fails, names the leaf, rolls back; the lake takes files"):
        wrong = edit("datasets/air/airlines/template.yaml", "required", "reqired")
        build = delivery.deploy(delivery.push("Break a registration", wrong))
        failed_in(build, "build")
        said(build, "AirlinesDatasetStack/DatasetStack/", "failed:", "reqired")
        same(delivery.stack()["StackStatus"], "UPDATE_ROLLBACK_COMPLETE")
        same(delivery.kept_days(), {14})
        delivery.takes_files()
        delivery.undo()


def failing_test(delivery: Delivery) -> None:
    """`check` fails, so that `deploy` is never begun."""
    with delivery.row("fails a test", "nothing is deployed"):
        before = delivery.updated()
        failing = delivery.repository / "tests" / "unit" / "test_pushed.py"
        commit = delivery.push("Break a test", lambda _: void(failing.write_text(FAILING_TEST)))
        build = delivery.check(commit)
        failed_in(build, "build")
        said(build, "FAILED", "test_the_pushed_change_is_wrong")
        same(delivery.updated(), before)
        delivery.undo()


def wrong_buildspecs(delivery: Delivery) -> None:
    """An unknown key, and a failing command in each phase; in the stage that changes nothing."""
    before = delivery.updated()
    with delivery.row("buildspec.yml with an unknown key", "refused; nothing has run"):
        commit = delivery.push("Misspell a key", edit("buildspec.yml", "phases:\n", "fases: {}\nphases:\n"))
        try:
            delivery.build("diff", commit, delivery.as_checked(commit))
        except BuildspecError as error:
            assert "fases is no key" in str(error), error  # noqa: PT017 (this is no pytest)
        else:
            raise AssertionError("the unknown key was taken")
        delivery.undo()
    for phase in codebuild.PHASES:
        with delivery.row(f"buildspec.yml whose {phase} fails", "the build ends there"):
            command = f"      - make delivery-{phase.replace('_', '-')}\n"
            commit = delivery.push(f"Break {phase}", edit("buildspec.yml", command, f"      - 'false'\n{command}"))
            build = delivery.build("diff", commit, delivery.as_checked(commit))
            failed_in(build, phase)
            if phase == "post_build":  # the diff itself has been made, from packages in a folder of its own
                said(build, f"{STACK}: nothing to change")
            same(delivery.updated(), before)
            delivery.undo()


def void(_: object) -> None:
    """What a change gives."""


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of the first place in a file that has a text; a file without it is a failure of this test."""

    def change(repository: Path) -> None:
        path = repository / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1))

    return change


def git(folder: Path, *arguments: str) -> str:
    """What git answers."""
    settings = ("-c", "user.name=engineer", "-c", "user.email=engineer@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def clone(folder: Path) -> int:
    """Clone the repository; what the working copy has uncommitted is one more commit there. Gives how many files."""
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    gone = [name for name in git(folder, "ls-files").splitlines() if not (ROOT / name).exists()]
    for name in gone:
        (folder / name).unlink()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "add", "--all")
    changed = git(folder, "status", "--porcelain").splitlines()
    if changed:
        git(folder, "commit", "--quiet", "--message", "What is not committed yet")
    return len(changed)


def locks(folder: Path) -> list[bytes]:
    """What decides the contents of the environments."""
    return [(folder / name).read_bytes() for name in LOCKS]


def give_environments(folder: Path) -> None:
    """What a cache would bring: the working copy's environments, and Deequ's jars, if the locks are the same ones."""
    if locks(folder) != locks(ROOT):
        return
    (folder / ".venvs").mkdir()
    for name in ENVIRONMENTS:
        old, new = ROOT / name, folder / name
        subprocess.run(["cp", "--archive", "--link", str(old), str(new)], check=True)
        site = new / "lib" / "python3.11" / "site-packages"
        for file in [*new.glob("bin/*"), *site.glob("__editable__*"), new / ".ready"]:
            rehome(file, folder)


def rehome(file: Path, folder: Path) -> None:
    """Make a linked file that names the working copy the build's own; the working copy's must stay as it is."""
    if file.is_symlink() or not file.is_file():
        return
    content, mode = file.read_bytes(), file.stat().st_mode
    if str(ROOT).encode() in content or file.name == ".ready":
        file.unlink()
        file.write_bytes(content.replace(str(ROOT).encode(), str(folder).encode()))
        file.chmod(mode)


def run(folder: Path, console: Console) -> list[Row]:
    """Play all pushes in a folder, with an embedded AWS of its own; gives the rows of the table."""
    uncommitted = clone(folder / "repository")
    if uncommitted:
        console.print(f"{uncommitted} files of the working copy are not committed: they are the first push's.")
    state = folder / "lake"
    emulator.start(state)
    before = dict(os.environ)
    try:
        variables = emulator.command_environment(state)
        emulator.use(state)
        outside = {"TARN_ENVIRONMENT", "TARN_STATE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIRTUAL_ENV"}
        variables = {
            name: value
            for name, value in variables.items()
            if name not in outside and not name.startswith(("PYTEST_", "COV_"))
        }
        delivery = Delivery(folder, boto3.Session(), variables)
        play(delivery)
        return delivery.rows
    finally:
        os.environ.clear()
        os.environ.update(before)
        emulator.stop(state, purge=True)


def show(console: Console, rows: list[Row]) -> None:
    """The table, why what failed failed, and the closing line."""
    table = screen.table("", "push", "expected", "outcome", "seconds", numbers=("seconds",))
    for row in rows:
        table.add_row(row.push, row.expected, "FAILED" if row.failure else "passed", f"{row.seconds:.0f}")
    console.print(table)
    for row in rows:
        if row.failure:
            console.print(f"{row.push}: {row.failure}", markup=False, highlight=False)
    failed = sum(bool(row.failure) for row in rows)
    console.print(f"{len(rows) - failed} passed, {failed} failed", highlight=False)


def main() -> int:
    """Run in ``.tarn/pipeline-test`` (of the same disk, so that environments can be linked)."""
    console = Console(width=max(Console().width, 100))
    folder = ROOT / ".tarn" / "pipeline-test"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = run(folder, console)
    show(console, rows)
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
