"""What a sample tells: dialect, encoding, words for NULL, columns and their types; and what is no sample."""

import gzip
import json
from pathlib import Path

import duckdb
import pytest
from backports import zstd

from tarn import sample
from tarn.sample import Sample, SampleError


def inferred(folder: Path, content: bytes | str, name: str = "file.csv") -> Sample:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return sample.infer(file)


def declared(found: Sample) -> list[str]:
    return [one.declared for one in found.columns]


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("n\n1\n-2\n", ["n:int:required"]),
        ("n\n1\n3000000000\n", ["n:bigint:required"]),
        ("n\n1\n99999999999999999999\n", ["n:double:required"]),
        ("n,m\n1.5,1\n2,1e3\n", ["n:double:required", "m:double:required"]),
        ("zip\n00123\n12345\n", ["zip:string:required"]),
        ("phone\n+4930123\n+4940123\n", ["phone:string:required"]),
        ("flag\nyes\nno\n", ["flag:boolean:required"]),
        ("flag\nTrue\nfalse\n", ["flag:boolean:required"]),
        ("bit\n0\n1\n", ["bit:int:required"]),
        ("initial\nN\nY\n", ["initial:string:required"]),
        ("day\n2013-01-31\n2013-2-1\n", ["day:date:required"]),
        ("day\n2013-01-31\n2013-02-30\n", ["day:string:required"]),
        ("at\n2013-01-31T10:00:00Z\n2013-02-01 11:30\n", ["at:timestamp:required"]),
        ("at\n2013-01-31T10:00:00Z\n2013-02-01\n", ["at:timestamp:required"]),
        ("a,b\nx,\n,1\n", ["a:string", "b:int"]),
        ("a,b\nx,\ny,\n", ["a:string:required", "b:string"]),
    ],
)
def test_a_column_has_the_narrowest_type_whose_form_every_value_has(
    tmp_path: Path, content: str, columns: list[str]
) -> None:
    assert declared(inferred(tmp_path, content)) == columns


def test_one_value_far_down_decides(tmp_path: Path) -> None:
    assert declared(inferred(tmp_path, "n\n" + "1\n" * 30_000 + "x\n")) == ["n:string:required"]


@pytest.mark.parametrize(
    ("content", "words", "columns"),
    [
        ("a,n\nNA,1\nDE,NA\n", ("NA",), ["a:string", "n:int"]),
        ("a,n\nNA,1\nDE,2\n", (), ["a:string:required", "n:int:required"]),  # Namibia
        ("a,n\nx,-\ny,2.5\n", ("-",), ["a:string:required", "n:double"]),
        ("a,n\n-,N/A\ny,2013-01-01\n", ("N/A",), ["a:string:required", "n:date"]),
        ("n,m\nNA,null\n1,2\n", ("NA", "null"), ["n:int", "m:int"]),
        ("n\nNone of it\n1\n", ("NA",), ["n:string:required"]),
    ],
)
def test_words_for_null_are_those_among_other_values(
    tmp_path: Path, content: str, words: tuple[str, ...], columns: list[str]
) -> None:
    found = inferred(tmp_path, content)
    assert (found.null_words, declared(found)) == (words, columns)


@pytest.mark.parametrize(
    ("content", "form", "names"),
    [
        ("a;b\n1;2\n", {"Separator": ";"}, ["a", "b"]),
        ("a\tb\n1\t2\n", {"Separator": "\t"}, ["a", "b"]),
        ("a|b\n1|2\n", {"Separator": "|"}, ["a", "b"]),
        ("a;b\n1;'x;y'\n2;'z'\n", {"Separator": ";", "Quote": "'"}, ["a", "b"]),
        ('a,b\n1,"x,\ny"\n2,z\n', {}, ["a", "b"]),
        ("a\nx\ny\n", {}, ["a"]),
        ("1,2.5,2013-01-01\n2,-,2013-01-02\n", {"Header": "false"}, ["column_1", "column_2", "column_3"]),
        ("x,1\ny,2\n", {"Header": "false"}, ["column_1", "column_2"]),
        ("\ufeffa,b\n1,2\n", {}, ["a", "b"]),
    ],
)
def test_the_dialect(tmp_path: Path, content: str, form: dict[str, str], names: list[str]) -> None:
    found = inferred(tmp_path, content)
    assert (dict(found.form), [one.name for one in found.columns]) == (form, names)


@pytest.mark.parametrize(
    ("encoding", "text", "said"),
    [
        ("utf-8", "Müller", None),
        ("utf-16", "Müller", "utf-16"),
        ("latin-1", "Müller", "latin-1"),
        ("cp1252", "5 € „Müller“", "windows-1252"),
    ],
)
def test_the_encoding(tmp_path: Path, encoding: str, text: str, said: str | None) -> None:
    found = inferred(tmp_path, f"name,n\n{text},1\n".encode(encoding))
    assert found.form.get("Encoding") == said
    assert declared(found) == ["name:string:required", "n:int:required"]


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_compressed_files_are_read_as_they_are(tmp_path: Path, compress) -> None:
    assert declared(inferred(tmp_path, compress(b"a,b\nx,1\ny,2\n"))) == ["a:string:required", "b:int:required"]


