-- One row an hour at an airport, in metric units beside the station's own. `source` has the nested fields by their path:
-- `air.temp_f` is `air_temp_f`.
SELECT
    CAST(time_hour AS DATE) AS observed_on,
    time_hour AS observed_at_utc,
    upper(trim(origin)) AS airport,
    air_temp_f AS temperature_f,
    round((air_temp_f - 32) * 5 / 9, 1) AS temperature_c,
    air_dew_point_f AS dew_point_f,
    air_humidity_percent AS humidity_percent,
    air_pressure_millibars AS pressure_millibars,
    wind_direction_degrees,
    wind_speed_mph,
    round(wind_speed_mph * 1.609344, 1) AS wind_speed_kmh,
    wind_gust_mph,
    precipitation_inches,
    visibility_miles
FROM source
