"""What a function is told by its environment, read once at the cold start.

A function declares a frozen dataclass whose field names are the lower-case names of its environment
variables; a template test holds both against each other.
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


class MissingSettingError(RuntimeError):
    """An environment variable that the function needs is not set, or is not of its type."""


def read(settings_class: type[T], environment: Mapping[str, str] = os.environ) -> T:
    """Fill the frozen dataclass ``settings_class`` (fields of type ``str`` or ``int``) from the environment.

    Raises:
        MissingSettingError: naming the variable, so that a cold start fails with the remedy in its first line.
    """
    values: dict[str, Any] = {}
    types = get_type_hints(settings_class)  # a field's own type is text where annotations are not evaluated
    for field in fields(settings_class):  # type: ignore[arg-type]
        name = field.name.upper()
        text = environment.get(name)
        if text is None:
            raise MissingSettingError(f"environment variable {name} is not set: add it to the function in its template")
        try:
            values[field.name] = int(text) if types[field.name] is int else text
        except ValueError as error:
            raise MissingSettingError(f"environment variable {name} is {text!r}: it must be a whole number") from error
    return settings_class(**values)
