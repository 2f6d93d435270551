-- What PostgreSQL's catalog says about target tables.

-- name: server
-- Who is asking, and where.
SELECT current_user AS "user", current_database() AS database, current_setting('server_version_num')::integer AS version,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       to_regnamespace('migration_status') IS NOT NULL AS has_status_schema,
       current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS read_only

-- name: target_tables
-- The named tables, with what this user may do to them; no row for a table that is not there.
SELECT n.nspname AS schema_name, c.relname AS name, c.relkind::text AS kind,
       has_schema_privilege(n.oid, 'USAGE') AS may_use_schema,
       has_table_privilege(c.oid, 'INSERT') AS may_insert,
       has_table_privilege(c.oid, 'SELECT') AS may_select,
       has_table_privilege(c.oid, 'TRUNCATE') AS may_truncate
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')

-- name: target_columns
-- The columns of the named tables, in their order.
SELECT n.nspname AS schema_name, c.relname AS table_name, a.attname AS name, a.atttypmod AS typmod,
       CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname ELSE t.oid::regtype::text END AS type,
       NOT a.attnotnull AS nullable, a.atthasdef AS has_default, a.attgenerated <> '' AS generated,
       CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' ELSE '' END AS identity
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
ORDER BY n.nspname, c.relname, a.attnum
