"""What a sample file tells of the files of its kind: format, separator, encoding, words for NULL, columns and types.

DuckDB's sniffer finds a CSV's dialect; the types are the lake's own strict forms (``lake.file_schema``), tried on
every value, so that what is inferred here is what the light transform will accept. The lake's reader has the last word.
"""

# ruff: noqa: S608 - the SQL here is composed of our own words; names and values go through quoted() and literal()

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from lake import light_transform
from lake.file_schema import ENCODINGS, FileSchema, kind_of, schema_of, source_name
from lake.file_schema import Column as DeclaredColumn
from lake.light_transform import DEFAULT_SQL
from lake.plain_text import plain_text
from lake.raw_file import (
    RefusedFileError,
    SchemaMismatchError,
    Source,
    UnreadableFileError,
    csv_source,
    literal,
    quoted,
)
from tarn.check import LIMITS

MOST_ROWS = 1_000
MOST_BYTES = 1 << 20
NULL_WORDS = (
    "NA", "N/A", "n/a", "na", "NULL", "Null", "null", "None", "none", "NaN", "nan", "#N/A", "\\N", "-", "--", "?", ".",
)  # fmt: skip
"""Words that mean NULL where they stand among numbers, dates or truth values."""
DEFAULT_NULL_WORD = "NA"
"""``pipeline/dataset.yaml`` takes it for NULL where the registration says nothing."""
TRUTH = ("true", "false", "yes", "no")
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y")
TIMES = ("", " %H:%M", " %H:%M:%S")
_NO_NAME = rf"{kind_of('double').form}|{kind_of('timestamp').form}"
_FROM_DUCKDB = {
    "boolean": "boolean", "tinyint": "tinyint", "smallint": "smallint", "integer": "int", "bigint": "bigint",
    "utinyint": "smallint", "usmallint": "int", "uinteger": "bigint", "ubigint": "decimal(20,0)",
    "hugeint": "decimal(38,0)", "float": "float", "double": "double", "date": "date", "timestamp": "timestamp",
    "timestamp with time zone": "timestamp", "timestamp_s": "timestamp", "timestamp_ms": "timestamp",
    "timestamp_ns": "timestamp", "decimal": "decimal", "varchar": "string", "uuid": "string", "enum": "string",
}  # fmt: skip


class SampleError(Exception):
    """The file is no sample: nothing can be inferred from it, for the reason in the message."""


@dataclass(frozen=True)
class Column:
    """A column of the files: its name there, its declared type, and what the light transform makes of it.

    ``in_source`` is its name in the relation ``source``, ``published`` the one that the SQL gives it; ``day_format``
    is how a text of days is written (``strptime``), where only one way fits every value; ``remark`` is for a person.
    """

    name: str
    type: str
    required: bool
    in_source: str = ""
    published: str = ""
    day_format: str | None = None
    remark: str = ""

    @property
    def declared(self) -> str:
        """As a registration's ``Columns`` has it."""
        return f"{self.name}:{self.type}{':required' if self.required else ''}"

    @property
    def published_type(self) -> str:
        """The declared type of what the light transform publishes."""
        if self.day_format is None:
            return self.type
        return "timestamp" if "%H" in self.day_format else "date"


@dataclass(frozen=True)
class Sample:
    """What was inferred. ``form`` has the parameters of ``pipeline/dataset.yaml`` that are not its defaults."""

    file: Path
    file_type: str
    columns: tuple[Column, ...]
    rows: int
    form: Mapping[str, str] = field(default_factory=dict)
    null_words: tuple[str, ...] = (DEFAULT_NULL_WORD,)
    left_out: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, Any]:
        """The part of a registration row by which such files are read."""
        return {
            "format": {
                "type": self.file_type,
                "encoding": self.form.get("Encoding", "utf-8"),
                "separator": self.form.get("Separator", ","),
                "quote": self.form.get("Quote", '"'),
                "header": self.form.get("Header", "true") == "true",
                "null_tokens": list(self.null_words),
            },
            "columns": [{"name": one.name, "type": one.type, "required": one.required} for one in self.columns],
        }


