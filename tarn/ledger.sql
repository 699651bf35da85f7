-- What a survey of a lake reads, and the questions that tarn reconcile asks about it. Times are the lake's own stamps,
-- which compare as text. What a row or a listing does not tell is NULL.

-- One row: the moment up to which things are judged (what is younger is on its way), and where the ids of each zone begin.
CREATE TABLE asked (cut VARCHAR, raw VARCHAR, stage VARCHAR, analytics VARCHAR);

-- What S3 says of a key: its live version, or that it is gone (under a delete marker).
CREATE TABLE listed (zone VARCHAR, id VARCHAR, version_id VARCHAR, etag VARCHAR, size BIGINT, moment VARCHAR, gone BOOLEAN);

-- What the object catalog says; the names are its attributes.
CREATE TABLE rows (
    id VARCHAR, zone VARCHAR, team VARCHAR, dataset VARCHAR, state VARCHAR, size BIGINT, etag VARCHAR,
    version_id VARCHAR, sequencer VARCHAR, seen VARCHAR, event_time VARCHAR, staged_id VARCHAR, batch_id VARCHAR,
    source_id VARCHAR, source_version_id VARCHAR
);

-- Registered datasets; what is staged since late should be in a batch.
CREATE TABLE places (team VARCHAR, dataset VARCHAR, late VARCHAR);

CREATE TABLE batches (
    team VARCHAR, dataset VARCHAR, batch_id VARCHAR, state VARCHAR, moment VARCHAR, has_manifest BOOLEAN,
    has_receipt BOOLEAN
);

-- What the manifests of committed batches list, and the receipts of published ones.
CREATE TABLE held (
    team VARCHAR, dataset VARCHAR, batch_id VARCHAR, id VARCHAR, size BIGINT, rows BIGINT, sequencer VARCHAR,
    version_id VARCHAR
);
CREATE TABLE receipted (team VARCHAR, dataset VARCHAR, batch_id VARCHAR, id VARCHAR, size BIGINT);
CREATE TABLE wanted_partitions (
    team VARCHAR, dataset VARCHAR, batch_id VARCHAR, folder VARCHAR, meant VARCHAR, spelled VARCHAR
);

-- The Glue Data Catalog.
CREATE TABLE partitions (team VARCHAR, dataset VARCHAR, batch_id VARCHAR, spelled VARCHAR);

-- Identities that are to be read again.
CREATE TABLE suspects (id VARCHAR);

CREATE VIEW raw_findings AS
WITH found AS (
    SELECT coalesce(l.id, r.id) AS id, l.size, l.etag, coalesce(l.version_id, r.version_id) AS version_id,
           coalesce(l.moment, r.event_time) AS moment, r.team, r.dataset, r.sequencer, r.seen, r.staged_id,
           CASE WHEN r.id IS NULL THEN 'no row'
                WHEN l.id IS NULL OR l.gone THEN 'no object'
                WHEN r.state = 'DELETED' THEN 'deleted'
                WHEN l.version_id <> r.version_id
                  OR (l.version_id IS NULL OR r.version_id IS NULL)
                     AND (l.etag IS DISTINCT FROM r.etag OR l.size IS DISTINCT FROM r.size) THEN 'other version'
                WHEN r.state = 'LANDED' THEN 'landed'
                WHEN r.state = 'UNROUTED' AND p.team IS NOT NULL THEN 'unrouted'
                WHEN r.state = 'STAGED' AND s.id IS NULL AND h.id IS NULL THEN 'no staged row'
           END AS what
    FROM (SELECT * FROM listed WHERE zone = 'raw') l
    FULL JOIN (SELECT * FROM rows WHERE zone = 'raw') r ON r.id = l.id
    LEFT JOIN places p ON p.team = r.team AND p.dataset = r.dataset
    LEFT JOIN rows s ON s.id = r.staged_id
    LEFT JOIN held h ON h.id = r.staged_id
    WHERE coalesce(l.moment, '') <= (SELECT cut FROM asked)
      AND coalesce(r.event_time, '') <= (SELECT cut FROM asked)
      AND NOT (r.id IS NULL AND (l.gone OR (l.size = 0 AND regexp_matches(l.id, '(/|_\$folder\$)$'))))
      AND NOT (coalesce(r.state, '') = 'DELETED' AND (l.id IS NULL OR l.gone))
)
SELECT * FROM found WHERE what IS NOT NULL;

