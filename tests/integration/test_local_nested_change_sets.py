"""What a deployment would change, asked of the embedded AWS: leaves of nested stacks, refusals, failures, safeguards.

Each template here is packaged by the real ``sam package``. The change sets of nested stacks are the extension's
(stock MiniStack names a nested stack and no leaf in it).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tarn import deployment, preconditions, previews, safeguards, stack_failures
from tarn.local.emulator import Emulator
from tests.e2e.own_emulator import seen
from tests.integration.local_world import ARTIFACTS, TEMPLATES, Stacks

ROOT = "previewed"
PARAMETERS = {"Greeting": "hello", "BreakLeaf": "no"}
LEAF = "Middle/Leaf"


@pytest.fixture(scope="module")
def session(emulator: Emulator) -> Iterator[boto3.Session]:
    with seen(emulator.settings.state_dir) as session:
        yield session


@pytest.fixture(scope="module")
def artifacts(session: boto3.Session) -> None:
    """The bucket that is packaged to."""
    s3 = session.client("s3")
    if ARTIFACTS not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=ARTIFACTS, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the nest that a test may change."""
    return Path(shutil.copytree(TEMPLATES / "nest", tmp_path_factory.mktemp("previews") / "nest"))


@pytest.fixture(scope="module")
def standing(session: boto3.Session, folder: Path, stacks: Stacks, artifacts: None) -> Iterator[boto3.Session]:
    """The nest, deployed from the copy under another name."""
    leaf = folder / "leaf.yaml"
    leaf.write_text(leaf.read_text().replace("nest-landing-", "previewed-landing-"))
    deploy(folder)
    yield session
    stacks.api.delete_stack(StackName=ROOT)


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., previews.Target]:
    """Package the nest with a text of its leaf replaced."""

    def change(old: str = "", new: str = "", **parameters: str) -> previews.Target:
        copy = shutil.copytree(folder, tmp_path / "nest")
        text = (copy / "leaf.yaml").read_text()
        assert old in text
        (copy / "leaf.yaml").write_text(text.replace(old, new, 1) if old else text)
        packaged = deployment.package_template(str(copy / "root.yaml"), tmp_path / "packaged.yaml", ARTIFACTS)
        return previews.Target("local", ROOT, packaged, ARTIFACTS, PARAMETERS | parameters)

    return change


def deploy(folder: Path, **parameters: str) -> None:
    """Package and deploy the nest as a layer is."""
    with tempfile.TemporaryDirectory() as place:
        packaged = deployment.package_template(str(folder / "root.yaml"), Path(place) / "packaged.yaml", ARTIFACTS)
        deployment.deploy_template(
            "local", packaged, ROOT, PARAMETERS | parameters, bucket=ARTIFACTS, say=lambda _: None
        )


def told(preview: previews.Preview) -> dict[str, str]:
    return {one.path: one.effect() for one in preview.changes}


def test_nothing_to_change_is_said(standing: boto3.Session, changed) -> None:
    assert previews.of(standing, changed()).text() == f"{ROOT}: nothing to change"


def test_a_changed_property_is_named_with_its_logical_path(standing: boto3.Session, changed) -> None:
    preview = previews.of(standing, changed("VisibilityTimeout: 120", "VisibilityTimeout: 180"))
    assert preview.text().splitlines()[1:] == [
        f"  {LEAF}/RecordLandedFunctionLanded (AWS::Lambda::EventSourceMapping): may be replaced (EventSourceArn)",
        f"  {LEAF}/LandingQueue (AWS::SQS::Queue): changed (VisibilityTimeout)",
        "  and 2 that may change, because they refer to what does",
    ]


def test_what_a_condition_lets_in_is_added(standing: boto3.Session, changed) -> None:
    """And what it leaves out, as in every other test here, is no change."""
    assert told(previews.of(standing, changed(BreakLeaf="yes"))) == {f"{LEAF}/BrokenRegistration": "added"}


