-- What is wrong, and how is it fixed? Looks and changes nothing.
-- Each question comes with what fixes it; where that is SQL it stands below as a comment, to be copied, checked and run
-- by hand.
--   psql "$TARGET" -f sql/diagnose.sql                     about the latest run
--   psql "$TARGET" -v run_id=RUN_ID -f sql/diagnose.sql    about one run
--   psql "$TARGET" -v keys=on -f sql/diagnose.sql          reads the keys of its targets too: minutes for billions of rows
-- The general remedy is to start again with the same input: a run resumes where it stands, and nothing here is needed.
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?run_id}
\else
SELECT coalesce((SELECT run_id FROM migration_status.runs ORDER BY started_at DESC LIMIT 1), '') AS run_id \gset
\endif
\echo Run :run_id

\echo
\echo 1. How did the latest runs end?
SELECT run_id, source_name, status, date_trunc('second', started_at) AS started, date_trunc('second', completed_at) AS ended,
       rounds, error_code, error_text
FROM migration_status.runs
ORDER BY started_at DESC
LIMIT 10;
-- Fix: error_text says what to do. A failed run is resumed by the next start of its source; an abandoned one never is.

\echo
\echo 2. Who drives the run, and is it alive?
SELECT e.execution_id, date_trunc('second', e.started_at) AS since, date_trunc('second', e.renewed_at) AS renewed,
       CASE WHEN e.ended_at IS NOT NULL THEN 'ended'
            WHEN e.expires_at <= clock_timestamp() THEN 'dead: it has been silent for too long'
            WHEN e.backend_pid IS NOT NULL AND NOT EXISTS (
                SELECT FROM pg_stat_activity a WHERE a.pid = e.backend_pid AND a.backend_start = e.backend_start)
                THEN 'dead: its session is gone'
            ELSE 'alive until ' || date_trunc('second', e.expires_at) || ', unless it is seen to have ended' END AS driver
FROM migration_status.run_executions e
WHERE e.run_id = :'run_id'
ORDER BY e.started_at;
-- Fix: a dead driver needs nothing, the next start takes the run over. Where one is known to be dead and still counts as
-- alive, let go of it; should it live after all, it is fenced off and can commit nothing more once the run is resumed:
--   UPDATE migration_status.run_executions SET expires_at = clock_timestamp() WHERE run_id = :'run_id' AND ended_at IS NULL;

\echo
\echo 3. Which tables are not complete, and why?
SELECT source_table, target_schema || '.' || target_table AS target, state AS status, rows_loaded, source_rows, chunks_completed,
       chunks, chunks_failed, error_code, error_text
FROM migration_status.v_table_progress
WHERE run_id = :'run_id' AND status <> 'completed'
ORDER BY table_id;
-- Fix: what error_text says; then start again. Failed tables of a failed run are reopened by that.

\echo
\echo 4. Why did chunks fail?
SELECT source_table, status, error_code, left(error_text, 300) AS error_text, count(*) AS chunks, min(chunk_id) AS first_chunk,
       max(attempts) AS attempts
FROM migration_status.chunks
WHERE run_id = :'run_id' AND status IN ('pending', 'running', 'failed') AND error_code IS NOT NULL
GROUP BY source_table, status, error_code, left(error_text, 300)
ORDER BY count(*) DESC
LIMIT 20;
-- Fix: the source's rows or the target's definition, as error_text says; then start again: failed chunks get all their
-- attempts back. To give them back while the run is still on with other tables:
--   UPDATE migration_status.chunks c SET status = 'pending', attempts = 0
--   FROM migration_status.run_tables t
--   WHERE t.run_id = c.run_id AND t.table_id = c.table_id AND t.status = 'loading'
--     AND c.run_id = :'run_id' AND c.status = 'failed';

