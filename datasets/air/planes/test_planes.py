"""The light transform of the aircraft: every row of the sample, with one name a maker."""

from pathlib import Path

from tarn import check

HERE = Path(__file__).parent


def test_a_maker_has_one_name() -> None:
    with check.sample_of(HERE) as sample:
        assert (sample.rows_in, sample.rows_out) == (3322, 3322)
        makers = [row["manufacturer"] for row in sample.rows()]
    assert makers.count("AIRBUS") == 736
    assert not {"AIRBUS INDUSTRIE", "BOMBARDIER INC"} & set(makers)


def test_what_is_not_known_is_null() -> None:
    with check.sample_of(HERE) as sample:
        rows = sample.rows()
    assert sum(row["built"] is None for row in rows) == 70
    assert sum(row["speed_mph"] is not None for row in rows) == 23