def infer(file: Path) -> Sample:
    """Read the whole of ``file``.

    Raises:
        SampleError: it is not there, empty, or cannot be read by the lake as any of its formats.
    """
    if not file.is_file():
        raise SampleError(f"{file}: no such file")
    with tempfile.TemporaryDirectory(prefix="tarn-sample-") as name, duckdb.connect() as duck:
        folder = Path(name)
        try:
            sample = _inferred(duck, file, folder)
            return _named(_accepted(sample, folder))
        except RefusedFileError as error:
            raise SampleError(f"{file}: {error.reason}") from error
        except duckdb.Error as error:
            raise SampleError(f"{file}: {str(error).strip().splitlines()[0]}") from error


def keep(sample: Sample, folder: Path) -> Path:
    """Write the first 1,000 rows of the sample, at most 1 MiB, into ``folder``: the whole file where it is no more.

    Raises:
        SampleError: not even its first row fits.
    """
    file = sample.file
    if file.stat().st_size <= MOST_BYTES and sample.rows <= MOST_ROWS:
        return Path(shutil.copyfile(file, folder / _plain_name(file.name)))
    if sample.file_type == "parquet":
        return _first_parquet(file, folder / _plain_name(file.name), sample.rows)
    kept = folder / _plain_name(re.sub(r"\.(gz|zst|zstd)$", "", file.name))
    encoding = sample.form.get("Encoding", "utf-8")
    with tempfile.TemporaryDirectory(prefix="tarn-sample-") as name:
        text = _plain(file, Path(name))[0].read_bytes().decode("utf-8-sig")
    header = sample.form.get("Header", "true") == "true" and sample.file_type == "csv"
    records = _csv_records(text, sample.row["format"]) if sample.file_type == "csv" else _json_records(text)
    content, size = [], 0
    for record in islice(records, MOST_ROWS + header):
        size += len(record.encode(encoding))
        if size > MOST_BYTES:
            break
        content.append(record)
    if len(content) <= header:
        raise SampleError(f"{file}: its first row alone is larger than {MOST_BYTES >> 20} MiB")
    kept.write_text("".join(content), encoding=encoding, newline="")
    return kept


def snake_case(name: str) -> str:
    """``name`` as Athena and Glue take it, in lower-case words: ``Wind Speed`` and ``windSpeed`` are wind_speed."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", plain)
    word = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
    return f"c_{word}" if word[:1].isdigit() else word


def _inferred(duck: duckdb.DuckDBPyConnection, file: Path, folder: Path) -> Sample:
    with file.open("rb") as opened:
        head = opened.read(4)
    if not head:
        raise SampleError(f"{file} is empty")
    if head == b"PAR1":
        scan = f"read_parquet({literal(str(file))})"
        return _of_tree(duck, Sample(file, "parquet", (), 0), scan)
    text, encoding = _plain(file, folder)
    form = {} if encoding == "utf-8" else {"Encoding": encoding}
    with text.open(encoding="utf-8") as opened:
        first = opened.read(1 << 16).lstrip()[:1]
    if first in "{[":
        scan = f"read_json({literal(str(text))}, records = true, sample_size = -1, compression = 'none')"
        return _of_tree(duck, Sample(file, "json", (), 0, form), scan)
    return _csv(duck, Sample(file, "csv", (), 0, form), text)


def _plain(file: Path, folder: Path) -> tuple[Path, str]:
    """The file's text as plain UTF-8, and the first encoding in which the lake reads it."""
    refused: UnreadableFileError | None = None
    for encoding in ENCODINGS:
        try:
            schema = FileSchema(columns=(), encoding=encoding)
            return plain_text(file, folder / "text", schema, LIMITS.text_mib), encoding
        except UnreadableFileError as error:
            refused = refused or error
    assert refused is not None  # noqa: S101 - there are encodings
    raise refused


