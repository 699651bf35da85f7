"""``make engines``: the same batch of real flights through every engine of the heavy hop, on one lake of this machine.

A dataset for each engine is registered beside the others, with the flights' own SQL, rules and files; on ``sagemaker``
the notebook of ``engines/notebook/sample.ipynb``. Each batch is started by itself, so that its time is its own. An
engine passes when its batch is published, every rule of it is met, and its published rows are those of Glue's.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import duckdb
from rich.console import Console
from rich.text import Text

from lake.engines import ENGINES, GLUE
from tarn import assets, deployment, screen, templates
from tarn.lake import Lake
from tarn.local import emulator
from tarn.local.demo import FLIGHTS, SOURCE_QUESTION, DemoError, step
from tarn.local.extension.container_images import IMAGES
from tarn.templates import ROOT

TEAM, PIPELINE = "air", "main"
SOURCE = ROOT / "datasets" / TEAM / "flights"
NOTEBOOK = ROOT / "engines" / "notebook" / "sample.ipynb"
WORK = ROOT / "build" / "engines"
STACK = "tarn-local-engines"
STATE = Path(".tarn/engines")
REGISTRY = "public.ecr.aws/tarn"
STATES = {
    "glue": "TransformBatch",
    "fargate": "RunTask",
    "emr-serverless": "RunServerlessJob",
    "emr-step": "RunStep",
    "sagemaker": "RunNotebook",
}
"""The machine's state that runs each."""
PROGRAMS = {
    "glue": "Spark, heavy.sql",
    "fargate": "DuckDB, heavy.sql",
    "emr-serverless": "Spark, heavy.sql",
    "emr-step": "Spark, heavy.sql",
    "sagemaker": "notebook, heavy.ipynb",
}
QUESTION = """
SELECT count(*), sum(distance), sum(dep_delay), count(CASE WHEN cancelled THEN 1 END)
FROM {table} WHERE scheduled_departure_utc >= TIMESTAMP '2013-01-01 00:00:00'"""
FINAL = ("PUBLISHED", "FAILED", "FAILED_QUALITY")
PATIENCE_SECONDS = 600
"""Bound of each wait: a Spark job and its judge, on a slow machine."""


@dataclass(frozen=True)
class Result:
    """What became of an engine's batch. Seconds are of the transform's task and of the whole batch."""

    engine: str
    batch: dict[str, Any]
    transform_seconds: float
    batch_seconds: float
    differing: int | None
    """Rows that only one of it and Glue published; None where it published nothing."""
    answer: list[int]
    """Athena's to ``QUESTION``; empty where nothing is published."""
    expected: list[int]
    """What the source files answer."""
    quality: bool

    @property
    def passed(self) -> bool:
        """Published, with every rule met, the same rows as Glue's, and Athena reads them."""
        judged = self.batch.get("quality", {})
        met = judged.get("rules_total", 0) > 0 and judged["rules_failed"] == 0
        return (
            self.batch["state"] == "PUBLISHED"
            and (met or not self.quality)
            and self.differing == 0
            and self.answer == self.expected
        )


def run(console: Console, state: Path, *, quality: bool = True, keep: bool = False) -> list[Result]:
    """Start, deploy, put, run each engine, compare.

    Raises:
        DemoError, EmulatorError, DeploymentError, JarError: with what stood in the way.
    """
    emulator.stop(state, purge=True)
    with step(console, "start the embedded AWS (loopback, TLS, IAM enforced)"):
        emulator.start(state)
    emulator.use(state)
    try:
        with step(console, "deploy foundations, teams and pipelines, with every engine") as say:
            given = {deployment.prefix_parameter(one.parent): "" for one in templates.datasets()}
            deployment.deploy("local", quality=quality, overrides={**given, **parameters()}, say=say)
        with step(console, f"register a dataset for each of {', '.join(ENGINES)}") as say:
            register(Lake("local"), say)
        lake = Lake("local")
        return [_result(console, lake, engine, quality=quality) for engine in ENGINES]
    finally:
        if not keep:
            emulator.stop(state)


def parameters() -> dict[str, str]:
    """What the root takes so that every pipeline has every engine; the cluster of ``emr-step`` is made here."""
    images = {name: f"{REGISTRY}/{repository}:local" for repository, name in IMAGES.items()}
    return {
        "FargateSubnetIds": "subnet-00000000000000001,subnet-00000000000000002",
        "FargateSecurityGroupIds": "sg-00000000000000001",
        "FargateImageUri": images["duckdb"],
        "EmrServerless": "on",
        "EmrClusterId": given_cluster(),
        "NotebookImageUri": images["notebook"],
        "TickExpression": "rate(1 day)",  # nobody else wakes the batches
    }


