"""The delivery's roles as AWS would see them, and a judge: policies of cicd/ with their references resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from tarn import templates

HERE, REGION = "111111111111", "eu-west-1"
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": HERE,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{HERE}:stack/tarn-delivery/0f9e8d7c-external-id",
}
GIVEN = {
    "EnvironmentName": "dev",
    "DeliveryName": "lake",
    "ArtifactBucketName": "artifacts",
    "DeliveryKeyArn": f"arn:aws:kms:{REGION}:{HERE}:key/delivery",
    "DeliveryTopicArn": f"arn:aws:sns:{REGION}:{HERE}:delivery",
    "TargetAccountId": "here",
    "ExternalId": "0f9e8d7c-external-id",
    "BoundaryArn": f"arn:aws:iam::{HERE}:policy/tarn-dev-team-air-Boundary",
    "TeamKeyArn": f"arn:aws:kms:{REGION}:{HERE}:key/air",
    "RegistrarFunctionArn": f"arn:aws:lambda:{REGION}:{HERE}:function:tarn-dev-team-air-RegisterResource",
    "DeployerArn": f"arn:aws:iam::{HERE}:role/tarn-delivery/lake-build-dev-deploy",
    "DifferArn": f"arn:aws:iam::{HERE}:role/tarn-delivery/lake-build-dev-diff",
    "SmokerArn": f"arn:aws:iam::{HERE}:role/tarn-delivery/lake-build-dev-smoke",
    "SourceKind": "codecommit",
    "TagPrefix": "none",
    "Pipelines": "none",
}
Statement = dict[str, Any]


class Resolved:
    """A template with its parameters given: conditions decided, references as text."""

    def __init__(self, file: str, *, layer: str = "cicd", **given: str) -> None:
        self.content = templates.load(Path(layer) / file)
        self.given = {
            **{name: str(one["Default"]) for name, one in self.content["Parameters"].items() if "Default" in one},
            **GIVEN,
            **PSEUDO,
            **given,
        }

    def resource(self, name: str) -> dict[str, Any]:
        """The properties of a resource."""
        return dict(self.value(self.content["Resources"][name]["Properties"]))

    def resources(self, kind: str) -> list[str]:
        """The logical ids of a type, of those that are made."""
        return [
            name
            for name, one in self.content["Resources"].items()
            if one["Type"] == kind and ("Condition" not in one or self.holds(one["Condition"]))
        ]

    def statements(self, role: str) -> list[Statement]:
        """What a role may do, by its own policies and by those of this template that are attached to it."""
        properties = self.resource(role)
        documents = [one["PolicyDocument"] for one in properties.get("Policies", [])]
        documents += [self.resource(name)["PolicyDocument"] for name in properties.get("ManagedPolicyArns", [])]
        return [one for document in documents for one in document["Statement"]]

    def holds(self, condition: str) -> bool:
        return bool(self.value(self.content["Conditions"][condition]))

    def refusals(self) -> dict[str, list[str]]:
        """What each rule that refuses these parameters says."""
        found = {
            name: [
                one["AssertDescription"]
                for one in rule["Assertions"]
                if self.value(rule.get("RuleCondition", True)) and not self.value(one["Assert"])
            ]
            for name, rule in self.content["Rules"].items()
        }
        return {name: said for name, said in found.items() if said}

    def value(self, node: Any) -> Any:
        """A node of the template as CloudFormation would hand it on."""
        if isinstance(node, list):
            return [one for one in map(self.value, node) if one is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            function, argument = next(iter(node.items()))
            if (known := getattr(self, "_" + function.removeprefix("Fn::").lower(), None)) is not None:
                return known(argument)
        found = {key: self.value(one) for key, one in node.items()}
        return {key: one for key, one in found.items() if one is not None}

    def _ref(self, name: str) -> str | None:
        return None if name == "AWS::NoValue" else self.given.get(name, name)

    def _getatt(self, path: list[str]) -> str:
        return ".".join(path)

    def _sub(self, argument: str | list[Any]) -> str:
        text, more = argument if isinstance(argument, list) else (argument, {})
        names = {**self.given, **{name: self.value(one) for name, one in more.items()}}
        return re.sub(r"\$\{([^}]+)\}", lambda found: names.get(found[1], found[1]), text)

    def _if(self, argument: list[Any]) -> Any:
        condition, then, otherwise = argument
        return self.value(then if self.holds(condition) else otherwise)

    def _condition(self, name: str) -> bool | str:
        return self.holds(name) if name in self.content.get("Conditions", {}) else name

    def _equals(self, pair: list[Any]) -> bool:
        return bool(self.value(pair[0]) == self.value(pair[1]))

    def _contains(self, pair: list[Any]) -> bool:
        return self.value(pair[1]) in self.value(pair[0])

    def _not(self, argument: list[Any]) -> bool:
        return not self.value(argument[0])

    def _and(self, argument: list[Any]) -> bool:
        return all(map(self.value, argument))

    def _or(self, argument: list[Any]) -> bool:
        return any(map(self.value, argument))

    def _split(self, argument: list[Any]) -> list[str]:
        return str(self.value(argument[1])).split(argument[0])

    def _select(self, argument: list[Any]) -> str:
        return str(self.value(argument[1])[int(argument[0])])


@dataclass(frozen=True)
class Role:
    """A role of the delivery and what it may do."""

    name: str
    statements: list[Statement]

    def actions(self) -> set[str]:
        """Every action that its policies name."""
        return {action for one in self.statements for action in listed(one["Action"])}

    def may(self, action: str, resource: str, context: Mapping[str, Any] | None = None) -> bool:
        """Whether it may do this, by the evaluator of the embedded AWS."""
        asked = EvalContext(
            principal_arn=f"arn:aws:sts::{HERE}:assumed-role/{self.name}/session",
            principal_type="AssumedRole",
            principal_account=HERE,
            action=action,
            resource_arn=resource,
            region=REGION,
            secure_transport=True,
            service_context={key.lower(): value for key, value in (context or {}).items()},
        )
        return bool(evaluate(asked, [parse_policy_document({"Statement": self.statements})]).decision == "Allow")


def role(file: str, name: str, **given: str) -> Role:
    """A role of a template of cicd/."""
    return Role(name, Resolved(file, **given).statements(name))


def files() -> list[Path]:
    """The templates of cicd/."""
    return sorted(one for one in (templates.ROOT / "cicd").glob("*.yaml") if not one.name.endswith(".asl.yaml"))


def policies() -> Iterator[tuple[str, list[Statement]]]:
    """Every policy document of every role of cicd/, by where it stands."""
    for file in files():
        resolved = Resolved(file.name, SourceKind="connection" if file.name == "pipeline.yaml" else "codecommit")
        for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
            for name in resolved.resources(kind):
                properties = resolved.resource(name)
                documents = [one["PolicyDocument"] for one in properties.get("Policies", [])]
                if "PolicyDocument" in properties:
                    documents.append(properties["PolicyDocument"])
                yield f"{file.name} {name}", [one for document in documents for one in document["Statement"]]


def listed(value: str | list[str]) -> list[str]:
    """A policy's one or many, as many."""
    return [value] if isinstance(value, str) else list(value)
