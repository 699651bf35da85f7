"""A plan of faults: what `TARN_FAULTS` may say, and when a mode strikes."""

from __future__ import annotations

import importlib
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tarn.local.extension.faults import Dice, Faults, _kill_functions
from tarn.local.extension.lambda_errors import DIED, RUNTIME
from tarn.local.faults import MODES, Plan, switched_on


def test_a_plan_reads_what_it_writes() -> None:
    plan = Plan.parse("seed=7 duplicate=0.05 kill_before=1.0")
    assert (plan.seed, dict(plan.rates)) == (7, {"duplicate": 0.05, "kill_before": 1.0})
    assert Plan.parse(plan.text()) == plan


@pytest.mark.parametrize(
    ("text", "why"),
    [("kil_before=0.1", "kil_before: a fault is one of kill_before"), ("delay=2", "between 0 and 1, not delay=2.0")],
)
def test_a_word_that_means_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Plan.parse(text)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1, 0.03])
def test_a_mode_strikes_at_its_rate_and_never_stays_away(rate: float) -> None:
    dice = Dice(random.Random(1), rate)
    struck = [number for number in range(20_000) if dice.strikes()]
    assert len(struck) / 20_000 == pytest.approx(rate, rel=0.1)
    gaps = [later - earlier for earlier, later in pairwise(struck)]
    assert max(gaps) <= 2 / rate
    assert rate == 1 or len(set(gaps)) > 1, "it strikes like a clock"


def test_the_seed_decides() -> None:
    def strikes(seed: int) -> list[bool]:
        dice = Dice(random.Random(seed), 0.2)
        return [dice.strikes() for _ in range(50)]

    assert strikes(1) == strikes(1) != strikes(2)


def test_a_rate_of_nothing_never_strikes() -> None:
    dice = Dice(random.Random(1), 0)
    assert not any(dice.strikes() for _ in range(1000))


@pytest.mark.parametrize(
    ("named", "of_start_batch", "of_route_object"),
    [
        ([], True, True),
        (["throttle"], False, False),
        (["kill_after"], True, True),
        (["kill_after:start_batch"], True, False),
    ],
)
def test_a_switch_names_the_modes_that_strike(
    tmp_path: Path, named: list[str], of_start_batch: bool, of_route_object: bool
) -> None:
    faults = Faults(Plan(1, {"kill_after": 1.0}), tmp_path)
    assert not faults.strike("kill_after", "start_batch"), "it is off"
    with switched_on(tmp_path, *named):
        assert faults.strike("kill_after", "start_batch") is of_start_batch
        assert faults.strike("kill_after", "route_object") is of_route_object
    assert not faults.strike("kill_after", "start_batch"), "it is off again"


def test_each_mode_says_what_it_does() -> None:
    assert all(": " in what for what in MODES.values())


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        pytest.param({"status": "error", "error": DIED}, 1, id="died"),
        pytest.param({"status": "error", "error": "Task timed out after 3.00 seconds"}, 0, id="timed out"),
        pytest.param({"status": "ok", "calls": {"PutItem": 1}}, 0, id="made no such call"),
    ],
)
def test_only_a_death_counts_as_a_kill_and_what_did_not_come_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: dict[str, Any], counted: int
) -> None:
    runtime = importlib.import_module(RUNTIME)
    told: list[dict[str, Any]] = []
    answers = [{"status": "ok", "calls": {"PutItem": 1}}, answer]

    def invoke(_worker: Any, durable: dict[str, Any]) -> dict[str, Any]:
        told.append(durable)
        return answers[min(len(told), 2) - 1]

    monkeypatch.setattr(runtime, "_PYTHON_WORKER_SCRIPT", runtime._PYTHON_WORKER_SCRIPT)
    monkeypatch.setattr(runtime.Worker, "invoke", invoke)
    faults = Faults(Plan(1, {"kill_before": 1.0}), tmp_path)
    _kill_functions(faults)
    worker = SimpleNamespace(config={"Handler": "a.handler"})
    faults.switch.touch()
    for _ in range(2):
        runtime.Worker.invoke(worker)
    assert told[1], "a death is planned once its calls are known"
    assert faults.counts["kill_before"] == counted
    faults.rates.clear()
    runtime.Worker.invoke(worker)
    assert bool(told[2]) is not bool(counted), "a death that did not come is still to come"
