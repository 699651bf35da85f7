"""Protocol 8 as a property: whoever registers, dies, is rolled back or renamed, a name's row is its rightful owner's.

Three stacks want two names. Each does what CloudFormation does: an event that nobody answered is delivered again, a
creation that failed is deleted under the id that it answered, a rename deletes the former id afterwards. Between any
two of them exactly the names that somebody has are registered, each by whom it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.faults.killing import Death, dying
from tests.integration.tables import open_lake
from tests.integration.test_register_resource import STACK, Registrar
from tests.unit.test_registration import GIVEN

STACKS = st.sampled_from([STACK.replace("tarn-test", f"stack-{letter}") for letter in "abc"])
NAMES = st.sampled_from(["flights", "trains"])
DEATHS = st.lists(st.builds(Death, st.integers(1, 4), st.booleans()), max_size=3)
"""Of the first tries; Lambda makes three of an event, and then nobody answers."""
TRIES = 3
NOBODYS_ID = "2026/11/23/[$LATEST]0123"
"""What CloudFormation makes up for a resource whose creation never answered."""


class Registering(RuleBasedStateMachine):
    """Stacks that come, go and change their names."""

    registrar: Registrar

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, str] = {}
        for row in self._rows():
            self.registrar.lake.datasets.delete_item(Key={"team": row["team"], "dataset": row["dataset"]})

    @rule(stack=STACKS, name=NAMES, deaths=DEATHS)
    def create(self, stack: str, name: str, deaths: list[Death]) -> None:
        """A stack is made, or is rolled back."""
        if stack in self.ids:
            return
        is_taken = f"air/{name}" in self.ids.values()
        answer = self._deliver("Create", stack, name, None, deaths)
        if answer is not None and answer["Status"] == "SUCCESS":
            assert not is_taken
            self.ids[stack] = answer["PhysicalResourceId"]
        else:
            assert is_taken or answer is None
            self._deliver("Delete", stack, name, answer["PhysicalResourceId"] if answer else NOBODYS_ID, [])

    @rule(stack=STACKS, name=NAMES, deaths=DEATHS)
    def rename(self, stack: str, name: str, deaths: list[Death]) -> None:
        """A stack's dataset is called otherwise: another id, and the former one is deleted at the end."""
        if stack not in self.ids:
            return
        former = self.ids[stack]
        owner = next((one for one, identity in self.ids.items() if identity == f"air/{name}"), stack)
        answer = self._deliver("Update", stack, name, former, deaths[: TRIES - 1])
        assert answer is not None
        assert (answer["Status"] == "SUCCESS") == (owner == stack)
        if answer["Status"] == "SUCCESS":
            self.ids[stack] = answer["PhysicalResourceId"]
            if former != answer["PhysicalResourceId"]:
                self._deliver("Delete", stack, former.partition("/")[2], former, [])
        else:
            self._deliver("Update", stack, former.partition("/")[2], former, [])

    @rule(stack=STACKS, deaths=DEATHS)
    def delete(self, stack: str, deaths: list[Death]) -> None:
        """A stack goes; told twice, it is gone."""
        if stack in self.ids:
            former = self.ids.pop(stack)
            for _ in range(2):
                answer = self._deliver("Delete", stack, former.partition("/")[2], former, deaths[: TRIES - 1])
                assert answer is not None
                assert answer["Status"] == "SUCCESS"

    @invariant()
    def every_name_is_its_owners(self) -> None:
        """And no row is anybody else's."""
        found = {f"air/{row['dataset']}": row["owner"].removesuffix("/Registration") for row in self._rows()}
        assert found == {identity: stack for stack, identity in self.ids.items()}

    def _deliver(self, kind: str, stack: str, name: str, physical_id: str | None, deaths: list[Death]) -> Any:
        """The answer of the first try that lives; None where all three die."""
        for death in [*(Death(one.at, one.after) for one in deaths), Death(99, after=False)][:TRIES]:
            answer = None
            with dying(death):
                properties = {**GIVEN, "Dataset": name}
                answer = self.registrar.request(kind, properties, physical_id=physical_id, stack=stack)
            if answer is not None:
                return answer
        return None

    def _rows(self) -> list[Any]:
        return list(self.registrar.lake.datasets.scan()["Items"])


@pytest.fixture
def registrar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registrar]:
    with open_lake() as lake:
        opened = Registrar(lake, monkeypatch)
        opened.upload("light.sql", "SELECT year, tailnum FROM source")
        yield opened


def test_a_name_is_its_rightful_owners(registrar: Registrar) -> None:
    machine = type("RegisteringHere", (Registering,), {"registrar": registrar})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20 * int(os.environ.get("TARN_EXPLORE", "1")),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
