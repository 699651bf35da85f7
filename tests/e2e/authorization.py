"""Who may do what in a deployed lake: its roles, their policies, and the evaluator's word on what was asked."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import ClientError
from ministack.core.iam_evaluator import (
    _POLICY_REQUIRED,
    EvalContext,
    combine_resource_policy,
    evaluate,
    fnmatch_iam,
    parse_policy_document,
)

Statement = dict[str, Any]
PARTS = ("Action", "Resource")


@dataclass(frozen=True)
class Question:
    """What a role asked while the lake ran, and whether it was allowed."""

    role: str
    action: str
    resource: str
    context: dict[str, Any] = field(hash=False)
    is_allowed: bool


@dataclass(frozen=True)
class Role:
    """A role of the lake: the logical id that it has in its template, its statements, and those of its boundary."""

    logical_id: str
    arn: str
    statements: tuple[Statement, ...]
    boundary: tuple[Statement, ...] | None

    @property
    def text(self) -> tuple[str, ...]:
        """What roles that are made of the same lines of a template have in common."""
        sentences = (word for one in self.statements for word in (one["Sid"], *listed(one["Action"])))
        return (self.logical_id, *sentences)


@dataclass(frozen=True, order=True)
class Part:
    """A piece of a statement: an action, a resource, or one value of a condition, by its place there."""

    sid: str
    kind: str
    place: int
    text: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.sid}: {self.kind} {self.text}"


class Unseen(NamedTuple):
    """Patterns of a part that stays, though no question of the embedded AWS needs it, and why."""

    role: str
    sid: str
    text: str
    reason: str

    def is_about(self, role: str, part: Part) -> bool:
        """Whether this tells why the part of that role stays."""
        return all(map(fnmatchcase, (role, part.sid, part.text), self[:3]))


def without_need(
    parts: Iterable[tuple[str, Part]], known: Collection[Unseen], may_be_needed: Container[str] = ()
) -> tuple[str, set[Unseen]]:
    """The spare parts for which nothing known tells why they stay, a line each, and what is known of no spare part.

    Of reasons that ``may_be_needed``, a run asks for the part and the next does not.
    """
    unexplained, stale = [], set(known)
    for role, part in parts:
        reasons = {one for one in known if one.is_about(role, part)}
        stale -= reasons
        if not reasons:
            unexplained.append(f"{role}: {part}")
    return "\n".join(sorted(unexplained)), {one for one in stale if one.reason not in may_be_needed}


def recorded(state: Path) -> list[Question]:
    """What roles asked in the lake of this state folder (``TARN_RECORD_DECISIONS``)."""
    lines = map(json.loads, (state / "decisions.jsonl").read_text().splitlines())
    return [Question(one["role"], one["action"], one["resource"], one["context"], one["allowed"]) for one in lines]


def resources(session: boto3.Session, root: str, team: str | None = None) -> Iterator[dict[str, Any]]:
    """What a stack and those nested in it have, or of these the stacks whose ``TeamName`` it is."""
    cloudformation = session.client("cloudformation")
    given = cloudformation.describe_stacks(StackName=root)["Stacks"][0].get("Parameters", [])
    is_wanted = team is None or {"ParameterKey": "TeamName", "ParameterValue": team} in given
    for one in cloudformation.describe_stack_resources(StackName=root)["StackResources"]:
        if is_wanted:
            yield one
        if one["ResourceType"] == "AWS::CloudFormation::Stack":
            yield from resources(session, one["PhysicalResourceId"], team)


def roles(session: boto3.Session, root: str, team: str | None = None) -> list[Role]:
    """Every role of a stack and of those nested in it, or those of a team."""
    found = [one for one in resources(session, root, team) if one["ResourceType"] == "AWS::IAM::Role"]
    return [role(session, one["PhysicalResourceId"], one["LogicalResourceId"]) for one in found]


def role(session: boto3.Session, name: str, logical_id: str) -> Role:
    """A role with its inline policies. Attached ones are nobody's here."""
    iam = session.client("iam")
    about = iam.get_role(RoleName=name)["Role"]
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
    documents = [
        iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"]
        for one in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    bounded = about.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    return Role(
        logical_id,
        about["Arn"],
        tuple(one for document in documents for one in document["Statement"]),
        tuple(managed(session, bounded)["Statement"]) if bounded else None,
    )


def managed(session: boto3.Session, arn: str) -> dict[str, Any]:
    """The document of a managed policy as it holds now."""
    iam = session.client("iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return dict(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])


class Judge:
    """The evaluator of the embedded AWS, with the policies that the lake's resources have."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session
        self._resource_policy = cache(self._read_resource_policy)
        self._queue_tags = cache(self._read_queue_tags)

    def allows(self, role: Role, question: Question) -> bool:
        """Whether the role, as it stands, may do what the question asks."""
        account, service = role.arn.split(":")[4], question.action.partition(":")[0]
        # Of a queue alone: nothing of another team is asked for but the queue that a registration names.
        tags = self._queue_tags(question.resource) if service == "sqs" else {}
        context = EvalContext(
            principal_arn=f"arn:aws:sts::{account}:assumed-role/{role.arn.rpartition('/')[2]}/session",
            principal_type="AssumedRole",
            principal_account=account,
            action=question.action,
            resource_arn=question.resource,
            region="",
            secure_transport=True,
            service_context={"aws:tagkeys": None}
            | {key.lower(): value for key, value in question.context.items()}
            | {f"aws:resourcetag/{key}": value for key, value in tags.items()},
        )
        limits = () if role.boundary is None else ([_parsed(role.boundary)],)
        result = evaluate(context, [_parsed(role.statements)], *limits)
        policy = self._resource_policy(service, question.resource)
        if policy is not None:
            required = service in _POLICY_REQUIRED
            result = combine_resource_policy(result, context, policy, account, required=required, limits=limits)
        return bool(result.decision == "Allow")

    def spare_parts(self, role: Role, questions: Iterable[Question]) -> Iterator[Part]:
        """Each part of the role's statements without which every question is answered as it was."""
        asked = list(questions)
        for number, statement in enumerate(role.statements):
            # Only what the statement decided can change: what was allowed by an Allow, or denied by a Deny.
            concerned = [
                one
                for one in asked
                if one.is_allowed == (statement["Effect"] == "Allow")
                and any(fnmatch_iam(one.action, action) for action in listed(statement["Action"]))
            ]
            for part, rest in without_each_part(statement):
                less = replace(role, statements=_replaced(role.statements, number, rest))
                if all(self.allows(less, one) == one.is_allowed for one in concerned):
                    yield part

    def spare_parts_of_all(self, roles: Iterable[Role], questions: Iterable[Question]) -> Iterator[tuple[str, Part]]:
        """With a role's logical id: what none of the roles that are made of the same text needs."""
        same, asked = defaultdict(list), asked_by(questions)
        for role in roles:
            same[role.text].append(role)
        for alike in same.values():
            parts = (set(self.spare_parts(role, asked[role.arn])) for role in alike)
            for part in _wholes_first(alike[0], set.intersection(*parts)):
                yield alike[0].logical_id, part

    def _read_queue_tags(self, arn: str) -> dict[str, str]:
        sqs = self._session.client("sqs")
        with suppress(ClientError):
            return dict(sqs.list_queue_tags(QueueUrl=_queue_url(sqs, arn)).get("Tags", {}))
        return {}

    def _read_resource_policy(self, service: str, arn: str) -> str | None:
        """What the resource itself says, for the services where it has a say."""
        client = self._session.client(service) if service in _POLICIES else None
        with suppress(ClientError):
            return _POLICIES[service](client, arn) if client else None
        return None


def without_each_part(statement: Statement) -> Iterator[tuple[Part, Statement | None]]:
    """The statement less each of its actions, resources and condition values in turn; None where nothing is left."""
    for kind in PARTS:
        members = listed(statement[kind])
        for place, text in enumerate(members):
            rest = members[:place] + members[place + 1 :]
            yield Part(statement["Sid"], kind, place, text), {**statement, kind: rest} if rest else None
    for operator, keys in statement.get("Condition", {}).items():
        for key, value in keys.items():
            members = listed(value)
            for place, text in enumerate(members if len(members) > 1 else []):
                rest = members[:place] + members[place + 1 :]
                conditions = {**statement["Condition"], operator: {**keys, key: rest}}
                yield Part(statement["Sid"], key, place, text), {**statement, "Condition": conditions}


def asked_by(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """Questions by the ARN of the role that asked."""
    by_role = defaultdict(list)
    for one in questions:
        by_role[one.role].append(one)
    return by_role


def listed(value: str | list[str]) -> list[str]:
    """A policy's one or many, as many."""
    return [value] if isinstance(value, str) else list(value)


def _wholes_first(role: Role, parts: set[Part]) -> set[Part]:
    """The parts, without resources and conditions of a statement of which no action is needed."""
    actions = {statement["Sid"]: len(listed(statement["Action"])) for statement in role.statements}
    wholes = {sid for sid, n in actions.items() if n == sum(one.sid == sid and one.kind == "Action" for one in parts)}
    return {one for one in parts if one.kind == "Action" or one.sid not in wholes}


def _replaced(statements: tuple[Statement, ...], number: int, by: Statement | None) -> tuple[Statement, ...]:
    return (*statements[:number], *([] if by is None else [by]), *statements[number + 1 :])


def _parsed(statements: Iterable[Statement]) -> Any:
    return parse_policy_document({"Statement": list(statements)})


def _queue_url(sqs: Any, arn: str) -> str:
    return str(sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])


_POLICIES = {
    "sqs": lambda sqs, arn: sqs.get_queue_attributes(QueueUrl=_queue_url(sqs, arn), AttributeNames=["Policy"])[
        "Attributes"
    ].get("Policy"),
    "sns": lambda sns, arn: sns.get_topic_attributes(TopicArn=arn)["Attributes"].get("Policy"),
    "s3": lambda s3, arn: s3.get_bucket_policy(Bucket=arn.rpartition(":")[2].partition("/")[0])["Policy"],
    "kms": lambda kms, arn: kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"],
    "lambda": lambda lambda_, arn: lambda_.get_policy(FunctionName=arn)["Policy"],
}
