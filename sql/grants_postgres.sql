-- What the loading role needs in the target database. Run it as the owner of the targets, or as a superuser.
--   psql "$TARGET" -v role=snowmelt -v schema=public -f sql/grants_postgres.sql
-- The role must exist: CREATE ROLE snowmelt LOGIN PASSWORD '…'; Run it once per target schema, and again after
-- tables were added.
\set ON_ERROR_STOP on
\if :{?role}
\else
\prompt 'loading role: ' role
\endif
\if :{?schema}
\else
\prompt 'target schema: ' schema
\endif

-- Targets: read to see that they are empty, load, truncate where a table says truncate_onstart, update and stage in a
-- temporary table where one says uniqueness_columns.
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT, INSERT, UPDATE, TRUNCATE ON ALL TABLES IN SCHEMA :"schema" TO :"role";

-- Sequences behind serial and identity columns: they are moved past what was loaded.
GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA :"schema" TO :"role";

-- ANALYZE after the load: a privilege of its own from PostgreSQL 17 on. Before, only owners may; PostgreSQL then warns,
-- leaves it to autovacuum, and the run goes on.
SELECT :SERVER_VERSION_NUM >= 170000 AS knows_maintain \gset
\if :knows_maintain
GRANT MAINTAIN ON ALL TABLES IN SCHEMA :"schema" TO :"role";
\endif

-- The status schema. Where it is not there yet, the first run puts it in place; for that it may create schemas.
-- Where that is too much, install it first (psql -f sql/status_schema.sql) and run this file after.
SELECT to_regclass('migration_status.schema_version') IS NOT NULL AS has_status_schema \gset
\if :has_status_schema
GRANT USAGE ON SCHEMA migration_status TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status TO :"role";
\else
GRANT CREATE ON DATABASE :"DBNAME" TO :"role";
\endif

-- Only for tables that say disable_index: none but the owner may drop indexes, and to build them again the owner needs
-- CREATE on the schema. For each of them, or make the role a member of the one that owns them:
--   ALTER TABLE TARGET OWNER TO snowmelt;
--   GRANT CREATE ON SCHEMA public TO snowmelt;

-- Nothing is needed to end the sessions of dead workers: they belong to the same role. Do not share it with anyone else.

-- For people who only look:
--   GRANT USAGE ON SCHEMA migration_status TO watcher;
--   GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO watcher;
--   GRANT pg_read_all_stats TO watcher;
