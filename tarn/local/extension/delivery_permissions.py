"""What a service delivers, it must be allowed to deliver, and by the one that AWS asks.

Stock MiniStack 1.5.33 checks S3 notifications and SNS fan-out against the queue's policy, and
nothing of the following (measured: each was delivered without any policy):

- an event source mapping reads its queue as the *function's role*;
- an EventBridge rule calls as `events.amazonaws.com` under the target's own policy (Lambda, SQS, SNS),
  a Scheduler schedule and a rule's state machine under the target's *RoleArn*;
- SNS calls a subscribed function as `sns.amazonaws.com` under the function's policy;
- Lambda sends a failed asynchronous event to its dead-letter target as the *function's role*.

Sources: Lambda developer guide, "Using Lambda with Amazon SQS" (execution role permissions) and
"Capturing records of asynchronous invocations"; EventBridge user guide, "Using resource-based policies".
"""

from __future__ import annotations

import logging
import time
from typing import Any

from tarn.local.extension.decisions import Call, policy_admits_service, require_evaluator, role_in_session
from tarn.local.extension.encryption import denial_with_key, service_may_use_key
from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

logger = logging.getLogger("tarn.local")
LAMBDA = "ministack.services.lambda_svc"
EVENTS = "ministack.services.eventbridge"
POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
DELIVERIES = {
    "lambda": "lambda:InvokeFunction",
    "sns": "sns:Publish",
    "sqs": "sqs:SendMessage",
    "states": "states:StartExecution",
}


def install(_settings: Settings) -> None:
    """Ask before a queue is polled, a target is called, a subscription or a dead letter is delivered."""
    require_evaluator()
    _ask_before_polling()
    _refuse_unreadable_sources()
    _ask_before_calling_targets()
    _ask_before_calling_subscribed_functions()
    _ask_before_sending_dead_letters()


def _ask_before_polling() -> None:
    """A mapping that may not read its queue gets no concurrency, and says why where AWS says it."""
    concurrency = original(LAMBDA, "_sqs_esm_concurrency")
    told: dict[tuple[str, str], tuple[float, str | None]] = {}

    def denial_of(role_arn: str, queue_arn: str) -> str | None:
        """Asked once a second: a busy queue is polled a hundred times in one."""
        asked_at, denial = told.get((role_arn, queue_arn), (0.0, None))
        if time.monotonic() - asked_at > 1:
            denial = _denial_of_polling(role_arn, queue_arn)
            told[role_arn, queue_arn] = (time.monotonic(), denial)
        return denial

    def allowed_concurrency(mapping: dict[str, Any], function: Any, configuration: Any, queue: Any = None) -> int:
        denial = denial_of(configuration["Role"], mapping["EventSourceArn"])
        if denial is None:
            return int(concurrency(mapping, function, configuration, queue))
        mapping["LastProcessingResult"] = f"PROBLEM: {denial}"
        return 0

    replace(LAMBDA, "_sqs_esm_concurrency", allowed_concurrency)


def _refuse_unreadable_sources() -> None:
    """Lambda refuses to create a mapping whose queue the function's role may not read."""
    mapping = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")[
        "AWS::Lambda::EventSourceMapping"
    ]
    resolve = original("ministack.services.cloudformation.provisioners", "_lambda_function_for_cfn_ref")
    create = mapping["create"]

    def create_if_readable(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        function = resolve(properties.get("FunctionName", ""))[0]
        source = properties.get("EventSourceArn", "")
        if function is not None and ":sqs:" in source:
            denial = _denial_of_polling(function["config"]["Role"], source)
            if denial is not None:
                raise ValueError(f"The function execution role does not have permissions to read the queue: {denial}")
        return create(logical_id, properties, stack_name)

    mapping["create"] = create_if_readable


def _denial_of_polling(role_arn: str, queue_arn: str) -> str | None:
    role = role_in_session(role_arn, "event-source-mapping")
    denials = (denial_with_key(role, Call(action, queue_arn)) for action in POLLING)
    return next((denial for denial in denials if denial is not None), None)


def _ask_before_calling_targets() -> None:
    invoke = original(EVENTS, "_invoke_target")

    def invoke_if_allowed(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None) -> Any:
        denial = _denial_of_target(target, event, rule)
        if denial is None:
            return invoke(target, event, rule, view)
        logger.warning("%s does not reach %s: %s", rule.get("Arn"), target.get("Arn"), denial)
        return None

    replace(EVENTS, "_invoke_target", invoke_if_allowed)


def _denial_of_target(target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any]) -> str | None:
    arn = target.get("Arn", "")
    service = arn.split(":")[2] if arn.startswith("arn:") else ""
    if service not in DELIVERIES:
        return None
    call = Call(DELIVERIES[service], arn)
    if service == "states" or event.get("Source") == "aws.scheduler":
        role_arn = target.get("RoleArn")
        return denial_with_key(role_in_session(role_arn, "events"), call) if role_arn else "it has no RoleArn"
    return _denial_of_service("events.amazonaws.com", call, rule.get("Arn", ""))


def _ask_before_calling_subscribed_functions() -> None:
    deliver = original("ministack.services.sns", "_deliver_to_lambda")

    def deliver_if_allowed(endpoint: str, envelope: str, topic_arn: str, *rest: Any) -> Any:
        denial = _denial_of_service("sns.amazonaws.com", Call("lambda:InvokeFunction", endpoint), topic_arn)
        if denial is None:
            return deliver(endpoint, envelope, topic_arn, *rest)
        logger.warning("%s does not reach %s: %s", topic_arn, endpoint, denial)
        return None

    replace("ministack.services.sns", "_deliver_to_lambda", deliver_if_allowed)


def _denial_of_service(service: str, call: Call, source_arn: str) -> str | None:
    found = original("ministack.core.iam_evaluator", "_resource_policy")(call.service, call.resource)
    policy = found[0] if found else None
    if not policy or not policy_admits_service(policy, service, call, source_arn):
        return f"no policy of {call.resource} lets {service} perform {call.action} for {source_arn}"
    if not service_may_use_key(service, call, source_arn):
        return f"the policy of the key of {call.resource} does not let {service} use the key"
    return None


def _ask_before_sending_dead_letters() -> None:
    route = original(LAMBDA, "_route_async_failure")
    functions = original(LAMBDA, "_functions")

    def route_if_allowed(target_arn: str, function: str, event: Any, result: Any) -> Any:
        service = target_arn.split(":")[2]
        role_arn = functions[function]["config"]["Role"]
        denial = denial_with_key(role_in_session(role_arn, function), Call(DELIVERIES[service], target_arn))
        if denial is None:
            return route(target_arn, function, event, result)
        logger.warning("the failed event of %s is lost: %s", function, denial)
        return None

    replace(LAMBDA, "_route_async_failure", route_if_allowed)
