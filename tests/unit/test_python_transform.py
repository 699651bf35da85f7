"""The light transform in Python: what it may return, and each way in which it goes wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import python_text, python_transform
from lake.file_schema import schema_of
from lake.light_transform import Limits, OutOfTimeError, Transformed
from lake.python_text import PythonTextError
from lake.python_transform import Code, PythonTransformError
from lake.raw_file import RefusedFileError, SchemaMismatchError
from tests.unit.transform_desk import registration

COLUMNS = [
    {"name": "s", "type": "string"},
    {"name": "n", "type": "int"},
]
LIMITS = Limits(memory_mib=256, spill_mib=256, threads=1, seconds=100, text_mib=4)


class Desk:
    """A folder of one object, and a Python transform for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "file").mkdir()

    def run(
        self,
        code: str,
        columns: list[dict[str, Any]] | None = None,
        raw: str = "raw\n",
        *,
        limits: Limits = LIMITS,
        memory_mib: int = 512,
        mismatch: str = "quarantine",
    ) -> Transformed:
        source = self.folder / "file" / "2026-11-23 a.txt"
        source.write_text(raw)
        python_text.check(code)
        schema = schema_of(registration(*(columns or COLUMNS), mismatch=mismatch))
        target = self.folder / "staged.parquet"
        return python_transform.transform(source, target, schema, Code("light.py", code), limits, memory_mib=memory_mib)

    def rows(self) -> list[tuple[Any, ...]]:
        return (
            duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(self.folder / "staged.parquet")]).fetchall()
        )

    def refused(self, code: str, kind: type[RefusedFileError] = PythonTransformError, **more: Any) -> str:
        with pytest.raises(RefusedFileError) as caught:
            self.run(code, **more)
        assert type(caught.value) is kind, caught.value.reason
        assert not (self.folder / "staged.parquet").exists()
        assert not (self.folder / "python").exists()
        return caught.value.reason


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def returning(rows: str) -> str:
    return f"from datetime import *\nfrom decimal import Decimal\ndef transform(path):\n    return {rows}\n"


# What it returns


def test_rows_of_every_type(desk: Desk) -> None:
    kinds = {
        "s": "string", "i": "int", "b": "bigint", "d": "double", "t": "boolean", "y": "date", "m": "timestamp",
        "c": "decimal(20,4)", "j": "json", "a.b": "string",
    }  # fmt: skip
    code = returning(
        "[{'s': 'é\\n\"', 'i': 7, 'b': 2**62, 'd': 1.5, 't': True, 'y': date(2026, 11, 23), 'j': {'x': [1]},"
        " 'm': datetime(2026, 11, 23, 12, 0, 0, 250000, timezone(timedelta(hours=2))), 'a.b': 'z',"
        " 'c': Decimal('1234567890123456.7891')},"
        " dict.fromkeys(['s', 'i', 'b', 'd', 't', 'y', 'm', 'c', 'j', 'a.b'])]"
    )
    done = desk.run(code, [{"name": name, "type": kind} for name, kind in kinds.items()])
    assert (done.rows_in, done.rows_out, done.nulled, done.extra) == (2, 2, {}, ())
    assert [name for name, _ in done.columns] == ["s", "i", "b", "d", "t", "y", "m", "c", "j", "a_b"]
    first, second = desk.rows()
    assert first[:5] == ('é\n"', 7, 2**62, 1.5, True)
    assert [str(one) for one in first[5:]] == [
        "2026-11-23", "2026-11-23 10:00:00.250000", "1234567890123456.7891", '{"x":[1]}', "z",
    ]  # fmt: skip
    assert second == (None,) * 10


def test_a_generator_reads_the_file_and_sees_its_name(desk: Desk) -> None:
    code = """
import csv
from collections.abc import Iterator
from pathlib import Path

def transform(path: Path) -> Iterator[dict]:
    with path.open() as file:
        for number, line in enumerate(file):
            yield {"s": path.name[:10] + line.strip(), "n": number}
"""
    desk.run(code, raw="x\ny\n")
    assert desk.rows() == [("2026-11-23x", 0), ("2026-11-23y", 1)]


def test_no_rows_are_rows(desk: Desk) -> None:
    assert desk.run(returning("()")).rows_out == 0


def test_a_hundred_thousand_rows_keep_their_order(desk: Desk) -> None:
    desk.run(returning("({'s': str(n), 'n': n} for n in range(100_000))"))
    assert [row[1] for row in desk.rows()] == list(range(100_000))


