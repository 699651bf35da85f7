"""The light SQL is refused when it is registered, not when the first file lands."""

from pathlib import Path

import pytest

from lake import sql_text
from lake.sql_text import SqlTextError

COLUMNS = [("carrier", "string"), ("delay", "int"), ("landed", "timestamp"), ('odd " name', "decimal(10,2)")]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM source",
        "FROM source;",
        "-- why\nWITH late AS (FROM source WHERE delay > 15) SELECT carrier, landed::DATE AS day FROM late -- end",
        'SELECT "odd "" name" * 2 AS twice FROM source',
        "SELECT sum(delay)::BIGINT AS total FROM source",
    ],
)
def test_a_select_over_the_declared_columns_is_fine(sql: str) -> None:
    sql_text.check(sql, COLUMNS)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "holds nothing"),
        ("SELECT 1; SELECT 2", "SELECT, SELECT"),
        ("DROP TABLE source", "DROP"),
        ("COPY source TO '/tmp/stolen.csv'", "COPY"),
        ("ATTACH '/tmp/x.db'", "ATTACH"),
        ("SET enable_external_access = true", "SET"),
        ("SELEC * FROM source", "syntax error"),
        ("SELECT nowhere FROM source", 'Referenced column "nowhere" not found'),
        ("SELECT * FROM elsewhere", "elsewhere"),
        ("SELECT carrier + 1 FROM source", "Binder Error|Conversion Error|No function matches"),
        ("SELECT sum(delay) AS total FROM source", "'total' is HUGEINT.*cast it to BIGINT"),
        ("SELECT * FROM read_text('/proc/self/environ')", "disabled by configuration"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM 'https://example.com/x.parquet'", "."),
    ],
)
def test_what_is_not_is_refused(sql: str, words: str) -> None:
    with pytest.raises(SqlTextError, match=words):
        sql_text.check(sql, COLUMNS)


def test_a_path_is_a_word_with_underscores_and_a_fragment_is_json_text() -> None:
    columns = [("wind.speed", "double"), ("wind.dir.deg", "int"), ("tags", "json")]
    sql_text.check("SELECT wind_speed * 2 AS twice, wind_dir_deg, tags ->> '$[0]' AS tag FROM source", columns)
    with pytest.raises(SqlTextError, match="speed"):
        sql_text.check("SELECT wind.speed FROM source", columns)


def test_without_declared_columns_only_the_grammar_is_checked() -> None:
    sql_text.check("SELECT whatever FROM source", [])
    with pytest.raises(SqlTextError, match="syntax error"):
        sql_text.check("SELEC", [])


def test_variables_of_the_function_are_not_tables(tmp_path: Path) -> None:
    with pytest.raises(SqlTextError, match="declared"):
        sql_text.check("SELECT * FROM declared", COLUMNS)