\echo
\echo 5. Which chunks were tried more than once, or lost their worker?
SELECT source_table, chunk_id, status, attempts, estimated_rows, error_code, date_trunc('second', started_at) AS last_try
FROM migration_status.chunks
WHERE run_id = :'run_id' AND (attempts > 1 OR error_code = 'WorkerLost')
ORDER BY attempts DESC, table_id, chunk_id
LIMIT 20;
-- Fix: WorkerLost in many chunks means that workers are killed: look in the function's log for its time-out and its
-- memory; lower batch_size or raise the function's memory. Retried chunks that are completed need nothing.

\echo
\echo 6. Which leases are dead or overdue?
SELECT c.source_table, c.chunk_id, c.attempts, c.backend_pid, date_trunc('second', c.lease_until) AS lease_until,
       CASE WHEN a.pid IS NULL THEN 'its session is gone: dead'
            WHEN c.lease_until <= clock_timestamp() THEN 'its time is over and its session lives'
            ELSE 'living' END AS lease
FROM migration_status.chunks c
LEFT JOIN pg_stat_activity a ON a.pid = c.backend_pid AND a.backend_start = c.backend_start
WHERE c.run_id = :'run_id' AND c.status = 'running'
ORDER BY c.lease_until;
-- Fix: the next plan frees all that are not living. To end the overdue sessions now:
--   SELECT pg_terminate_backend(a.pid)
--   FROM migration_status.chunks c
--   JOIN pg_stat_activity a ON a.pid = c.backend_pid AND a.backend_start = c.backend_start
--   WHERE c.run_id = :'run_id' AND c.status = 'running' AND c.lease_until <= clock_timestamp();

\echo
\echo 7. Is a session of Snowmelt waiting for a lock that another holds?
SELECT w.pid AS waiting_pid, w.application_name, date_trunc('second', clock_timestamp() - w.query_start) AS for_so_long,
       b.pid AS blocking_pid, b.usename AS blocking_user, b.application_name AS blocking_application, b.state AS blocking_state,
       left(b.query, 80) AS blocking_query
FROM pg_stat_activity w
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS blocker (pid)
JOIN pg_stat_activity b ON b.pid = blocker.pid
WHERE w.datname = current_database() AND w.application_name LIKE 'snowmelt%'
ORDER BY w.query_start;
-- Fix: have the blocking session end its transaction. Snowmelt gives up after 60 s and tries again. By force:
--   SELECT pg_terminate_backend(BLOCKING_PID);

\echo
\echo 8. What are the sessions of Snowmelt doing?
SELECT pid, usename, application_name, state, wait_event_type, wait_event,
       date_trunc('second', clock_timestamp() - xact_start) AS in_transaction, left(query, 60) AS query
FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'snowmelt%'
ORDER BY backend_start;
-- Fix: Client/ClientRead in a COPY means that the worker or Snowflake is slow, IO or WAL that the server is. A COPY whose
-- client is silent does not listen to pg_cancel_backend; only pg_terminate_backend ends it.

\echo
\echo 9. Are there connections enough?
SELECT current_setting('max_connections')::integer AS max_connections, count(*) AS used,
       count(*) FILTER (WHERE application_name LIKE 'snowmelt%') AS used_by_snowmelt,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer - count(*)
           AS left_over
FROM pg_stat_activity
WHERE backend_type = 'client backend';
-- Fix: lower parallel_threads for the next run (each worker is one connection), or raise max_connections
-- (on RDS and Aurora in the parameter group, and not by ALTER SYSTEM).

\echo
\echo 10. Does the run move?
SELECT status, rounds, stalled_rounds, waits,
       date_trunc('second', clock_timestamp() - (SELECT max(greatest(c.started_at, c.completed_at))
                                                 FROM migration_status.chunks c
                                                 WHERE c.run_id = r.run_id)) AS last_claim_or_completion,
       error_code AS last_complaint, error_text
FROM migration_status.runs r
WHERE run_id = :'run_id';
-- Fix: stalled_rounds grow when workers claim nothing at all: their log says why (time-out, memory, throttling, network).
-- waits grow while Snowflake is still scanning or living workers hold what is left; that needs patience.

