"""The folder of one object: what the light transform's tests write, run and read."""

# ruff: noqa: S608 - the SQL is ours, about files of ours

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake.file_schema import schema_of
from lake.light_transform import DEFAULT_SQL, Limits, Transformed, transform
from lake.raw_file import RefusedFileError

LIMITS = Limits(memory_mib=256, spill_mib=256, threads=2, seconds=60)
TEXT = {"name": "a", "type": "string"}
WHOLE = {"name": "n", "type": "int"}


def registration(*columns: dict[str, Any], mismatch: str = "quarantine", **form: Any) -> dict[str, Any]:
    return {
        "format": {"type": "csv", "null_tokens": ["NA", ""], **form},
        "columns": list(columns),
        "on_mismatch": mismatch,
    }


class Desk:
    """A folder of one object: writes the raw file, transforms it, reads what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = folder / "raw"
        self.staged = folder / "staged.parquet"

    def run(
        self, raw: bytes | str, registered: dict[str, Any], sql: str = DEFAULT_SQL, limits: Limits = LIMITS
    ) -> Transformed:
        self.raw.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        self.staged.unlink(missing_ok=True)
        return transform(self.raw, self.staged, schema_of(registered), sql, limits)

    def rows(self) -> list[tuple[Any, ...]]:
        return duckdb.connect().execute(f"SELECT * FROM '{self.staged}'").fetchall()

    def types(self) -> dict[str, str]:
        described = duckdb.connect().execute(f"DESCRIBE FROM '{self.staged}'").fetchall()
        return {name: kind for name, kind, *_ in described}

    def refused(self, kind: type[RefusedFileError], raw: bytes | str, registered: dict[str, Any], **more: Any) -> str:
        with pytest.raises(RefusedFileError) as caught:
            self.run(raw, registered, **more)
        assert type(caught.value) is kind, caught.value.reason
        assert len(caught.value.reason) <= 200
        assert not self.staged.exists()
        return caught.value.reason
