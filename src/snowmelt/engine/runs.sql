-- Runs, their drivers and their tables.

-- name: has_status_schema
-- Whether the status schema has ever been installed here.
SELECT to_regclass('migration_status.schema_version') IS NOT NULL AS installed

-- name: status_schema_owner
-- Who owns the status schema, and whether this user has the owner's rights.
SELECT pg_get_userbyid(nspowner)::text AS owner, pg_has_role(nspowner, 'USAGE') AS is_owned
FROM pg_namespace WHERE nspname = 'migration_status'

-- name: held_by_others
-- What other roles hold of the named targets.
SELECT target_schema, target_table, loaded_by::text AS loaded_by, run_id, holds
FROM migration_status.held_by_others(%(schemas)s::text[], %(tables)s::text[])

-- name: installed_version
-- The version of the status schema.
SELECT max(version) AS version FROM migration_status.schema_version

-- name: fingerprint_key
-- The key of the fingerprints that stand for values of rows in texts.
SELECT key FROM migration_status.fingerprint_key

-- name: bounds_of_run
-- Values of rows that bound what a run reads.
SELECT DISTINCT b.bound
FROM migration_status.chunks c
CROSS JOIN LATERAL jsonb_each(c.reads) AS part (name, given)
CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(part.given) WHEN 'array' THEN part.given ELSE '[]' END)
    AS b (bound)
WHERE c.run_id = %(run_id)s AND part.name IN ('start', 'stop') AND b.bound IS NOT NULL
UNION
SELECT watermark FROM migration_status.watermarks WHERE run_id = %(run_id)s

-- name: lock_install
-- One transaction at a time installs the status schema.
SELECT pg_advisory_xact_lock(hashtextextended('snowmelt:install', 0))

-- name: try_lock_opening
-- Whether this transaction is now the only one that opens, resumes or closes runs of this database. The server ends it
-- when its client falls silent, as one that is stopped does: nobody else could open a run.
SELECT set_config('idle_in_transaction_session_timeout', '60s', true),
       pg_try_advisory_xact_lock(hashtextextended('snowmelt:open', 0)) AS held

-- name: lock_opening
-- The same, once whoever is at it is done.
SELECT pg_advisory_xact_lock(hashtextextended('snowmelt:open', 0))

-- name: try_run_lock
-- Whether this session is now the only one that plans or finalizes the run.
SELECT pg_try_advisory_lock(hashtextextended('snowmelt:run:' || %(run_id)s, 0)) AS held

-- name: lock_holder
-- Which session holds an advisory lock of ours.
SELECT a.pid, a.application_name, host(a.client_addr) AS address, a.usename::text AS "user"
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%(lock)s::text, 0)
LIMIT 1

-- name: join_driver
-- Mark this session as one of the run's driver, so that whoever takes the run over finds it.
SELECT pg_advisory_lock_shared(hashtextextended('snowmelt:driver:' || %(run_id)s, 0))

-- name: leave_drivers
-- This session is no longer one of any run's driver.
SELECT pg_advisory_unlock_all()

-- name: driver_sessions
-- Sessions of whoever drives the run: planner, finalizer, verifier, and the one that shows that its process lives.
SELECT DISTINCT a.pid AS backend_pid, a.backend_start
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid()
  AND (a.pid IN (SELECT l.pid FROM pg_locks l
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                   AND (l.classid::bigint << 32 | l.objid::bigint)
                       IN (hashtextextended('snowmelt:run:' || %(run_id)s, 0),
                           hashtextextended('snowmelt:driver:' || %(run_id)s, 0)))
       OR (a.pid, a.backend_start) IN (
           SELECT e.backend_pid, e.backend_start FROM migration_status.run_executions e
           WHERE e.run_id = %(run_id)s AND e.ended_at IS NULL))

-- name: hold_driver
-- This execution drives the run, and does so until this transaction ends; no row when it is another's. Renewals do not
-- wait for it, a takeover does.
SELECT execution_id FROM migration_status.run_executions
WHERE run_id = %(run_id)s AND execution_id = %(execution_id)s AND ended_at IS NULL
FOR KEY SHARE

-- name: lock_drivers
-- No transaction of the run's driver is under way, and none begins before this one ends.
SELECT execution_id FROM migration_status.run_executions WHERE run_id = %(run_id)s AND ended_at IS NULL FOR UPDATE

