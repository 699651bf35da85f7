"""Views of the Glue Data Catalog, in the place of their names in a query.

Stock MiniStack knows no view. Athena keeps one as a table whose text is JSON in base64; its SQL is put into the query
as a subquery with the columns that the view declares. Names in double quotes are the same in DuckDB as in Athena.
Source: trinodb/trino, `ViewReaderUtil.java`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from tarn.local.extension.patching import original

ATHENA = "ministack.services.athena"
GLUE = "ministack.services.glue"
_TEXT = re.compile(r"/\* Presto View: (\S+) \*/")
_DEEPEST = 16


def with_views(query: str, database: str, depth: int = 0) -> str:
    """The query with each view replaced by what it selects; names without a database are of `database`."""
    if depth > _DEEPEST:
        raise ValueError("Views of views that do not end")
    edits = []
    for reference in original(ATHENA, "_table_references")(query):
        of = reference.database or database or "default"
        table = original(GLUE, "_tables").get(f"{of}/{reference.table}")
        if table is None:
            continue
        if table.get("TableType") != "VIRTUAL_VIEW":
            if depth:  # inside a view its own database counts, whatever the query's is
                edits.append((reference.start, reference.end, f"{_quoted(of)}.{_quoted(reference.table)}"))
            continue
        alias = "" if reference.aliased else f" AS {_quoted(reference.table)}"
        edits.append((reference.start, reference.end, _subquery(table, depth) + alias))
        if not reference.aliased:
            edits.extend(original(ATHENA, "_qualified_column_prefixes")(query, of, reference.table, edits[-1]))
    for start, end, replacement in sorted(set(edits), reverse=True):
        query = query[:start] + replacement + query[end:]
    return query


def _subquery(table: dict[str, Any], depth: int) -> str:
    name = f"{table['DatabaseName']}.{table['Name']}"
    found = _TEXT.fullmatch(table.get("ViewOriginalText") or "")
    if (table.get("Parameters") or {}).get("presto_view") != "true" or found is None:
        raise ValueError(f"HIVE_UNSUPPORTED_VIEW: {name} is not a view of Athena's")
    try:
        view = json.loads(base64.b64decode(found[1], validate=True))
        columns = [column["name"] for column in view["columns"]]
        sql, schema = view["originalSql"], view["schema"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"HIVE_INVALID_VIEW_DATA: {name}: {error!r}") from error
    if [column["Name"] for column in table["StorageDescriptor"]["Columns"]] != columns:
        raise ValueError(f"View '{name}' is stale or in invalid state: its columns are not the catalog's")
    selected = ", ".join(_quoted(column) for column in columns)
    return f"(SELECT {selected} FROM ({with_views(sql, schema, depth + 1)}))"  # noqa: S608 - of the catalog's names


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
