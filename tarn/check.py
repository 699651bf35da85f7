"""``tarn check``: a dataset's transforms and rules over sample files, without an account and without deploying.

What runs is the lake's own code: the light transform of ``functions/lake``, and the functions of the jobs' scripts in
``glue/`` in one local Spark session, over folders instead of buckets.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lake import engines, light_transform, python_transform
from lake.file_schema import schema_of
from lake.light_transform import DEFAULT_SQL, DEFAULT_SQL_NAME, Limits, OutOfTimeError, Transformed
from lake.raw_file import RefusedFileError, literal
from tarn import registered
from tarn.registered import Dataset

if TYPE_CHECKING:
    from judge_batch import Verdict
    from pyspark.sql import SparkSession

PENDING = "pending"
LIMITS = Limits(memory_mib=1024, spill_mib=4096, threads=2, seconds=240, text_mib=4096)
"""As a function of the first hop has them, but for the disk."""


class CheckError(Exception):
    """The check cannot be run, or the dataset's heavy transform fails, for the reason in the message."""


@dataclass(frozen=True)
class Light:
    """What the light transform made of one file, or why it is refused (``reason``).

    ``columns`` are names and types of DuckDB, ``nulled`` counts values that became NULL by column, ``first_nulled``
    tells where the first of each stood and what is wrong with it, ``extra`` names columns that are not declared.
    """

    file: Path
    staged: Path | None = None
    reason: str | None = None
    rows_in: int = 0
    rows_out: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    nulled: Mapping[str, int] = field(default_factory=dict)
    first_nulled: Mapping[str, str] = field(default_factory=dict)
    extra: Sequence[str] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the staged file, by column name."""
        with duckdb.connect() as duck:
            found = duck.execute(f"SELECT * FROM read_parquet({literal(str(self.staged))})")  # noqa: S608 - our path
            names = [name for name, *_ in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@dataclass(frozen=True)
class Heavy:
    """What the heavy transform made of all staged files: rows, and (name, Glue type) as they would be published."""

    rows_in: int
    rows_out: int
    columns: Sequence[tuple[str, str]]
    partition_columns: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Judged:
    """The verdict, rule by rule; without one, why there is none."""

    verdicts: Sequence[Verdict] = ()
    not_judged: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no rule failed."""
        return all(one.outcome == "Passed" for one in self.verdicts)


@contextmanager
def sample_of(folder: Path, file: Path | None = None) -> Iterator[Light]:
    """The light transform of a dataset's (first) sample file, for the test beside it; gone when the block ends.

    Raises:
        FolderError: the folder is no dataset's.
        RegistrationError: its registration, SQL, Python or rules are refused.
        CheckError: there is no sample, or it is refused.
    """
    dataset = registered.read(folder)
    with tempfile.TemporaryDirectory(prefix="tarn-check-") as work:
        made = light(dataset, (file and [file]) or files_of(dataset, ())[:1], Path(work))[0]
        if made.reason:
            raise CheckError(f"{made.file.name}: {made.reason}")
        yield made


def files_of(dataset: Dataset, given: Sequence[Path]) -> list[Path]:
    """The files to check: those that were given, or else the dataset's samples.

    Raises:
        CheckError: a file is not there, or there is none.
    """
    if missing := [str(file) for file in given if not file.is_file()]:
        raise CheckError(f"no such file: {', '.join(missing)}")
    if not (files := list(given) or dataset.samples):
        raise CheckError(f"{dataset.folder}/samples holds no file: put one there, or name files behind the dataset")
    return files


def light(dataset: Dataset, files: Iterable[Path], work: Path) -> list[Light]:
    """The light transform of each file, as the first hop does it, each in a folder of its own below ``work``."""
    return [_light(dataset, file, work / f"object-{number}") for number, file in enumerate(files)]


def _light(dataset: Dataset, file: Path, folder: Path) -> Light:
    raw, staged = folder / "file" / file.name, folder / "staged.parquet"
    raw.parent.mkdir(parents=True)
    shutil.copyfile(file, raw)
    try:
        done = _transformed(dataset, raw, staged)
    except RefusedFileError as error:
        return Light(file, reason=error.reason)
    except OutOfTimeError as error:
        return Light(file, reason=str(error))
    finally:
        shutil.rmtree(raw.parent)
    return Light(
        file,
        staged,
        rows_in=done.rows_in,
        rows_out=done.rows_out,
        columns=dict(done.columns),
        nulled=done.nulled,
        first_nulled=done.first_nulled,
        extra=done.extra,
    )


