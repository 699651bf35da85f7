"""Reading CloudFormation templates as data, their short tags in long form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
STANDALONE = {
    "foundations": Path("foundations/standalone.yaml"),
    "team": Path("team/standalone.yaml"),
    "pipeline": Path("pipeline/standalone.yaml"),
}
"""Each layer as a stack of its own: one nested stack, wired through the contract. A dataset's own template is one."""
WIRED = "AWS::SSM::Parameter::Value<String>"
"""The type of a parameter that reads the contract."""


class _Loader(yaml.SafeLoader):
    """Knows ``!Ref``, ``!GetAtt`` and the other functions as ``{"Ref": ...}``, ``{"Fn::GetAtt": [...]}``."""


def _function(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if tag == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)  # noqa: S101 (YAML has no fourth kind of node)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


def load(template: Path) -> dict[str, Any]:
    """A template's content. ``template`` may be relative to the repository."""
    return parse((ROOT / template).read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Any]:
    """The content of a template's text, in YAML or JSON."""
    return dict(yaml.load(text, _Loader))  # noqa: S506 (a SafeLoader)


def paths() -> list[Path]:
    """Every template of the lake, relative to the repository: the root, the layers in their order, the datasets."""
    layers = [path for layer in ("foundations", "team", "pipeline") for path in sorted((ROOT / layer).glob("*.yaml"))]
    found = [path for path in (ROOT / "template.yaml", *layers) if not path.name.endswith(".asl.yaml")]
    return [path.relative_to(ROOT) for path in found] + datasets()


def datasets() -> list[Path]:
    """The template of every dataset, ``datasets/<team>/<name>/template.yaml``, relative to the repository."""
    return [path.relative_to(ROOT) for path in sorted((ROOT / "datasets").glob("*/*/template.yaml"))]


def published() -> dict[str, str]:
    """The contract by what wiring calls a value: ``KeyArn`` for the SSM parameter that is named ``KeyArnParameter``."""
    return {
        name.removesuffix("Parameter"): resource["Properties"]["Name"]["Fn::Sub"]
        for path in paths()
        for name, resource in load(path)["Resources"].items()
        if resource["Type"] == "AWS::SSM::Parameter"
    }
