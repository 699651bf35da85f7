"""Deploying one layer as a stack of its own, where teams deploy on their own (docs/deploying.md).

``standalone.yaml`` beside the layer's template takes the names of SSM parameters for all that other layers own; they
follow from the contract. A dataset's own template is nested in the root as it is deployed here, so that it takes the
values themselves, which are read from the contract. The rest is what the root takes: ``samconfig.toml`` and what is
computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import boto3

from tarn import assets, deployment, previews, templates
from tarn.contract import Contract
from tarn.deployment import DeploymentError
from tarn.preconditions import PreconditionError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient

NAMED_BY = {
    "foundations": (),
    "team": ("team",),
    "pipeline": ("team", "pipeline"),
    "dataset": ("team", "dataset"),
}
SWITCHED_OFF = {
    **dict.fromkeys(("DependenciesKey", "DeequJarKey", "DqdlJarKey"), ""),
    **dict.fromkeys((f"Adopted{zone}BucketName" for zone in ("Raw", "Stage", "Analytics")), ""),
    "AdoptedKeyArn": "",
    "SparkAssetPrefix": "",
}
"""What is empty unless the assets hold it, or somebody says it."""

RESERVED = ("lake", "foundations", "team", "pipeline", "dataset", "assets")
"""No team is called so: stacks, roles and policies of others are (AllowedPattern of ``team/template.yaml``)."""


def deploy(
    environment: str,
    layer: str,
    names: Mapping[str, str | None],
    *,
    quality: bool = True,
    overrides: Mapping[str, str] | None = None,
    route: str = deployment.SAM,
    allow_dirty: bool = False,
    approved: bool = False,
    allow_loss: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Deploy ``layer`` of ``environment``, the one that ``names`` (team, pipeline, dataset) tell.

    Raises:
        DeploymentError: a name or a parameter is missing or unknown, or the stack failed.
        PreconditionError: it must not begin, or data is in the way.
        JarError: Deequ's jars cannot be had.
    """
    deployment.may_begin(environment, allow_dirty=allow_dirty, approved=approved)
    given = overrides or {}
    found = _prepared(environment, layer, names, quality=quality, overrides=given, route=route, say=say)
    deployment.deploy_stack(
        *(environment, str(found.template), found.stack, found.parameters),
        bucket=found.bucket,
        protected=found.protected,
        with_assets=layer == "foundations",
        route=route,
        allow_loss=allow_loss,
        say=say,
    )


def diff(
    environment: str,
    layer: str,
    names: Mapping[str, str | None],
    *,
    quality: bool = True,
    overrides: Mapping[str, str] | None = None,
    route: str = deployment.SAM,
    say: Callable[[str], None] = print,
) -> previews.Preview:
    """What ``deploy`` would change in a layer that stands. Uploads packages, and changes nothing.

    Raises:
        DeploymentError: a name or a parameter is missing or unknown, or the deployment would be refused.
        PreconditionError: the stack is something else's.
    """
    stack = stack_name(environment, layer, place_of(layer, names))
    if not previews.stands(boto3.client("cloudformation"), stack):
        return previews.Preview(stack, (), is_new=True)
    found = _prepared(environment, layer, names, quality=quality, overrides=overrides or {}, route=None, say=say)
    return deployment.diff_stack(
        environment, str(found.template), stack, found.parameters, bucket=found.bucket, route=route
    )


def check_stack(cloudformation: CloudFormationClient, stack: str, *, layer: str, place: Mapping[str, str]) -> None:
    """Refuse a layer's stack that stands and is something else, which the deployment would replace.

    Names that differ in ``-`` and ``_`` have the same stack, and anybody may have called a stack so. What a stack is,
    its one nested stack was told.

    Raises:
        PreconditionError: what it is.
    """
    if not previews.stands(cloudformation, stack):
        return
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources = [one for page in pages for one in page["StackResourceSummaries"]]
    own = f"{layer.capitalize()}Stack"
    nested = [one["PhysicalResourceId"] for one in resources if one["LogicalResourceId"] == own]
    if not nested:
        raise PreconditionError(f"stack {stack} stands and is no {layer} of Tarn: rename or delete it first")
    parameters = cloudformation.describe_stacks(StackName=nested[0])["Stacks"][0].get("Parameters", [])
    told = {one["ParameterKey"]: one["ParameterValue"] for one in parameters}
    found = {word: told.get(f"{word.capitalize()}Name", "") for word in place}
    if found != place:
        given, other = ("/".join(names.values()) for names in (place, found))
        raise PreconditionError(
            f"stack {stack} is that of {layer} {other}, which {layer} {given} would replace: choose a name that "
            "differs in more than - and _"
        )


