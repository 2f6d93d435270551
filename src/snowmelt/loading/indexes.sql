-- Indexes and foreign keys that are dropped for a load, and put back after it.

-- name: target_indexes
-- The indexes of the named tables, with all that hangs on each. Names are qualified, as no path finds them.
SELECT n.nspname AS schema_name, t.relname AS table_name, t.relkind = 'p' AS is_of_partitioned, c.relname AS name,
       pg_get_indexdef(i.indexrelid) AS definition, pg_relation_size(c.oid) AS size_bytes,
       coalesce(s.spcname, '') AS tablespace,
       i.indisunique AS is_unique, i.indisprimary AS is_primary, i.indisreplident AS is_replica_identity,
       i.indisvalid AND i.indisready AND i.indislive AS is_valid, c.relispartition AS is_partition,
       i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS is_arbiter,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS key_columns,
       (SELECT min(k.conname) FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype <> 'f') AS constraint_name,
       (SELECT min(k.conname || ' of ' || k.conrelid::regclass::text) FROM pg_constraint k
        WHERE k.conindid = c.oid AND k.contype = 'f') AS referenced_by,
       to_jsonb(ARRAY(
           SELECT format('COMMENT ON INDEX %%I.%%I IS %%L', n.nspname, c.relname, d.description)
           FROM pg_description d WHERE d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
           UNION ALL
           SELECT format('ALTER INDEX %%I.%%I ALTER COLUMN %%s SET STATISTICS %%s', n.nspname, c.relname, a.attnum, a.attstattarget)
           FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0
           UNION ALL
           SELECT format('ALTER TABLE %%I.%%I CLUSTER ON %%I', n.nspname, t.relname, c.relname) WHERE i.indisclustered
       )) AS afterwards
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = wanted.name
JOIN pg_index i ON i.indrelid = t.oid
JOIN pg_class c ON c.oid = i.indexrelid
LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
ORDER BY n.nspname, t.relname, c.relname

-- name: set_search_path
-- Look names up there until the transaction ends.
SELECT set_config('search_path', %(search_path)s, true)

-- name: save_indexes
-- Save these indexes to be rebuilt. One that is saved already was put back by someone since: it counts as it is now.
INSERT INTO migration_status.saved_indexes
    (run_id, table_id, target_schema, target_table, index_name, definition, tablespace, afterwards, is_unique, size_bytes)
SELECT %(run_id)s, %(table_id)s, %(target_schema)s, %(target_table)s, x.*
FROM jsonb_to_recordset(%(indexes)s::jsonb) AS x
    (name text, definition text, tablespace text, afterwards jsonb, is_unique boolean, size_bytes bigint)
ON CONFLICT (target_schema, target_table, kind, index_name) WHERE restored_at IS NULL DO UPDATE
SET definition = excluded.definition, tablespace = excluded.tablespace, afterwards = excluded.afterwards,
    is_unique = excluded.is_unique, size_bytes = excluded.size_bytes, saved_at = clock_timestamp()

-- name: save_foreign_keys
-- Save these foreign keys for the table. Names are qualified, as no path finds them.
INSERT INTO migration_status.saved_indexes
    (run_id, table_id, target_schema, target_table, kind, index_name, definition, afterwards, is_unique, size_bytes)
