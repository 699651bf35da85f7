"""The light transform in Python: a dataset's own ``transform(path)`` makes the rows of one raw file.

It runs in a process of its own, without this process's environment (where the role's keys stand), with bounds on its
memory, its rows and its time, and is killed with all that it has started when its time is over. What it returns is
checked like a file: the declared columns and no others, values of their types.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lake import light_transform, python_child
from lake.file_schema import FileSchema
from lake.light_transform import Limits, OutOfTimeError, Transformed
from lake.observability import logger
from lake.raw_file import RefusedFileError

SECONDS = 60
"""What the code has for one object, whatever its neighbours take: the same file always meets the same end. A run has
time for three, so that even ten objects whose transform never returns are settled before their messages are dead."""
_SHOWN_CHARACTERS = 2000


class PythonTransformError(RefusedFileError):
    """The dataset's Python raised, never returned, or returned what cannot be taken."""


@dataclass(frozen=True)
class Code:
    """The dataset's Python: the ``text`` of the file ``name``."""

    name: str
    text: str


def transform(
    source: Path,
    target: Path,
    schema: FileSchema,
    code: Code,
    limits: Limits,
    *,
    memory_mib: int,
    shows_nulled: bool = False,
) -> Transformed:
    """Write what ``code`` makes of the file ``source`` to ``target``, as zstd Parquet.

    ``limits.text_mib`` is also the most that its rows may take on disk, ``memory_mib`` the most that its process may
    take of memory. The code has ``SECONDS``, or what is left of ``limits.seconds``. ``shows_nulled`` is as of SQL.

    Raises:
        RefusedFileError: one of its kinds; the same file is refused again.
        OutOfTimeError: ``limits.seconds`` are over, before ``SECONDS`` are.
    """
    began = time.monotonic()
    folder = target.resolve().parent
    rows = folder / "rows"
    _run(source.resolve(), rows, schema, code, limits, memory_mib)
    left = limits.seconds - (time.monotonic() - began)
    limits = replace(limits, seconds=left)
    return light_transform.rows_transform(rows, target, schema, limits, shows_nulled=shows_nulled)


def _run(  # noqa: PLR0917
    source: Path, rows: Path, schema: FileSchema, code: Code, limits: Limits, memory_mib: int
) -> None:
    """Have the rows written by a child; they are complete when this returns."""
    work = rows.parent / "python"
    work.mkdir()
    script, report, said = work / code.name, work / "report.json", work / "said"
    script.write_text(code.text, encoding="utf-8")
    order = {
        "script": str(script),
        "source": str(source),
        "rows": str(rows),
        "report": str(report),
        "columns": [column.name for column in schema.columns],
        "strict": not schema.nulls_mismatches,
        "most_bytes": limits.text_mib << 20,
        "memory_bytes": memory_mib << 20,
    }
    (work / "order.json").write_text(json.dumps(order), encoding="utf-8")
    seconds = min(SECONDS, limits.seconds)
    try:
        with said.open("wb") as output:
            status = _wait(work, output.fileno(), seconds)
        _judge(status, report, code.name, seconds)
    finally:
        _tell(said, code.name)
        shutil.rmtree(work)


def _wait(work: Path, output: int, seconds: float) -> int | None:
    """Run the child to its end; gives its status, None where its time was over. What it has started ends with it."""
    child = subprocess.Popen(  # -P: the modules beside our program are not the user's
        [sys.executable, "-P", python_child.__file__, str(work / "order.json")],
        cwd=work,
        env=_environment(work),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _environment(work: Path) -> dict[str, str]:
    """What the child is told: where modules are, and a home of its own. No key, no name of the lake."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "HOME": str(work),
        "TMPDIR": str(work),
    }


def _judge(status: int | None, report: Path, name: str, seconds: float) -> None:
    """Refuse whatever is not a report of rows."""
    if status is None:
        if seconds < SECONDS:
            raise OutOfTimeError(f"{name} was stopped after {seconds:.0f} s, since no more time was left")
        raise PythonTransformError(f"{name} did not return within {seconds:.0f} s")
    if status < 0:
        raise PythonTransformError(f"{name}: its process was ended by {signal.Signals(-status).name}")
    if not report.exists():
        raise PythonTransformError(f"{name}: it ended its process, with status {status}")
    told = json.loads(report.read_text(encoding="utf-8"))
    if "fault" in told:
        raise PythonTransformError(told["fault"])


def _tell(said: Path, name: str) -> None:
    """Log the beginning of what the code has printed."""
    with said.open(encoding="utf-8", errors="replace") as file:
        if text := file.read(_SHOWN_CHARACTERS).strip():
            logger.info("the transform printed", extra={"file": name, "printed": text})
