"""State machine definitions in YAML.

CloudFormation takes a definition in JSON or YAML; stock MiniStack 1.5.33 stores the text as it
is, deploys green, and then no execution can parse it. Here the text becomes JSON on create and
update, after the substitutions, and what is no state machine fails the deployment.

Source: AWS::StepFunctions::StateMachine, properties Definition, DefinitionS3Location, DefinitionString.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

PROVISIONERS = "ministack.services.cloudformation.provisioners"


def install(_settings: Settings) -> None:
    """Convert what the one function answers that both create and update read a definition with."""
    resolve = original(PROVISIONERS, "_sfn_definition")
    replace(PROVISIONERS, "_sfn_definition", lambda properties: to_json(resolve(properties)))


def to_json(text: str) -> str:
    """The definition as JSON, or `ValueError` if it is no state machine."""
    definition = _parse(text)
    if not isinstance(definition, dict) or definition.get("StartAt") not in definition.get("States", {}):
        raise ValueError("Invalid State Machine Definition: StartAt must name one of its States")
    return json.dumps(definition)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return yaml.load(text, Loader=_AslLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"Invalid State Machine Definition: neither JSON nor YAML: {error}") from error


class _AslLoader(yaml.SafeLoader):
    """YAML in which a timestamp stays the string that it is in JSON."""


_AslLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