@dataclass(frozen=True)
class _Prepared:
    """A layer ready to be deployed: its template, its stack, and what the template is told."""

    template: Path
    stack: str
    bucket: str
    parameters: Mapping[str, str]
    protected: bool


def _prepared(
    environment: str,
    layer: str,
    names: Mapping[str, str | None],
    *,
    quality: bool,
    overrides: Mapping[str, str],
    route: str | None,
    say: Callable[[str], None],
) -> _Prepared:
    """Compute what a layer's template takes; upload the assets, unless they are only looked at (no ``route``).

    A stack that is something else's is refused before that.
    """
    place = place_of(layer, names)
    stack = stack_name(environment, layer, place)
    check_stack(boto3.client("cloudformation"), stack, layer=layer, place=place)
    template = _template(layer, place)
    content = templates.load(template)
    taken = content["Parameters"]
    if unknown := set(overrides) - set(taken):
        raise DeploymentError(f"a {layer} takes no {', '.join(sorted(unknown))}: it takes {', '.join(taken)}")
    told = {"EnvironmentName": environment} | {f"{word.capitalize()}Name": name for word, name in place.items()}
    given = {**SWITCHED_OFF, **deployment.configured(environment), **told}
    if layer == "dataset":
        given |= {"AssetPrefix": assets.of_dataset((templates.ROOT / template).parent)[0]}
        told |= {"PipelineName": content["Resources"]["DatasetStack"]["Properties"]["Parameters"]["PipelineName"]}
    decided = {**_wiring(environment, taken, told), **overrides}
    if missing := [name for name, one in taken.items() if name not in given | decided and "Default" not in one]:
        raise DeploymentError(f"a {layer} needs --parameter for {', '.join(missing)}")
    if route and layer == "foundations":
        deployment.deploy_asset_bucket(environment, route=route, say=say)
    package = deployment.upload_assets(
        environment, quality=quality and layer == "pipeline", upload=route is not None, say=say
    )
    given |= {**package.parameters, **decided}
    parameters = {name: given[name] for name in taken if name in given}
    return _Prepared(template, stack, package.bucket, parameters, deployment.is_protected(given))


def stack_name(environment: str, layer: str, place: Mapping[str, str]) -> str:
    """``tarn-dev-pipeline-air-main``, ``tarn-dev-dataset-air-flights``."""
    return "-".join(["tarn", environment, layer, *place.values()]).replace("_", "-")


def place_of(layer: str, names: Mapping[str, str | None]) -> dict[str, str]:
    """The names that tell which one of a layer is meant, in the order of its stack's name.

    Raises:
        DeploymentError: there is no such layer, or a name is missing.
    """
    if layer not in NAMED_BY:
        raise DeploymentError(f"{layer!r} is no layer: it can be {', '.join(NAMED_BY)}")
    place = {word: name for word in NAMED_BY[layer] if (name := names.get(word))}
    if missing := [f"--{word}" for word in NAMED_BY[layer] if word not in place]:
        raise DeploymentError(f"which {layer}? Say {' and '.join(missing)}")
    return place


def _template(layer: str, place: Mapping[str, str]) -> Path:
    if layer != "dataset":
        return templates.STANDALONE[layer]
    template = Path("datasets", place["team"], place["dataset"], "template.yaml")
    if template not in templates.datasets():
        raise DeploymentError(f"there is no {template}: tarn new dataset {place['team']}/{place['dataset']} makes one")
    return template


def _wiring(environment: str, taken: Mapping[str, Any], told: Mapping[str, str]) -> dict[str, str]:
    """What other layers publish: a parameter of the contract's type is given the name, another one the value.

    Raises:
        ContractError: a value is needed, and the lake or the layer that publishes it is not deployed.
    """
    published = templates.published()
    places = {name: Template(published[name]).substitute(told) for name in taken if name in published}
    if not (needed := {name for name in places if taken[name]["Type"] != templates.WIRED}):
        return places
    contract = standing(environment)
    return places | {name: contract.value(places[name]) for name in needed}


def standing(environment: str) -> Contract:
    """The contract of the lake that stands, in the session's account and region."""
    return Contract(boto3.client("ssm"), environment)
