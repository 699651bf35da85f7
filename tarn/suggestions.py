"""Rules that Deequ suggests for a table: its ``ConstraintSuggestionRunner``, in the words of DQDL.

Deequ profiles each column and suggests constraints; those that say something of the next file too become rules, with
thresholds rounded away from what was seen. What Deequ estimated (that a column is unique) is settled by judging the
rules over the sample itself. Not taken are its mean and deviation (they are the sample's own), its fractional ranges
(DQDL ignores a threshold on values), and bounds of a column that tells rows apart.
Source: https://github.com/awslabs/deequ, com.amazon.deequ.suggestions.Rules.EXTENDED of the pinned jar.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MOST_RULES = 20
MOST_VALUES = 30
"""A set of more values is no set of words that a person would check."""
LONGEST_CODE = 12
"""Lengths of longer texts say nothing."""
NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
WHOLE_NUMBERS = ("tinyint", "smallint", "int", "bigint")


@dataclass(frozen=True)
class Suggestion:
    """What Deequ says of one column: the name of its ``rule``, what it saw, and its constraint in Scala."""

    column: str
    rule: str
    seen: str
    code: str


@dataclass(frozen=True)
class Rule:
    """A rule in DQDL, what Deequ saw, and its rank: the most useful have the least."""

    text: str
    seen: str
    rank: int


ROW_COUNT = Rule("RowCount > 0", "Tarn's own: an empty batch is a broken delivery", 0)


def suggested(frame: DataFrame) -> list[Suggestion]:
    """What Deequ suggests for ``frame``, whose session has Deequ's jars and ``spark.sql.ansi.enabled=false``."""
    jvm: Any = frame.sparkSession._jvm
    deequ = jvm.com.amazon.deequ.suggestions
    runner = deequ.ConstraintSuggestionRunner.apply().onData(frame._jdf).addConstraintRules(deequ.Rules.EXTENDED())
    records = json.loads(deequ.ConstraintSuggestionResult.getConstraintSuggestionsAsJson(runner.run()))
    return [of_record(one) for one in records["constraint_suggestions"]]


def of_record(record: Mapping[str, str]) -> Suggestion:
    """A suggestion as Deequ writes it in JSON."""
    name = record["suggesting_rule"].partition("(")[0]
    return Suggestion(record["column_name"], name, record["current_value"], record["code_for_constraint"])


def translated(suggestions: Iterable[Suggestion], types: Mapping[str, str]) -> list[Rule]:
    """The rules that ``suggestions`` make for columns of these Glue ``types``, the most useful first.

    More than one may say the same: ``chosen`` takes what the sample passes.
    """
    by_column: dict[str, dict[str, Suggestion]] = defaultdict(dict)
    for one in suggestions:
        by_column[one.column][one.rule] = one
    rules = [rule for column, kind in types.items() for rule in _of_column(column, kind, by_column[column])]
    return [ROW_COUNT, *sorted(rules, key=lambda rule: rule.rank)]


def chosen(rules: Sequence[Rule], passed: Sequence[bool]) -> list[Rule]:
    """At most twenty of the rules that the sample passed, without those that a stronger one implies."""
    kept = [rule for rule, good in zip(rules, passed, strict=True) if good]
    implied = {rule.text.replace("IsPrimaryKey", "IsComplete") for rule in kept if rule.text.startswith("IsPrimaryKey")}
    return [rule for rule in kept if rule.text not in implied][:MOST_RULES]


def ruleset(rules: Sequence[Rule], heading: str) -> str:
    """The text of ``rules.dqdl``."""
    lines = [f"# {line}" for line in heading.splitlines()] + ["Rules = ["]
    for rule in rules:
        lines += [f"    # {rule.seen}", f"    {rule.text}{'' if rule is rules[-1] else ','}"]
    return "\n".join([*lines, "]", ""])


