"""A plan of faults: what `TARN_FAULTS` may say, and when a mode strikes."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tarn.local.extension.faults import Dice
from tarn.local.faults import MODES, Plan


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


def test_each_mode_says_what_it_does() -> None:
    assert all(": " in what for what in MODES.values())
