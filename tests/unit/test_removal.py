"""What stands in the way of a removal: the layer's own things, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tarn import removal
from tarn.contract import DatasetAddress
from tarn.deployment import DeploymentError
from tarn.lake import Status
from tarn.removal import Removal

QUEUES = [
    "foundations/ingest-queue",
    "pipeline/air/main/queue",
    "pipeline/air/main/dead-letter-queue",
    "pipeline/sky/main/queue",
    "dataset/air/main/flights/staged-queue",
    "dataset/air/other/trains/staged-queue",
]
LAYERS: dict[str, tuple[str | None, dict[str, str]]] = {
    "lake": (None, {}),
    "foundations": ("foundations", {}),
    "team": ("team", {"team": "air"}),
    "pipeline": ("pipeline", {"team": "air", "pipeline": "main"}),
    "dataset": ("dataset", {"team": "air", "dataset": "flights"}),
}


class Contract:
    """Two teams; one of them with two pipelines and a dataset in each."""

    def teams(self) -> list[str]:
        return ["air", "sky"]

    def pipelines(self) -> list[tuple[str, str]]:
        return [("air", "main"), ("air", "other"), ("sky", "main")]

    def datasets(self) -> list[DatasetAddress]:
        return [DatasetAddress("air", "main", "flights"), DatasetAddress("air", "other", "trains")]


class FakeLake:
    contract = Contract()
    found = Status("dev", [], {}, [])

    def __init__(self, environment: str) -> None:
        assert environment == "dev"

    def status(self) -> Status:
        return self.found


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> type[FakeLake]:
    monkeypatch.setattr(removal, "Lake", FakeLake)
    monkeypatch.setattr(FakeLake, "found", Status("dev", [], {}, []))
    return FakeLake


def in_the_way(layer: str) -> list[str]:
    kind, place = LAYERS[layer]
    return removal._in_the_way(Removal("dev", kind, place))


@pytest.mark.parametrize(
    ("layer", "remedies"),
    [
        ("lake", []),
        ("dataset", []),
        ("pipeline", ["--layer dataset --team air --dataset flights"]),
        (
            "team",
            [
                "--layer dataset --team air --dataset flights",
                "--layer dataset --team air --dataset trains",
                "--layer pipeline --team air --pipeline main",
                "--layer pipeline --team air --pipeline other",
            ],
        ),
    ],
)
def test_what_stands_on_a_layer_is_named_with_the_command_that_removes_it(lake, layer, remedies) -> None:
    assert [line.partition("tarn remove ")[2] for line in in_the_way(layer)] == remedies


def test_foundations_carry_everything(lake) -> None:
    found = in_the_way("foundations")
    assert [line.split()[0] for line in found] == ["dataset"] * 2 + ["pipeline"] * 3 + ["team"] * 2


@pytest.mark.parametrize(
    ("layer", "places"),
    [
        ("lake", QUEUES),
        ("foundations", ["foundations/ingest-queue"]),
        ("team", []),
        ("pipeline", ["pipeline/air/main/queue", "pipeline/air/main/dead-letter-queue"]),
        ("dataset", ["dataset/air/main/flights/staged-queue"]),
    ],
)
def test_messages_of_the_layers_own_queues_are_in_the_way(lake, monkeypatch, layer, places) -> None:
    depths = {place: {"visible": 0, "in_flight": 2} for place in QUEUES}
    monkeypatch.setattr(lake, "found", Status("dev", [], depths, []))
    lines = [line for line in in_the_way(layer) if "messages" in line]
    assert [line.split()[5].rstrip(":") for line in lines] == places
    empty = {place: {"visible": 0, "in_flight": 0} for place in QUEUES}
    monkeypatch.setattr(lake, "found", Status("dev", [], empty, []))
    assert not [line for line in in_the_way(layer) if "messages" in line]


@pytest.mark.parametrize(("layer", "count"), [("lake", 3), ("team", 2), ("dataset", 1)])
def test_batches_in_flight_are_in_the_way(lake, monkeypatch, layer, count) -> None:
    def batch(team: str, dataset: str, state: str) -> dict[str, Any]:
        return {"team": team, "dataset": dataset, "batch_id": "b1", "state": state}

    batches = [
        batch("air", "flights", "STARTED"),
        batch("air", "flights", "PUBLISHED"),
        batch("air", "trains", "READY"),
        batch("sky", "weather", "OPEN"),
    ]
    monkeypatch.setattr(lake, "found", Status("dev", batches, {}, []))
    assert len([line for line in in_the_way(layer) if line.startswith("batch ")]) == count


def test_a_name_that_is_missing_is_asked_for() -> None:
    with pytest.raises(DeploymentError, match="--pipeline"):
        removal.find("dev", "pipeline", {"team": "air"})


@pytest.mark.parametrize(
    ("layer", "stack"),
    [("lake", "tarn-dev"), ("pipeline", "tarn-dev-pipeline-air-main"), ("dataset", "tarn-dev-dataset-air-flights")],
)
def test_the_stack_is_the_one_that_was_deployed(layer, stack) -> None:
    kind, place = LAYERS[layer]
    assert Removal("dev", kind, place).stack == stack