def _transformed(dataset: Dataset, raw: Path, staged: Path) -> Transformed:
    script, schema = dataset.file("light_transform"), schema_of(dataset.row)
    if script and script.suffix == ".py":
        code = python_transform.Code(script.name, script.read_text())
        return python_transform.transform(
            raw, staged, schema, code, LIMITS, memory_mib=LIMITS.memory_mib, shows_nulled=True
        )
    beside = raw.rename(staged.with_name("raw"))  # the SQL reaches its file's folder alone
    sql, name = (script.read_text(), script.name) if script else (DEFAULT_SQL, DEFAULT_SQL_NAME)
    try:
        return light_transform.transform(beside, staged, schema, sql, LIMITS, sql_name=name, shows_nulled=True)
    finally:
        beside.unlink()


def heavy(
    spark: SparkSession, dataset: Dataset, staged: Iterable[Light], work: Path
) -> tuple[Heavy, Mapping[str, Any]]:
    """The heavy transform of all staged files, by the program of the dataset's engine, written below ``work``.

    Also gives the outcome that the judge reads.

    Raises:
        CheckError: it fails, or what it returns cannot be published; names file and line where they are known.
    """
    made = [one for one in staged if one.staged]
    partition_by = [name.lower() for name in dataset.row.get("partition_by") or ()]
    engine = dataset.row.get("engine", engines.GLUE)
    if engine in ("fargate", "sagemaker"):
        written = _by_program(engine, dataset, made, partition_by, work)
    else:
        written = _by_spark(spark, dataset, made, partition_by, work)
    columns, partition_columns = (
        [(one["name"], one["type"]) for one in written[part]] for part in ("columns", "partition_columns")
    )
    return Heavy(written["rows_in"], written["rows_out"], columns, partition_columns), written


def _by_spark(
    spark: SparkSession, dataset: Dataset, staged: Sequence[Light], partition_by: Sequence[str], work: Path
) -> Mapping[str, Any]:
    import transform_batch  # noqa: PLC0415 - needs pyspark, which the light part does not wait for

    script = dataset.file("heavy_transform")
    source = transform_batch.Source(str(script), script.read_text()) if script else None
    objects = [{"id": one.staged.as_uri(), "rows": one.rows_out} for one in staged if one.staged]
    transform_batch.configure(spark)
    try:
        return transform_batch.transform_batch(spark, objects, source, partition_by, pending(work))
    except transform_batch.TransformError as error:
        raise CheckError(str(error)) from error


def _by_program(
    engine: str, dataset: Dataset, staged: Sequence[Light], partition_by: Sequence[str], work: Path
) -> Mapping[str, Any]:
    import batch_program  # noqa: PLC0415 - as the notebook's, which brings half of Jupyter

    transform: batch_program.Transform
    if engine == "fargate":
        import transform_with_duckdb  # noqa: PLC0415

        transform = transform_with_duckdb.transform
    else:
        import transform_with_notebook  # noqa: PLC0415

        transform = transform_with_notebook.transform
    script = dataset.file("heavy_transform")
    source = batch_program.Source(str(script), script.read_text()) if script else None
    files = [one.staged for one in staged if one.staged]
    objects = [{"id": file.as_uri(), "rows": one.rows_out} for file, one in zip(files, staged, strict=True)]
    place = work / PENDING
    try:
        written = batch_program.transform_files(transform, files, objects, source, partition_by, place)
    except batch_program.TransformError as error:
        raise CheckError(str(error)) from error
    return written | {"files": [str(file) for file in place.rglob("*.parquet")]}


def judge(
    spark: SparkSession, dataset: Dataset, written: Mapping[str, Any], work: Path, jars: Sequence[Path]
) -> Judged:
    """Deequ's verdict on what ``heavy`` has ``written``.

    Raises:
        CheckError: the rules are no DQDL, or Deequ is not the one of ``jars``.
    """
    import judge_batch  # noqa: PLC0415 - needs pyspark

    rules = dataset.file("rules")
    if rules is None:
        return Judged(not_judged="the registration names no Rules")
    try:
        judge_batch.configure(spark)
        judge_batch.checked_engine(spark, [str(jar) for jar in jars])
        frame = judge_batch.read_pending(spark, pending(work), written)
        return Judged(judge_batch.judged(frame, str(rules), rules.read_text()))
    except judge_batch.JudgeError as error:
        raise CheckError(str(error)) from error


def pending(work: Path) -> str:
    """Where ``heavy`` writes below ``work``, for the judge to read."""
    return (work / PENDING).as_uri() + "/"
