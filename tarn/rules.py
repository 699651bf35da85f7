"""Checks rules before they are deployed, with the parser that will read them in the lake.

``python -m tarn.rules check datasets`` parses every ``*/rules.dqdl`` with ``DQDLParser`` of the pinned dqdl jar (its
own dependencies come with pyspark) in one small JVM, and refuses what parses and yet cannot be judged: the limits of
open source Deequ 2.1.0, each of which was measured.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError

from tarn import jars

PARSER_NEEDS = (
    "py4j-*",
    "antlr4-runtime-*",
    "jackson-core-2*",
    "jackson-databind-*",
    "jackson-annotations-*",
    "slf4j-api-*",
)
NEED_OTHER_DATA = {"RowCountMatch", "SchemaMatch", "AggregateMatch", "ReferentialIntegrity", "DatasetMatch"}
NOT_IN_DEEQU = {"DetectAnomalies", "FileUniqueness", "FileMatch", "FileSize", "FileFreshness"}
LATER_NAMES = {"ZerosCount", "Range", "InterquartileRange", "Variance", "Skewness", "Kurtosis", "DuplicateRowCount"}
"""Rule types that Deequ 2.1.0 has and dqdl 1.0.0 does not know."""


class ParserError(Exception):
    """The parser cannot be started; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, at which line of the text, and what to write instead."""

    line: int
    message: str


@dataclass(frozen=True)
class Written:
    """A rule as it stands in the text, and the line where it begins."""

    line: int
    text: str


class Parser:
    """The DQDL parser in a JVM of its own."""

    def __init__(self, gateway: JavaGateway) -> None:
        self._parser = gateway.jvm.software.amazon.glue.dqdl.parser.DQDLParser()

    def findings(self, text: str) -> list[Finding]:
        """What is wrong with the rules ``text``; nothing when it can be judged."""
        normal = "\n".join(text.splitlines()) + "\n"  # the parser takes no carriage return, and no comment at the end
        if refusal := self._refusal(normal):
            syntax = re.search(r"line (\d+):(\d+) (.*)", refusal)
            if syntax:
                remedy = "check the quotes, commas and brackets before this place"
                return [Finding(int(syntax[1]), f"column {int(syntax[2]) + 1}: {syntax[3]}: {remedy}")]
            # the parser names a rule that it does not know, and not where it stands: each by itself tells
            before, rules = split_rules(normal)
            alone = [(rule.line, self._refusal(f"{before}Rules = [ {rule.text} ]\n")) for rule in rules]
            found = [Finding(line, message) for line, message in alone if message]
            return [
                Finding(one.line, f"{one.message}: {remedy_of(one.message)}") for one in found or [Finding(1, refusal)]
            ]
        parsed = self._parser.parse(normal).getRules()
        if not parsed:
            return [Finding(1, "no rule is in it: write at least one in Rules = [ ... ]")]
        return [
            Finding(written.line, message)
            for written, rule in zip(split_rules(normal)[1], parsed, strict=True)
            for part in rule.getNestedRulesAsFlattenedList()
            if (message := limit(part))
        ]

    def _refusal(self, text: str) -> str | None:
        """The parser's message; None when it takes the text."""
        try:
            self._parser.parse(text)
        except Py4JJavaError as error:
            return str(error.java_exception.getMessage()).removeprefix("Parsing Error: ").rstrip(".")
        return None


@contextmanager
def parser() -> Iterator[Parser]:
    """Start the parser, and end its JVM at the end.

    Raises:
        ParserError: Java, pyspark's jars or the dqdl jar are not there.
    """
    try:
        dqdl = jars.fetch()["DqdlJarKey"]
    except jars.JarError as error:
        raise ParserError(str(error)) from error
    if shutil.which("java") is None:
        raise ParserError("java is not on PATH: install a Java 17 runtime, the rules' parser and Spark run on it")
    found = _of_pyspark()
    port, token = launch_gateway(
        jarpath=found[0],
        classpath=":".join([str(dqdl), *found]),
        javaopts=["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"],
        die_on_exit=True,
        redirect_stderr=subprocess.DEVNULL,  # ANTLR tells at each start that it is newer than the parser
        enable_auth=True,
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token, auto_convert=True))
    try:
        yield Parser(gateway)
    finally:
        gateway.shutdown()