-- name: run_unlock
-- Give the run's lock back.
SELECT pg_advisory_unlock(hashtextextended('snowmelt:run:' || %(run_id)s, 0))

-- name: runs_of_source
-- The latest runs of a source, newest first, each with its last driver and the targets it still holds.
SELECT r.run_id, r.status, r.config_hash, r.started_at, r.completed_at, r.plan_format, r.store, r.error_text,
       clock_timestamp() - r.started_at AS age,
       e.execution_id, e.expires_at,
       coalesce(e.ended_at IS NULL AND e.expires_at > clock_timestamp(), false) AS driver_unexpired,
       e.backend_pid IS NOT NULL AND NOT EXISTS (
           SELECT FROM pg_stat_activity a
           WHERE a.pid = e.backend_pid AND coalesce(a.backend_start = e.backend_start, true)) AS driver_backend_gone,
       ARRAY(SELECT t.source_table FROM migration_status.run_tables t
             WHERE t.run_id = r.run_id ORDER BY t.table_id) AS tables,
       CASE WHEN r.status IN ('running', 'failed') THEN (
           -- A chunk says it better than its table, and both would fail in the same way again.
           SELECT f.text
           FROM (SELECT 0 AS rank, t.table_id, format('table %%s: chunk %%s: %%s', t.source_table, c.chunk_id, c.error_text) AS text
                 FROM migration_status.run_tables t
                 JOIN migration_status.chunks c USING (run_id, table_id)
                 WHERE t.run_id = r.run_id AND t.status IN ('loading', 'failed') AND c.status = 'failed'
                   AND c.error_code = ANY (%(new_read_codes)s::text[] || 'RejectedRowsError'::text)
                 UNION ALL
                 SELECT 1, t.table_id, t.error_text FROM migration_status.run_tables t
                 WHERE t.run_id = r.run_id AND t.status = 'failed' AND t.error_code = ANY (%(new_read_codes)s::text[])) f
           ORDER BY f.rank, f.table_id, f.text LIMIT 1) END AS source_fault,
       EXISTS (SELECT FROM migration_status.run_tables t
               WHERE t.run_id = r.run_id AND t.status = 'failed' AND t.error_code = 'RejectedRowsError') AS has_rejected,
       -- A table whose watermark has moved is not read from its beginning again.
       ARRAY(SELECT t.source_table FROM migration_status.run_tables t
             WHERE t.run_id = r.run_id AND r.status IN ('running', 'failed') AND t.adds_only
               AND EXISTS (SELECT FROM migration_status.chunks c
                           WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'
                             AND c.load_mode = 'copy' AND c.actual_rows > c.rejected_rows)
               AND NOT EXISTS (SELECT FROM migration_status.watermarks w
                               WHERE w.run_id = t.run_id AND t.status = 'completed'
                                 AND (w.target_schema, w.target_table) = (t.target_schema, t.target_table))
             ORDER BY t.table_id) AS added_to,
       -- All that could be loaded is: a resume has nothing to do.
       (SELECT min(t.error_text) FROM migration_status.run_tables t
        WHERE t.run_id = r.run_id AND r.status = 'failed'
        HAVING bool_and(t.status = 'completed' OR coalesce(t.error_code = %(skipped_code)s::text, false))) AS only_skipped
FROM migration_status.runs r
LEFT JOIN LATERAL (
    SELECT * FROM migration_status.run_executions x
    WHERE x.run_id = r.run_id ORDER BY x.ended_at IS NULL DESC, x.renewed_at DESC LIMIT 1) e ON true
WHERE r.source_name = %(source_name)s OR r.run_id = %(run_id)s
ORDER BY r.started_at DESC, r.run_id DESC
LIMIT 50

-- name: holders_of_targets
-- Open runs that hold any of the target tables, with their drivers.
SELECT DISTINCT r.run_id, t.target_schema, t.target_table,
       e.execution_id, e.expires_at, clock_timestamp() - r.started_at AS age,
       coalesce(e.ended_at IS NULL AND e.expires_at > clock_timestamp(), false) AS driver_unexpired,
       e.backend_pid IS NOT NULL AND NOT EXISTS (
           SELECT FROM pg_stat_activity a
           WHERE a.pid = e.backend_pid AND coalesce(a.backend_start = e.backend_start, true)) AS driver_backend_gone
