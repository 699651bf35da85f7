"""A dataset's rules (DQDL), checked when they are registered instead of when their first batch fails.

This is no parser of DQDL: open-source Deequ's own runs in the job. It finds what costs a team a night there: a rule
type that is not known fails the whole ruleset, and some of what managed Glue offers is ignored without a word.
Source of the types and limits: the pinned pair of ``requirements/jars.txt``, each of them tried. The parser itself
judges rules before a deployment (``tarn.rules``); it needs a JVM, which a function has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

# fmt: off
RULE_TYPES = frozenset({
    "ColumnCorrelation", "ColumnCount", "ColumnDataType", "ColumnExists", "ColumnLength", "ColumnNamesMatchPattern",
    "ColumnValues", "Completeness", "CustomSql", "DataFreshness", "DistinctValuesCount", "Entropy", "IsComplete",
    "IsPrimaryKey", "IsUnique", "Mean", "RowCount", "StandardDeviation", "Sum", "UniqueValueRatio", "Uniqueness",
})
LATER_TYPES = frozenset({
    "DuplicateRowCount", "InterquartileRange", "Kurtosis", "Range", "Skewness", "Variance", "ZerosCount",
})
"""Rule types that Deequ has and the pinned DQDL parser does not know."""
TYPES_OF_TWO_DATA_SETS = frozenset({
    "AggregateMatch", "DatasetMatch", "ReferentialIntegrity", "RowCountMatch", "SchemaMatch",
})
# fmt: on
LONGEST_SHOWN = 80
_TOKEN = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_][A-Za-z0-9_]*)'
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<sign>\S)",
    re.DOTALL,
)
_OPENING = {"[": "]", "(": ")", "{": "}"}
_DATE = re.compile(r'"\d{4}-\d{2}-\d{2}')


@dataclass(frozen=True)
class Token:
    """A word, text, number or sign of the rules; ``line`` counts from 1, ``start`` and ``end`` from 0."""

    kind: str
    text: str
    line: int
    start: int
    end: int


class RulesTextError(ValueError):
    """The rules are refused: a line for each finding, which names the place, the rule and the remedy."""


def check(text: str) -> None:
    """Check the text of a ruleset.

    Raises:
        RulesTextError: with every finding.
    """
    findings = list(_findings(text))
    if findings:
        raise RulesTextError("\n".join(findings))


def _findings(text: str) -> Iterator[str]:
    tokens = list(_tokens(text))
    broken = _unbalanced(tokens)
    if broken:
        yield broken
        return
    for token, after in pairwise(tokens):
        if (token.text, after.text) == ("Analyzers", "="):
            yield f"line {token.line}: beside Analyzers open-source Deequ judges no rule at all: leave the section out"
    rules = list(_rules(tokens))
    if not any(rules):
        yield "line 1: there are no rules: write Rules = [ <rule>, <rule> ]"
        return
    for number, rule in enumerate(rules, start=1):
        if rule:
            shown = " ".join(text[rule[0].start : rule[-1].end].split())
            place = f"line {rule[0].line}: rule {shown[:LONGEST_SHOWN]}{'…' if len(shown) > LONGEST_SHOWN else ''}"
            yield from (f"{place}: {finding}" for finding in _findings_of(rule))
        else:
            yield f"rule {number}: nothing stands between its commas, and the whole ruleset fails: leave one out"


def _findings_of(rule: list[Token]) -> Iterator[str]:
    """What is wrong with one rule, which may be composed of several."""
    for part in _parts(rule):
        words = [token.text.lower() if token.kind == "word" else token.text for token in part]
        name = part[0].text if part and part[0].kind == "word" else None
        if name is None:
            yield "a rule type is missing: write one before its column, also inside of brackets"
        elif name not in RULE_TYPES:
            yield _unknown(name)
        elif name == "CustomSql" and len(part) == 2:
            yield "its SQL is compared with nothing: let it count what is wrong, and write = 0 behind it"
        if _follow(words, "last", "("):
            yield "last() is not in open-source Deequ, which keeps no history: compare with a number"
        if _follow(words, "with", "threshold"):
            if name == "ColumnValues" and not _is_about_dates(part):
                yield (
                    "with threshold is ignored here by open-source Deequ, so that one bad value fails the rule: "
                    'select the good rows, CustomSql "select * from primary where <condition>" with threshold > 0.9'
                )
            elif name == "ColumnLength":
                yield "with threshold is refused here by Deequ, and the whole ruleset fails: leave it out"


def _parts(rule: list[Token]) -> Iterator[list[Token]]:
    """The simple rules of one that is composed: ``(<rule>) and ((<rule>) or (<rule>))``."""
    if not rule or rule[0].text != "(":
        yield rule
        return
    depth = 0
    for place, token in enumerate(rule):
        if token.kind == "sign":
            depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            yield from _parts(rule[1:place])
            if place + 1 < len(rule):
                yield from _parts(rule[place + 2 :])
            return


def _follow(words: list[str], first: str, second: str) -> bool:
    return (first, second) in pairwise(words)


def _unknown(name: str) -> str:
    if name == "DetectAnomalies":
        return "DetectAnomalies is not in open-source Deequ, which keeps no history: compare with fixed bounds"
    if name in LATER_TYPES:
        return f"{name} is not known to the DQDL parser, and the whole ruleset fails: write it as CustomSql"
    if name in TYPES_OF_TWO_DATA_SETS:
        return f"{name} needs a second data set, and a batch is judged alone: leave it out, or write it as CustomSql"
    if name.startswith("File"):
        return f"{name} is not in open-source Deequ, which sees rows and no files: leave it out"
    if name == "not":
        return "not is no part of open-source DQDL, and the whole ruleset fails: turn the condition round"
    same = [known for known in sorted(RULE_TYPES) if known.lower() == name.lower()]
    near = same or get_close_matches(name, sorted(RULE_TYPES), n=1)
    hint = f"write {near[0]}" if near else f"known are {', '.join(sorted(RULE_TYPES))}"
    return f"{name} is not a rule type, and one unknown type fails the whole ruleset: {hint}"


def _is_about_dates(rule: list[Token]) -> bool:
    """Whether the values are compared with dates, where a threshold is minded."""
    condition = rule[2:]
    return any(
        (token.kind == "word" and token.text.lower() == "now") or (token.kind == "text" and _DATE.match(token.text))
        for token in condition
    )


def _tokens(text: str) -> Iterator[Token]:
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup or "sign"
        if kind != "comment":
            yield Token(kind, found.group(), text.count("\n", 0, found.start()) + 1, found.start(), found.end())


def _unbalanced(tokens: list[Token]) -> str | None:
    """The first bracket or quote that has no partner."""
    open_ones: list[Token] = []
    for token in tokens:
        if token.kind != "sign":
            continue
        if token.text == '"':
            return f'line {token.line}: this quotation mark has no partner: close the text, write \\" inside of it'
        if token.text in _OPENING:
            open_ones.append(token)
        elif token.text in _OPENING.values():
            if not open_ones or _OPENING[open_ones[-1].text] != token.text:
                return f"line {token.line}: this {token.text} closes nothing: remove it, or open it before"
            open_ones.pop()
    if open_ones:
        last = open_ones[-1]
        return f"line {last.line}: this {last.text} is never closed: add {_OPENING[last.text]}"
    return None


def _rules(tokens: list[Token]) -> Iterator[list[Token]]:
    """The rules of the section ``Rules``, cut at the commas between them; nothing between two commas is a [] here."""
    texts = [token.text for token in tokens]
    starts = [place for place in range(len(texts) - 2) if texts[place : place + 3] == ["Rules", "=", "["]]
    depth = 0
    rule: list[Token] = []
    for token in tokens[starts[0] + 3 :] if starts else []:
        if token.kind == "sign":
            if depth == 0 and token.text in (",", "]"):
                yield rule
                rule = []
                if token.text == "]":
                    return
                continue
            depth += (token.text in _OPENING) - (token.text in _OPENING.values())
        rule.append(token)
