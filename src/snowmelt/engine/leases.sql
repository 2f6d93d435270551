-- Chunks, and who may complete them.

-- name: insert_chunks
-- The chunks of a table, all of them pending.
INSERT INTO migration_status.chunks (run_id, table_id, chunk_id, source_table, reads, estimated_rows)
SELECT %(run_id)s, %(table_id)s, c.chunk_id, %(source_table)s, c.reads, c.estimated_rows
FROM unnest(%(chunk_ids)s::integer[], %(reads)s::jsonb[], %(estimated_rows)s::bigint[]) AS c (chunk_id, reads, estimated_rows)

-- name: claim_chunk
-- A lease on a pending chunk, bound to this session; no row when there is nothing to claim.
UPDATE migration_status.chunks c
SET status = 'running', attempts = attempts + 1, lease_token = gen_random_uuid(),
    lease_until = clock_timestamp() + %(seconds)s * interval '1 second',
    backend_pid = pg_backend_pid(),
    backend_start = (SELECT a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()),
    started_at = clock_timestamp(), spent_seconds = NULL, error_code = NULL, error_text = NULL
FROM migration_status.run_tables t
WHERE c.run_id = %(run_id)s AND c.table_id = %(table_id)s AND c.chunk_id = %(chunk_id)s AND c.status = 'pending'
  AND t.run_id = c.run_id AND t.table_id = c.table_id AND t.status = 'loading'
RETURNING c.lease_token::text AS lease_token, t.load_epoch, c.reads, c.attempts

-- name: hold_table
-- The table is still being loaded in the epoch the lease was given in, and stays so until this transaction ends; and
-- whether its target, which the rows that are in keep from being altered, has the columns that the worker began with, and is
-- still the table, with the columns, that the load began with.
SELECT table_id,
       coalesce(%(target_columns)s::jsonb <@ (SELECT jsonb_object_agg(a.attname, format('%%s %%s', a.atttypid, a.atttypmod))
                                   FROM pg_attribute a
                                   WHERE a.attrelid = to_regclass(format('%%I.%%I', target_schema, target_table))
                                     AND a.attnum > 0 AND NOT a.attisdropped),
                %(target_columns)s::jsonb IS NULL) AS is_unaltered,
       coalesce(target_identity->>'oid' = to_regclass(format('%%I.%%I', target_schema, target_table))::oid::text
                AND target_identity->'columns' <@ (SELECT jsonb_object_agg(a.attname, a.attnum)
                                                   FROM pg_attribute a
                                                   WHERE a.attrelid = to_regclass(format('%%I.%%I', target_schema, target_table))
                                                     AND a.attnum > 0 AND NOT a.attisdropped),
                target_identity IS NULL) AS is_same
FROM migration_status.run_tables
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND load_epoch = %(load_epoch)s AND status = 'loading'
FOR SHARE

-- name: columns_as_they_are
-- The types of some columns of a table, to be compared with what they are later.
SELECT jsonb_object_agg(a.attname, format('%%s %%s', a.atttypid, a.atttypmod))::text AS target_columns
FROM pg_attribute a
WHERE a.attrelid = to_regclass(format('%%I.%%I', %(schema_name)s::text, %(table_name)s::text))
  AND a.attname = ANY (%(columns)s) AND a.attnum > 0 AND NOT a.attisdropped

-- name: complete_chunk
-- The mark that the chunk's rows are in; commits with them. No row when the lease is no longer valid.
UPDATE migration_status.chunks
SET status = 'completed', completed_at = clock_timestamp(), actual_rows = %(rows)s, size_bytes = %(size_bytes)s,
    load_mode = %(load_mode)s, inserted_rows = %(inserted)s, updated_rows = %(updated)s,
    unchanged_rows = %(unchanged)s, kept_newer_rows = %(kept_newer)s, deduplicated_rows = %(deduplicated)s, changed_values = %(changes)s::jsonb,
    rejected_rows = %(rejected)s,
    lease_token = NULL, lease_until = NULL
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s
  AND lease_token = %(lease_token)s::uuid AND status = 'running'
RETURNING chunk_id

-- name: release_chunk
-- Hand a chunk back; the attempt is not counted.
UPDATE migration_status.chunks
SET status = 'pending', attempts = attempts - 1, lease_token = NULL, lease_until = NULL,
    spent_seconds = %(spent_seconds)s, error_code = %(error_code)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s
  AND lease_token = %(lease_token)s::uuid AND status = 'running'