# What is refused


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("None", "light.py: transform returned a value of type NoneType, where rows should be"),
        ("{'s': 'x', 'n': 1}", "light.py: transform returned a value of type dict, where rows should be"),
        ("'rows'", "light.py: transform returned a value of type str, where rows should be"),
        ("[{'s': 'x', 'n': 1}, ('x', 1)]", "row 2: light.py returned a value of type tuple, where a mapping"),
        ("[{'s': 'x', 'n': 1, 'more': 1}]", "row 1: light.py returned column 'more', which is not declared"),
        ("[{'s': 'x', 'n': 1}, {'S': 'x', 'n': 1}]", "row 2: light.py returned column 'S', which is not declared"),
        ("[{'s': 'x', 'n': 1}, {'s': 'x'}]", "row 2: light.py returned no column 'n'"),
        ("[{'s': 'x', 'n': 1}, {1: 'x', 'n': 1}]", "row 2: light.py returned column 1, which is not declared"),
        ("[{'s': b'x', 'n': 1}]", "row 1, column 's': a value of type bytes that cannot be kept"),
        ("[{'s': {1, 2}, 'n': 1}]", "row 1, column 's': a value of type set that cannot be kept"),
        ("[{'s': [float('nan')], 'n': 1}]", "row 1, column 's': a value of type list that cannot be kept"),
    ],
)
def test_other_columns_and_what_are_no_rows(desk: Desk, rows: str, says: str) -> None:
    assert desk.refused(returning(rows)).startswith(says)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("'12'", "row 2, column 'n': '12' (text) is not of type int"),
        ("1.5", "row 2, column 'n': '1.5' is not of type int"),
        ("True", "row 2, column 'n': 'true' (true or false) is not of type int"),
        ("float('nan')", "row 2, column 'n': 'nan' (text) is not of type int"),
        ("2**40", "row 2, column 'n': '1099511627776' is not of type int"),
        ("{'x': 1}", "row 2, column 'n': '{\"x\":1}' (an object) is not of type int"),
        ("date(2026, 11, 23)", "row 2, column 'n': '2026-11-23' (text) is not of type int"),
    ],
)
def test_a_value_of_another_type_by_its_row(desk: Desk, value: str, says: str) -> None:
    code = returning(f"[{{'s': 'x', 'n': 1}}, {{'s': 'y', 'n': {value}}}]")
    assert desk.refused(code, SchemaMismatchError) == says
    assert desk.run(code, mismatch="null").nulled == {"n": 1}


def test_where_mismatches_become_null_columns_may_be_left_out(desk: Desk) -> None:
    desk.run(returning("[{'n': 1}, {}]"), mismatch="null")
    assert desk.rows() == [(None, 1), (None, None)]
    (desk.folder / "staged.parquet").unlink()
    required = [COLUMNS[0], {**COLUMNS[1], "required": True}]
    reason = desk.refused(returning("[{'n': 1}, {}]"), SchemaMismatchError, columns=required, mismatch="null")
    assert reason == "row 2: field 'n' is missing"


# What goes wrong

RAISES = """
import json

def deeper(text):
    return json.loads(text)

def transform(path):
    yield {"s": "x", "n": 1}
    deeper("{")
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (RAISES, "light.py, line 5: JSONDecodeError: Expecting property name"),
        ("def transform(path):\n    raise ValueError('no\\nway')\n", "light.py, line 2: ValueError: no way"),
        ("def transform(path):\n    return 1 / 0\n", "light.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module\ndef transform(path): ...\n", "light.py, line 1: ModuleNotFoundError: No module named"),
        ("import sys\ndef transform(path):\n    sys.exit(3)\n", "light.py, line 3: SystemExit: 3"),
        ("import os\ndef transform(path):\n    os._exit(3)\n", "light.py: it ended its process, with status 3"),
        ("import os\ndef transform(path):\n    os._exit(0)\n", "light.py: it ended its process, with status 0"),
        ("import os\ndef transform(path):\n    os.abort()\n", "light.py: its process was ended by SIGABRT"),
        ("def transform(path):\n    return transform(path)\n", "light.py, line 2: RecursionError: maximum recursion"),
        ("def transform(path):\n    raise KeyboardInterrupt\n", "light.py, line 2: KeyboardInterrupt"),
        ("class E(Exception):\n    __str__ = None\ndef transform(path):\n    raise E\n", "light.py, line 4: E"),
        ("def transform(path):\n    path.read_text('no-codec')\n", "light.py, line 2: LookupError: unknown encoding"),
    ],
)  # fmt: skip
def test_what_it_raises_by_file_and_line(desk: Desk, code: str, says: str) -> None:
    reason = desk.refused(code)
    assert reason.startswith(says)
    assert len(reason) <= 200


def test_memory_is_bounded(desk: Desk) -> None:
    reason = desk.refused("def transform(path):\n    return [bytearray(10**9)]\n", memory_mib=300)
    assert reason == "light.py, line 2: MemoryError"


def test_rows_are_bounded(desk: Desk) -> None:
    began = time.monotonic()
    reason = desk.refused("def transform(path):\n    while True:\n        yield {'s': 'x' * 1000, 'n': 1}\n")
    assert reason == "light.py returned more than 4 MiB of rows"
    assert time.monotonic() - began < 20


def test_what_it_writes_is_bounded(desk: Desk) -> None:
    code = "def transform(path):\n    with open('x', 'wb') as f:\n        while True: f.write(bytes(2**20))\n"
    assert desk.refused(code).startswith("light.py, line 3: OSError: [Errno 27] File too large")


# What is left behind when it never returns: threads, and processes of a group of their own session.
NEVER = """
import subprocess, sys, time
from pathlib import Path

