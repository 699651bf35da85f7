"""The light transform: what is read, what is refused and why, and what the SQL cannot do."""

# ruff: noqa: S608 - the SQL is ours, about files of ours

from __future__ import annotations

import csv
import io
import random
from decimal import Decimal
from pathlib import Path
from shutil import rmtree
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.file_schema import UnknownTypeError, kind_of, schema_of
from lake.light_transform import Limits, OutOfTimeError, TransformSqlError
from lake.raw_file import EmptyFileError, RefusedFileError, SchemaMismatchError, UnreadableFileError
from tests.unit.transform_desk import TEXT, WHOLE, Desk, registration

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb004300") + bytes(range(256)) * 40


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# What is read


def test_types_are_the_declared_ones_and_na_is_null(desk: Desk) -> None:
    kinds = {
        "s": "string", "i": "int", "b": "bigint", "d": "double", "t": "boolean",
        "y": "date", "m": "timestamp", "c": "decimal(8,2)",
    }  # fmt: skip
    registered = registration(*({"name": name, "type": kind} for name, kind in kinds.items()))
    done = desk.run(
        "s,i,b,d,t,y,m,c\nx,1,9000000000,1.5,true,2013-01-31,2013-01-31T10:00:00Z,12.30\nNA,NA,,NA,NA,NA,NA,\n",
        registered,
    )
    assert (done.rows_in, done.rows_out, done.nulled, done.extra) == (2, 2, {}, ())
    assert list(desk.types().values()) == [
        "VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP", "DECIMAL(8,2)",
    ]  # fmt: skip
    first, second = desk.rows()
    assert first[0:5] == ("x", 1, 9_000_000_000, 1.5, True)
    assert [str(one) for one in first[5:]] == ["2013-01-31", "2013-01-31 10:00:00", "12.30"]
    assert second == (None,) * 8


def test_columns_are_matched_by_name_whatever_order_case_and_neighbours(desk: Desk) -> None:
    done = desk.run("more, N ,A,again\nx,7,hello,y\n", registration(TEXT, WHOLE))
    assert desk.rows() == [("hello", 7)]
    assert done.extra == ("more", "again")


def test_digits_stay_text_where_text_is_declared(desk: Desk) -> None:
    desk.run("a\n007\n2013-01-01\ntrue\n", registration(TEXT))
    assert [row[0] for row in desk.rows()] == ["007", "2013-01-01", "true"]


def test_a_timestamp_with_an_offset_becomes_utc(desk: Desk) -> None:
    desk.run(
        "m\n2013-01-01T10:00:00+02:00\n2013-01-01 10:00\n2013-01-01\n2013-07-01T10:00:00.123456-0500\n",
        registration({"name": "m", "type": "timestamp"}),
    )
    assert [str(row[0]) for row in desk.rows()] == [
        "2013-01-01 08:00:00", "2013-01-01 10:00:00", "2013-01-01 00:00:00", "2013-07-01 15:00:00.123456",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        ("a;n\n'x;y';7\n", {"separator": ";", "quote": "'"}),
        ("a\tn\nx;y\t7\n", {"separator": "\t", "quote": ""}),
        ('a|n\r\n"x;y"|7\r\n', {"separator": "|"}),
        ("\ufeffa,n\nx;y,7\n", {}),
        ('"a","n"\n"x;y","7"', {}),
        ("x;y,7\n", {"header": False}),
    ],
)
def test_formats(desk: Desk, raw: str, form: dict[str, Any]) -> None:
    assert desk.run(raw, registration(TEXT, WHOLE, **form)).rows_out == 1
    assert desk.rows() == [("x;y", 7)]


def test_an_empty_field_is_null_and_a_token_only_as_a_whole_field(desk: Desk) -> None:
    registered = registration(TEXT, WHOLE)
    registered["format"]["null_tokens"] = ["-"]
    desk.run('a,n\n,1\n"",2\n-,3\nNA,4\n--,5\n', registered)
    assert [row[0] for row in desk.rows()] == [None, None, None, "NA", "--"]


