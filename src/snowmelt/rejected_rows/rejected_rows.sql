-- Rows that were refused, and what becomes of them later.

-- name: insert_rejected_rows
-- Rejected rows of a chunk, each with the reason.
INSERT INTO migration_status.rejected_rows
    (run_id, table_id, chunk_id, row_number, column_name, sqlstate, reason, reason_in_full, row_content)
SELECT %(run_id)s, %(table_id)s, %(chunk_id)s, r.*
FROM unnest(%(row_numbers)s::bigint[], %(columns)s::text[], %(sqlstates)s::text[], %(reasons)s::text[],
            %(reasons_in_full)s::text[], %(contents)s::bytea[])
     AS r (row_number, column_name, sqlstate, reason, reason_in_full, row_content)

-- name: rejection_reasons
-- Why rows of a run were rejected, a reason once, with how many share it and where the first is.
SELECT t.source_table, r.column_name, min(r.reason) AS reason, count(*) AS rows, min(r.chunk_id) AS chunk_id,
       min(r.row_number) AS row_number
FROM migration_status.rejected_rows r
JOIN migration_status.chunks c USING (run_id, table_id, chunk_id)
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE r.run_id = %(run_id)s AND c.status = 'completed'
  AND (%(table_id)s::integer IS NULL OR r.table_id = %(table_id)s::integer)
GROUP BY t.source_table, t.table_id, r.column_name, r.sqlstate, left(regexp_replace(r.reason, '\[value [0-9a-f]+\]', '[value]', 'g'), 60)
ORDER BY count(*) DESC, t.table_id, min(r.chunk_id), min(r.row_number)
LIMIT 5

-- name: rejected_rows
-- The rejected rows of a run, or those of one table, in the order in which they came.
SELECT t.source_table, r.table_id, r.chunk_id, r.row_number, r.column_name, r.sqlstate, r.reason,
       coalesce(r.reason_in_full, r.reason) AS reason_in_full, r.row_content
FROM migration_status.rejected_rows r
JOIN migration_status.chunks c USING (run_id, table_id, chunk_id)
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE r.run_id = %(run_id)s AND c.status = 'completed'
  AND (%(table)s::text IS NULL OR upper(t.source_table) = upper(%(table)s::text))
  AND (%(chunk_id)s::integer IS NULL OR (r.table_id, r.chunk_id) = (%(table_id)s::integer, %(chunk_id)s::integer))
ORDER BY r.table_id, r.chunk_id, r.row_number

-- name: chunks_with_rejects
-- Chunks of a table with rejected rows.
SELECT chunk_id FROM migration_status.chunks
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'completed' AND rejected_rows > 0
ORDER BY chunk_id

-- name: lock_rejected_rows
-- These rows of a chunk, if they are still out; whoever else replays them waits.
SELECT row_number, column_name, sqlstate FROM migration_status.rejected_rows
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s
  AND row_number = ANY (%(row_numbers)s::bigint[])
ORDER BY row_number FOR UPDATE

-- name: loaded_since
-- The run that has brought rows into the table's target after this one.
SELECT later.run_id
FROM migration_status.run_tables t
JOIN migration_status.runs r USING (run_id)
JOIN migration_status.run_tables later
  ON (later.target_schema, later.target_table) = (t.target_schema, t.target_table) AND later.run_id <> t.run_id
JOIN migration_status.runs after ON after.run_id = later.run_id AND after.started_at > r.started_at
WHERE t.run_id = %(run_id)s AND t.table_id = %(table_id)s
  AND (later.source_table = t.source_table OR NOT later.adds_only)
  AND later.status IN ('loading', 'finalizing', 'completed', 'failed')
ORDER BY after.started_at DESC LIMIT 1

-- name: forget_rejected_rows
-- Rows that are in now.
DELETE FROM migration_status.rejected_rows
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s
  AND row_number = ANY (%(row_numbers)s::bigint[])

