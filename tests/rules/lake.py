"""Our own rules for cfn-lint: what a lake's templates must have and no schema asks for.

cfn-lint loads them by ``append_rules`` in ``.cfnlintrc``, each class of this file. A rule that looks into other files
(the parent that wires a template, a machine's definition) has nothing to say about a template that is given as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from cfnlint.rules import CloudFormationLintRule, RuleMatch
from cfnlint.template import Template

LEAST_RECEIVES = 3
"""Fewer, and a fault of a minute makes a dead letter of a healthy message."""
TEMPLATES = ("*.yaml", "*/*.yaml", "datasets/*/*/*.yaml")
EVENTS = {"events:PutTargets", "events:PutRule", "events:DescribeRule"}
SYNC_ACTIONS = {
    # The tables of https://docs.aws.amazon.com/step-functions/latest/dg/service-integration-iam-templates.html
    "athena:startQueryExecution.sync": {
        "athena:StartQueryExecution",
        "athena:StopQueryExecution",
        "athena:GetQueryExecution",
    },
    "codebuild:startBuild.sync": {"codebuild:StartBuild", "codebuild:StopBuild", "codebuild:BatchGetBuilds", *EVENTS},
    "ecs:runTask.sync": {"ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", *EVENTS},
    "elasticmapreduce:addStep.sync": {
        "elasticmapreduce:AddJobFlowSteps",
        "elasticmapreduce:DescribeStep",
        "elasticmapreduce:CancelSteps",
        *EVENTS,
    },
    "emr-serverless:startJobRun.sync": {
        "emr-serverless:StartJobRun",
        "emr-serverless:GetJobRun",
        "emr-serverless:CancelJobRun",
        *EVENTS,
    },
    "glue:startJobRun.sync": {"glue:StartJobRun", "glue:GetJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"},
    "sagemaker:createProcessingJob.sync": {
        "sagemaker:CreateProcessingJob",
        "sagemaker:DescribeProcessingJob",
        "sagemaker:StopProcessingJob",
        "sagemaker:ListTags",
        *EVENTS,
    },
    "states:startExecution.sync": {
        "states:StartExecution",
        "states:DescribeExecution",
        "states:StopExecution",
        *EVENTS,
    },
    "states:startExecution.sync:2": {
        "states:StartExecution",
        "states:DescribeExecution",
        "states:StopExecution",
        *EVENTS,
    },
}
TAGS = ["tarn"]
Content = dict[str, Any]
Place = tuple[Path, str]
"""A resource of the project: its template and its logical id."""


class PartialBatchResponse(CloudFormationLintRule):
    """Partial batch responses of what a queue wakes."""

    id = "E9001"
    shortdesc = "A queue's function returns the messages that failed"
    description = "Without ReportBatchItemFailures one bad message sends its whole batch round again"
    tags = TAGS

    def match(self, cfn: Template) -> list[RuleMatch]:
        """An event source mapping of a queue without it."""
        found = []
        for name, resource in cfn.get_resources("AWS::Lambda::EventSourceMapping").items():
            given = resource.get("Properties", {})
            if not _is_queue(cfn, given.get("EventSourceArn")):
                continue
            if "ReportBatchItemFailures" not in given.get("FunctionResponseTypes", []):
                found.append(RuleMatch(["Resources", name], f"{name} does not ReportBatchItemFailures"))
        return found


class DeadLetters(CloudFormationLintRule):
    """Dead letters of every queue, and the alarm of every dead-letter queue."""

    id = "E9002"
    shortdesc = "A queue has dead letters, and somebody is told of them"
    description = f"maxReceiveCount is at least {LEAST_RECEIVES}; a dead-letter queue has an alarm beside it"
    tags = TAGS

    def match(self, cfn: Template) -> list[RuleMatch]:
        """A queue that loses messages, or keeps them where nobody looks."""
        watched = set()
        for alarm in cfn.get_resources("AWS::CloudWatch::Alarm").values():
            given = alarm.get("Properties", {})
            if given.get("MetricName") == "ApproximateNumberOfMessagesVisible" and given.get("AlarmActions"):
                watched |= {_names(one.get("Value")) for one in given.get("Dimensions", [])}
        found = []
        for name, resource in cfn.get_resources("AWS::SQS::Queue").items():
            redrive = resource.get("Properties", {}).get("RedrivePolicy")
            path = ["Resources", name]
            if name.endswith("DeadLetterQueue"):
                if name not in watched:
                    found.append(RuleMatch(path, f"no alarm tells of the first message in {name}"))
            elif not redrive:
                found.append(RuleMatch(path, f"{name} has no dead-letter queue, and is not called one"))
            elif int(redrive.get("maxReceiveCount", 0)) < LEAST_RECEIVES:
                found.append(RuleMatch(path, f"{name} gives a message up in fewer than {LEAST_RECEIVES} tries"))
        return found


class OwnLogGroup(CloudFormationLintRule):
    """The log group of every function."""

    id = "E9003"
    shortdesc = "A function has a log group of its own, with retention"
    description = "The group that Lambda makes by itself keeps its lines for ever, and outlives the stack"
    tags = TAGS

    def match(self, cfn: Template) -> list[RuleMatch]:
        """A function without one, or two that share it."""
        groups = cfn.get_resources("AWS::Logs::LogGroup")
        taken: dict[str, str] = {}
        found = []
        for name, resource in cfn.get_resources("AWS::Lambda::Function").items():
            group = _names(resource.get("Properties", {}).get("LoggingConfig", {}).get("LogGroup"))
            if group not in groups:
                found.append(RuleMatch(["Resources", name], f"{name} has no log group of its own"))
            elif "RetentionInDays" not in groups[group].get("Properties", {}):
                found.append(RuleMatch(["Resources", group], f"{group} keeps its lines for ever"))
            elif group in taken:
                found.append(RuleMatch(["Resources", name], f"{name} logs into the group of {taken[group]}"))
            taken.setdefault(group, name)
        return found


class KeyForService(CloudFormationLintRule):
    """Every pair of a service that may send and the key of what it sends to."""

    id = "E9004"
    shortdesc = "A service that may send to an encrypted queue or topic may use its key"
    description = "Else it is refused without a word: its message, alarm or dead letter never arrives"
    tags = TAGS

    def match(self, cfn: Template) -> list[RuleMatch]:
        """A policy that lets a service in while the key keeps it out; the key may stand in another template."""
        path = _file(cfn)
        if path is None:
            return []
        resources = _load(path)["Resources"]
        found = []
        for name, policy in resources.items():
            if policy["Type"] not in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
                continue
            given = policy["Properties"]
            services = _services(given["PolicyDocument"])
            for target in (_names(one) for one in given.get("Queues") or given.get("Topics")):
                for key_path, key in _resolve(path, resources[target]["Properties"].get("KmsMasterKeyId")):
                    allowed = _load(key_path)["Resources"][key]["Properties"].get("KeyPolicy", {"Statement": []})
                    for service in sorted(services):
                        lacking = {"kms:Decrypt", "kms:GenerateDataKey"} - _granted(allowed, service)
                        if lacking:
                            text = f"{service} may send to {target}, but the key {key} refuses it {sorted(lacking)}"
                            found.append(RuleMatch(["Resources", name], text))
        return found


class SyncActions(CloudFormationLintRule):
    """What a machine's role needs for each ``.sync`` task."""

    id = "E9005"
    shortdesc = "A machine that waits for a job may look at it and stop it"
    description = "Each .sync resource needs its table of actions in the machine's role and in the role's boundary"
    tags = TAGS

    def match(self, cfn: Template) -> list[RuleMatch]:
        """A ``.sync`` task of a definition whose actions the role, or its boundary, does not have."""
        path = _file(cfn)
        if path is None:
            return []
        resources = _load(path)["Resources"]
        found = []
        for name, machine in resources.items():
            uri = machine.get("Properties", {}).get("DefinitionUri")
            if machine["Type"] != "AWS::Serverless::StateMachine" or not isinstance(uri, str):
                continue
            role = _names(machine["Properties"].get("Role"))
            granted = {f"the role {role}": _actions_of(path, role)}
            boundary = resources.get(role, {}).get("Properties", {}).get("PermissionsBoundary")
            for other, policy in _resolve(path, boundary):
                document = _load(other)["Resources"][policy]["Properties"]["PolicyDocument"]
                granted[f"the boundary {policy}"] = _actions(document)
            for task in sorted(set(_sync_tasks(_load(path.parent / uri)))):
                for text in _lacking(task, granted):
                    found.append(RuleMatch(["Resources", name], text))
        return found


