"""Decisions of MiniStack's own IAM evaluator about calls that no client signs.

Stock 1.5.33 evaluates policies for requests that arrive over HTTPS. What a service does in somebody's
name (a state machine's tasks, an event source mapping, a rule's target) happens inside the process
and is never asked about. These helpers ask.

Source: IAM user guide, "Policy evaluation logic" and "Creating a role to delegate permissions to a service".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tarn.local.extension.patching import original, require

EVALUATOR = "ministack.core.iam_evaluator"
RESPONSES = "ministack.core.responses"
TAGGING = "ministack.services.tagging"


def require_evaluator() -> None:
    """Look up what the decisions use, before anything is served."""
    require(EVALUATOR, "PrincipalInfo", "EvalContext", "evaluate", "evaluate_resource_policy")
    require(EVALUATOR, "combine_resource_policy", "_resource_policy", "_POLICY_REQUIRED")
    require(EVALUATOR, "_gather_role_policies", "_permissions_boundary")
    require("ministack.services.iam", "_roles")
    require(RESPONSES, "get_region", "get_account_id")
    require(TAGGING, "resource_tags")


@dataclass(frozen=True)
class Call:
    """One action on one resource, with the condition keys of the request."""

    action: str
    resource: str
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def service(self) -> str:
        """The action's namespace."""
        return self.action.partition(":")[0]


listeners: list[Callable[[str, Call, bool], None]] = []
"""Told of each decision about a role's call: the principal's ARN, the call, and whether it is allowed."""


def role_in_session(role_arn: str, session: str) -> Any:
    """A role as the service that assumed it acts: MiniStack's principal, with policies and boundary."""
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    return original(EVALUATOR, "PrincipalInfo")(
        arn=f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
        type="AssumedRole",
        account=account,
        policies=original(EVALUATOR, "_gather_role_policies")(name, account),
        limits=original(EVALUATOR, "_permissions_boundary")(
            original("ministack.services.iam", "_roles"), name, account
        ),
    )


def denial(principal: Any, call: Call) -> str | None:
    """Why the principal may not make this call, or None: its policies, its limits, the resource's own policy."""
    tags = original(TAGGING, "resource_tags")(call.resource) or {}
    tagged = {f"aws:ResourceTag/{name}": value for name, value in tags.items()}
    asked = Call(call.action, call.resource, {**tagged, **call.context})
    context = _context(asked, principal.arn, principal.type, principal.account, principal.keys)
    result = original(EVALUATOR, "evaluate")(context, principal.policies, *principal.limits)
    resource_policy = original(EVALUATOR, "_resource_policy")(call.service, call.resource)
    if resource_policy is not None:
        required = call.service in original(EVALUATOR, "_POLICY_REQUIRED")
        result = original(EVALUATOR, "combine_resource_policy")(
            result, context, *resource_policy, required=required, limits=tuple(principal.limits)
        )
    for listener in listeners:
        listener(principal.arn, call, result.decision == "Allow")
    if result.decision == "Allow":
        return None
    why = "with an explicit deny" if result.decision == "Deny" else f"because no policy allows the {call.action} action"
    return f"User: {principal.arn} is not authorized to perform: {call.action} on resource: {call.resource} {why}"


def policy_admits_service(policy: Any, service: str, call: Call, source_arn: str) -> bool:
    """Whether a resource's policy lets a service principal make this call for `source_arn`."""
    account = source_arn.split(":")[4] or original(RESPONSES, "get_account_id")()
    sources = {"aws:SourceArn": source_arn, "aws:SourceAccount": account, "aws:SourceOwner": account}
    context = _context(Call(call.action, call.resource, {**call.context, **sources}), "*", "Service", "", {})
    decision = original(EVALUATOR, "evaluate_resource_policy")(policy, context, service=service).decision
    return bool(decision == "Allow")


def _context(call: Call, principal: str, kind: str, account: str, keys: dict[str, Any]) -> Any:
    """AWS's services call each other over TLS, whatever the request was that set them going."""
    return original(EVALUATOR, "EvalContext")(
        principal_arn=principal,
        principal_type=kind,
        principal_account=account,
        action=call.action,
        resource_arn=call.resource,
        region=original(RESPONSES, "get_region")(),
        secure_transport=True,
        service_context={"aws:tagkeys": None, **{key.lower(): value for key, value in call.context.items()}},
        principal_keys=keys,
    )
