"""Glue jobs on a laptop: every end that a run can have, seen through `glue:startJobRun.sync`.

Stock MiniStack marks Spark jobs SUCCEEDED without running them and has no Glue task in Step
Functions: each test here fails without the plug points in `tarn/local/extension`.
"""

from __future__ import annotations

import io
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tarn.local import emulator as local
from tarn.local.emulator import Emulator
from tests.integration.local_world import Stacks, client_of, until

NAP = "import time\ntime.sleep(120)\n"
SPARK = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
OPTIONS = """
import sys
from awsglue.utils import getResolvedOptions
options = getResolvedOptions(sys.argv, {names!r})
"""


class Lake:
    """An emulator with buckets, a role for jobs, and a machine that runs one job and catches its end."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.s3, self.iam, self.glue = client("s3"), client("iam"), client("glue")
        self.states, self.logs = client("stepfunctions"), client("logs")
        self.suffix = uuid.uuid4().hex[:8]
        self.code, self.stage, self.analytics = (f"{name}-{self.suffix}" for name in ("code", "stage", "analytics"))
        for bucket in (self.code, self.stage, self.analytics):
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.role = self._role("glue.amazonaws.com", f"job-{self.suffix}")
        self.allow(
            self.role,
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"],
            [f"arn:aws:s3:::*-{self.suffix}", f"arn:aws:s3:::*-{self.suffix}/*"],
        )
        self.allow(self.role, ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], ["*"], "logs")
        self.machine_role = self._role("states.amazonaws.com", f"machine-{self.suffix}")
        self.allow(self.machine_role, ["glue:StartJobRun", "glue:GetJobRun", "glue:BatchStopJobRun"], ["*"])

    def allow(self, role: str, actions: list[str], resources: list[str], name: str = "work") -> None:
        statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.iam.put_role_policy(RoleName=role.rpartition("/")[2], PolicyName=name, PolicyDocument=policy)

    def job(self, script: str, folder: str = "", **properties: Any) -> str:
        name = f"job-{uuid.uuid4().hex[:8]}"
        key = f"{folder or name}/main.py"
        self.s3.put_object(Bucket=self.code, Key=key, Body=script.encode())
        command = {"Name": "glueetl", "ScriptLocation": f"s3://{self.code}/{key}", "PythonVersion": "3"}
        properties = {"Role": self.role, "GlueVersion": "5.1", "Command": command} | properties
        self.glue.create_job(Name=name, **properties)
        return name

    def start(self, job: str, retry: list[dict[str, Any]] | None = None, **request: Any) -> str:
        """An execution whose one task runs the job; what the task ends with is the output."""
        task: dict[str, Any] = {
            "Type": "Task",
            "Resource": "arn:aws:states:::glue:startJobRun.sync",
            "Parameters": {"JobName": job, **{key: value for key, value in request.items() if key != "seconds"}},
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}],
            "End": True,
        }
        if retry:
            task["Retry"] = retry
        if "seconds" in request:
            task["TimeoutSeconds"] = request["seconds"]
        definition = {"StartAt": "Run", "States": {"Run": task, "Caught": {"Type": "Pass", "End": True}}}
        machine = self.states.create_state_machine(
            name=f"machine-{uuid.uuid4().hex[:8]}", definition=json.dumps(definition), roleArn=self.machine_role
        )["stateMachineArn"]
        arn: str = self.states.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
        return arn

    def outcome(self, execution: str) -> dict[str, Any]:
        """The output of an execution that must succeed: the JobRun, or `Error` and `Cause`."""
        found = eventually(lambda: self._ended(execution), "the end of the execution", 180)
        assert found["status"] == "SUCCEEDED", found
        output: dict[str, Any] = json.loads(found["output"])
        return output

    def run(self, job: str, **request: Any) -> dict[str, Any]:
        return self.outcome(self.start(job, **request))

    def success(self, job: str, **request: Any) -> dict[str, Any]:
        """The JobRun that a task succeeded with."""
        outcome = self.run(job, **request)
        assert outcome.get("JobRunState") == "SUCCEEDED", outcome
        return outcome

    def failure(self, job: str, **request: Any) -> dict[str, Any]:
        """The JobRun in the cause of a failed task."""
        outcome = self.run(job, **request)
        assert outcome["Error"] == "States.TaskFailed", outcome
        cause: dict[str, Any] = json.loads(outcome["Cause"])
        return cause

    def job_run(self, job: str) -> dict[str, Any]:
        runs = self.glue.get_job_runs(JobName=job)["JobRuns"]
        assert len(runs) == 1
        run: dict[str, Any] = runs[0]
        return run

    def until_state(self, job: str, state: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            runs = self.glue.get_job_runs(JobName=job)["JobRuns"]
            return next((run for run in runs if run["JobRunState"] == state), None)

        found: dict[str, Any] = eventually(reached, f"{job} {state}", 30)
        return found

    def logged(self, group: str, run_id: str) -> str:
        events = self.logs.get_log_events(logGroupName=group, logStreamName=run_id, startFromHead=True)["events"]
        return "\n".join(event["message"] for event in events)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]

    def _role(self, service: str, name: str) -> str:
        statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        arn: str = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        return arn

    def _ended(self, execution: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.states.describe_execution(executionArn=execution)
        return None if found["status"] == "RUNNING" else found


def eventually(look: Callable[[], Any], what: str, seconds: float) -> Any:
    return until(look, seconds) or pytest.fail(f"no {what} within {seconds} s")


def processes(run_id: str) -> list[int]:
    """The processes of a run, which all have its folder among their arguments or their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if run_id.encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def lake(client: Callable[[str], Any]) -> Lake:
    return Lake(client)


