-- What the loading role needs in the target database. Run it as the owner of the targets, or as a superuser.
--   psql "$TARGET" -v role=snowmelt -v schema=public -f sql/grants_postgres.sql
-- The role must exist: CREATE ROLE snowmelt LOGIN PASSWORD '…'; or, on RDS and signing in by IAM (postgres.iam_auth),
-- CREATE ROLE snowmelt LOGIN; GRANT rds_iam TO snowmelt; after which it has no password. Run it once per target schema, and again after
-- tables were added.
\set ON_ERROR_STOP on
-- No name below is looked up where anyone else may create anything.
SELECT set_config('search_path', 'pg_catalog, pg_temp', false) AS search_path \gset
\if :{?role}
\else
\prompt 'loading role: ' role
\endif
\if :{?schema}
\else
\prompt 'target schema: ' schema
\endif

-- Targets: read to see that they are empty, load, truncate where a table says truncate_onstart, update and stage in a
-- temporary table where one says uniqueness_columns, and delete what the source does not have where `snowmelt verify
-- --repair` is asked to.
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA :"schema" TO :"role";

-- Sequences behind serial and identity columns: they are moved past what was loaded.
GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA :"schema" TO :"role";

-- ANALYZE after the load: a privilege of its own from PostgreSQL 17 on. Before, only owners may; PostgreSQL then warns,
-- leaves it to autovacuum, and the run goes on.
SELECT :SERVER_VERSION_NUM >= 170000 AS knows_maintain \gset
\if :knows_maintain
GRANT MAINTAIN ON ALL TABLES IN SCHEMA :"schema" TO :"role";
\endif

-- The status schema, which is installed here where it is not there yet, so that the role needs no right to create schemas.
-- Its owner is who runs this file: the role trusts superusers, itself and the roles it is a member of; any other owner must
-- be named in the config (postgres.status_schema_owner). Row security keeps roles apart that load into one database.
SELECT to_regclass('migration_status.schema_version') IS NOT NULL AS has_status_schema \gset
\if :has_status_schema
\else
\ir status_schema.sql
\endif
GRANT USAGE ON SCHEMA migration_status TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status TO :"role";
-- The version is the owner's to write: a wrong one would stop every other role.
SELECT pg_get_userbyid(relowner) <> :'role' AS is_anothers FROM pg_class
WHERE oid = 'migration_status.schema_version'::regclass \gset
\if :is_anothers
REVOKE INSERT, UPDATE, DELETE ON migration_status.schema_version FROM :"role";
\endif

-- Only for tables that say disable_index: none but the owner may drop indexes, and to build them again the owner needs
-- CREATE on the schema. For each of them, or make the role a member of the one that owns them:
--   ALTER TABLE TARGET OWNER TO snowmelt;
--   GRANT CREATE ON SCHEMA public TO snowmelt;

-- Nothing is needed to end the sessions of dead workers: they belong to the same role. Do not share it with anyone else.

-- For people who only look, with -v watcher=ROLE: everything of the status schema but what holds values of rows. Those are
-- rejected rows and their reasons in full, the bounds of chunks (reads) and of incremental loads (watermark), and the key of
-- the fingerprints that stand for values in error texts.
\if :{?watcher}
GRANT CONNECT ON DATABASE :"DBNAME" TO :"watcher";
GRANT USAGE ON SCHEMA migration_status TO :"watcher";
REVOKE ALL ON ALL TABLES IN SCHEMA migration_status FROM :"watcher";
SELECT format('GRANT SELECT (%s) ON migration_status.%I TO %I',
              string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), c.relname, :'watcher')
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'migration_status'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> 'fingerprint_key'
  AND (c.relname, a.attname) NOT IN (('rejected_rows', 'row_content'), ('rejected_rows', 'reason_in_full'),
                                     ('chunks', 'reads'), ('watermarks', 'watermark'))
GROUP BY c.relname
\gexec
\endif
-- To see which sessions are at work and whom they wait for, a watcher needs pg_read_all_stats. It shows the statements of
-- every session of the server too, and a statement may hold a value:
--   GRANT pg_read_all_stats TO watcher;
