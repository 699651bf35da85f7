"""Our own rules for cfn-lint: each finds what it is there for, and leaves what is right alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cfnlint.decode import decode
from cfnlint.template import Template

from tarn import templates
from tests.rules import lake

QUEUE = """
  WorkQueue:
    Type: AWS::SQS::Queue
    Properties:
      KmsMasterKeyId: !Ref KeyArn
      RedrivePolicy: {deadLetterTargetArn: !GetAtt WorkDeadLetterQueue.Arn, maxReceiveCount: 3}
  WorkDeadLetterQueue:
    Type: AWS::SQS::Queue
  WorkDeadLettersAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      MetricName: ApproximateNumberOfMessagesVisible
      Dimensions: [{Name: QueueName, Value: !GetAtt WorkDeadLetterQueue.QueueName}]
      AlarmActions: [!Ref TopicArn]
"""
MAPPING = """
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      EventSourceArn: !GetAtt WorkQueue.Arn
      FunctionResponseTypes: [ReportBatchItemFailures]
"""
FUNCTION = """
  WorkFunction:
    Type: AWS::Lambda::Function
    Properties:
      LoggingConfig: {LogGroup: !Ref WorkLogGroup}
  WorkLogGroup:
    Type: AWS::Logs::LogGroup
    Properties: {RetentionInDays: 30}
"""
POLICY = """
  WorkQueuePolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref WorkQueue]
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: s3.amazonaws.com}, Action: sqs:SendMessage}
"""
PARENT = """
Resources:
  Key:
    Type: AWS::KMS::Key
    Properties:
      KeyPolicy:
        Statement:
          - {Effect: Allow, Principal: {Service: [s3.amazonaws.com]}, Action: [kms:Decrypt, "kms:GenerateDataKey*"]}
  ChildStack:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: child.yaml
      Parameters: {KeyArn: !GetAtt Key.Arn}
"""
MACHINE = """
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties: {DefinitionUri: machine.asl.yaml, Role: !GetAtt MachineRole.Arn}
  MachineRole:
    Type: AWS::IAM::Role
    Properties:
      PermissionsBoundary: !Ref Boundary
      Policies:
        - PolicyDocument:
            Statement:
              - {Effect: Allow, Action: [glue:StartJobRun, "glue:Get*", glue:BatchStopJobRun]}
  Boundary:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Statement:
          - {Effect: Allow, Action: "glue:*"}
"""
CONDITIONED = MACHINE.replace(
    """          - {Effect: Allow, Action: "glue:*"}
""",
    """          - !If
            - HasJobs
            - {Effect: Allow, Action: ["glue:*", !If [HasJobs, "ecs:*", !Ref AWS::NoValue]]}
            - !Ref AWS::NoValue
""",
)
DEFINITION = """
States:
  All:
    Type: Map
    ItemProcessor:
      States:
        Work: {Type: Task, Resource: "arn:${Partition}:states:::glue:startJobRun.sync"}