def _lacking(task: str, granted: dict[str, set[str]]) -> Iterator[str]:
    if task not in SYNC_ACTIONS:
        yield f"{task} has no table of actions: add it to SYNC_ACTIONS in tests/rules/lake.py"
        return
    for who, actions in granted.items():
        missing = sorted(one for one in SYNC_ACTIONS[task] if not _is_granted(one, actions))
        if missing:
            yield f"{task} needs {', '.join(missing)} in {who}"


def _sync_tasks(machine: Content) -> Iterator[str]:
    """``glue:startJobRun.sync`` for each task of a definition, in maps and parallels too."""
    for state in machine.get("States", {}).values():
        resource = str(state.get("Resource", ""))
        if ".sync" in resource:
            yield resource.rpartition(":::")[2]
        for inner in [state.get("ItemProcessor", {}), *state.get("Branches", [])]:
            yield from _sync_tasks(inner)


def _actions_of(path: Path, role: str) -> set[str]:
    """What a role's own policies allow, those that stand apart too, in its template or beside it.

    A policy under a condition counts: it stands where what it is about stands.
    """
    resources = _load(path)["Resources"]
    documents = [one["PolicyDocument"] for one in resources.get(role, {}).get("Properties", {}).get("Policies", [])]
    for other in sorted({path, *path.parent.glob("*.yaml")}):
        for resource in (_load(other).get("Resources") or {}).values():
            given = resource.get("Properties", {})
            if resource["Type"] == "AWS::IAM::Policy" and any(
                (path, role) in _resolve(other, one) for one in given["Roles"]
            ):
                documents.append(given["PolicyDocument"])
    return {action for document in documents for action in _actions(document)}