SELECT %(run_id)s, %(table_id)s, n.nspname, c.relname, 'foreign key', k.conname,
       format('ALTER TABLE %%I.%%I ADD CONSTRAINT %%I %%s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)),
       to_jsonb(ARRAY(SELECT format('COMMENT ON CONSTRAINT %%I ON %%I.%%I IS %%L', k.conname, n.nspname, c.relname, d.description)
                      FROM pg_description d WHERE d.objoid = k.oid AND d.classoid = 'pg_constraint'::regclass)),
       false, 0
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(target_schema)s AND c.relname = %(target_table)s AND k.contype = 'f' AND k.conparentid = 0
  AND k.conname = ANY (%(names)s)
ON CONFLICT (target_schema, target_table, kind, index_name) WHERE restored_at IS NULL DO UPDATE
SET definition = excluded.definition, afterwards = excluded.afterwards, saved_at = clock_timestamp()
RETURNING index_name

-- name: has_unbuilt_indexes
-- Whether any run has left the table without indexes it had.
SELECT EXISTS (SELECT FROM migration_status.saved_indexes
               WHERE target_schema = %(target_schema)s AND target_table = %(target_table)s AND restored_at IS NULL) AS unbuilt

-- name: adopt_indexes
-- What an earlier load of the table left unbuilt is this run's to build, with a new set of attempts.
UPDATE migration_status.saved_indexes
SET run_id = %(run_id)s, table_id = %(table_id)s, attempts = 0, failed_at = NULL, error_code = NULL, error_text = NULL
WHERE target_schema = %(target_schema)s AND target_table = %(target_table)s AND restored_at IS NULL
RETURNING index_name

-- name: end_builds
-- End the sessions that are still building indexes of the table for an earlier load.
SELECT pg_terminate_backend(l.pid) AS ended
FROM migration_status.saved_indexes s
JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
               AND (l.classid::bigint << 32 | l.objid::bigint) = s.lock_key
               AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
WHERE s.target_schema = %(target_schema)s AND s.target_table = %(target_table)s AND s.restored_at IS NULL
  AND l.pid <> pg_backend_pid()

-- name: missing_indexes
-- Indexes to rebuild, the biggest first, with who is building them and whether their table is still being loaded.
SELECT s.saved_id, s.kind, s.run_id, s.table_id, s.target_schema, s.target_table, s.index_name, s.definition, s.is_unique,
       s.size_bytes, s.attempts, s.failed_at IS NOT NULL AS is_failed, s.error_code, s.error_text,
       l.pid AS backend_pid,
       extract(epoch FROM clock_timestamp() - a.xact_start)::double precision AS seconds,
       p.phase,
       CASE WHEN p.blocks_total > 0 THEN 100.0 * p.blocks_done / p.blocks_total
            WHEN p.tuples_total > 0 THEN 100.0 * p.tuples_done / p.tuples_total END::double precision AS percent_of_phase,
       coalesce(r.status = 'running' AND t.status IN ('pending', 'scanning', 'loading'), false) AS is_loading
FROM migration_status.saved_indexes s
LEFT JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                    AND (l.classid::bigint << 32 | l.objid::bigint) = s.lock_key
                    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_stat_progress_create_index p ON p.pid = l.pid
LEFT JOIN migration_status.runs r ON r.run_id = s.run_id
LEFT JOIN migration_status.run_tables t ON t.run_id = s.run_id AND t.table_id = s.table_id
WHERE s.restored_at IS NULL
  AND (%(run_id)s::text IS NULL OR s.run_id = %(run_id)s)
  AND (%(table_id)s::integer IS NULL OR s.table_id = %(table_id)s)
ORDER BY s.size_bytes DESC, s.saved_id

-- name: retry_indexes
-- Give what failed another set of attempts.
UPDATE migration_status.saved_indexes SET failed_at = NULL, error_code = NULL, error_text = NULL, attempts = 0
WHERE failed_at IS NOT NULL AND restored_at IS NULL
  AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
  AND (%(table_id)s::integer IS NULL OR table_id = %(table_id)s)

-- name: build_settings
-- Put these settings in place for the session; ones that this version of the server does not know are left out.
SELECT set_config(s.name, wanted.value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)
JOIN pg_settings s ON s.name = wanted.name

-- name: begin_build
-- Count the attempt, committed before it begins; no row when there is nothing to build, false when it was tried enough.
UPDATE migration_status.saved_indexes
SET attempts = attempts + 1, started_at = clock_timestamp(),
    failed_at = CASE WHEN attempts >= %(most)s THEN clock_timestamp() END,
    error_code = CASE WHEN attempts >= %(most)s THEN 'BuildLost' ELSE error_code END,
    error_text = CASE WHEN attempts >= %(most)s
                      THEN attempts || ' builds ended without a result (cancelled, server restarted, out of memory)'
                      ELSE error_text END
WHERE saved_id = %(saved_id)s AND run_id = %(run_id)s AND restored_at IS NULL AND failed_at IS NULL
RETURNING failed_at IS NULL AS begun

-- name: restore_index
-- Build one; its transaction goes on to the end whatever becomes of this client.
SELECT migration_status.restore_index(%(saved_id)s, %(run_id)s, %(code_path)s) AS outcome