"""


def findings(folder: Path, rule, resources: str) -> list[str]:
    """What a rule says of a template with these resources, beside the parent and the definition."""
    path = folder / "child.yaml"
    path.write_text(f"Parameters:\n  KeyArn: {{Type: String}}\n  TopicArn: {{Type: String}}\nResources:{resources}")
    content, _ = decode(str(path))
    return [match.message for match in rule.match(Template(str(path), content))]


@pytest.fixture
def folder(tmp_path):
    """A project of its own, which nothing was read of yet."""
    lake._load.cache_clear()
    lake._parents.cache_clear()
    (tmp_path / ".cfnlintrc").touch()
    (tmp_path / "parent.yaml").write_text(PARENT)
    (tmp_path / "machine.asl.yaml").write_text(DEFINITION)
    return tmp_path


@pytest.mark.parametrize(
    ("rule", "right", "part", "wrong", "says"),
    [
        (lake.PartialBatchResponse, QUEUE + MAPPING, "[ReportBatchItemFailures]", "[]", "Mapping does not"),
        (lake.DeadLetters, QUEUE, "maxReceiveCount: 3", "maxReceiveCount: 2", "in fewer than 3 tries"),
        (lake.DeadLetters, QUEUE, "      RedrivePolicy", "      Redrive", "WorkQueue has no dead-letter queue"),
        (lake.DeadLetters, QUEUE, "WorkDeadLetterQueue.QueueName", "WorkQueue.QueueName", "no alarm tells"),
        (lake.DeadLetters, QUEUE, "AlarmActions", "OKActions", "no alarm tells"),
        (lake.OwnLogGroup, FUNCTION, "LoggingConfig", "Logging", "WorkFunction has no log group"),
        (lake.OwnLogGroup, FUNCTION, "!Ref WorkLogGroup", "/aws/lambda/work", "WorkFunction has no log group"),
        (lake.OwnLogGroup, FUNCTION, "{RetentionInDays: 30}", "{}", "WorkLogGroup keeps its lines for ever"),
        (lake.KeyForService, QUEUE + POLICY, "s3.amazonaws.com", "events.amazonaws.com", "the key Key refuses it"),
        (lake.SyncActions, MACHINE, "glue:BatchStopJobRun", "glue:Nothing", "glue:BatchStopJobRun in the role"),
        (lake.SyncActions, CONDITIONED, '"glue:*"', "glue:StartJobRun", "glue:GetJobRuns in the boundary Boundary"),
        (lake.SyncActions, MACHINE, '"glue:*"', "glue:StartJobRun", "glue:GetJobRuns in the boundary Boundary"),
    ],
)
def test_a_rule_finds_what_is_wrong_and_only_that(folder, rule, right, part, wrong, says) -> None:
    assert findings(folder, rule(), right) == []
    lake._load.cache_clear()
    assert part in right
    (said,) = findings(folder, rule(), right.replace(part, wrong, 1))
    assert says in said


def test_two_functions_do_not_share_a_log_group(folder) -> None:
    other = FUNCTION.split("  WorkLogGroup", maxsplit=1)[0].replace("WorkFunction", "OtherFunction")
    assert "logs into the group of" in findings(folder, lake.OwnLogGroup(), FUNCTION + other)[0]


def test_a_key_is_found_down_an_output_too(folder) -> None:
    """The key stands in a sibling, whose output the parent hands on."""
    sibling = PARENT.split("  ChildStack", maxsplit=1)[0]
    (folder / "keys.yaml").write_text(sibling.replace("GenerateDataKey", "Other") + "Outputs: {A: {Value: !Ref Key}}")
    wiring = {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": "keys.yaml"}}
    (folder / "parent.yaml").write_text(
        PARENT.replace("!GetAtt Key.Arn", "!GetAtt KeysStack.Outputs.A") + f"  KeysStack: {wiring}"
    )
    (said,) = findings(folder, lake.KeyForService(), QUEUE + POLICY)
    assert "refuses it ['kms:GenerateDataKey']" in said


def test_a_sync_task_without_a_table_is_a_finding(folder) -> None:
    (folder / "machine.asl.yaml").write_text(DEFINITION.replace("glue:startJobRun", "batch:submitJob"))
    (said,) = findings(folder, lake.SyncActions(), MACHINE)
    assert "batch:submitJob.sync has no table" in said


def test_a_template_given_as_text_has_no_other_files(folder) -> None:
    """sam validate lints so."""
    findings(folder, lake.SyncActions(), MACHINE)
    content, _ = decode(str(folder / "child.yaml"))
    for rule in (lake.KeyForService(), lake.SyncActions()):
        assert rule.match(Template(None, content)) == []


@pytest.mark.parametrize(
    ("rule", "template", "broken", "part", "says"),
    [
        (
            lake.KeyForService,
            "pipeline/start_batch.yaml",
            "team/template.yaml",
            "Service: events.amazonaws.com",
            "events.amazonaws.com may send to StartBatchDeadLetterQueue, but the key TeamKey refuses it",
        ),
        (
            lake.KeyForService,
            "foundations/ingest.yaml",
            "foundations/template.yaml",
            "Service: s3.amazonaws.com",
            "s3.amazonaws.com may send to IngestQueue, but the key FoundationsKey refuses it",
        ),
        (
            lake.SyncActions,
            "pipeline/stage_to_analytics.yaml",
            "team/template.yaml",
            "glue:BatchStopJobRun",
            "glue:startJobRun.sync needs glue:BatchStopJobRun in the boundary Boundary",
        ),
        (
            lake.SyncActions,
            "pipeline/stage_to_analytics.yaml",
            "pipeline/engines.yaml",
            "ecs:StopTask",
            "ecs:runTask.sync needs ecs:StopTask in the role StageToAnalyticsStateMachineRole",
        ),
        (
            lake.SyncActions,
            "pipeline/stage_to_analytics.yaml",
            "team/template.yaml",
            "emr-serverless:CancelJobRun",
            "emr-serverless:startJobRun.sync needs emr-serverless:CancelJobRun in the boundary Boundary",
        ),
    ],
)
def test_the_lakes_own_wiring_is_followed(tmp_path, rule, template, broken, part, says) -> None:
    lake._load.cache_clear()
    lake._parents.cache_clear()
    for path in [*templates.paths(), *(templates.ROOT / "pipeline").glob("*.asl.yaml"), Path(".cfnlintrc")]:
        target = tmp_path / path if not path.is_absolute() else tmp_path / path.relative_to(templates.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(templates.ROOT / path, target)
    content, _ = decode(str(tmp_path / template))
    cfn = Template(str(tmp_path / template), content)
    assert rule().match(cfn) == []
    lake._load.cache_clear()
    text = (tmp_path / broken).read_text()
    assert part in text
    (tmp_path / broken).write_text(text.replace(part, f"{part}X"))
    assert says in " ".join(match.message for match in rule().match(cfn))


def test_what_another_template_adds_to_a_role_counts(folder) -> None:
    """As the engines' permissions are added to the machine's role, by its name."""
    without = MACHINE.replace("glue:BatchStopJobRun", "glue:Nothing")
    assert findings(folder, lake.SyncActions(), without) == [
        "glue:startJobRun.sync needs glue:BatchStopJobRun in the role MachineRole"
    ]
    lake._load.cache_clear()
    lake._parents.cache_clear()
    (folder / "parent.yaml").write_text(
        PARENT
        + """
  AddedStack:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: added.yaml
      Parameters: {RoleName: !GetAtt ChildStack.Outputs.RoleName}
