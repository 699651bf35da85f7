"""A role that a resource names must exist, and trust the service that will assume it.

Stock MiniStack 1.5.33 takes any name for a role and never reads the trust policy. Lambda and Step
Functions refuse both when the resource is created or updated, so here the deployment fails.

Sources: CreateFunction ("The role defined for the function cannot be assumed by Lambda") and
CreateStateMachine ("... is not authorized to assume the provided role").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tarn.local.extension.decisions import Call, policy_admits_service, require_evaluator
from tarn.local.extension.patching import original, require
from tarn.local.settings import Settings

# The type's property that holds the role, and who assumes it.
ASSUMED = {
    "AWS::Lambda::Function": ("Role", "lambda.amazonaws.com"),
    "AWS::StepFunctions::StateMachine": ("RoleArn", "states.amazonaws.com"),
    "AWS::Glue::Job": ("Role", "glue.amazonaws.com"),
}


def install(_settings: Settings) -> None:
    """Check the role before the type's own handlers."""
    require_evaluator()
    require("ministack.services.iam", "_roles")
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    for resource_type, (name, service) in ASSUMED.items():
        known = handlers[resource_type]
        known["create"] = _checked(known["create"], 1, name, service)
        known["update"] = _checked(known["update"], 2, name, service)


def _checked(handler: Callable[..., Any], position: int, name: str, service: str) -> Callable[..., Any]:
    def checked(*arguments: Any) -> Any:
        require_assumable(arguments[position].get(name, ""), service)
        return handler(*arguments)

    return checked


def require_assumable(role: str, service: str) -> None:
    """`ValueError` unless the role (a name or an ARN) exists and the service may assume it."""
    found = original("ministack.services.iam", "_roles").get(role.rpartition("/")[2])
    if found is None:
        raise ValueError(f"The role {role} does not exist")
    call = Call("sts:AssumeRole", found["Arn"])
    if not policy_admits_service(found["AssumeRolePolicyDocument"], service, call, found["Arn"]):
        raise ValueError(f"{service} is not authorized to assume the role {role}")
