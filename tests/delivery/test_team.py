"""A team's own push, whole: the real ``buildspec.yml`` as the team's deploy role, on a lake of separate layers.

IAM is enforced: the role is that of ``cicd/team_role.yaml``, taken by the one role that it trusts, with the external
id. What CloudFormation does with *its* role is nobody's question here; its policies are judged by themselves
(tests/templates/test_delivery_roles.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest

from tarn import deployment, layers, templates
from tarn.lake import Lake
from tarn.local import codebuild, emulator
from tarn.local.codebuild import Build
from tests.delivery import pipeline
from tests.delivery.pipeline import Delivery, edit
from tests.e2e.own_emulator import own_emulator

pytestmark = pytest.mark.slow

TEAM, OTHER = "air", "sky"
EXTERNAL_ID = "0f9e8d7c-external-id"
DATASET = f"tarn-local-dataset-{TEAM}-airlines"
AIRLINES = f"datasets/{TEAM}/airlines/template.yaml"
BUILD_ROLE = f"{TEAM}-build-local-deploy"
DEPLOYS = 'tarn deploy --environment $(ENVIRONMENT) "$$@"'
"""How a team's deploy stage deploys each of its stacks (cicd/stages.mk)."""


@dataclass
class Team:
    """The team's repository, and the role that its pushes deploy as."""

    delivery: Delivery
    role: str
    stacks_role: str

    def push(self, message: str, *changes: tuple[str, str, str]) -> Build:
        """Push a change of the team's repository; gives the build of its stage `deploy`."""
        for change in changes:
            edit(*change)(self.delivery.repository)
        commit = self.delivery.push(message, lambda _: None)
        session = self.session()
        credentials = session.get_credentials().get_frozen_credentials()
        keys = {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": str(credentials.token),
        }
        project = codebuild.Project(
            "tarn-air-local-deploy",
            variables={
                **{"TARN_STAGE": "deploy", "TARN_ENVIRONMENT": "local", "TARN_TEAM": TEAM, "TARN_PIPELINES": "main"},
                "TARN_CLOUDFORMATION_ROLE_ARN": self.stacks_role,
            },
            overrides={"QUALITY": "off"},
        )
        source = self.delivery.as_checked(commit)
        self.delivery.builds += 1
        return codebuild.run(
            (source / "buildspec.yml").read_text(),
            source,
            self.delivery.folder / "builds" / f"{self.delivery.builds:02}",
            project,
            environment=self.delivery.variables | keys,
            source_version=commit,
            prepare=pipeline.give_environments,
        )

    def session(self) -> boto3.Session:
        """As the deploy role, which only the build's role can take."""
        build = took(boto3.Session(), f"arn:aws:iam::000000000000:role/tarn-delivery/{BUILD_ROLE}")
        return took(build, self.role, ExternalId=EXTERNAL_ID)


def took(session: boto3.Session, role: str, **more: str) -> boto3.Session:
    keys: Any = session.client("sts").assume_role(RoleArn=role, RoleSessionName="build", **more)["Credentials"]
    return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def repository(folder: Path) -> None:
    """A clone of which the team keeps one dataset, so that a push takes less time; its first push says so."""
    pipeline.clone(folder)
    for dataset in (folder / "datasets" / TEAM).iterdir():
        if dataset.name != "airlines":
            shutil.rmtree(dataset)


def build_role() -> str:
    """The role of the team's build project, as ``cicd/project.yaml`` makes it: it can take the target role."""
    trust = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}
    target = f"arn:aws:iam::000000000000:role/tarn-delivery/{TEAM}-target-local-deploy"
    allowed = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": target}
    iam = boto3.client("iam")
    arn = iam.create_role(Path="/tarn-delivery/", RoleName=BUILD_ROLE, AssumeRolePolicyDocument=document(trust))
    iam.put_role_policy(RoleName=BUILD_ROLE, PolicyName="build", PolicyDocument=document(allowed))
    return str(arn["Role"]["Arn"])


