-- One row an airline, by its carrier code, with the name that people use beside the company's.
SELECT
    upper(trim(carrier)) AS carrier,
    trim(name) AS name,
    regexp_replace(trim(name), '[ ,]+(Inc\.?|Co\.?|Corporation)$', '') AS short_name
FROM source