FROM migration_status.run_tables t
JOIN migration_status.runs r USING (run_id)
LEFT JOIN migration_status.run_executions e ON e.run_id = r.run_id AND e.ended_at IS NULL
WHERE (t.target_schema, t.target_table) IN (SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[]))
  AND t.status IN ('pending', 'scanning', 'loading', 'finalizing', 'failed')
  AND r.status IN ('running', 'failed')
ORDER BY r.run_id, t.target_schema, t.target_table

-- name: insert_run
-- A new run.
INSERT INTO migration_status.runs
    (run_id, source_name, config_hash, snapshot_at, snowmelt_version, plan_format, store, allow_shrink,
     accept_rejected)
VALUES (%(run_id)s, %(source_name)s, %(config_hash)s, %(snapshot_at)s, %(snowmelt_version)s, %(plan_format)s, %(store)s,
        %(allow_shrink)s, %(accept_rejected)s)

-- name: insert_tables
-- The run's tables, each of which now holds its target.
INSERT INTO migration_status.run_tables
    (run_id, table_id, source_table, source_database, source_schema, target_schema, target_table, strategy, adds_only,
     loads_after, key_columns, omitted)
SELECT %(run_id)s, t.table_id, t.source_table, %(source_database)s, %(source_schema)s, t.target_schema, t.target_table,
       t.strategy, t.adds_only, t.loads_after::integer[], ARRAY(SELECT jsonb_array_elements_text(t.key_columns)), t.omitted
FROM unnest(%(table_ids)s::integer[], %(source_tables)s::text[], %(schemas)s::text[], %(tables)s::text[],
            %(strategies)s::text[], %(adds_only)s::boolean[], %(loads_after)s::text[], %(key_columns)s::jsonb[],
            %(omitted)s::text[])
     AS t (table_id, source_table, target_schema, target_table, strategy, adds_only, loads_after, key_columns, omitted)

-- name: insert_skipped_tables
-- Tables that a check refused: they hold no target, and no resume opens them.
INSERT INTO migration_status.run_tables
    (run_id, table_id, source_table, source_database, source_schema, target_schema, target_table, strategy, status,
     completed_at, error_code, error_text)
SELECT %(run_id)s, t.table_id, t.source_table, %(source_database)s, %(source_schema)s, t.target_schema, t.target_table,
       'one_scan', 'failed', clock_timestamp(), t.error_code, t.error_text
FROM unnest(%(table_ids)s::integer[], %(source_tables)s::text[], %(schemas)s::text[], %(tables)s::text[],
            %(error_codes)s::text[], %(error_texts)s::text[])
     AS t (table_id, source_table, target_schema, target_table, error_code, error_text)

-- name: end_drivers
-- Whoever drove the run does not any more.
UPDATE migration_status.run_executions SET ended_at = clock_timestamp() WHERE run_id = %(run_id)s AND ended_at IS NULL

-- name: start_driver
-- This execution drives the run from now on.
INSERT INTO migration_status.run_executions (run_id, execution_id, expires_at, backend_pid, backend_start)
VALUES (%(run_id)s, %(execution_id)s, clock_timestamp() + %(seconds)s * interval '1 second',
        %(backend_pid)s, %(backend_start)s)
ON CONFLICT (run_id, execution_id) DO UPDATE
SET ended_at = NULL, renewed_at = clock_timestamp(), expires_at = excluded.expires_at,
    backend_pid = excluded.backend_pid, backend_start = excluded.backend_start

-- name: renew_driver
-- Tell others that the run is driven; no row when this execution is not its driver.
UPDATE migration_status.run_executions
SET renewed_at = clock_timestamp(),
    expires_at = greatest(expires_at, clock_timestamp() + %(seconds)s * interval '1 second')
WHERE run_id = %(run_id)s AND execution_id = %(execution_id)s AND ended_at IS NULL
RETURNING execution_id

-- name: renew_any_driver
-- A worker is at work: whoever drives the run is alive at least as long as the worker.
UPDATE migration_status.run_executions
SET renewed_at = clock_timestamp(),
    expires_at = greatest(expires_at, clock_timestamp() + %(seconds)s * interval '1 second')