\echo
\echo 11. Do the chunks of each table add up to its scan?
SELECT t.source_table, t.status, t.source_rows, sum(coalesce(c.actual_rows, c.estimated_rows)) AS rows_of_chunks,
       sum(c.actual_rows) FILTER (WHERE c.status = 'completed') AS rows_loaded
FROM migration_status.run_tables t
JOIN migration_status.chunks c USING (run_id, table_id)
WHERE t.run_id = :'run_id' AND c.status <> 'superseded' AND t.status <> 'abandoned'
GROUP BY t.table_id, t.source_table, t.status, t.source_rows
HAVING t.source_rows IS DISTINCT FROM sum(coalesce(c.actual_rows, c.estimated_rows))
ORDER BY t.table_id;
-- Fix: there should never be a row here. If there is one, somebody has changed the status tables: start with no_resume.

\echo
\echo 12. Will the scans last?
SELECT source_table, status, query_id, date_trunc('second', clock_timestamp() - started_at) AS age,
       date_trunc('second', started_at + interval '24 hours' - clock_timestamp()) AS kept_at_least_for
FROM migration_status.run_tables
WHERE run_id = :'run_id' AND query_id IS NOT NULL AND status IN ('scanning', 'loading', 'failed')
ORDER BY started_at;
-- Fix: Snowflake keeps a result for 24 hours. After that a table that is truncated or merged restarts, and one that
-- was copied into an empty target or appended fails. More parallel_threads, or disable_index, make it faster; key ranges
-- (chunking_columns) need no result to last.

\echo
\echo 13. Which chunks are slow, or did not fit into an invocation?
SELECT source_table, chunk_id, status, coalesce(actual_rows, estimated_rows) AS rows,
       round(coalesce(extract(epoch FROM completed_at - started_at), spent_seconds)::numeric, 1) AS seconds,
       round(actual_rows / nullif(extract(epoch FROM completed_at - started_at), 0)::numeric) AS rows_per_second, error_code
FROM migration_status.chunks
WHERE run_id = :'run_id' AND coalesce(extract(epoch FROM completed_at - started_at), spent_seconds) IS NOT NULL
ORDER BY coalesce(extract(epoch FROM completed_at - started_at), spent_seconds) DESC
LIMIT 10;
-- Fix: TooLong is fixed by the next plan, which splits the chunk. For the next run: a smaller batch_size, or a longer
-- time-out of the function.

