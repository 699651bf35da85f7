"""Engines on a laptop: each really runs its program, and every end that a run can have is seen through `.sync`.

Stock MiniStack 1.5.33 has EMR Serverless and SageMaker not at all, marks EMR's steps COMPLETED without running them,
and gives an ECS task to Docker: each test here fails without the plug points in `tarn/local/extension`.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import outcomes
from tarn.local.emulator import Emulator
from tests.integration.local_world import Roles, allowing, client_of, until

ENGINES = ("fargate", "emr-serverless", "emr-step", "sagemaker")
RESOURCES = {
    "fargate": "ecs:runTask",
    "emr-serverless": "emr-serverless:startJobRun",
    "emr-step": "elasticmapreduce:addStep",
    "sagemaker": "sagemaker:createProcessingJob",
}
PRINCIPALS = {
    "fargate": "ecs-tasks.amazonaws.com",
    "emr-serverless": "emr-serverless.amazonaws.com",
    "emr-step": "ec2.amazonaws.com",
    "sagemaker": "sagemaker.amazonaws.com",
}
ACTIONS = {
    "fargate": ["ecs:RunTask", "ecs:DescribeTasks", "ecs:StopTask"],
    "emr-serverless": ["emr-serverless:StartJobRun", "emr-serverless:GetJobRun", "emr-serverless:CancelJobRun"],
    "emr-step": [
        "elasticmapreduce:AddJobFlowSteps",
        "elasticmapreduce:DescribeStep",
        "elasticmapreduce:CancelSteps",
        "elasticmapreduce:ListSteps",
    ],
    "sagemaker": [
        "sagemaker:CreateProcessingJob",
        "sagemaker:DescribeProcessingJob",
        "sagemaker:StopProcessingJob",
        "sagemaker:AddTags",
    ],
}
RULES = {
    "fargate": "StepFunctionsGetEventsForECSTaskRule",
    "emr-serverless": "StepFunctionsGetEventsForEMRServerlessJobRule",
    "emr-step": "StepFunctionsGetEventForEMRAddJobFlowStepsRule",
    "sagemaker": "StepFunctionsGetEventsForSageMakerProcessingJobsRule",
}
OURS = "public.ecr.aws/tarn/tarn-engine-duckdb:local"
PASSING = {"fargate", "emr-serverless", "sagemaker"}
RELEASED = """
AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Application: { Type: AWS::EMRServerless::Application, Properties: { ReleaseLabel: emr-7.12.0, Type: SPARK } }
Outputs:
  Id: { Value: !Ref Application }
  Arn: { Value: !GetAtt Application.Arn }