def lake_of(emulator: Emulator) -> Lake:
    return Lake(partial(client_of, emulator))


@pytest.fixture
def hasty_lake(tmp_path: Path) -> Iterator[Lake]:
    """A lake in which Glue's minutes, the unit of a job's `Timeout`, last one second."""
    yield lake_of(local.start(tmp_path, options={"TARN_GLUE_MINUTE_SECONDS": "1"}))
    local.stop(tmp_path, purge=True)


def test_a_job_reads_and_writes_the_lake_with_its_arguments(lake: Lake) -> None:
    lake.s3.put_object(Bucket=lake.stage, Key="team/a b+c%41é=1~00ff.csv", Body=b"id,v\n1,x\n2,y\n")
    lake.s3.put_object(Bucket=lake.stage, Key="team/b.csv", Body=b"id,v\n3,x\n")
    keys = [{"key": key} for key in lake.keys(lake.stage, "team/")]
    manifest = json.dumps({"objects": keys, "stage_bucket": lake.stage}, ensure_ascii=False)
    lake.s3.put_object(Bucket=lake.stage, Key="manifest.json", Body=manifest.encode())
    job = lake.job(
        OPTIONS.format(names=["JOB_NAME", "manifest", "output", "outcome", "colour"])
        + SPARK
        + """
import json, boto3
s3 = boto3.client("s3")
def locate(uri): return dict(zip(("Bucket", "Key"), uri[5:].split("/", 1)))
manifest = json.load(s3.get_object(**locate(options["manifest"]))["Body"])
paths = [f"s3://{manifest['stage_bucket']}/{item['key']}" for item in manifest["objects"]]
frame = spark.read.option("header", True).csv(paths)
frame.write.mode("overwrite").partitionBy("v").parquet(options["output"])
told = {name: options[name] for name in ("JOB_NAME", "JOB_RUN_ID", "colour")}
told |= {"rows": spark.read.parquet(options["output"]).count(), "rdd": spark.sparkContext.textFile(paths[0]).count()}
told["who"] = boto3.client("sts").get_caller_identity()["Arn"]
s3.put_object(**locate(options["outcome"]), Body=json.dumps(told).encode())
print("it is done")
""",
        DefaultArguments={"--colour": "red", "--conf": "spark.sql.ansi.enabled=true --conf spark.x=1"},
    )
    arguments = {
        "--manifest": f"s3://{lake.stage}/manifest.json",
        "--output": f"s3://{lake.analytics}/team/_pending/b1/1/",
        "--outcome": f"s3://{lake.stage}/outcome.json",
        "--colour": "blue",
    }
    run = lake.success(job, Arguments=arguments)
    assert (run["JobName"], run["Arguments"]) == (job, arguments)
    assert run["ExecutionTime"] >= 1
    told = json.load(lake.s3.get_object(Bucket=lake.stage, Key="outcome.json")["Body"])
    assert told.pop("who").endswith(f":assumed-role/job-{lake.suffix}/GlueJobRunnerSession")
    assert told == {"JOB_NAME": job, "JOB_RUN_ID": run["Id"], "colour": "blue", "rows": 3, "rdd": 3}
    written = lake.keys(lake.analytics)
    assert {key.split("/")[4] for key in written} == {"_SUCCESS", "v=x", "v=y"}
    assert not [key for key in written if "_temporary" in key]
    assert "it is done" in lake.logged("/aws-glue/jobs/output", run["Id"])