def test_only_a_header_is_a_file_without_rows(desk: Desk) -> None:
    assert desk.run("a,n\n", registration(TEXT, WHOLE)).rows_out == 0
    assert desk.types() == {"a": "VARCHAR", "n": "INTEGER"}


def test_without_declared_columns_every_one_is_text(desk: Desk) -> None:
    desk.run("x,Y z\n1,NA\n", registration())
    assert desk.types() == {"x": "VARCHAR", "Y z": "VARCHAR"}
    assert desk.rows() == [("1", None)]


def test_the_parquet_is_compressed_with_zstd(desk: Desk) -> None:
    desk.run("a\n" + "hello\n" * 100, registration(TEXT))
    found = duckdb.connect().execute(f"SELECT DISTINCT compression FROM parquet_metadata('{desk.staged}')").fetchall()
    assert found == [("ZSTD",)]


# What is refused


@pytest.mark.parametrize("columns", [(TEXT, WHOLE), (TEXT,), ()], ids=["two", "one", "none"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("mismatch", ["quarantine", "null"])
def test_a_jpeg_is_never_read_as_csv(desk: Desk, columns: tuple[Any, ...], header: bool, mismatch: str) -> None:
    registered = registration(*columns, mismatch=mismatch, header=header)
    assert "JPEG" in desk.refused(UnreadableFileError, JPEG, registered)


@pytest.mark.parametrize("mismatch", ["quarantine", "null"])
@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\x1f\x8b\x08\x00abc", "gzip"),
        (b"PAR1abc", "Parquet"),
        ("a,n\nx,1\n".encode("utf-16"), "utf-16 text; utf-8 is declared"),
        (b"a,n\ncaf\xe9,1\n", "line 2: byte 0xe9 in 63 61 66 e9 2c 31; the file is not utf-8 text"),
        (b"a,n\nx,1\n\0\0\0\0", "line 3: a NUL byte"),
        (b"a,n\nx,1\ny\n", "line 3: "),
        (b"a,n\nx,1\ny,2,3\n", "line 3: "),
        (b'a,n\nx,1\n"y,2\n', "line 3: "),
        (b"a,n,A\nx,1,y\n", "more than once"),
        (b"hello world\nhow are you\n", "none of the declared columns"),
        (b"\n\na,n\n", "line 1 is blank"),
        (random.Random(0).randbytes(4096) + b"\xff\xfe\0", ""),
    ],
)
def test_what_is_not_csv_is_unreadable(desk: Desk, raw: bytes, says: str, mismatch: str) -> None:
    assert says in desk.refused(UnreadableFileError, raw, registration(TEXT, WHOLE, mismatch=mismatch))


@pytest.mark.parametrize("bad", [b"caf\xe9,1", b"x\0y,1", b"x", b'"x,1'], ids=["latin", "nul", "short", "quote"])
def test_a_fault_far_behind_the_head_is_found_whatever_the_sql(desk: Desk, bad: bytes) -> None:
    raw = b"a,n\n" + b"abcdefgh,1234567\n" * 100_000 + bad + b"\n"
    assert len(raw) > 1 << 20
    reason = desk.refused(UnreadableFileError, raw, registration(TEXT, WHOLE), sql="SELECT n FROM source LIMIT 1")
    assert "100002" in reason or "NUL" in reason


def test_a_fault_in_a_column_that_nobody_declared_is_found_too(desk: Desk) -> None:
    raw = b"n,more\n" + b"1234567,abcdefgh\n" * 100_000 + b"1,caf\xe9\n"
    assert "utf-8" in desk.refused(UnreadableFileError, raw, registration(WHOLE))


@pytest.mark.parametrize("raw", [b"", b"\n", b" \n\n", b"\xef\xbb\xbf"])
def test_an_empty_file(desk: Desk, raw: bytes) -> None:
    assert desk.refused(EmptyFileError, raw, registration(TEXT)) == "the file is empty"