def _of_column(column: str, kind: str, told: Mapping[str, Suggestion]) -> list[Rule]:
    """A column's rules. A NULL fails a comparison in Deequ, unless ``where`` takes it out."""
    family = kind.partition("(")[0]
    is_complete = "CompleteIfCompleteRule" in told
    where = "" if is_complete else f' where "{column} is not null"'
    is_key = "UniqueIfApproximatelyUniqueRule" in told and family not in ("float", "double", "decimal")
    rules = []
    if is_key:
        seen = saw(told["UniqueIfApproximatelyUniqueRule"])
        rules.append(Rule(f'{"IsPrimaryKey" if is_complete else "IsUnique"} "{column}"', seen, 1))
    if "CategoricalRangeRule" in told and family in ("string", "boolean"):
        values = categories(told["CategoricalRangeRule"].code)
        if values and len(values) <= MOST_VALUES and family == "string":
            listed = ", ".join(f'"{value}"' for value in sorted(values))
            seen = f"Deequ saw {len(values)} different values"
            rules.append(Rule(f'ColumnValues "{column}" in [{listed}]{where}', seen, 2))
    elif "HasMinLength" in told and family == "string":
        rules += _lengths(column, where, told)
    if family in NUMBERS and not is_key:
        rules += _bounds(column, family, where, told)
    if is_complete:
        rules.append(Rule(f'IsComplete "{column}"', saw(told["CompleteIfCompleteRule"]), 5))
    elif "RetainCompletenessRule" in told:
        one = told["RetainCompletenessRule"]
        least = number_in(one.code, r"_ >= ([\d.]+)")
        if least is not None and least > 0:
            rules.append(Rule(f'Completeness "{column}" >= {least:g}', saw(one), 5))
    if "RetainTypeRule" in told and (named := re.search(r"ConstrainableDataTypes\.(\w+)", told["RetainTypeRule"].code)):
        names = {"Integral": "Integer", "Fractional": "Double", "Boolean": "Boolean"}
        if named[1] in names:
            seen = saw(told["RetainTypeRule"])
            rules.append(Rule(f'ColumnDataType "{column}" = "{names[named[1]]}"', seen, 6))
    return rules


def _bounds(column: str, family: str, where: str, told: Mapping[str, Suggestion]) -> list[Rule]:
    """Bounds of a number, rounded away from what was seen; one that never changed has none."""
    least, most = (number_in(told[name].seen, r": (\S+)") if name in told else None for name in ("HasMin", "HasMax"))
    if least is None or most is None or not least < most:
        return []
    seen = f"Deequ saw {_plain(least)} to {_plain(most)}"
    lower, upper = outside(least, most)
    if least >= 0 > lower:
        # nothing below zero was seen, and rounding must not let it in; `between` leaves out both its ends
        rules = [Rule(f'ColumnValues "{column}" >= 0{where}', seen, 3)]
        return [*rules, Rule(f'ColumnValues "{column}" < {_plain(upper)}{where}', seen, 4)]
    return [Rule(f'ColumnValues "{column}" between {_plain(lower)} and {_plain(upper)}{where}', seen, 3)]


def _lengths(column: str, where: str, told: Mapping[str, Suggestion]) -> list[Rule]:
    """The length of a code; of longer texts none. Deequ tells it in its constraint alone."""
    least, most = (
        number_in(told[name].code, r"_ [<>]= ([\d.]+)") if name in told else None
        for name in ("HasMinLength", "HasMaxLength")
    )
    if least is None or most is None or most > LONGEST_CODE:
        return []
    if least == most:
        return [
            Rule(f'ColumnLength "{column}" = {_plain(least)}{where}', f"Deequ saw always {_plain(least)} characters", 3)
        ]
    text = f'ColumnLength "{column}" between {_plain(least - 1)} and {_plain(most + 1)}{where}'
    return [Rule(text, f"Deequ saw {_plain(least)} to {_plain(most)} characters", 6)]


def categories(code: str) -> list[str] | None:
    """The values of ``.isContainedIn("c", Array("a", "b"))``; None where DQDL cannot write one of them."""
    listed = re.search(r"Array\((.*)\)\)$", code, re.DOTALL)
    if listed is None:
        return None
    # Deequ writes every letter beyond ASCII as Java would, \u00F6, and one beyond those in two halves
    text = re.sub(r"(?<!\\)\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), listed[1])
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    values = re.findall(r'"((?:[^"\\]|\\.)*)"(?:, |$)', text)
    written = ", ".join(f'"{value}"' for value in values)
    is_plain = not any(re.search(r'["\\\n\r]', value) or not value for value in values)
    return values if is_plain and written == text else None


def outside(least: float, most: float) -> tuple[float, float]:
    """The next round numbers outside of ``least`` and ``most``, by steps of their distance's leading power of ten."""
    step = 10.0 ** math.floor(math.log10(most - least))
    lower, upper = (math.ceil(least / step) - 1) * step, (math.floor(most / step) + 1) * step
    digits = max(0, -math.floor(math.log10(step)))
    return round(lower, digits), round(upper, digits)


def number_in(text: str, pattern: str) -> float | None:
    """The number at the pattern's first group."""
    found = re.search(pattern, text)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def saw(one: Suggestion) -> str:
    """What Deequ saw, in words, with its long fractions cut to four digits."""
    text = re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.4f}", one.seen.replace(": ", " "))
    return f"Deequ saw {text[:1].lower()}{text[1:]}"


def _plain(number: float) -> str:
    """A number as DQDL reads it: whole where it is whole, never with an exponent."""
    return str(int(number)) if number == int(number) else f"{number:.6f}".rstrip("0").rstrip(".")
