"""Two lakes in one account and region: nothing of one is the other's, and one goes without the other."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator

import boto3
import pytest

from tarn import deployment, removal, templates
from tarn.lake import Lake
from tests.e2e.lake_world import Demo, leaving_out_all_but, stage
from tests.e2e.own_emulator import own_emulator

AIRLINES = templates.ROOT / "datasets" / "air" / "airlines" / "samples" / "airlines.csv"
ENVIRONMENTS = ("local", "dev")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lakes(tmp_path_factory) -> Iterator[dict[str, Demo]]:
    """Two whole lakes with one dataset each."""
    state = tmp_path_factory.mktemp("two")
    dependencies = state / "dependencies.zip"
    with own_emulator(state) as session, pytest.MonkeyPatch.context() as patch:
        # What AWS's Lambda needs and the emulator's functions have: a layer without anything in it is one all the same.
        with zipfile.ZipFile(dependencies, "w") as archive:
            archive.writestr("python/README", "The environment has them.")
        patch.setattr(deployment, "DEPENDENCIES", dependencies)
        for environment in ENVIRONMENTS:
            deployment.deploy(environment, quality=False, overrides=leaving_out_all_but("AirAirlines"))
        yield {one: Demo(0, "", state, Lake(one, session), session) for one in ENVIRONMENTS}


def names(session: boto3.Session, environment: str) -> set[tuple[str, str]]:
    """Type and physical name of everything in the lake's stacks."""
    cloudformation = session.client("cloudformation")
    stacks = [one["StackName"] for one in cloudformation.describe_stacks()["Stacks"]]
    return {
        (one["ResourceType"], one["PhysicalResourceId"])
        for stack in stacks
        if stack.startswith(f"tarn-{environment}")
        for one in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
        # A registration is a row of its own lake's table; its id says no more than whose it is.
        if not one["ResourceType"].startswith("Custom::")
    }


def test_they_share_no_name(lakes) -> None:
    local, dev = (names(lakes[one].session, one) for one in ENVIRONMENTS)
    assert len(local) > 100
    assert {kind for kind, _ in dev} >= {kind for kind, _ in local}
    assert local & dev == set()


def test_a_file_of_one_is_not_seen_in_the_other(lakes) -> None:
    identity = stage(lakes["dev"], "airlines", AIRLINES, "airlines.csv")
    assert lakes["dev"].lake.status(exact=True).objects["air/airlines"]["raw STAGED"] == 1
    local = lakes["local"].lake.status(exact=True)
    assert (local.objects, local.attention, local.batches) == ({}, [], [])
    assert not any(sum(depth.values()) for depth in local.queues.values())
    s3 = lakes["local"].session.client("s3")
    for zone in ("raw", "stage", "analytics"):
        bucket = lakes["local"].lake.contract.foundations(f"{zone}-bucket/name")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0, bucket
        assert bucket not in identity


def test_a_lake_is_not_removed_while_something_waits_in_it(lakes) -> None:
    with pytest.raises(removal.RemovalError, match=r"messages are in queue dataset/air/main/airlines/") as refused:
        removal.find("dev", None, {})
    assert "tarn status" in str(refused.value)


def test_one_goes_and_the_other_stays(lakes) -> None:
    session = lakes["dev"].session
    url = lakes["dev"].lake.contract.queues()["dataset/air/main/airlines/staged-queue"]
    session.client("sqs").purge_queue(QueueUrl=url)
    before = names(session, "local")
    said: list[str] = []
    left = removal.remove(removal.find("dev", None, {}), said.append)
    assert {one.split()[0] for one in left} >= {"AWS::S3::Bucket", "AWS::KMS::Key", "AWS::DynamoDB::Table"}
    assert not [line for line in said if line.startswith("DELETE_FAILED")]
    stacks = {one["StackName"] for one in session.client("cloudformation").describe_stacks()["Stacks"]}
    assert {one for one in stacks if one.startswith("tarn-dev")} == {"tarn-dev-assets"}
    assert names(session, "local") == before
    stage(lakes["local"], "airlines", AIRLINES, "airlines.csv")
