"""Deploying a whole lake with the real ``sam deploy``: the same two stacks, in the same order, everywhere.

1. ``tarn-{env}-assets``: the bucket that everything else is uploaded to, so it must be there first;
2. the assets, under keys that are their hash;
3. ``tarn-{env}``: the root template, told where the assets are.

``samconfig.toml`` holds an environment's own parameters; what is computed here is added to them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3

from tarn import assets, jars, losses, preconditions, previews, safeguards, spark_assets, stack_failures, templates
from tarn.changes import Change
from tarn.templates import ROOT

DEPENDENCIES = ROOT / "build" / "dependencies.zip"
ASSET_PREFIX_PARAMETER = "AssetPrefix"
LOSS_IS_REFUSED = "The deployment is refused until samconfig.toml names what may lose its data (or --allow-loss does)."
SAM, AWS_CLI = "sam", "cloudformation"
ROUTES = (SAM, AWS_CLI)
"""What packages and deploys a template: the SAM CLI, or the AWS CLI's own ``aws cloudformation``."""
ASSET_PARAMETERS = (ASSET_PREFIX_PARAMETER, "JarKey", "DependenciesKey")


class DeploymentError(Exception):
    """A stack was not deployed; the message begins with the first resource that failed, and why."""


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
    route: str = SAM,
    allow_dirty: bool = False,
    approved: bool = False,
    allow_loss: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Deploy the lake of ``environment`` with the session's ordinary configuration.

    ``overrides`` are parameters of the root that win over ``samconfig.toml``. Nothing to change is a success.

    Raises:
        DeploymentError: a stack failed, and CloudFormation has rolled it back; or nothing was changed.
        PreconditionError: it must not begin.
    """
    given = may_begin(environment, allow_dirty=allow_dirty, approved=approved)
    package = prepare(environment, quality=quality, route=route, say=say)
    parameters = {**given, **package.parameters, **(overrides or {})}
    deploy_stack(
        *(environment, "template.yaml", f"tarn-{environment}", parameters),
        bucket=package.bucket,
        protected=is_protected(parameters),
        with_assets=True,
        route=route,
        allow_loss=allow_loss,
        say=say,
    )


def may_begin(environment: str, *, allow_dirty: bool = False, approved: bool = False) -> dict[str, str]:
    """Refuse a deployment before anything is made; gives the environment's parameters in ``samconfig.toml``.

    Raises:
        DeploymentError: there is no such environment.
        PreconditionError: its tree or its approval is missing.
    """
    given = configured(environment)
    preconditions.check_tree(environment, ROOT, allow_dirty=allow_dirty)
    preconditions.check_approval(environment, approved=approved)
    return given


def diff(
    environment: str,
    *,
    quality: bool = True,
    overrides: Mapping[str, str] | None = None,
    route: str = SAM,
    say: Callable[[str], None] = print,
) -> previews.Preview:
    """What ``deploy`` would change in a lake that stands. Uploads packages, and changes nothing.

    Raises:
        DeploymentError: there is no such environment, or the deployment would be refused.
    """
    stack = f"tarn-{environment}"
    given = configured(environment)
    session = boto3.Session()
    if not previews.stands(session.client("cloudformation"), stack):
        return previews.Preview(stack, (), is_new=True)
    package = upload_assets(environment, quality=quality, upload=False, say=say)
    parameters = {**given, **package.parameters, **(overrides or {})}
    return diff_stack(environment, "template.yaml", stack, parameters, bucket=package.bucket, route=route)


def diff_stack(
    environment: str,
    template: str,
    stack: str,
    parameters: Mapping[str, str],
    *,
    bucket: str,
    route: str = SAM,
) -> previews.Preview:
    """What ``deploy_stack`` would change in a stack that stands.

    Raises:
        DeploymentError: the deployment would be refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        packaged = package_template(template, Path(folder) / "packaged.yaml", bucket, route=route)
        found = preview(previews.Target(environment, stack, packaged, bucket, complete(template, parameters)))
    if losses.unnamed(found.changes, allowed_losses(environment, stack)):
        return replace(found, notes=(*found.notes, LOSS_IS_REFUSED))
    return found