def _actions(document: Content) -> set[str]:
    """The actions that a policy allows, those of statements under a condition too."""
    return {
        action
        for statement in map(under_condition, document["Statement"])
        if statement.get("Effect") == "Allow"
        for action in map(under_condition, _listed(statement.get("Action")))
    }


def under_condition(value: Any) -> Any:
    """What stands in a list where the condition holds."""
    return value["Fn::If"][1] if isinstance(value, dict) and "Fn::If" in value else value


def _granted(key_policy: Content, service: str) -> set[str]:
    """Of the two actions that sending needs, those that a key's policy gives a service."""
    patterns = {
        action
        for statement in key_policy["Statement"]
        if statement["Effect"] == "Allow" and service in _services({"Statement": [statement]})
        for action in _listed(statement["Action"])
    }
    return {one for one in ("kms:Decrypt", "kms:GenerateDataKey") if _is_granted(one, patterns)}


def _is_granted(action: str, patterns: set[str]) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _services(document: Content) -> set[str]:
    """The services that a policy lets in, by their written names."""
    found = set()
    for statement in document["Statement"]:
        principal = statement.get("Principal")
        if statement["Effect"] == "Allow" and isinstance(principal, dict):
            found |= {one for one in _listed(principal.get("Service")) if isinstance(one, str)}
    return found


def _is_queue(cfn: Template, source: Any) -> bool:
    name = _names(source)
    resource = cfn.get_resources().get(name)
    return resource["Type"] == "AWS::SQS::Queue" if resource else ":sqs:" in str(source) or "Queue" in name


def _names(value: Any) -> str:
    """The logical id (or parameter) that a ``Ref`` or ``Fn::GetAtt`` names; empty for anything else."""
    if isinstance(value, dict):
        if "Ref" in value:
            return str(value["Ref"])
        if "Fn::GetAtt" in value:
            return str(_parts(value["Fn::GetAtt"])[0])
    return ""


def _parts(attribute: Any) -> list[str]:
    return attribute.split(".", 1) if isinstance(attribute, str) else [str(one) for one in attribute]


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _resolve(path: Path, value: Any) -> set[Place]:
    """The resources that a value comes to: up through the parents that wire a parameter, down through outputs.

    Of a condition both ways count.
    """
    if isinstance(value, dict) and "Fn::If" in value:
        return _resolve(path, value["Fn::If"][1]) | _resolve(path, value["Fn::If"][2])
    name, content = _names(value), _load(path)
    if name in content.get("Parameters", {}):
        return {
            place
            for parent, stack in _parents(path)
            for place in _resolve(parent, _load(parent)["Resources"][stack]["Properties"]["Parameters"].get(name))
        }
    resource = content["Resources"].get(name)
    if resource is None:
        return set()
    if resource["Type"] != "AWS::CloudFormation::Stack":
        return {(path, name)}
    child = (path.parent / resource["Properties"]["TemplateURL"]).resolve()
    output = _parts(value["Fn::GetAtt"])[1].removeprefix("Outputs.")
    return _resolve(child, _load(child)["Outputs"][output]["Value"])


@cache
def _parents(path: Path) -> list[Place]:
    """Each nested stack of the project that is this template."""
    root = next((one for one in path.parents if (one / ".cfnlintrc").exists()), path.parent)
    found = []
    for parent in sorted({one.resolve() for pattern in TEMPLATES for one in root.glob(pattern)}):
        for name, resource in (_load(parent).get("Resources") or {}).items():
            url = resource.get("Properties", {}).get("TemplateURL")
            if isinstance(url, str) and (parent.parent / url).resolve() == path:
                found.append((parent, name))
    return found


def _file(cfn: Template) -> Path | None:
    """The template's file; None where it is given as text, or is another file that happens to have a name."""
    path = Path(cfn.filename).resolve() if cfn.filename else None
    return path if path and path.is_file() else None


class _Loader(yaml.CSafeLoader):
    """Knows CloudFormation's short tags in their long form."""


def _function(loader: Any, tag: str, node: yaml.Node) -> Content:
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


@cache
def _load(path: Path) -> Content:
    read = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a safe loader)
    return read if isinstance(read, dict) else {}
