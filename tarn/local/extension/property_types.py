"""Numbers and booleans of templates are numbers and booleans.

A parameter of type Number is a string in CloudFormation, and every resource provider reads it as the
type that its property has. Stock MiniStack 1.5.33 hands the string on for some types, and whatever
calculates with it fails later (an event source mapping's `MaximumConcurrency`, a job's `Timeout`).

Source: CloudFormation user guide, "Parameters" (Number: "it is treated as a string when referenced").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tarn.local.extension.clients import Clients, as_modelled
from tarn.local.extension.patching import original
from tarn.local.settings import Settings

# The type, and the operation whose request has the same members.
MODELS = {
    "AWS::Athena::WorkGroup": ("athena", "create_work_group"),
    "AWS::CloudWatch::Alarm": ("cloudwatch", "put_metric_alarm"),
    "AWS::DynamoDB::Table": ("dynamodb", "create_table"),
    "AWS::Glue::Crawler": ("glue", "create_crawler"),
    "AWS::Glue::Job": ("glue", "create_job"),
    "AWS::Glue::Table": ("glue", "create_table"),
    "AWS::Lambda::EventInvokeConfig": ("lambda", "put_function_event_invoke_config"),
    "AWS::Lambda::EventSourceMapping": ("lambda", "create_event_source_mapping"),
}


def install(settings: Settings) -> None:
    """Read the properties by the API's model before the type's own handlers do."""
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    clients = Clients(settings)
    for resource_type, (service, operation) in MODELS.items():
        typed = _reader(clients, service, operation)
        known = handlers[resource_type]
        handlers[resource_type] = {
            **known,
            "create": _with_types(known["create"], typed, (1,)),
            "update": _with_types(known["update"], typed, (1, 2)),
        }


def _reader(clients: Clients, service: str, operation: str) -> Callable[[Any], Any]:
    return lambda properties: as_modelled(clients.input_shape(service, operation), properties)


def _with_types(
    handler: Callable[..., Any], typed: Callable[[Any], Any], positions: tuple[int, ...]
) -> Callable[..., Any]:
    def with_types(*arguments: Any) -> Any:
        return handler(*(typed(value) if at in positions else value for at, value in enumerate(arguments)))

    return with_types