def test_success_is_the_exit_status_and_not_the_work(lake: Lake) -> None:
    """As on AWS: that is why the state machine asks for an outcome file."""
    lake.success(lake.job(""))
    lake.success(lake.job("import sys\nsys.exit(0)"))


def test_a_script_that_raises_fails_with_its_exception(lake: Lake) -> None:
    cause = lake.failure(lake.job("class Lost(Exception): ...\nraise Lost('the way home')"))
    assert cause["JobRunState"] == "FAILED"
    assert "Lost: the way home" in cause["ErrorMessage"]


def test_a_script_that_exits_with_an_error_fails(lake: Lake) -> None:
    cause = lake.failure(lake.job("import sys\nprint('no rows', file=sys.stderr)\nsys.exit(3)"))
    assert "exit code 3" in cause["ErrorMessage"]
    assert "no rows" in cause["ErrorMessage"]


def test_a_missing_script_fails(lake: Lake) -> None:
    command = {"Name": "glueetl", "ScriptLocation": f"s3://{lake.code}/nowhere.py"}
    assert "NoSuchKey" in lake.failure(lake.job("", Command=command))["ErrorMessage"]


def test_a_killed_jvm_fails(lake: Lake) -> None:
    job = lake.job(SPARK + NAP)
    execution = lake.start(job)
    run = lake.until_state(job, "RUNNING")

    def java() -> int | None:
        named = ((pid, Path(f"/proc/{pid}/comm").read_text().strip()) for pid in processes(run["Id"]))
        return next((pid for pid, name in named if name == "java"), None)

    time.sleep(3)
    os.kill(eventually(java, "JVM", 20), signal.SIGKILL)
    outcome = lake.outcome(execution)
    cause = json.loads(outcome["Cause"])
    assert (outcome["Error"], cause["JobRunState"]) == ("States.TaskFailed", "FAILED")
    assert "killed by SIGKILL" in cause["ErrorMessage"]
    assert not processes(run["Id"])


def test_a_late_job_times_out(hasty_lake: Lake) -> None:
    job = hasty_lake.job(NAP, Timeout=2880)
    cause = hasty_lake.failure(job, Timeout=3)
    assert (cause["JobRunState"], cause["Timeout"]) == ("TIMEOUT", 3)
    assert not processes(cause["Id"])


def test_a_stopped_run_is_killed(lake: Lake) -> None:
    job = lake.job(NAP)
    execution = lake.start(job)
    run = lake.until_state(job, "RUNNING")
    answer = lake.glue.batch_stop_job_run(JobName=job, JobRunIds=[run["Id"], "jr_none"])
    assert [item["JobRunId"] for item in answer["SuccessfulSubmissions"]] == [run["Id"]]
    assert [item["ErrorDetail"]["ErrorCode"] for item in answer["Errors"]] == ["EntityNotFoundException"]
    outcome = lake.outcome(execution)
    assert json.loads(outcome["Cause"])["JobRunState"] == "STOPPED"
    assert not processes(run["Id"])


def test_a_run_ends_with_the_emulator(tmp_path: Path) -> None:
    """Whether it is stopped or killed; after the next start the run is known to have failed."""

    def saved(run_id: str) -> bool:
        return any(run_id in path.read_text() for path in (tmp_path / "services").glob("glue*"))

    ends: list[Callable[[int], None]] = [lambda _: local.stop(tmp_path), lambda pid: os.kill(pid, signal.SIGKILL)]
    for end in ends:
        emulator = local.start(tmp_path, options={"TARN_AUTOSAVE_SECONDS": "0.2"})
        lake = lake_of(emulator)
        job = lake.job(NAP)
        lake.glue.start_job_run(JobName=job)
        run = lake.until_state(job, "RUNNING")
        assert eventually(lambda: len(processes(run["Id"])) > 1, "processes", 10)  # noqa: B023
        assert eventually(lambda: saved(run["Id"]), "saved state", 20)  # noqa: B023
        end(emulator.pid)
        assert until(lambda: not processes(run["Id"]), 5), processes(run["Id"])  # noqa: B023
        ended = lake_of(local.start(tmp_path)).until_state(job, "FAILED")
        assert "emulator was stopped" in ended["ErrorMessage"]
    local.stop(tmp_path, purge=True)