def test_a_missing_column_by_name(desk: Desk) -> None:
    assert desk.refused(SchemaMismatchError, "a\nx\n", registration(TEXT, WHOLE)) == "column 'n' is missing"


def test_a_value_of_another_type_by_column_and_line(desk: Desk) -> None:
    raw = 'a,n\n"two\nlines",1\n"and\nthree\nmore",2\nx,seven\ny,eight\n'
    reason = desk.refused(SchemaMismatchError, raw, registration(TEXT, WHOLE))
    assert reason == "line 7, column 'n': 'seven' is not of type int (and 1 more)"
    assert raw.splitlines()[6] == "x,seven"


def test_the_line_in_a_file_without_header(desk: Desk) -> None:
    reason = desk.refused(SchemaMismatchError, "x,1\ny,z\n", registration(TEXT, WHOLE, header=False))
    assert reason.startswith("line 2, column 'n': 'z'")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int", ["1.5", "1.0", "1e3", "0x1F", "1_000", "99999999999", "true", "abc", "1 2"]),
        ("bigint", ["1.5", "9223372036854775808"]),
        ("double", ["1,5", "abc", "1_000", "inf", "nan", "."]),
        ("boolean", ["2", "ja", "1.0"]),
        ("date", ["epoch", "infinity", "01/02/2013", "2013-02-30", "2013-01-01T10:00:00"]),
        ("timestamp", ["epoch", "2013-01-01T25:00:00", "10:00", "1357034400", "2013-01-01 10"]),
        ("decimal(6,2)", ["1.005", "123456.7", "1e2"]),
    ],
)
def test_duckdbs_wider_casts_are_mismatches(desk: Desk, kind: str, values: list[str]) -> None:
    for value in values:
        raw = io.StringIO()
        csv.writer(raw).writerows([["v"], [value]])
        reason = desk.refused(SchemaMismatchError, raw.getvalue(), registration({"name": "v", "type": kind}))
        assert reason == f"line 2, column 'v': {value!r} is not of type {kind}"


# Where a mismatch becomes NULL


def test_null_puts_up_with_values_and_columns_and_counts_them(desk: Desk) -> None:
    registered = registration(TEXT, WHOLE, {"name": "z", "type": "date"}, mismatch="null")
    done = desk.run("a,n\nx,1\ny,two\nz,3.5\nw,NA\n", registered)
    assert desk.rows() == [("x", 1, None), ("y", None, None), ("z", None, None), ("w", None, None)]
    assert desk.types() == {"a": "VARCHAR", "n": "INTEGER", "z": "DATE"}
    assert done.nulled == {"n": 2, "z": 4}


@pytest.mark.parametrize("raw", ["a\nx\n", "a,n\nx,two\n"])
def test_a_required_column_quarantines_all_the_same(desk: Desk, raw: str) -> None:
    desk.refused(SchemaMismatchError, raw, registration(TEXT, {**WHOLE, "required": True}, mismatch="null"))


# Parquet


def parquet(desk: Desk, select: str) -> bytes:
    file = desk.folder.parent / "made.parquet"
    duckdb.connect().execute(f"COPY ({select}) TO '{file}' (FORMAT parquet)")
    return file.read_bytes()


def parquet_registration(*columns: dict[str, Any], mismatch: str = "quarantine") -> dict[str, Any]:
    return {"format": {"type": "parquet"}, "columns": list(columns), "on_mismatch": mismatch}


