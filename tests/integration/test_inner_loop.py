"""From a sample that is not in the repository to a dataset that passes its own rules, in real Spark with real Deequ.

One Spark session for the module: the commands take the session that is on.
"""

import csv
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tarn import check, cli, jars, new_dataset, registered, rules, spark, suggestions, templates

FLIGHTS = templates.ROOT / "datasets" / "air" / "flights"


@pytest.fixture(scope="module", autouse=True)
def _one_session() -> Iterator[None]:
    with spark.session(list(jars.fetch().values())):
        yield


def parcels(rows: int) -> list[list[object]]:
    """Parcels of an unknown carrier: a key, words, numbers with gaps, days, and the separator in a name."""
    chance = random.Random(7)
    return [
        [
            f"P{number:06}",
            chance.choice(["letter", "box", "pallet"]),
            chance.choice(["DE", "FR", "IT"]),
            "NA" if chance.random() < 0.1 else round(chance.uniform(0.2, 29.5), 2),
            chance.randrange(1, 6),
            date(2024, 3, 1) + timedelta(days=number // 400),
            chance.choice(["Köln", "Lyon", "Bari", "Nizza; Altstadt"]),
        ]
        for number in range(rows)
    ]


def write(file: Path, rows: list[list[object]]) -> Path:
    with file.open("w", encoding="latin-1", newline="") as opened:
        writer = csv.writer(opened, delimiter=";")
        writer.writerow(["Parcel No", "kind", "country", "Weight (kg)", "stops", "shipped", "town"])
        writer.writerows(rows)
    return file


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sample") / "parcels.csv", parcels(2_000))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The folder of the datasets, with post/parcels made by the command."""
    folder = tmp_path_factory.mktemp("datasets")
    done = run("new", "dataset", "post/parcels", "--from", str(sample), "--datasets", str(folder))
    assert done[0] == 0, done[1]
    return folder


def run(*arguments: str) -> tuple[int, str]:
    """The exit status and the output, its folded cells joined."""
    done = CliRunner().invoke(cli.app, list(arguments))
    return done.exit_code, " ".join(done.output.split())


def checked(datasets: Path, *arguments: str) -> tuple[int, str]:
    return run("check", "post/parcels", "--datasets", str(datasets), *arguments)


def rule_texts(folder: Path) -> list[str]:
    return [one.text for one in rules.split_rules((folder / "rules.dqdl").read_text())[1]]


def test_the_registration_is_what_the_sample_was(datasets: Path) -> None:
    row = registered.read(datasets / "post" / "parcels").row
    assert (row["format"]["separator"], row["format"]["encoding"]) == (";", "latin-1")
    assert {one["name"]: (one["type"], one["required"]) for one in row["columns"]} == {
        "Parcel No": ("string", True),
        "kind": ("string", True),
        "country": ("string", True),
        "Weight (kg)": ("double", False),
        "stops": ("int", True),
        "shipped": ("date", True),
        "town": ("string", True),
    }
    assert row["partition_by"] == ["shipped"]


def test_deequ_suggested_the_rules_that_a_person_would_begin_with(datasets: Path) -> None:
    found = rule_texts(datasets / "post" / "parcels")
    assert len(found) <= suggestions.MOST_RULES
    assert found[0] == "RowCount > 0"
    assert {
        'IsPrimaryKey "parcel_no"',
        'ColumnValues "kind" in ["box", "letter", "pallet"]',
        'ColumnValues "town" in ["Bari", "Köln", "Lyon", "Nizza; Altstadt"]',
        'ColumnValues "stops" between 0 and 6',
        'ColumnValues "weight_kg" between 0 and 30 where "weight_kg is not null"',
        'IsComplete "shipped"',
    } <= set(found)
    assert any(one.startswith('Completeness "weight_kg" >= 0.8') for one in found)
    assert 'IsComplete "parcel_no"' not in found
    with rules.parser() as parser:
        assert parser.findings((datasets / "post" / "parcels" / "rules.dqdl").read_text()) == []


def test_its_own_test_passes(datasets: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(datasets)]
    done = subprocess.run(command, cwd=templates.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_the_check_passes_on_the_kept_sample_and_on_the_whole_file(datasets: Path, sample: Path) -> None:
    count = len(rule_texts(datasets / "post" / "parcels"))
    status, told = checked(datasets)
    assert status == 0, told
    assert "parcels.csv STAGED 1,000 1,000" in told
    assert "Heavy transform: 1,000 rows in, 1,000 out" in told
    assert "weight_kg double" in told
    assert "shipped date, partition batch string, partition" in told
    assert f"Fit to deploy: {count} rules passed." in told
    status, told = checked(datasets, str(sample))
    assert (status, "2,000 rows in, 2,000 out" in told) == (0, True), told


def test_a_spoiled_file_fails_with_the_rules_that_it_breaks(datasets: Path, tmp_path: Path) -> None:
    rows = parcels(300)
    rows[5][0] = rows[6][0]
    rows[7][1] = "piano"
    rows[8][3] = -4
    status, told = checked(datasets, str(write(tmp_path / "spoiled.csv", rows)))
    assert status == 1
    assert "Failed IsPrimaryKey" in told
    assert "Failed ColumnValues" in told
    assert told.count("Failed ColumnValues") == 2
    assert "rules failed." in told


def test_a_refused_file_fails_the_check_and_the_others_are_judged(datasets: Path, sample: Path, tmp_path: Path) -> None:
    rows = parcels(10)
    rows[3][4] = "five"
    bad = write(tmp_path / "bad.csv", rows)
    status, told = checked(datasets, str(bad), str(sample))
    assert status == 1
    assert "bad.csv QUARANTINED" in told
    assert "'five' is not of" in told
    assert "Passed" in told
    assert "Not fit to deploy: 1 file refused." in told


HEAVY = """from pyspark.sql import functions as f


def transform(df):
    return df.withColumn("tons", f.col("{column}") / 1000)
"""


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("heavy.py", HEAVY.format(column="weight_kg"), "tons double"),
        ("heavy.py", HEAVY.format(column="nosuch"), "heavy.py, line 5: [UNRESOLVED_COLUMN"),
        ("heavy.py", "def transform(df:\n", "heavy.py: line 1:"),
        ("heavy.sql", "SELECT *, weight_kg / 1000 AS tons FROM staged", "tons double"),
        ("heavy.sql", "SELECT *,\n nosuch\nFROM staged", "line 2 pos 1"),
        ("heavy.sql", "SELECT * FROM staged WHERE false", "the transform returned none"),
        ("heavy.sql", "SELECT kind FROM staged", "PartitionBy names shipped; the transform returns kind"),
    ],
)
def test_the_heavy_transform_runs_and_what_is_wrong_with_it_is_told(
    tmp_path: Path, datasets: Path, name: str, text: str, told: str
) -> None:
    import shutil

    folder = Path(shutil.copytree(datasets / "post" / "parcels", tmp_path / "post" / "parcels"))
    template = folder / "template.yaml"
    template.write_text(
        template.read_text().replace("        Rules:", f"        HeavyTransform: {name}\n        Rules:")
    )
    (folder / name).write_text(text)
    status, output = checked(tmp_path)
    assert told in output
    assert status == (0 if told == "tons double" else 1)