def test_a_stopped_execution_stops_its_job_and_stays_aborted(lake: Lake) -> None:
    job = lake.job(NAP)
    execution = lake.start(job, retry=[{"ErrorEquals": ["States.ALL"], "MaxAttempts": 3}])
    run = lake.until_state(job, "RUNNING")
    lake.states.stop_execution(executionArn=execution, cause="enough")
    lake.until_state(job, "STOPPED")
    time.sleep(1)
    assert not processes(run["Id"])
    assert lake.job_run(job)["JobRunState"] == "STOPPED"
    assert lake.states.describe_execution(executionArn=execution)["status"] == "ABORTED"


def test_a_task_that_times_out_stops_its_job(lake: Lake) -> None:
    job = lake.job(NAP)
    assert lake.run(job, seconds=3)["Error"] == "States.Timeout"
    lake.until_state(job, "STOPPED")


def test_concurrent_runs_are_limited_and_can_be_waited_for(lake: Lake) -> None:
    job = lake.job(NAP, ExecutionProperty={"MaxConcurrentRuns": 1})
    assert lake.glue.get_job(JobName=job)["Job"]["ExecutionProperty"] == {"MaxConcurrentRuns": 1}
    lake.start(job)
    run = lake.until_state(job, "RUNNING")
    with pytest.raises(lake.glue.exceptions.ConcurrentRunsExceededException):
        lake.glue.start_job_run(JobName=job)
    assert lake.run(job)["Error"] == "Glue.ConcurrentRunsExceededException"
    patient = {"ErrorEquals": ["Glue.ConcurrentRunsExceededException"], "IntervalSeconds": 1, "BackoffRate": 1.0}
    waiting = lake.start(job, retry=[patient | {"MaxAttempts": 60}])
    lake.s3.put_object(Bucket=lake.code, Key=f"{job}/main.py", Body=b"print('second')")
    lake.glue.batch_stop_job_run(JobName=job, JobRunIds=[run["Id"]])
    assert lake.outcome(waiting)["JobRunState"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("allowed", "denied"),
    [([], "HeadObject"), (["s3:GetObject", "s3:ListBucket"], "PutObject")],
)
def test_a_permission_that_the_job_lacks_fails_the_run(lake: Lake, allowed: list[str], denied: str) -> None:
    role = lake._role("glue.amazonaws.com", f"without-{denied}-{lake.suffix}")
    lake.allow(role, ["s3:GetObject"], [f"arn:aws:s3:::{lake.code}/*"], "script")
    lake.allow(role, ["sts:GetCallerIdentity", *allowed], ["*"])
    script = SPARK + f"spark.range(1).write.parquet('s3://{lake.analytics}/denied/')"
    cause = lake.failure(lake.job(script, Role=role))
    assert cause["JobRunState"] == "FAILED"
    assert "AccessDenied" in cause["ErrorMessage"]
    assert denied in cause["ErrorMessage"]
    assert not lake.keys(lake.analytics, "denied/")


def test_a_job_needs_the_key_of_what_it_reads(lake: Lake, client: Callable[[str], Any]) -> None:
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    sse = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    bucket = f"secret-{lake.suffix}"
    lake.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": sse}]}
    lake.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)
    lake.s3.put_object(Bucket=bucket, Key="a.csv", Body=b"id\n1\n")
    job = lake.job(SPARK + f"print(spark.read.csv('s3://{bucket}/a.csv', header=True).count())")
    assert "AccessDenied" in lake.failure(job)["ErrorMessage"]
    lake.allow(lake.role, ["kms:Decrypt"], [key], "key")
    assert lake.logged("/aws-glue/jobs/output", lake.success(job)["Id"]).strip() == "1"


