"""``tarn new dataset``: a dataset's whole folder from one sample file, checked before it stands there.

Everything is written beside the datasets first, read as the lake reads it, transformed, profiled and judged; then the
folder is moved to its place. What fails leaves nothing behind, and an existing folder is never touched.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import duckdb

from lake import engines
from lake.raw_file import literal, quoted
from tarn import check, layers, registered, rules, sample, spark, suggestions
from tarn.sample import Column, Sample
from tarn.suggestions import Rule

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SKELETON = Path(__file__).parent / "skeleton"
NOTEBOOK = "heavy.ipynb"
NAME = r"[a-z][a-z0-9_]{0,31}"
TEAM_NAME = r"[a-z][a-z0-9-]{0,31}"
NAME_RULE = "a lower-case letter, then lower-case letters, digits and underscores, at most 32 in all"
WIDTH = 120
MOST_COLUMNS_BYTES = 4096
"""Of a parameter: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
ROWS_OF_A_DAY = 100
"""A day of fewer rows is no partition of its own: files would be many and small."""


class NewDatasetError(Exception):
    """The dataset is not made, for the reason in the message."""


@dataclass(frozen=True)
class Created:
    """What was made: the folder, what was inferred, how many rules, and what a person should look at."""

    folder: Path
    sample: Sample
    rules: int
    remarks: Sequence[str]

    @property
    def files(self) -> list[Path]:
        """Every file of the folder."""
        return sorted(file for file in self.folder.rglob("*") if file.is_file())


def create(
    name: str,
    file: Path,
    *,
    pipeline: str = "main",
    python: bool = False,
    engine: str = engines.GLUE,
    jars: Sequence[Path] | None,
    datasets: Path = registered.DATASETS,
    say: Callable[[str], None] = lambda _: None,
) -> Created:
    """Make the folder of dataset ``name`` (``TEAM/NAME``) from a sample; without ``jars`` Deequ suggests no rules.

    Raises:
        NewDatasetError: the name is wrong or taken, or the folder that was made does not pass its own check.
        SampleError: nothing can be inferred from the file.
        SparkError: Spark cannot be started.
    """
    team, dataset = _names(name, pipeline)
    place = datasets / team / dataset
    if engine not in engines.ENGINES:
        raise NewDatasetError(f"engine {engine!r}: it can be {', '.join(engines.ENGINES)}")
    if place.exists():
        raise NewDatasetError(f"{place} exists already: choose another name, or change what stands there")
    say(f"reading {file.name}")
    found = sample.infer(file)
    listed = len(", ".join(one.declared for one in found.columns).encode())
    if listed > MOST_COLUMNS_BYTES:
        raise NewDatasetError(f"{file}: its columns take {listed} of the {MOST_COLUMNS_BYTES} bytes of a parameter")
    datasets.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=datasets) as beside:
        folder = Path(beside, team, dataset)
        (folder / "samples").mkdir(parents=True)
        kept = sample.keep(found, folder / "samples")
        made = _Folder(folder, team, dataset, pipeline, found, python=python, engine=engine)
        made.write_light()
        made.write_heavy()
        with tempfile.TemporaryDirectory(prefix="tarn-new-") as work:
            (folder / "rules.dqdl").write_text(suggestions.ruleset([suggestions.ROW_COUNT], "No rules yet."))
            made.write_template([])
            whole, part = _staged(folder, [file, kept], Path(work))
            days = made.days(whole)
            made.write_template(days)
            made.write_test(part)
            chosen = _unjudged_rules(found)
            if jars is not None:
                chosen = _rules(folder, [whole, part], Path(work), jars, say)
        heading = _heading(found, part, judged=jars is not None)
        (folder / "rules.dqdl").write_text(suggestions.ruleset(chosen, heading))
        registered.read(folder)
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
    return Created(place, found, len(chosen), made.remarks())


