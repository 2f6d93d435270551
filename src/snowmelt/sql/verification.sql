-- What a verification asks of the status schema and of the server.

-- name: pin_text_forms
-- Values are written as text in one way, whatever the server, the database or the role prefers; whether texts are UTF-8.
SELECT set_config('bytea_output', 'hex', false), set_config('intervalstyle', 'postgres', false),
       set_config('extra_float_digits', '1', false), current_setting('server_encoding') = 'UTF8' AS is_utf8

-- name: loads_of_source
-- Every table of every run of a source, the newest first, with the rows that gave way to newer ones of the same key, and
-- those that were refused.
SELECT t.run_id, t.table_id, t.source_table, t.target_schema, t.target_table, t.status, t.query_id, t.source_rows,
       t.truncated_at, r.snapshot_at, r.started_at,
       coalesce((SELECT sum(c.deduplicated_rows) FROM migration_status.migration_chunk_status c
                 WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'), 0)::bigint
           AS deduplicated_rows,
       coalesce((SELECT sum(c.rejected_rows) FROM migration_status.migration_chunk_status c
                 WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'), 0)::bigint
           AS rejected_rows,
       (SELECT l.run_id FROM migration_status.migration_table_status l
        JOIN migration_status.migration_runs n USING (run_id)
        WHERE l.target_schema = t.target_schema AND l.target_table = t.target_table AND n.started_at > r.started_at
          AND l.run_id <> t.run_id
          AND (l.truncated_at IS NOT NULL OR l.status IN ('loading', 'finalizing', 'completed')
               OR EXISTS (SELECT FROM migration_status.migration_chunk_status c
                          WHERE c.run_id = l.run_id AND c.table_id = l.table_id AND c.status IN ('running', 'completed')))
        ORDER BY n.started_at DESC LIMIT 1) AS loaded_since_by
FROM migration_status.migration_table_status t
JOIN migration_status.migration_runs r USING (run_id)
WHERE r.source_name = %(source_name)s AND (%(run_id)s::text IS NULL OR r.run_id = %(run_id)s)
ORDER BY r.started_at DESC, r.run_id DESC, t.table_id

-- name: spreading_deletes
-- Foreign keys through which deleting a row of the table changes or deletes rows of another.
SELECT k.conname AS name, k.conrelid::regclass::text AS of_table
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd') AND n.nspname = %(schema_name)s AND c.relname = %(table_name)s
ORDER BY k.conname
