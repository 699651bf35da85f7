-- Two partitions a batch, so that a batch is published in more than one step.
SELECT object, put, line, amount, CAST(line % 2 AS INT) AS half FROM staged
