"""Deploying a whole lake with the real ``sam deploy``: the same two stacks, in the same order, everywhere.

1. ``tarn-{env}-assets``: the bucket that everything else is uploaded to, so it must be there first;
2. the assets, under keys that are their hash;
3. ``tarn-{env}``: the root template, told where the assets are.

``samconfig.toml`` holds an environment's own parameters; what is computed here is added to them.
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tarn import assets, jars, templates
from tarn.templates import ROOT

DEPENDENCIES = ROOT / "build" / "dependencies.zip"
ASSET_PREFIX_PARAMETER = "AssetPrefix"
ASSET_PARAMETERS = (ASSET_PREFIX_PARAMETER, "JarKey", "DependenciesKey")


class DeploymentError(Exception):
    """A stack was not deployed; the message is the tool's own last words."""


@dataclass(frozen=True)
class Package:
    """What a deployment refers to: the asset bucket, and the parameters that name things in it."""

    bucket: str
    parameters: Mapping[str, str]


def deploy(
    environment: str,
    *,
    quality: bool = True,
    overrides: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Deploy the lake of ``environment`` with the session's ordinary configuration.

    ``overrides`` are parameters of the root that win over ``samconfig.toml``. Nothing to change is a success.

    Raises:
        DeploymentError: a stack failed; CloudFormation has rolled it back.
    """
    package = prepare(environment, quality=quality, say=say)
    parameters = {**configured(environment), **package.parameters, **(overrides or {})}
    say(f"deploying stack tarn-{environment}")
    sam_deploy(environment, "template.yaml", f"tarn-{environment}", parameters, bucket=package.bucket, say=say)


def prepare(environment: str, *, quality: bool = True, say: Callable[[str], None] = print) -> Package:
    """Make the asset bucket where it is not there yet, and upload the assets.

    Raises:
        DeploymentError: the asset stack failed.
        jars.JarError: Deequ's jars cannot be had.
    """
    deploy_asset_bucket(environment, say=say)
    return upload_assets(environment, quality=quality, say=say)


def deploy_asset_bucket(environment: str, *, say: Callable[[str], None] = print) -> None:
    """Make the asset bucket where it is not there yet.

    Raises:
        DeploymentError: the stack failed.
    """
    stack = f"tarn-{environment}-assets"
    say(f"deploying stack {stack}")
    sam_deploy(environment, "foundations/assets.yaml", stack, {"EnvironmentName": environment}, bucket=None, say=say)


def upload_assets(environment: str, *, quality: bool = True, say: Callable[[str], None] = print) -> Package:
    """Upload the assets that the bucket does not have yet.

    Raises:
        DeploymentError: what the functions depend on has not been built.
        jars.JarError: Deequ's jars cannot be had.
    """
    bucket = boto3.client("ssm").get_parameter(Name=f"/tarn/{environment}/assets/bucket/name")["Parameter"]["Value"]
    # CloudFormation keeps what an earlier deployment said where this one says nothing.
    taken = root_parameters()
    parameters = {name: "" for name in taken if name.endswith(ASSET_PARAMETERS)}
    parameters |= {"EnvironmentName": environment, "AssetBucketName": bucket}
    found: list[assets.Asset] = []
    for folder in dataset_folders():
        prefix, files = assets.of_dataset(folder)
        parameters[prefix_parameter(folder.name)] = prefix
        found += files
    for parameter, jar in jars.fetch().items() if quality else ():
        asset = assets.of_file(jar)
        parameters[parameter] = asset.key
        found.append(asset)
    if environment != "local":
        if not DEPENDENCIES.exists():
            raise DeploymentError(f"{DEPENDENCIES.relative_to(ROOT)} is missing, and the functions need it: make build")
        asset = assets.of_file(DEPENDENCIES)
        parameters["DependenciesKey"] = asset.key
        found.append(asset)
    uploaded = assets.upload(boto3.client("s3"), bucket, found)
    say(f"assets: {len(found)}, of which {uploaded} are new")
    return Package(bucket, {name: value for name, value in parameters.items() if name in taken})


def dataset_folders() -> list[Path]:
    """The folders of ``datasets/`` that hold a dataset."""
    return sorted(path for path in (ROOT / "datasets").iterdir() if any(path.glob("*.sql")))


def prefix_parameter(dataset: str) -> str:
    """The root's parameter that tells where a dataset's assets are: ``FlightsAssetPrefix`` for ``flights``."""
    return "".join(word.capitalize() for word in dataset.split("_")) + ASSET_PREFIX_PARAMETER


def root_parameters() -> set[str]:
    """The parameters that the root template takes."""
    return set(templates.load(Path("template.yaml"))["Parameters"])


def configured(environment: str) -> dict[str, str]:
    """An environment's parameters in ``samconfig.toml``.

    Raises:
        DeploymentError: there is no such environment.
    """
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    try:
        deploy_table: dict[str, Any] = config[environment]["deploy"]["parameters"]
    except KeyError:
        known = ", ".join(sorted(name for name in config if name != "version"))
        raise DeploymentError(f"samconfig.toml has no environment {environment!r}: it has {known}") from None
    return dict(one.split("=", 1) for one in deploy_table.get("parameter_overrides", []))


def sam_deploy(
    environment: str,
    template: str,
    stack: str,
    parameters: Mapping[str, str],
    *,
    bucket: str | None,
    say: Callable[[str], None],
) -> None:
    """Run the real ``sam deploy``, with the tags of ``samconfig.toml``.

    Raises:
        DeploymentError: it failed.
    """
    sam = ROOT / ".venvs" / "sam" / "bin" / "sam"
    found = str(sam) if sam.exists() else shutil.which("sam")
    if not found:
        raise DeploymentError("the SAM CLI is needed: make setup installs it into .venvs/sam, or put sam on PATH")
    command = [
        *(found, "deploy", "--template-file", str(ROOT / template), "--stack-name", stack),
        *("--config-file", str(ROOT / "samconfig.toml"), "--config-env", environment),
        *("--no-confirm-changeset", "--no-fail-on-empty-changeset"),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"),
        *(("--s3-bucket", bucket, "--s3-prefix", "packages") if bucket else ()),
        *("--parameter-overrides", *(f'{name}="{value}"' for name, value in parameters.items())),
    ]
    last: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            if text := line.rstrip():
                last = [*last, text][-60:]
                say(text)
    if process.returncode != 0:
        raise DeploymentError(f"sam deploy of {stack} ended with {process.returncode}:\n" + "\n".join(last))
