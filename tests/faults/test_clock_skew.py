"""Clock skew: the order of events is S3's sequencer, of writes their conditions; no clock decides what is true."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lake import clock
from tests.integration.batch_claim_world import RealWorld, Site
from tests.integration.tables import Lake, lake, receive_all
from tests.integration.test_batch_claim import at_rest, site, stand_before, to_the_end
from tests.integration.test_route_object import handle, identity, notification, register, router

__all__ = ["lake", "router", "site"]

FUNCTIONS = Path(__file__).parents[2] / "functions"
CLOCKS = {"now", "today", "utcnow", "time", "monotonic"}
DAY = timedelta(days=1)


def calls_at_import(body: list[ast.stmt]) -> Iterator[str]:
    """Names of what is called when a module is imported: not in a function, but in its decorators and defaults."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            outer = [*statement.decorator_list, *statement.args.defaults, *filter(None, statement.args.kw_defaults)]
        elif isinstance(statement, ast.ClassDef):
            yield from calls_at_import(statement.body)
            outer = list(statement.decorator_list)
        else:
            outer = [statement]
        for node in (inner for one in outer for inner in ast.walk(one)):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield name


@pytest.mark.parametrize("module", sorted(FUNCTIONS.rglob("*.py")), ids=lambda path: str(path.relative_to(FUNCTIONS)))
def test_no_module_looks_at_a_clock_when_it_is_imported(module: Path) -> None:
    """A function lives for hours: what it took for now would be the time of its cold start."""
    assert not CLOCKS & set(calls_at_import(ast.parse(module.read_text()).body))


@pytest.mark.parametrize("skew", [-3650 * DAY, timedelta(0), 3650 * DAY], ids=["behind", "right", "ahead"])
def test_the_router_obeys_the_sequencer_whatever_any_clock_says(
    lake: Lake, router: Any, monkeypatch: pytest.MonkeyPatch, skew: timedelta
) -> None:
    """Its own clock is wrong, and so are the times that S3 puts into its events."""
    register(lake)
    right = clock.now()
    monkeypatch.setattr(clock, "now", lambda: right + skew)
    newer = notification(lake, sequencer="A2", versionId="new")
    newer["Records"][0]["eventTime"] = clock.stamp(right - DAY)
    older = notification(lake, sequencer="A1", versionId="old")
    older["Records"][0]["eventTime"] = clock.stamp(right + DAY)
    assert handle(router, newer, older) == []
    row = lake.row(identity(lake))
    assert row is not None
    assert row["version_id"] == "new"
    assert [one["version_id"] for one in receive_all(lake.sqs, lake.pipeline_queue_url)] == ["new"]


@pytest.mark.parametrize("call", ["PutObject", "DeleteMessageBatch", "StartExecution"])
@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "behind"])
def test_a_run_whose_clock_is_a_day_off_costs_work_and_nothing_else(site: Site, call: str, ahead: bool) -> None:
    """One that is ahead abandons a batch that is being made: its writer is fenced, and its objects are taken over."""
    world = RealWorld(site)
    for thing in range(3):
        world.land(thing)
    first = stand_before(world, call)
    world.now += DAY if ahead else -DAY
    world.expire()
    to_the_end(world, world.begin())
    to_the_end(world, first)
    at_rest(world, things=3)
    world.close()
