-- One row a reading, as it came.
SELECT object, put, line, amount FROM source
