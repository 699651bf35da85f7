"""Circles of datasets that wait for each other, and the registration's own checks of its names."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import dependencies
from lake.registration import Dataset, RegistrationError, read
from tests.unit.test_registration import GIVEN

NAMES = st.sampled_from("abcdef")
EDGES = st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=3))


@given(EDGES)
def test_a_circle_is_one_and_without_one_every_dataset_can_start(edges) -> None:
    found = dependencies.circle(edges)
    if found:
        assert found[0] == found[-1]
        assert all(after in edges[before] for before, after in pairwise(found))
        return
    started: set[str] = set()
    names = {*edges, *(name for named in edges.values() for name in named)}
    while ready := {name for name in names - started if set(edges.get(name, ())) <= started}:
        started |= ready
    assert started == names


@pytest.mark.parametrize(
    "form", [["air/planes", "air/airlines"], "air/planes, air/airlines", '["air/planes","air/airlines"]']
)
def test_names_come_in_any_form_that_a_parameter_can_have(form) -> None:
    dataset = read(Dataset, GIVEN | {"DependsOn": form, "DependsOnHours": "6", "DependsOnMaxWaitHours": "3"})
    assert dataset.depends_on == ["air/planes", "air/airlines"]
    assert (dataset.depends_on_hours, dataset.depends_on_max_wait_hours) == (6, 3)


def test_a_wait_is_bounded_by_how_long_the_queue_keeps_what_waits() -> None:
    with pytest.raises(RegistrationError, match="DependsOnMaxWaitHours: given '241'; input should be less than"):
        read(Dataset, GIVEN | {"DependsOnMaxWaitHours": "241"})


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("planes", "must be TEAM/DATASET"),
        ("sky/weather", "given 'sky/weather'; must be another dataset of team air"),
        ("air/flights", "given 'air/flights'; must be another dataset of team air"),
        ("air/planes,air/planes", "DependsOn: given air/planes twice"),
    ],
)
def test_a_name_that_cannot_be_waited_for_is_refused(named, says) -> None:
    with pytest.raises(RegistrationError) as refused:
        read(Dataset, GIVEN | {"DependsOn": named})
    assert "DependsOn" in str(refused.value)
    assert says in str(refused.value)