def test_without_deequ_it_says_not_judged(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, told = checked(datasets, "--quality", "off")
    assert (status, "quality was not judged (--quality off)" in told) == (0, True), told

    def missing() -> None:
        raise jars.JarError("com.amazon.deequ:deequ cannot be fetched: mvn is not on PATH")

    monkeypatch.setattr(jars, "fetch", missing)
    status, told = checked(datasets)
    assert (status, "Quality was not judged: com.amazon.deequ:deequ cannot be fetched" in told) == (0, True), told


def test_the_flights_of_the_repository_pass_and_the_spoiled_day_fails() -> None:
    status, told = run("check", "air/flights")
    assert status == 0, told
    assert "27,004 rows in, 27,004 out" in told
    assert "flight_date date, partition batch string, partition" in told
    spoiled = [str(file) for file in (FLIGHTS / "samples-spoiled").glob("*.csv")]
    status, told = run("check", "air/flights", *spoiled)
    assert status == 1
    assert "Column.distance.Minimum = -4963" in told
    assert "Not fit to deploy: 2 rules failed." in told


def test_a_python_transform_to_begin_with_passes_too(tmp_path: Path, sample: Path) -> None:
    found = list(jars.fetch().values())
    created = new_dataset.create("post/parcels", sample, python=True, jars=found, datasets=tmp_path)
    assert 'IsPrimaryKey "parcel_no"' in rule_texts(created.folder)
    with check.sample_of(created.folder) as made:
        assert (made.rows_in, made.columns["weight_kg"], made.columns["shipped"]) == (1_000, "DOUBLE", "DATE")