-- name: expire_rejected_rows
-- Remove rejected rows of a source's ended runs that are older than that, and count them in their chunks. Of each table, how
-- many were removed. Rows that are being replayed are left to the next time.
WITH expired AS (
    SELECT x.run_id, x.table_id, x.chunk_id, x.row_number
    FROM migration_status.rejected_rows x
    JOIN migration_status.runs r USING (run_id)
    WHERE r.source_name = %(source_name)s AND r.status <> 'running' AND x.rejected_at < now() - %(older_than)s::interval
    FOR UPDATE OF x SKIP LOCKED
), removed AS (
    DELETE FROM migration_status.rejected_rows x USING expired e
    WHERE (x.run_id, x.table_id, x.chunk_id, x.row_number) = (e.run_id, e.table_id, e.chunk_id, e.row_number)
    RETURNING x.run_id, x.table_id, x.chunk_id
), counted AS (
    SELECT run_id, table_id, chunk_id, count(*) AS rows FROM removed GROUP BY run_id, table_id, chunk_id
), noted AS (
    UPDATE migration_status.chunks c SET expired_rows = c.expired_rows + n.rows
    FROM counted n WHERE (c.run_id, c.table_id, c.chunk_id) = (n.run_id, n.table_id, n.chunk_id)
    RETURNING c.run_id, c.table_id, n.rows
)
SELECT t.run_id, t.source_table, sum(n.rows)::bigint AS rows
FROM noted n
JOIN migration_status.run_tables t USING (run_id, table_id)
JOIN migration_status.runs r USING (run_id)
GROUP BY t.run_id, t.source_table, t.table_id, r.started_at
ORDER BY r.started_at, t.run_id, t.table_id

-- name: expired_rows
-- How many rejected rows of each table of a run, or of one of them, are not kept any more.
SELECT t.run_id, t.source_table, sum(c.expired_rows)::bigint AS rows
FROM migration_status.chunks c
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE c.run_id = %(run_id)s AND c.status = 'completed' AND c.expired_rows > 0
  AND (%(table)s::text IS NULL OR upper(t.source_table) = upper(%(table)s::text))
  AND (%(table_id)s::integer IS NULL OR t.table_id = %(table_id)s::integer)
GROUP BY t.run_id, t.source_table, t.table_id
ORDER BY t.table_id

-- name: explain_rejected_rows
-- Why rows are refused once more; they expire as they would have otherwise.
UPDATE migration_status.rejected_rows r
SET column_name = n.column_name, sqlstate = n.sqlstate, reason = n.reason, reason_in_full = n.reason_in_full
FROM unnest(%(row_numbers)s::bigint[], %(columns)s::text[], %(sqlstates)s::text[], %(reasons)s::text[],
            %(reasons_in_full)s::text[])
     AS n (row_number, column_name, sqlstate, reason, reason_in_full)
WHERE r.run_id = %(run_id)s AND r.table_id = %(table_id)s AND r.chunk_id = %(chunk_id)s AND r.row_number = n.row_number

-- name: count_replayed
-- A chunk's counts still add up to the rows that were read.
UPDATE migration_status.chunks
SET rejected_rows = rejected_rows - %(rows)s, inserted_rows = inserted_rows + %(inserted)s,
    updated_rows = updated_rows + %(updated)s, unchanged_rows = unchanged_rows + %(unchanged)s,
    deduplicated_rows = deduplicated_rows + %(deduplicated)s,
    kept_newer_rows = coalesce(kept_newer_rows, 0) + %(kept_newer)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s

-- name: complete_without_rejects
-- A run whose rows are all in after all.
UPDATE migration_status.runs r SET status = 'completed'
WHERE r.run_id = %(run_id)s AND r.status = 'completed_with_rejects'
  AND NOT EXISTS (SELECT FROM migration_status.chunks c
                  WHERE c.run_id = r.run_id AND c.status = 'completed' AND c.rejected_rows > 0)
