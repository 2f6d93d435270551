-- What PostgreSQL's catalog says about target tables.

-- name: look_only
-- Every transaction of this session from now on can only read.
SELECT set_config('default_transaction_read_only', 'on', false)

-- name: settle
-- Which process of the server answers. Where that is the one that let this client in, no limit that the role or the
-- database brings ends what this session does: a chunk waits for rows, a build takes hours. Not every version has each of
-- them. Where it is another one, a pooler stands between, and the session may be others' too.
SELECT pg_backend_pid() AS backend_pid,
       (SELECT count(set_config(name, '0', false)) FROM pg_settings
        WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
                       'transaction_timeout')
          AND setting <> '0' AND pg_backend_pid() = %(backend_pid)s) AS lifted

-- name: this_process
-- Which process of the server answers.
SELECT pg_backend_pid() AS backend_pid

-- name: put_in_place
-- Settings of this session that a pooler has not passed on; ones that this version of the server does not know are left
-- out.
SELECT count(set_config(wanted.name, wanted.value, false)) AS settings
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)
WHERE wanted.name LIKE 'snowmelt.%%' OR EXISTS (SELECT FROM pg_settings s WHERE lower(s.name) = wanted.name)

-- name: server
-- Who is asking, and where.
SELECT current_user AS "user", current_database() AS database, current_setting('server_version_num')::integer AS version,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       to_regnamespace('migration_status') IS NOT NULL AS has_status_schema,
       pg_is_in_recovery() AS is_standby,
       current_setting('transaction_read_only') = 'on' AS read_only,
       (SELECT s.source FROM pg_settings s WHERE s.name = 'default_transaction_read_only') AS read_only_by,
       -- Another tool may call its schema so: ours has tables of these names with run_id in text, and its own version. What it
       -- calls migration_… are views, which were tables before version 7.
       ARRAY(SELECT c.relname::text || ' is ' || CASE
                        WHEN a.attname IS NULL THEN 'a relation without ' || e.name
                        ELSE 'a relation whose ' || e.name || ' is ' || format_type(a.atttypid, a.atttypmod) END
             FROM pg_class c
             CROSS JOIN LATERAL (SELECT 'run_id', 'text'::regtype WHERE c.relname <> 'schema_version'
                                 UNION ALL
                                 SELECT 'snowmelt_version', 'text'::regtype WHERE c.relname IN ('runs', 'migration_runs')
                                 UNION ALL
                                 SELECT 'version', 'integer'::regtype WHERE c.relname = 'schema_version') e (name, type)
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = e.name AND NOT a.attisdropped
             WHERE c.relnamespace = to_regnamespace('migration_status')
               AND c.relname IN ('runs', 'run_executions', 'run_tables', 'chunks', 'verification_results', 'saved_indexes',
                                 'watermarks', 'rejected_rows', 'schema_version', 'migration_runs', 'migration_table_status',
                                 'migration_chunk_status', 'v_active_migrations', 'v_table_progress')
               AND (a.atttypid IS DISTINCT FROM e.type
                    OR c.relkind NOT IN ('r', 'p') AND NOT (c.relkind = 'v' AND c.relname ~ '^(migration|v)_'))
             ORDER BY c.relname, e.name) AS foreign_relations

-- name: connection_limits
-- How many connections the server, the role and the database give to an ordinary user, how many of them are taken, and how
-- many of these by the workers of a run. Users do not see what others' backends are, but whose, and in which database.
WITH sessions AS MATERIALIZED (
    SELECT usename, datname, application_name FROM pg_stat_activity
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
), reserved (connections) AS (
    SELECT current_setting('superuser_reserved_connections')::integer
           + coalesce(current_setting('reserved_connections', true), '0')::integer
), limits (rank, kind, name, most, reserved) AS (
    SELECT 1, CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') THEN 'rds' ELSE 'server' END, '',
           current_setting('max_connections')::integer - r.connections, r.connections FROM reserved r
    UNION ALL
    SELECT 2, 'role', r.rolname::text, r.rolconnlimit, 0 FROM pg_roles r
    WHERE r.rolname = session_user AND r.rolconnlimit >= 0 AND NOT r.rolsuper
    UNION ALL
    SELECT 3, 'database', d.datname::text, d.datconnlimit, 0 FROM pg_database d
    JOIN pg_roles r ON r.rolname = session_user AND NOT r.rolsuper
    WHERE d.datname = current_database() AND d.datconnlimit >= 0
)
SELECT l.kind, l.name, l.most, l.reserved, count(s.usename)::integer AS taken,
       (count(*) FILTER (WHERE s.application_name = left(%(workers)s::text, 63)))::integer AS workers