"""
SPARK = """
import sys, json, boto3
from awsglue.utils import getResolvedOptions
from pyspark.sql import SparkSession
options = getResolvedOptions(sys.argv, ["manifest", "output", "outcome", "batch_id"])
spark = SparkSession.builder.getOrCreate()
def locate(uri): return dict(zip(("Bucket", "Key"), uri[5:].split("/", 1)))
s3 = boto3.client("s3")
manifest = json.load(s3.get_object(**locate(options["manifest"]))["Body"])
frame = spark.read.parquet(*[one["id"] for one in manifest["objects"]])
frame.write.mode("overwrite").parquet(options["output"])
outcome = {"run_id": options["JOB_RUN_ID"], "rows_out": frame.count(), "batch_id": options["batch_id"]}
outcome["who"] = boto3.client("sts").get_caller_identity()["Arn"]
s3.put_object(**locate(options["outcome"]), Body=json.dumps(outcome).encode())
"""
NAP = "import time\ntime.sleep(300)\n"
RAISES = "raise ValueError('column faa is not what it was')\n"


def notebook(*cells: str) -> str:
    code = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": one,
        }
        for number, one in enumerate(cells)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


SLOW = {
    # seconds of work for any machine, stopped long before
    "fargate": "SELECT count(*) AS n FROM range(99999) a, range(99999) b, range(99999) c WHERE hash(a, b, c) % 7 = 3",
    "sagemaker": notebook(NAP),
    "emr-serverless": NAP,
    "emr-step": NAP,
}
RAISING = {
    "fargate": "SELECT\n no_such_column FROM staged",
    "sagemaker": notebook(RAISES),
    "emr-serverless": RAISES,
    "emr-step": RAISES,
}
GOOD = {
    "fargate": "SELECT * FROM staged",
    "sagemaker": notebook("import duckdb\nduckdb.read_parquet(staged).write_parquet(result)"),
    "emr-serverless": SPARK,
    "emr-step": SPARK,
}


@dataclass
class Lake:
    """An emulator with a staged batch, and for each engine what a pipeline has: roles, cluster, definition."""

    client: Callable[[str], Any]
    roles: Roles
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self) -> None:
        self.s3, self.states = self.client("s3"), self.client("stepfunctions")
        self.bucket = f"lake-{self.suffix}"
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.client("logs").create_log_group(logGroupName=f"/engines/{self.suffix}")
        zones = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        work = allowing("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", resource=zones)
        logs = allowing("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
        self.job_roles = {engine: self.roles.create(work, logs, service=PRINCIPALS[engine]) for engine in ENGINES}
        self.log_role = self.roles.create(logs, service=PRINCIPALS["fargate"])
        self.machine_roles = {engine: self.roles.create(service="states.amazonaws.com") for engine in ENGINES}
        iam = self.client("iam")
        self.machine = self.roles.create(allowing("sts:AssumeRole"), service="ec2.amazonaws.com")
        iam.create_instance_profile(InstanceProfileName=f"machines-{self.suffix}")
        iam.add_role_to_instance_profile(
            InstanceProfileName=f"machines-{self.suffix}", RoleName=self.machine.rpartition("/")[2]
        )
        self.cluster = self.given_cluster(at_once=20)
        stacks = self.client("cloudformation")
        name = f"application-{self.suffix}"
        stacks.create_stack(StackName=name, TemplateBody=RELEASED)
        until(lambda: stacks.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE")
        outputs = stacks.describe_stacks(StackName=name)["Stacks"][0]["Outputs"]
        self.application = {one["OutputKey"]: one["OutputValue"] for one in outputs}
        self.client("ecs").create_cluster(clusterName=self.suffix)
        for engine in ENGINES:
            self.permit(engine)

    def given_cluster(self, at_once: int) -> str:
        """A cluster that stands before anybody deploys: its machines' role, and how many steps it runs at once."""
        return str(
            self.client("emr").run_job_flow(
                Name="given",
                JobFlowRole=f"machines-{self.suffix}",
                StepConcurrencyLevel=at_once,
                Instances={"KeepJobFlowAliveWhenNoSteps": True},
            )["JobFlowId"]
        )

    def permit(self, engine: str, without: str = "") -> None:
        """The machine's role may do what `.sync` needs, but for one action."""
        resource: str | list[str] = "*"
        if engine == "emr-serverless":
            resource = [self.application["Arn"], f"{self.application['Arn']}/jobruns/*"]
        if engine == "fargate":
            kinds = (f"task-definition/transform-{self.suffix}:*", f"task/{self.suffix}/*")
            resource = [f"arn:aws:ecs:eu-west-1:000000000000:{kind}" for kind in kinds]
        if engine == "sagemaker":
            resource = "arn:aws:sagemaker:eu-west-1:000000000000:processing-job/tarn-*"
        statements = [allowing(*(one for one in ACTIONS[engine] if one != without), resource=resource)]
        if engine == "emr-step" and without != "elasticmapreduce:AddJobFlowSteps":
            under_its_role = {"ArnEquals": {"elasticmapreduce:ExecutionRoleArn": self.job_roles[engine]}}
            adding = allowing("elasticmapreduce:AddJobFlowSteps") | {"Condition": under_its_role}
            without_adding = [
                one for one in ACTIONS[engine] if one not in (without, "elasticmapreduce:AddJobFlowSteps")
            ]
            statements = [adding, allowing(*without_adding)]
        if engine in PASSING and without != "iam:PassRole":
            statements.append(allowing("iam:PassRole"))
        rule = f"arn:aws:events:eu-west-1:000000000000:rule/{RULES[engine]}"
        told = [one for one in ("events:PutTargets", "events:PutRule", "events:DescribeRule") if one != without]
        self.roles.allow(self.machine_roles[engine], *statements, allowing(*told, resource=rule))

    def definition(self, image: str, **given: Any) -> str:
        return self.client("ecs").register_task_definition(
            family=f"transform-{self.suffix}",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="1024",
            memory="2048",
            taskRoleArn=self.job_roles["fargate"],
            executionRoleArn=self.log_role,
            containerDefinitions=[
                {
                    "name": "transform",
                    "image": image,
                    **given,
                    "environment": [{"name": "JOB_TIMEOUT_MINUTES", "value": "60"}],
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {
                            "awslogs-group": f"/engines/{self.suffix}",
                            "awslogs-stream-prefix": "task",
                            "awslogs-region": "eu-west-1",
                        },
                    },
                }
            ],
        )["taskDefinition"]["taskDefinitionArn"]

    def batch(self, engine: str, text: str) -> dict[str, str]:
        """A batch of one staged object, with the engine's own text: the words that its program is told."""
        batch_id = f"b{uuid.uuid4().hex[:10]}"
        with tempfile.TemporaryDirectory() as folder:
            rows = "SELECT range AS id, 'x' || range AS name FROM range(7)"
            duckdb.execute(f"COPY ({rows}) TO '{folder}/rows.parquet' (FORMAT parquet)")
            self.put(f"stage/{batch_id}.parquet", Path(folder, "rows.parquet").read_bytes())
        suffix = {"fargate": "sql", "sagemaker": "ipynb"}.get(engine, "py")
        self.put(f"assets/{batch_id}/heavy.{suffix}", text.encode())
        heavy = {"heavy_transform": f"heavy.{suffix}"} if suffix != "py" else {}
        manifest = {
            "schema": 1,
            "asset_bucket": self.bucket,
            "registration": {"asset_prefix": f"assets/{batch_id}/", "partition_by": [], **heavy},
            "objects": [{"id": f"s3://{self.bucket}/stage/{batch_id}.parquet", "rows": 7}],
        }
        self.put(f"batches/{batch_id}.json", json.dumps(manifest).encode())
        return {
            "JOB_RUN_ID": str(uuid.uuid4()),
            "team": "air",
            "dataset": "flights",
            "batch_id": batch_id,
            "attempt": "1",
            "manifest": f"s3://{self.bucket}/batches/{batch_id}.json",
            "output": f"s3://{self.bucket}/pending/{batch_id}/1/",
            "outcome": f"s3://{self.bucket}/outcomes/{batch_id}.json",
        }

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def arguments(self, engine: str, words: dict[str, str], **given: Any) -> dict[str, Any]:
        """What the task of an engine hands over."""
        spoken = [part for word, value in words.items() for part in (f"--{word}", value)]
        script = f"s3://{self.bucket}/assets/{words['batch_id']}/heavy.py"
        if engine == "fargate":
            return {
                "Cluster": f"arn:aws:ecs:eu-west-1:000000000000:cluster/{self.suffix}",
                "TaskDefinition": given.get("definition") or self.definition(OURS),
                "LaunchType": "FARGATE",
                "NetworkConfiguration": {
                    "AwsvpcConfiguration": {
                        "Subnets": ["subnet-1"],
                        "SecurityGroups": ["sg-1"],
                        "AssignPublicIp": "DISABLED",
                    }
                },
                "Overrides": {"ContainerOverrides": [{"Name": "transform", "Command": spoken}]},
            }
        if engine == "emr-serverless":
            return {
                "ApplicationId": self.application["Id"],
                "ClientToken": words["JOB_RUN_ID"],
                "ExecutionRoleArn": self.job_roles[engine],
                "Name": words["batch_id"],
                "ExecutionTimeoutMinutes": given.get("minutes", 60),
                "JobDriver": {
                    "SparkSubmit": {
                        "EntryPoint": script,
                        "EntryPointArguments": spoken,
                        "SparkSubmitParameters": "--conf spark.executor.cores=2",
                    }
                },
                "ConfigurationOverrides": {
                    "MonitoringConfiguration": {
                        "CloudWatchLoggingConfiguration": {"Enabled": True, "LogGroupName": f"/engines/{self.suffix}"}
                    }
                },
            }
        if engine == "emr-step":
            submit = ["spark-submit", "--deploy-mode", "cluster", script, *spoken]
            return {
                "ClusterId": self.cluster,
                "ExecutionRoleArn": self.job_roles[engine],
                "Step": {
                    "Name": words["batch_id"],
                    "ActionOnFailure": "CONTINUE",
                    "HadoopJarStep": {"Jar": "command-runner.jar", "Args": submit},
                },
            }
        return {
            "ProcessingJobName": f"tarn-{words['batch_id']}",
            "RoleArn": self.job_roles[engine],
            "AppSpecification": {
                "ImageUri": "public.ecr.aws/tarn/tarn-engine-notebook:local",
                **given.get("specification", {}),
            },
            "Environment": {f"TARN_{word.upper()}": value for word, value in words.items()},
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 20}
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": given.get("seconds", 3600)},
            "Tags": [{"Key": "tarn:team", "Value": "air"}],
        }

    def start(self, engine: str, arguments: dict[str, Any], seconds: int | str | None = None) -> str:
        """An execution whose one task runs the program; what the task ends with is the output."""
        task: dict[str, Any] = {
            "Type": "Task",
            "Resource": f"arn:aws:states:::{RESOURCES[engine]}.sync",
            "Arguments": arguments,
            "Catch": [{"ErrorEquals": ["States.ALL"], "Output": "{% $states.errorOutput %}", "Next": "Caught"}],
            "End": True,
        }
        if seconds:
            task["TimeoutSeconds"] = seconds
        states = {"Run": task, "Caught": {"Type": "Pass", "End": True}}
        definition = {"QueryLanguage": "JSONata", "StartAt": "Run", "States": states}
        machine = self.states.create_state_machine(
            name=f"machine-{uuid.uuid4().hex[:8]}",
            definition=json.dumps(definition),
            roleArn=self.machine_roles[engine],
        )["stateMachineArn"]
        return str(self.states.start_execution(stateMachineArn=machine, input="{}")["executionArn"])

    def end(self, execution: str, seconds: float = 120) -> dict[str, Any]:
        """The output of an execution that must succeed: the description, or `Error` and `Cause`."""

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.states.describe_execution(executionArn=execution)
            return None if found["status"] == "RUNNING" else found

        found = until(ended, seconds)
        assert found, f"{execution} does not end"
        assert found["status"] == "SUCCEEDED", found
        output: dict[str, Any] = json.loads(found["output"])
        return output

    def outcome(self, words: dict[str, str]) -> dict[str, Any] | None:
        key = f"outcomes/{words['batch_id']}.json"
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=key).get("Contents")
        return json.load(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"]) if found else None

    def pending(self, words: dict[str, str]) -> list[str]:
        prefix = f"pending/{words['batch_id']}/1/"
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return [one["Key"] for one in found if not one["Key"].rpartition("/")[2].startswith(("_", "."))]

    def stop_tasks(self) -> None:
        """Stop what a machine may not stop: a query would keep a core for hours."""
        ecs = self.client("ecs")
        for arn in ecs.list_tasks(cluster=self.suffix, desiredStatus="RUNNING")["taskArns"]:
            ecs.stop_task(cluster=self.suffix, task=arn)

    def stop(self, engine: str, words: dict[str, str]) -> None:
        """Stop the batch's program by the service's own API, as a person does."""
        if engine == "fargate":
            self.stop_tasks()
        elif engine == "emr-serverless":
            runs = self.client(engine).list_job_runs(applicationId=self.application["Id"])["jobRuns"]
            (run,) = [one["id"] for one in runs if one["name"] == words["batch_id"]]
            self.client(engine).cancel_job_run(applicationId=self.application["Id"], jobRunId=run)
        elif engine == "emr-step":
            steps = self.client("emr").list_steps(ClusterId=self.cluster)["Steps"]
            (step,) = [one["Id"] for one in steps if one["Name"] == words["batch_id"]]
            self.client("emr").cancel_steps(ClusterId=self.cluster, StepIds=[step])
        else:
            self.client(engine).stop_processing_job(ProcessingJobName=f"tarn-{words['batch_id']}")

    def running(self, engine: str, words: dict[str, str]) -> bool:
        """Whether the service says that the batch's program runs."""
        return self.state(engine, words) in ("RUNNING", "InProgress")

    def state(self, engine: str, words: dict[str, str]) -> str:
        """What the service's own API says of the batch's newest run."""
        if engine == "fargate":
            ecs = self.client("ecs")
            arns = [
                arn
                for status in ("RUNNING", "STOPPED")
                for arn in ecs.list_tasks(cluster=self.suffix, desiredStatus=status)["taskArns"]
            ]
            tasks = ecs.describe_tasks(cluster=self.suffix, tasks=arns)["tasks"] if arns else []
            mine = [one for one in tasks if words["batch_id"] in str(one["overrides"])]
            return str(mine[0]["lastStatus"]) if mine else ""
        if engine == "emr-serverless":
            runs = self.client(engine).list_job_runs(applicationId=self.application["Id"])["jobRuns"]
            return next((str(one["state"]) for one in runs if one["name"] == words["batch_id"]), "")
        if engine == "emr-step":
            steps = self.client("emr").list_steps(ClusterId=self.cluster)["Steps"]
            return next((str(one["Status"]["State"]) for one in steps if one["Name"] == words["batch_id"]), "")
        jobs = self.client(engine).list_processing_jobs()["ProcessingJobSummaries"]
        return next(
            (str(one["ProcessingJobStatus"]) for one in jobs if words["batch_id"] in one["ProcessingJobName"]), ""
        )


@pytest.fixture(scope="module")
def lake(emulator: Emulator) -> Lake:
    def client(service: str) -> Any:
        return client_of(emulator, service)

    return Lake(client, Roles(emulator, client))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_program_runs_as_its_role_and_leaves_its_outcome(lake: Lake, engine: str) -> None:
    words = lake.batch(engine, GOOD[engine])
    ended = lake.end(lake.start(engine, lake.arguments(engine, words)))
    assert "Error" not in ended, ended
    outcome = lake.outcome(words)
    assert outcome is not None
    assert (outcome["run_id"], outcome["rows_out"], outcome["batch_id"]) == (words["JOB_RUN_ID"], 7, words["batch_id"])
    assert lake.pending(words)
    assert lake.state(engine, words) in ("STOPPED", "SUCCESS", "COMPLETED", "Completed")
    if "who" in outcome:
        assert lake.job_roles[engine].rpartition("/")[2] in outcome["who"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_raises_fails_its_task_with_the_description(lake: Lake, engine: str) -> None:
    words = lake.batch(engine, RAISING[engine])
    ended = lake.end(lake.start(engine, lake.arguments(engine, words)))
    assert ended["Error"] == "States.TaskFailed"
    said = json.loads(ended["Cause"])
    reasons = {"fargate": "no_such_column", "sagemaker": "column faa"}
    assert reasons.get(engine, "column faa is not what it was") in json.dumps(said)
    assert lake.outcome(words) is None
    places = {
        "fargate": lambda: said["Containers"][0]["ExitCode"] == 1 and said["StopCode"] == "EssentialContainerExited",
        "emr-serverless": lambda: said["State"] == "FAILED",
        "emr-step": lambda: said["Step"]["Status"]["State"] == "FAILED",
        "sagemaker": lambda: said["ProcessingJobStatus"] == "Failed",
    }
    assert places[engine](), said


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_ends_well_and_has_done_nothing_proves_nothing(lake: Lake, engine: str) -> None:
    """To its service the job succeeded; what verify_outcome believes is the outcome file, and there is none."""
    nothing = ["python", "-c", "pass"]
    given = {
        "fargate": {"definition": lake.definition(OURS, entryPoint=nothing)},
        "sagemaker": {"specification": {"ContainerEntrypoint": nothing}},
    }
    words = lake.batch(engine, "pass\n")
    ended = lake.end(lake.start(engine, lake.arguments(engine, words, **given.get(engine, {}))))
    assert "Error" not in ended, ended
    with pytest.raises(outcomes.OutcomeMissingError, match=f"{words['batch_id']}.json does not exist"):
        outcomes.read_json(lake.s3, words["outcome"])


@pytest.mark.parametrize("role", [None, "log_role"])
def test_a_step_under_another_role_or_none_is_refused(lake: Lake, role: str | None) -> None:
    arguments = lake.arguments("emr-step", lake.batch("emr-step", GOOD["emr-step"]))
    del arguments["ExecutionRoleArn"]
    if role is not None:
        arguments["ExecutionRoleArn"] = getattr(lake, role)
    ended = lake.end(lake.start("emr-step", arguments))
    assert "AccessDenied" in ended["Error"]
    assert "elasticmapreduce:AddJobFlowSteps" in ended["Cause"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_that_is_stopped_from_outside_fails_its_task_with_its_state(lake: Lake, engine: str) -> None:
    words = lake.batch(engine, SLOW[engine])
    execution = lake.start(engine, lake.arguments(engine, words))
    assert until(lambda: lake.running(engine, words), 30)
    lake.stop(engine, words)
    ended = lake.end(execution)
    assert ended["Error"] == "States.TaskFailed"
    said = json.loads(ended["Cause"])
    places = {
        "fargate": lambda: said["LastStatus"] == "STOPPED" and said["StopCode"] == "UserInitiated",
        "emr-serverless": lambda: said["State"] == "CANCELLED",
        "emr-step": lambda: said["Step"]["Status"]["State"] == "CANCELLED",
        "sagemaker": lambda: said["ProcessingJobStatus"] == "Stopped",
    }
    assert places[engine](), said
    assert lake.outcome(words) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stopped_execution_stops_its_program(lake: Lake, engine: str) -> None:
    words = lake.batch(engine, SLOW[engine])
    execution = lake.start(engine, lake.arguments(engine, words))
    assert until(lambda: lake.running(engine, words), 30)
    lake.states.stop_execution(executionArn=execution)
    assert until(lambda: lake.state(engine, words) in ("STOPPED", "CANCELLED", "Stopped"), 30)
    assert lake.outcome(words) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_task_whose_time_is_over_fails_and_stops_its_program(lake: Lake, engine: str) -> None:
    words = lake.batch(engine, SLOW[engine])
    seconds = "{% 1 + 1 %}" if engine == "emr-step" else 2  # its task's limit is an expression
    ended = lake.end(lake.start(engine, lake.arguments(engine, words), seconds))
    assert ended["Error"] == "States.Timeout"
    assert until(lambda: lake.state(engine, words) in ("STOPPED", "CANCELLED", "Stopped"), 30)


@pytest.mark.parametrize(
    ("engine", "action"),
    [
        (engine, action)
        for engine in ENGINES
        for action in ACTIONS[engine]
        if action not in ("sagemaker:AddTags", "elasticmapreduce:ListSteps")
    ]
    + [(engine, "events:PutRule") for engine in ENGINES]
    + [(engine, "iam:PassRole") for engine in ENGINES if engine in PASSING],
)
def test_what_sync_needs_is_asked_of_the_machines_role(lake: Lake, engine: str, action: str) -> None:
    words = lake.batch(engine, SLOW[engine])
    lake.permit(engine, without=action)
    try:
        execution = lake.start(engine, lake.arguments(engine, words))
        if action.rpartition(":")[2] in ("StopTask", "CancelJobRun", "CancelSteps", "StopProcessingJob"):
            assert until(lambda: lake.running(engine, words), 30)
            lake.states.stop_execution(executionArn=execution)
            time.sleep(2)
            assert lake.running(engine, words)  # nobody may stop it
        else:
            ended = lake.end(execution)
            assert "AccessDenied" in ended["Error"]
            assert action in ended["Cause"]
    finally:
        lake.permit(engine)
        lake.stop_tasks()


def test_a_step_gets_its_role_from_the_machines_of_its_cluster(lake: Lake) -> None:
    words = lake.batch("emr-step", GOOD["emr-step"])
    lake.roles.allow(lake.machine, allowing("ec2:DescribeTags"))
    try:
        ended = lake.end(lake.start("emr-step", lake.arguments("emr-step", words)))
    finally:
        lake.roles.allow(lake.machine, allowing("sts:AssumeRole"))
    assert "sts:AssumeRole" in json.loads(ended["Cause"])["Step"]["Status"]["FailureDetails"]["Message"]


def test_a_step_waits_until_it_is_its_turn_and_can_be_cancelled_before(lake: Lake) -> None:
    emr, cluster = lake.client("emr"), lake.given_cluster(at_once=1)
    slow, waits = (
        lake.arguments("emr-step", lake.batch("emr-step", SLOW["emr-step"]))["Step"] for _ in ("first", "second")
    )
    role = lake.job_roles["emr-step"]
    first, second = emr.add_job_flow_steps(JobFlowId=cluster, Steps=[slow, waits], ExecutionRoleArn=role)["StepIds"]

    def state(step: str) -> str:
        return str(emr.describe_step(ClusterId=cluster, StepId=step)["Step"]["Status"]["State"])

    assert until(lambda: "RUNNING" in (state(first), state(second)), 30)
    running, pending = (first, second) if state(first) == "RUNNING" else (second, first)
    assert state(pending) == "PENDING"
    emr.cancel_steps(ClusterId=cluster, StepIds=[pending])
    assert until(lambda: state(pending) == "CANCELLED", 30)
    assert state(running) == "RUNNING"
    emr.cancel_steps(ClusterId=cluster, StepIds=[running])
    assert until(lambda: state(running) == "CANCELLED", 30)


def test_an_image_that_is_none_of_ours_cannot_be_pulled(lake: Lake) -> None:
    words = lake.batch("fargate", GOOD["fargate"])
    definition = lake.definition("public.ecr.aws/docker/library/busybox:1.37")
    ended = lake.end(lake.start("fargate", lake.arguments("fargate", words, definition=definition)))
    said = json.loads(ended["Cause"])
    assert said["StopCode"] == "TaskFailedToStart"
    assert "CannotPullContainerError" in said["StoppedReason"]


def test_a_processing_job_ends_at_its_own_limit(lake: Lake) -> None:
    words = lake.batch("sagemaker", SLOW["sagemaker"])
    ended = lake.end(lake.start("sagemaker", lake.arguments("sagemaker", words, seconds=4)))
    assert "MaxRuntimeExceeded" in json.loads(ended["Cause"])["FailureReason"]


def test_a_tasks_log_is_written_by_the_execution_role(lake: Lake) -> None:
    words = lake.batch("fargate", GOOD["fargate"])
    ended = lake.end(lake.start("fargate", lake.arguments("fargate", words)))
    stream = f"task/transform/{ended['TaskArn'].rpartition('/')[2]}"
    found = lake.client("logs").get_log_events(logGroupName=f"/engines/{lake.suffix}", logStreamName=stream)["events"]
    assert [one["message"] for one in found] == [f"batch {words['batch_id']}: 7 rows in, 7 out, 1 files"]
