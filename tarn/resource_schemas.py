"""What CloudFormation's own schemas say of a type of resource; cfn-lint carries them.

Source: CloudFormation CLI user guide, "Resource type schema" (`createOnlyProperties` and the conditional ones).
"""

from __future__ import annotations

from functools import cache

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER, ResourceNotFoundError

REGION = "us-east-1"


@cache
def replacing(resource_type: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """The properties whose change replaces a resource always, and those whose change may; None for an unknown type."""
    try:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, resource_type).schema
    except ResourceNotFoundError:  # SAM's own types and custom ones
        return None
    return _names(schema.get("createOnlyProperties")), _names(schema.get("conditionalCreateOnlyProperties"))


def _names(paths: list[str] | None) -> frozenset[str]:
    return frozenset(path.split("/")[2] for path in paths or ())
