-- One row a flight: a date, real times and whole minutes instead of the file's hhmm numbers.
-- `hour` and `minute` are the schedule on the airport's clock, `time_hour` is the same hour in UTC. A departure is the
-- schedule moved by its delay, because the number in `dep_time` does not tell a flight that left after midnight.
-- A flight without departure time was cancelled; its delays and times are NULL.
SELECT
    make_date(year, month, day) AS flight_date,
    upper(trim(carrier)) AS carrier,
    flight,
    upper(trim(tailnum)) AS tailnum,
    upper(trim(origin)) AS origin,
    upper(trim(dest)) AS dest,
    make_timestamp(year, month, day, hour, minute, 0) AS scheduled_departure_local,
    time_hour + to_minutes(minute) AS scheduled_departure_utc,
    make_timestamp(year, month, day, hour, minute, 0) + to_minutes(dep_delay) AS departure_local,
    time_hour + to_minutes(minute) + to_minutes(dep_delay) AS departure_utc,
    sched_arr_time AS scheduled_arrival_hhmm,
    arr_time AS arrival_hhmm,
    dep_delay,
    arr_delay,
    air_time,
    distance,
    dep_time IS NULL AS cancelled
FROM source
