"""AWS clients with which the extension calls the emulator that it runs in.

They go through the public API as the administrator, so that what is created here is created,
checked and persisted like anything else. Never call one on the event loop: it would wait for
itself (`stack_properties` keeps all of CloudFormation's handlers off it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.model import ListShape, MapShape, Shape, StructureShape

from tarn.local.settings import ADMINISTRATOR_KEY, Settings


class Clients:
    """boto3 clients of one emulator, made on first use (they are thread-safe)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: Any = boto3.Session(ADMINISTRATOR_KEY, ADMINISTRATOR_KEY, region_name=settings.region)
        self.get = cache(self._create)

    def call(self, service: str, operation: str, **arguments: Any) -> Any:
        """Call `operation` with what a template holds: a parameter's number or boolean is a string there."""
        shape = self.input_shape(service, operation)
        return getattr(self.get(service), operation)(**as_modelled(shape, arguments))

    def input_shape(self, service: str, operation: str) -> Shape:
        """What the API's model says of an operation's request."""
        meta = self.get(service).meta
        shape: Shape = meta.service_model.operation_model(meta.method_to_api_mapping[operation]).input_shape
        return shape

    def _create(self, service: str) -> Any:
        return self._session.client(
            service,
            endpoint_url=self._settings.endpoint_url,
            verify=str(self._settings.certificate),
            config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False, proxies={}),
        )


def as_modelled(shape: Shape, value: Any) -> Any:
    """The value with its leaves in the types that the API's model has for them."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {
            name: as_modelled(shape.members[name], member) if name in shape.members else member
            for name, member in value.items()
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [as_modelled(shape.member, member) for member in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {name: as_modelled(shape.value, member) for name, member in value.items()}
    return _LEAVES.get(shape.type_name, _as_it_is)(value)


def _as_it_is(value: Any) -> Any:
    return value


_LEAVES: dict[str, Callable[[Any], Any]] = {
    "boolean": lambda value: str(value).lower() == "true",
    "integer": int,
    "long": int,
    "string": lambda value: value if isinstance(value, dict | list) else str(value),
}