WHERE run_id = %(run_id)s AND ended_at IS NULL

-- name: driven_run
-- The run of the source that this execution drives already, as when it is asked twice; it may drive one of another source,
-- whose run an error ended.
SELECT e.run_id FROM migration_status.run_executions e
JOIN migration_status.runs r USING (run_id)
WHERE e.execution_id = %(execution_id)s AND e.ended_at IS NULL AND r.status = 'running'
  AND r.source_name = %(source_name)s

-- name: left_behind
-- Closed runs with a worker that may still hold a target of this run.
SELECT DISTINCT t.run_id
FROM migration_status.run_tables t
JOIN migration_status.chunks c USING (run_id, table_id)
JOIN migration_status.run_tables mine
  ON mine.target_schema = t.target_schema AND mine.target_table = t.target_table AND mine.run_id = %(run_id)s
WHERE t.status = 'abandoned' AND t.run_id <> mine.run_id AND c.status = 'running'

-- name: current_driver
-- Who drives the run.
SELECT execution_id FROM migration_status.run_executions WHERE run_id = %(run_id)s AND ended_at IS NULL

-- name: fence_run
-- From here on nothing that was begun before can commit into the run's unfinished tables.
UPDATE migration_status.run_tables SET load_epoch = load_epoch + 1
WHERE run_id = %(run_id)s AND status IN ('pending', 'scanning', 'loading', 'finalizing', 'failed')

-- name: reopen_tables
-- Tables of a resumed run go on from where they were: failed ones, but for those that were skipped, and ones that were
-- about to be finished.
UPDATE migration_status.run_tables
SET status = CASE WHEN source_rows IS NOT NULL THEN 'loading' WHEN query_id IS NOT NULL THEN 'scanning' ELSE 'pending' END,
    error_code = NULL, error_text = NULL, completed_at = NULL
WHERE run_id = %(run_id)s AND status IN ('failed', 'finalizing') AND error_code IS DISTINCT FROM %(skipped_code)s::text

-- name: reopen_chunks
-- Failed chunks of a resumed run may be tried again, as often as any other.
UPDATE migration_status.chunks c SET status = 'pending', attempts = 0
FROM migration_status.run_tables t
WHERE t.run_id = c.run_id AND t.table_id = c.table_id AND t.status = 'loading'
  AND c.run_id = %(run_id)s AND c.status = 'failed'

-- name: reopen_run
-- The run goes on.
UPDATE migration_status.runs
SET status = 'running', completed_at = NULL, error_code = NULL, error_text = NULL, waits = 0, stalled_rounds = 0,
    planned_round = -1, progress_mark = 0, allow_shrink = allow_shrink OR %(allow_shrink)s,
    accept_rejected = accept_rejected OR %(accept_rejected)s
WHERE run_id = %(run_id)s

-- name: abandon_run
-- The run is over and will never be resumed; the failure it had stays.
UPDATE migration_status.runs
SET status = 'abandoned', completed_at = clock_timestamp(), error_code = coalesce(error_code, 'Abandoned'),
    error_text = %(reason)s || coalesce('; before that: ' || error_text, '')
WHERE run_id = %(run_id)s AND status IN ('running', 'failed')

-- name: abandon_tables
-- Its unfinished tables let go of their targets, and no load that is under way can commit.
UPDATE migration_status.run_tables
SET status = 'abandoned', load_epoch = load_epoch + 1, completed_at = clock_timestamp(),
    error_code = coalesce(error_code, 'Abandoned'),
    error_text = %(reason)s || coalesce('; before that: ' || error_text, '')
WHERE run_id = %(run_id)s AND status IN ('pending', 'scanning', 'loading', 'finalizing', 'failed')

-- name: read_run
-- One run.
SELECT run_id, source_name, status, config_hash, snapshot_at, started_at, completed_at, rounds, waits, stalled_rounds,
       planned_round, progress_mark, snowmelt_version, plan_format, store, allow_shrink, accept_rejected, error_code,
       error_text
FROM migration_status.runs WHERE run_id = %(run_id)s