"""
    )
    (folder / "added.yaml").write_text(
        """
Parameters: {RoleName: {Type: String}}
Resources:
  Added:
    Type: AWS::IAM::Policy
    Condition: HasJobs
    Properties:
      Roles: [!Ref RoleName]
      PolicyDocument: {Statement: [{Effect: Allow, Action: glue:BatchStopJobRun}]}
"""
    )
    assert (
        findings(folder, lake.SyncActions(), f"{without}\nOutputs: {{RoleName: {{Value: !Ref MachineRole}}}}\n") == []
    )


def test_every_rule_has_an_id_of_its_own_and_a_reason() -> None:
    rules = [one for one in vars(lake).values() if isinstance(one, type) and one.__module__ == lake.__name__]
    ours = [one() for one in rules if issubclass(one, lake.CloudFormationLintRule)]
    assert [one.id for one in ours] == ["E9001", "E9002", "E9003", "E9004", "E9005"]
    assert all(one.shortdesc and one.description for one in ours)


def test_cfn_lint_loads_them(tmp_path) -> None:
    path = tmp_path / "queue.yaml"
    path.write_text("Resources:\n  WorkQueue: {Type: AWS::SQS::Queue}\n")
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(path)]
    done = subprocess.run(command, cwd=templates.ROOT, capture_output=True, text=True, check=False)
    assert "E9002" in done.stdout, done.stdout + done.stderr
