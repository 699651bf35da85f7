"""`tarn check` without Spark: the registration as at deployment, the light transform, and what a person sees."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.registration import RegistrationError
from tarn import check, cli, registered
from tarn.registered import FolderError

ROOT = Path(__file__).parents[2]
AIRLINES = ROOT / "datasets" / "air" / "airlines"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the airlines, to be spoiled."""
    return Path(shutil.copytree(AIRLINES, tmp_path / "air" / "airlines"))


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit status and the output, its folded cells joined."""
    datasets = ["--datasets", str(folder.parents[1])]
    done = CliRunner().invoke(cli.app, ["check", "air/airlines", "--no-spark", *datasets, *arguments])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    "dataset", sorted("/".join(one.parts[-3:-1]) for one in ROOT.glob("datasets/*/*/template.yaml"))
)
def test_every_dataset_of_the_repository_is_read_as_its_deployment_would(dataset: str) -> None:
    found = registered.read(registered.folder_of(dataset))
    assert f"{found.team}/{found.name}" == dataset
    assert found.row["queue_url"]
    assert found.row["columns"]
    assert found.row.get("transform_function_arn") is not None or not found.row["light_transform"].endswith(".py")


def test_a_dataset_s_own_values_and_defaults_arrive() -> None:
    row = registered.read(registered.folder_of("air/flights")).row
    assert (row["partition_by"], row["min_items"], row["max_object_mib"]) == (["flight_date"], 31, 2048)
    assert row["format"]["null_tokens"] == ["NA"]
    assert (row["heavy_transform"], row["publish"]) == ("heavy.sql", "partition")


def test_good_samples_pass(folder: Path) -> None:
    status, told = run(folder)
    assert status == 0, told
    assert "airlines.csv STAGED 16 16" in told
    assert "short_name VARCHAR" in told
    assert "quality was not judged (--no-spark)" in told


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("template.yaml", "Columns:", "Colums:", "Colums: not a parameter of pipeline/dataset.yaml Columns: not given"),
        ("template.yaml", "carrier:string", "carrier:text", "column type 'text' is not one of"),
        ("template.yaml", "DatasetName: airlines", "DatasetName: lines", "registers air/lines, and its folder is"),
        (
            "template.yaml",
            "DatasetName: airlines",
            "DatasetName: Airlines",
            "DatasetName: given 'Airlines'; must match",
        ),
        ("template.yaml", "Rules: rules.dqdl", "Publish: now", "Publish: given 'now'; must be one of"),
        ("template.yaml", "rules.dqdl", "rule.dqdl", "rule.dqdl: s3://assets/"),
        ("template.yaml", "DatasetStack:", "Stack:", "has no DatasetStack with Parameters"),
        ("light.sql", "trim(name) AS name", "trim(nam) AS name", "light.sql: LINE "),
        ("light.sql", "FROM source", "FROM source; SELECT 1", "must be a single SELECT"),
        ("rules.dqdl", "IsComplete", "IsComplet", "rules.dqdl: line 6: rule IsComplet"),
    ],
)
def test_what_a_deployment_would_refuse_is_refused_here(folder: Path, file: str, old: str, new: str, told: str) -> None:
    change(folder / file, old, new)
    status, output = run(folder)
    assert status == 1
    assert told in output


def test_a_refused_file_is_told_with_its_reason_beside_the_good_ones(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"carrier,name\nXX,\xff\n")
    status, told = run(folder, str(bad), str(folder / "samples" / "airlines.csv"))
    assert status == 1
    assert "bad.csv QUARANTINED - - line 2: byte 0xff" in told
    assert "airlines.csv STAGED 16 16" in told
    assert "Not fit to deploy: 1 file refused." in told


@pytest.fixture
def nulling(folder: Path) -> Path:
    """The copy, with OnMismatch: null and two columns that may hold what they should not."""
    change(folder / "template.yaml", "Rules: rules.dqdl", 'Rules: rules.dqdl\n        OnMismatch: "null"')
    change(folder / "template.yaml", "name:string:required", "name:string:required, seats:int, since:date")
    return folder


def test_values_that_became_null_are_counted_by_column_and_the_first_is_shown(nulling: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text('carrier,name,seats,else\nXX,"X\nof two lines",7,1\nYY,Y,many,2\nZZ,Z,few,3\n')
    status, told = run(nulling, str(more))
    assert status == 0, told
    assert (
        "2 of seats became NULL (line 4: 'many' is not of type int); 3 of since became NULL; not declared: else" in told
    )


def test_a_python_transforms_values_that_became_null_are_shown_too(nulling: Path) -> None:
    change(nulling / "template.yaml", "LightTransform: light.sql", "LightTransform: light.py")
    (nulling / "light.py").write_text(
        "def transform(path):\n    yield {'carrier': 'XX', 'name': 'X', 'seats': 7, 'since': 'long ago'}\n"
    )
    status, told = run(nulling)
    assert status == 0, told
    assert "1 of since became NULL (row 1: 'long ago' (text) is not of type date)" in told


def test_sql_that_fails_on_the_values_names_its_file(folder: Path) -> None:
    change(folder / "light.sql", "trim(name) AS name", "CAST(name AS INTEGER) AS name")
    status, told = run(folder)
    assert status == 1
    assert "QUARANTINED - - light.sql" in told


def test_unknown_datasets_and_missing_files_are_clear(folder: Path) -> None:
    with pytest.raises(FolderError, match=r"has no template.yaml; there are .*air/airlines"):
        registered.folder_of("air/nosuch")
    with pytest.raises(FolderError, match="is not TEAM/DATASET"):
        registered.folder_of("airlines")
    assert run(folder, "nosuch.csv") == (1, "tarn: no such file: nosuch.csv")
    shutil.rmtree(folder / "samples")
    status, told = run(folder)
    assert status == 1
    assert "samples holds no file" in told


def test_the_api_of_the_tests_beside_the_datasets(folder: Path) -> None:
    with check.sample_of(folder) as found:
        assert (found.rows_in, found.rows_out, len(found.rows())) == (16, 16, 16)
        staged = found.staged
    assert not staged.exists()
    (folder / "samples" / "airlines.csv").write_text("")
    with pytest.raises(check.CheckError, match=r"airlines\.csv: the file is empty"), check.sample_of(folder):
        pass
    change(folder / "light.sql", "FROM source", "FROM nosuch")
    with pytest.raises(RegistrationError, match="nosuch"), check.sample_of(folder):
        pass