-- name: read_tables
-- The tables of a run as they stand.
SELECT table_id, source_table, target_schema, target_table, status, load_epoch, strategy, query_id, second_query_id,
       scan_began_at, source_rows,
       truncated_at, error_code, error_text
FROM migration_status.run_tables WHERE run_id = %(run_id)s ORDER BY table_id

-- name: record_scan
-- The table's one scan is under way.
UPDATE migration_status.run_tables
SET status = 'scanning', query_id = %(query_id)s, scan_began_at = %(began_at)s::timestamptz, started_at = coalesce(started_at, clock_timestamp())
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'pending'
RETURNING load_epoch

-- name: record_second_query
-- The histogram is crowded, and a second query looks into it.
UPDATE migration_status.run_tables SET second_query_id = %(query_id)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'scanning' AND second_query_id IS NULL
RETURNING table_id

-- name: lock_scanned_table
-- The table whose scan has ended, locked; no row when another planner was first.
SELECT table_id, load_epoch, truncated_at FROM migration_status.run_tables
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'scanning' AND query_id = %(query_id)s
FOR UPDATE

-- name: record_truncate
-- Once per run, table and epoch; no row when it has been done.
UPDATE migration_status.run_tables SET truncated_at = clock_timestamp()
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND load_epoch = %(load_epoch)s AND truncated_at IS NULL
RETURNING table_id

-- name: start_loading
-- The chunks are known; workers may claim them.
UPDATE migration_status.run_tables SET status = 'loading', source_rows = %(source_rows)s,
    scan_began_at = coalesce(%(began_at)s::timestamptz, scan_began_at)
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'scanning'
RETURNING table_id

-- name: remember_target
-- By what a target is known again: the table itself, the numbers of the columns that are loaded, and its files, which a
-- truncation replaces.
UPDATE migration_status.run_tables
SET target_identity = (
    SELECT jsonb_build_object(
        'oid', r.oid::bigint,
        'columns', (SELECT jsonb_object_agg(a.attname, a.attnum) FROM pg_attribute a
                    WHERE a.attrelid = r.oid AND a.attname = ANY (%(columns)s::text[]) AND a.attnum > 0
                      AND NOT a.attisdropped),
        'files', (SELECT jsonb_agg(pg_relation_filenode(f.oid)::bigint ORDER BY f.oid)
                  FROM (SELECT r.oid UNION SELECT p.relid FROM pg_partition_tree(r.oid) p) AS f (oid)))
    FROM (SELECT to_regclass(format('%%I.%%I', %(schema_name)s::text, %(table_name)s::text))::oid) AS r (oid)
    WHERE r.oid IS NOT NULL)
WHERE run_id = %(run_id)s AND table_id = %(table_id)s

-- name: targets_as_they_are
-- Unfinished tables whose load has begun: what has become of their targets since, and how many rows of the run must be
-- there at least; chunks of a merge may have the same keys.
SELECT t.table_id, t.source_table, t.target_schema, t.target_table,
       ARRAY(SELECT jsonb_object_keys(t.target_identity->'columns')) AS columns,
       r.oid IS NULL AS is_gone,
       r.oid::bigint IS DISTINCT FROM (t.target_identity->>'oid')::bigint AS is_another,
       coalesce(has_table_privilege(r.oid, 'SELECT'), false) AS may_read,
       ARRAY(SELECT c.name FROM jsonb_each_text(t.target_identity->'columns') AS c (name, number)
             WHERE NOT EXISTS (SELECT FROM pg_attribute a
                               WHERE a.attrelid = r.oid AND a.attname = c.name AND a.attnum = c.number::integer
                                 AND NOT a.attisdropped)
             ORDER BY c.number::integer) AS lost_columns,
       t.target_identity->'files' IS DISTINCT FROM (
           SELECT jsonb_agg(pg_relation_filenode(f.oid)::bigint ORDER BY f.oid)
           FROM (SELECT r.oid UNION SELECT p.relid FROM pg_partition_tree(r.oid) p) AS f (oid)) AS is_rewritten,
       c.chunks, c.completed, c.least_rows
