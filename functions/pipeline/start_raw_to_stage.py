"""Run the first hop for a message batch of the pipeline's queue.

Woken by the queue, ten messages at a time: runs the Express machine once for all of them and waits for its end.
Changes nothing itself. Returns the messages whose object failed, has no outcome, or is of a dataset whose registration
is not there or cannot be read just now; SQS delivers them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lake import clock, first_hop, queues, settings
from lake.hop_items import Landed, MalformedMessageError
from lake.observability import logger
from lake.registrations import NotRegisteredError, Registrations
from lake.rows import UnknownSchemaError

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

READ_TIMEOUT_SECONDS = 310
"""Longer than this function lives. With botocore's 60 s and its retries a running execution would be started again."""


@dataclass(frozen=True)
class Settings:
    """Set by pipeline/raw_to_stage.yaml."""

    state_machine_arn: str
    transform_function_arn: str
    datasets_table_name: str


SETTINGS = settings.read(Settings)
DATASETS = Registrations(boto3.resource("dynamodb").Table(SETTINGS.datasets_table_name))
STATES = boto3.client(
    "stepfunctions", config=Config(read_timeout=READ_TIMEOUT_SECONDS, retries={"total_max_attempts": 1})
)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The batch's messages -> one execution -> the messages that come back."""
    messages: dict[str, Landed] = {}
    returned: list[str] = []
    for record in event["Records"]:
        try:
            messages[record["messageId"]] = Landed.of_body(record["body"])
        except MalformedMessageError as error:
            logger.error("message refused", extra={"message_id": record["messageId"], "error": str(error)})
            returned.append(record["messageId"])
    functions = _functions({(message.team, message.dataset) for message in messages.values()})
    known = {name: one for name, one in messages.items() if (one.team, one.dataset) in functions}
    returned += [name for name in messages if name not in known]
    if known:
        returned += _run(known, functions, context.aws_request_id)
    return queues.partial_failure(returned)


def _functions(datasets: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The function of each dataset that is registered: its own, or the one of all."""
    found = {}
    for team, dataset in datasets:
        try:
            registration = DATASETS.get(team, dataset, clock.now())
        except (NotRegisteredError, UnknownSchemaError, ClientError, BotoCoreError) as error:
            logger.warning("messages go back to the queue", extra={"team": team, "dataset": dataset, "why": str(error)})
        else:
            own = registration.get("transform_function_arn")
            found[team, dataset] = str(own or SETTINGS.transform_function_arn)
    return found


def _run(messages: dict[str, Landed], functions: dict[tuple[str, str], str], name: str) -> list[str]:
    document = first_hop.machine_input(messages, functions)
    try:
        told = first_hop.run(STATES, SETTINGS.state_machine_arn, name, document)
    except first_hop.MachineFailedError as error:
        logger.error("execution failed", extra={"execution": name, "error": str(error), "messages": len(messages)})
        return list(messages)
    returned = first_hop.failed_messages(messages, told)
    logger.info(
        "message batch settled",
        extra={
            "execution": name,
            "messages": len(messages),
            "outcomes": Counter(one.outcome for one in told.values()),
            "objects": [(identity, one.outcome) for identity, one in told.items()],
            "returned": len(returned),
        },
    )
    return returned
