-- Forget one run that is over: its rows in the status schema, and nothing else. No target is touched.
--   psql "$TARGET" -v run_id=RUN_ID -f sql/clear_state.sql
-- A run that is running is never touched; neither is one whose dropped indexes are still to be rebuilt.
-- A failed run can be resumed until it is forgotten. Watermarks stay. The run's plans stay in the bucket until they
-- expire there.
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?run_id}
\else
\prompt 'run id: ' run_id
\endif

BEGIN;

-- The lock under which runs are opened and resumed: nobody resumes the run while it is being looked at.
SELECT pg_advisory_xact_lock(hashtextextended('snowmelt:open', 0)) \gset ignored_

SELECT coalesce(
           (SELECT CASE
                WHEN r.status = 'running' THEN
                    format('kept: run %s is running; let it end, or close it by starting its source with no_resume', r.run_id)
                WHEN i.unbuilt > 0 THEN
                    format('kept: run %s has dropped %s indexes that are not built again; their definitions are in '
                           'migration_status.saved_indexes', r.run_id, i.unbuilt)
                ELSE format('forgotten: run %s, which was %s', r.run_id, r.status)
            END
            FROM migration_status.runs r
            CROSS JOIN LATERAL (SELECT count(*) AS unbuilt FROM migration_status.saved_indexes s
                                WHERE s.run_id = r.run_id AND s.restored_at IS NULL) AS i
            WHERE r.run_id = :'run_id'),
           format('there is no run %s', :'run_id')) AS verdict;

-- Tables, chunks, executions and rejected rows go with it; its saved indexes, all of them built again, go by name.
WITH forgotten AS (
    DELETE FROM migration_status.runs r
    WHERE r.run_id = :'run_id' AND r.status <> 'running'
      AND NOT EXISTS (SELECT FROM migration_status.saved_indexes s WHERE s.run_id = r.run_id AND s.restored_at IS NULL)
    RETURNING r.run_id)
DELETE FROM migration_status.saved_indexes s USING forgotten f WHERE s.run_id = f.run_id;

COMMIT;