FROM migration_status.run_tables t
CROSS JOIN LATERAL (SELECT to_regclass(format('%%I.%%I', t.target_schema, t.target_table))::oid) AS r (oid)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE k.status <> 'superseded') AS chunks,
           count(*) FILTER (WHERE k.status = 'completed') AS completed,
           greatest(coalesce(sum(k.inserted_rows) FILTER (WHERE k.status = 'completed'), 0),
                    coalesce(max(coalesce(k.inserted_rows, 0) + coalesce(k.updated_rows, 0) + coalesce(k.unchanged_rows, 0)
                                 + coalesce(k.kept_newer_rows, 0)) FILTER (WHERE k.status = 'completed'), 0))::bigint
               AS least_rows
    FROM migration_status.chunks k WHERE k.run_id = t.run_id AND k.table_id = t.table_id) AS c
WHERE t.run_id = %(run_id)s AND t.status IN ('loading', 'finalizing', 'failed') AND t.target_identity IS NOT NULL
ORDER BY t.table_id

-- name: fail_table
-- The table cannot be loaded; nothing more is claimed of it.
UPDATE migration_status.run_tables
SET status = 'failed', load_epoch = load_epoch + 1, completed_at = clock_timestamp(),
    error_code = %(error_code)s, error_text = %(error_text)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status IN ('pending', 'scanning', 'loading', 'finalizing')

-- name: forget_scan
-- The scan never came to anything; the next plan may submit another.
UPDATE migration_status.run_tables SET status = 'pending', query_id = NULL, second_query_id = NULL
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'scanning' AND query_id = %(query_id)s

-- name: restart_table
-- A new epoch: the table is scanned again, and truncated again where it is truncated at all.
UPDATE migration_status.run_tables
SET status = 'pending', load_epoch = load_epoch + 1, query_id = NULL, second_query_id = NULL, source_rows = NULL,
    truncated_at = NULL
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'loading'
RETURNING table_id

-- name: start_finalizing
-- No load of the table can commit from here on; no row unless every chunk is in. An earlier verdict is forgotten.
WITH forgotten AS (
    DELETE FROM migration_status.verification_results WHERE run_id = %(run_id)s AND table_id = %(table_id)s
)
UPDATE migration_status.run_tables t
SET status = 'finalizing', load_epoch = load_epoch + 1
WHERE t.run_id = %(run_id)s AND t.table_id = %(table_id)s AND t.status = 'loading'
  AND NOT EXISTS (SELECT FROM migration_status.chunks c
                  WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status NOT IN ('completed', 'superseded'))
RETURNING table_id

-- name: complete_table
-- All of the table is in the target.
UPDATE migration_status.run_tables SET status = 'completed', completed_at = clock_timestamp()
WHERE run_id = %(run_id)s AND table_id = %(table_id)s AND status = 'finalizing'
RETURNING table_id

-- name: record_round
-- What this plan found, for the next one to compare.
UPDATE migration_status.runs
SET rounds = rounds + 1, waits = %(waits)s, stalled_rounds = %(stalled_rounds)s, planned_round = %(round)s,
    progress_mark = %(progress_mark)s
WHERE run_id = %(run_id)s

-- name: read_watermarks
-- How far the targets of a source have been loaded.
SELECT target_schema, target_table, source_table, watermark, watermark_type
FROM migration_status.watermarks WHERE source_name = %(source_name)s

-- name: write_watermark
-- How far the table has been loaded, now that all of it is in.
INSERT INTO migration_status.watermarks
    (source_name, target_schema, target_table, source_table, watermark, watermark_type, run_id)
VALUES (%(source_name)s, %(target_schema)s, %(target_table)s, %(source_table)s, %(watermark)s, %(watermark_type)s, %(run_id)s)
ON CONFLICT (source_name, target_schema, target_table, source_table) DO UPDATE
SET watermark = excluded.watermark, watermark_type = excluded.watermark_type, run_id = excluded.run_id,
    written_at = clock_timestamp()

-- name: note_error
-- What a worker last complained of, while the run goes on.
UPDATE migration_status.runs SET error_code = %(error_code)s, error_text = %(error_text)s
WHERE run_id = %(run_id)s AND status = 'running'

-- name: finish_run
-- The verdict.
UPDATE migration_status.runs
SET status = CASE WHEN %(error_code)s::text IS NOT NULL THEN 'failed'
                  WHEN EXISTS (SELECT FROM migration_status.chunks c
                               WHERE c.run_id = %(run_id)s AND c.status = 'completed' AND c.rejected_rows > 0)
                  THEN 'completed_with_rejects' ELSE 'completed' END,
    completed_at = clock_timestamp(), error_code = %(error_code)s, error_text = %(error_text)s
