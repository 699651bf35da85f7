"""What stands for a container's image on a laptop: the Dockerfile that it is built from, without Docker.

An image whose repository is called after one of ``engines/*/Dockerfile`` is that one: its COPY instructions are done to
a folder of the run, and its ENTRYPOINT is what runs, with this environment's Python. What its RUN instructions install
is this environment's own, at the same versions (a test holds them together). Any other image is refused, as one that
cannot be pulled.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tarn.local.extension.program_runs import JobError, Program, environment
from tarn.local.extension.role_sessions import RoleSession
from tarn.templates import ROOT

ENGINES = ROOT / "engines"
IMAGES = {"tarn-engine-duckdb": "duckdb", "tarn-engine-notebook": "notebook"}
"""The engine's folder, by the last part of a repository's name."""


class ImageError(JobError):
    """The image is none of ours."""


@dataclass
class Image:
    """What a Dockerfile says of a run: files copied (from, to), environment, working directory, entry point."""

    entry_point: list[str] = field(default_factory=list)
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[Path, str]] = field(default_factory=list)

    def program(self, role: RoleSession, folder: Path, arguments: Sequence[str], given: dict[str, str]) -> Program:
        """The container's process, with its files below ``folder``."""
        root = folder / "root"
        (root / self.folder.lstrip("/")).mkdir(parents=True)
        for source, target in self.copies:
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        first, *rest = self.entry_point
        command = [sys.executable if first == "python" else first]
        command += [str(root / one.lstrip("/")) if one.startswith("/") else one for one in rest]
        own = environment(role, folder) | self.environment | given
        return Program([*command, *arguments], root / self.folder.lstrip("/"), own)


def image_of(uri: str) -> Image:
    """The image that a task or a job names.

    Raises:
        ImageError: it is none of ours, in ECS's words.
    """
    repository = re.sub(r"(@sha256:[0-9a-f]{64}|:[\w.-]+)$", "", uri).rpartition("/")[2]
    if (name := IMAGES.get(repository)) is None:
        known = ", ".join(sorted(IMAGES))
        raise ImageError(
            f"CannotPullContainerError: {uri}: there is no Docker here, only images called {known} can be run"
        )
    return read(ENGINES / name / "Dockerfile")


def read(dockerfile: Path) -> Image:
    """A Dockerfile whose context is the folder above its own."""
    image = Image()
    context = dockerfile.parents[1]
    for word, rest in instructions(dockerfile.read_text()):
        if word == "WORKDIR":
            image.folder = rest
        elif word == "ENV":
            image.environment |= dict(pair.split("=", 1) for pair in rest.split())
        elif word == "ENTRYPOINT":
            image.entry_point = json.loads(rest)
        elif word == "COPY":
            *sources, target = rest.split()
            image.copies += [(context / one, target + Path(one).name) for one in sources]
    return image


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, each with the rest of its line; continued lines are one."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        yield word, rest.strip()
