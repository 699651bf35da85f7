"""Deploying one layer as a stack of its own, where teams deploy on their own (docs/deploying.md).

``standalone.yaml`` beside the layer's template takes the names of SSM parameters for all that other layers own; they
follow from the contract. The rest is what the root takes: ``samconfig.toml`` and what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Template
from typing import Any

from tarn import assets, deployment, templates
from tarn.deployment import DeploymentError

NAMED_BY = {
    "foundations": (),
    "team": ("team",),
    "pipeline": ("team", "pipeline"),
    "dataset": ("team", "pipeline", "dataset"),
}
SWITCHED_OFF = {"DependenciesKey": "", "DeequJarKey": "", "DqdlJarKey": ""}
"""What is empty unless the assets hold it."""


def deploy(
    environment: str,
    layer: str,
    names: Mapping[str, str | None],
    *,
    quality: bool = True,
    overrides: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Deploy ``layer`` of ``environment``, the one that ``names`` (team, pipeline, dataset) tell.

    Raises:
        DeploymentError: a name or a parameter is missing or unknown, or the stack failed.
        JarError: Deequ's jars cannot be had.
    """
    place = _place(layer, names)
    taken = templates.load(templates.STANDALONE[layer])["Parameters"]
    if unknown := set(overrides or ()) - set(taken):
        raise DeploymentError(f"a {layer} takes no {', '.join(sorted(unknown))}: it takes {', '.join(taken)}")
    told = {"EnvironmentName": environment} | {f"{word.capitalize()}Name": name for word, name in place.items()}
    given = {**SWITCHED_OFF, **deployment.configured(environment), **told, **_assets_of(place)}
    decided = {**_wiring(taken, told), **(overrides or {})}
    if missing := [name for name, one in taken.items() if name not in given | decided and "Default" not in one]:
        raise DeploymentError(f"a {layer} needs --parameter for {', '.join(missing)}")
    if layer == "foundations":
        deployment.deploy_asset_bucket(environment, say=say)
    package = deployment.upload_assets(environment, quality=quality and layer == "pipeline", say=say)
    given |= {**package.parameters, **decided}
    stack = stack_name(environment, layer, place)
    say(f"deploying stack {stack}")
    parameters = {name: given[name] for name in taken if name in given}
    template = str(templates.STANDALONE[layer])
    deployment.sam_deploy(environment, template, stack, parameters, bucket=package.bucket, say=say)


def stack_name(environment: str, layer: str, place: Mapping[str, str]) -> str:
    """``tarn-dev-pipeline-air-main``; a dataset's has no pipeline, since its name is unique in its team."""
    words = [name for word, name in place.items() if (layer, word) != ("dataset", "pipeline")]
    return "-".join(["tarn", environment, layer, *words]).replace("_", "-")


def _place(layer: str, names: Mapping[str, str | None]) -> dict[str, str]:
    if layer not in NAMED_BY:
        raise DeploymentError(f"{layer!r} is no layer: it can be {', '.join(NAMED_BY)}")
    place = {word: name for word in NAMED_BY[layer] if (name := names.get(word))}
    if missing := [f"--{word}" for word in NAMED_BY[layer] if word not in place]:
        raise DeploymentError(f"which {layer}? Say {' and '.join(missing)}")
    return place


def _assets_of(place: Mapping[str, str]) -> dict[str, str]:
    if "dataset" not in place:
        return {}
    folder = templates.ROOT / "datasets" / place["dataset"]
    if not folder.is_dir():
        raise DeploymentError(f"there is no folder datasets/{place['dataset']}")
    return {"AssetPrefix": assets.of_dataset(folder)[0], "TableName": place["dataset"]}


def _wiring(taken: Mapping[str, Any], told: Mapping[str, str]) -> dict[str, str]:
    """The SSM parameter of each value that another layer owns."""
    published = templates.published()
    wired = [name for name, one in taken.items() if one["Type"] == templates.WIRED]
    return {name: Template(published[name]).substitute(told) for name in wired}