WHERE run_id = %(run_id)s AND status = 'running'

-- name: progress
-- Rows and chunks of every table of a run.
SELECT table_id, source_table, target_schema, target_table, p.state AS status, source_rows, rows_loaded, size_bytes, chunks,
       chunks_completed, chunks_running, chunks_failed, seconds, started_at, error_code, error_text, changed_values,
       rejected_rows, kept_newer_rows, deduplicated_rows, first_claimed_at, last_loaded_at, v.verdict, v.reason AS verdict_reason,
       s.omitted
FROM migration_status.v_table_progress p
LEFT JOIN (SELECT run_id, table_id, verdict, reason FROM migration_status.verification_results) v USING (run_id, table_id)
LEFT JOIN (SELECT run_id, table_id, omitted FROM migration_status.run_tables) s USING (run_id, table_id)
WHERE run_id = %(run_id)s ORDER BY table_id

-- name: vitals
-- Whether a run that is on has a driver and workers, and what they wait for.
SELECT e.execution_id AS driver,
       coalesce(e.expires_at > clock_timestamp() AND (e.backend_pid IS NULL OR EXISTS (
           SELECT FROM pg_stat_activity a WHERE a.pid = e.backend_pid
             AND coalesce(a.backend_start = e.backend_start, true))), false) AS driver_is_alive,
       extract(epoch FROM clock_timestamp() - e.renewed_at)::float8 AS driver_seen_seconds,
       coalesce(c.pending, 0) AS pending, coalesce(c.loading, 0) AS loading, coalesce(c.lost, 0) AS lost,
       extract(epoch FROM clock_timestamp() - c.oldest_load)::float8 AS oldest_load_seconds,
       extract(epoch FROM clock_timestamp() - greatest(r.started_at, c.last_step))::float8 AS last_step_seconds,
       (SELECT count(*) FROM migration_status.run_tables t
        WHERE t.run_id = r.run_id AND t.status = 'scanning') AS scanning,
       coalesce(c.blocked_by, '{}') AS blocked_by
FROM migration_status.runs r
LEFT JOIN LATERAL (
    SELECT * FROM migration_status.run_executions d WHERE d.run_id = r.run_id ORDER BY d.renewed_at DESC LIMIT 1
) e ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE k.status = 'pending') AS pending,
           count(*) FILTER (WHERE k.status = 'running' AND a.pid IS NOT NULL) AS loading,
           count(*) FILTER (WHERE k.status = 'running' AND a.pid IS NULL) AS lost,
           min(k.started_at) FILTER (WHERE k.status = 'running' AND a.pid IS NOT NULL) AS oldest_load,
           max(greatest(k.started_at, k.completed_at)) AS last_step,
           array_agg(DISTINCT format(
               'process %%s (%%s%%s%%s); `SELECT pg_terminate_backend(%%s)` ends it', b.pid,
               coalesce(nullif(b.application_name, ''), b.backend_type), ', user ' || b.usename,
               to_char(b.xact_start, '", in a transaction since" YYYY-MM-DD HH24:MI:SS "UTC"'), b.pid))
               FILTER (WHERE b.pid IS NOT NULL) AS blocked_by
    FROM migration_status.chunks k
    LEFT JOIN pg_stat_activity a ON k.status = 'running' AND a.pid = k.backend_pid
         AND coalesce(a.backend_start = k.backend_start, true)  -- NULL to a role that only reads
    LEFT JOIN LATERAL unnest(CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) END) AS h (pid) ON true
    LEFT JOIN pg_stat_activity b ON b.pid = h.pid
    WHERE k.run_id = r.run_id
) c ON true
WHERE r.run_id = %(run_id)s