def test_parquet_keeps_or_widens_its_types(desk: Desk) -> None:
    raw = parquet(
        desk, "SELECT 7::SMALLINT AS N, 'x' AS a, 2 AS d, TIMESTAMPTZ '2013-01-01 10:00:00+02' AS m, 1 AS extra"
    )
    columns = (TEXT, WHOLE, {"name": "d", "type": "double"}, {"name": "m", "type": "timestamp"})
    done = desk.run(raw, parquet_registration(*columns))
    assert desk.types() == {"a": "VARCHAR", "n": "INTEGER", "d": "DOUBLE", "m": "TIMESTAMP"}
    assert [str(one) for one in desk.rows()[0]] == ["x", "7", "2.0", "2013-01-01 08:00:00"]
    assert done.extra == ("extra",)


@pytest.mark.parametrize(
    "value", ["1.5::DOUBLE", "5000000000::BIGINT", "'x'", "DATE '2013-01-01'", "[1, 2]", "'7'::BLOB"]
)
def test_parquet_of_another_type_is_a_mismatch_with_its_row(desk: Desk, value: str) -> None:
    raw = parquet(desk, f"SELECT {value} AS n")
    assert desk.refused(SchemaMismatchError, raw, parquet_registration(WHOLE)).startswith("row 1, column 'n': ")
    assert desk.run(raw, parquet_registration(WHOLE, mismatch="null")).nulled == {"n": 1}
    assert desk.rows() == [(None,)]


def test_parquet_without_declared_columns_keeps_its_own(desk: Desk) -> None:
    desk.run(parquet(desk, "SELECT 7::SMALLINT AS n, [1] AS many"), parquet_registration())
    assert desk.types() == {"n": "SMALLINT", "many": "INTEGER[]"}


def test_parquet_that_is_none_or_is_cut_off(desk: Desk) -> None:
    raw = parquet(desk, "SELECT i AS n, repeat('x', 100) || i AS a FROM range(10000) t(i)")
    for bad in (b"a,n\nx,1\n", JPEG, raw[: len(raw) // 2], b"PAR1" + bytes(100) + b"PAR1"):
        assert desk.refused(UnreadableFileError, bad, parquet_registration(TEXT, {"name": "n", "type": "bigint"}))
    desk.refused(EmptyFileError, b"", parquet_registration(TEXT))


def test_parquet_with_spoilt_pages_is_refused_even_where_the_sql_does_not_look(desk: Desk) -> None:
    raw = bytearray(parquet(desk, "SELECT i AS n, md5(i::VARCHAR) AS a FROM range(10000) t(i)"))
    middle = len(raw) // 2
    raw[middle : middle + 2000] = bytes(2000)
    registered = parquet_registration(TEXT, {"name": "n", "type": "bigint"})
    desk.refused(UnreadableFileError, bytes(raw), registered, sql="SELECT n FROM source LIMIT 1")


# The dataset's SQL


def test_the_sql_is_run_over_the_typed_source(desk: Desk) -> None:
    done = desk.run(
        "a,n\nx,1\nx,2\ny,5\n",
        registration(TEXT, WHOLE),
        sql="-- sums\nSELECT a AS name, sum(n)::BIGINT AS total FROM source GROUP BY a ORDER BY a; -- end;\n",
    )
    assert (done.rows_in, done.rows_out) == (3, 2)
    assert done.columns == (("name", "VARCHAR"), ("total", "BIGINT"))
    assert desk.rows() == [("x", 3), ("y", 5)]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "DROP VIEW source",
        "COPY (SELECT 1) TO 'x'",
        "ATTACH 'x' AS y",
        "INSTALL httpfs",
        "SET threads = 1",
        "PRAGMA version",
        "SELECT 1) TO 'x' (FORMAT csv) --",
        "SELEKT 1",
        "SELECT nothing FROM source",
        "SELECT * FROM elsewhere",
        "SELECT sum(n) AS total FROM source",
    ],
)
def test_the_sql_is_one_select_that_works(desk: Desk, sql: str) -> None:
    desk.refused(TransformSqlError, "a,n\nx,1\n", registration(TEXT, WHOLE), sql=sql)


