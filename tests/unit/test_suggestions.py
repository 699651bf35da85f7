"""Deequ's suggestions as rules: which become one, in which words, with which bounds. The records are Deequ's own."""

import pytest

from lake import rules_text
from tarn import suggestions
from tarn.suggestions import Rule, Suggestion

COMPLETE = ("CompleteIfCompleteRule", "Completeness: 1.0", '.isComplete("c")')
UNIQUE = ("UniqueIfApproximatelyUniqueRule", "ApproxDistinctness: 0.99367850692354", '.isUnique("c")')
SOME = (
    "RetainCompletenessRule",
    "Completeness: 0.9789283564118001",
    '.hasCompleteness("c", _ >= 0.97, Some("It should be above 0.97!"))',
)
WORDS = ("CategoricalRangeRule", "Compliance: 1", '.isContainedIn("c", Array("b (1)", "a, x"))')
FRACTION = (
    "FractionalCategoricalRangeRule",
    "Compliance: 0.98",
    '.isContainedIn("c", Array("2"), _ >= 0.98, Some("It should be above 0.98!"))',
)
MEAN = ("HasMean", "Mean: 450.0", '.hasMean("c", _ == 450.0)')


def bounds(least: float, most: float) -> list[tuple[str, str, str]]:
    return [("HasMin", f"Minimum: {least}", ""), ("HasMax", f"Maximum: {most}", "")]


def lengths(least: int, most: int) -> list[tuple[str, str, str]]:
    # Deequ writes 1.0 as the value that it saw, whatever the longest is
    return [
        ("HasMinLength", f"MinLength: {least}.0", f'.hasMinLength("c", _ >= {least}.0)'),
        ("HasMaxLength", "MaxLength: 1.0", f'.hasMaxLength("c", _ <= {most}.0)'),
    ]


def rules(kind: str, *told: tuple[str, str, str]) -> list[str]:
    made = suggestions.translated([Suggestion("c", *one) for one in told], {"c": kind})
    assert made[0] == suggestions.ROW_COUNT
    rules_text.check(suggestions.ruleset(made, "all of them"))
    return [one.text for one in made[1:]]


def test_a_record_is_read_as_deequ_writes_it() -> None:
    record = {
        "constraint_name": "CompletenessConstraint(Completeness(year,None,None))",
        "column_name": "year",
        "current_value": "Completeness: 0.9789283564118001",
        "description": "'year' has less than 3% missing values",
        "suggesting_rule": "RetainCompletenessRule(0.2,1.0,WaldIntervalStrategy())",
        "rule_description": "...",
        "code_for_constraint": '.hasCompleteness("year", _ >= 0.97, Some("It should be above 0.97!"))',
    }
    assert suggestions.of_record(record) == Suggestion("year", SOME[0], SOME[1], SOME[2].replace('"c"', '"year"'))


