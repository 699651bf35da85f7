"""Sessions of IAM roles for the services that run here (Glue, Step Functions).

A service's own work is done over the public API with the credentials of the role that it was given,
so MiniStack's IAM evaluator decides about every call, as on AWS. The credentials end with the work.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-service.html
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import boto3
from botocore.config import Config

from tarn.local.extension.clients import Clients
from tarn.local.extension.decisions import Call, policy_admits_service
from tarn.local.extension.patching import original
from tarn.local.settings import Settings

_SESSION = boto3.Session()
"""Makes every role's clients: it keeps the services' models, which take a tenth of a second to read."""
_MAKING = Lock()
"""A session makes one client at a time: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/session.html"""


class RoleError(Exception):
    """The role is missing, or its trust policy does not name the service."""


@dataclass(frozen=True)
class RoleSession:
    """Credentials of a role, and clients that use them."""

    settings: Settings
    access_key: str
    secret_key: str
    token: str

    def client(self, service: str) -> Any:
        """A boto3 client that acts as the role."""
        with _MAKING:
            return _SESSION.client(
                service,  # type: ignore[call-overload]
                region_name=self.settings.region,
                endpoint_url=self.settings.endpoint_url,
                verify=str(self.settings.ca_bundle),
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                aws_session_token=self.token,
                config=Config(max_pool_connections=32, inject_host_prefix=False, proxies={}),
            )

    def environment(self) -> dict[str, str]:
        """The variables by which an AWS SDK in another process acts as the role, and as nobody else."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.token,
            "AWS_REGION": self.settings.region,
            "AWS_DEFAULT_REGION": self.settings.region,
            "AWS_ENDPOINT_URL": self.settings.endpoint_url,
            "AWS_CA_BUNDLE": str(self.settings.ca_bundle),
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }


@contextmanager
def assumed(settings: Settings, clients: Clients, role: str, service: str, name: str) -> Iterator[RoleSession]:
    """Assume `role` (a name or an ARN) as the service principal `service`."""
    sts = "ministack.services.sts"
    found = _role(clients, role)
    call = Call("sts:AssumeRole", found["Arn"])
    if not policy_admits_service(found["AssumeRolePolicyDocument"], service, call, found["Arn"]):
        raise RoleError(f"The trust policy of {found['Arn']} does not let {service} assume the role")
    session = RoleSession(settings, f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(32), secrets.token_hex(64))
    account = found["Arn"].split(":")[4]
    record = {
        "Arn": f"arn:aws:sts::{account}:assumed-role/{found['RoleName']}/{name}",
        "UserId": f"{found['RoleId']}:{name}",
        "AccountId": account,
        "PrincipalType": "AssumedRole",
        "SecretAccessKey": session.secret_key,
        "SessionToken": session.token,
    }
    original(sts, "register_session")(session.access_key, record)
    try:
        yield session
    finally:
        original(sts, "_sessions").pop(session.access_key, None)


def handed_on(session: RoleSession, role_arn: str, name: str) -> RoleSession:
    """The role that a session of another one assumes, if that one may, and the role lets it.

    Raises:
        ClientError: it may not.
    """
    keys = session.client("sts").assume_role(RoleArn=role_arn, RoleSessionName=name)["Credentials"]
    return RoleSession(session.settings, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def _role(clients: Clients, role: str) -> dict[str, Any]:
    iam = clients.get("iam")
    try:
        return dict(iam.get_role(RoleName=role.rpartition("/")[2])["Role"])
    except iam.exceptions.NoSuchEntityException as error:
        raise RoleError(f"The role {role} does not exist") from error
