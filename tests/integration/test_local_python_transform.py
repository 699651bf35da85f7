"""A dataset's own Python in a function of the embedded AWS: the child process runs there, too, and ends there."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local_world import Roles

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
HANDLER = """
import json, tempfile
from dataclasses import asdict
from pathlib import Path

from lake import python_transform
from lake.file_schema import schema_of
from lake.light_transform import Limits
from lake.raw_file import RefusedFileError


def handler(event, context):
    python_transform.SECONDS = 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw").write_text(event["raw"])
        schema = schema_of({"columns": [{"name": "n", "type": "int"}, {"name": "told", "type": "string"}]})
        code = python_transform.Code("light.py", event["code"])
        memory = int(context.memory_limit_in_mb) - 384
        try:
            done = python_transform.transform(
                folder / "raw", folder / "staged", schema, code, Limits(256, 256, 1, 60), memory_mib=memory
            )
        except RefusedFileError as error:
            return {"reason": error.reason}
        return {"rows": done.rows_out, "left": sorted(one.name for one in folder.iterdir())}
"""


@pytest.fixture(scope="module")
def run(client: Callable[[str], Any], roles: Roles) -> Callable[[str], Any]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.py", HANDLER)
        for module in sorted((FUNCTIONS / "lake").glob("*.py")):
            archive.write(module, f"lake/{module.name}")
    function = client("lambda").create_function(
        FunctionName="python-transform",
        Runtime="python3.11",
        Handler="index.handler",
        Role=roles.create(),
        MemorySize=1024,
        Timeout=60,
        Code={"ZipFile": file.getvalue()},
        Environment={"Variables": {"RAW_BUCKET_NAME": "raw"}},
    )["FunctionName"]

    def invoke(code: str) -> Any:
        payload = json.dumps({"code": code, "raw": "1\n2\n"})
        answer = client("lambda").invoke(FunctionName=function, Payload=payload)
        return json.loads(answer["Payload"].read())

    return invoke


def test_its_rows_are_staged(run: Callable[[str], Any]) -> None:
    code = "def transform(path):\n    return [{'n': int(n), 'told': 'x'} for n in path.read_text().split()]\n"
    assert run(code) == {"rows": 2, "left": ["raw", "rows", "staged"]}


def test_it_knows_nothing_of_its_function(run: Callable[[str], Any]) -> None:
    code = """
import os

def transform(path):
    raise ValueError(sorted(name for name in os.environ if name.startswith(("AWS", "RAW", "LAMBDA"))))
"""
    assert run(code) == {"reason": "light.py, line 5: ValueError: []"}


def test_it_is_ended_when_it_never_returns(run: Callable[[str], Any]) -> None:
    assert run("def transform(path):\n    while True: pass\n") == {"reason": "light.py did not return within 3 s"}


def test_its_memory_is_bounded(run: Callable[[str], Any]) -> None:
    assert run("def transform(path):\n    return [bytes(2**31)]\n") == {"reason": "light.py, line 2: MemoryError"}