# CSV


def _csv(duck: duckdb.DuckDBPyConnection, sample: Sample, text: Path) -> Sample:
    words = literal(["", *NULL_WORDS])
    no_table = SampleError(f"{sample.file} is no table: no separator gives its lines the same number of fields")
    try:
        sniffed = duck.execute(
            "SELECT Delimiter, Quote, SkipRows, HasHeader, [one.name FOR one IN Columns]"
            f" FROM sniff_csv({literal(str(text))}, nullstr = {words}, strict_mode = true)"
        ).fetchall()[0]
    except duckdb.Error:
        csv_source(text, FileSchema(columns=()))  # the lake's reader tells what the file is instead, where it knows
        raise no_table from None
    separator, quote, skipped, header, found = sniffed
    if len(found) == 1:
        if _holds_any(text, ",;|\t"):
            raise no_table
        separator = ","
    if header and all(re.fullmatch(_NO_NAME, name) or name in NULL_WORDS for name in found):
        header = False
    if skipped:
        raise SampleError(f"{sample.file}: line {skipped} or one before it is no row: the header must be line 1")
    form = dict(sample.form)
    form |= {} if separator == "," else {"Separator": separator}
    form |= {} if quote in ('"', "(empty)", "\0", "") else {"Quote": quote}
    form |= {} if header else {"Header": "false"}
    names = () if header else tuple(f"column_{place}" for place in range(1, len(found) + 1))
    declared = tuple(DeclaredColumn(name, kind_of("string"), "string") for name in names)
    quote = form.get("Quote", '"')
    source = csv_source(text, FileSchema(columns=declared, separator=separator, quote=quote, header=header))
    if strange := [name for name in source.cells if "," in name or ":" in name or not name]:
        rule = "a declared name cannot be empty, nor hold a comma or a colon"
        raise SampleError(f"{sample.file}: column {strange[0]!r}: {rule}")
    return _typed(duck, replace(sample, form=form), source)


def _holds_any(text: Path, signs: str) -> bool:
    with text.open(encoding="utf-8") as opened:
        return any(sign in line for line in opened for sign in signs)


def _typed(duck: duckdb.DuckDBPyConnection, sample: Sample, source: Source) -> Sample:
    """The sample with the type of each column, the narrowest whose form every value has."""
    cells = [cell.sql for cell in source.cells.values()]
    words = "(" + ", ".join(literal(word) for word in NULL_WORDS) + ")"
    asked = ["count(*)", *(one for cell in cells for one in _counts(cell, words))]
    answer = duck.execute(f"SELECT {', '.join(asked)} FROM {source.scan}").fetchall()[0]
    rows, width = answer[0], len(_counts("c0", words))
    if not rows:
        raise SampleError(f"{sample.file} has no rows: types and rules cannot be inferred from a header alone")
    per_column = [answer[1 + place * width : 1 + (place + 1) * width] for place in range(len(cells))]
    types = [_narrowest(counts) for counts in per_column]
    found = [word for counts, kind in zip(per_column, types, strict=True) if kind != "string" for word in counts[1]]
    null_words = tuple(word for word in NULL_WORDS if word in found)
    plain = [word for counts in per_column for word in counts[1]]
    if not null_words and DEFAULT_NULL_WORD not in plain:
        null_words = (DEFAULT_NULL_WORD,)
    nulls = "(" + ", ".join(literal(word) for word in ("", *null_words)) + ")"
    present = duck.execute(
        f"SELECT {', '.join(f'count(*) FILTER ({cell} NOT IN {nulls})' for cell in cells)} FROM {source.scan}"
    ).fetchall()[0]
    columns = tuple(
        Column(name, kind, count == rows, name) for name, kind, count in zip(source.cells, types, present, strict=True)
    )
    columns = tuple(
        _with_days(duck, source, one, cell, nulls) if one.type == "string" and count else one
        for one, cell, count in zip(columns, cells, present, strict=True)
    )
    return replace(sample, columns=columns, rows=rows, null_words=null_words)