RETURNING chunk_id

-- name: fail_attempt
-- The attempt failed; the chunk is planned again until its attempts are used up.
UPDATE migration_status.chunks
SET status = CASE WHEN attempts >= %(max_attempts)s THEN 'failed' ELSE 'pending' END,
    lease_token = NULL, lease_until = NULL, error_code = %(error_code)s, error_text = %(error_text)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s
  AND lease_token = %(lease_token)s::uuid AND status = 'running'
RETURNING status

-- name: this_backend
-- This session, in a way that no later one is mistaken for it.
SELECT a.pid, a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()

-- name: running_chunks
-- Every lease that is out, and whether its session lives and its time is over, by the server's clock.
SELECT c.table_id, c.chunk_id, c.lease_token::text AS lease_token, c.attempts, c.backend_pid, c.backend_start,
       c.lease_until <= clock_timestamp() AS expired,
       greatest(0, extract(epoch FROM c.lease_until - clock_timestamp()))::double precision AS seconds_left,
       EXISTS (SELECT FROM pg_stat_activity a
               WHERE a.pid = c.backend_pid AND coalesce(a.backend_start = c.backend_start, true)) AS backend_alive
FROM migration_status.chunks c
WHERE c.run_id = %(run_id)s AND c.status = 'running'
ORDER BY c.table_id, c.chunk_id

-- name: terminate_backend
-- End the session a lease is bound to, and no other that was given the same pid.
SELECT pg_terminate_backend(a.pid) AS ended FROM pg_stat_activity a
WHERE a.pid = %(backend_pid)s AND a.backend_start = %(backend_start)s AND a.pid <> pg_backend_pid()

-- name: terminate_workers
-- End every session that a lease of the run is bound to.
SELECT pg_terminate_backend(a.pid) AS ended FROM pg_stat_activity a
JOIN migration_status.chunks c ON a.pid = c.backend_pid AND a.backend_start = c.backend_start
WHERE c.run_id = %(run_id)s AND c.status = 'running' AND a.pid <> pg_backend_pid()

-- name: end_idle_workers
-- Close what workers of a run keep open for a next piece of work that will not come.
SELECT pg_terminate_backend(a.pid) AS ended FROM pg_stat_activity a
WHERE a.application_name = left(%(name)s::text, 63) AND a.state = 'idle' AND a.datname = current_database()
  AND a.usename = current_user AND a.pid <> pg_backend_pid()

-- name: backends_alive
-- How many of these sessions are still there.
SELECT count(*) AS alive FROM pg_stat_activity a
JOIN unnest(%(pids)s::integer[], %(starts)s::timestamptz[]) AS b (pid, backend_start) USING (pid, backend_start)
WHERE a.pid <> pg_backend_pid()

-- name: free_dead_lease
-- The worker is gone: its chunk is pending again, or failed when it was the last attempt.
UPDATE migration_status.chunks
SET status = CASE WHEN attempts >= %(max_attempts)s THEN 'failed' ELSE 'pending' END,
    lease_token = NULL, lease_until = NULL, error_code = 'WorkerLost',
    error_text = 'the worker ended without a word (killed, out of memory, or cut off); attempt ' || attempts
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s
  AND lease_token = %(lease_token)s::uuid AND status = 'running'
RETURNING status

-- name: supersede_chunk
-- A pending chunk gives way to smaller ones; no row when someone has claimed it.
UPDATE migration_status.chunks SET status = 'superseded', completed_at = clock_timestamp()
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND chunk_id = %(chunk_id)s AND status = 'pending'
RETURNING chunk_id

-- name: tables_without_result
-- Tables being loaded of which a chunk found Snowflake's result gone, and how many chunks are in already.
SELECT t.table_id, count(*) FILTER (WHERE c.status = 'completed') AS completed
FROM migration_status.run_tables t
JOIN migration_status.chunks c USING (run_id, table_id)
WHERE t.run_id = %(run_id)s AND t.status = 'loading' AND c.status <> 'superseded'
GROUP BY t.table_id
HAVING count(*) FILTER (WHERE c.status IN ('pending', 'failed') AND c.error_code = 'ResultGoneError') > 0
ORDER BY t.table_id

