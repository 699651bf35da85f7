"""Schema drift: a file that is not what its dataset declared is refused by name, or by the dataset's own wish made
to fit; and what is published only ever gains columns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lake import publishing
from tests.faults.standing import Standing
from tests.integration.first_hop_world import Hop
from tests.integration.tables import Lake, lake, open_lake
from tests.integration.test_publishing import (
    CRAWLED,
    Bench,
    crawl,
    partitions,
    publish,
    published,
    transformed,
    view_columns,
)

__all__ = ["lake"]

DECLARED = "carrier,delay\nUA,1\n"


@pytest.mark.parametrize(
    ("text", "on_mismatch", "state", "said"),
    [
        pytest.param("carrier,delay,gate\nUA,1,A7\n", "quarantine", "STAGED", "not declared: gate", id="a new column"),
        pytest.param("delay,carrier\n1,UA\n", "quarantine", "STAGED", "", id="another order"),
        pytest.param("carrier,late\nUA,1\n", "quarantine", "QUARANTINED", "'delay' is missing", id="another name"),
        pytest.param("carrier,delay\nUA,1.5\n", "quarantine", "QUARANTINED", "not of type int", id="another type"),
        pytest.param("carrier,delay\nUA,1.5\n", "null", "STAGED", "1 of 'delay' became NULL", id="made NULL"),
        pytest.param(
            "carrier;delay\nUA;1\n", "quarantine", "QUARANTINED", "none of the declared", id="another separator"
        ),
    ],
)
def test_a_file_of_another_shape(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, text: str, on_mismatch: str, state: str, said: str
) -> None:
    hop = Hop(lake, monkeypatch)
    hop.register(on_mismatch=on_mismatch)
    drifted, good = hop.land("drifted.csv", text), hop.land("good.csv", DECLARED)
    assert hop.go(drifted, good) == []
    assert (hop.raw(drifted)["state"], hop.raw(good)["state"]) == (state, "STAGED")
    assert said in hop.machine.outcomes[drifted["id"]][1]


def test_a_lake_takes_drifted_files_each_by_its_own_shape(standing: Standing) -> None:
    more = standing.put("drift/more.csv", b"carrier,name,country\nAA,American Airlines Inc.,US\n")
    turned = standing.put("drift/turned.csv", b"name,carrier\nAmerican Airlines Inc.,AA\n")
    other = standing.put("drift/other.csv", b"code,name\nAA,American Airlines Inc.\n")
    standing.wait_for_state("STAGED", more, turned)
    standing.wait_for_state("QUARANTINED", other)
    assert "'carrier' is missing" in standing.row(other)["reason"]
    assert [row["rows"] for name in ("drift/more.csv", "drift/turned.csv") for row in standing.staged(name)] == [1, 1]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with open_lake() as opened:
        yield Bench(opened)


def test_a_published_table_gains_columns_and_changes_no_type(bench: Bench) -> None:
    publish(bench, transformed(bench, 1, {"p.parquet": b"a"}))
    publish(bench, transformed(bench, 2, {"p.parquet": b"a"}, columns={"flight": "int", "gate": "string"}))
    before = published(bench), partitions(bench)
    assert view_columns(bench) == ["flight", "carrier", "gate"]
    with pytest.raises(publishing.ColumnTypeChangedError, match="gate is string in the table and int in the batch"):
        publish(bench, transformed(bench, 3, {"q.parquet": b"b"}, columns={"flight": "int", "gate": "int"}))
    assert (published(bench), partitions(bench)) == before


def test_a_crawled_table_changes_no_type_either(bench: Bench) -> None:
    publish(bench, transformed(bench, 1, {"p.parquet": b"a"}, **CRAWLED))
    crawl(bench, keys=("batch",))
    before = published(bench), partitions(bench)
    with pytest.raises(publishing.ColumnTypeChangedError, match="flight is int in the table and double in the batch"):
        publish(bench, transformed(bench, 2, {"q.parquet": b"b"}, columns={"flight": "double"}, **CRAWLED))
    assert (published(bench), partitions(bench)) == before