def _counts(cell: str, words: str) -> list[str]:
    """What is asked of a column: its values, its words for NULL, codes with a leading zero, and values of each type."""
    value = f"{cell} IS NOT NULL AND {cell} NOT IN {words}"
    asked = [
        f"count(*) FILTER ({value})",
        f"coalesce(list(DISTINCT {cell}) FILTER ({cell} IN {words}), [])",
        f"count(*) FILTER ({value} AND regexp_full_match({cell}, '\\s*([+-]?0[0-9]+|[+][0-9]+).*'))",
        f"count(*) FILTER ({value} AND lower({cell}) IN {TRUTH})",
    ]
    for name in ("int", "bigint", "double", "date", "timestamp"):
        kind = kind_of(name)
        is_one = f"regexp_full_match({cell}, {literal(kind.form)}) AND TRY_CAST({cell} AS {kind.name}) IS NOT NULL"
        asked.append(f"count(*) FILTER ({value} AND {is_one})")
    return asked


def _narrowest(counts: Sequence[Any]) -> str:
    values, _, codes, truths, *typed = counts
    if not values:
        return "string"
    if truths == values:
        return "boolean"
    for name, count in zip(("int", "bigint", "double", "date", "timestamp"), typed, strict=True):
        is_number = name in ("int", "bigint", "double")
        if count == values and not (is_number and codes):
            return name
    return "string"


def _with_days(duck: duckdb.DuckDBPyConnection, source: Source, column: Column, cell: str, nulls: str) -> Column:
    """A column of text, with the one way in which it writes days, or the remark that there are several."""
    ways = [day + time for day in DAYS for time in TIMES]
    for limit in (" LIMIT 1000", ""):
        values = f"(SELECT {cell} FROM {source.scan} WHERE {cell} NOT IN {nulls}{limit})"
        asked = ", ".join(f"count(try_strptime({cell}, {literal(way)}))" for way in ways)
        total, *counts = duck.execute(f"SELECT count(*){', ' if ways else ''}{asked} FROM {values}").fetchall()[0]
        ways = [way for way, count in zip(ways, counts, strict=True) if count == total]
        if not ways:
            return column
    if len(ways) == 1:
        return replace(column, day_format=ways[0])
    return replace(column, remark=f"days? Both fit the sample: strptime(it, {ways[0]!r}) and strptime(it, {ways[1]!r})")


