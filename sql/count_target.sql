-- Is everything there? Counts each target of a run, row by row, beside what its scan had and what was loaded.
--   psql "$TARGET" -v run_id=RUN_ID -f sql/count_target.sql
-- target_rows equals scan_rows for a table that the run truncated or found empty; where it appended or merged there may
-- be more.
-- Counting reads the whole table: seconds for millions of rows, minutes for billions.
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?run_id}
\else
\prompt 'run id: ' run_id
\endif

SELECT string_agg(
           format('SELECT %L AS source_table, %L AS target, %L AS status, %L::bigint AS scan_rows, '
                  '%L::bigint AS rows_loaded, count(*) AS target_rows, count(*) = %L::bigint AS equal FROM %I.%I',
                  source_table, target_schema || '.' || target_table, state, source_rows,
                  rows_loaded, source_rows, target_schema, target_table),
           E'\nUNION ALL ' ORDER BY table_id)
FROM migration_status.v_table_progress
WHERE run_id = :'run_id'
\gexec