@pytest.mark.parametrize(
    ("kind", "told", "expected"),
    [
        ("string", [COMPLETE], ['IsComplete "c"']),
        ("string", [SOME], ['Completeness "c" >= 0.97']),
        ("string", [UNIQUE, COMPLETE], ['IsPrimaryKey "c"', 'IsComplete "c"']),
        ("string", [UNIQUE, SOME], ['IsUnique "c"', 'Completeness "c" >= 0.97']),
        ("double", [UNIQUE, COMPLETE], ['IsComplete "c"']),  # a measurement is no key
        ("bigint", [UNIQUE, COMPLETE, *bounds(1, 900)], ['IsPrimaryKey "c"', 'IsComplete "c"']),  # and ids go on
        ("string", [WORDS, COMPLETE, FRACTION], ['ColumnValues "c" in ["a, x", "b (1)"]', 'IsComplete "c"']),
        ("string", [WORDS], ['ColumnValues "c" in ["a, x", "b (1)"] where "c is not null"']),
        ("int", [("CategoricalRangeRule", "Compliance: 1", '.isContainedIn("c", Array("1", "2"))'), MEAN], []),
        ("string", [FRACTION, MEAN], []),
        ("int", [*bounds(1956, 2013), COMPLETE], ['ColumnValues "c" between 1950 and 2020', 'IsComplete "c"']),
        ("int", bounds(-48, 851), ['ColumnValues "c" between -100 and 900 where "c is not null"']),
        ("int", [*bounds(0, 59), COMPLETE], ['ColumnValues "c" >= 0', 'ColumnValues "c" < 60', 'IsComplete "c"']),
        ("decimal(5,2)", [*bounds(0.13, 0.19), COMPLETE], ['ColumnValues "c" between 0.12 and 0.2', 'IsComplete "c"']),
        ("int", bounds(2013, 2013), []),  # one file's year
        ("string", [*lengths(3, 3), COMPLETE], ['ColumnLength "c" = 3', 'IsComplete "c"']),
        ("string", [*lengths(5, 6), COMPLETE], ['IsComplete "c"', 'ColumnLength "c" between 4 and 7']),
        ("string", lengths(4, 29), []),
        (
            "string",
            [("RetainTypeRule", "DataType: Integral", '.hasDataType("c", ConstrainableDataTypes.Integral)')],
            ['ColumnDataType "c" = "Integer"'],
        ),
        ("timestamp", [COMPLETE, UNIQUE], ['IsPrimaryKey "c"', 'IsComplete "c"']),
    ],
)
def test_what_becomes_of_a_column_s_suggestions(kind: str, told: list, expected: list[str]) -> None:
    assert rules(kind, *told) == expected


@pytest.mark.parametrize(
    "code",
    [
        '.isContainedIn("c", Array("say \\"x\\"", "b"))',
        '.isContainedIn("c", Array("", "b"))',
        '.isContainedIn("c", Array("a\nb", "b"))',
        ".isNonNegative()",
    ],
)
def test_values_that_dqdl_cannot_write_make_no_rule(code: str) -> None:
    assert suggestions.categories(code) is None


def test_letters_beyond_ascii_are_read_as_deequ_writes_them() -> None:
    code = '.isContainedIn("c", Array("K\\u00F6ln", "\\uD83D\\uDE00"))'
    assert suggestions.categories(code) == ["Köln", "😀"]


def test_a_set_of_many_values_is_no_rule() -> None:
    values = ", ".join(f'"v{number}"' for number in range(suggestions.MOST_VALUES + 1))
    assert rules("string", ("CategoricalRangeRule", "Compliance: 1", f'.isContainedIn("c", Array({values}))')) == []


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (2, 450, (0, 500)),
        (0, 59, (-10, 60)),
        (100, 200, (0, 300)),
        (39.02, 41.0, (39.0, 42.0)),
        (-0.5, 0.5, (-1.0, 1.0)),
        (0.001, 0.004, (0.0, 0.005)),
    ],
)
def test_bounds_are_round_and_outside_of_what_was_seen(
    least: float, most: float, expected: tuple[float, float]
) -> None:
    lower, upper = suggestions.outside(least, most)
    assert (lower, upper) == pytest.approx(expected)
    assert lower < least < most < upper


def test_a_rule_that_the_sample_fails_or_a_key_implies_is_left_out_and_twenty_remain() -> None:
    made = [Rule(text, "", 1) for text in ('IsPrimaryKey "a"', 'IsPrimaryKey "b"', 'IsComplete "a"', 'IsComplete "b"')]
    kept = suggestions.chosen(made, [True, False, True, True])
    assert [one.text for one in kept] == ['IsPrimaryKey "a"', 'IsComplete "b"']
    assert len(suggestions.chosen([Rule(f"RowCount > {n}", "", 1) for n in range(30)], [True] * 30)) == 20


def test_each_rule_says_what_deequ_saw() -> None:
    made = suggestions.translated([Suggestion("year", *SOME)], {"year": "int"})
    assert suggestions.ruleset(made, "One.\nTwo.") == (
        "# One.\n# Two.\nRules = [\n"
        "    # Tarn's own: an empty batch is a broken delivery\n    RowCount > 0,\n"
        '    # Deequ saw completeness 0.9789\n    Completeness "year" >= 0.97\n]\n'
    )
