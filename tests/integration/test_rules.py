"""The rules' check with the real DQDL parser: what it refuses, at which line, with which remedy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tarn import rules

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dqdl() -> Iterator[rules.Parser]:
    with rules.parser() as parser:
        yield parser


def test_the_datasets_rules_can_be_judged() -> None:
    assert len(list((ROOT / "datasets").glob("*/*/rules.dqdl"))) >= 5
    assert rules.check(ROOT / "datasets") == []


@pytest.mark.parametrize(
    "rule",
    [
        "RowCount > (10 * 2)",
        'ColumnValues "t" > (now() - 3 days)',
        'ColumnValues "c" in ["f(x)", "#"]',
        'ColumnDataType "a" = "Integer" with threshold > 0.5',
        'CustomSql "select count(*) from primary" = 0',
        '(RowCount > 5) and ((IsComplete "a") or (IsComplete "b"))',
    ],
)
def test_rules_that_can_be_judged_are_taken(dqdl: rules.Parser, rule: str) -> None:
    assert dqdl.findings(f"Rules = [\r\n  {rule} # why\r\n]\r\n# the end") == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("RowCount", "Unexpected condition for rule of type RowCount"),
        ('iscomplete "a"', "Rule Type: iscomplete is not valid"),
        ('Variance "a" > 1', "write it as CustomSql"),
        ('IsUnique "a" "b"', "Rule Type: IsUnique is not valid"),
        ('IsComplete "a', "column 14: no viable alternative"),
        ("RowCount > avg(last(3))", "nothing is kept between batches"),
        ('ColumnValues "a" in ["x"] with threshold > 0.5', "Deequ ignores `with threshold` here"),
        ('(RowCount > 5) or (DetectAnomalies "RowCount")', "open source Deequ has no DetectAnomalies"),
        ('FileSize "s3://a/" > 5 MB', "open source Deequ has no FileSize"),
        ('SchemaMatch "other" = 1.0', "needs a second data set"),
        ('CustomSql "select * from primary"', "compare with = 0"),
        ('CustomSql "select \\"x\\"" = 0', "use ' in SQL"),
    ],
)
def test_what_cannot_be_judged_is_refused_at_its_line(dqdl: rules.Parser, rule: str, words: str) -> None:
    found = dqdl.findings(f"# rules\nRules = [\n  RowCount > 1,\n  {rule}\n]\n")
    assert [one.line for one in found] == [4]
    assert words in found[0].message


@pytest.mark.parametrize("text", ["", "Rules = [ ]", "Analyzers = [ RowCount ]"])
def test_a_file_without_rules_is_refused(dqdl: rules.Parser, text: str) -> None:
    assert len(dqdl.findings(text)) == 1


def test_the_command_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "trips"
    folder.mkdir()
    (folder / "rules.dqdl").write_text('Rules = [\n IsComplet "a"\n]\n')
    assert rules.main(["check", str(tmp_path)]) == 1
    assert f"{folder}/rules.dqdl:2: Rule Type: IsComplet is not valid" in capsys.readouterr().err
