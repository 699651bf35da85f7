"""A state machine may do what its role may do.

Stock MiniStack 1.5.33 runs a task without asking about its role: `sqs:sendMessage`, `lambda:invoke`
and `aws-sdk:*` worked with a role that has no policy at all (measured). Here a task's calls are put
to the IAM evaluator first, and a denial fails the task with the error that Step Functions reports.

Sources: Step Functions developer guide, "IAM policies for integrated services"; the error names are
those of the SDK for Java (version 1 in optimized integrations, 2 in `aws-sdk`), in which an error
that the API does not model has the name of the service's base exception
(`Lambda.AWSLambdaException`: github.com/awslabs/aws-deployment-framework/issues/460).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from tarn.local.extension.decisions import RESPONSES, Call, require_evaluator, role_in_session
from tarn.local.extension.encryption import denial_with_key
from tarn.local.extension.patching import original, replace, require
from tarn.local.extension.request_calls import calls_of_request, require_requests
from tarn.local.settings import Settings

STEP_FUNCTIONS = "ministack.services.stepfunctions"
_OPTIMIZED = "arn:aws:states:::"
# What `.sync` of a nested execution needs beside starting it, for the events that tell of its end.
_NESTED_RULE = "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
_BASE_ERRORS = {
    "dynamodb": "DynamoDB.AmazonDynamoDBException",
    "events": "EventBridge.AmazonEventBridgeException",
    "lambda": "Lambda.AWSLambdaException",
    "sns": "SNS.AmazonSNSException",
    "sqs": "SQS.AmazonSQSException",
    "states": "StepFunctions.AWSStepFunctionsException",
}

_role: ContextVar[Any] = ContextVar("state_machine_role", default=None)


def install(_settings: Settings) -> None:
    """Remember whose task is being executed, and ask before it calls anything."""
    require_evaluator()
    require_requests()
    require(STEP_FUNCTIONS, "_ExecutionError", "_AWS_SDK_ERROR_PREFIX", "_AWS_SDK_SERVICE_MAP", "_service_model")
    execute = original(STEP_FUNCTIONS, "_execute_task")
    invoke = original(STEP_FUNCTIONS, "_invoke_resource")
    invoke_with_callback = original(STEP_FUNCTIONS, "_invoke_with_callback")
    call_service = original("ministack.app", "call_service_handler_sync")
    machines = original(STEP_FUNCTIONS, "_state_machines")

    def execute_task(state: Any, task_input: Any, execution: Any, context: Any) -> Any:
        machine = machines.get(execution["stateMachineArn"]) if execution else None
        token = _role.set(role_in_session(machine["roleArn"], execution["name"][:64]) if machine else None)
        try:
            return execute(state, task_input, execution, context)
        finally:
            _role.reset(token)

    def invoke_resource(resource: str, task_input: Any) -> Any:
        _ask(resource, task_input)
        return invoke(resource, task_input)

    def invoke_resource_with_callback(resource: str, task_input: Any, token: Any, state: Any) -> Any:
        _ask(resource, task_input)
        return invoke_with_callback(resource, task_input, token, state)

    def call_service_handler(handler: Any, *request: Any) -> Any:
        if (role := _role.get()) is not None:
            _ask_for_sdk_call(role, *request[:5])
        return call_service(handler, *request)

    replace(STEP_FUNCTIONS, "_execute_task", execute_task)
    replace(STEP_FUNCTIONS, "_invoke_resource", invoke_resource)
    replace(STEP_FUNCTIONS, "_invoke_with_callback", invoke_resource_with_callback)
    replace("ministack.app", "call_service_handler_sync", call_service_handler)


def _ask(resource: str, task_input: Any) -> None:
    if (role := _role.get()) is None:
        return
    for call in _calls_of_task(resource, task_input):
        if (denial := denial_with_key(role, call)) is not None:
            raise _failure(_BASE_ERRORS[call.service], denial)


def _ask_for_sdk_call(role: Any, method: str, path: str, headers: dict[str, str], *content: Any) -> None:
    """`aws-sdk:*`: the request that the emulator made of the task says what is called."""
    body, query = content
    service = headers["authorization"].split("/")[3]
    encoded = body.encode() if isinstance(body, str) else body or b""
    for call in calls_of_request(service, method, path, headers, encoded, query):
        if (denial := denial_with_key(role, call)) is not None:
            raise _failure(_sdk_error(service, call.action), denial)


def _sdk_error(service: str, action: str) -> str:
    names = original(STEP_FUNCTIONS, "_AWS_SDK_ERROR_PREFIX")
    by_key = {
        known.get("service_key", name): names[name]
        for name, known in original(STEP_FUNCTIONS, "_AWS_SDK_SERVICE_MAP").items()
        if name in names
    }
    prefix = by_key.get(service, service.capitalize())
    model = original(STEP_FUNCTIONS, "_service_model")(service)
    operation = action.partition(":")[2]
    modelled = (
        {shape.name for shape in model.operation_model(operation).error_shapes}
        if model is not None and operation in model.operation_names
        else set()
    )
    return f"{prefix}.AccessDeniedException" if "AccessDeniedException" in modelled else f"{prefix}.{prefix}Exception"


def _failure(error: str, cause: str) -> Exception:
    exception: Exception = original(STEP_FUNCTIONS, "_ExecutionError")(error, cause)
    return exception


def _calls_of_task(resource: str, task_input: Any) -> Iterator[Call]:
    """The calls of an optimized integration; others ask for themselves (`glue`) or as requests (`aws-sdk`)."""
    if ":lambda:" in resource and resource.startswith("arn:aws:lambda:"):
        yield Call("lambda:InvokeFunction", resource)
        return
    integration, _, pattern = resource.removeprefix(_OPTIMIZED).partition(".")
    if (calls := _INTEGRATIONS.get(integration)) is not None:
        yield from calls(task_input, pattern)


def _arn(service: str, name: str) -> str:
    region, account = original(RESPONSES, "get_region")(), original(RESPONSES, "get_account_id")()
    return f"arn:aws:{service}:{region}:{account}:{name}"


def _lambda_invoke(task_input: Any, _pattern: str) -> Iterator[Call]:
    function = task_input.get("FunctionName", "")
    arn = function if function.startswith("arn:") else _arn("lambda", f"function:{function.rpartition('function:')[2]}")
    qualifier = task_input.get("Qualifier")
    yield Call("lambda:InvokeFunction", f"{arn}:{qualifier}" if qualifier else arn)


def _sqs_send_message(task_input: Any, _pattern: str) -> Iterator[Call]:
    yield Call("sqs:SendMessage", _arn("sqs", urlsplit(task_input.get("QueueUrl", "")).path.rpartition("/")[2]))


def _sns_publish(task_input: Any, _pattern: str) -> Iterator[Call]:
    yield Call("sns:Publish", task_input.get("TopicArn") or task_input.get("TargetArn") or "*")


def _dynamodb(operation: str) -> Callable[[Any, str], Iterator[Call]]:
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}", "content-type": "application/x-amz-json-1.0"}

    def calls(task_input: Any, _pattern: str) -> Iterator[Call]:
        yield from calls_of_request("dynamodb", "POST", "/", headers, json.dumps(task_input).encode(), {})

    return calls


def _put_events(task_input: Any, _pattern: str) -> Iterator[Call]:
    headers = {"x-amz-target": "AWSEvents.PutEvents", "content-type": "application/x-amz-json-1.1"}
    yield from calls_of_request("events", "POST", "/", headers, json.dumps(task_input).encode(), {})


def _start_execution(task_input: Any, pattern: str) -> Iterator[Call]:
    yield Call("states:StartExecution", task_input.get("StateMachineArn", "*"))
    if pattern.startswith("sync"):
        for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
            yield Call(action, _arn("events", _NESTED_RULE))


_INTEGRATIONS: dict[str, Callable[[Any, str], Iterator[Call]]] = {
    "lambda:invoke": _lambda_invoke,
    "sqs:sendMessage": _sqs_send_message,
    "sns:publish": _sns_publish,
    "dynamodb:getItem": _dynamodb("GetItem"),
    "dynamodb:putItem": _dynamodb("PutItem"),
    "dynamodb:updateItem": _dynamodb("UpdateItem"),
    "dynamodb:deleteItem": _dynamodb("DeleteItem"),
    "events:putEvents": _put_events,
    "states:startExecution": _start_execution,
}
