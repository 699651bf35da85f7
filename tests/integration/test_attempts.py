"""New attempts: what runs again when raw objects change, what a retry takes, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from lake import attempts, names, ticks
from lake.batches import NotInStateError, State
from lake.outcomes import OutcomeMissingError
from tests.integration.attempts_world import ReplacingWorld, filled
from tests.integration.batch_claim_world import TEAM, Held, Site, open_site
from tests.unit.batch_claim_machine import exploring


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with open_site() as opened:
        yield opened


def due(world: ReplacingWorld) -> str | None:
    """Why the tick gives the dataset a run."""

    class Functions:
        def invoke(self, **told: object) -> None:
            self.told = told

    lake, functions = world.site.lake, Functions()
    clients = ticks.Clients(lake.datasets, lake.batches, lake.sqs, functions, lake.objects)
    why = ticks.tick(clients, TEAM, "main", "start-batch", world.now).due.get(world.dataset)
    assert why is None or b'"claim": false' in functions.told["Payload"]
    return why


def test_a_published_object_that_changed_is_taken_out_by_a_new_attempt(site: Site) -> None:
    world = filled(site, 3)
    (row,) = world.batch_rows()
    first = world.listed(names.object_id(site.lake.stage_bucket, row["manifest"]))
    assert due(world) is None
    assert world.change(1) == "STALE"
    assert due(world) == "changed"
    assert world.run() == [f"{row['batch_id']}-2"]
    (row,) = world.batch_rows()
    assert (row["state"], row["attempt"], row["objects"], row["size"]) == ("STARTED", 2, 2, 202)
    assert row["manifest"].startswith(names.batch_prefix(TEAM, world.dataset, row["batch_id"]) + "manifest-2-")
    assert world.changed() == {1}, "it is still published"
    world.publish(world.under_way()[0])
    assert world.published() == [0, 2]
    assert [world.state(thing) for thing in range(3)] == ["PUBLISHED", "SUPERSEDED", "PUBLISHED"]
    assert world.changed() == set()
    world.manifests.clear()
    key = names.manifest_key(TEAM, world.dataset, row["batch_id"])
    assert world.listed(names.object_id(site.lake.stage_bucket, key)) == first
    assert due(world) is None
    assert world.run() == []


def test_with_keep_it_stays_and_asks_for_attention(site: Site) -> None:
    world = filled(site, 2, on_change="keep")
    world.change(1)
    assert due(world) is None
    assert world.run() == []
    assert (world.published(), world.changed()) == ([0, 1], {1})


def test_a_batch_on_its_way_is_looked_at_when_it_is_published(site: Site) -> None:
    world = ReplacingWorld(site)
    for thing in range(2):
        world.land(thing)
    world.run()
    world.change(0)
    assert world.run() == []
    world.publish(world.under_way()[0])
    assert world.published() == [0, 1]
    assert len(world.run()) == 1
    world.publish(world.under_way()[0])
    assert world.published() == [1]


def test_a_batch_that_failed_waits_for_a_person_whose_retry_leaves_it_out(site: Site) -> None:
    world = filled(site, 2)
    world.change(0)
    world.run()
    world.fail(world.under_way()[0])
    for _ in range(3):
        assert world.run() == []
    assert (world.published(), world.changed()) == ([0, 1], {0})
    world.change(1)
    assert world.run() == []
    (row,) = world.batch_rows()
    assert world.retry(row["batch_id"]).attempt == 3
    world.run()
    world.publish(world.under_way()[0])
    assert (world.published(), world.changed()) == ([], set())
    assert [world.state(thing) for thing in range(2)] == ["SUPERSEDED", "SUPERSEDED"]


def test_where_nothing_is_left_nothing_is_judged(site: Site) -> None:
    world = filled(site, 1)
    world.change(0)
    world.run()
    (row,) = world.batch_rows()
    assert (row["objects"], row["size"], row["has_rules"]) == (0, 0, False)
    world.publish(world.under_way()[0])
    assert (world.published(), world.changed()) == ([], set())


def test_what_was_published_by_keep_goes_when_the_dataset_changes_its_mind(site: Site) -> None:
    world = filled(site, 2, on_change="keep")
    world.change(0)
    site.lake.datasets.put_item(Item={**world.registration(), "on_change": "replace"})
    world.run()
    world.publish(world.under_way()[0])
    assert world.published() == [1]


def test_an_attempt_has_the_registration_and_the_rows_as_they_are_now(site: Site) -> None:
    world = filled(site, 2)
    (row,) = world.batch_rows()
    site.lake.datasets.put_item(Item={**world.registration(), "heavy_transform": "mended.sql"})
    site.lake.objects.update_item(
        Key={"id": world.identity(0)},
        UpdateExpression="SET #rows = :rows",
        ExpressionAttributeNames={"#rows": "rows"},
        ExpressionAttributeValues={":rows": 12},
    )
    batch = world.retry(row["batch_id"])
    manifest = world.manifest(names.object_id(site.lake.stage_bucket, batch.manifest_key))
    assert manifest["registration"]["heavy_transform"] == "mended.sql"
    assert {world.thing(one["id"]): one["rows"] for one in manifest["objects"]} == {0: 12, 1: 10}


def test_two_who_want_the_same_attempt_make_one(site: Site) -> None:
    world = filled(site, 2)
    world.change(0)
    (row,) = world.batch_rows()
    clients = world.clients()
    planned = [attempts.plan(clients, row, world.registration()) for _ in range(2)]
    made = [attempts.make(clients, one, world.now) for one in planned]
    assert made[0] == made[1]
    world.change(1)
    late = attempts.plan(clients, row, world.registration())
    with pytest.raises(NotInStateError, match="attempt 2"):
        attempts.make(clients, late, world.now)
    world.run()
    assert world.listed(world.under_way()[0].manifest_uri) == [1], "what lost did not change what won"


def test_a_run_that_wakes_up_late_changes_nothing(site: Site) -> None:
    """It stands before it writes its manifest, while another makes the attempt, without more, and it is published."""
    world = filled(site, 3, leased=False)
    world.change(0)
    late = world.begin()
    while late.call != "PutObject":
        assert world.step(late)
    world.change(1)
    world.run()
    world.publish(world.under_way()[0])
    to_the_end(world, late)
    assert world.under_way() == []
    assert (world.published(), world.changed()) == ([2], set())
    assert [row["attempt"] for row in world.batch_rows()] == [2]


def test_a_batch_whose_manifest_is_gone_is_named_and_holds_up_nobody(site: Site) -> None:
    world = filled(site, 2)
    world.change(0)
    (row,) = world.batch_rows()
    site.lake.s3.delete_object(Bucket=site.lake.stage_bucket, Key=row["manifest"])
    world.land(2)
    held = world.begin()
    while world.step(held):
        pass
    assert list(held.answer.not_replaced) == [row["batch_id"]]
    assert "manifest.json does not exist" in held.answer.not_replaced[row["batch_id"]]
    assert len(held.answer.committed) == 1
    with pytest.raises(OutcomeMissingError):
        world.retry(row["batch_id"])


def to_the_end(world: ReplacingWorld, held: Held) -> None:
    while world.step(held):
        pass


def settle(world: ReplacingWorld) -> None:
    """Runs, publications and retries until nothing is left to do."""
    for _ in range(12):
        world.expire()
        world.grow_old()
        for row in world.batch_rows():
            if row["state"] == State.FAILED:
                world.retry(row["batch_id"])
        world.run()
        for run in world.under_way():
            world.publish(run)
        if not world.changed() and not world.waiting() and not world.unsettled():
            return
    raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("order", ["die before", "die after", "repeat"])
def test_whichever_call_it_happens_to_the_end_is_the_same(site: Site, order: str) -> None:
    world = filled(site, 3)
    world.change(1)
    run = world.begin()
    calls = [run.call]
    while world.step(run):
        calls.append(run.call)
    assert {"Query", "BatchGetItem", "PutObject", "UpdateItem", "StartExecution"} <= {*calls}
    queries = {place for place, call in enumerate(calls) if call == "Query"}
    for place in {*range(len(calls))} - queries | {min(queries), max(queries)}:
        world = filled(site, 3)
        world.change(1)
        run = world.begin()
        for _ in range(place):
            world.step(run)
        run.tell(order)
        to_the_end(world, run)
        settle(world)
        (row,) = world.batch_rows()
        assert (row["state"], row["attempt"]) == ("PUBLISHED", 2)
        assert (world.published(), world.changed()) == ([0, 2], set())
        world.close()


STOPS = st.sampled_from(["PutObject", "BatchGetItem", "StartExecution", "the end", "the end"])
"""Where a run stands still: before a manifest is written, rows are read, an attempt is started; or at its end."""


class Replacing(RuleBasedStateMachine):
    """Objects come and change, runs meet and die, attempts end well and badly: the table ends as the raw zone is."""

    site: Site

    def __init__(self) -> None:
        super().__init__()
        self.world = ReplacingWorld(self.site, leased=False)
        self.landed: set[int] = set()
        self.gone: set[int] = set()

    @initialize()
    def an_object_of_a_published_batch_has_changed(self) -> None:
        for _ in range(3):
            self.land()
        self.world.run()
        for run in self.world.under_way():
            self.world.publish(run)
        self.gone.add(0)
        self.world.change(0)
        self.world.run()

    @precondition(lambda self: len(self.landed) < 6)
    @rule()
    def land(self) -> None:
        thing = len(self.landed)
        self.landed.add(thing)
        self.world.land(thing)

    @precondition(lambda self: self.landed - self.gone)
    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        thing = data.draw(st.sampled_from(sorted(self.landed - self.gone)))
        self.gone.add(thing)
        self.world.change(thing)

    @precondition(lambda self: len(self.going()) < 2)
    @rule(to=STOPS)
    def begin(self, to: str) -> None:
        self.go_on(self.world.begin(), to)

    @precondition(lambda self: self.going())
    @rule(data=st.data(), how=st.sampled_from(["go", "go", "repeat", "die before", "die after"]), to=STOPS)
    def step(self, data: st.DataObject, how: str, to: str) -> None:
        run = data.draw(st.sampled_from(self.going()), label="run")
        run.tell(how)
        self.go_on(run, to)

    def going(self) -> list[Held]:
        return [run for run in self.world.runs if run.call]

    def go_on(self, run: Held, to: str) -> None:
        """Up to its next call of that name, or to its end."""
        while run.call and run.call != to:
            self.world.step(run)

    @precondition(lambda self: self.world.under_way())
    @rule(data=st.data(), well=st.booleans())
    def end(self, data: st.DataObject, well: bool) -> None:
        run = data.draw(st.sampled_from(self.world.under_way()), label="attempt")
        if well:
            self.world.publish(run)
        else:
            self.world.fail(run)

    @rule()
    def expire(self) -> None:
        self.world.expire()

    def teardown(self) -> None:
        for run in self.world.runs:
            to_the_end(self.world, run)
        self.world.leased = True
        settle(self.world)
        assert self.world.published() == sorted(self.landed - self.gone)
        assert self.world.changed() == set()
        self.world.close()


def test_whatever_happens_the_table_ends_as_the_raw_zone_is(site: Site) -> None:
    machine = type("Machine", (Replacing,), {"site": site})
    run_state_machine_as_test(machine, settings=exploring(examples=12, steps=15))
