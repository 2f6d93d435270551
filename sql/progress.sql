-- How far is it? Looks and changes nothing; run it as often as you like.
--   psql "$TARGET" -f sql/progress.sql                     every open run, and the latest run's tables
--   psql "$TARGET" -v run_id=RUN_ID -f sql/progress.sql    one run's tables
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?run_id}
\else
SELECT coalesce((SELECT run_id FROM migration_status.runs ORDER BY started_at DESC LIMIT 1), '') AS run_id \gset
\endif

\echo Runs that are on:
SELECT run_id, source_name, date_trunc('second', running_for) AS running_for, tables_completed, tables,
       rows_loaded, source_rows, chunks_completed, chunks, chunks_running, chunks_failed,
       date_trunc('second', clock_timestamp() - last_moved_at) AS last_moved, execution_id
FROM migration_status.v_active_migrations
ORDER BY started_at;

\echo Tables of run :run_id
SELECT source_table, target_schema || '.' || target_table AS target, state AS status, rows_loaded, source_rows, percent,
       chunks_completed, chunks, chunks_running, chunks_failed, round(seconds::numeric) AS seconds,
       pg_size_pretty(size_bytes) AS sent, error_text
FROM migration_status.v_table_progress
WHERE run_id = :'run_id'
ORDER BY table_id;

\echo Its pace over the last five minutes, and the time that is left at that pace:
SELECT count(*) AS chunks, sum(recent.actual_rows) AS rows, round(sum(recent.actual_rows) / pace.seconds) AS rows_per_second,
       pace.rows_left, make_interval(secs => round(pace.rows_left * pace.seconds / nullif(sum(recent.actual_rows), 0)))
           AS time_left
FROM migration_status.chunks recent
CROSS JOIN (
    SELECT greatest(1, least(300, extract(epoch FROM clock_timestamp() - min(started_at)))) AS seconds,
           coalesce(sum(estimated_rows) FILTER (WHERE status IN ('pending', 'running', 'failed')), 0) AS rows_left
    FROM migration_status.chunks
    WHERE run_id = :'run_id') AS pace
WHERE recent.run_id = :'run_id' AND recent.status = 'completed'
  AND recent.completed_at > clock_timestamp() - interval '5 minutes'
GROUP BY pace.seconds, pace.rows_left;

\echo Chunks that workers have in hand:
SELECT c.source_table, c.chunk_id, c.estimated_rows, c.attempts,
       date_trunc('second', clock_timestamp() - c.started_at) AS since,
       date_trunc('second', c.lease_until - clock_timestamp()) AS lease_left,
       c.backend_pid, coalesce(a.state, 'session is gone') AS session, a.wait_event_type, a.wait_event
FROM migration_status.chunks c
LEFT JOIN pg_stat_activity a ON a.pid = c.backend_pid AND a.backend_start = c.backend_start
WHERE c.run_id = :'run_id' AND c.status = 'running'
ORDER BY c.started_at;