@pytest.mark.parametrize(
    ("values", "day_format", "remark"),
    [
        (("31/12/2013", "01/02/2013"), "%d/%m/%Y", ""),
        (("12/31/2013", "01/02/2013"), "%m/%d/%Y", ""),
        (("24.12.2013", "25.12.2013"), "%d.%m.%Y", ""),
        (("24.12.2013 18:00", "25.12.2013 09:30"), "%d.%m.%Y %H:%M", ""),
        (("01/02/2013", "03/04/2013"), None, "%d/%m/%Y"),
        (("31/12/2013", "unknown"), None, ""),
    ],
)
def test_days_that_are_written_in_one_way_alone(
    tmp_path: Path, values: tuple[str, str], day_format: str | None, remark: str
) -> None:
    column = inferred(tmp_path, "id,day\n" + "".join(f"{n},{one}\n" for n, one in enumerate(values))).columns[1]
    assert (column.type, column.day_format) == ("string", day_format)
    assert (remark in column.remark) if remark else column.remark == ""


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_json_is_declared_by_paths(tmp_path: Path, layout: str) -> None:
    rows = [
        {
            "id": 1,
            "wind": {"speed": 1.5, "at": "2013-01-01T00:00:00Z"},
            "tags": ["a"],
            "big": 3_000_000_000,
            "ok": True,
        },
        {"id": 2, "wind": {"speed": 2}, "tags": [], "big": 1, "ok": False, "zip": "00123"},
    ]
    text = json.dumps(rows) if layout == "array" else "".join(json.dumps(row) + "\n" for row in rows)
    found = inferred(tmp_path, text, "file.json")
    assert (found.file_type, found.rows) == ("json", 2)
    assert declared(found) == [
        "id:int:required", "wind.speed:double:required", "wind.at:timestamp", "tags:json:required",
        "big:bigint:required", "ok:boolean:required", "zip:string",
    ]  # fmt: skip
    assert [one.published for one in found.columns][1:3] == ["wind_speed", "wind_at"]


def test_parquet_has_types_of_its_own_and_what_is_nested_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file.parquet"
    query = (
        "SELECT 1::TINYINT AS t, 'x' AS \"Name\", 1.5::DECIMAL(5,2) AS d, now() AS at, [1] AS nested, 1::HUGEINT AS h"
    )
    duckdb.execute(f"COPY ({query}) TO '{file}'")
    found = sample.infer(file)
    assert declared(found) == [
        "t:tinyint:required", "Name:string:required", "d:decimal(5,2):required", "at:timestamp:required",
        "h:double:required",
    ]  # fmt: skip
    assert found.left_out == ("nested",)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Wind Speed", "wind_speed"), ("windSpeed", "wind_speed"), ("HTTPCode", "http_code"), ("größe (m²)", "groe_m2"),
        ("2013", "c_2013"), ("a__b", "a_b"), ("%", ""),
    ],
)  # fmt: skip
def test_names_as_athena_takes_them(name: str, word: str) -> None:
    assert sample.snake_case(name) == word


def test_published_names_are_each_once_and_none_is_the_batch(tmp_path: Path) -> None:
    found = inferred(tmp_path, "Wind Speed,wind_speed,batch,%\n1,2,3,4\n")
    assert [one.published for one in found.columns] == ["wind_speed", "wind_speed_2", "batch_2", "column_4"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"  \n\n", "is empty"),
        (b"a,b\n", "has no rows"),
        (bytes.fromhex("ffd8ffe0") + bytes(range(256)) * 20, "JPEG image"),
        (b"just some text\nwith, words\nand, so, on, and on\n\nhello", "is no table"),
        (b'"a,b",c\n1,2\n', "cannot be empty, nor hold a comma or a colon"),
        (b"a,a\n1,2\n", "names column 'a' more than once"),
        (b'{"a": 1}\n{"a": \n', "JSON"),
        (b"PAR1 and no more", "No magic bytes"),
        (gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:-20], "cut off"),
    ],
)
def test_what_is_no_sample_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(SampleError, match=reason) as caught:
        inferred(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "file.csv") in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"nosuch\.csv: no such file"):
        sample.infer(tmp_path / "nosuch.csv")


# What is kept


def test_a_small_file_is_kept_as_it_is(tmp_path: Path) -> None:
    content = gzip.compress(b"a;b\r\nx;1\r\n")
    found = inferred(tmp_path, content, "my file.csv.gz")
    (tmp_path / "kept").mkdir()
    kept = sample.keep(found, tmp_path / "kept")
    assert (kept.name, kept.read_bytes()) == ("my-file.csv.gz", content)


def test_of_a_long_csv_whole_records_are_kept_in_its_encoding(tmp_path: Path) -> None:
    text = "name,n\n" + "".join(f'"Mü\nller",{number}\n' for number in range(3_000))
    found = inferred(tmp_path, gzip.compress(text.encode("latin-1")), "long.csv.gz")
    (tmp_path / "kept").mkdir()
    kept = sample.keep(found, tmp_path / "kept")
    assert kept.name == "long.csv"
    assert kept.read_bytes().decode("latin-1") == "".join(text.splitlines(keepends=True)[: 1 + 2 * 1_000])


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_of_long_json_whole_objects_are_kept(tmp_path: Path, layout: str) -> None:
    rows = [{"n": number, "text": "x" * 2_000} for number in range(700)]
    text = json.dumps(rows) if layout == "array" else "".join(json.dumps(row) + "\n" for row in rows)
    found = inferred(tmp_path, text, "long.json")
    (tmp_path / "kept").mkdir()
    kept = sample.keep(found, tmp_path / "kept")
    assert 500 < sample.infer(kept).rows < 700
    assert kept.stat().st_size <= sample.MOST_BYTES


def test_of_long_parquet_the_first_rows_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "long.parquet"
    duckdb.execute(f"COPY (SELECT range AS n FROM range(5000)) TO '{file}'")  # noqa: S608 - ours
    (tmp_path / "kept").mkdir()
    assert sample.infer(sample.keep(sample.infer(file), tmp_path / "kept")).rows == 1_000