def _of_pyspark() -> list[str]:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ParserError("pyspark is not installed here: run `make setup`")
    folder = Path(spec.origin).parent / "jars"
    found = [sorted(folder.glob(f"{pattern}.jar")) for pattern in PARSER_NEEDS]
    if missing := [pattern for pattern, files in zip(PARSER_NEEDS, found, strict=True) if not files]:
        raise ParserError(f"{folder} has no {', '.join(missing)}: run `make setup` to install pyspark again")
    return [str(files[-1]) for files in found]


def remedy_of(message: str) -> str:
    """What to do about a rule that the parser does not know."""
    if "No rules" in message:
        return "write at least one in Rules = [ ... ]"
    if any(re.search(rf"\b{name}\b", message) for name in LATER_NAMES):
        return "dqdl 1.0.0 does not have it yet; write it as CustomSql"
    return "docs.aws.amazon.com/glue/latest/dg/dqdl.html has the names (as they are written) and their parameters"


def limit(rule: Any) -> str | None:
    """Why a rule that parses cannot be judged, and the remedy; None when it can."""
    kind, text = rule.getRuleType(), rule.toString()
    condition = "" if rule.getCondition() is None else rule.getCondition().getConditionAsString()
    if kind in NEED_OTHER_DATA:
        return f"{text}: {kind} needs a second data set, and a batch is judged alone; write it as CustomSql"
    if kind in NOT_IN_DEEQU:
        return f"{text}: open source Deequ has no {kind}; take it out"
    if re.search(r"\b\w+\s*\([^)]*\)", re.sub(r'"[^"]*"|now\(\)', "", condition)):
        return f"{text}: nothing is kept between batches that last() and its kind could read; write a number"
    if kind == "ColumnValues" and has_threshold(rule):
        return f"{text}: Deequ ignores `with threshold` here; count the rows with CustomSql, or use where"
    if kind == "CustomSql" and not condition.strip():
        return f"{text}: without a condition Deequ's figure is wrong when values repeat; count, and compare with = 0"
    if '\\"' in text:
        return f"{text}: an escaped quote reaches Spark with its backslash; use ' in SQL"
    return None


def has_threshold(rule: Any) -> bool:
    """Whether the rule has a ``with threshold``."""
    condition = rule.getThresholdCondition()
    return condition is not None and bool(condition.getConditionAsString().strip())


def split_rules(text: str) -> tuple[str, list[Written]]:
    """What stands before ``Rules = [ ... ]``, and each rule of it as it is written, with the line where it begins."""
    tokens = [
        found
        for found in re.finditer(r'#[^\n]*|"(?:\\.|[^"\\])*"|[\[\](),=]|[^\s\[\](),="#]+', text)
        if not found[0].startswith("#")
    ]
    start = next((at for at, token in enumerate(tokens) if token[0] == "Rules"), len(tokens))
    rules: list[list[re.Match[str]]] = [[]]
    depth = 0
    for token in tokens[start + 3 :]:
        depth += (token[0] in "[(") - (token[0] in "])")
        if depth < 0:
            break
        if depth == 0 and token[0] == ",":
            rules.append([])
        else:
            rules[-1].append(token)
    before = text[: tokens[start].start()] if start < len(tokens) else text
    return before, [
        Written(text.count("\n", 0, rule[0].start()) + 1, text[rule[0].start() : rule[-1].end()])
        for rule in rules
        if rule
    ]


def check(folder: Path) -> list[str]:
    """Findings of every ``*/rules.dqdl`` below ``folder``, each as ``file:line: what and remedy``.

    Raises:
        ParserError: the parser cannot be started.
    """
    files = sorted(folder.glob("**/rules.dqdl"))
    if not files:
        return []
    with parser() as dqdl:
        return [f"{file}:{found.line}: {found.message}" for file in files for found in dqdl.findings(file.read_text())]


def main(arguments: list[str]) -> int:
    """``check FOLDER``: 0 when every rules file can be judged, 1 when one cannot, 2 for a wrong call."""
    if len(arguments) != 2 or arguments[0] != "check":
        print("usage: python -m tarn.rules check FOLDER", file=sys.stderr)
        return 2
    try:
        findings = check(Path(arguments[1]))
    except ParserError as error:
        print(f"tarn: {error}", file=sys.stderr)
        return 1
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
