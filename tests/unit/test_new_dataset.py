"""`tarn new dataset`: the folder that it makes is like those written by hand, and passes its own check."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lake.registration import RegistrationError
from tarn import check, cli, new_dataset, registered, templates
from tarn.new_dataset import NewDatasetError
from tarn.sample import SampleError

PLANES = "tailnum,Year Built,group,speed\nN101,2004,jet,NA\nN102,1998,prop,90\n"


def made(folder: Path, content: str | bytes = PLANES, name: str = "file.csv", **more) -> new_dataset.Created:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return new_dataset.create("air/crafts", file, jars=None, datasets=folder / "datasets", **more)


def parameters(folder: Path) -> dict:
    return templates.load(folder / "template.yaml")["Resources"]["DatasetStack"]["Properties"]["Parameters"]


def test_the_folder_has_everything_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    created = made(tmp_path)
    names = [str(file.relative_to(tmp_path / "datasets" / "air" / "crafts")) for file in created.files]
    assert names == ["light.sql", "rules.dqdl", "samples/file.csv", "template.yaml", "test_crafts.py"]
    assert [one.name for one in (tmp_path / "datasets").iterdir()] == ["air"]


def test_the_template_is_like_those_written_by_hand(tmp_path: Path) -> None:
    folder = made(tmp_path, pipeline="night").folder
    ours, theirs = templates.load(folder / "template.yaml"), templates.load(Path("datasets/air/airlines/template.yaml"))
    assert ours["Parameters"] == theirs["Parameters"]
    own = ("TeamName", "PipelineName", "DatasetName", "TableName", "Columns", "LightTransform", "Rules")
    given = parameters(folder)
    assert [given.pop(name) for name in own] == [
        "air", "night", "crafts", "crafts",
        "tailnum:string:required, Year Built:int:required, group:string:required, speed:int",
        "light.sql", "rules.dqdl",
    ]  # fmt: skip
    hand = theirs["Resources"]["DatasetStack"]["Properties"]["Parameters"]
    assert given == {name: value for name, value in hand.items() if name not in (*own, "OnChange")}


def test_the_select_list_is_explicit_and_quotes_what_needs_it(tmp_path: Path) -> None:
    text = (made(tmp_path).folder / "light.sql").read_text()
    select = 'SELECT\n    tailnum,\n    "Year Built" AS year_built,\n    "group",\n    speed\nFROM source\n'
    assert text.endswith(select)


def test_days_in_another_form_are_read_by_the_sql(tmp_path: Path) -> None:
    folder = made(tmp_path, "id,day\n1,31/12/2013\n2,\n").folder
    assert "strptime(day, '%d/%m/%Y')::DATE AS day" in (folder / "light.sql").read_text()
    with check.sample_of(folder) as found:
        assert dict(found.columns) == {"id": "INTEGER", "day": "DATE"}
        assert [str(row["day"]) for row in found.rows()] == ["2013-12-31", "None"]


def test_days_in_two_possible_forms_are_left_to_a_person(tmp_path: Path) -> None:
    created = made(tmp_path, "id,day\n1,01/02/2013\n")
    assert [one.split(":")[0] for one in created.remarks] == ["day"]
    assert "day -- days? Both fit" in (created.folder / "light.sql").read_text()


@pytest.mark.parametrize(
    ("content", "name", "form"),
    [
        ("a;n\nx;-\ny;1\n", "f.csv", {"Separator": ";", "NullTokens": "-"}),
        ("a,n\nNA,1\n", "f.csv", {"NullTokens": ""}),
        ("x\t1\ny\t2\n", "f.tsv", {"Separator": "\t", "Header": "false"}),
        ("a,n\nMüller,1\n".encode("latin-1"), "f.csv", {"Encoding": "latin-1"}),
        ('{"a": 1, "b": {"c": "x"}}\n', "f.jsonl", {"FormatType": "json"}),
    ],
)
def test_the_registration_says_what_is_not_the_default(tmp_path: Path, content, name: str, form: dict) -> None:
    given = parameters(made(tmp_path, content, name).folder)
    asked = ("FormatType", "Separator", "Quote", "Header", "Encoding", "NullTokens")
    assert {one: given[one] for one in asked if one in given} == form


def test_nested_json_is_declared_by_paths_and_published_flat(tmp_path: Path) -> None:
    folder = made(tmp_path, '{"id": 1, "wind": {"speed": 2.5}, "tags": ["a"]}\n', "f.jsonl").folder
    assert parameters(folder)["Columns"] == "id:int:required, wind.speed:double:required, tags:json:required"
    with check.sample_of(folder) as found:
        assert found.rows() == [{"id": 1, "wind_speed": 2.5, "tags": '["a"]'}]


def test_long_columns_are_folded_and_read_back_whole(tmp_path: Path) -> None:
    names = [f"a_rather_long_name_of_a_column_{number}" for number in range(40)]
    folder = made(tmp_path, ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n").folder
    assert max(map(len, (folder / "template.yaml").read_text().splitlines())) <= 120
    assert [one["name"] for one in registered.read(folder).row["columns"]] == names


def test_more_columns_than_a_parameter_holds_are_refused(tmp_path: Path) -> None:
    names = ["a_rather_long_name_of_a_column" * 8 + str(number) for number in range(17)]
    with pytest.raises(NewDatasetError, match="of the 4096 bytes of a parameter"):
        made(tmp_path, ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")


@pytest.mark.parametrize(
    ("rows_a_day", "partition"), [(new_dataset.ROWS_OF_A_DAY, "day"), (new_dataset.ROWS_OF_A_DAY - 1, None)]
)
def test_a_day_with_many_rows_is_a_partition(tmp_path: Path, rows_a_day: int, partition: str | None) -> None:
    rows = [f"{n},2013-01-0{day}" for day in (1, 2) for n in range(rows_a_day)]
    folder = made(tmp_path, "n,day\n" + "\n".join(rows) + "\n").folder
    assert parameters(folder).get("PartitionBy") == partition


def test_a_day_that_may_be_missing_is_none(tmp_path: Path) -> None:
    folder = made(tmp_path, "n,day\n" + "1,2013-01-01\n" * 200 + "1,\n").folder
    assert "PartitionBy" not in parameters(folder)


def test_the_test_that_is_written_passes_and_can_fail(tmp_path: Path) -> None:
    folder = made(tmp_path).folder
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)]
    done = subprocess.run(command, cwd=templates.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout
    sql = folder / "light.sql"
    sql.write_text(sql.read_text().replace("    speed\n", "    speed * 1.5 AS speed\n"))
    assert subprocess.run(command, cwd=templates.ROOT, capture_output=True, check=False).returncode == 1


def test_without_deequ_the_rules_say_so(tmp_path: Path) -> None:
    text = (made(tmp_path).folder / "rules.dqdl").read_text()
    assert "Deequ was not asked" in text
    assert 'IsComplete "tailnum"' in text
    assert "speed" not in text


PYTHON = """Tail,Built On,at,flag,price,n
N1,24.12.2013,2013-01-01T10:00:00+02:00,yes,1.5,NA
N2,25.12.2013,2013-01-01 10:00:00,no,2.5,3
"""


def test_python_to_begin_with_reads_what_the_sql_would(tmp_path: Path) -> None:
    folder = made(tmp_path, PYTHON, python=True).folder
    text = (folder / "light.py").read_text()
    ast.parse(text)
    assert parameters(folder)["LightTransform"] == "light.py"
    assert parameters(folder)["Columns"] == (
        "tail:string:required, built_on:date:required, at:timestamp:required, flag:boolean:required,"
        " price:double:required, n:int"
    )
    spec = importlib.util.spec_from_file_location("light", folder / "light.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = list(module.transform(tmp_path / "file.csv"))
    assert [list(map(str, row.values())) for row in rows] == [
        ["N1", "2013-12-24", "2013-01-01 10:00:00+02:00", "True", "1.5", "None"],
        ["N2", "2013-12-25", "2013-01-01 10:00:00+00:00", "False", "2.5", "3"],
    ]


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("crafts", {}, "'crafts' is not TEAM/NAME"),
        ("air/crafts/more", {}, "is not TEAM/NAME"),
        ("Air/crafts", {}, "team 'Air': a name must be a lower-case letter, then"),
        ("pipeline/crafts", {}, "team 'pipeline': the lake itself uses this name"),
        ("air/Crafts", {}, "dataset 'Crafts': a name must be a lower-case letter, then"),
        ("air/my-crafts", {}, "digits and underscores"),
        ("air/" + "c" * 33, {}, "at most 32 in all"),
        ("air/../x", {}, "is not TEAM/NAME"),
        ("air/crafts", {"pipeline": "Main"}, "pipeline 'Main'"),
    ],
)
def test_a_wrong_name_is_refused_with_its_rule(tmp_path: Path, name: str, more: dict, reason: str) -> None:
    (tmp_path / "file.csv").write_text(PLANES)
    with pytest.raises(NewDatasetError, match=re.escape(reason)):
        new_dataset.create(name, tmp_path / "file.csv", jars=None, datasets=tmp_path / "datasets", **more)
    assert not (tmp_path / "datasets").exists()


def test_what_stands_there_is_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "air" / "crafts"
    folder.mkdir(parents=True)
    with pytest.raises(NewDatasetError, match="exists already"):
        made(tmp_path)
    assert list(folder.iterdir()) == []


def test_what_is_no_sample_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="has no rows"):
        made(tmp_path, "a,b\n")
    assert not (tmp_path / "datasets").exists()


def test_a_transform_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_dataset, "_selected", lambda column, *, is_last: "nosuch")
    with pytest.raises((NewDatasetError, RegistrationError), match="nosuch"):
        made(tmp_path)
    assert list((tmp_path / "datasets").iterdir()) == []


def test_the_command_tells_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(PLANES)
    arguments = ["new", "dataset", "air/crafts", "--from", str(tmp_path / "file.csv"), "--quality", "off"]
    arguments += ["--datasets", str(tmp_path / "datasets")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    for words in (
        "2 rows, 4 columns (csv); 4 rules",
        "air/crafts/light.sql",
        "tarn check air/crafts",
        "tarn deploy --layer dataset --team air --dataset crafts",
        "tarn put air/crafts FILE...",
    ):
        assert words in done.output
    again = CliRunner().invoke(cli.app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output