def _names(name: str, pipeline: str) -> tuple[str, str]:
    team, _, dataset = name.partition("/")
    if not team or not dataset or "/" in dataset:
        raise NewDatasetError(f"{name!r} is not TEAM/NAME, such as air/flights")
    if team in layers.RESERVED:
        raise NewDatasetError(f"team {team!r}: the lake itself uses this name, choose another")
    for what, word in (("team", team), ("dataset", dataset), ("pipeline", pipeline)):
        pattern = NAME if what == "dataset" else TEAM_NAME
        if not re.fullmatch(pattern, word):
            rule = NAME_RULE if what == "dataset" else NAME_RULE.replace("underscores", "hyphens")
            raise NewDatasetError(f"{what} {word!r}: a name must be {rule}")
    return team, dataset


def _staged(folder: Path, files: Sequence[Path], work: Path) -> list[check.Light]:
    """The light transform that was written, over the whole file and over the part that is kept."""
    dataset = registered.read(folder)
    made = check.light(dataset, files, work)
    for one in made:
        if one.reason:
            raise NewDatasetError(f"{one.file}: the light transform that was made of it refuses it: {one.reason}")
    return made


def _unjudged_rules(found: Sample) -> list[Rule]:
    """Rules without Deequ."""
    complete = [one.published for one in found.columns if one.required][: suggestions.MOST_RULES - 1]
    return [suggestions.ROW_COUNT, *(Rule(f'IsComplete "{name}"', "no NULL in the sample", 5) for name in complete)]


def _rules(
    folder: Path, staged: Sequence[check.Light], work: Path, jars: Sequence[Path], say: Callable[[str], None]
) -> list[Rule]:
    """The rules for what is published: those that Deequ suggests of the first of ``staged`` and all of them pass."""
    dataset = registered.read(folder)
    say("starting Spark")
    with spark.session(jars) as session:
        import judge_batch  # noqa: PLC0415 - needs pyspark

        frames, types = [], {}
        for number, one in enumerate(staged):
            place = work / f"table-{number}"
            _, written = check.heavy(session, dataset, [one], place)
            types = {column["name"]: column["type"] for column in written["columns"] + written["partition_columns"]}
            judge_batch.configure(session)
            frames.append(judge_batch.read_pending(session, check.pending(place), written))
        judge_batch.checked_engine(session, [str(jar) for jar in jars])
        say("Deequ profiles the sample")
        candidates = suggestions.translated(suggestions.suggested(frames[0]), types)
        text = suggestions.ruleset(candidates, "candidates")
        say("Deequ judges what it suggests")
        verdicts = [judge_batch.judged(frame, "rules.dqdl", text) for frame in frames]
        passed = [all(one.outcome == "Passed" for one in of_rule) for of_rule in zip(*verdicts, strict=True)]
        chosen = suggestions.chosen(candidates, passed)
        _parse(session, suggestions.ruleset(chosen, "chosen"))
        return chosen


def _parse(session: SparkSession, text: str) -> None:
    """Refuse rules that the deployment's own parser would refuse."""
    if findings := rules.Parser(session.sparkContext._gateway).findings(text):
        raise NewDatasetError("\n".join(f"rules.dqdl:{one.line}: {one.message}" for one in findings))


def _heading(found: Sample, part: check.Light, *, judged: bool) -> str:
    kept = f", of which samples/ keeps {part.rows_in:,}" if part.rows_in < found.rows else ""
    rows = f"{found.file.name} ({found.rows:,} rows{kept})"
    if not judged:
        return f"What {rows} was like. Deequ was not asked: write what you know."
    return (
        f"What Deequ suggests of {rows}, which passes.\n"
        "What to change: a sample is not the world. Widen what will grow, take out what is chance, add what you know.\n"
        "`between` leaves out both its ends, and a NULL fails a comparison unless `where` takes it out."
    )