-- Whatever was staged, with its raw object: by its row or, where that is lost, by its key (names.stage_key wrote it).
CREATE VIEW staged AS
SELECT k.id, s.state, s.source_version_id, s.state IS NULL OR s.state IN ('STAGED', 'BATCHED', 'PUBLISHED') AS stands,
       coalesce(s.source_id, a.raw || regexp_extract(k.id, '^s3://[^/]+/(.*)~[0-9a-f]{32}\.parquet$', 1)) AS source_id,
       coalesce(s.sequencer, regexp_extract(k.id, '~([0-9a-f]{32})\.parquet$', 1)) AS sequencer
FROM (
    SELECT id FROM listed WHERE zone = 'stage' UNION SELECT id FROM rows WHERE zone = 'stage' UNION SELECT id FROM held
) k
CROSS JOIN asked a
LEFT JOIN rows s ON s.id = k.id;

-- Raw findings, with what was last staged of each: ever, and still standing.
CREATE VIEW raw_and_staged AS
SELECT f.*, l.ever, l.standing, l.standing_id, l.standing_version
FROM raw_findings f
LEFT JOIN (
    SELECT source_id, max(sequencer) AS ever, max(sequencer) FILTER (WHERE stands) AS standing,
           arg_max(id, sequencer) FILTER (WHERE stands) AS standing_id,
           arg_max(coalesce(source_version_id, ''), sequencer) FILTER (WHERE stands) AS standing_version
    FROM staged GROUP BY source_id
) l ON l.source_id = f.id;

CREATE VIEW stage_findings AS
WITH found AS (
    SELECT r.*, s.state AS source_state, s.staged_id AS source_staged_id, s.sequencer AS source_sequencer,
           s.size AS source_size, s.etag AS source_etag, s.version_id AS source_version,
           s.event_time AS source_event_time,
           CASE WHEN r.state = 'STAGED' AND r.batch_id IS NULL AND l.id IS NOT NULL THEN 'in no batch'
                WHEN r.state = 'STAGED' AND r.batch_id IS NULL THEN 'no file yet'
                WHEN r.state = 'BATCHED' AND b.batch_id IS NULL THEN 'no batch'
                WHEN r.state = 'BATCHED' AND b.state = 'ABANDONED' THEN 'in no batch'
                WHEN r.state IN ('BATCHED', 'PUBLISHED') AND l.id IS NULL THEN 'no file'
                WHEN r.state = 'BATCHED' AND b.state = 'PUBLISHED' THEN 'behind'
           END AS what
    FROM rows r
    JOIN places p ON p.team = r.team AND p.dataset = r.dataset
    LEFT JOIN (SELECT * FROM listed WHERE zone = 'stage') l ON l.id = r.id
    LEFT JOIN batches b ON b.team = r.team AND b.dataset = r.dataset AND b.batch_id = r.batch_id
    LEFT JOIN rows s ON s.id = r.source_id
    WHERE r.zone = 'stage' AND greatest(coalesce(r.event_time, ''), coalesce(l.moment, '')) <= p.late
      AND coalesce(b.moment, '') <= (SELECT cut FROM asked)
)
SELECT * FROM found WHERE what IS NOT NULL;

-- Staged objects of committed batches whose rows are lost.
CREATE VIEW lost_rows AS
SELECT h.*, b.state, k.source_id, s.sequencer AS source_sequencer, s.version_id AS source_version_id,
       s.state AS source_state
FROM held h
JOIN batches b ON b.team = h.team AND b.dataset = h.dataset AND b.batch_id = h.batch_id
JOIN staged k ON k.id = h.id
LEFT JOIN rows r ON r.id = h.id
LEFT JOIN rows s ON s.id = k.source_id
WHERE r.id IS NULL AND b.moment <= (SELECT cut FROM asked);

-- Files of the stage zone that nothing names. Those of a raw object whose row is lost are its finding's to settle.
CREATE VIEW stage_files AS
SELECT l.id, l.moment
FROM listed l
JOIN staged k ON k.id = l.id
LEFT JOIN rows r ON r.id = l.id
LEFT JOIN rows s ON s.id = k.source_id
LEFT JOIN listed o ON o.id = k.source_id AND NOT o.gone
WHERE l.zone = 'stage' AND r.id IS NULL AND l.moment <= (SELECT cut FROM asked)
  AND l.id NOT IN (SELECT id FROM held)
  AND NOT (s.id IS NULL AND o.id IS NOT NULL)
  AND s.staged_id IS DISTINCT FROM l.id;

