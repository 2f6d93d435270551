-- What does the source hold? To be compared with count_target.sql.
-- For a Snowflake worksheet: edit the names (in double quotes, exact in case), run what you need.

-- 1. Rows as they are now. Add the table's source_filter as a WHERE, if it has one.
SELECT COUNT(*) AS rows_now FROM "NYC"."PUBLIC"."FLIGHTS";

-- 2. Rows that the run read: query_id as migration_status.run_tables has it. Works for 24 hours, for the
--    user who ran it; it is the number that source_rows has in PostgreSQL.
-- SELECT COUNT(*) AS rows_read FROM TABLE(RESULT_SCAN('QUERY_ID'));

-- 3. Rows as they were when the scan began, where the table has Time Travel: scan_began_at as migration_status.run_tables
--    has it. Equal to 2 when there is no source_filter. BEFORE(STATEMENT => ...) would count them as they were when the
--    scan ended, with all that was committed meanwhile.
-- SELECT COUNT(*) AS rows_then FROM "NYC"."PUBLIC"."FLIGHTS" AT(TIMESTAMP => 'SCAN_BEGAN_AT'::TIMESTAMP_LTZ);

-- 4. Every statement of a run, with how long it took. The tag is on all of them.
-- SELECT query_id, start_time, total_elapsed_time / 1000 AS seconds, rows_produced, bytes_scanned, error_message
-- FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY(RESULT_LIMIT => 10000))
-- WHERE TRY_PARSE_JSON(query_tag):run_id::VARCHAR = 'RUN_ID'
-- ORDER BY start_time;
