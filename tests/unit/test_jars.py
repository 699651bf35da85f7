"""Deequ's jars: what is pinned, and what a person reads when one cannot be had."""

from hashlib import sha256
from pathlib import Path

import pytest

from tarn import jars

CONTENT = b"a jar"
PIN = f"org.example:thing:1.0  sha256:{sha256(CONTENT).hexdigest()}  # why\n"


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    file = tmp_path / "jars.txt"
    file.write_text("# jars\n\n" + PIN)
    return file


def client(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a Maven client on PATH that does what ``body`` says, ``$out`` being the folder for the jar."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (
        ("mvn", f'for a in "$@"; do case $a in -DoutputDirectory=*) out=${{a#*=}};; esac; done\n{body}\n'),
        ("java", ""),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


def test_the_repository_pins_deequ_and_its_parser() -> None:
    pins = jars.read_pins(jars.PINS.read_text())
    assert {pin.parameter: pin.file_name for pin in pins} == {
        "DeequJarKey": "deequ-2.1.0-spark-3.5.jar",
        "DqdlJarKey": "dqdl-1.0.0.jar",
    }


def test_a_line_without_a_hash_is_refused_by_its_number() -> None:
    with pytest.raises(jars.JarError, match="line 2: 'a:b:1'"):
        jars.read_pins("# jars\na:b:1\n")


def test_a_jar_is_fetched_once(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client(tmp_path, "printf 'a jar' > $out/thing-1.0.jar", monkeypatch)
    found = jars.fetch(pins, tmp_path / "kept")
    assert found == {"ThingJarKey": tmp_path / "kept" / "thing-1.0.jar"}
    monkeypatch.setenv("PATH", "")
    assert jars.fetch(pins, tmp_path / "kept") == found
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["thing-1.0.jar"]


def test_other_bytes_than_the_pinned_ones_are_refused(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path, "printf 'another' > $out/thing-1.0.jar", monkeypatch)
    with pytest.raises(jars.JarError, match=r"org\.example:thing:1\.0: its SHA-256 should be"):
        jars.fetch(pins, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_kept_jar_that_was_changed_is_fetched_again(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path, "printf 'a jar' > $out/thing-1.0.jar", monkeypatch)
    kept = jars.fetch(pins, tmp_path / "kept")["ThingJarKey"]
    kept.write_bytes(b"spoiled")
    assert jars.fetch(pins, tmp_path / "kept")["ThingJarKey"].read_bytes() == CONTENT


def test_the_client_s_reason_is_told_with_the_way_out(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(
        tmp_path,
        "echo '[ERROR] Failed to execute goal x:y on project p: Unknown host -> [Help 1]'; exit 1",
        monkeypatch,
    )
    with pytest.raises(jars.JarError) as caught:
        jars.fetch(pins, tmp_path / "kept")
    assert str(caught.value).startswith(
        "org.example:thing:1.0 cannot be fetched: Unknown host. `make demo QUALITY=off`"
    )


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_a_missing_program_is_named(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(jars.shutil, "which", lambda name: None if name == missing else name)
    with pytest.raises(jars.JarError, match=f"{missing} is not on PATH.*QUALITY=off"):
        jars.fetch(pins, tmp_path / "kept")


def test_maven_s_output_in_one_line() -> None:
    output = (
        "\x1b[0m[\x1b[1;31mERROR\x1b[m] Failed to execute goal org.apache.maven:maven-dependency-plugin:3.6.1:copy"
        " (default-cli) on project standalone-pom: Unable to find/resolve artifact. Could not find artifact a:b:jar:1"
        " in central (https://repo.maven.apache.org/maven2) -> [Help 1]\n[ERROR] \n[ERROR] Re-run\n"
    )
    assert jars.client_reason(output) == (
        "Unable to find/resolve artifact. Could not find artifact a:b:jar:1 in central (https://repo.maven.apache.org/maven2)"
    )
