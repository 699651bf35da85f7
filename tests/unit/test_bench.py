"""The benchmarks run, and believe no way that did not do the work."""

from io import StringIO
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from bench import light_transform


@pytest.mark.parametrize("form", light_transform.FORMATS)
def test_each_format_is_converted_in_both_ways(form: str):
    told: list[None] = []

    figure = light_transform.measure(form, rows=5, rounds=2, advance=lambda: told.append(None))

    assert (figure.rows, len(figure.pairs), len(told)) == (5, 2, 3)
    assert all(ratio > 0 for ratio in figure.ratios)


def test_a_way_that_leaves_rows_out_is_no_figure(tmp_path: Path):
    target = tmp_path / "out.parquet"

    def half() -> None:
        duckdb.sql("FROM range(5)").write_parquet(str(target))

    with pytest.raises(ValueError, match=r"half wrote .*5.* rows of 10"):
        light_transform.seconds(half, target, 10)


def test_a_figure_is_the_median_of_neighbours_ratios():
    screen = StringIO()
    figure = light_transform.Figure("csv", 10_000, 512_000, ((0.2, 0.1), (0.9, 0.3), (0.4, 0.1)))

    light_transform.show(Console(file=screen, width=80), [figure])

    (line,) = [line.split() for line in screen.getvalue().splitlines() if "csv" in line]
    assert line == ["csv", "10,000", "500", "400.0", "100.0", "3.0", "2.0", "to", "4.0"]