class _Folder:
    """The texts of a new dataset's folder."""

    def __init__(
        self, folder: Path, team: str, dataset: str, pipeline: str, found: Sample, *, python: bool, engine: str
    ) -> None:
        self._folder, self._found, self._python, self._engine = folder, found, python, engine
        self._names = {"team": team, "dataset": dataset, "pipeline": pipeline, "file": found.file.name}
        if python and found.file_type != "csv":
            raise NewDatasetError(f"--python begins with a CSV, and {found.file.name} is {found.file_type}: take SQL")

    def write_light(self) -> None:
        """``light.sql`` or ``light.py``."""
        if self._python:
            self._write("light.py", "light.txt", _python_of(self._found))
        else:
            width = len(self._found.columns)
            lines = [_selected(one, is_last=place == width) for place, one in enumerate(self._found.columns, start=1)]
            self._write("light.sql", "light.sql", {"select": "\n".join(f"    {line}" for line in lines)})

    def write_template(self, days: Sequence[str]) -> None:
        """``template.yaml``; ``days`` are columns that the table can be partitioned by."""
        columns = self._found.columns
        if self._python:  # what it returns
            columns = tuple(replace(one, name=one.published, type=one.published_type) for one in columns)
        lines = _folded("Columns", ", ".join(one.declared for one in columns))
        if not self._python:
            form = {} if self._found.file_type == "csv" else {"FormatType": self._found.file_type}
            form |= self._found.form
            if self._found.file_type == "csv" and self._found.null_words != (sample.DEFAULT_NULL_WORD,):
                form["NullTokens"] = ",".join(self._found.null_words)
            lines += [f"{name}: {json.dumps(value)}" for name, value in form.items()]
        lines.append(f"LightTransform: light.{'py' if self._python else 'sql'}")
        if self._engine != engines.GLUE:
            lines.append(f"Engine: {self._engine}")
        if self._engine == "sagemaker":
            lines.append(f"HeavyTransform: {NOTEBOOK}")
        if days:
            lines.append(f"PartitionBy: {days[0]}")
        elif day := next((one.published for one in self._found.columns if one.published_type == "timestamp"), None):
            lines.append(f"# PartitionBy: a day, where queries ask for days and each has many rows: {day} as a date")
        about = f"as {re.sub(r'[^ -~]', '?', self._found.file.name)} was".replace('"', "'").replace("\\", "/")
        registration = "\n".join(f"        {line}" for line in lines)
        self._write("template.yaml", "template.yaml", {"about": about, "registration": registration})

    def write_heavy(self) -> None:
        """``heavy.ipynb``, without which its engine has nothing to run; all others take the rows as they are."""
        if self._engine == "sagemaker":
            shutil.copyfile(SKELETON / NOTEBOOK, self._folder / NOTEBOOK)

    def write_test(self, part: check.Light) -> None:
        """``test_<name>.py``, by what the light transform made of the kept sample."""
        columns = "\n".join(f'            "{name}": "{kind}",' for name, kind in part.columns.items())
        values = {"rows": str(part.rows_out), "columns": columns}
        self._write(f"test_{self._names['dataset']}.py", "test_dataset.txt", values)

    def days(self, whole: check.Light) -> list[str]:
        """Columns of days without a gap, with many rows each: the table's partitions."""
        named = [one.published for one in self._found.columns if one.published_type == "date" and one.required]
        with duckdb.connect() as duck:
            table = f"read_parquet({literal(str(whole.staged))})"
            counts = [
                duck.execute(f"SELECT count(DISTINCT {quoted(name)}) FROM {table}").fetchall()[0][0]  # noqa: S608
                for name in named
            ]
        return [
            name for name, count in zip(named, counts, strict=True) if count and whole.rows_out / count >= ROWS_OF_A_DAY
        ]

    def remarks(self) -> list[str]:
        """What a person should look at, in order."""
        found = [f"left out, because it is nested: {name}" for name in self._found.left_out]
        return found + [f"{one.published}: {one.remark}" for one in self._found.columns if one.remark]

    def _write(self, name: str, skeleton: str, values: Mapping[str, str]) -> None:
        text = Template((SKELETON / skeleton).read_text()).substitute(self._names | dict(values))
        (self._folder / name).write_text(text, encoding="utf-8")


