"""Rules as text: where each begins."""

from tarn.rules import Written, split_rules

TEXT = """# the airports
good = ["EWR", "]"] # not a rule ]
Rules = [
    RowCount > 0,   # first, of two
    ColumnValues "origin" in ["EWR",
        "J,K"],
    (IsComplete "a") and
        (IsComplete "b"), CustomSql "select count(*) from primary where x in (1, 2)" = 0
]
Analyzers = [ RowCount ]
"""


def test_each_rule_has_its_line_and_text() -> None:
    before, rules = split_rules(TEXT)
    assert before == '# the airports\ngood = ["EWR", "]"] # not a rule ]\n'
    assert [rule.line for rule in rules] == [4, 5, 7, 8]
    assert rules[0] == Written(4, "RowCount > 0")
    assert rules[3] == Written(8, 'CustomSql "select count(*) from primary where x in (1, 2)" = 0')


def test_a_text_without_rules_has_none() -> None:
    assert split_rules("Analyzers = [ RowCount ]") == ("Analyzers = [ RowCount ]", [])
    assert split_rules("Rules=[]") == ("", [])
