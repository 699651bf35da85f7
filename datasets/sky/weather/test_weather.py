"""The light transform of the weather: nested fields become columns, in both units."""

from pathlib import Path

from tarn import check

HERE = Path(__file__).parent


def test_an_hour_is_a_row_in_both_units() -> None:
    with check.sample_of(HERE) as sample:
        assert (sample.rows_in, sample.rows_out) == (742, 742)
        first = sample.rows()[0]
    assert (first["airport"], first["temperature_f"], first["temperature_c"]) == ("EWR", 39.02, 3.9)
    assert (first["wind_direction_degrees"], first["wind_gust_mph"]) == (270, None)
