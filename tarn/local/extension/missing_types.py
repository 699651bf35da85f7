"""Resource types that Tarn's templates use and stock MiniStack 1.5.33 refuses as unknown.

They are recorded and **not acted upon**, and each deployment says so in the log: nobody's access
is decided by Lake Formation here, nothing is encrypted by a security configuration, no pipeline
runs. What they answer to `Ref` and `Fn::GetAtt` is what CloudFormation documents for the type.
A type that a later MiniStack brings is left to it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tarn.local.extension.patching import original
from tarn.local.settings import ACCOUNT_ID, Settings

logger = logging.getLogger("tarn.local")
Properties = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A type's physical id (`Ref`), its attributes (`Fn::GetAtt`) and the reason why it is not real."""

    ref: Callable[[str, Properties], str]
    attributes: Callable[[str, str], dict[str, str]] = lambda _region, _ref: {}


def _named(name: str) -> Callable[[str, Properties], str]:
    return lambda logical_id, properties: str(properties.get(name) or f"{logical_id}-{_suffix()}")


def _generated(logical_id: str, _properties: Properties) -> str:
    return f"{logical_id}-{_suffix()}"


def _uuid(_logical_id: str, _properties: Properties) -> str:
    return str(uuid.uuid4())


def _suffix() -> str:
    return uuid.uuid4().hex[:12].upper()


def _with_arn(pattern: str, attribute: str = "Arn") -> Callable[[str, str], dict[str, str]]:
    return lambda region, ref: {attribute: pattern.format(region=region, account=ACCOUNT_ID, ref=ref)}


TYPES = {
    "AWS::Athena::NamedQuery": Recorded(_uuid),
    "AWS::CloudTrail::Trail": Recorded(
        _named("TrailName"), _with_arn("arn:aws:cloudtrail:{region}:{account}:trail/{ref}")
    ),
    "AWS::CloudWatch::CompositeAlarm": Recorded(
        _named("AlarmName"), _with_arn("arn:aws:cloudwatch:{region}:{account}:alarm:{ref}")
    ),
    "AWS::CodeCommit::Repository": Recorded(
        _named("RepositoryName"),
        lambda region, ref: {
            "Arn": f"arn:aws:codecommit:{region}:{ACCOUNT_ID}:{ref}",
            "Name": ref,
            "CloneUrlHttp": f"https://git-codecommit.{region}.amazonaws.com/v1/repos/{ref}",
        },
    ),
    "AWS::CodeConnections::Connection": Recorded(
        lambda _logical_id, _properties: f"arn:aws:codeconnections:eu-west-1:{ACCOUNT_ID}:connection/{uuid.uuid4()}",
        lambda _region, ref: {"ConnectionArn": ref, "ConnectionStatus": "PENDING"},
    ),
    "AWS::CodePipeline::Pipeline": Recorded(_named("Name"), lambda _region, _ref: {"Version": "1"}),
    "AWS::Glue::DataCatalogEncryptionSettings": Recorded(_generated),
    "AWS::Glue::SecurityConfiguration": Recorded(_named("Name")),
    "AWS::LakeFormation::DataLakeSettings": Recorded(_generated),
    "AWS::LakeFormation::Permissions": Recorded(_generated),
    "AWS::LakeFormation::PrincipalPermissions": Recorded(_generated),
    "AWS::LakeFormation::Resource": Recorded(_named("ResourceArn")),
    "AWS::LakeFormation::Tag": Recorded(_named("TagKey")),
    "AWS::LakeFormation::TagAssociation": Recorded(_generated),
    "AWS::Logs::QueryDefinition": Recorded(_uuid, lambda _region, ref: {"QueryDefinitionId": ref}),
}


def install(settings: Settings) -> None:
    """Add a handler for each type that is truly missing."""
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    for resource_type, recorded in TYPES.items():
        handlers.setdefault(resource_type, _handlers(resource_type, recorded, settings.region))


def _handlers(resource_type: str, recorded: Recorded, region: str) -> dict[str, Any]:
    def create(logical_id: str, properties: Properties, stack_name: str) -> tuple[str, dict[str, str]]:
        logger.warning("%s %s of %s is recorded, but not acted upon", resource_type, logical_id, stack_name)
        ref = recorded.ref(logical_id, properties)
        return ref, recorded.attributes(region, ref)

    def update(physical_id: str, *_: object) -> tuple[str, dict[str, str]]:
        logger.warning("%s %s is recorded, but not acted upon", resource_type, physical_id)
        return physical_id, recorded.attributes(region, physical_id)

    return {"create": create, "update": update, "delete": lambda _physical_id, _properties: None}