def test_a_role_that_glue_may_not_assume_fails_the_run(lake: Lake) -> None:
    cause = lake.failure(lake.job("", Role=lake.machine_role))
    assert "glue.amazonaws.com" in cause["ErrorMessage"]


def test_a_machine_whose_role_may_not_start_jobs_fails(lake: Lake) -> None:
    allowed, lake.machine_role = lake.machine_role, lake._role("states.amazonaws.com", f"idle-{lake.suffix}")
    outcome = lake.run(lake.job(""))
    lake.machine_role = allowed
    assert outcome["Error"] == "Glue.AccessDeniedException"


def test_the_templates_limit_of_runs_is_kept(lake: Lake, stacks: Stacks) -> None:
    properties = {
        "Role": lake.role,
        "Command": {"Name": "glueetl", "ScriptLocation": f"s3://{lake.code}/a.py"},
        "ExecutionProperty": {"MaxConcurrentRuns": {"Ref": "Runs"}},
    }
    resources = {"Job": {"Type": "AWS::Glue::Job", "Properties": properties}}
    outputs = {"Name": {"Value": {"Ref": "Job"}}}
    parameters = {"Runs": {"Type": "Number"}}
    template = json.dumps({"Parameters": parameters, "Resources": resources, "Outputs": outputs})
    stack = stacks.create(template, Runs="3")
    job = lake.glue.get_job(JobName=stack["Values"]["Name"])["Job"]
    assert job["ExecutionProperty"] == {"MaxConcurrentRuns": 3}
    stacks.update(template, stack["StackName"], Runs="4")
    job = lake.glue.get_job(JobName=stack["Values"]["Name"])["Job"]
    assert job["ExecutionProperty"] == {"MaxConcurrentRuns": 4}


def test_two_scripts_of_one_name_are_two_scripts(lake: Lake) -> None:
    first, second = lake.job("print('I am one')", folder="one"), lake.job("print('I am two')", folder="two")
    executions = [lake.start(first), lake.start(second)]
    runs = [lake.outcome(execution) for execution in executions]
    printed = [lake.logged("/aws-glue/jobs/output", run["Id"]).strip() for run in runs]
    assert printed == ["I am one", "I am two"]


def test_extra_jars_come_first_on_the_class_path(lake: Lake) -> None:
    jar = io.BytesIO(b"PK\x05\x06" + bytes(18))  # an empty archive
    lake.s3.put_object(Bucket=lake.code, Key="jars/own.jar", Body=jar)
    script = SPARK + "print(spark._jvm.System.getProperty('java.class.path').split(':')[0])"
    arguments = {"--extra-jars": f"s3://{lake.code}/jars/own.jar", "--user-jars-first": "true"}
    run = lake.success(lake.job(script, DefaultArguments=arguments))
    assert lake.logged("/aws-glue/jobs/output", run["Id"]).strip().endswith("/own.jar")


def test_a_job_shell_gets_its_arguments_as_arguments(lake: Lake) -> None:
    job = lake.job("import sys\nprint(sys.argv[1:])")
    command = lake.glue.get_job(JobName=job)["Job"]["Command"] | {"Name": "pythonshell", "PythonVersion": "3.9"}
    lake.glue.update_job(JobName=job, JobUpdate={"Role": lake.role, "Command": command})
    run = lake.success(job, Arguments={"--colour": "blue"})
    assert "'--colour', 'blue'" in lake.logged("/aws-glue/jobs/output", run["Id"])


def test_what_cannot_run_here_is_refused(lake: Lake) -> None:
    job = lake.job("")
    command = lake.glue.get_job(JobName=job)["Job"]["Command"] | {"Name": "gluestreaming"}
    lake.glue.update_job(JobName=job, JobUpdate={"Role": lake.role, "Command": command})
    assert lake.run(job)["Error"] == "Glue.InvalidInputException"


def test_the_server_answers_while_a_task_waits(lake: Lake) -> None:
    job = lake.job(NAP)
    execution = lake.start(job)
    lake.until_state(job, "RUNNING")
    started = time.monotonic()
    for _ in range(10):
        lake.s3.list_buckets()
    assert time.monotonic() - started < 5
    lake.states.stop_execution(executionArn=execution)
    lake.until_state(job, "STOPPED")