def deploy_stack(
    environment: str,
    template: str,
    stack: str,
    parameters: Mapping[str, str],
    *,
    bucket: str,
    protected: bool,
    with_assets: bool = False,
    route: str = SAM,
    allow_loss: Sequence[str] = (),
    say: Callable[[str], None],
) -> None:
    """Package a template, say what it would change in a stack that stands, deploy it, and set its safeguards.

    ``with_assets`` sets those of the asset bucket's stack as well, which a team's own delivery may not touch.
    ``allow_loss`` names what may lose its data, by path, in addition to what ``samconfig.toml`` names.

    Raises:
        DeploymentError: it was refused or failed.
        PreconditionError: data is in the way.
    """
    parameters = complete(template, parameters)
    cloudformation = boto3.client("cloudformation")
    changes: Sequence[Change] = ()
    with tempfile.TemporaryDirectory() as folder:
        packaged = package_template(template, Path(folder) / "packaged.yaml", bucket, route=route)
        if previews.stands(cloudformation, stack):
            found = preview(previews.Target(environment, stack, packaged, bucket, parameters))
            say(found.text())
            changes = found.changes
            losses.check(environment, stack, changes, [*allow_loss, *allowed_losses(environment, stack)])
        say(f"deploying stack {stack}")
        before = stack_failures.latest_event(cloudformation, stack)
        deploy_template(environment, packaged, stack, parameters, bucket=bucket, route=route, say=say)
    for one in losses.left_behind(environment, changes):
        say(f"left behind: {one}")
    # CloudFormation deletes when the update has succeeded, and what it cannot delete is no failure to it.
    if undeleted := stack_failures.first(cloudformation, stack, before):
        say(f"left behind: {undeleted.path} ({undeleted.type}), which was not deleted: {undeleted.reason}")
    for one in (*([f"tarn-{environment}-assets"] if with_assets else []), stack):
        safeguards.set_up(cloudformation, one, protected=protected, say=say)