def _folded(name: str, value: str) -> list[str]:
    """``name: value`` in YAML, folded where it is long; no line is broken inside of a column."""
    indent = 8
    if len(name) + len(value) + indent + 2 <= WIDTH and re.fullmatch(r"[A-Za-z][\w:(), .-]*", value):
        return [f"{name}: {value}"]
    words = [f"{one}," for one in value.split(", ")]
    words[-1] = words[-1].removesuffix(",")
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > WIDTH - indent - 2:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [f"{name}: >-", *(f"  {line}" for line in lines)]


def _selected(column: Column, *, is_last: bool) -> str:
    """A column in the select list, with a comma and a remark."""
    name, published = _identifier(column.in_source), _identifier(column.published)
    if column.day_format:
        kind = "" if "%H" in column.day_format else "::DATE"
        text = f"strptime({name}, {literal(column.day_format)}){kind} AS {published}"
    else:
        text = name if name == published else f"{name} AS {published}"
    return f"{text}{'' if is_last else ','}{f' -- {column.remark}' if column.remark else ''}"


def _identifier(name: str) -> str:
    """``name`` in DuckDB's SQL, in quotes where it needs them."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _reserved_words() else quoted(name)


@cache
def _reserved_words() -> frozenset[str]:
    with duckdb.connect() as duck:
        found = duck.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
        ).fetchall()
    return frozenset(name for (name,) in found)


READERS = {
    "string": "", "json": "", "boolean": "truth", "float": "float", "double": "float", "decimal": "Decimal",
    "date": "date.fromisoformat", "timestamp": "moment",
}  # fmt: skip
"""How ``light.py`` reads a text of each type; of a whole number by int."""
HELPERS = {
    "truth": '''

def truth(text: str) -> bool:
    """Whether ``text`` says yes."""
    return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
''',
    "moment": '''

def moment(text: str) -> datetime:
    """A time in UTC; without an offset it is UTC already."""
    return datetime.fromisoformat(text).replace(tzinfo=datetime.fromisoformat(text).tzinfo or UTC)
''',
}


def _python_of(found: Sample) -> dict[str, str]:
    """The parts of ``light.py`` that follow from the sample."""
    form = found.row["format"]
    readers = {one: _reader(one) for one in found.columns}
    used = "".join(readers.values())
    days = sorted({name for name in ("date", "datetime", "UTC") if _needs(name, used)})
    imports = [
        "import csv",
        "from collections.abc import Callable, Iterator, Mapping",
        *([f"from datetime import {', '.join(sorted(days, key=str.lower))}"] if days else []),
        *(["from decimal import Decimal"] if "Decimal" in used else []),
        "from pathlib import Path",
    ]
    options = {"delimiter": form["separator"], "quotechar": form["quote"]}
    defaults = {"delimiter": ",", "quotechar": '"'}
    given = [f"{name}={value!r}" for name, value in options.items() if value != defaults[name]]
    if not form["header"]:
        given.insert(0, f"fieldnames={[one.name for one in found.columns]!r}")
    arguments = ", ".join(["file", *given])
    opening = (
        f'with path.open(encoding="{form["encoding"]}", newline="") as file:\n'
        f"        for line in csv.DictReader({arguments}):"
    )
    rows = [f"                {json.dumps(one.published)}: {text}," for one, text in readers.items()]
    return {
        "imports": "\n".join(imports),
        "null_words": repr(("", *(word for word in found.null_words if word))),
        "unit": "record",
        "opening": opening,
        "row": "\n".join(rows),
        "helpers": "".join(text for name, text in HELPERS.items() if f", {name})" in used),
    }


def _reader(column: Column) -> str:
    family = column.type.partition("(")[0]
    place = f"line[{json.dumps(column.name, ensure_ascii=False)}]"
    if column.day_format:
        kind = "" if "%H" in column.day_format else ".date()"
        return f"value({place}, lambda text: datetime.strptime(text, {column.day_format!r}){kind})"
    reader = READERS.get(family, "int")
    return f"value({place}{f', {reader}' if reader else ''})"


def _needs(name: str, used: str) -> bool:
    return {
        "date": "date.fromisoformat" in used,
        "datetime": ", moment)" in used or "datetime.strptime" in used,
        "UTC": ", moment)" in used,
    }[name]