def given_cluster() -> str:
    """An EMR cluster as somebody else owns one: its machines may take the roles of steps."""
    iam, name = boto3.client("iam"), "given-cluster"
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    hand_on = {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": "*"}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))
    iam.put_role_policy(RoleName=name, PolicyName="hand-on-the-roles-of-steps", PolicyDocument=_policy(hand_on))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    emr: Any = boto3.client("emr")
    made = emr.run_job_flow(Name=name, JobFlowRole=name, Instances={"KeepJobFlowAliveWhenNoSteps": True})
    return str(made["JobFlowId"])


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def dataset_of(engine: str) -> str:
    """The dataset whose heavy hop runs on an engine."""
    return f"flights_{engine.replace('-', '_')}"


def register(lake: Lake, say: Callable[[str], None]) -> None:
    """Deploy one stack with a dataset for each engine, from the flights' own template and files."""
    bucket = boto3.client("ssm").get_parameter(Name="/tarn/local/assets/bucket/name")["Parameter"]["Value"]
    source = templates.load(SOURCE / "template.yaml")
    own = source["Parameters"]
    given = source["Resources"]["DatasetStack"]["Properties"]["Parameters"]
    names = {"EnvironmentName": "local", "TeamName": TEAM, "PipelineName": PIPELINE}
    published = templates.published()
    resources = {}
    for engine in ENGINES:
        prefix, files = assets.of_dataset(_folder(engine))
        assets.upload(boto3.client("s3"), bucket, files)
        told = {**names, "AssetBucketName": bucket, "AssetPrefix": prefix}
        wired = {
            name: told.get(name)
            or own.get(name, {}).get("Default")
            or lake.contract.value(Template(published[name]).substitute(names))
            for name, value in given.items()
            if isinstance(value, dict)
        }
        heavy = next(file.name for file in (asset.file for asset in files) if file.stem == "heavy")
        changed = {"DatasetName": dataset_of(engine), "TableName": dataset_of(engine)}
        changed |= {"Engine": engine, "HeavyTransform": heavy, "FreshnessHours": "0"}
        resources[f"{engine.title().replace('-', '')}Dataset"] = {
            "Type": "AWS::CloudFormation::Stack",
            "Properties": {
                "TemplateURL": "../../pipeline/dataset.yaml",
                "Parameters": {**given, **wired, **changed, "EnvironmentName": {"Ref": "EnvironmentName"}},
            },
        }
    template = WORK / "template.json"
    taken = {"EnvironmentName": {"Type": "String"}}
    content = {"AWSTemplateFormatVersion": "2010-09-09", "Parameters": taken, "Resources": resources}
    template.write_text(json.dumps(content))
    deployment.deploy_stack(
        *("local", str(template.relative_to(ROOT)), STACK, {"EnvironmentName": "local"}),
        bucket=bucket,
        protected=False,
        say=say,
    )


def _folder(engine: str) -> Path:
    """The assets of an engine's dataset."""
    folder = WORK / dataset_of(engine)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("light.sql", "rules.dqdl"):
        shutil.copyfile(SOURCE / name, folder / name)
    heavy = NOTEBOOK if engine == "sagemaker" else SOURCE / "heavy.sql"
    shutil.copyfile(heavy, folder / f"heavy{heavy.suffix}")
    return folder


def _is_staged(lake: Lake, identity: str) -> bool:
    return (lake.object_row(identity) or {}).get("state") == "STAGED"


def _result(console: Console, lake: Lake, engine: str, *, quality: bool) -> Result:
    with step(console, f"{engine}: {PROGRAMS[engine]}") as say:
        landed = [lake.put(TEAM, dataset_of(engine), day) for day in sorted(FLIGHTS.glob("*.csv"))]
        _wait(lambda: all(_is_staged(lake, one) for one in landed), f"{len(landed)} objects are not staged", say)
        batch = _start(lake, engine)
        ended: dict[str, Any] = _wait(lambda: _ended(lake, batch), f"batch {batch['batch_id']} does not end", say)
    differing, answer = None, []
    if ended["state"] == "PUBLISHED":
        differing = compare(lake, engine)
        answer = _whole(lake.query(QUESTION.format(table=dataset_of(engine)), TEAM).rows[0])
    else:
        console.print(f"  {ended['state']}: {ended.get('reason', '')}", style="red", highlight=False, markup=False)
    seconds = _seconds(str(ended["execution_arn"]), STATES[engine])
    expected = _whole(duckdb.execute(SOURCE_QUESTION).fetchall()[0])
    return Result(engine, ended, *seconds, differing, answer, expected, quality)


def _whole(row: Sequence[Any]) -> list[int]:
    return [int(float(value)) for value in row]


def _start(lake: Lake, engine: str) -> dict[str, Any]:
    """Wake start_batch for the engine's dataset, as a full queue does; gives the batch that it made."""
    payload = json.dumps({"team": TEAM, "dataset": dataset_of(engine)})

    def made() -> dict[str, Any] | None:
        function = lake.contract.pipeline(TEAM, PIPELINE, "start-batch/arn")
        boto3.client("lambda").invoke(FunctionName=function, Payload=payload)
        address = lake.contract.address(TEAM, dataset_of(engine))
        return next((row for row in lake.batches_of(address) if row["state"] not in ("OPEN", "ABANDONED")), None)

    found: dict[str, Any] = _wait(made, f"no batch for {engine} was made", lambda _: None)
    return found


def _ended(lake: Lake, batch: dict[str, Any]) -> dict[str, Any] | None:
    row = lake.batch(batch["owner"], batch["batch_id"])
    return row if row["state"] in FINAL else None


def _seconds(execution_arn: str, state: str) -> tuple[float, float]:
    """How long a state of an execution took, and the execution until its notification."""
    history = boto3.client("stepfunctions").get_paginator("get_execution_history")
    events = [event for page in history.paginate(executionArn=execution_arn) for event in page["events"]]
    entered = [one for one in events if one.get("stateEnteredEventDetails", {}).get("name") == state]
    left = [one for one in events if one.get("stateExitedEventDetails", {}).get("name") == state]
    whole = (events[-1]["timestamp"] - events[0]["timestamp"]).total_seconds()
    if not entered or not left:
        return 0.0, whole
    first: datetime = entered[0]["timestamp"]
    return (left[-1]["timestamp"] - first).total_seconds(), whole


def compare(lake: Lake, engine: str) -> int:
    """Rows that either the engine or Glue published and the other did not, each counted as often as it stands."""
    with TemporaryDirectory() as folder, duckdb.connect() as duck:
        for name in (GLUE, engine):
            place = Path(folder, name)
            _download(lake, dataset_of(name), place)
            duck.execute(
                f"CREATE OR REPLACE VIEW {name.replace('-', '_')} AS SELECT * EXCLUDE (batch) "  # noqa: S608
                f"FROM read_parquet('{place}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
            )
        first, second = GLUE, engine.replace("-", "_")
        found = duck.execute(
            f"SELECT count(*) FROM ((FROM {first} EXCEPT ALL FROM {second}) "  # noqa: S608
            f"UNION ALL (FROM {second} EXCEPT ALL FROM {first}))"
        ).fetchall()
        return int(found[0][0])


def _download(lake: Lake, table: str, place: Path) -> None:
    """The files of every registered partition."""
    glue, s3 = boto3.client("glue"), boto3.client("s3")
    database = lake.contract.team(TEAM, "database/name")
    pages = glue.get_paginator("get_partitions").paginate(DatabaseName=database, TableName=table)
    for partition in (one for page in pages for one in page["Partitions"]):
        bucket, _, prefix = partition["StorageDescriptor"]["Location"].removeprefix("s3://").partition("/")
        for one in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            file = place / one["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, one["Key"], str(file))


def _wait(look: Callable[[], Any], what: str, say: Callable[[str], None]) -> Any:
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        if time.monotonic() > until:
            raise DemoError(f"after {PATIENCE_SECONDS} s: {what}")
        say("waiting")
        time.sleep(1)
    return found


def show(console: Console, results: list[Result]) -> bool:
    """The matrix, and the closing line; gives whether every engine passed.

    ``task`` is the machine's task, ``differ`` rows that only one of the engine and Glue published, ``rules`` those
    that are met, and Athena is asked for what the source files hold.
    """
    numbers = ("task s", "batch s", "rows", "rules", "differ")
    table = screen.table("", "engine", *numbers, "state", "Athena", numbers=numbers)
    for one in results:
        judged = one.batch.get("quality", {})
        rules = int(judged.get("rules_total", 0))
        table.add_row(
            Text(one.engine, "green" if one.passed else "bold red"),
            f"{one.transform_seconds:.1f}",
            f"{one.batch_seconds:.1f}",
            str(one.batch.get("rows_out", "-")),
            f"{rules - int(judged.get('rules_failed', 0))}/{rules}" if one.quality else "-",
            "-" if one.differing is None else str(one.differing),
            screen.coloured(str(one.batch["state"])),
            "right" if one.answer == one.expected else "WRONG",
        )
    console.print(table)
    passed = sum(one.passed for one in results)
    console.print(f"{passed} passed, {len(results) - passed} failed", highlight=False)
    return passed == len(results)


def main(arguments: list[str]) -> int:
    """``python -m tarn.local.engines [--quality-off] [--keep] [STATE]``."""
    console = Console()
    folders = [Path(one) for one in arguments if not one.startswith("--")]
    state = (folders or [ROOT / STATE])[0].resolve()
    try:
        results = run(console, state, quality="--quality-off" not in arguments, keep="--keep" in arguments)
    except (DemoError, emulator.EmulatorError, deployment.DeploymentError) as error:
        console.print(f"engines: {error}", style="red", markup=False, highlight=False)
        console.print(f"0 passed, {len(ENGINES)} failed", highlight=False)
        return 1
    return 0 if show(console, results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
