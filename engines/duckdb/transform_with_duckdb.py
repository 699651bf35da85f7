"""The heavy transform of a batch on DuckDB: the program of the engine ``fargate``.

Started with ``--JOB_RUN_ID --team --dataset --batch_id --attempt --manifest --output --outcome``. The dataset's
``heavy.sql`` is one query over the view ``staged``, in DuckDB's SQL; without one, rows go through as they are. The
query sees the staged files and nothing else of the machine: no other file, no network, no environment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import batch_program
import duckdb
from batch_program import HeavyTransformError, Source, Staged, faulty_line, reason

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def transform(duck: DuckDBPyConnection, staged: Staged, source: Source | None, _folder: Path) -> None:
    """Make ``result`` of the dataset's query.

    Raises:
        HeavyTransformError: the text is not one query, or the query fails.
    """
    duck.execute(f"CREATE VIEW staged AS SELECT * FROM {batch_program.scan(staged.files)}")  # noqa: S608
    if source is None:
        duck.execute("CREATE TABLE result AS SELECT * FROM staged")
        return
    try:
        duck.execute(f"CREATE TABLE result AS {one_query(duck, source)}")
    except duckdb.Error as error:
        line = faulty_line(error)
        place = source.uri if line is None else f"{source.uri}, line {line}"
        raise HeavyTransformError(f"{place}: {reason(error)}") from error


def one_query(duck: DuckDBPyConnection, source: Source) -> str:
    """The query of a text.

    Raises:
        HeavyTransformError: it holds no statement, several, or one that is no query.
        duckdb.Error: it is no SQL.
    """
    found = duck.extract_statements(source.text)
    if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
        raise HeavyTransformError(f"{source.uri}: must hold one query (SELECT), and holds {len(found)} statements")
    return source.text.strip().rstrip(";")


if __name__ == "__main__":
    batch_program.main(transform, batch_program.arguments(sys.argv[1:]))