FROM limits l
LEFT JOIN sessions s ON l.kind IN ('server', 'rds') OR (l.kind = 'role' AND s.usename = session_user)
                     OR (l.kind = 'database' AND s.datname = current_database())
GROUP BY l.rank, l.kind, l.name, l.most, l.reserved ORDER BY l.rank

-- name: target_tables
-- The named tables, with what this user may do to them; no row for a table that is not there.
SELECT n.nspname AS schema_name, c.relname AS name, c.relkind::text AS kind, current_user::text AS role,
       has_schema_privilege(n.oid, 'USAGE') AS may_use_schema,
       has_table_privilege(c.oid, 'INSERT') AS may_insert,
       has_table_privilege(c.oid, 'SELECT') AS may_select,
       has_table_privilege(c.oid, 'UPDATE') AS may_update,
       has_table_privilege(c.oid, 'TRUNCATE') AS may_truncate
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')

-- name: unique_indexes
-- What the named tables keep unique, and how: NULLs that are equal, only at the end of a transaction, only some rows, by
-- expressions, or only within a partition.
SELECT n.nspname AS schema_name, c.relname AS table_name, x.relname AS name, pg_get_indexdef(i.indexrelid) AS definition,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (attnum)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns,
       coalesce((to_jsonb(i)->>'indnullsnotdistinct')::boolean, false) AS nulls_are_equal,  -- from version 15 on
       i.indimmediate AS is_immediate, i.indpred IS NOT NULL AS is_partial, i.indexprs IS NOT NULL AS is_on_expression,
       i.indrelid <> c.oid AS is_of_partition,
       -- Whether it calls other texts equal than a query that compares the columns.
       EXISTS (SELECT FROM unnest(i.indkey[0:i.indnkeyatts - 1], i.indcollation::oid[]) AS k (attnum, sorted_by)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attcollation <> k.sorted_by
               JOIN pg_collation o ON o.oid IN (a.attcollation, k.sorted_by) AND NOT o.collisdeterministic)
           AS compares_otherwise
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS wanted (schema_name, name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
JOIN pg_index i ON i.indrelid = c.oid
                OR i.indrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE c.relkind = 'p')
JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indisunique AND i.indisvalid AND i.indisready
  AND (i.indrelid = c.oid OR NOT x.relispartition)  -- an index of the partitioned table says more than its parts
ORDER BY n.nspname, c.relname, i.indexrelid

