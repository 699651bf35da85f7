-- What needs more than one row, or a decision: how busy an airport was in the hour of a flight, whether it was in time,
-- and how fast it was. A batch holds whole days, so an hour at an airport is never split between two batches.
SELECT
    staged.*,
    arr_delay < 15 AS on_time,
    round(distance * 60 / nullif(air_time, 0), 1) AS miles_per_hour,
    count(*) OVER (PARTITION BY origin, date_trunc('HOUR', scheduled_departure_utc)) AS departures_in_hour,
    sum(CASE WHEN cancelled THEN 1 ELSE 0 END) OVER (PARTITION BY origin, flight_date) AS cancelled_that_day
FROM staged
