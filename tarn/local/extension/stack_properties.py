"""Properties that stock MiniStack 1.5.33 drops when CloudFormation creates or updates a resource.

Deployed green, they would be missing: a permissions boundary that bounds nothing, a table
without its TTL. After the type's own handler each property that stands in the template is
applied through the service's API, and one that was taken out of it is removed.

Sources: the type's page in the CloudFormation template reference; what is dropped was found by
reading every property of `tests/integration/templates/properties` back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tarn.local.extension import bucket_properties
from tarn.local.extension.clients import Clients
from tarn.local.extension.decisions import RESPONSES, Call, policy_admits_service, require_evaluator
from tarn.local.extension.encryption import key_policy
from tarn.local.extension.patching import original, replace, require
from tarn.local.settings import Settings

Handler = Callable[..., Any]
Apply = Callable[[Clients, str, Any], object]
Remove = Callable[[Clients, str], object]


@dataclass(frozen=True)
class Property:
    """A property and the calls that apply it to, and remove it from, a physical id."""

    resource_type: str
    name: str
    apply: Apply
    remove: Remove


def install(settings: Settings) -> None:
    """Wrap the handlers, and move all of them to worker threads.

    On the event loop, a handler that calls the API would wait for the very loop that serves it.
    """
    require_evaluator()
    require("ministack.services.stepfunctions", "_state_machines")
    replace("ministack.services.cloudformation.stacks", "_runs_on_worker_thread", lambda _type: True)
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    clients = Clients(settings)
    for resource_type in dict.fromkeys(known.resource_type for known in PROPERTIES):
        properties = tuple(known for known in PROPERTIES if known.resource_type == resource_type)
        wrapped = _Wrapped(handlers[resource_type], properties, clients)
        handlers[resource_type] = {
            **handlers[resource_type],
            "create": wrapped.create,
            "update": wrapped.update,
        }


class _Wrapped:
    """A type's handlers with the properties that they leave out."""

    def __init__(self, handlers: dict[str, Any], properties: tuple[Property, ...], clients: Clients) -> None:
        self._create: Handler = handlers["create"]
        self._update: Handler = handlers["update"]
        self._delete: Handler = handlers["delete"]
        self._properties = properties
        self._clients = clients

    def create(self, logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        physical_id, attributes = self._create(logical_id, properties, stack_name)
        try:
            self._reconcile(physical_id, {}, properties)
        except Exception:
            # CloudFormation does not know the resource yet, so nobody else would delete it.
            self._delete(physical_id, properties)
            raise
        return physical_id, attributes

    def update(self, physical_id: str, old: dict[str, Any], new: dict[str, Any], *rest: Any) -> Any:
        updated_id, attributes = self._update(physical_id, old, new, *rest)
        self._reconcile(updated_id, old if updated_id == physical_id else {}, new)
        return updated_id, attributes

    def _reconcile(self, physical_id: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        for known in self._properties:
            value = new.get(known.name)
            if value is not None and value != old.get(known.name):
                known.apply(self._clients, physical_id, value)
            elif value is None and known.name in old:
                known.remove(self._clients, physical_id)


def _bound_role(clients: Clients, name: str, arn: Any) -> None:
    clients.call("iam", "put_role_permissions_boundary", RoleName=name, PermissionsBoundary=arn)


def _unbound_role(clients: Clients, name: str) -> None:
    clients.call("iam", "delete_role_permissions_boundary", RoleName=name)


def _expire_items(clients: Clients, table: str, value: Any) -> None:
    clients.call("dynamodb", "update_time_to_live", TableName=table, TimeToLiveSpecification=value)


def _expire_nothing(clients: Clients, table: str) -> None:
    described = clients.call("dynamodb", "describe_time_to_live", TableName=table)["TimeToLiveDescription"]
    if "AttributeName" in described:
        _expire_items(clients, table, {"AttributeName": described["AttributeName"], "Enabled": False})


def _recover_to_any_point(clients: Clients, table: str, value: Any) -> None:
    clients.call("dynamodb", "update_continuous_backups", TableName=table, PointInTimeRecoverySpecification=value)


def _encrypt_table(clients: Clients, table: str, value: Any) -> None:
    specification = {"Enabled": value["SSEEnabled"], **{k: v for k, v in value.items() if k != "SSEEnabled"}}
    clients.call("dynamodb", "update_table", TableName=table, SSESpecification=specification)


def _protect_table(clients: Clients, table: str, value: Any) -> None:
    clients.call("dynamodb", "update_table", TableName=table, DeletionProtectionEnabled=value)


def _reserve_concurrency(clients: Clients, function: str, value: Any) -> None:
    clients.call("lambda", "put_function_concurrency", FunctionName=function, ReservedConcurrentExecutions=value)


def _reserve_nothing(clients: Clients, function: str) -> None:
    clients.call("lambda", "delete_function_concurrency", FunctionName=function)


def _configure_function(argument: str) -> Apply:
    def apply(clients: Clients, function: str, value: Any) -> None:
        clients.call("lambda", "update_function_configuration", FunctionName=function, **{argument: value})

    return apply


def _encrypt_topic(clients: Clients, arn: str, value: Any) -> None:
    clients.call("sns", "set_topic_attributes", TopicArn=arn, AttributeName="KmsMasterKeyId", AttributeValue=value)


def _log_executions(clients: Clients, arn: str, value: Any) -> None:
    """The template's names begin with a capital letter and the API's do not; stock stores the former."""
    configuration = _with_small_initials(value)
    clients.call("stepfunctions", "update_state_machine", stateMachineArn=arn, loggingConfiguration=configuration)


def _with_small_initials(value: Any) -> Any:
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _with_small_initials(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_small_initials(member) for member in value]
    return value


def _trace_executions(_clients: Clients, arn: str, value: Any) -> None:
    """UpdateStateMachine has no place for it in stock, DescribeStateMachine shows what the record has."""
    machines = original("ministack.services.stepfunctions", "_state_machines")
    machines[arn]["tracingConfiguration"] = {"enabled": str(value.get("Enabled", False)).lower() == "true"}


def _require_key_for_logs(_clients: Clients, group: str, key: Any) -> None:
    """The property itself is kept; CloudWatch Logs refuses a key whose policy does not admit it."""
    region, account = original(RESPONSES, "get_region")(), original(RESPONSES, "get_account_id")()
    arn = f"arn:aws:logs:{region}:{account}:log-group:{group}"
    call = Call("kms:GenerateDataKey", key, {"kms:EncryptionContext:aws:logs:arn": arn})
    services = ("logs.amazonaws.com", f"logs.{region}.amazonaws.com")
    if not any(policy_admits_service(key_policy(key), service, call, arn) for service in services):
        raise ValueError(f"The KMS key {key} does not exist or is not allowed to be used with {arn}")


PROPERTIES = (
    Property("AWS::Logs::LogGroup", "KmsKeyId", _require_key_for_logs, lambda _clients, _group: None),
    *(Property("AWS::S3::Bucket", *known) for known in bucket_properties.PROPERTIES),
    Property("AWS::IAM::Role", "PermissionsBoundary", _bound_role, _unbound_role),
    Property("AWS::DynamoDB::Table", "TimeToLiveSpecification", _expire_items, _expire_nothing),
    Property(
        "AWS::DynamoDB::Table",
        "PointInTimeRecoverySpecification",
        _recover_to_any_point,
        lambda clients, table: _recover_to_any_point(clients, table, {"PointInTimeRecoveryEnabled": False}),
    ),
    Property(
        "AWS::DynamoDB::Table",
        "SSESpecification",
        _encrypt_table,
        lambda clients, table: _encrypt_table(clients, table, {"SSEEnabled": False}),
    ),
    Property(
        "AWS::DynamoDB::Table",
        "DeletionProtectionEnabled",
        _protect_table,
        lambda clients, table: _protect_table(clients, table, False),
    ),
    Property("AWS::Lambda::Function", "ReservedConcurrentExecutions", _reserve_concurrency, _reserve_nothing),
    Property(
        "AWS::Lambda::Function",
        "DeadLetterConfig",
        _configure_function("DeadLetterConfig"),
        lambda clients, function: _configure_function("DeadLetterConfig")(clients, function, {"TargetArn": ""}),
    ),
    Property(
        "AWS::Lambda::Function",
        "KmsKeyArn",
        _configure_function("KMSKeyArn"),
        lambda clients, function: _configure_function("KMSKeyArn")(clients, function, ""),
    ),
    Property(
        "AWS::SNS::Topic",
        "KmsMasterKeyId",
        _encrypt_topic,
        lambda clients, topic: _encrypt_topic(clients, topic, ""),
    ),
    Property(
        "AWS::StepFunctions::StateMachine",
        "LoggingConfiguration",
        _log_executions,
        lambda clients, arn: _log_executions(clients, arn, {"Level": "OFF"}),
    ),
    Property(
        "AWS::StepFunctions::StateMachine",
        "TracingConfiguration",
        _trace_executions,
        lambda clients, arn: _trace_executions(clients, arn, {}),
    ),
)
