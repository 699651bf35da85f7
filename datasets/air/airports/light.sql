-- One row an airport, by its FAA code, with its daylight saving rule in words.
SELECT
    upper(trim(faa)) AS faa,
    trim(name) AS name,
    lat AS latitude,
    lon AS longitude,
    alt AS altitude_feet,
    tz AS utc_offset_hours,
    CASE dst WHEN 'A' THEN 'US' WHEN 'N' THEN 'none' WHEN 'U' THEN 'unknown' END AS daylight_saving,
    tzone AS time_zone
FROM source
