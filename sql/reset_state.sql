-- Forget all runs of a source, and how far its targets have been loaded: the next run reads everything. No target is touched.
--   psql "$TARGET" -v source=SOURCE_NAME -f sql/reset_state.sql
-- Names what it would empty and asks; anything but yes changes nothing. -v confirm=yes answers beforehand.
-- Refuses while a run of the source is driven, or has workers, or has dropped indexes that are not built again. Rejected rows go
-- with their runs: `snowmelt rejects export` keeps them. Plans and reports stay in the store until they expire there.
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?source}
\else
\prompt 'source (its source_name): ' source
\endif

-- Asked twice: before the question to whoever sits here, and under the lock.
SELECT format($ask$
    SELECT coalesce(string_agg(k.reason, '; ' ORDER BY k.run_id, k.reason), '') AS reasons,
           (SELECT count(*) FROM migration_status.runs r WHERE r.source_name = %1$L)
           + (SELECT count(*) FROM migration_status.watermarks w WHERE w.source_name = %1$L) = 0 AS is_empty
    FROM (SELECT r.run_id, format('run %%s is driven by %%s: stop that, or wait for its end', r.run_id, e.execution_id) AS reason
          FROM migration_status.runs r
          JOIN migration_status.run_executions e ON e.run_id = r.run_id AND e.ended_at IS NULL
          WHERE r.source_name = %1$L AND r.status = 'running' AND e.expires_at > clock_timestamp()
            AND (e.backend_pid IS NULL OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = e.backend_pid
                                                  AND coalesce(a.backend_start = e.backend_start, true)))
          UNION ALL
          SELECT r.run_id, format('run %%s has a worker in session %%s: wait until it has ended', r.run_id, a.pid)
          FROM migration_status.runs r
          JOIN migration_status.chunks c ON c.run_id = r.run_id AND c.status = 'running'
          JOIN pg_stat_activity a ON a.pid = c.backend_pid AND coalesce(a.backend_start = c.backend_start, true)
          WHERE r.source_name = %1$L
          UNION ALL
          SELECT r.run_id, format('run %%s has dropped %%s indexes that are not built again: snowmelt indexes restore',
                                  r.run_id, count(*))
          FROM migration_status.runs r
          JOIN migration_status.saved_indexes s ON s.run_id = r.run_id AND s.restored_at IS NULL
          WHERE r.source_name = %1$L
          GROUP BY r.run_id) k
$ask$, :'source') AS question \gset

\echo Runs of source :source and what is known of each:
SELECT r.run_id, r.status, date_trunc('second', r.started_at) AS started,
       (SELECT count(*) FROM migration_status.run_tables t WHERE t.run_id = r.run_id) AS tables,
       (SELECT count(*) FROM migration_status.chunks c WHERE c.run_id = r.run_id) AS chunks,
       (SELECT coalesce(sum(c.rejected_rows), 0) FROM migration_status.chunks c WHERE c.run_id = r.run_id) AS rejected_rows
FROM migration_status.runs r
WHERE r.source_name = :'source'
ORDER BY r.started_at, r.run_id;
\echo Targets whose watermark would be forgotten:
SELECT w.target_schema || '.' || w.target_table AS target, w.source_table, date_trunc('second', w.written_at) AS written
FROM migration_status.watermarks w
WHERE w.source_name = :'source'
ORDER BY 1, 2;

:question \gset
SELECT :'reasons' <> '' AS is_kept \gset
\if :is_empty
\echo nothing is known of source :source
\elif :is_kept
\echo kept: :reasons
\else
\if :{?confirm}
\else
\prompt 'Type yes to forget all of this: ' confirm
\endif
SELECT :'confirm' = 'yes' AS is_agreed \gset
\if :is_agreed
BEGIN;
-- The lock under which runs are opened and resumed: nobody begins one meanwhile.
SELECT pg_advisory_xact_lock(hashtextextended('snowmelt:open', 0)) \gset ignored_
:question \gset
SELECT :'reasons' <> '' AS is_kept \gset
\if :is_kept
ROLLBACK;
\echo kept: :reasons
\else
DELETE FROM migration_status.saved_indexes s USING migration_status.runs r WHERE r.run_id = s.run_id AND r.source_name = :'source';
DELETE FROM migration_status.watermarks WHERE source_name = :'source';
DELETE FROM migration_status.runs WHERE source_name = :'source';
COMMIT;
\echo forgotten: all runs and watermarks of source :source
\endif
\else
\echo nothing was changed
\endif
\endif
