"""The smoke test says PUBLISHED, or how far the file came and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tarn import smoke

FILE = Path("airlines.csv")


class Lake:
    """A lake whose rows go on by one step each time somebody looks at the raw object."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        self._steps = list(steps)
        self._now: dict[str, Any] = {}

    def put(self, team: str, dataset: str, _file: Path, name: str) -> str:
        return f"s3://raw/{team}/{dataset}/{name}"

    def object_row(self, identity: str) -> dict[str, Any] | None:
        if identity.startswith("s3://raw/"):
            self._now = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
            return self._now.get("raw")
        return self._now.get("staged")

    def batch(self, owner: str, batch_id: str) -> dict[str, Any]:
        assert (owner, batch_id) == ("air#airlines", "b1")
        return dict(self._now["batch"])


LANDED = {"raw": {"state": "LANDED"}}
STAGED = {"raw": {"state": "STAGED", "staged_id": "s3://stage/x"}, "staged": {"state": "STAGED"}}
BATCHED = {**STAGED, "staged": {"state": "STAGED", "batch_id": "b1"}}


def run(*steps: dict[str, Any]) -> list[str]:
    said: list[str] = []
    smoke.run(Lake(*steps), FILE, name="smoke-1.csv", say=said.append, wait=lambda _: None, seconds=60)  # type: ignore[arg-type]
    return said


def test_each_step_is_told_once_until_it_is_published() -> None:
    started = {**BATCHED, "batch": {"state": "STARTED"}}
    said = run({}, LANDED, LANDED, STAGED, started, started, {**BATCHED, "batch": {"state": "PUBLISHED"}})
    assert said == ["landed s3://raw/air/airlines/smoke-1.csv", "LANDED", "STAGED", "STARTED", "PUBLISHED"]


def test_an_abandoned_batch_is_waited_for_like_none() -> None:
    abandoned = {**BATCHED, "batch": {"state": "ABANDONED"}}
    assert run(abandoned, {**BATCHED, "batch": {"state": "PUBLISHED"}})[-2:] == ["STAGED", "PUBLISHED"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"raw": {"state": "QUARANTINED", "reason": "line 3: not a number"}}, "QUARANTINED.*line 3: not a number"),
        ({**BATCHED, "batch": {"state": "FAILED_QUALITY", "reason": "RowCount > 0"}}, "FAILED_QUALITY.*RowCount > 0"),
        ({"raw": {"state": "UNROUTED"}}, "UNROUTED.*no reason is told"),
        (LANDED, "still LANDED after 1 minutes"),
        ({}, "still without a row"),
    ],
)
def test_anything_else_fails_with_how_far_it_came(step, reason) -> None:
    with pytest.raises(smoke.SmokeError, match=reason):
        run(step)


@pytest.mark.parametrize("environment", ["test", "prod"])
def test_it_leaves_no_file_in_test_or_prod(environment, capsys) -> None:
    assert smoke.main(environment) == 2
    assert "not in " + environment in capsys.readouterr().err
