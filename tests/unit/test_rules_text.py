"""Rules are refused when they are registered, with the place, the rule and the remedy."""

from pathlib import Path

import pytest

from lake import rules_text
from lake.rules_text import RulesTextError

EXAMPLES = sorted((Path(__file__).parents[2] / "datasets").glob("*/*/rules.dqdl"))


def refusal(text: str) -> list[str]:
    with pytest.raises(RulesTextError) as caught:
        rules_text.check(text)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_examples_are_fine(path: Path) -> None:
    rules_text.check(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "rule",
    [
        "RowCount > 10",
        'ColumnValues "a" in ["DetectAnomalies", "x],y", "it # is"]',
        'ColumnValues "d" > "2026-01-01" with threshold > 0.5',
        'ColumnValues "d" > (now() - 3 days) with threshold > 0.5',
        'CustomSql "select * from primary where last(x) = 1" with threshold > 0.9',
        '(RowCount > 1) and ((IsComplete "a") or (IsUnique "a"))',
        'ColumnValues "n" between 1 and 2 where "x is not null"',
        'ColumnLength "a" = 3 # with threshold',
    ],
)
def test_what_open_source_deequ_knows_passes(rule: str) -> None:
    rules_text.check(f"Rules = [\n    {rule},\n    RowCount > 0\n]")


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('IsCompleet "a"', ["IsCompleet is not a rule type", "write IsComplete"]),
        ('isComplete "a"', ["write IsComplete"]),
        ('Zzz "a"', ["known are ColumnCorrelation"]),
        ('DetectAnomalies "RowCount"', ["DetectAnomalies", "fixed bounds"]),
        ('FileFreshness "s3://a" > 1', ["FileFreshness", "leave it out"]),
        ("RowCount > avg(last(10))", ["last()", "compare with a number"]),
        ('ColumnValues "n" > 0 with threshold > 0.5', ["ignored", "CustomSql"]),
        ('ColumnValues "c" in ["b"] where "n > 0" WITH Threshold > 0.5', ["ignored", "CustomSql"]),
        ('ColumnValues "c" matches "2026-.*" with threshold > 0.5', ["ignored"]),
        ('(RowCount > 1) and (ColumnValues "n" > 0 with threshold > 0.5)', ["ignored"]),
        ('Variance "n" > 1', ["Variance is not known to the DQDL parser", "CustomSql"]),
        ('SchemaMatch "other" = 1.0', ["needs a second data set"]),
        ('CustomSql "select 1"', ["compared with nothing", "= 0"]),
        ('(RowCount > 1) or ((IsComplete "a") and (Nope "b"))', ["Nope is not a rule type"]),
        ('ColumnLength "c" = 1 with threshold > 0.5', ["refused", "leave it out"]),
        ("not (RowCount > 1)", ["turn the condition round"]),
        ('"a" > 1', ["a rule type is missing"]),
        ("(RowCount > 1) and", ["a rule type is missing"]),
    ],
)
def test_what_it_does_not_know_is_told_with_line_rule_and_remedy(rule: str, words: list[str]) -> None:
    [line] = refusal(f"# rules\nRules = [\n    RowCount > 0,\n    {rule}\n]")
    assert line.startswith(f"line 4: rule {' '.join(rule.split())[:60]}")
    for word in words:
        assert word in line


def test_every_finding_is_told_at_once() -> None:
    assert len(refusal('Rules = [ Foo "a", IsComplete "b",\n Bar "c" ]')) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: there are no rules"),
        ("Rules = []", "line 1: there are no rules"),
        ("rules = [ RowCount > 0 ]", "line 1: there are no rules"),
        ("Rules = [ RowCount > 0, ]", "rule 2: nothing stands between its commas"),
        ("Rules = [\n RowCount > 0", "line 1: this [ is never closed"),
        ("Rules = [\n (RowCount > 0 ]", "line 2: this ] closes nothing"),
        ('Rules = [\n IsComplete "a ]', "line 2: this quotation mark"),
        ("Analyzers = [ RowCount ]\nRules = [ RowCount > 0 ]", "line 1: beside Analyzers"),
    ],
)
def test_a_text_that_is_no_ruleset_is_refused(text: str, words: str) -> None:
    assert refusal(text)[0].startswith(words)