CREATE VIEW unfinished AS
SELECT * FROM batches WHERE state IN ('OPEN', 'READY') AND moment <= (SELECT cut FROM asked);

-- Published batches that are not as their receipts say.
CREATE VIEW published_findings AS
WITH files AS (SELECT * FROM listed WHERE zone = 'analytics'),
faults AS (
    SELECT f.team, f.dataset, f.batch_id, 'lost' AS fault
    FROM receipted f LEFT JOIN files l ON l.id = f.id WHERE l.id IS NULL OR l.size <> f.size
    UNION ALL
    SELECT f.team, f.dataset, f.batch_id, 'no row'
    FROM receipted f LEFT JOIN rows r ON r.id = f.id WHERE r.state IS DISTINCT FROM 'PUBLISHED'
    UNION ALL
    SELECT w.team, w.dataset, w.batch_id, 'extra'
    FROM files l JOIN wanted_partitions w ON w.folder = regexp_replace(l.id, '[^/]*$', '')
    LEFT JOIN receipted f ON f.id = l.id WHERE f.id IS NULL
    UNION ALL
    SELECT w.team, w.dataset, w.batch_id, 'no partition'
    FROM wanted_partitions w
    LEFT JOIN partitions p ON p.team = w.team AND p.dataset = w.dataset AND p.spelled IN (w.meant, w.spelled)
    WHERE p.spelled IS NULL
    UNION ALL
    SELECT team, dataset, batch_id, 'no receipt' FROM batches WHERE NOT has_receipt AND state = 'PUBLISHED'
),
unstaged AS (
    SELECT h.team, h.dataset, h.batch_id, count(*) AS count
    FROM held h LEFT JOIN listed l ON l.id = h.id WHERE l.id IS NULL GROUP BY ALL
)
SELECT b.*, count(*) FILTER (WHERE fault = 'lost') AS lost, count(*) FILTER (WHERE fault = 'no row') AS rowless,
       count(*) FILTER (WHERE fault = 'extra') AS extra, count(*) FILTER (WHERE fault = 'no partition') AS unregistered,
       coalesce(any_value(u.count), 0) AS unstaged
FROM batches b
JOIN faults f ON f.team = b.team AND f.dataset = b.dataset AND f.batch_id = b.batch_id
LEFT JOIN unstaged u ON u.team = b.team AND u.dataset = b.dataset AND u.batch_id = b.batch_id
WHERE b.state = 'PUBLISHED' AND b.moment <= (SELECT cut FROM asked)
GROUP BY ALL;

-- Batches whose files and partitions are on their way, or put right by a new attempt.
CREATE VIEW moving AS
SELECT batch_id FROM batches
WHERE state IN ('READY', 'STARTED')
   OR (state = 'PUBLISHED' AND (NOT has_receipt OR moment > (SELECT cut FROM asked)));

CREATE VIEW nobodys_files AS
SELECT l.id, b.batch_id, b.state, p.team, p.dataset
FROM listed l
JOIN places p ON starts_with(l.id, (SELECT analytics FROM asked) || p.team || '/' || p.dataset || '/')
LEFT JOIN batches b ON b.team = p.team AND b.dataset = p.dataset
                   AND b.batch_id = regexp_extract(l.id, 'batch=([^/]+)/[^/]*$', 1)
WHERE l.zone = 'analytics' AND l.moment <= (SELECT cut FROM asked)
  AND regexp_replace(l.id, '[^/]*$', '') NOT IN (SELECT folder FROM wanted_partitions)
  AND (b.batch_id IS NULL OR b.batch_id NOT IN (SELECT batch_id FROM moving));

CREATE VIEW nobodys_partitions AS
SELECT p.team, p.dataset, p.spelled
FROM partitions p
LEFT JOIN wanted_partitions w ON w.team = p.team AND w.dataset = p.dataset AND p.spelled IN (w.meant, w.spelled)
WHERE w.folder IS NULL AND p.batch_id NOT IN (SELECT batch_id FROM moving);