def transform(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path({pid!r}).write_text(str(child.pid))
    while True:
        pass
"""


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_what_never_returns_is_ended_with_all_that_it_started(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_transform, "SECONDS", 2)
    pid = desk.folder / "pid"
    began = time.monotonic()
    assert desk.refused(NEVER.format(pid=str(pid))) == "light.py did not return within 2 s"
    assert time.monotonic() - began < 10
    time.sleep(0.2)
    assert not is_alive(int(pid.read_text()))


def test_without_time_of_its_own_it_is_not_at_fault(desk: Desk) -> None:
    with pytest.raises(OutOfTimeError, match=r"light\.py was stopped after 1 s, since no more time was left"):
        desk.run(NEVER.format(pid=str(desk.folder / "pid")), limits=Limits(256, 256, 1, seconds=1))


def test_a_thread_that_goes_on_is_not_waited_for(desk: Desk) -> None:
    code = """
import threading, time

def transform(path):
    threading.Thread(target=time.sleep, args=(600,)).start()
    return []
"""
    began = time.monotonic()
    assert desk.run(code).rows_out == 0
    assert time.monotonic() - began < 20


def test_what_it_prints_is_logged_and_nothing_else(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(python_transform.logger, "info", lambda message, extra: told.append((message, extra)))
    desk.run(
        "import sys\ndef transform(path):\n    print('hello ' * 9999)\n    print('é', file=sys.stderr)\n    return []\n"
    )
    assert [(message, extra["file"], len(extra["printed"]) <= 2000) for message, extra in told] == [
        ("the transform printed", "light.py", True)
    ]
    assert told[0][1]["printed"].startswith("hello hello")
    desk.run(returning("[]"))
    assert len(told) == 1


def test_it_sees_no_key_and_no_module_of_ours_by_its_bare_name(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("RAW_BUCKET_NAME", "raw")
    code = """
import importlib.util, os, sys

def transform(path):
    names = [name for name in os.environ if "AWS" in name or "BUCKET" in name]
    mine = [name for name in ("clock", "raw_file", "python_child") if importlib.util.find_spec(name)]
    yield {"s": f"{names} {mine} {sys.stdin.read()!r} {os.environ['HOME'] == os.getcwd()}", "n": 1}
"""
    desk.run(code)
    assert desk.rows() == [("[] [] '' True", 1)]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"


def test_it_may_use_duckdb(desk: Desk) -> None:
    code = """
import duckdb

def transform(path):
    return [{"s": "x", "n": duckdb.sql("SELECT 42").fetchall()[0][0]}]
"""
    desk.run(code, memory_mib=1024)
    assert desk.rows() == [("x", 42)]


# The text


@pytest.mark.parametrize(
    "text",
    [
        "def transform(path): return []",
        "def transform(path, extra=1, *more, key=None): return []",
        "def transform(*paths): return []",
        "def transform(path, /):\n    yield {}",
    ],
)
def test_a_text_that_defines_transform(text: str) -> None:
    python_text.check(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must define transform(path)"),
        ("def other(path): ...", "must define transform(path)"),
        ("class A:\n    def transform(path): ...", "must define transform(path)"),
        ("x = 1\ndef transform(:\n", "line 2: "),
        ("def transform(path):\nreturn 1\n", "line 2: expected an indented block"),
        ("x = '\0'", "null bytes"),
        ("\ndef transform(): ...", "line 2: transform must take one argument"),
        ("def transform(a, b): ...", "line 1: transform must take one argument"),
        ("def transform(a, *, b): ...", "line 1: transform must take one argument"),
        ("async def transform(path): ...", "line 1: transform must be a plain function"),
    ],
)
def test_a_text_that_does_not(text: str, says: str) -> None:
    with pytest.raises(PythonTextError) as caught:
        python_text.check(text)
    assert says in str(caught.value)
