"""The first hop in moto: the real router's domain, the three real handlers, and the machine's states in between.

moto has no ``StartSyncExecution``; ``Machine`` does what the ASL says (test_raw_to_stage_machine.py holds that
still), passes everything as JSON, and keeps the largest text that a state held.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.client import BaseClient

from lake import names, queues, routing
from lake.datasets import Registry
from tests.integration.tables import Lake, sqs_event

TEAM = "air"
DATASET = "flights"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
START_BATCH = "start-batch"
SHARED_FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:transform-objects"
OWN_FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:tarn-local-air-flights"
HANDLERS = ("start_raw_to_stage", "transform_objects", "record_outcomes")
SQL = "SELECT upper(carrier) AS carrier, delay FROM source"
REGISTRATION = {
    "schema": 1,
    "team": TEAM,
    "dataset": DATASET,
    "kind": "dataset",
    "pipeline": "main",
    "format": {"type": "csv", "separator": ",", "quote": '"', "header": True, "null_tokens": ["NA", ""]},
    "columns": [{"name": "carrier", "type": "string", "required": True}, {"name": "delay", "type": "int"}],
    "on_mismatch": "quarantine",
    "max_object_mib": 1,
    "asset_prefix": "assets/0123/flights/",
    "light_transform": "light.sql",
    "min_items": 1,
    "max_items": 10,
}


@dataclass
class Context:
    """What a handler asks of Lambda."""

    seconds: float = 240
    aws_request_id: str = "5d8c7c5e-0000-4000-8000-000000000000"
    function_name: str = "function"
    memory_limit_in_mb: int = 2048
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:function"

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass
class Machine:
    """The Express machine, as a Step Functions client."""

    transforms: Mapping[str, ModuleType]
    record: ModuleType
    context: Context = field(default_factory=Context)
    status: str = "SUCCEEDED"
    largest: int = 0
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)

    def start_sync_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: N803, A002
        self._hold(input)
        self.inputs.append(json.loads(input))
        output = [self._settle(group) for group in self.inputs[-1]["groups"]]
        return {
            "executionArn": f"{stateMachineArn}:{name}",
            "status": self.status,
            "output": self._hold(json.dumps(output)),
        }

    def _settle(self, group: dict[str, Any]) -> Any:
        told = {name: group[name] for name in ("team", "dataset", "items")}
        try:
            transform = self.transforms[group["transform_function_arn"]]
            transformed = self._json(transform.handler({"schema": 1, **told}, self.context))
            self._json({**group, "transformed": transformed})
            recorded = self._json(self.record.handler({"schema": 1, **told, **transformed}, self.context))
        except Exception:  # noqa: BLE001 (States.ALL)
            return []
        self.outcomes |= {one["id"]: (one["outcome"], one["reason"]) for one in recorded["outcomes"]}
        return recorded["outcomes"]

    def _json(self, value: Any) -> Any:
        return json.loads(self._hold(json.dumps(value)))

    def _hold(self, text: str) -> str:
        self.largest = max(self.largest, len(text.encode()))
        return text


@dataclass
class Calls:
    """The AWS calls of a stretch of code, by ``service.Operation``."""

    made: Counter[str] = field(default_factory=Counter)

    @property
    def writes(self) -> int:
        return sum(count for name, count in self.made.items() if name in ("dynamodb.PutItem", "dynamodb.UpdateItem"))


@contextmanager
def counting(patch: pytest.MonkeyPatch) -> Iterator[Calls]:
    calls = Calls()
    real = BaseClient._make_api_call

    def call(client: BaseClient, operation: str, arguments: Any) -> Any:
        calls.made[f"{client.meta.service_model.service_name}.{operation}"] += 1
        return real(client, operation, arguments)

    with patch.context() as inner:
        inner.setattr(BaseClient, "_make_api_call", call)
        yield calls


class Hop:
    """A lake whose pipeline's functions are loaded with its names."""

    def __init__(self, lake: Lake, patch: pytest.MonkeyPatch) -> None:
        self.lake = lake
        self._patch = patch
        self._sequence = 0x0055AED6DCD90281E5
        self.register()
        lake.datasets.put_item(
            Item={
                "team": TEAM,
                "dataset": "pipeline#main",
                "kind": "pipeline",
                "pipeline": "main",
                "queue_url": lake.pipeline_queue_url,
            }
        )
        self.write("light.sql", SQL)
        for name, value in {
            "OBJECTS_TABLE_NAME": lake.objects.name,
            "DATASETS_TABLE_NAME": lake.datasets.name,
            "RAW_BUCKET_NAME": lake.raw_bucket,
            "STAGE_BUCKET_NAME": lake.stage_bucket,
            "START_BATCH_FUNCTION_ARN": START_BATCH,
            "STATE_MACHINE_ARN": "arn:aws:states:eu-west-1:123456789012:stateMachine:raw-to-stage",
            "TRANSFORM_FUNCTION_ARN": SHARED_FUNCTION,
            "DATASET_NAME": "",
            "DUCKDB_MEMORY_MIB": "256",
            "DUCKDB_SPILL_MIB": "256",
            "DUCKDB_THREADS": "1",
        }.items():
            patch.setenv(name, value)
        self.reload()

    def reload(self) -> None:
        """A cold start of all three functions."""
        for name in HANDLERS:
            sys.modules.pop(f"pipeline.{name}", None)
        self.start, self.transform, self.record = (importlib.import_module(f"pipeline.{name}") for name in HANDLERS)
        self.own_transform = self._own_transform()
        self.machine = Machine({SHARED_FUNCTION: self.transform, OWN_FUNCTION: self.own_transform}, self.record)
        self.botocore_states, self.start.STATES = self.start.STATES, self.machine
        self.woken: list[dict[str, Any]] = []
        self._patch.setattr(self.record.CLIENTS.functions, "invoke", self._invoke, raising=False)

    def _own_transform(self) -> ModuleType:
        """The same handler as the function of the one dataset, whose transform is Python."""
        with self._patch.context() as inner:
            inner.setenv("DATASET_NAME", DATASET)
            shared = sys.modules.pop("pipeline.transform_objects")
            own = importlib.import_module("pipeline.transform_objects")
            sys.modules["pipeline.transform_objects"] = shared
        return own

    def write(self, name: str, text: str) -> None:
        """Put a file of the dataset's folder into the asset bucket."""
        key = f"{REGISTRATION['asset_prefix']}{name}"
        self.lake.s3.put_object(Bucket=self.lake.asset_bucket, Key=key, Body=text.encode())

    def register(self, **changes: Any) -> None:
        row = {
            **REGISTRATION,
            "asset_bucket_name": self.lake.asset_bucket,
            "queue_url": self.lake.dataset_queue_url,
            **changes,
        }
        self.lake.datasets.put_item(Item=row)

    def land(self, name: str, body: bytes | str, prefix: str = f"{TEAM}/{DATASET}/") -> dict[str, Any]:
        """A raw object lands and is routed; gives its message, taken from the pipeline's queue."""
        key = prefix + name
        raw = body if isinstance(body, bytes) else body.encode()
        answer = self.lake.s3.put_object(Bucket=self.lake.raw_bucket, Key=key, Body=raw)
        self._sequence += 1
        thing = {
            "key": quote_plus(key),
            "size": len(raw),
            "eTag": answer["ETag"].strip('"'),
            "versionId": answer["VersionId"],
            "sequencer": f"{self._sequence:018X}",
        }
        record = {
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-11-23T11:59:00.000Z",
            "s3": {"bucket": {"name": self.lake.raw_bucket}, "object": thing},
        }
        registry = Registry(self.lake.datasets)
        clients = routing.Clients(self.lake.objects, registry, self.lake.s3, self.lake.sqs)
        routed = routing.route(clients, self.lake.raw_bucket, {"m": json.dumps({"Records": [record]})}, NOON)
        assert routed.failed == {}
        sent = self.lake.sqs.receive_message(QueueUrl=self.lake.pipeline_queue_url)["Messages"][0]
        queues.delete(self.lake.sqs, self.lake.pipeline_queue_url, [sent["ReceiptHandle"]])
        return dict(json.loads(sent["Body"]))

    def go(self, *bodies: Any) -> list[str]:
        """One message batch; gives the messages that come back."""
        answer = self.start.handler(sqs_event(*bodies), self.machine.context)
        return [one["itemIdentifier"] for one in answer["batchItemFailures"]]

    def raw(self, message: Mapping[str, Any]) -> dict[str, Any]:
        row = self.lake.row(message["id"])
        assert row is not None
        return row

    def staged_id(self, message: Mapping[str, Any]) -> str:
        key = names.stage_key(message["key"], message["sequencer"])
        return names.object_id(self.lake.stage_bucket, key)

    def staged(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.lake.row(self.staged_id(message))

    def _invoke(self, **arguments: Any) -> dict[str, Any]:
        self.woken.append({**arguments, "Payload": json.loads(arguments["Payload"])})
        return {"StatusCode": 202}
