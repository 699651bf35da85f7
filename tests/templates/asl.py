"""State machines under cfn-lint: it does not open a ``DefinitionUri``, so the definition is put in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cfnlint import lint
from cfnlint.config import ManualArgs

ROOT = Path(__file__).resolve().parents[2]


def definition(path: str) -> dict[str, Any]:
    """The definition in an ``.asl.yaml`` file, by its path from the repository's root."""
    return dict(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state of a machine, those inside of maps and parallels too."""
    for name, state in machine["States"].items():
        yield name, state
        nested = [state["ItemProcessor"]] if "ItemProcessor" in state else state.get("Branches", [])
        for inner in nested:
            yield from states(inner)


def findings(machine: dict[str, Any], substitutions: dict[str, str]) -> list[str]:
    """What cfn-lint finds in a definition once its substitutions are made."""
    text = json.dumps(machine)
    for name, value in substitutions.items():
        text = text.replace("${" + name + "}", value)
    assert "${" not in text, f"no substitution for {text[text.index('${') :][:60]}"
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {
            "StateMachine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/machine", "Definition": json.loads(text)},
            }
        },
    }
    config = ManualArgs(regions=["eu-west-1"], include_checks=["I"])
    return [f"{one.rule.id} {one.path}: {one.message}" for one in lint(json.dumps(template), config=config)]
