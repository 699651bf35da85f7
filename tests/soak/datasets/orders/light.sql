-- One row a line of an order, as it came.
SELECT object, put, line, amount FROM source