def _csv_records(text: str, form: Mapping[str, Any]) -> Iterator[str]:
    """The records of a CSV's text as they are written, the header's too; one may span several lines."""
    lines = io.StringIO(text, newline="").readlines()
    quote = form["quote"]
    reader = csv.reader(
        iter(lines),
        delimiter=form["separator"],
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    begin = 0
    for _ in reader:
        yield "".join(lines[begin : reader.line_num])
        begin = reader.line_num


# JSON and Parquet


def _of_tree(duck: duckdb.DuckDBPyConnection, sample: Sample, scan: str) -> Sample:
    """The sample with the columns that DuckDB finds; nested ones by their path (JSON), or left out (Parquet)."""
    relation = duck.sql(f"SELECT * FROM {scan}")
    leaves = [
        leaf
        for name, kind in zip(relation.columns, relation.types, strict=True)
        for leaf in _leaves((name,), kind, is_json=sample.file_type == "json")
    ]
    known = [(path, kind) for path, kind in leaves if kind and not any(re.search(r"[.,:]", part) for part in path)]
    left_out = tuple(".".join(path) for path, kind in leaves if (path, kind) not in known)
    if not known:
        raise SampleError(f"{sample.file}: none of its columns can be declared: {', '.join(left_out) or 'it has none'}")
    places = [".".join(quoted(part) for part in path) for path, _ in known]
    whole = [kind == "bigint" and sample.file_type == "json" for _, kind in known]
    asked = [
        f"count({place}), {f'min({place}), max({place})' if is_whole else 'NULL, NULL'}"
        for place, is_whole in zip(places, whole, strict=True)
    ]
    rows, *answer = duck.execute(f"SELECT count(*), {', '.join(asked)} FROM {scan}").fetchall()[0]
    if not rows:
        raise SampleError(f"{sample.file} has no rows: types and rules cannot be inferred")
    columns = []
    for place, (path, kind) in enumerate(known):
        count, least, most = answer[3 * place : 3 * place + 3]
        narrow = "int" if whole[place] and count and -(2**31) <= least <= most < 2**31 else kind
        columns.append(Column(".".join(path), narrow, count == rows, source_name(".".join(path))))
    return replace(sample, columns=tuple(columns), rows=rows, left_out=left_out)


def _leaves(path: tuple[str, ...], kind: Any, *, is_json: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each path to a value that is no object, with its declared type; no type where none can be declared."""
    if kind.id == "struct" and is_json:
        for name, child in kind.children:
            yield from _leaves((*path, name), child, is_json=is_json)
        return
    name = str(kind).lower()
    if kind.id == "decimal":
        yield path, name
    else:
        yield path, _FROM_DUCKDB.get(kind.id if kind.id == "enum" else name, "json" if is_json else "")


def _json_records(text: str) -> Iterator[str]:
    """The objects of JSON lines, or of one array, each on a line of its own."""
    if not text.lstrip().startswith("["):
        return (f"{line}\n" for line in text.splitlines() if line.strip())
    return (json.dumps(one, ensure_ascii=False) + "\n" for one in json.loads(text))


def _first_parquet(file: Path, target: Path, rows: int) -> Path:
    count = min(rows, MOST_ROWS)
    with duckdb.connect() as duck:
        while True:
            duck.execute(
                f"COPY (SELECT * FROM read_parquet({literal(str(file))}) LIMIT {count})"
                f" TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)"
            )
            if target.stat().st_size <= MOST_BYTES:
                return target
            if count == 1:
                raise SampleError(f"{file}: its first row alone is larger than {MOST_BYTES >> 20} MiB")
            count //= 2


# What the lake says to it


def _accepted(sample: Sample, folder: Path) -> Sample:
    """The sample, read by the lake's own transform; a column whose values it does not take becomes text."""
    raw = Path(shutil.copyfile(sample.file, folder / "raw"))
    while True:
        try:
            light_transform.transform(raw, folder / "staged.parquet", schema_of(sample.row), DEFAULT_SQL, LIMITS)
        except SchemaMismatchError as error:
            place = _mismatched(error.reason, sample.columns)
            if place is None:
                raise
            columns = list(sample.columns)
            columns[place] = replace(columns[place], type="string")
            sample = replace(sample, columns=tuple(columns))
        else:
            return sample


def _mismatched(reason: str, columns: Sequence[Column]) -> int | None:
    """The column that a refusal names, unless it is of text already."""
    places = [place for place, one in enumerate(columns) if f"column {one.name!r}" in reason and one.type != "string"]
    return places[0] if places else None


def _named(sample: Sample) -> Sample:
    """The sample with a published name for each column: lower case, and each once."""
    taken: set[str] = {"batch"}
    columns = []
    for place, one in enumerate(sample.columns, start=1):
        word = snake_case(one.in_source) or f"column_{place}"
        name, number = word, 2
        while name in taken:
            name, number = f"{word}_{number}", number + 1
        taken.add(name)
        columns.append(replace(one, published=name))
    return replace(sample, columns=tuple(columns))


def _plain_name(name: str) -> str:
    """A file's name without what a shell or a URL stumbles over."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-") or "sample"