def test_the_sql_reaches_nothing_but_its_object(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret.csv").write_text("secret\nkey\n")
    (desk.folder / "link").symlink_to(elsewhere)
    for reach in (
        "read_text('/proc/self/environ')",
        "read_blob('/proc/self/environ')",
        "read_csv('/proc/self/environ', columns = {'x': 'VARCHAR'})",
        f"'{elsewhere}/secret.csv'",
        f"read_text('{elsewhere}/secret.csv')",
        f"read_text('{desk.folder}/../{elsewhere.name}/secret.csv')",
        f"read_text('{desk.folder}/link/secret.csv')",
        f"glob('{elsewhere}/*')",
        "read_csv('https://example.com/x.csv')",
        "duckdb_secrets()",
    ):
        reason = desk.refused(TransformSqlError, "a,n\nx,1\n", registration(TEXT, WHOLE), sql=f"SELECT * FROM {reach}")
        assert "Permission" in reason or "disabled" in reason or "HTTP" in reason, (reach, reason)
    desk.run("a\nx\n", registration(TEXT), sql=f"SELECT content FROM read_text('{desk.raw}')")
    assert desk.rows() == [("a\nx\n",)]


def test_the_sql_sees_no_variable_of_this_process(desk: Desk) -> None:
    reason = desk.refused(TransformSqlError, "a\nx\n", registration(TEXT), sql="SELECT * FROM limits")
    assert "does not exist" in reason


UNLOCKING = (
    "enable_external_access = true",
    "lock_configuration = false",
    "allowed_directories = ['/']",
    "temp_directory = '/'",
    "memory_limit = '8GiB'",
    "max_temp_directory_size = '9GiB'",
)


def test_the_settings_are_locked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from lake import light_transform

    tried: list[str] = []

    def try_to_unlock(duck: duckdb.DuckDBPyConnection, sql: str, target: Path) -> Any:
        for setting in UNLOCKING:
            with pytest.raises(duckdb.Error, match="locked"):
                duck.execute(f"SET {setting}")
            tried.append(setting)
        names = ("memory_limit", "max_temp_directory_size", "threads", "enable_external_access", "lock_configuration")
        found = duck.execute(
            "SELECT name, value FROM duckdb_settings() WHERE name IN (SELECT unnest(?))", [list(names)]
        ).fetchall()
        assert dict(found) == {
            "memory_limit": "256.0 MiB", "max_temp_directory_size": "256.0 MiB", "threads": "2",
            "enable_external_access": "false", "lock_configuration": "true",
        }  # fmt: skip
        return 0, ()

    monkeypatch.setattr(light_transform, "_write", try_to_unlock)
    desk.run("a\nx\n", registration(TEXT))
    assert tuple(tried) == UNLOCKING


def test_more_memory_and_disk_than_allowed_is_refused(desk: Desk) -> None:
    sql = "SELECT x.i::VARCHAR || repeat('z', 500) AS s FROM range(1000000) x(i) ORDER BY md5(s)"
    reason = desk.refused(TransformSqlError, "a\nx\n", registration(TEXT), sql=sql, limits=Limits(64, 32, 2, 60))
    assert "Out of Memory" in reason


def test_files_of_one_name_and_size_follow_one_another_each_with_its_own_rows(desk: Desk) -> None:
    for value in ("x", "y", "z"):
        desk.run(f"a\n{value}\n", registration(TEXT))
        assert desk.rows() == [(value,)]


def test_one_file_after_another_may_spill_though_their_folder_is_removed_in_between(tmp_path: Path) -> None:
    spilling = "SELECT i::VARCHAR || repeat('z', 500) AS s FROM source, range(700000) x(i) ORDER BY md5(s)"
    for _ in range(2):
        folder = tmp_path / "object"
        folder.mkdir()
        Desk(folder).run("a\nx\n", registration(TEXT), sql=spilling, limits=Limits(256, 1024, 1, 60))
        rmtree(folder)


def test_a_transform_is_stopped_when_its_time_is_over(desk: Desk) -> None:
    sql = "SELECT count(*) AS n FROM range(100000000) x, range(100000000) y"
    with pytest.raises(OutOfTimeError):
        desk.run("a\nx\n", registration(TEXT), sql=sql, limits=Limits(256, 256, 2, 0.5))
    assert desk.run("a\nx\n", registration(TEXT)).rows_out == 1  # the next file's is not
    with pytest.raises(OutOfTimeError):
        desk.run("a\nx\n", registration(TEXT), limits=Limits(256, 256, 2, 0))


# The declaration


def test_unknown_types_are_named() -> None:
    with pytest.raises(UnknownTypeError, match="'varchar2' is not one of string, "):
        kind_of("varchar2")
    with pytest.raises(UnknownTypeError, match="'xml' is not one of csv, json, parquet"):
        schema_of(registration(type="xml"))
    with pytest.raises(UnknownTypeError, match="'cp437' is not one of utf-8, utf-16, latin-1, windows-1252"):
        schema_of(registration(encoding="cp437"))


def test_a_row_from_dynamodb_is_read() -> None:
    schema = schema_of({"columns": [{"name": "n", "type": "INT", "required": True}], "max_object_mib": Decimal(7)})
    assert (schema.file_type, schema.separator, schema.quote, schema.header) == ("csv", ",", '"', True)
    assert schema.columns[0].required
    assert not schema.nulls_mismatches


# Properties

FIELD = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=("Cs",)), min_size=1).filter(
        lambda text: text != "NA"
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(FIELD, st.none() | st.integers(-(2**31), 2**31 - 1)), max_size=20), flip=st.booleans())
def test_what_python_writes_comes_back_typed(
    tmp_path: Path, rows: list[tuple[str | None, int | None]], flip: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["n", "a"] if flip else ["a", "n"])
    for a, n in rows:
        cells = ["NA" if a is None else a, "" if n is None else str(n)]
        writer.writerow(cells[::-1] if flip else cells)
    desk = Desk(tmp_path)
    done = desk.run(text.getvalue(), registration(TEXT, WHOLE))
    assert desk.rows() == rows
    assert done.rows_in == done.rows_out == len(rows)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300), mismatch=st.sampled_from(["quarantine", "null"]), header=st.booleans())
