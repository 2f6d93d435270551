-- What PostgreSQL's catalog says about target tables.

-- name: look_only
-- Every transaction of this session from now on can only read.
SELECT set_config('default_transaction_read_only', 'on', false)

-- name: server
-- Who is asking, and where.
SELECT current_user AS "user", current_database() AS database, current_setting('server_version_num')::integer AS version,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       to_regnamespace('migration_status') IS NOT NULL AS has_status_schema,
       current_setting('transaction_read_only') = 'on' OR pg_is_in_recovery() AS read_only

-- name: free_connections
-- How many connections the server would still give to an ordinary user.
SELECT current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
       - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::integer AS free

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

-- name: unique_keys
-- The column sets that the named tables keep unique at once and for all rows.
SELECT n.nspname AS schema_name, c.relname AS table_name,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (attnum)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum) AS columns
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_index i ON i.indrelid = c.oid
WHERE i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY n.nspname, c.relname, i.indexrelid

-- name: foreign_keys
-- The foreign keys from or to the named tables.
SELECT k.conname AS name, cn.nspname AS child_schema, c.relname AS child_table,
       pn.nspname AS parent_schema, p.relname AS parent_table
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = k.confrelid
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
  AND ((cn.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::name[], %(tables)s::name[]))
       OR (pn.nspname, p.relname) IN (SELECT * FROM unnest(%(schemas)s::name[], %(tables)s::name[])))
ORDER BY cn.nspname, c.relname, k.conname

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

-- name: target_facts
-- What else the named tables are and do, beside holding rows.
SELECT n.nspname AS schema_name, c.relname AS name,
       c.relkind = 'p' AS is_partitioned, c.relispartition AS is_partition, c.relpersistence = 'u' AS is_unlogged,
       pg_has_role(c.relowner, 'USAGE') AS is_owned, has_schema_privilege(n.oid, 'CREATE') AS may_create_beside_it,
       row_security_active(c.oid) AS has_row_security,
       ARRAY(SELECT h.inhrelid::regclass::text FROM pg_inherits h
             WHERE h.inhparent = c.oid ORDER BY h.inhrelid::regclass::text) AS children,
       ARRAY(SELECT g.tgname::text FROM pg_trigger g
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 4 <> 0
             ORDER BY g.tgname) AS insert_triggers,
       ARRAY(SELECT g.tgname::text FROM pg_trigger g
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 16 <> 0
             ORDER BY g.tgname) AS update_triggers,
       ARRAY(SELECT g.tgname::text FROM pg_trigger g
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 32 <> 0
             ORDER BY g.tgname) AS truncate_triggers,
       ARRAY(SELECT w.rulename::text FROM pg_rewrite w
             WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled IN ('O', 'A') ORDER BY w.rulename) AS rules,
       greatest(c.reltuples, 0)::bigint AS estimated_rows, pg_table_size(c.oid) AS size_bytes
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p')

-- name: sequences_of_tables
-- The sequences that number whole-numbered columns of the named tables: serial, identity, or a default that draws from one.
SELECT DISTINCT n.nspname AS schema_name, c.relname AS table_name, a.attname AS column_name, a.attnum AS position,
       sn.nspname AS sequence_schema, sc.relname AS sequence_name, q.seqincrement > 0 AS ascends, q.seqmin, q.seqmax
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
-- A partition's identity is its root's.
CROSS JOIN LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid) AS above (relid)) AS lineage (oid)
JOIN pg_attribute la ON la.attrelid = lineage.oid AND la.attname = a.attname
CROSS JOIN LATERAL (
    SELECT d.objid AS oid FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = la.attrelid AND d.refobjsubid = la.attnum AND d.deptype IN ('a', 'i')
    UNION
    SELECT d.refobjid FROM pg_attrdef f
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
    WHERE f.adrelid = la.attrelid AND f.adnum = la.attnum
) AS drawn
JOIN pg_sequence q ON q.seqrelid = drawn.oid
JOIN pg_class sc ON sc.oid = drawn.oid
JOIN pg_namespace sn ON sn.oid = sc.relnamespace
ORDER BY n.nspname, c.relname, a.attnum, sn.nspname, sc.relname