def document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def target_role(folder: Path) -> dict[str, str]:
    """The team's roles by ``cicd/team_role.yaml``; gives its outputs."""
    bucket = boto3.client("ssm").get_parameter(Name="/tarn/local/assets/bucket/name")["Parameter"]["Value"]
    contract = f"/tarn/local/team/{TEAM}"
    given = {
        **{"DeliveryName": TEAM, "EnvironmentName": "local", "DifferArn": "none", "ExternalId": EXTERNAL_ID},
        **{"DeployerArn": build_role(), "BoundaryArn": f"{contract}/boundary/arn"},
        **{"TeamKeyArn": f"{contract}/key/arn", "RegistrarFunctionArn": f"{contract}/registrar-function/arn"},
    }
    packaged = deployment.package_template("cicd/team_role.yaml", folder / "packaged.yaml", bucket)
    stack = f"tarn-delivery-target-local-{TEAM}"
    deployment.deploy_template("local", packaged, stack, given, bucket=bucket, say=lambda _: None)
    outputs = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    return {one["OutputKey"]: one["OutputValue"] for one in outputs}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Foundations and two teams, deployed by those who own the lake; then the one team's first push."""
    folder = templates.ROOT / ".tarn" / "team-test"  # of the same disk, so that environments can be linked
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    state = tmp_path_factory.mktemp("team")
    with own_emulator(state) as session:
        for layer, names in (("foundations", {}), ("team", {"team": TEAM}), ("team", {"team": OTHER})):
            layers.deploy("local", layer, names, quality=False, say=lambda _: None)
        outputs = target_role(tmp_path_factory.mktemp("packaged"))
        repository(folder / "repository")
        outside = ("TARN_ENVIRONMENT", "TARN_STATE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VIRTUAL_ENV")
        variables = {
            name: value
            for name, value in emulator.command_environment(state).items()
            if name not in outside and not name.startswith("PYTEST_")
        }
        delivery = Delivery(folder, session, variables, built=built(folder / "built"))
        found = Team(delivery, outputs["DeployRoleArn"], outputs["CloudFormationRoleArn"])
        pipeline.succeeded(found.push("One dataset"))
        yield found


def built(folder: Path) -> Path:
    """What the stage `check` leaves beside the sources; nothing of it is deployed where functions need no layer."""
    shutil.copytree(templates.ROOT / "requirements", folder / "requirements")
    shutil.copy(templates.ROOT / "pyproject.toml", folder)
    (folder / "build").mkdir()
    (folder / "build" / "dependencies.zip").touch()
    (folder / "build" / "tested.sha256").write_text(f"{sha256(b'').hexdigest()}  dependencies.zip\n")
    return folder


def standing() -> dict[str, tuple[str, Any]]:
    """Every stack of the lake: its state, and when it was last touched."""
    return {
        one["StackName"]: (one["StackStatus"], one.get("LastUpdatedTime"))
        for one in boto3.client("cloudformation").describe_stacks()["Stacks"]
        if one["StackName"].startswith("tarn-local")
    }


def uploaded(prefix: str) -> set[str]:
    """What lies in the asset bucket below a prefix."""
    bucket = boto3.client("ssm").get_parameter(Name="/tarn/local/assets/bucket/name")["Parameter"]["Value"]
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {one["Key"] for page in pages for one in page.get("Contents", [])}


def test_its_push_deploys_its_pipeline_and_dataset_from_its_own_place(team: Team) -> None:
    assert {DATASET, f"tarn-local-pipeline-{TEAM}-main"} <= set(standing())
    lake = Lake("local", team.delivery.session)
    row = lake.registration(lake.contract.address(TEAM, "airlines"))
    assert row["asset_prefix"].startswith(f"assets/{TEAM}/")
    assert f"{row['asset_prefix']}light.sql" in uploaded(f"assets/{TEAM}/")
    team.delivery.takes_files()  # its roles stand under the team's boundary


def test_its_push_changes_its_dataset_and_nothing_else(team: Team) -> None:
    before = standing()
    build = team.push("Fewer wait", (AIRLINES, "PipelineName: main\n", "PipelineName: main\n        MinItems: 2\n"))
    pipeline.succeeded(build)
    pipeline.said(build, "DatasetStack/Registration", "changed")
    lake = Lake("local", team.delivery.session)
    assert lake.registration(lake.contract.address(TEAM, "airlines"))["min_items"] == 2
    touched = {name for name, one in standing().items() if before.get(name) != one}
    assert all(name.startswith(DATASET) for name in touched), touched


@pytest.mark.parametrize(
    "reach",
    [
        pytest.param("tarn deploy --environment local --layer foundations", id="foundations"),
        pytest.param(f"tarn deploy --environment local --layer team --team {TEAM}", id="its own team"),
        pytest.param(f"tarn deploy --environment local --layer team --team {OTHER}", id="another team"),
        pytest.param(
            "python -c \"import boto3; boto3.client('lambda').delete_function(FunctionName='tarn')\"",
            id="a resource, past CloudFormation",
        ),
    ],
)
def test_a_push_that_reaches_further_is_denied_and_nothing_changes(team: Team, reach: str) -> None:
    """The push may change every command of its own build: what holds it is the role."""
    before, assets = standing(), uploaded("")
    build = team.push("Reach further", ("cicd/stages.mk", DEPLOYS, f"{reach}; exit $$?; :"))
    team.delivery.undo()
    pipeline.failed_in(build, "build")
    said = build.log.read_text(errors="replace")
    assert "AccessDenied" in said or "not authorized" in said, pipeline.tail(build)
    assert standing() == before
    assert {key for key in uploaded("") - assets if f"/{TEAM}/" not in key} == set()


def test_only_its_build_takes_its_role(team: Team) -> None:
    with pytest.raises(boto3.client("sts").exceptions.ClientError, match="AccessDenied"):
        took(boto3.Session(), team.role, ExternalId=EXTERNAL_ID)
