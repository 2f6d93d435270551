-- What a pre-flight asks of the server of the targets, beside what every start asks.

-- name: server_facts
-- The server's limits and habits, as they are for this user. What users may not see of others' sessions is counted by
-- what they may: whose and in which database they are.
WITH limits AS (
    SELECT coalesce(sum(setting::bigint) FILTER (WHERE name = 'max_connections'), 0)::bigint AS max_connections,
           coalesce(sum(setting::bigint) FILTER (WHERE name IN ('superuser_reserved_connections', 'reserved_connections')),
                    0)::bigint AS reserved_connections,
           coalesce(max(reset_val::bigint) FILTER (WHERE name = 'statement_timeout'), 0) AS statement_timeout,
           coalesce(max(reset_val::bigint) FILTER (WHERE name = 'transaction_timeout'), 0) AS transaction_timeout,
           coalesce(max(reset_val::bigint) FILTER (WHERE name = 'idle_in_transaction_session_timeout'), 0)
               AS idle_in_transaction_session_timeout,
           coalesce(max(reset_val::bigint) FILTER (WHERE name = 'idle_session_timeout'), 0) AS idle_session_timeout
    FROM pg_settings
    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections', 'statement_timeout',
                   'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')
)
SELECT l.*, current_user::text AS role, d.datname::text AS database, pg_encoding_to_char(d.encoding)::text AS encoding,
       clock_timestamp() AS now,
       s.connections - 1 AS connections, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END AS role_limit, s.role_connections - 1 AS role_connections,
       CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END AS database_limit,
       s.database_connections - 1 AS database_connections,
       has_database_privilege(d.oid, 'TEMPORARY') AS may_make_temporary,
       pg_size_bytes(current_setting('max_wal_size')) AS max_wal_size_bytes,
       current_setting('archive_mode') <> 'off'
           AND coalesce((SELECT a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
                         FROM pg_stat_archiver a), false) AS archive_fails,
       coalesce(has_schema_privilege(to_regnamespace('migration_status')::oid, 'USAGE'), true) AS may_use_status,
       -- RDS and Aurora, where nobody is a superuser; and Aurora, whose temporary tables are not in its storage.
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') AS is_rds,
       EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version') AS is_aurora
FROM limits l
CROSS JOIN (SELECT count(*) AS connections, count(*) FILTER (WHERE usename = current_user) AS role_connections,
                   count(*) FILTER (WHERE datname = current_database()) AS database_connections
            FROM pg_stat_activity
            WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend') AS s
JOIN pg_database d ON d.datname = current_database()
JOIN pg_roles r ON r.rolname = current_user

-- name: unread_slots
-- Replication slots that nobody reads, with the log that is kept for them.
SELECT slot_name::text AS name,
       coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                                restart_lsn), 0)::bigint AS kept_bytes
FROM pg_replication_slots
WHERE NOT active AND NOT temporary AND restart_lsn IS NOT NULL
ORDER BY slot_name

-- name: status_without_privilege
-- Tables of the status schema that this user may not use as a run does, and what is missing.
SELECT c.relname::text AS name, concat_ws(', ',
           CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
           CASE WHEN NOT has_table_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
           CASE WHEN NOT has_table_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
           CASE WHEN NOT has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END) AS lacking
FROM pg_class c
WHERE c.relnamespace = to_regnamespace('migration_status') AND c.relkind = 'r'
  AND (c.relname <> 'schema_version' OR NOT has_table_privilege(c.oid, 'SELECT'))
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
           AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY c.relname

-- name: enum_labels
-- The labels of every enum that a column of the named tables has, be it beneath a domain.
SELECT DISTINCT format_type(t.oid, -1) AS declared,
       ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder) AS labels
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type own ON own.oid = a.atttypid
JOIN pg_type t ON t.oid = CASE WHEN own.typtype = 'd' THEN own.typbasetype ELSE own.oid END AND t.typtype = 'e'

-- name: schema_is_there
-- Whether the database has a schema of that name.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s::text) AS is_there

-- name: row_constraints
-- Constraints of the named tables that judge rows by more than their types.
SELECT n.nspname AS schema_name, c.relname AS table_name, k.conname::text AS name,
       pg_get_constraintdef(k.oid) AS definition
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('c', 'x')
ORDER BY n.nspname, c.relname, k.conname

-- name: sequences_without_privilege
-- Those of the named sequences that this user may not move.
SELECT n.nspname AS schema_name, c.relname AS name
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind = 'S'
WHERE NOT (has_sequence_privilege(c.oid, 'UPDATE') AND has_sequence_privilege(c.oid, 'SELECT'))
