"""What a stack may not delete.

Stock MiniStack 1.5.33 deletes a bucket with all that is in it (and finds it again on its disk at the
next start), and a table whose deletion protection is on. S3 and DynamoDB refuse both, and the
stack ends DELETE_FAILED; so it does here.

Nor what a resource that was not deleted depends on: stock goes on with the stack's other resources,
whatever they are, and CloudFormation only with those that nothing left depends on.

Sources: DeleteBucket (BucketNotEmpty), DynamoDB developer guide "Using deletion protection",
CloudFormation user guide "Delete a stack" and "DependsOn attribute".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tarn.local.extension.clients import Clients
from tarn.local.extension.patching import original, replace
from tarn.local.settings import Settings

STACKS = "ministack.services.cloudformation.stacks"


def install(settings: Settings) -> None:
    """Replace the deletion of buckets, and ask before that of tables and of what others depend on."""
    handlers = original("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS")
    clients = Clients(settings)
    handlers["AWS::S3::Bucket"]["delete"] = lambda name, _properties: _delete_bucket(clients, name)
    table = handlers["AWS::DynamoDB::Table"]
    table["delete"] = _unless_protected(table["delete"])
    dependents = _Dependents()
    replace(STACKS, "_delete_resource", dependents.delete)
    replace(STACKS, "_resource_policy", dependents.policy)


class _Dependents:
    """Looks in a stack that is being deleted for what was not deleted."""

    def __init__(self) -> None:
        self._stacks = original("ministack.services.cloudformation", "_stacks")
        self._dependencies = original(STACKS, "_with_dependencies")
        self._policy = original(STACKS, "_resource_policy")
        self._delete = original(STACKS, "_delete_resource")

    def policy(self, definition: Any, attribute: str, *rest: Any) -> Any:
        """A resource that is retained stays in its stack too while something that depends on it does."""
        stack_name = rest[-2]
        stack = self._stacks.get(stack_name) or {}
        if attribute == "DeletionPolicy" and stack.get("StackStatus") == "DELETE_IN_PROGRESS":
            definitions = stack["_template"]["Resources"]
            logical_id = next((one for one, known in definitions.items() if known is definition), "")
            if self._standing(stack_name, logical_id):
                return "Delete"  # which `delete` refuses
        return self._policy(definition, attribute, *rest)

    def delete(
        self, resource_type: str, name: str, properties: dict[str, Any], stack_name: str, logical_id: str
    ) -> None:
        """Delete what nothing that is left depends on."""
        if standing := self._standing(stack_name, logical_id):
            raise ValueError(f"Kept: {standing} depends on it, and was not deleted")
        self._delete(resource_type, name, properties, stack_name, logical_id)

    def _standing(self, stack_name: str, logical_id: str) -> str | None:
        stack = self._stacks.get(stack_name) or {}
        resources = stack.get("_resources") or {}
        definitions = (stack.get("_template") or {}).get("Resources") or {}
        for one, resource in resources.items():
            failed = resource.get("ResourceStatus") == "DELETE_FAILED" and one != logical_id
            if failed and logical_id in self._dependencies([one], definitions, set(resources)):
                return str(one)
        return None


def _delete_bucket(clients: Clients, name: str) -> None:
    try:
        clients.call("s3", "delete_bucket", Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def _unless_protected(delete: Callable[..., None]) -> Callable[..., None]:
    tables = original("ministack.services.dynamodb", "_tables")

    def delete_unless_protected(name: str, properties: dict[str, Any]) -> None:
        if (tables.get(name) or {}).get("DeletionProtectionEnabled") is True:
            raise ValueError(f"Table {name} can't be deleted while DeletionProtectionEnabled is true")
        delete(name, properties)

    return delete_unless_protected
