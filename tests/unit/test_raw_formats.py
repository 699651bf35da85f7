"""Formats of raw files: encodings, compression, JSON; and each way in which a file is not what it should be."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from lake.json_file import DEEPEST, LARGEST_BYTES, MOST_FIELDS
from lake.light_transform import Limits
from lake.raw_file import (
    EmptyFileError,
    RefusedFileError,
    SchemaMismatchError,
    TooMuchTextError,
    UnreadableFileError,
)
from tests.unit.transform_desk import LIMITS, TEXT, WHOLE, Desk, registration

ENCODINGS = ["utf-8", "utf-16", "latin-1", "windows-1252"]
CODECS = {"windows-1252": "cp1252"}
COMPRESSIONS = {"none": bytes, "gzip": gzip.compress, "zstd": zstd.compress}
MIB = 1 << 20


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def columns(**kinds: str) -> list[dict[str, Any]]:
    return [{"name": name.replace("__", "."), "type": kind} for name, kind in kinds.items()]


def of_json(*declared: dict[str, Any], mismatch: str = "quarantine", **form: Any) -> dict[str, Any]:
    return registration(*declared, mismatch=mismatch, type="json", **form)


# Encodings


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_in_every_compression(desk: Desk, encoding: str, compression: str) -> None:
    raw = COMPRESSIONS[compression](
        "a,n\r\ncafé “x”,7\r\n".replace("“x”", "°" * (encoding == "latin-1") or "“x”").encode(
            CODECS.get(encoding, encoding)
        )
    )
    desk.run(raw, registration(TEXT, WHOLE, encoding=encoding))
    assert desk.rows() == [("café °" if encoding == "latin-1" else "café “x”", 7)]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_in_every_encoding_and_compression(desk: Desk, encoding: str, compression: str) -> None:
    text = '{"a": "café", "n": 7}\n{"a": "ü", "n": 8}\n'
    desk.run(
        COMPRESSIONS[compression](text.encode(CODECS.get(encoding, encoding))), of_json(TEXT, WHOLE, encoding=encoding)
    )
    assert desk.rows() == [("café", 7), ("ü", 8)]


@pytest.mark.parametrize(
    "raw",
    ["a,n\né,1\n".encode("utf-16-le"), "a,n\né,1\n".encode("utf-16-be"), b"\xfe\xff" + "a,n\né,1".encode("utf-16-be")],
)
def test_utf_16_with_and_without_a_mark(desk: Desk, raw: bytes) -> None:
    desk.run(raw, registration(TEXT, WHOLE, encoding="utf-16"))
    assert desk.rows() == [("é", 1)]


@pytest.mark.parametrize(
    ("encoding", "raw", "says"),
    [
        ("utf-8", "a,n\ncafé,1\n".encode("latin-1"), "line 2: byte 0xe9 in 63 61 66 e9 2c 31; the file is not utf-8"),
        ("utf-8", "a,n\né,1\n".encode("utf-16"), "the file is utf-16 text; utf-8 is declared"),
        ("utf-8", b"a,n\nx,1\ny\xc3", "line 3: byte 0xc3 in "),
        ("latin-1", "a,n\n“x”,1\n".encode("cp1252"), "line 2: byte 0x93 in 93 78 94 2c 31; the file is not latin-1"),
        ("latin-1", "a,n\ncafé,1\n".encode(), "line 2: bytes 63 61 66 c3 a9 2c 31; the file is utf-8 text"),
        ("windows-1252", "a,n\nx,1\ncafé,1\n".encode(), "line 3: bytes 63 61 66 c3 a9 2c 31; the file is utf-8 text"),
        ("windows-1252", b"a,n\n\x81,1\n", "line 2: byte 0x81 in 81 2c 31; the file is not windows-1252 text"),
        ("windows-1252", "\ufeffa,n\n".encode(), "the file is utf-8 text; windows-1252 is declared"),
        ("latin-1", "a,n\né,1\n".encode("utf-16"), "the file is utf-16 text; latin-1 is declared"),
        ("utf-16", "a,n\né,1\n".encode(), "the file is not utf-16 text: it begins with 61 2c 6e 0a c3 a9 2c 31"),
        ("utf-16", "\ufeffa,n\n".encode(), "the file is utf-8 text; utf-16 is declared"),
        ("utf-16", b"\xff\xfea\0,\0n\0\n\0\0\xd8x\0", "line 2: byte 0x00 in "),
        ("utf-16", b"\xff\xfea\0,\0n\0\n\0x", "line 2: byte 0x78 in "),
    ],
)  # fmt: skip
def test_the_wrong_encoding_by_line_and_bytes(desk: Desk, encoding: str, raw: bytes, says: str) -> None:
    assert says in desk.refused(UnreadableFileError, raw, registration(TEXT, WHOLE, encoding=encoding))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("encoding", "bad"), [("utf-8", b"\xe9"), ("latin-1", b"\x80"), ("windows-1252", b"\x9d")])
def test_bad_bytes_are_found_far_behind_the_first_mebibyte(
    desk: Desk, encoding: str, bad: bytes, compression: str
) -> None:
    raw = b"a,n\n" + b"abcdefgh,1234567\n" * 200_000 + b"caf" + bad + b",1\n" + b"x,1\n" * 10
    reason = desk.refused(
        UnreadableFileError, COMPRESSIONS[compression](raw), registration(TEXT, WHOLE, encoding=encoding)
    )
    assert reason.startswith(f"line 200002: byte 0x{bad.hex()} in 63 61 66 {bad.hex()} 2c 31;")


def test_bytes_that_are_cut_between_two_chunks_are_read(desk: Desk) -> None:
    raw = b"a,n\n" + b"x" * (MIB - 5) + "é,1\n".encode()
    assert raw[MIB - 1 : MIB + 1] == "é".encode()
    desk.run(raw, registration(TEXT, WHOLE))
    assert desk.rows()[0][0].endswith("xé")


# Compression


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
def test_a_compressed_file_that_is_cut_off(desk: Desk, compression: str, keep: float) -> None:
    raw = COMPRESSIONS[compression](b"a,n\n" + b"".join(b"%d,%d\n" % (n * n, n) for n in range(50_000)))
    reason = desk.refused(UnreadableFileError, raw[: int(len(raw) * keep)], registration(TEXT, WHOLE))
    assert reason.startswith("line ")
    assert f"the {compression} file is cut off here" in reason
    assert int(reason.split()[1].rstrip(":")) > 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_compressed_file_that_is_spoilt_or_followed_by_rubbish(desk: Desk, compression: str) -> None:
    raw = bytearray(COMPRESSIONS[compression](b"a,n\n" + b"".join(b"%d,%d\n" % (n * n, n) for n in range(50_000))))
    whole = bytes(raw)
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    for bad in (bytes(raw), whole + b"rubbish"):
        assert f"the {compression} file is damaged" in desk.refused(UnreadableFileError, bad, registration(TEXT, WHOLE))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_members_one_after_the_other_are_one_file(desk: Desk, compress: Any) -> None:
    desk.run(compress(b"a,n\nx,1") + compress(b"") + compress(b"0\ny,2\n"), registration(TEXT, WHOLE))
    assert desk.rows() == [("x", 10), ("y", 2)]


def test_zeros_behind_gzip_are_padding(desk: Desk) -> None:
    assert desk.run(gzip.compress(b"a,n\nx,1\n") + bytes(700), registration(TEXT, WHOLE)).rows_out == 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_is_inside_is_looked_at_too(desk: Desk, compression: str) -> None:
    compress = COMPRESSIONS[compression]
    assert "JPEG" in desk.refused(UnreadableFileError, compress(b"\xff\xd8\xff" + bytes(100)), registration(TEXT))
    assert "compressed twice" in desk.refused(UnreadableFileError, compress(compress(b"a\nx\n")), registration(TEXT))
    assert "is empty" in desk.refused(EmptyFileError, compress(b"\n"), registration(TEXT))
    assert "is empty" in desk.refused(EmptyFileError, compress(b""), registration(TEXT))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_decompression_bomb_stops_at_the_bound(desk: Desk, compression: str) -> None:
    bomb = COMPRESSIONS[compression](b"a,n\n" + b"x,1\n" * (4 * MIB))
    assert len(bomb) < MIB // 8
    limits = Limits(memory_mib=256, spill_mib=256, threads=1, seconds=60, text_mib=3)
    reason = desk.refused(TooMuchTextError, bomb, registration(TEXT, WHOLE), limits=limits)
    assert reason == "its text is more than 3 MiB, though the file itself is smaller"
    assert (desk.folder / "plain").stat().st_size <= 4 * MIB + 4


# Dialects


@pytest.mark.parametrize(
    ("raw", "form", "says"),
    [
        ("a,n\nx,1\n", {"separator": ";"}, "whose columns are when line 1 is split at ';': a,n"),
        ("x,1\ny,2\n", {"separator": ";", "header": False}, "line 1: Expected Number of Columns: 2 Found: 1"),
        ("a;n\nx;1\n", {}, "whose columns are when line 1 is split at ',': a;n"),
        ("a,n\n'x,y',1\n", {}, "line 2: Expected Number of Columns: 2 Found: 3"),
        ("a,n\n\"x,y\",1\n", {"quote": "'"}, "line 2: Expected Number of Columns: 2 Found: 3"),
        ("x,1\ny,2\n", {}, "none of the declared columns is in the file"),
        ("a,n\nx,1\n", {"header": False}, "line 1, column 'n': 'n' is not of type int"),
        ("a,n\nx,1\r\ny,2\n", {}, "line 2 ends with CR LF, the lines before it with LF"),
        ("a,n\r\nx,1\r\ny,2\n", {}, "line 3 ends with LF, the lines before it with CR LF"),
        ("a,n\nx,1\ry,2\n", {}, "line 2: a carriage return inside of the line"),
    ],
)  # fmt: skip
def test_the_wrong_dialect(desk: Desk, raw: str, form: dict[str, Any], says: str) -> None:
    with pytest.raises(RefusedFileError) as caught:
        desk.run(raw, registration(TEXT, WHOLE, **form))
    assert says in caught.value.reason


def test_a_fragment_in_a_csv_is_json(desk: Desk) -> None:
    registered = registration({"name": "j", "type": "json"})
    desk.run('j\n"{""a"": [1]}"\n\n', registered)
    assert desk.rows() == [('{"a": [1]}',), (None,)]
    reason = desk.refused(SchemaMismatchError, "j\n{a}\n", registered)
    assert reason == "line 2, column 'j': '{a}' is not of type json"


# JSON that is read

STATION = columns(id="bigint", wind__speed="double", wind__dir__deg="int", at="timestamp", tags="json")
LINES = [
    {"id": 1, "wind": {"speed": 1.5, "dir": {"deg": 270}}, "at": "2026-11-23T10:00:00+01:00", "tags": ["a", {"b": 2}]},
    {"tags": None, "id": 2, "wind": {"speed": 3}, "more": {"x": [1]}},
    {"id": None, "wind": None, "at": "2026-11-23", "tags": "x"},
]
ROWS = [
    (1, 1.5, 270, "2026-11-23 09:00:00", '["a",{"b":2}]'),
    (2, 3.0, None, "None", None),
    (None, None, None, "2026-11-23 00:00:00", '"x"'),
]


@pytest.mark.parametrize(
    "raw",
    [
        "\n".join(json.dumps(one) for one in LINES),
        "\n\n" + "\r\n \t\r\r\n".join(json.dumps(one) for one in LINES) + "\r\n\r\n",
        "\ufeff" + "\n".join(json.dumps(one) for one in LINES) + "\n",
        json.dumps(LINES),
        "\n " + json.dumps(LINES, indent=2).replace("\n", "\r\n") + "\n",
    ],
    ids=["lines", "blank lines", "mark", "array", "array over lines"],
)  # fmt: skip
def test_json_by_paths(desk: Desk, raw: str) -> None:
    done = desk.run(raw, of_json(*STATION))
    assert [(*row[:3], str(row[3]), row[4]) for row in desk.rows()] == ROWS
    assert desk.types() == {
        "id": "BIGINT", "wind_speed": "DOUBLE", "wind_dir_deg": "INTEGER", "at": "TIMESTAMP", "tags": "VARCHAR",
    }  # fmt: skip
    assert (done.rows_in, done.rows_out, done.nulled) == (3, 3, {})


def test_the_sql_reads_paths_with_underscores(desk: Desk) -> None:
    sql = "SELECT sum(wind_speed) AS total, any_value(tags ->> '$[1].b') AS b FROM source"
    desk.run("\n".join(json.dumps(one) for one in LINES), of_json(*STATION), sql=sql)
    assert desk.rows() == [(4.5, "2")]


def test_an_empty_array_is_a_file_without_rows(desk: Desk) -> None:
    assert desk.run(" [ ] ", of_json(TEXT)).rows_out == 0
    assert desk.types() == {"a": "VARCHAR"}


def test_names_with_every_character_but_a_dot(desk: Desk) -> None:
    name = "a \"b\" \\ 'c' $[0] * é"
    desk.run(json.dumps({name: "x", "A": 1, "a": 2}), of_json({"name": name, "type": "string"}, *columns(a="int")))
    assert desk.rows() == [("x", 2)]


def test_a_line_as_large_as_the_bound(desk: Desk) -> None:
    text = "x" * (LARGEST_BYTES - 200)
    desk.run(f'{{"a": "{text}"}}\n{{"a": "y"}}\n', of_json(TEXT))
    assert [len(row[0]) for row in desk.rows()] == [len(text), 1]


def test_digits_of_a_decimal(desk: Desk) -> None:
    registered = of_json(*columns(d="decimal(20,4)"))
    desk.run('{"d": 1.25}\n{"d": "1234567890123456.7891"}\n{"d": 1234567890123456}\n{"d": -7}\n', registered)
    assert [str(row[0]) for row in desk.rows()] == [
        "1.2500",
        "1234567890123456.7891",
        "1234567890123456.0000",
        "-7.0000",
    ]
    # As a double it would become another number without a word.
    assert "is not of type decimal(20,4)" in desk.refused(
        SchemaMismatchError, '{"d": 1234567890123456.7891}', registered
    )


# JSON that is refused


def nested(depth: int) -> str:
    return '{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def wide(fields: int) -> str:
    return json.dumps({"a": "{[:", **{f"f{place}": place for place in range(fields - 1)}})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"a": "x"', "not JSON: unexpected"),
        ("{'a': 1}", "not JSON: unexpected character"),
        ('{"a": "x"} {"a": "y"}', "not JSON: unexpected content after document"),
        ('{"a": "x\x01"}', "Expected Number of Columns: 1 Found: 2"),
        ("hello", "not JSON: "),
        ("5", "a number or null, where an object should be"),
        ("null", "a number or null, where an object should be"),
        ('"x"', "text, where an object should be"),
        ('["a"]', "an array, where an object should be"),
        ('{"a": {"b": 1}}', ", column 'a': '{\"b\":1}' (an object) is not of type string"),
        ('{"a": 5}', ", column 'a': '5' is not of type string"),
        (nested(DEEPEST + 1), f"nested deeper than {DEEPEST}"),
        (wide(MOST_FIELDS + 1), f"an object of more than {MOST_FIELDS:,} fields"),
        (f'{{"a": [[{{"b": {wide(MOST_FIELDS + 1)}}}]]}}', f"an object of more than {MOST_FIELDS:,} fields"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 70_000], ids=["at once", "far behind"])
def test_a_bad_line_by_its_number(desk: Desk, bad: str, says: str, before: int) -> None:
    raw = '{"a": "first"}\n\n' + '{"a": "xxxxxxxxx"}\n' * before + f"{bad}\n" + '{"a": "last"}\n'
    with pytest.raises(RefusedFileError) as caught:
        desk.run(raw, of_json(TEXT), sql="SELECT a FROM source LIMIT 1")
    assert caught.value.reason.startswith(f"line {before + 3}")
    assert says in caught.value.reason


@pytest.mark.parametrize(("text", "fits"), [(nested(DEEPEST), 1), (wide(MOST_FIELDS), 1)])
def test_what_is_just_within_the_bounds(desk: Desk, text: str, fits: int) -> None:
    assert desk.run(text, of_json(*columns(a="json"))).rows_out == fits


def test_many_brackets_and_colons_are_no_depth_and_no_width(desk: Desk) -> None:
    text = json.dumps({"a": [{"b": {"c:": '{[":' * 9}, "d": []} for _ in range(2000)]})
    assert desk.run(text, of_json(*columns(a="json"))).rows_out == 1


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ('[{"a": "x"}\n,\n{"a": }]', "line 3: not JSON: Expecting value"),
        ('[{"a": "x"}\n {"a": "y"}]', "line 2: not JSON: '{', where ',' should be"),
        ('[\n{"a": "x"},\n]', "line 3: row 2 of the array is no object"),
        ('[\n{"a": "x"},\n5]', "line 3: row 2 of the array is no object"),
        ('[{"a": "x"},\n[1]]', "line 2: row 2 of the array is no object"),
        ('[{"a": "x"}\n', "not JSON: the end of the file, where ',' should be"),
        ('[{"a": "x"}]\n{"a": "y"}', "line 2: '{' stands behind the end of the array"),
        ('[{"a": "x"}, {"a": NaN}]', "row 2 of the array: NaN is not JSON"),
        ('[{"a": "x"}, {"a": ' + "[" * 100_000 + "]" * 100_000 + "}]", "row 2 of the array is nested too deep"),
        (f'[{nested(2)}, {nested(DEEPEST + 1)}]', f"row 2: nested deeper than {DEEPEST}"),
    ],
)  # fmt: skip
def test_a_bad_array(desk: Desk, raw: str, says: str) -> None:
    assert says in desk.refused(UnreadableFileError, raw, of_json(TEXT))


def test_an_array_is_read_in_pieces(desk: Desk) -> None:
    some = [{"a": "x" * 300, "n": place} for place in range(20_000)]
    raw = json.dumps(some, indent=1)
    assert len(raw) > 4 * MIB
    desk.run(raw, of_json(TEXT, WHOLE))
    assert [row[1] for row in desk.rows()] == list(range(20_000))
    spoilt = raw.replace('"n": 19990', '"n": 1999O')
    line = spoilt[: spoilt.index("1999O")].count("\n") + 1
    assert desk.refused(UnreadableFileError, spoilt, of_json(TEXT, WHOLE)).startswith(f"line {line}: not JSON")
    assert desk.refused(SchemaMismatchError, raw.replace('"n": 19990', '"n": "x"'), of_json(TEXT, WHOLE)).startswith(
        "row 19991, "
    )


def test_a_line_that_is_too_long(desk: Desk) -> None:
    reason = desk.refused(
        UnreadableFileError, '{"a": "y"}\n{"a": "' + "x" * (LARGEST_BYTES + 10) + '"}\n', of_json(TEXT)
    )
    assert reason.startswith("line 2: ")
    assert "Maximum line size" in reason


def test_an_array_is_refused_whose_object_is_too_long(desk: Desk) -> None:
    reason = desk.refused(UnreadableFileError, '[\n{"a": "' + "x" * (LARGEST_BYTES + 10) + '"}]\n', of_json(TEXT))
    assert "16,777,216" in reason or "Maximum line size" in reason


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", [1, -7], ['"12"', "1.5", "1.0", "1e3", "true", "99999999999", "[1]"]),
        ("bigint", [2**62], ["18446744073709551615", "123456789012345678901234567890"]),
        ("double", [1, 1.5, 1e300], ['"1.5"', "true", "{}"]),
        ("boolean", [True], ['"true"', "1", "0"]),
        ("string", ["007", ""], ["7", "true", "[]"]),
        ("date", ["2026-11-23"], ["20261123", '"23.11.2026"', '"2026-02-30"']),
        ("timestamp", ["2026-11-23T10:00:00Z"], ["1763892000", '"10:00"']),
        ("decimal(6,2)", [1.25, "1.25", 7], ['"1.255"', "1.255", "12345.6789", "true", '"x"']),
    ],
)  # fmt: skip
def test_a_value_is_of_jsons_own_type(desk: Desk, kind: str, good: list[Any], bad: list[str]) -> None:
    registered = of_json(*columns(v=kind))
    assert desk.run("\n".join(json.dumps({"v": one}) for one in good), registered).nulled == {}
    for value in bad:
        reason = desk.refused(SchemaMismatchError, f'{{"v": null}}\n{{"v": {value}}}', registered)
        assert reason.startswith("line 2, column 'v': ")
        assert f"is not of type {kind}" in reason
        assert desk.run(f'{{"v": {value}}}', of_json(*columns(v=kind), mismatch="null")).nulled == {"v": 1}
        assert desk.rows() == [(None,)]


def test_a_parent_that_is_no_object(desk: Desk) -> None:
    raw = '{"wind": {"speed": 1}}\n{"wind": null}\n{"wind": "calm"}\n'
    registered = columns(wind__speed="double")
    reason = desk.refused(SchemaMismatchError, raw, of_json(*registered))
    assert reason == "line 3, column 'wind.speed': 'wind' is no object"
    assert desk.run(raw, of_json(*registered, mismatch="null")).nulled == {"wind.speed": 1}


def test_a_required_field_stands_in_every_object(desk: Desk) -> None:
    required = {"name": "n", "type": "int", "required": True}
    for mismatch in ("quarantine", "null"):
        registered = of_json(TEXT, required, mismatch=mismatch)
        reason = desk.refused(SchemaMismatchError, '{"a": "x", "n": null}\n{"a": "y"}\n{"a": "z"}', registered)
        assert reason == "line 2: field 'n' is missing (and 1 more)"
        desk.refused(SchemaMismatchError, '{"n": "x"}', registered)


def test_none_of_the_declared_fields(desk: Desk) -> None:
    reason = desk.refused(UnreadableFileError, '{"b": 1}\n{"c": 2}\n', of_json(TEXT, WHOLE))
    assert reason == 'none of the declared fields is in any of 2 objects; line 1 begins {"b": 1}'
    desk.refused(UnreadableFileError, '{"b": 1}\n', of_json())


@pytest.mark.parametrize("raw", ["", "\n \n", "\ufeff"])
def test_empty_json(desk: Desk, raw: str) -> None:
    assert desk.refused(EmptyFileError, raw, of_json(TEXT)) == "the file is empty"


def test_csv_is_not_json_and_json_is_not_csv(desk: Desk) -> None:
    assert desk.refused(UnreadableFileError, "a,n\nx,1\n", of_json(TEXT, WHOLE)).startswith("line 1: not JSON")
    assert "none of the declared columns" in desk.refused(
        UnreadableFileError, '{"a": "x"}\n', registration(TEXT, WHOLE)
    )


# Errors of the SQL


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("-- names\nSELECT a,\n  nothing\nFROM source", "light.sql, line 3: Binder Error: Referenced column"),
        ("SELECT a\nFRUM source", "light.sql, line 2: Parser Error: "),
        ("SELECT a::INT AS n FROM source", "light.sql: Conversion Error: CSV Error on Line: 2"),
        ("SELECT 1; SELECT 2", "light.sql: it must be a single SELECT"),
        ("SELECT sum(n) AS n\nFROM source", "light.sql: its column 'n' is HUGEINT"),
    ],
)
def test_an_error_of_the_sql_names_file_and_line(desk: Desk, sql: str, says: str) -> None:
    with pytest.raises(RefusedFileError) as caught:
        desk.run("a,n\nx,1\n", registration(TEXT, WHOLE), sql=sql)
    assert caught.value.reason.startswith(says)


def test_the_limits_are_the_same_for_json(desk: Desk) -> None:
    assert math.isclose(LIMITS.memory_mib, 256)
    raw = "".join(f'{{"a": "{"x" * 50}", "n": {place}}}\n' for place in range(200_000))
    assert desk.run(raw, of_json(TEXT, WHOLE)).rows_out == 200_000
