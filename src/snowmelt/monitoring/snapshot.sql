-- A run at one moment, for people who watch it: a few statements, however many tables and chunks it has.
-- Where every chunk is looked at it is date_part: extract gives numeric, which is slower.

-- name: limit_session
-- Whoever only looks does not look for long, and sees one state of everything in each transaction.
SELECT set_config('statement_timeout', %(milliseconds)s::text, false),
       set_config('default_transaction_isolation', 'repeatable read', false)

-- name: overview_runs
-- The latest runs of a source, newest first, and how many of their tables are done; no chunk is looked at.
SELECT r.run_id, r.status, r.started_at, r.completed_at,
       extract(epoch FROM coalesce(r.completed_at, clock_timestamp()) - r.started_at)::float8 AS seconds,
       t.tables, t.tables_completed
FROM (SELECT * FROM migration_status.runs WHERE source_name = %(source_name)s
      ORDER BY started_at DESC, run_id DESC LIMIT %(limit)s) r
CROSS JOIN LATERAL (SELECT count(*) AS tables, count(*) FILTER (WHERE s.status = 'completed') AS tables_completed
                    FROM migration_status.run_tables s WHERE s.run_id = r.run_id) t
ORDER BY r.started_at DESC, r.run_id DESC

-- name: overview_run
-- One run of a source with its latest driver, and the server's clock.
SELECT r.run_id, r.source_name, r.status, r.started_at, r.completed_at, r.rounds, r.error_code, r.error_text,
       clock_timestamp() AS seen_at,
       extract(epoch FROM coalesce(r.completed_at, clock_timestamp()) - r.started_at)::float8 AS seconds,
       d.execution_id AS driver, coalesce(d.started_at, r.started_at) AS driven_since
FROM migration_status.runs r
LEFT JOIN LATERAL (
    SELECT * FROM migration_status.run_executions e WHERE e.run_id = r.run_id ORDER BY e.started_at DESC LIMIT 1
) d ON true
WHERE r.run_id = %(run_id)s AND r.source_name = %(source_name)s

-- name: overview_tables
-- Every table of a run: counts, rows that came in since a moment, and a letter for each chunk in their order:
--   0 … 5  completed in less than 0.3, 1, 3, 10, 30 seconds, or more      j  completed, rows of it refused
--   r  being loaded    l  its worker is gone    p  waits    e  waits after an error    x  failed.
SELECT t.table_id, t.source_table, t.target_schema, t.target_table, t.status, t.strategy, t.source_rows,
       t.error_code, t.error_text,
       extract(epoch FROM coalesce(t.completed_at, clock_timestamp()) - t.started_at)::float8 AS seconds,
       coalesce(c.chunks, 0) AS chunks, coalesce(c.completed, 0) AS completed, coalesce(c.running, 0) AS running,
       coalesce(c.failed, 0) AS failed, coalesce(c.rows, 0)::bigint AS rows, coalesce(c.size_bytes, 0)::bigint AS size_bytes,
       coalesce(c.rejected, 0)::bigint AS rejected, coalesce(c.recent_rows, 0)::float8 AS recent_rows,
       coalesce(c.cells, '') AS cells, c.first_claimed_at, c.last_loaded_at,
       (SELECT count(*) FROM migration_status.saved_indexes i
        WHERE i.run_id = t.run_id AND i.table_id = t.table_id AND i.restored_at IS NULL) AS indexes_to_build,
       (SELECT v.verdict FROM migration_status.verification_results v
        WHERE v.run_id = t.run_id AND v.table_id = t.table_id) AS verdict, t.omitted
