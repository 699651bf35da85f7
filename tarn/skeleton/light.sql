-- One row of ${file}, as it came: its columns by names that Athena takes, in the types that template.yaml declares.
-- What to change: names that people know; trim() and upper() where people typed; units; columns that nobody asks for.
-- What needs more than one row at a time is heavy.sql's: a query over `staged`, named as HeavyTransform in template.yaml.
SELECT
${select}
FROM source
