"""``tarn bootstrap``: what must stand before a push can deploy, made once by a person (cicd/README.md).

=========  =================================  ============================================================
part       template                           stack
=========  =================================  ============================================================
pipeline   ``cicd/template.yaml``             ``tarn-delivery``, of a team ``tarn-delivery-{team}``
target     ``cicd/target_role.yaml``,         ``tarn-delivery-target-{env}``, of a team with its name
           of a team ``cicd/team_role.yaml``
github     ``cicd/github_role.yaml``          ``tarn-delivery-github-{env}``
drift      ``cicd/drift.yaml``                ``tarn-delivery-drift-{env}``
=========  =================================  ============================================================
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import boto3

from tarn import deployment, layers, templates
from tarn.deployment import DeploymentError

TEMPLATES = {
    "pipeline": Path("cicd/template.yaml"),
    "target": Path("cicd/target_role.yaml"),
    "github": Path("cicd/github_role.yaml"),
    "drift": Path("cicd/drift.yaml"),
}
CONFIRM = (
    "The connection is pending: a person opens it once in the console (Developer Tools, Settings, Connections), "
    "chooses 'Update pending connection' and signs in at the provider. Until then every execution fails at Source."
)
FIRST_PUSH = "Push to it: git push {url} HEAD:main. Until then the first execution fails at Source, by design."


def bootstrap(
    part: str,
    environment: str,
    *,
    source: str | None = None,
    team: str | None = None,
    overrides: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Deploy one part of the delivery into the session's account.

    Args:
        part: a word of the table above.
        environment: of the pipeline, the last one that a push reaches; else the environment whose roles are made.
        source: of the pipeline, ``codecommit`` or ``connection``.
        team: whose delivery; None for the whole lake.
        overrides: parameters of the template.
        say: is told what goes on.

    Raises:
        DeploymentError: a word or a parameter is missing or unknown, or the stack failed.
    """
    if team in layers.RESERVED:
        raise DeploymentError(f"team {team!r}: the lake itself uses this name, choose another")
    template = _template(part, team)
    taken = templates.load(template)["Parameters"]
    given = {**_told(part, environment, source, team), **(overrides or {})}
    if unknown := set(given) - set(taken):
        raise DeploymentError(f"{template} takes no {', '.join(sorted(unknown))}: it takes {', '.join(taken)}")
    if missing := [name for name, one in taken.items() if name not in given and "Default" not in one]:
        raise DeploymentError(f"{template} needs --parameter for {', '.join(missing)}")
    if wrong := [
        f"{name} is {given[name]!r}: it can be {', '.join(one['AllowedValues'])}"
        for name, one in taken.items()
        if name in given and given[name] not in one.get("AllowedValues", [given[name]])
    ]:
        raise DeploymentError("; ".join(wrong))
    # The template's own rules say so as well, but when the asset bucket has been made already.
    needed = ["ConnectionProvider", "ExternalRepository"] if given.get("SourceKind") == "connection" else []
    needed += ["Pipelines"] if part == "pipeline" and team else []
    if missing := [name for name in needed if given.get(name, "none") == "none"]:
        raise DeploymentError(f"{template} needs --parameter for {', '.join(missing)}")
    # Of the pipeline, the packages of its nested templates lie with dev's: where that is elsewhere, they need a place.
    home = "dev" if part == "pipeline" else environment
    deployment.configured(environment)
    deployment.deploy_asset_bucket(home, say=say)
    bucket = boto3.client("ssm").get_parameter(Name=f"/tarn/{home}/assets/bucket/name")["Parameter"]["Value"]
    stack = "-".join(["tarn-delivery", *([part, environment] if part != "pipeline" else []), *([team] if team else [])])
    say(f"deploying stack {stack}")
    with tempfile.TemporaryDirectory() as folder:
        packaged = deployment.package_template(str(template), Path(folder) / "packaged.yaml", bucket)
        deployment.deploy_template(environment, packaged, stack, given, bucket=bucket, say=say)
    found = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found}
    for name, value in outputs.items():
        say(f"{name}: {value}")
    if part == "pipeline":
        say(CONFIRM if outputs["ConnectionArn"] != "none" else FIRST_PUSH.format(url=outputs["CloneUrl"]))


def _template(part: str, team: str | None) -> Path:
    if part not in TEMPLATES:
        raise DeploymentError(f"{part!r} is no part of the delivery: it can be {', '.join(TEMPLATES)}")
    return Path("cicd/team_role.yaml") if part == "target" and team else TEMPLATES[part]


def _told(part: str, environment: str, source: str | None, team: str | None) -> dict[str, str]:
    """What the words of the command say to the template."""
    name = {"DeliveryName": team or "lake"}
    if part == "pipeline":
        return {**name, "LastEnvironment": environment} | ({"SourceKind": source} if source else {})
    if part == "drift":
        contract = f"/tarn/{environment}/foundations"
        wiring = {"TopicArn": f"{contract}/operations-topic/arn", "KeyArn": f"{contract}/key/arn"}
        return {"EnvironmentName": environment, **wiring}
    told = {**name, "EnvironmentName": environment}
    if part == "target" and team:
        contract = f"/tarn/{environment}/team/{team}"
        told |= {"BoundaryArn": f"{contract}/boundary/arn", "TeamKeyArn": f"{contract}/key/arn"}
        told |= {"RegistrarFunctionArn": f"{contract}/registrar-function/arn"}
    return told
