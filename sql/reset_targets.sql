-- Empty the targets of a source, so that the next run loads them from the beginning.
-- Their rows and their watermarks go, and the runs that are open on them are closed.
--   psql "$TARGET" -v source=SOURCE_NAME -f sql/reset_targets.sql
--   psql "$TARGET" -v source=SOURCE_NAME -v target=SCHEMA.TABLE -f sql/reset_targets.sql     one of them
-- Names what it would empty and asks; anything but yes changes nothing. -v confirm=yes answers beforehand.
-- Targets are those of the source's runs. One statement empties all of them, in one transaction with the rest, and never what
-- refers to them: where a foreign key of another table does, PostgreSQL refuses, and nothing is changed. Refuses while a run on
-- one of them is driven, or has workers, or is another source's.
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?source}
\else
\prompt 'source (its source_name): ' source
\endif
\if :{?target}
\else
\set target ''
\endif

-- Asked twice: before the question to whoever sits here, and under the lock.
SELECT format($ask$
    WITH targets AS (
        SELECT DISTINCT t.target_schema, t.target_table
        FROM migration_status.runs r
        JOIN migration_status.run_tables t ON t.run_id = r.run_id
        JOIN pg_class c ON c.relname = t.target_table AND c.relkind IN ('r', 'p')
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.target_schema
        WHERE r.source_name = %1$L AND %2$L IN ('', t.target_schema || '.' || t.target_table)
    ), open AS (
        SELECT DISTINCT r.run_id, r.source_name
        FROM migration_status.runs r
        JOIN migration_status.run_tables t ON t.run_id = r.run_id
        JOIN targets g ON (g.target_schema, g.target_table) = (t.target_schema, t.target_table)
        WHERE r.status IN ('running', 'failed') AND t.status NOT IN ('completed', 'abandoned')
           OR r.status = 'running' AND r.source_name = %1$L
    )
    SELECT (SELECT coalesce(string_agg(k.reason, '; ' ORDER BY k.run_id, k.reason), '')
            FROM (SELECT o.run_id, format('run %%s of source %%s is open on it', o.run_id, o.source_name) AS reason
                  FROM open o WHERE o.source_name <> %1$L
                  UNION ALL
                  SELECT o.run_id, format('run %%s is driven by %%s: stop that, or wait for its end', o.run_id, e.execution_id)
                  FROM open o
                  JOIN migration_status.runs r ON r.run_id = o.run_id AND r.status = 'running'
                  JOIN migration_status.run_executions e ON e.run_id = o.run_id AND e.ended_at IS NULL
                  WHERE e.expires_at > clock_timestamp()
                    AND (e.backend_pid IS NULL OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = e.backend_pid
                                                          AND coalesce(a.backend_start = e.backend_start, true)))
                  UNION ALL
                  SELECT o.run_id, format('run %%s has a worker in session %%s: wait until it has ended', o.run_id, a.pid)
                  FROM open o
                  JOIN migration_status.chunks c ON c.run_id = o.run_id AND c.status = 'running'
                  JOIN pg_stat_activity a ON a.pid = c.backend_pid AND coalesce(a.backend_start = c.backend_start, true)) k
           ) AS reasons,
           (SELECT count(*) FROM targets) = 0 AS is_empty,
           coalesce((SELECT string_agg(format('%%I.%%I', g.target_schema, g.target_table), ', '
                                       ORDER BY g.target_schema, g.target_table) FROM targets g), '') AS names,
           coalesce((SELECT array_agg(o.run_id) FROM open o), '{}')::text AS open_runs
$ask$, :'source', :'target') AS question \gset

:question \gset
\echo Targets of source :source and what is in them:
SELECT n.nspname || '.' || c.relname AS target, pg_size_pretty(pg_total_relation_size(c.oid)) AS size,
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS rows_about,
       (SELECT count(*) FROM migration_status.watermarks w
        WHERE w.target_schema = n.nspname AND w.target_table = c.relname) AS watermarks
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE format('%I.%I', n.nspname, c.relname) = ANY (string_to_array(:'names', ', '))
ORDER BY 1;
\echo Runs that would be closed:
SELECT r.run_id, r.status, date_trunc('second', r.started_at) AS started
FROM migration_status.runs r
WHERE r.run_id = ANY (:'open_runs'::text[])
ORDER BY r.started_at;

SELECT :'reasons' <> '' AS is_kept \gset
\if :is_empty
\echo no run of source :source has such a target
\elif :is_kept
\echo kept: :reasons
\else
\if :{?confirm}
\else
\prompt 'Type yes to empty these targets: ' confirm
\endif
SELECT :'confirm' = 'yes' AS is_agreed \gset
\if :is_agreed
BEGIN;
-- The lock under which runs are opened and resumed: nobody begins one meanwhile.
SELECT pg_advisory_xact_lock(hashtextextended('snowmelt:open', 0)) \gset ignored_
SELECT :'names' AS names_shown \gset
:question \gset
SELECT :'reasons' <> '' OR :'names' <> :'names_shown' AS is_kept \gset
\if :is_kept
ROLLBACK;
\echo kept: what is there has changed meanwhile :reasons
\else
-- Tables come first, so that nothing that is under way can commit.
UPDATE migration_status.run_tables
SET status = 'abandoned', load_epoch = load_epoch + 1, completed_at = clock_timestamp(), error_code = 'Abandoned',
    error_text = 'closed by sql/reset_targets.sql'
WHERE run_id = ANY (:'open_runs'::text[]) AND status NOT IN ('completed', 'abandoned');
UPDATE migration_status.runs
SET status = 'abandoned', completed_at = clock_timestamp(), error_code = 'Abandoned',
    error_text = 'closed by sql/reset_targets.sql'
WHERE run_id = ANY (:'open_runs'::text[]) AND status IN ('running', 'failed');
UPDATE migration_status.run_executions SET ended_at = clock_timestamp()
WHERE run_id = ANY (:'open_runs'::text[]) AND ended_at IS NULL;
UPDATE migration_status.chunks SET status = 'superseded', lease_token = NULL, lease_until = NULL
WHERE run_id = ANY (:'open_runs'::text[]) AND status IN ('pending', 'running', 'failed');
DELETE FROM migration_status.watermarks w
WHERE format('%I.%I', w.target_schema, w.target_table) = ANY (string_to_array(:'names', ', '));
TRUNCATE :names;
COMMIT;
\echo emptied: :names
\endif
\else
\echo nothing was changed
\endif
\endif