def test_any_bytes_are_staged_or_refused_with_a_reason(tmp_path: Path, raw: bytes, mismatch: str, header: bool) -> None:
    desk = Desk(tmp_path)
    reason = "staged"
    try:
        done = desk.run(raw, registration(TEXT, WHOLE, mismatch=mismatch, header=header))
    except RefusedFileError as error:
        reason = error.reason
    else:
        assert raw.decode()
        assert done.rows_out == len(desk.rows())
    assert 0 < len(reason) <= 200
    assert "\n" not in reason


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(
        st.text(st.sampled_from("0123456789+-.:eE TZtrufalsyno_xNA"), min_size=1, max_size=12).filter(
            lambda it: it != "NA"
        ),
        min_size=1,
        max_size=60,
    )
)
def test_null_and_quarantine_agree_on_every_value(tmp_path: Path, values: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["v"], *([value] for value in values)])
    desk = Desk(tmp_path)
    for kind in ("int", "double", "boolean", "date", "timestamp"):
        column = {"name": "v", "type": kind}
        lenient = desk.run(text.getvalue(), registration(column, mismatch="null"))
        nulls = [place for place, (value,) in enumerate(desk.rows()) if value is None]
        assert lenient.nulled == ({"v": len(nulls)} if nulls else {})
        if nulls:
            reason = desk.refused(SchemaMismatchError, text.getvalue(), registration(column))
            said = f"line {nulls[0] + 2}, column 'v': {values[nulls[0]]!r} is not of type {kind}"
            assert reason.startswith(" ".join(said.split()))  # a reason is one line, its blanks single
        else:
            desk.run(text.getvalue(), registration(column))