def test_the_same_package_in_another_folder_is_no_change(
    standing: boto3.Session, changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preview that nobody has approved packages where no deployment reads."""
    monkeypatch.setenv("TARN_PACKAGE_PREFIX", "diff/air")
    assert told(previews.of(standing, changed())) == {}


def test_other_bytes_in_another_folder_are_one(
    standing: boto3.Session, changed, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("TARN_PACKAGE_PREFIX", "diff/air")
    (folder / "functions" / "new.py").touch()
    try:
        preview = previews.of(standing, changed())
    finally:
        (folder / "functions" / "new.py").unlink()
    assert told(preview)[f"{LEAF}/TickFunction"] == "changed (Code)"


def test_a_replaced_table_loses_data_and_comes_first(standing: boto3.Session, changed) -> None:
    target = changed("AttributeName: id\n          KeyType", "AttributeName: copy\n          KeyType")
    preview = previews.of(standing, target)
    lines = preview.text().splitlines()
    assert "of them LOSING DATA" in lines[0]
    assert lines[1].startswith(f"  LOSES DATA  {LEAF}/CopiesTable (AWS::DynamoDB::Table): may be replaced (KeySchema)")
    assert "| **LOSES DATA** | `Middle/Leaf/CopiesTable`" in preview.markdown()


def test_asking_changes_nothing_and_leaves_nothing(standing: boto3.Session, changed, stacks: Stacks) -> None:
    before = stacks.settled(ROOT)
    names = {one["StackName"] for one in stacks.api.describe_stacks()["Stacks"]}
    previews.of(standing, changed("VisibilityTimeout: 120", "VisibilityTimeout: 240"))
    assert stacks.settled(ROOT) == before
    assert {one["StackName"] for one in stacks.api.describe_stacks()["Stacks"]} == names
    for name in names:
        assert not [
            one
            for one in stacks.api.list_change_sets(StackName=name)["Summaries"]
            if one["ChangeSetName"].startswith("tarn-preview")
        ]


def test_a_refused_nested_change_set_is_said_and_the_templates_are_compared(
    standing: boto3.Session, changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = previews._ask

    def refusing(cloudformation: Any, target: Any, url: str, *, nested: bool):
        if nested:
            raise previews.PreviewError("Template validation error: placeholder")
        return ask(cloudformation, target, url, nested=False)

    monkeypatch.setattr(previews, "_ask", refusing)
    target = changed(
        "AttributeName: id\n          KeyType", "AttributeName: copy\n          KeyType", Greeting="servus"
    )
    preview = previews.of(standing, target)
    text = preview.text()
    assert "CloudFormation refuses a change set of the nested stacks (Template validation error: placeholder)" in text
    assert "Parameter Greeting: hello -> servus" in text
    assert f"LOSES DATA  {LEAF}/CopiesTable (AWS::DynamoDB::Table): may be replaced (KeySchema)" in text
    assert set(told(preview)) == {f"{LEAF}/CopiesTable"}


def test_a_nested_template_that_is_refused_refuses_the_deployment_or_falls_back(standing, changed) -> None:
    target = changed(
        "  BreakLeaf:\n    Type: String", "  BreakLeaf:\n    Type: String\n    AllowedValues: [yes-please]"
    )
    preview = previews.of(standing, target)
    assert "BreakLeaf" in preview.notes[0]
    assert "refuses a change set of the nested stacks" in preview.notes[0]


def test_what_the_deployment_would_be_refused_for_is_its_own_error(standing: boto3.Session, changed) -> None:
    """A rule of the root's own: no comparison is made of what cannot be deployed."""
    target = changed()
    rule = "Rules: {Polite: {Assertions: [{Assert: !Equals [!Ref Greeting, servus], AssertDescription: Say servus}]}}\n"
    target.template.write_text(rule + target.template.read_text())
    with pytest.raises(previews.PreviewError, match="Say servus"):
        previews.of(standing, target)


def test_a_failure_is_told_by_its_leaf(standing: boto3.Session, stacks: Stacks, folder: Path) -> None:
    cloudformation = standing.client("cloudformation")
    with pytest.raises(deployment.DeploymentError) as failed:
        deploy(folder, Greeting="never", BreakLeaf="yes")
    first, then, ended = str(failed.value).splitlines()[:3]
    assert ended == f"sam deploy of {ROOT} ended with 1:"
    assert first.startswith(f"{LEAF}/BrokenRegistration (Custom::AlwaysFails) failed: ")
    assert "this registration is refused on purpose" in first
    assert then == "What to do: correct it where it is declared, and deploy again. Everything is as it was before."
    # an old failure is not told again
    assert stack_failures.told(cloudformation, ROOT, stack_failures.latest_event(cloudformation, ROOT)) == ""


def test_a_failed_creation_is_told_by_its_leaf(session: boto3.Session, stacks: Stacks) -> None:
    cloudformation = session.client("cloudformation")
    assert stacks.sam_deploy("failing/root.yaml", "untold").returncode != 0
    first, then = stack_failures.told(cloudformation, "untold", None).splitlines()
    assert "/NobodysFunction (AWS::Lambda::Function) failed: " in first
    assert "aws cloudformation delete-stack --stack-name untold" in then


def test_safeguards_follow_the_environments_switch(standing: boto3.Session, stacks: Stacks) -> None:
    cloudformation = standing.client("cloudformation")
    said: list[str] = []
    safeguards.set_up(cloudformation, ROOT, protected=True, say=said.append)
    assert stacks.settled(ROOT)["EnableTerminationProtection"] is True
    tree = {"/".join(one.path): one for one in safeguards.tree(cloudformation, ROOT)}
    policies = {
        path: cloudformation.get_stack_policy(StackName=one.stack_id).get("StackPolicyBody")
        for path, one in tree.items()
    }
    assert json.loads(policies.pop(LEAF)) == safeguards.POLICY
    assert not any(policies.values()), "only what holds data is held"
    with pytest.raises(cloudformation.exceptions.ClientError, match="TerminationProtection"):
        cloudformation.delete_stack(StackName=ROOT)
    assert len(said) == 2
    safeguards.set_up(cloudformation, ROOT, protected=True, say=said.append)
    assert len(said) == 2, "what is set is not set again"
    safeguards.set_up(cloudformation, ROOT, protected=False, say=said.append)
    assert stacks.settled(ROOT)["EnableTerminationProtection"] is False
    body = cloudformation.get_stack_policy(StackName=tree[LEAF].stack_id)["StackPolicyBody"]
    assert json.loads(body) == safeguards.OPEN_POLICY


def test_an_asset_bucket_that_is_gone_or_elsewhere_is_refused(session: boto3.Session) -> None:
    here = session.client("s3")
    with pytest.raises(preconditions.PreconditionError, match="the asset bucket nowhere-at-all is gone"):
        preconditions.check_bucket(here, "nowhere-at-all", environment="dev")
    elsewhere = session.client("s3", region_name="us-west-2")
    elsewhere.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    with pytest.raises(preconditions.PreconditionError, match="far-away is in us-west-2 and the deployment is in eu"):
        preconditions.check_bucket(here, "far-away", environment="dev")
    preconditions.check_bucket(here, ARTIFACTS, environment="dev")