-- name: error_groups
-- What went wrong in a run: errors that are alike but for the values they quote once, with how many there are and where
-- the first is; the thousand most frequent. A failure is told where it happened: not of the table again whose chunk, row or
-- index it is, nor of the run again whose table it is.
SELECT code, what, "table", count(*) AS count, min(place) AS first, min(text) AS example, bool_and(is_over) AS is_over
FROM (
    SELECT c.error_code AS code, 'chunk' AS what, t.source_table AS "table", 'chunk ' || c.chunk_id AS place,
           coalesce(c.error_text, '') AS text, c.status NOT IN ('failed', 'pending') AS is_over, c.chunk_id AS position
    FROM migration_status.chunks c
    JOIN migration_status.run_tables t USING (run_id, table_id)
    WHERE c.run_id = %(run_id)s AND c.error_code IS NOT NULL
    UNION ALL
    SELECT error_code, 'table', source_table, NULL, coalesce(error_text, ''), false, 0
    FROM migration_status.run_tables t
    WHERE run_id = %(run_id)s AND error_code IS NOT NULL
      AND NOT (error_code IN ('TableFailedError', 'RejectedRowsError', 'IndexNotRestoredError') AND EXISTS (
          SELECT FROM migration_status.chunks c
          WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND t.error_code = 'TableFailedError'
            AND c.status IN ('failed', 'superseded') AND c.error_code IS NOT NULL
          UNION ALL
          SELECT FROM migration_status.rejected_rows r
          WHERE r.run_id = t.run_id AND r.table_id = t.table_id AND t.error_code = 'RejectedRowsError'
          UNION ALL
          SELECT FROM migration_status.saved_indexes s
          WHERE s.run_id = t.run_id AND s.table_id = t.table_id AND t.error_code = 'IndexNotRestoredError'
            AND s.failed_at IS NOT NULL AND s.restored_at IS NULL))
    UNION ALL
    SELECT error_code, 'run', NULL, NULL, coalesce(error_text, ''), false, 0
    FROM migration_status.runs r
    WHERE run_id = %(run_id)s AND error_code IS NOT NULL
      AND NOT (error_code IN ('RunFailedError', 'RejectedRowsError') AND EXISTS (
          SELECT FROM migration_status.run_tables t
          WHERE t.run_id = r.run_id AND t.error_code IS NOT NULL))
    UNION ALL
    SELECT coalesce(r.sqlstate, 'RejectedRowsError'), 'row', t.source_table,
           'row ' || r.row_number || ' of chunk ' || r.chunk_id,
           coalesce('column "' || r.column_name || '": ', '') || r.reason, false, r.row_number
    FROM migration_status.rejected_rows r
    JOIN migration_status.run_tables t USING (run_id, table_id)
    WHERE r.run_id = %(run_id)s
    UNION ALL
    SELECT coalesce(error_code, 'IndexNotRestoredError'), 'index', target_table, index_name, coalesce(error_text, ''),
           restored_at IS NOT NULL, 0
    FROM migration_status.saved_indexes WHERE run_id = %(run_id)s AND failed_at IS NOT NULL
) AS found
GROUP BY code, what, "table", left(regexp_replace(text, '\[value [0-9a-f]+\]', '[value]', 'g'), 60)
ORDER BY is_over, count(*) DESC, what, "table", min(position)
LIMIT 1000

-- name: list_runs
-- The latest runs, newest first.
SELECT r.run_id, r.source_name, r.status, r.started_at, r.completed_at, r.rounds, r.error_code, r.error_text,
       extract(epoch FROM coalesce(r.completed_at, clock_timestamp()) - r.started_at)::double precision AS seconds,
       count(p.table_id) AS tables, count(p.table_id) FILTER (WHERE p.status = 'completed') AS tables_completed,
       sum(p.source_rows)::bigint AS source_rows, sum(p.rows_loaded)::bigint AS rows_loaded,
       sum(p.chunks)::bigint AS chunks, sum(p.chunks_completed)::bigint AS chunks_completed,
       sum(p.chunks_failed)::bigint AS chunks_failed,
       min(p.first_claimed_at) AS first_claimed_at, max(p.last_loaded_at) AS last_loaded_at
FROM migration_status.runs r
LEFT JOIN migration_status.v_table_progress p USING (run_id)
WHERE (%(run_id)s::text IS NULL OR r.run_id = %(run_id)s)
  AND (%(source_name)s::text IS NULL OR r.source_name = %(source_name)s)
GROUP BY r.run_id
ORDER BY r.started_at DESC, r.run_id DESC
LIMIT %(limit)s