-- name: foreign_keys
-- The foreign keys from or to the named tables.
SELECT k.conname AS name, cn.nspname AS child_schema, c.relname AS child_table,
       pn.nspname AS parent_schema, p.relname AS parent_table,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum ORDER BY u.place) AS child_columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = u.attnum ORDER BY u.place) AS parent_columns
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
-- The columns of the named tables, in their order. A domain's column has the type beneath the domain.
WITH RECURSIVE wanted AS (
    SELECT n.nspname, c.relname, a.*
    FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS w (schema_name, name)
    JOIN pg_namespace n ON n.nspname = w.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
), typed (attrelid, attnum, oid, typmod, domain, is_not_null, has_default) AS (
    SELECT attrelid, attnum, atttypid, atttypmod, 0::oid, attnotnull, atthasdef FROM wanted
    UNION ALL
    SELECT b.attrelid, b.attnum, t.typbasetype, CASE WHEN b.typmod < 0 THEN t.typtypmod ELSE b.typmod END,
           CASE WHEN b.domain = 0 THEN t.oid ELSE b.domain END, b.is_not_null OR t.typnotnull,
           b.has_default OR t.typdefault IS NOT NULL
    FROM typed b JOIN pg_type t ON t.oid = b.oid AND t.typtype = 'd'
)
SELECT a.nspname AS schema_name, a.relname AS table_name, a.attname AS name, b.typmod,
       CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace THEN e.typname
            WHEN x.extname IS NOT NULL THEN x.extname || '.' || e.typname
            ELSE format_type(e.oid, -1) END || CASE WHEN k.is_array THEN '[]' ELSE '' END AS type,
       CASE WHEN k.is_array THEN 'array'
            ELSE CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'r' THEN 'range' WHEN 'm' THEN 'range' WHEN 'c' THEN 'composite'
                 ELSE 'base' END END AS kind,
       CASE WHEN b.domain = 0 THEN '' ELSE b.domain::regtype::text END AS domain, format_type(t.oid, -1) AS declared,
       -- An operator is looked up by its name, and = of citext would become that of text where citext's own is not found.
       coalesce((SELECT n.nspname FROM pg_opclass o
                 JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
                 JOIN pg_amop p ON p.amopfamily = o.opcfamily AND p.amoplefttype = o.opcintype
                               AND p.amoprighttype = o.opcintype AND p.amopstrategy = 3
                 JOIN pg_operator q ON q.oid = p.amopopr
                 JOIN pg_namespace n ON n.oid = q.oprnamespace
                 WHERE o.opcdefault AND o.opcintype = t.oid LIMIT 1), 'pg_catalog') AS operators,
       NOT b.is_not_null AS nullable, b.has_default, a.attgenerated <> '' AS generated,
       CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' ELSE '' END AS identity,
       f.collation IS NOT NULL AS folds, coalesce(f.collation, '') AS folds_by
FROM wanted a
JOIN typed b ON b.attrelid = a.attrelid AND b.attnum = a.attnum
JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
LEFT JOIN LATERAL (
    -- Texts that differ may be equal: by the collation of a unique index, which need not be that of the column.
    SELECT format('%%I.%%I', n.nspname, o.collname) AS collation
    FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM pg_index i
                       CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[]) AS c (attnum, sorted_by)
                       WHERE i.indrelid = a.attrelid AND i.indisunique
                         AND c.attnum = a.attnum AND c.sorted_by = o.oid)) AS x (is_of_index)
    WHERE NOT o.collisdeterministic AND (x.is_of_index OR o.oid = a.attcollation)
    ORDER BY x.is_of_index DESC, o.oid LIMIT 1) f ON true
CROSS JOIN LATERAL (SELECT t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A' AS is_array) AS k
JOIN pg_type e ON e.oid = CASE WHEN k.is_array THEN t.typelem ELSE t.oid END
LEFT JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = e.oid AND d.deptype = 'e'
LEFT JOIN pg_extension x ON x.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
ORDER BY a.nspname, a.relname, a.attnum

-- name: table_blocks
-- Blocks of a table on disk.
SELECT pg_relation_size(%(table)s::regclass) / current_setting('block_size')::bigint AS blocks

-- name: constraint_columns
-- The columns that a constraint of a table looks at.
SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) AS columns
FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
WHERE n.nspname = %(schema)s::text AND t.relname = %(table)s::text AND c.conname = %(constraint)s::text

-- name: target_facts
-- What else the named tables are and do, beside holding rows.
SELECT n.nspname AS schema_name, c.relname AS name,
       c.relkind = 'p' AS is_partitioned, c.relispartition AS is_partition, c.relpersistence = 'u' AS is_unlogged,
       pg_has_role(c.relowner, 'USAGE') AS is_owned, has_schema_privilege(n.oid, 'CREATE') AS may_create_beside_it,
       row_security_active(c.oid) AS has_row_security,
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') AS is_on_rds,
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