FROM migration_status.run_tables t
LEFT JOIN (
    SELECT k.table_id, count(*) AS chunks,
           count(*) FILTER (WHERE k.status = 'completed') AS completed,
           count(*) FILTER (WHERE k.status = 'running') AS running,
           count(*) FILTER (WHERE k.status = 'failed') AS failed,
           sum(k.actual_rows - k.rejected_rows) FILTER (WHERE k.status = 'completed') AS rows,
           sum(k.size_bytes) FILTER (WHERE k.status = 'completed') AS size_bytes,
           sum(k.rejected_rows) FILTER (WHERE k.status = 'completed') AS rejected,
           min(k.started_at) AS first_claimed_at, max(k.completed_at) AS last_loaded_at,
           -- Of a chunk that was begun before the moment, the part of its time that lies after it.
           sum((k.actual_rows - k.rejected_rows) * CASE
                   WHEN k.started_at >= %(since)s THEN 1
                   ELSE date_part('epoch', k.completed_at - %(since)s) / date_part('epoch', k.completed_at - k.started_at)
               END) FILTER (WHERE k.status = 'completed' AND k.completed_at > %(since)s) AS recent_rows,
           string_agg(CASE k.status
               WHEN 'completed' THEN CASE WHEN k.rejected_rows > 0 THEN 'j' ELSE coalesce(width_bucket(
                   date_part('epoch', k.completed_at - k.started_at), ARRAY[0.3, 1, 3, 10, 30]::float8[]), 0)::text
                   END
               WHEN 'running' THEN CASE WHEN a.pid IS NULL THEN 'l' ELSE 'r' END
               WHEN 'failed' THEN 'x'
               ELSE CASE WHEN k.error_code IS NULL THEN 'p' ELSE 'e' END END, '' ORDER BY k.chunk_id) AS cells
    FROM migration_status.chunks k
    LEFT JOIN pg_stat_activity a ON k.status = 'running' AND a.pid = k.backend_pid
         AND coalesce(a.backend_start = k.backend_start, true)  -- NULL to a role that only reads
    WHERE k.run_id = %(run_id)s AND k.status <> 'superseded'
    GROUP BY k.table_id
) c USING (table_id)
WHERE t.run_id = %(run_id)s
ORDER BY t.table_id

-- name: overview_flows
-- Rows that came in, by the steps of time in which their chunks began and ended.
SELECT f.began, f.ended, sum(f.rows)::bigint AS rows
FROM (
    SELECT greatest(0, floor(date_part('epoch', k.started_at - %(begin)s) / %(step_seconds)s::float8))::integer AS began,
           greatest(0, floor(date_part('epoch', k.completed_at - %(begin)s) / %(step_seconds)s::float8))::integer AS ended,
           k.actual_rows - k.rejected_rows AS rows
    FROM migration_status.chunks k
    WHERE k.run_id = %(run_id)s AND k.status = 'completed' AND k.completed_at >= %(begin)s
) f
GROUP BY f.began, f.ended

-- name: overview_workers
-- Who is at work on what, the longest first: the lease, its session, and what the session does.
SELECT k.table_id, t.source_table, k.chunk_id, k.attempts, k.estimated_rows, k.backend_pid,
       extract(epoch FROM clock_timestamp() - k.started_at)::float8 AS seconds,
       extract(epoch FROM k.lease_until - clock_timestamp())::float8 AS lease_seconds_left,
       a.pid IS NOT NULL AS is_alive, host(a.client_addr) AS address, a.state, a.wait_event_type, a.wait_event,
       count(*) OVER () AS workers
FROM migration_status.chunks k
JOIN migration_status.run_tables t USING (run_id, table_id)
LEFT JOIN pg_stat_activity a ON a.pid = k.backend_pid
         AND coalesce(a.backend_start = k.backend_start, true)  -- NULL to a role that only reads
WHERE k.run_id = %(run_id)s AND k.status = 'running'
ORDER BY k.started_at, k.table_id, k.chunk_id
LIMIT %(limit)s

-- name: overview_chunks
-- Some chunks of a table, from a position in their order on.
SELECT k.chunk_id, k.status, k.attempts, k.estimated_rows, k.actual_rows, k.rejected_rows, k.size_bytes, k.load_mode,
       k.inserted_rows, k.updated_rows, k.unchanged_rows, k.kept_newer_rows, k.deduplicated_rows, k.backend_pid, k.started_at, k.completed_at,
       extract(epoch FROM CASE WHEN k.status = 'running' THEN clock_timestamp() ELSE k.completed_at END
               - k.started_at)::float8 AS seconds,
       k.error_code, k.error_text
FROM migration_status.chunks k
JOIN migration_status.runs r USING (run_id)
WHERE k.run_id = %(run_id)s AND r.source_name = %(source_name)s AND k.table_id = %(table_id)s AND k.status <> 'superseded'
ORDER BY k.chunk_id OFFSET %(position)s LIMIT %(limit)s
