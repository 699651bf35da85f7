"""Athena answers from the Glue Data Catalog: registered partitions, declared columns and types, and views.

Stock MiniStack reads whatever lies under a table's location and takes its columns from the files, so
data would be visible that was never published, and a wrong declaration would not be noticed. Its
result object is `<location>/<id>.csv/<id>.csv`, and a workgroup's settings never override the client's.
https://docs.aws.amazon.com/athena/latest/ug/partitions.html
https://docs.aws.amazon.com/athena/latest/ug/querying-finding-output-files.html
https://docs.aws.amazon.com/athena/latest/ug/workgroups-settings-override.html
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote, urlsplit

import duckdb

from tarn.local.extension.athena_views import with_views
from tarn.local.extension.hive_types import can_be_read_as, to_duckdb
from tarn.local.extension.patching import original, replace, require
from tarn.local.settings import Settings

ATHENA = "ministack.services.athena"
GLUE = "ministack.services.glue"
S3 = "ministack.services.s3"


def install(_settings: Settings) -> None:
    """Replace how a table becomes a relation, and where results go."""
    require(ATHENA, "_table_references", "_qualified_column_prefixes")
    tables = CatalogTables(original(ATHENA, "_materialize_table_files"), original(ATHENA, "_table_relation"))
    rewrite = original(ATHENA, "_rewrite_data_paths")
    start = original(ATHENA, "_start_query_execution")

    async def rewrite_on_a_thread(query: str, database: str, *rest: Any) -> Any:
        # it copies the table's files, for which no other request should wait
        return await asyncio.to_thread(lambda: asyncio.run(rewrite(with_views(query, database), database, *rest)))

    replace(ATHENA, "_materialize_table_files", _new_folder)
    replace(ATHENA, "_table_relation", tables.relation)
    replace(ATHENA, "_rewrite_data_paths", rewrite_on_a_thread)
    replace(ATHENA, "_start_query_execution", lambda request: _start(start, request))
    replace(ATHENA, "_save_query_results", _save_results)
    replace(ATHENA, "_datum_text", _text)


class CatalogTables:
    """Tables of the catalog as DuckDB relations."""

    def __init__(self, fetch: Callable[..., list[str]], read: Callable[..., str]) -> None:
        self._fetch, self._read = fetch, read

    def relation(self, table: dict[str, Any], folders: list[str]) -> str:
        """The rows of a table's registered partitions, with exactly the table's columns."""
        if (table.get("Parameters") or {}).get("projection.enabled", "").lower() == "true":
            raise ValueError("Partition projection is not supported on a laptop")
        keys = table.get("PartitionKeys") or []
        files = list(self._files(table, [key["Name"] for key in keys], Path(folders[0])))
        columns = [
            (column["Name"], to_duckdb(column["Type"])) for column in [*table["StorageDescriptor"]["Columns"], *keys]
        ]
        if not files:
            nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns)
            return f"(SELECT {nothing} WHERE false)"
        relation = self._read(table, files)
        if original(ATHENA, "_data_format")(table) != "parquet":
            return relation
        stored = _stored_types(relation)
        selected = ", ".join(_column(name, kind, stored.get(name.lower())) for name, kind in columns)
        return f"(SELECT {selected} FROM {relation})"  # noqa: S608 - of the catalog's names

    def _files(self, table: dict[str, Any], keys: list[str], folder: Path) -> Iterator[str]:
        """Copy the objects of each location into Hive's folders, wherever its partition lies in S3."""
        for number, (values, location) in enumerate(_locations(table, keys)):
            target = folder / str(number)
            for key, value in zip(keys, values, strict=True):
                target /= f"{key}={quote(value, safe='')}"
            temporary: list[str] = []
            found = [Path(file) for file in self._fetch(location, temporary)]
            if found:
                target.parent.mkdir(parents=True, exist_ok=True)
                root = Path(temporary[0]).rename(target)
                yield from (str(root / file.relative_to(temporary[0])) for file in found)


def _locations(table: dict[str, Any], keys: list[str]) -> Iterator[tuple[list[str], str]]:
    location = table["StorageDescriptor"]["Location"]
    if not keys:
        yield [], location
        return
    name = f"{table['DatabaseName']}/{table['Name']}"
    for partition in original(GLUE, "_partitions").get(name, []):
        values = partition["Values"]
        folders = "/".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        own = (partition.get("StorageDescriptor") or {}).get("Location")
        yield values, own or f"{location.rstrip('/')}/{folders}/"


def _new_folder(_location: str, workdirs: list[str]) -> list[str]:
    """In the place of the files under a location: where `CatalogTables` puts those that count."""
    workdirs.append(mkdtemp(prefix="athena-"))
    return workdirs[-1:]


def _stored_types(relation: str) -> dict[str, str]:
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # noqa: S608 - of files of ours
    return {row[0].lower(): row[1] for row in described}


def _column(name: str, kind: str, stored: str | None) -> str:
    """A column of the table: NULL where the files lack it, an error where they hold something else."""
    if stored is None:
        return f'CAST(NULL AS {kind}) AS "{name}"'
    if not can_be_read_as(stored, kind):
        raise ValueError(
            f"HIVE_BAD_DATA: Field {name}'s type {stored} in parquet file is incompatible with type {kind} "
            "defined in table schema"
        )
    utc = " AT TIME ZONE 'UTC'" if stored == "TIMESTAMP WITH TIME ZONE" else ""
    return f'CAST("{name}"{utc} AS {kind}) AS "{name}"'


def _start(start: Callable[[dict[str, Any]], Any], request: dict[str, Any]) -> Any:
    """StartQueryExecution with the location that counts: the client's, unless the workgroup overrides it."""
    original(ATHENA, "_ensure_default_workgroup")()
    name = request.get("WorkGroup", "primary")
    group = original(ATHENA, "_workgroups").get(name)
    if group is None:
        return original(ATHENA, "error_response_json")("InvalidRequestException", f"WorkGroup {name} is not found", 400)
    configuration = group.get("Configuration", {})
    of_group = configuration.get("ResultConfiguration", {}).get("OutputLocation")
    of_client = request.get("ResultConfiguration", {}).get("OutputLocation")
    # it is the default, and a string where it came from a template's parameter
    enforced = str(configuration.get("EnforceWorkGroupConfiguration", True)).lower() == "true"
    location = (of_group or of_client) if enforced else (of_client or of_group)
    if not location:
        return start(request)
    return start({**request, "ResultConfiguration": {"OutputLocation": location.rstrip("/") + "/"}})


async def _save_results(query_id: str) -> None:
    """Write the result where `GetQueryExecution` says that it is, each value in quotes, as Athena does."""
    execution = original(ATHENA, "_executions").get(query_id)
    results = execution["_results"]
    rows = [["" if value is None else _text(value) for value in row] for row in results["rows"]]
    content = io.StringIO()
    csv.writer(content, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([results["columns"], *rows])
    url = urlsplit(execution["ResultConfiguration"]["OutputLocation"])
    body = content.getvalue().encode()
    headers = {"content-type": "text/csv", "content-length": str(len(body))}
    answer = original(S3, "_put_object")(url.netloc, url.path.lstrip("/"), body, headers)
    if isinstance(answer, tuple) and answer[0] >= 300:
        reason = f"The result was not written to {execution['ResultConfiguration']['OutputLocation']}: {answer[2]!r}"
        execution["Status"].update(State="FAILED", StateChangeReason=reason)


def _text(value: Any) -> str:
    """A value as `VarCharValue` has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}={_text(item)}' for key, item in value.items())}}}"
    return str(value)
