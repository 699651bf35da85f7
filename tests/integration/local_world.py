"""What a test does with a running emulator: deploys stacks, makes roles and acts as them, waits."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tarn.local import emulator as local
from tarn.local.emulator import Emulator

TEMPLATES = Path(__file__).parent / "templates"
SAM = Path(__file__).resolve().parents[2] / ".venvs" / "sam" / "bin" / "sam"
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
ARTIFACTS = "artifacts"


def client_of(emulator: Emulator, service: str, *keys: str) -> Any:
    """A client of the administrator, or of whoever has these keys."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    credentials: dict[str, Any] = dict(zip(names, keys or ("test", "test"), strict=False))
    session: Any = boto3.Session(**credentials, region_name=emulator.settings.region)
    return session.client(
        service,
        endpoint_url=emulator.endpoint_url,
        verify=str(emulator.ca_bundle),
        config=Config(inject_host_prefix=False, proxies={}, retries={"total_max_attempts": 1}),
    )


class Stacks:
    """Stacks of the emulator, deployed by `sam deploy` or straight over the API."""

    def __init__(self, emulator: Emulator, client: Callable[[str], Any]) -> None:
        self._emulator = emulator
        self.client = client
        self.api = client("cloudformation")

    def sam_deploy(self, template: str, stack: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """The real `sam deploy`, as a user calls it."""
        location = {"LocationConstraint": self._emulator.settings.region}
        if ARTIFACTS not in [bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"]]:
            self.client("s3").create_bucket(Bucket=ARTIFACTS, CreateBucketConfiguration=location)
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        return subprocess.run(
            [
                *(str(SAM), "deploy", "-t", str(TEMPLATES / template), "--stack-name", stack),
                *("--s3-bucket", ARTIFACTS, "--capabilities", *CAPABILITIES),
                *("--no-confirm-changeset", "--no-fail-on-empty-changeset"),
                *(("--parameter-overrides", *overrides) if overrides else ()),
            ],
            env={**local.command_environment(self._emulator.settings.state_dir), "COLUMNS": "1000"},
            capture_output=True,
            text=True,
            check=False,
        )

    def create(self, template: str, stack: str | None = None, **parameters: str) -> dict[str, Any]:
        """Create a stack of a template's text and wait: how it ended, and why."""
        name = stack or f"test-{uuid.uuid4().hex[:8]}"
        self.api.create_stack(StackName=name, TemplateBody=template, **_request(parameters))
        return self.settled(name)

    def update(self, template: str, stack: str, **parameters: str) -> dict[str, Any]:
        """Update a stack and wait."""
        self.api.update_stack(StackName=stack, TemplateBody=template, **_request(parameters))
        return self.settled(stack)

    def delete(self, stack: str) -> dict[str, Any]:
        """Delete a stack and wait."""
        stack_id = self.api.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
        self.api.delete_stack(StackName=stack)
        until(lambda: self.settled(stack_id)["StackStatus"].startswith("DELETE"))
        return self.settled(stack_id)

    def settled(self, stack: str) -> dict[str, Any]:
        """The stack once nothing runs on it, with `Values` (outputs) and `Reasons` (of failures, oldest first)."""
        while (found := self.api.describe_stacks(StackName=stack)["Stacks"][0])["StackStatus"].endswith("_PROGRESS"):
            time.sleep(0.1)
        events = self.api.describe_stack_events(StackName=found["StackId"])["StackEvents"]
        return {
            **found,
            "Values": {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])},
            "Reasons": [
                event.get("ResourceStatusReason", "")
                for event in reversed(events)
                if event["ResourceStatus"].endswith("_FAILED")
            ],
        }


def _request(parameters: dict[str, str]) -> dict[str, Any]:
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    return {"Capabilities": CAPABILITIES, "Parameters": given}


class Roles:
    """Roles made on the spot, and clients that act as one."""

    def __init__(self, emulator: Emulator, client: Callable[[str], Any]) -> None:
        self._emulator = emulator
        self._client = client
        self._iam = client("iam")

    def create(self, *statements: dict[str, Any], service: str = "lambda.amazonaws.com", **extra: Any) -> str:
        """A role that the service and the administrator may assume: its ARN."""
        name = f"role-{uuid.uuid4().hex[:8]}"
        principal = {"Service": service, "AWS": "arn:aws:iam::000000000000:root"}
        trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
        role = self._iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust), **extra)["Role"]
        if statements:
            self.allow(role["Arn"], *statements)
        return str(role["Arn"])

    def allow(self, role: str, *statements: dict[str, Any]) -> None:
        """Give the role these statements, and only these."""
        name = role.rpartition("/")[2]
        self._iam.put_role_policy(RoleName=name, PolicyName="work", PolicyDocument=policy(*statements))

    def client(self, role: str, service: str) -> Any:
        """A client with a session of the role."""
        keys = self._client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        return client_of(self._emulator, service, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def policy(*statements: dict[str, Any]) -> str:
    """A policy document of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allowing(*actions: str, resource: str | list[str] = "*") -> dict[str, Any]:
    """A statement that allows the actions."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def until(happened: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `happened` answers as soon as it is true, or its last answer when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
