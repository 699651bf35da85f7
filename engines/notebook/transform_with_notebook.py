"""The heavy transform of a batch by a notebook, run by papermill: the program of the engine ``sagemaker``.

What a processing job is told comes as environment variables: ``TARN_TEAM``, ``TARN_DATASET`` and so on. The dataset's
notebook gets two parameters (its cell tagged ``parameters`` holds their defaults): ``staged``, the paths of the staged
Parquet files, and ``result``, the path of the one Parquet file that it must write. What it prints is in the job's log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import batch_program
import duckdb
import papermill
from batch_program import HeavyTransformError, Source, Staged, reason
from papermill.exceptions import PapermillException, PapermillExecutionError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KERNEL = "python3"


def transform(duck: DuckDBPyConnection, staged: Staged, source: Source | None, folder: Path) -> None:
    """Make ``result`` of the file that the notebook writes.

    Raises:
        HeavyTransformError: there is no notebook, a cell raises, or the file is not there afterwards.
    """
    if source is None:
        raise HeavyTransformError("the registration names no HeavyTransform, and this engine runs a notebook (.ipynb)")
    result = folder / "result.parquet"
    execute(source, {"staged": [str(file) for file in staged.files], "result": str(result)}, folder)
    if not result.is_file():
        raise HeavyTransformError(f"{source.uri}: every cell ran, and none wrote the file that `result` names")
    try:
        duck.execute(f"CREATE TABLE result AS SELECT * FROM {batch_program.scan([result])}")  # noqa: S608
    except duckdb.Error as error:
        raise HeavyTransformError(f"{source.uri}: what it wrote to `result` is no Parquet: {reason(error)}") from error


def execute(source: Source, parameters: Mapping[str, Any], folder: Path) -> None:
    """Run the notebook's cells in a kernel of their own.

    Raises:
        HeavyTransformError: it is no notebook, or a cell raises; names the cell.
    """
    given, ran = folder / "given.ipynb", folder / "ran.ipynb"
    given.write_text(source.text)
    try:
        json.loads(source.text)
        papermill.execute_notebook(
            given, ran, dict(parameters), kernel_name=KERNEL, cwd=folder, log_output=True, progress_bar=False
        )
    except PapermillExecutionError as error:
        raise HeavyTransformError(f"{source.uri}, In [{error.exec_count}]: {error.ename}: {error.evalue}") from error
    except (PapermillException, ValueError) as error:
        raise HeavyTransformError(f"{source.uri}: is no notebook that papermill runs: {reason(error)}") from error


def words(environment: Mapping[str, str]) -> dict[str, str]:
    """What the job is told; a missing name is a ``KeyError`` that says which."""
    return {word: environment[f"TARN_{word.upper()}"] for word in batch_program.WORDS}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)  # where papermill prints
    batch_program.main(transform, words(os.environ))
