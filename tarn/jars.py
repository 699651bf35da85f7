"""Deequ's jars: fetched by coordinate with this machine's own Maven client, and held to their SHA-256.

``requirements/jars.txt`` pins them. They are kept in ``.venvs/jars``, where a second run only reads them again.
``python -m tarn.jars fetch`` is what the build calls.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINS = ROOT / "requirements" / "jars.txt"
FOLDER = ROOT / ".venvs" / "jars"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
"""``copy`` takes exactly the artifact it is told to: Spark ships what the jars depend on."""
TIME_LIMIT_SECONDS = 600
REMEDY = "`make demo QUALITY=off` runs the rest of the lake, without quality rules"


class JarError(Exception):
    """A jar cannot be had; the message names its coordinate, the reason in one line, and what to do."""


@dataclass(frozen=True)
class Pin:
    """One line of ``requirements/jars.txt``."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def parameter(self) -> str:
        """The root template's parameter for the jar's key: ``DeequJarKey`` for ``deequ``."""
        return f"{self.artifact.capitalize()}JarKey"


def read_pins(text: str) -> list[Pin]:
    """The jars that ``text`` pins; ``#`` begins a comment.

    Raises:
        JarError: a line is not ``group:artifact:version sha256:<64 hex characters>``.
    """
    lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [_pin(number, line) for number, line in lines if line]


def fetch(pins_file: Path = PINS, folder: Path = FOLDER) -> dict[str, Path]:
    """The pinned jars by their template parameter; those that are not in ``folder`` yet are fetched.

    Raises:
        JarError: Maven or Java is missing, the client cannot get a jar, or its bytes are not the pinned ones.
    """
    pins = read_pins(pins_file.read_text())
    for pin in pins:
        if not _is_there(pin, folder / pin.file_name):
            _fetch(pin, folder)
    return {pin.parameter: folder / pin.file_name for pin in pins}


def _pin(number: int, line: str) -> Pin:
    found = re.fullmatch(r"([^:\s]+):([^:\s]+):([^:\s]+)\s+sha256:([0-9a-f]{64})", line)
    if not found:
        raise JarError(f"{PINS.name}, line {number}: {line!r} is not 'group:artifact:version  sha256:<hex>'")
    return Pin(*found.groups())


def _is_there(pin: Pin, file: Path) -> bool:
    return file.exists() and sha256(file.read_bytes()).hexdigest() == pin.sha256


def _fetch(pin: Pin, folder: Path) -> None:
    for program, package in (("java", "a Java 17 runtime"), ("mvn", "Apache Maven")):
        if shutil.which(program) is None:
            raise JarError(
                f"{pin.coordinate} cannot be fetched: {program} is not on PATH. Install {package}, or: {REMEDY}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        # in an empty folder, so that no pom.xml around it has a say
        command = ["mvn", "-B", "-q", PLUGIN, f"-Dartifact={pin.coordinate}", f"-DoutputDirectory={fresh}"]
        try:
            done = subprocess.run(
                command, cwd=fresh, capture_output=True, text=True, timeout=TIME_LIMIT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise JarError(f"{pin.coordinate}: mvn did not end in {TIME_LIMIT_SECONDS} s. {REMEDY}") from error
        if done.returncode != 0:
            raise JarError(f"{pin.coordinate} cannot be fetched: {client_reason(done.stdout + done.stderr)}. {REMEDY}")
        jar = Path(fresh) / pin.file_name
        if not _is_there(pin, jar):
            found = sha256(jar.read_bytes()).hexdigest() if jar.exists() else "no file"
            raise JarError(f"{pin.coordinate}: its SHA-256 should be {pin.sha256} and is {found}. {REMEDY}")
        jar.replace(folder / pin.file_name)


def client_reason(output: str) -> str:
    """Maven's own reason, in one line without its goal, colours and help."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    errors = [line.partition("[ERROR]")[2].strip() for line in plain.splitlines() if "[ERROR]" in line]
    first = next((line for line in errors if line), plain.strip().splitlines()[-1] if plain.strip() else "no reason")
    return re.sub(r"^Failed to execute goal .*? on project \S+: | -> \[Help 1\]$|\.$", "", first)


def main(arguments: list[str]) -> int:
    """``fetch``: fetch what is missing, quietly when nothing is."""
    if arguments != ["fetch"]:
        print("usage: python -m tarn.jars fetch", file=sys.stderr)
        return 2
    try:
        fetch()
    except JarError as error:
        print(f"tarn: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
