"""What a deployment would take away with data in it: seen, refused unless it is named, and told afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tarn import deployment, losses
from tarn.changes import ADDED, CHANGED, REMOVED, REPLACED, Change
from tarn.contract import DatasetAddress
from tarn.losses import DATASET, QUEUE
from tarn.preconditions import PreconditionError

STACK = "FlightsDatasetStack/DatasetStack"
REGISTRATION = Change(f"{STACK}/Registration", DATASET, REMOVED, physical_id="air/flights")
STAGED = Change(f"{STACK}/DatasetQueue", QUEUE, REMOVED, keeps=False, physical_id="staged-url")
TEAM_KEY = Change("SkyTeamStack/TeamKey", "AWS::KMS::Key", REMOVED, keeps=True, physical_id="key-1")
FUNCTION = Change("SkyTeamStack/Registrar", "AWS::Lambda::Function", REMOVED, keeps=False)


class Sqs:
    """Every queue holds two messages, one of them in flight."""

    def get_queue_attributes(self, **asked: Any) -> dict[str, Any]:
        assert asked["QueueUrl"] == "staged-url"
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return {"Attributes": dict.fromkeys(names, "1")}


class Session:
    def client(self, service: str) -> Sqs:
        assert service == "sqs"
        return Sqs()


class Lake:
    states = ("PUBLISHED", "STARTED", "FAILED")

    def __init__(self, environment: str, session: Any) -> None:
        assert environment == "dev"

    def batches_of(self, address: DatasetAddress) -> list[dict[str, str]]:
        assert (address.team, address.dataset) == ("air", "flights")
        return [{"batch_id": f"b{number}", "state": state} for number, state in enumerate(self.states)]


@pytest.fixture(autouse=True)
def _lake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "Lake", Lake)


def holding(*changes: Change) -> list[str]:
    return [one.holds for one in losses.with_what_they_hold(Session(), "dev", changes)]  # type: ignore[arg-type]


def test_a_dataset_that_goes_takes_its_messages_and_its_batches_under_way_along() -> None:
    assert holding(REGISTRATION, STAGED, FUNCTION) == ["batch b1 STARTED", "2 messages in it", ""]


def test_what_stays_is_not_asked() -> None:
    changed = [Change(one.path, one.type, CHANGED, physical_id=one.physical_id) for one in (REGISTRATION, STAGED)]
    assert holding(*changed) == ["", ""]


def test_a_dataset_without_a_batch_under_way_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lake, "states", ("PUBLISHED", "ABANDONED"))
    assert holding(REGISTRATION) == [""]


def test_a_dataset_that_goes_into_a_nested_stack_is_handed_over_and_loses_nothing() -> None:
    into = Change(f"{STACK}/Inner/Registration", DATASET, ADDED)
    assert holding(REGISTRATION, STAGED, into) == ["", "", ""]


@pytest.mark.parametrize("place", ["TrainsDatasetStack/DatasetStack", "FlightsDatasetStack/DatasetStack2"])
def test_another_dataset_that_comes_is_no_handover(place: str) -> None:
    assert holding(STAGED, REGISTRATION, Change(f"{place}/Registration", DATASET, ADDED))[0] == "2 messages in it"


def lost(*allowed: str) -> str:
    found = losses.with_what_they_hold(Session(), "dev", [REGISTRATION, STAGED, TEAM_KEY, FUNCTION])  # type: ignore[arg-type]
    with pytest.raises(PreconditionError) as refused:
        losses.check("dev", "tarn-dev", found, allowed)
    return str(refused.value)


def test_each_loss_is_named_with_what_goes_and_how_it_is_allowed() -> None:
    said = lost()
    assert said.startswith("nothing has changed, deploying tarn-dev would lose data:\n")
    for line in (
        f"  - {STACK}/Registration (Custom::TarnDataset): removed with batch b1 STARTED",
        f"  - {STACK}/DatasetQueue (AWS::SQS::Queue): removed - the old one is deleted with 2 messages in it",
        "  - SkyTeamStack/TeamKey (AWS::KMS::Key): removed - the old one stays, outside the stack",
    ):
        assert line in said.splitlines()
    assert "SkyTeamStack/Registrar" not in said
    assert f"--allow-loss {STACK}/DatasetQueue --allow-loss SkyTeamStack/TeamKey" in said
    assert (
        f'[dev.allow_loss] tarn-dev = ["{STACK}/Registration", "{STACK}/DatasetQueue", "SkyTeamStack/TeamKey"]' in said
    )


def test_what_is_named_may_go_and_nothing_else() -> None:
    assert "DatasetQueue" not in lost("FlightsDatasetStack").split("What may be lost")[0]
    assert "SkyTeamStack/TeamKey" in lost("FlightsDatasetStack", "Sky", "SkyTeamStack/TeamKe")
    losses.check("dev", "tarn-dev", [TEAM_KEY, FUNCTION], ["SkyTeamStack/TeamKey"])
    losses.check("dev", "tarn-dev", [FUNCTION], [])


def test_what_stays_outside_the_stack_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "data_of", lambda *place: [f"files of {'/'.join(place)}"])
    table = Change("Foundations/Table", "AWS::DynamoDB::Table", REPLACED, keeps=True, physical_id="t-1")
    left = list(losses.left_behind("dev", [FUNCTION, TEAM_KEY, REGISTRATION, STAGED, table]))
    assert left == ["AWS::KMS::Key key-1", "AWS::DynamoDB::Table t-1", "files of dev/air/flights"]
    into = Change(f"{STACK}/Inner/Registration", DATASET, ADDED)
    assert list(losses.left_behind("dev", [REGISTRATION, into])) == []


def test_a_commit_allows_a_loss_of_one_stack_of_one_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deployment, "ROOT", tmp_path)
    (tmp_path / "samconfig.toml").write_text(
        'version = 0.1\n[dev.deploy.parameters]\n[prod.deploy.parameters]\n[dev.allow_loss]\ntarn-dev = ["A/Key"]\n'
    )
    assert deployment.allowed_losses("dev", "tarn-dev") == ["A/Key"]
    assert deployment.allowed_losses("dev", "tarn-dev-dataset-air-flights") == []
    assert deployment.allowed_losses("prod", "tarn-prod") == []