\echo
\echo 14. What makes loading these targets slow?
SELECT t.target_schema || '.' || t.target_table AS target,
       (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND NOT i.indisprimary) AS indexes_besides_the_key,
       (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) AS triggers,
       (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f') AS foreign_keys,
       pg_size_pretty(pg_total_relation_size(c.oid)) AS size
FROM migration_status.run_tables t
JOIN pg_namespace n ON n.nspname = t.target_schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.target_table
WHERE t.run_id = :'run_id'
ORDER BY t.table_id;
-- Fix: disable_index drops the indexes for the next load and builds them after it. Disable triggers that are not meant
-- for a load. What is still to be rebuilt of dropped indexes, and why it could not be built:
--   SELECT target_schema, target_table, index_name, run_id, attempts, error_text
--   FROM migration_status.saved_indexes WHERE restored_at IS NULL;

\echo
\echo 15. Which targets are held by runs that are not over?
SELECT t.target_schema || '.' || t.target_table AS target, t.status, r.run_id, r.source_name, r.status AS run_status,
       date_trunc('second', clock_timestamp() - r.started_at) AS age
FROM migration_status.run_tables t
JOIN migration_status.runs r USING (run_id)
WHERE r.status IN ('running', 'failed') AND t.status NOT IN ('completed', 'abandoned')
ORDER BY 1, r.started_at;
-- Fix: start the source again: with the same input to finish the run, or with no_resume to close it and restart. A
-- run of another source lets go when this one starts and the other's driver is dead. To close a run and start nothing,
-- with its execution stopped; its tables come first, so that nothing that is under way can commit:
--   BEGIN;
--   SELECT pg_advisory_xact_lock(hashtextextended('snowmelt:open', 0));
--   UPDATE migration_status.run_tables
--   SET status = 'abandoned', load_epoch = load_epoch + 1, completed_at = clock_timestamp(),
--       error_code = 'Abandoned', error_text = 'closed by hand'
--   WHERE run_id = :'run_id' AND status NOT IN ('completed', 'abandoned');
--   UPDATE migration_status.runs
--   SET status = 'abandoned', completed_at = clock_timestamp(), error_code = 'Abandoned', error_text = 'closed by hand'
--   WHERE run_id = :'run_id' AND status IN ('running', 'failed');
--   UPDATE migration_status.run_executions SET ended_at = clock_timestamp() WHERE run_id = :'run_id' AND ended_at IS NULL;
--   UPDATE migration_status.chunks SET status = 'superseded', lease_token = NULL, lease_until = NULL
--   WHERE run_id = :'run_id' AND status IN ('pending', 'running', 'failed');
--   COMMIT;

\echo
\echo 16. Which rows were refused, and why?
SELECT t.source_table, r.column_name, left(r.reason, 200) AS reason, count(*) AS rows, min(r.chunk_id) AS first_chunk,
       min(r.row_number) AS first_row
FROM migration_status.rejected_rows r
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE r.run_id = :'run_id'
GROUP BY t.table_id, t.source_table, r.column_name, left(r.reason, 200)
ORDER BY count(*) DESC, t.table_id
LIMIT 20;
-- Fix: what they were refused for, then start again: a failed run tries them once more; of a completed one,
-- `snowmelt rejects replay` does. `snowmelt rejects export` writes the rows themselves, to be fixed and replayed.

\echo
\echo 17. Which ranges of keys are still to be loaded?
SELECT c.source_table, array_to_string(t.key_columns, ', ') AS key, c.reads->>'start' AS from_here, c.reads->>'stop' AS up_to,
       c.estimated_rows AS rows, c.chunk_id, c.state AS status, c.error_code
FROM migration_status.migration_chunk_status c
JOIN migration_status.migration_table_status t USING (run_id, table_id)
WHERE c.run_id = :'run_id' AND t.strategy = 'key_range' AND c.state IN ('pending', 'running', 'failed')
ORDER BY c.table_id, c.reads->'start' NULLS FIRST, c.chunk_id
LIMIT 50;
-- Fix: start again; a run resumes with the ranges that are missing. Whoever only watches sees no bounds, as they are values.

-- What the keys of the targets say is asked of the tables themselves, by statements that are composed here: the key is the
-- one that the run loads by, else the primary key.
SELECT coalesce(string_agg(format('(SELECT %L AS target, %L AS key, low + 1 AS missing_from, high - 1 AS missing_to, '
                                  'high - low - 1 AS missing FROM (SELECT k AS low, lead(k) OVER (ORDER BY k) AS high '
                                  'FROM (SELECT DISTINCT %I::numeric AS k FROM %I.%I WHERE %3$I IS NOT NULL) d) g '
                                  'WHERE high > low + 1 ORDER BY 5 DESC LIMIT 20)',
                                  k.target, k.keys[1], k.keys[1], k.target_schema, k.target_table), ' UNION ALL ')
                FILTER (WHERE k.is_number), 'SELECT ''no target has a number for its key'' AS answer') AS gaps,
       coalesce(string_agg(format('SELECT %L AS target, %L AS key, coalesce(sum(n), 0) AS rows, '
                                  'coalesce(sum(n) FILTER (WHERE has_null), 0) AS rows_with_null, '
                                  'count(*) FILTER (WHERE n > 1 AND NOT has_null) AS keys_met_again, '
                                  'coalesce(sum(n - 1) FILTER (WHERE n > 1 AND NOT has_null), 0) AS rows_too_many, '
                                  'min(example) FILTER (WHERE n > 1 AND NOT has_null) AS one_of_them '
                                  'FROM (SELECT count(*) AS n, %s AS has_null, ROW(%s)::text AS example FROM %I.%I GROUP BY %4$s) g',
                                  k.target, array_to_string(k.keys, ', '), k.any_null, k.listed, k.target_schema, k.target_table),
                           ' UNION ALL '), 'SELECT ''no target has a key'' AS answer') AS doubles,
       coalesce(string_agg(format('(SELECT %L AS target, %L AS key, part, min(k) AS lowest, max(k) AS highest, count(*) AS rows '
                                  'FROM (SELECT %I::numeric AS k, width_bucket(%3$I::numeric, r.low, r.high, 10) AS part '
                                  'FROM %I.%I CROSS JOIN (SELECT min(%3$I)::numeric AS low, max(%3$I)::numeric + 1 AS high FROM %4$I.%5$I) r '
                                  'WHERE %3$I IS NOT NULL) b GROUP BY part ORDER BY part)',
                                  k.target, k.keys[1], k.keys[1], k.target_schema, k.target_table), ' UNION ALL ')
                FILTER (WHERE k.is_number), 'SELECT ''no target has a number for its key'' AS answer') AS numbers,
       coalesce(string_agg(format('SELECT %L AS target, %L AS key, unnest(ARRAY[0, 10, 25, 50, 75, 90, 100]) AS percent_of_rows, '
                                  'unnest(percentile_disc(ARRAY[0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]) WITHIN GROUP (ORDER BY %I))::text AS up_to '
                                  'FROM %I.%I',
                                  k.target, k.keys[1], k.keys[1], k.target_schema, k.target_table), ' UNION ALL ')
                FILTER (WHERE NOT k.is_number), 'SELECT ''no target has another key than a number'' AS answer') AS others
FROM (SELECT f.target_schema, f.target_table, f.target_schema || '.' || f.target_table AS target, f.keys,
             (SELECT string_agg(quote_ident(n), ', ') FROM unnest(f.keys) AS n) AS listed,
             (SELECT string_agg(quote_ident(n) || ' IS NULL', ' OR ') FROM unnest(f.keys) AS n) AS any_null,
             (SELECT a.atttypid IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'numeric'::regtype)
              FROM pg_attribute a WHERE a.attrelid = f.oid AND a.attname = f.keys[1]) AS is_number
      FROM (SELECT DISTINCT ON (c.oid) c.oid, t.target_schema, t.target_table,
                   CASE WHEN cardinality(t.key_columns) > 0 THEN t.key_columns
                        ELSE ARRAY(SELECT a.attname::text FROM pg_index i
                                   CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS p (number, place)
                                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = p.number
                                   WHERE i.indrelid = c.oid AND i.indisprimary AND p.place <= i.indnkeyatts
                                   ORDER BY p.place) END AS keys
            FROM migration_status.migration_table_status t
            JOIN pg_namespace n ON n.nspname = t.target_schema
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.target_table
            WHERE t.run_id = :'run_id' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
            ORDER BY c.oid, t.table_id) f
      WHERE NOT EXISTS (SELECT FROM unnest(f.keys) AS n (name)
                        WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.oid AND a.attname = n.name
                                          AND NOT a.attisdropped))
        AND cardinality(f.keys) > 0) k \gset keys_

\echo
\echo 18. Which ranges of keys are missing in the targets? (with -v keys=on)
\if :{?keys}
:keys_gaps;
\endif
-- Fix: numbers may be missing in the source too: count them there (sql/count_source.sql, with the range as WHERE). What is there
-- and not here is loaded by `snowmelt verify --repair`, or by a run with --no-resume.

\echo
\echo 19. Are there duplicates and NULLs in the keys of the targets? (with -v keys=on)
\if :{?keys}
:keys_doubles;
\endif
-- Fix: rows too many come of a target without a unique index that was loaded twice, or of a source that has them: count there by
-- the same columns. uniqueness_columns with a unique index keep them out; on_duplicate_keys says which row of a key is loaded.

\echo
\echo 20. How are the keys distributed? (with -v keys=on)
\if :{?keys}
:keys_numbers;
:keys_others;
\endif
-- Fix: where most rows are in few parts, ranges of that key are cut finer by themselves; a second chunking column helps where one
-- value has too many rows.