def complete(template: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters with the template's own defaults: of what it is not told, sam keeps the value before.

    A default that a push changes would otherwise reach no stack that stands.
    """
    taken = templates.load(Path(template)).get("Parameters", {})
    return {name: str(one["Default"]) for name, one in taken.items() if "Default" in one} | dict(parameters)


def is_protected(parameters: Mapping[str, str]) -> bool:
    """Whether an environment's stacks get safeguards: as its tables do."""
    return parameters.get("DeletionProtection", "true") == "true"


def preview(target: previews.Target) -> previews.Preview:
    """What deploying ``target`` would change.

    Raises:
        DeploymentError: CloudFormation would refuse it.
    """
    try:
        return previews.of(boto3.Session(), target)
    except previews.PreviewError as error:
        raise DeploymentError(f"nothing has changed, CloudFormation refuses {target.stack}: {error}") from None


def prepare(environment: str, *, quality: bool = True, route: str = SAM, say: Callable[[str], None] = print) -> Package:
    """Make the asset bucket where it is not there yet, and upload the assets.

    Raises:
        DeploymentError: the asset stack failed.
        jars.JarError: Deequ's jars cannot be had.
    """
    deploy_asset_bucket(environment, route=route, say=say)
    return upload_assets(environment, quality=quality, say=say)


def deploy_asset_bucket(environment: str, *, route: str = SAM, say: Callable[[str], None] = print) -> None:
    """Make the asset bucket where it is not there yet.

    Raises:
        DeploymentError: the stack failed.
    """
    stack = f"tarn-{environment}-assets"
    say(f"deploying stack {stack}")
    template = ROOT / "foundations" / "assets.yaml"
    deploy_template(environment, template, stack, {"EnvironmentName": environment}, bucket=None, route=route, say=say)


def upload_assets(
    environment: str, *, quality: bool = True, upload: bool = True, say: Callable[[str], None] = print
) -> Package:
    """Upload the assets that the bucket does not have yet; without ``upload``, only tell where they would be.

    Raises:
        DeploymentError: what the functions depend on has not been built.
        jars.JarError: Deequ's jars cannot be had.
    """
    bucket = boto3.client("ssm").get_parameter(Name=f"/tarn/{environment}/assets/bucket/name")["Parameter"]["Value"]
    preconditions.check_bucket(boto3.client("s3"), bucket, environment=environment)
    # CloudFormation keeps what an earlier deployment said where this one says nothing.
    taken = root_parameters()
    parameters = {name: "" for name in taken if name.endswith(ASSET_PARAMETERS)}
    parameters |= {"EnvironmentName": environment, "AssetBucketName": bucket}
    found: list[assets.Asset] = []
    for template in templates.datasets():
        prefix, files = assets.of_dataset(ROOT / template.parent)
        parameters[prefix_parameter(template.parent)] = prefix
        found += files
    parameters[spark_assets.PARAMETER], files = spark_assets.find()
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
    if upload:
        uploaded = assets.upload(boto3.client("s3"), bucket, found)
        say(f"assets: {len(found)}, of which {uploaded} are new")
    return Package(bucket, {name: value for name, value in parameters.items() if name in taken})


def prefix_parameter(folder: Path) -> str:
    """The root's parameter that tells where a dataset's assets are: ``AirFlightsAssetPrefix`` for ``air/flights``."""
    words = [word for part in folder.parts[-2:] for word in part.split("_")]
    return "".join(word.capitalize() for word in words) + ASSET_PREFIX_PARAMETER


def root_parameters() -> set[str]:
    """The parameters that the root template takes."""
    return set(templates.load(Path("template.yaml"))["Parameters"])


def configured(environment: str) -> dict[str, str]:
    """An environment's parameters in ``samconfig.toml``.

    Raises:
        DeploymentError: there is no such environment.
    """
    given = _of_samconfig(environment)["deploy"]["parameters"]
    return dict(one.split("=", 1) for one in given.get("parameter_overrides", []))


def allowed_losses(environment: str, stack: str) -> list[str]:
    """What of a stack may lose its data, by path, as a commit says it in ``samconfig.toml``.

    Raises:
        DeploymentError: there is no such environment.
    """
    return list(_of_samconfig(environment).get("allow_loss", {}).get(stack, []))


def _of_samconfig(environment: str) -> dict[str, Any]:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    known = {name: one for name, one in config.items() if name != "version"}
    if environment not in known:
        raise DeploymentError(f"samconfig.toml has no environment {environment!r}: it has {', '.join(sorted(known))}")
    return dict(known[environment])


def deploy_template(
    environment: str,
    template: Path,
    stack: str,
    parameters: Mapping[str, str],
    *,
    bucket: str | None,
    route: str = SAM,
    say: Callable[[str], None],
) -> None:
    """Run the real ``sam deploy`` or ``aws cloudformation deploy``, with the tags of ``samconfig.toml``.

    Raises:
        DeploymentError: it failed.
    """
    by_sam, tags = route == SAM, _of_samconfig(environment)["deploy"]["parameters"].get("tags", "").split()
    # A team's own delivery may touch what carries its tag.
    tags += [f"tarn:team={team}"] if (team := parameters.get("TeamName")) else []
    quote = '"' if by_sam else ""
    command = [
        *_program(route),
        *("deploy", "--template-file", str(template), "--stack-name", stack),
        *(("--config-file", str(ROOT / "samconfig.toml"), "--config-env", environment) if by_sam else ()),
        *(("--no-confirm-changeset",) if by_sam else ()),
        *("--no-fail-on-empty-changeset", *(("--tags", *tags) if tags else ())),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"),
        *(("--s3-bucket", bucket, "--s3-prefix", assets.package_prefix()) if bucket else ()),
        # In the delivery pipeline CloudFormation has a role of its own, which alone may touch what stacks hold.
        *(("--role-arn", role) if (role := os.environ.get("TARN_CLOUDFORMATION_ROLE_ARN")) else ()),
        *("--parameter-overrides", *(f"{name}={quote}{value}{quote}" for name, value in parameters.items())),
    ]
    cloudformation = boto3.client("cloudformation")
    before = stack_failures.latest_event(cloudformation, stack)
    last: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            if text := line.rstrip():
                last = [*last, text][-60:]
                say(text)
    if process.returncode != 0:
        reason = stack_failures.told(cloudformation, stack, before)
        ended = f"{_called(route, 'deploy')} of {stack} ended with {process.returncode}:"
        raise DeploymentError("\n".join([*([reason] if reason else []), ended, *last]))


def package_template(template: str, to: Path, bucket: str, *, route: str = SAM) -> Path:
    """Upload code and nested templates, and write the template that names them: ``sam package``, or the AWS CLI's.

    Raises:
        DeploymentError: it failed.
    """
    command = [
        *_program(route),
        *("package", "--template-file", str(ROOT / template), "--output-template-file", str(to)),
        *("--s3-bucket", bucket, "--s3-prefix", assets.package_prefix()),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        ended = f"{_called(route, 'package')} of {template} ended with {done.returncode}:"
        raise DeploymentError(f"{ended}\n{done.stdout}{done.stderr}")
    # They write the address that they talk to, and `sam deploy` takes S3's own alone. They differ on an embedded AWS,
    # which finds a template by bucket and key whatever the host.
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        region = boto3.Session().region_name
        to.write_text(to.read_text().replace(f"{endpoint}/{bucket}/", f"https://s3.{region}.amazonaws.com/{bucket}/"))
    return to


def _called(route: str, command: str) -> str:
    return f"sam {command}" if route == SAM else f"aws cloudformation {command}"


def _program(route: str) -> list[str]:
    """The beginning of a route's command lines.

    Raises:
        DeploymentError: there is no such route, or its program is not installed.
    """
    if route not in ROUTES:
        raise DeploymentError(f"--route is {route!r}: it can be {' or '.join(ROUTES)}")
    home, name = ("sam", "sam") if route == SAM else ("awscli", "aws")
    program = ROOT / ".venvs" / home / "bin" / name
    found = str(program) if program.exists() else shutil.which(name)
    if not found:
        raise DeploymentError(f"{name} is needed: make .venvs/{home}/.ready installs it, or put {name} on PATH")
    return [found] if route == SAM else [found, "cloudformation"]