-- name: tables_without_time_travel
-- Tables being loaded of which a chunk found that Snowflake no longer knows what the table held.
SELECT t.table_id, min(c.error_text) AS error_text
FROM migration_status.run_tables t
JOIN migration_status.chunks c USING (run_id, table_id)
WHERE t.run_id = %(run_id)s AND t.status = 'loading' AND c.status = 'failed' AND c.error_code = 'NoTimeTravelError'
GROUP BY t.table_id
ORDER BY t.table_id

-- name: supersede_chunks
-- The table restarts: none of its chunks counts any more.
UPDATE migration_status.chunks SET status = 'superseded', lease_token = NULL, lease_until = NULL
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status <> 'superseded'

-- name: next_chunk_id
-- The first number that no chunk of the table has.
SELECT coalesce(max(chunk_id), 0) + 1 AS chunk_id
FROM migration_status.chunks WHERE run_id = %(run_id)s AND table_id = %(table_id)s

-- name: supersede_unfinished
-- What a closed run had left to do is nobody's any more.
UPDATE migration_status.chunks
SET status = 'superseded', lease_token = NULL, lease_until = NULL
WHERE run_id = %(run_id)s AND status IN ('pending', 'running', 'failed')

-- name: pending_chunks
-- What can be claimed, parents before children; and why the last attempt of each ended.
WITH unfinished AS MATERIALIZED (  -- once per table: asked for each chunk, it would look at all chunks again
    SELECT p.table_id FROM migration_status.run_tables p
    WHERE p.run_id = %(run_id)s
      AND (p.status NOT IN ('loading', 'finalizing', 'completed')
           OR EXISTS (SELECT FROM migration_status.chunks u
                      WHERE u.run_id = p.run_id AND u.table_id = p.table_id
                        AND u.status NOT IN ('completed', 'superseded')))
)
SELECT c.table_id, t.source_table, c.chunk_id, c.estimated_rows, c.reads, c.error_code, c.spent_seconds
FROM migration_status.chunks c
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE c.run_id = %(run_id)s AND c.status = 'pending' AND t.status = 'loading'
  -- rows refer only to rows that are there
  AND NOT EXISTS (SELECT FROM unfinished p WHERE p.table_id = ANY (t.loads_after))
ORDER BY c.table_id, c.chunk_id

-- name: slowest_chunks
-- The longest a completed chunk of each table took.
SELECT table_id, max(extract(epoch FROM completed_at - started_at))::double precision AS seconds
FROM migration_status.chunks
WHERE run_id = %(run_id)s AND status = 'completed'
GROUP BY table_id

-- name: chunk_tally
-- Chunks of each table by status, rows that were read and those of them that were refused, and a mark that grows with
-- every step forward.
SELECT t.table_id,
       count(c.chunk_id) FILTER (WHERE c.status = 'pending')   AS pending,
       count(c.chunk_id) FILTER (WHERE c.status = 'running')   AS running,
       count(c.chunk_id) FILTER (WHERE c.status = 'completed') AS completed,
       count(c.chunk_id) FILTER (WHERE c.status = 'failed')    AS failed,
       coalesce(sum(c.actual_rows) FILTER (WHERE c.status = 'completed'), 0)::bigint AS rows_read,
       coalesce(sum(c.rejected_rows) FILTER (WHERE c.status = 'completed'), 0)::bigint AS rejected,
       coalesce(sum(c.attempts), 0)::bigint + count(c.chunk_id)
         + count(c.chunk_id) FILTER (WHERE c.status IN ('completed', 'failed')) AS moved
FROM migration_status.run_tables t
LEFT JOIN migration_status.chunks c USING (run_id, table_id)
WHERE t.run_id = %(run_id)s
GROUP BY t.table_id ORDER BY t.table_id

-- name: first_chunk_errors
-- Why chunks failed, a reason once, with how many share it.
SELECT source_table, min(chunk_id) AS chunk_id, error_code, min(error_text) AS error_text, count(*) AS chunks
FROM migration_status.chunks
WHERE run_id = %(run_id)s AND status = 'failed'
GROUP BY source_table, error_code, left(regexp_replace(error_text, '\[value [0-9a-f]+\]', '[value]', 'g'), 60)
ORDER BY count(*) DESC LIMIT 5
