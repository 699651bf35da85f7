"""The images of the engines: their Dockerfiles, what they install, and what stands for them on a laptop."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from tarn import spark_assets
from tarn.local.extension import container_images
from tarn.local.extension.container_images import ENGINES, IMAGES, ImageError, image_of, instructions, read

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(IMAGES.values())


def versions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[.*\])?==(\S+) \\$", text, re.MULTILINE))


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_image_carries_the_versions_that_are_tested_here(folder: str) -> None:
    here = versions((ROOT / "requirements" / "main.txt").read_text())
    carried = versions((ENGINES / folder / "requirements.txt").read_text())
    wanted = {line for line in (ENGINES / folder / "requirements.in").read_text().splitlines() if line[:1] not in "#"}
    assert wanted <= carried.keys()
    assert {name: version for name, version in carried.items() if here.get(name) != version} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_requirement_of_an_image_is_pinned_by_hash(folder: str) -> None:
    text = (ENGINES / folder / "requirements.txt").read_text()
    entries = re.findall(r"^[a-z0-9_.-]+==.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(entries) == len(versions(text))
    assert [one for one in entries if "--hash=sha256:" not in one] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_dockerfile_keeps_to_what_hadolint_asks_for(folder: str) -> None:
    """DL3006 and 3007: a tag with a version; 3013 and 3042: pins, no cache; 3002: no root; 3020, 3025, 3045."""
    found = list(instructions((ENGINES / folder / "Dockerfile").read_text()))
    words = [word for word, _ in found]
    rest = dict(found)
    assert re.search(r":\d+\.\d+[\w.-]*$", rest["FROM"])
    assert "latest" not in rest["FROM"]
    assert not {"ADD", "MAINTAINER", "CMD", "EXPOSE"} & set(words)
    assert words.index("WORKDIR") < words.index("COPY")
    assert rest["USER"] not in ("root", "0")
    assert words.index("USER") > words.index("RUN")
    assert words[-1] == "ENTRYPOINT"
    assert isinstance(json.loads(rest["ENTRYPOINT"]), list)
    for _, command in (one for one in found if one[0] == "RUN"):
        assert "--no-cache-dir" in command
        assert "--require-hashes" in command
        assert not re.search(r"\bsudo\b|apt-get upgrade|curl .*\|", command)
    assert all(name.startswith("/") for name in (rest["WORKDIR"], *(c.split()[-1] for w, c in found if w == "COPY")))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_entry_point_is_a_file_that_was_copied(folder: str) -> None:
    image = read(ENGINES / folder / "Dockerfile")
    assert image.entry_point[0] == "python"
    assert image.entry_point[1] in [target for _, target in image.copies]
    assert [str(source) for source, _ in image.copies if not source.is_file()] == []


@pytest.mark.parametrize(
    "uri",
    [
        "tarn-engine-duckdb",
        "tarn-engine-duckdb:1.2",
        "000000000000.dkr.ecr.eu-west-1.amazonaws.com/air/tarn-engine-duckdb:1",
        f"localhost:5000/tarn-engine-duckdb@sha256:{'0' * 64}",
    ],
)
def test_an_image_is_known_by_its_repository(uri: str) -> None:
    assert image_of(uri) == read(ENGINES / "duckdb" / "Dockerfile")


def test_another_image_cannot_be_pulled() -> None:
    with pytest.raises(ImageError, match=r"CannotPullContainerError: python:3\.13: .*only images called tarn-engine-"):
        image_of("python:3.13")


def test_a_file_that_the_dockerfile_does_not_copy_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (tmp_path / "a.py").write_text("")
    (folder / "Dockerfile").write_text(
        'FROM x:1\nWORKDIR /w\nCOPY a.py \\\n  /w/\n# a remark\nENV A=1 B=2\nENTRYPOINT ["python", "/w/b.py"]\n'
    )
    image = container_images.read(folder / "Dockerfile")
    assert image.copies == [(tmp_path / "a.py", "/w/a.py")]
    assert (image.folder, image.environment) == ("/w", {"A": "1", "B": "2"})


def test_the_same_library_gives_the_same_zip(tmp_path: Path) -> None:
    first, second = (spark_assets.pack(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == second
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert {"awsglue/__init__.py", "awsglue/utils.py"} <= set(packed.namelist())


def test_the_script_of_the_other_spark_engines_is_glues_own() -> None:
    prefix, files = spark_assets.find()
    assert [one.key for one in files] == [f"{prefix}transform_batch.py", f"{prefix}awsglue.zip"]
    assert files[0].file == ROOT / "glue" / "transform_batch.py"
