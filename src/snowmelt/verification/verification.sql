-- What a verification asks of the status schema and of the server.

-- name: pin_text_forms
-- Values are written as text in one way, whatever the server, the database or the role prefers; whether texts are UTF-8.
SELECT set_config('bytea_output', 'hex', false), set_config('intervalstyle', 'postgres', false),
       set_config('extra_float_digits', '1', false), current_setting('server_encoding') = 'UTF8' AS is_utf8

-- name: loads_of_source
-- Every table of every run of a source, the newest first, with the rows that gave way to newer ones of the same key, and
-- those that were refused, and those that gave way to newer ones in the target.
SELECT t.run_id, t.table_id, t.source_table, t.target_schema, t.target_table, t.status, t.error_code, t.query_id, t.source_rows,
       t.scan_began_at,
       t.truncated_at, r.snapshot_at, r.started_at,
       coalesce((SELECT sum(c.deduplicated_rows) FROM migration_status.chunks c
                 WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'), 0)::bigint
           AS deduplicated_rows,
       coalesce((SELECT sum(c.rejected_rows) FROM migration_status.chunks c
                 WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'), 0)::bigint
           AS rejected_rows,
       coalesce((SELECT sum(c.kept_newer_rows) FROM migration_status.chunks c
                 WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'), 0)::bigint
           AS kept_newer_rows,
       (SELECT l.run_id FROM migration_status.run_tables l
        JOIN migration_status.runs n USING (run_id)
        WHERE l.target_schema = t.target_schema AND l.target_table = t.target_table AND n.started_at > r.started_at
          AND l.run_id <> t.run_id
          AND (l.source_table = t.source_table OR NOT l.adds_only)  -- what others add or merge is no row of this table
          AND (l.truncated_at IS NOT NULL OR l.status IN ('loading', 'finalizing', 'completed')
               OR EXISTS (SELECT FROM migration_status.chunks c
                          WHERE c.run_id = l.run_id AND c.table_id = l.table_id AND c.status IN ('running', 'completed')))
        ORDER BY n.started_at DESC LIMIT 1) AS loaded_since_by
FROM migration_status.run_tables t
JOIN migration_status.runs r USING (run_id)
WHERE r.source_name = %(source_name)s AND (%(run_id)s::text IS NULL OR r.run_id = %(run_id)s)
ORDER BY r.started_at DESC, r.run_id DESC, t.table_id

-- name: load_of_table
-- One table of a run, with the rows that its chunks did not send or that were refused.
SELECT t.run_id, t.query_id, r.snapshot_at, t.scan_began_at, t.source_rows, coalesce(sum(c.deduplicated_rows), 0)::bigint AS deduplicated_rows,
       coalesce(sum(c.rejected_rows), 0)::bigint AS rejected_rows,
       coalesce(sum(c.kept_newer_rows), 0)::bigint AS kept_newer_rows
FROM migration_status.run_tables t
JOIN migration_status.runs r USING (run_id)
LEFT JOIN migration_status.chunks c
    ON c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed'
WHERE t.run_id = %(run_id)s AND t.table_id = %(table_id)s
GROUP BY t.run_id, t.table_id, r.snapshot_at

-- name: rejected_contents
-- The rows that were rejected of a table of a run.
SELECT r.row_content
FROM migration_status.rejected_rows r
JOIN migration_status.chunks c USING (run_id, table_id, chunk_id)
WHERE r.run_id = %(run_id)s AND r.table_id = %(table_id)s AND c.status = 'completed'
LIMIT %(limit)s

-- name: rewriting_triggers
-- Triggers and rules that may change or drop what is written into a table or its partitions.
SELECT t.tgname AS name, 'trigger' AS kind
FROM pg_trigger t
WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
  AND t.tgrelid IN (SELECT format('%%I.%%I', %(schema_name)s::text, %(table_name)s::text)::regclass::oid
                    UNION ALL
                    SELECT relid FROM pg_partition_tree(format('%%I.%%I', %(schema_name)s::text, %(table_name)s::text)::regclass))
UNION
SELECT r.rulename, 'rule'
FROM pg_rewrite r
WHERE r.ev_class = format('%%I.%%I', %(schema_name)s::text, %(table_name)s::text)::regclass AND r.ev_enabled IN ('O', 'A')
ORDER BY 2, 1

-- name: spreading_deletes
-- Foreign keys through which deleting a row of the table changes or deletes rows of another.
SELECT k.conname AS name, k.conrelid::regclass::text AS of_table
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd') AND n.nspname = %(schema_name)s AND c.relname = %(table_name)s
ORDER BY k.conname

-- name: blocks_of_table
-- How many blocks the largest part of a table has; NULL where the server cannot read ranges of them.
SELECT CASE WHEN current_setting('server_version_num')::int >= 140000
            THEN max(pg_relation_size(part) / current_setting('block_size')::int) END AS blocks
FROM (SELECT format('%%I.%%I', %(schema_name)s::text, %(table_name)s::text)::regclass AS named) whole,
     LATERAL (SELECT named AS part UNION ALL SELECT relid FROM pg_partition_tree(named)) parts

-- name: limit_statements
-- From here on the server ends a statement of this session that takes longer.
SELECT set_config('statement_timeout', %(milliseconds)s::text, false)

-- name: begin_verification
-- A table is about to be compared with its source, or this has been begun before.
INSERT INTO migration_status.verification_results (run_id, table_id, mode)
VALUES (%(run_id)s, %(table_id)s, %(mode)s)
ON CONFLICT (run_id, table_id) DO UPDATE SET mode = excluded.mode
RETURNING source_query_id, next_block, summed_rows, summed_hashes, tries

-- name: save_sums
-- How far the target's rows are summed.
UPDATE migration_status.verification_results
SET next_block = %(next_block)s, summed_rows = %(rows)s, summed_hashes = %(hashes)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s

-- name: save_source_query
-- The statement by which Snowflake sums its rows.
UPDATE migration_status.verification_results SET source_query_id = %(query_id)s
WHERE run_id = %(run_id)s AND table_id = %(table_id)s

-- name: count_try
-- An invocation begins what it must finish.
UPDATE migration_status.verification_results SET tries = tries + 1
WHERE run_id = %(run_id)s AND table_id = %(table_id)s
RETURNING tries

-- name: save_verdict
-- What was found; what was summed for it is of no more use.
INSERT INTO migration_status.verification_results AS v
    (run_id, table_id, mode, verdict, reason, source_rows, target_rows, missing, extra, changed, kept_newer, seconds,
     checked_at)
VALUES (%(run_id)s, %(table_id)s, %(mode)s, %(verdict)s, %(reason)s, %(source_rows)s, %(target_rows)s, %(missing)s,
        %(extra)s, %(changed)s, %(kept_newer)s, %(seconds)s, clock_timestamp())
ON CONFLICT (run_id, table_id) DO UPDATE
SET mode = excluded.mode, verdict = excluded.verdict, reason = excluded.reason, source_rows = excluded.source_rows,
    target_rows = excluded.target_rows, missing = excluded.missing, extra = excluded.extra, changed = excluded.changed,
    kept_newer = excluded.kept_newer, seconds = excluded.seconds, checked_at = excluded.checked_at, source_query_id = NULL, next_block = 0,
    summed_rows = 0, summed_hashes = 0, tries = 0

-- name: verdicts_of_run
-- What was found of each table that was verified; where an earlier version made the table it has no kept_newer.
SELECT v.table_id, t.source_table, v.mode, v.verdict, v.source_rows, v.target_rows, v.missing, v.extra, v.changed,
       coalesce((to_jsonb(v)->>'kept_newer')::bigint, 0) AS kept_newer, v.reason, v.seconds, v.checked_at
FROM migration_status.verification_results v
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE v.run_id = %(run_id)s AND v.verdict IS NOT NULL
ORDER BY v.table_id
