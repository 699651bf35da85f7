"""The example datasets' light transforms, over every sample file."""

# ruff: noqa: S608 - the SQL is ours, about files of ours

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from lake.file_schema import schema_of
from lake.light_transform import Limits, transform
from tarn import registered

ROWS = {"flights": (31, 27_004), "airports": (1, 1_458), "airlines": (1, 16), "weather": (3, 2_226)}
TEAMS = {"weather": "sky"}


def folder_of(dataset: str) -> Path:
    return registered.DATASETS / TEAMS.get(dataset, "air") / dataset


@pytest.fixture(scope="module", params=list(ROWS))
def staged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A dataset, and the pattern of the Parquet files of all its samples."""
    dataset = request.param
    folder = tmp_path_factory.mktemp(dataset)
    sql = (folder_of(dataset) / "light.sql").read_text()
    schema = schema_of(registered.read(folder_of(dataset)).row)
    files = sorted((folder_of(dataset) / "samples").iterdir())
    rows = 0
    for file in files:
        shutil.copy(file, folder / "raw")
        done = transform(
            folder / "raw",
            folder / f"{file.stem}.parquet",
            schema,
            sql,
            Limits(memory_mib=256, spill_mib=256, threads=1, seconds=60),
        )
        assert (done.rows_in, done.nulled, done.extra) == (done.rows_out, {}, ())
        rows += done.rows_out
    assert (len(files), rows) == ROWS[dataset]
    return dataset, f"{folder}/*.parquet"


CHECKS = {
    "flights": {
        "count(DISTINCT flight_date)": 31,
        "min(flight_date)::VARCHAR": "2013-01-01",
        "max(flight_date)::VARCHAR": "2013-01-31",
        "count(*) FILTER (cancelled)": 521,
        "count(*) FILTER (cancelled AND (dep_delay IS NOT NULL OR departure_utc IS NOT NULL))": 0,
        "count(*) FILTER (NOT cancelled AND dep_delay IS NULL)": 0,
        # New York is five hours behind UTC all January, and the delay leads from the schedule to the departure.
        "count(*) FILTER (scheduled_departure_utc - scheduled_departure_local <> INTERVAL 5 HOUR)": 0,
        "count(*) FILTER (departure_utc - scheduled_departure_utc <> to_minutes(dep_delay))": 0,
        "count(*) FILTER (tailnum = 'NA' OR carrier IS NULL OR origin NOT IN ('EWR', 'JFK', 'LGA'))": 0,
        "typeof(any_value(dep_delay))": "INTEGER",
        "typeof(any_value(departure_utc))": "TIMESTAMP",
        "typeof(any_value(flight_date))": "DATE",
    },
    "airports": {
        "count(DISTINCT faa)": 1458,
        "count(*) FILTER (latitude IS NULL OR longitude IS NULL)": 0,
        "count(*) FILTER (daylight_saving IS NULL)": 0,
        "count(*) FILTER (time_zone IS NULL)": 3,
        "typeof(any_value(altitude_feet))": "INTEGER",
    },
    "airlines": {
        "count(DISTINCT carrier)": 16,
        "max(name) FILTER (carrier = 'FL')": "AirTran Airways Corporation",
        "max(short_name) FILTER (carrier = 'FL')": "AirTran Airways",
        "max(short_name) FILTER (carrier = 'WN')": "Southwest Airlines",
    },
    "weather": {
        "count(DISTINCT (airport, observed_at_utc))": 2226,
        "min(observed_on)::VARCHAR": "2013-01-01",
        "count(*) FILTER (temperature_f IS NULL)": 0,
        "count(*) FILTER (wind_gust_mph IS NULL)": 1691,
        "count(*) FILTER (abs(temperature_c - (temperature_f - 32) / 1.8) > 0.06)": 0,
        "typeof(any_value(wind_direction_degrees))": "INTEGER",
    },
}


def test_what_is_staged_makes_sense(staged: tuple[str, str]) -> None:
    dataset, files = staged
    found = duckdb.connect().execute(f"SELECT {', '.join(CHECKS[dataset])} FROM '{files}'").fetchall()[0]
    assert dict(zip(CHECKS[dataset], found, strict=True)) == CHECKS[dataset]
