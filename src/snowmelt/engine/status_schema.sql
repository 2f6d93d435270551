-- The status schema of Snowmelt: what every run did, is doing, and has left to do.
-- It is the only truth about what is done, and it is made to be read with plain SQL while a run is on.
-- Running this file again changes nothing.

-- No name below is looked up where anyone else may create anything.
SET search_path = pg_catalog, pg_temp;

CREATE SCHEMA IF NOT EXISTS migration_status;

-- Refuse what someone else made: its code would run with the rights of whoever uses it. Trusted are the session's role,
-- the roles that it is a member of, superusers, and the role that the setting snowmelt.status_schema_owner names.
DO $owners$
DECLARE
    culprit record;
BEGIN
    WITH RECURSIVE mine (oid) AS (  -- pg_has_role calls a superuser a member of every role
        SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user
        UNION
        SELECT m.roleid FROM pg_auth_members m JOIN mine ON mine.oid = m.member
    ), trusted (oid) AS (
        SELECT mine.oid FROM mine
        UNION
        SELECT r.oid FROM pg_roles r
        WHERE r.rolsuper OR r.rolname = current_setting('snowmelt.status_schema_owner', true)
    ), found (place, what, owner) AS (
        SELECT 1, 'schema migration_status', n.nspowner FROM pg_namespace n WHERE n.nspname = 'migration_status'
        UNION ALL
        SELECT 2, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' ELSE 'table' END
                  || ' migration_status.' || c.relname, c.relowner
        FROM pg_class c WHERE c.relnamespace = to_regnamespace('migration_status')
        UNION ALL
        SELECT 3, 'function migration_status.' || p.proname, p.proowner
        FROM pg_proc p WHERE p.pronamespace = to_regnamespace('migration_status')
        UNION ALL
        SELECT 4, format('function %s of trigger %s on migration_status.%s', p.proname, t.tgname, c.relname), p.proowner
        FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = to_regnamespace('migration_status')
        JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE NOT t.tgisinternal
    )
    SELECT f.what, pg_get_userbyid(f.owner) AS owner INTO culprit
    FROM found f WHERE f.owner NOT IN (SELECT t.oid FROM trusted t) ORDER BY f.place, f.what LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% belongs to role %, whose code would run with the rights of role %',
              culprit.what, culprit.owner, current_user
              USING ERRCODE = 'SM001', HINT = format('Where that role is trusted: SET snowmelt.status_schema_owner = %L; '
              'where it is not, drop the schema, or let a superuser change the owner.', culprit.owner);
    END IF;
END
$owners$;

-- Before version 7 the tables of runs, tables and chunks had the names that views have now, at the end of this file.
DO $names$
DECLARE
    renamed record;
    part    record;
BEGIN
    FOR renamed IN
        SELECT c.oid, n.before, n.since
        FROM (VALUES ('migration_runs', 'runs'), ('migration_table_status', 'run_tables'),
                     ('migration_chunk_status', 'chunks')) AS n (before, since)
        JOIN pg_class c ON c.relnamespace = 'migration_status'::regnamespace AND c.relname = n.before AND c.relkind = 'r'
    LOOP
        IF renamed.before = 'migration_runs'
           AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = renamed.oid AND attname = 'snowmelt_version') THEN
            RAISE EXCEPTION 'the schema migration_status is another tool''s: its migration_runs has no column snowmelt_version'
                  USING HINT = 'Rename it: ALTER SCHEMA migration_status RENAME TO other_migration_status.';
        END IF;
        EXECUTE format('ALTER TABLE migration_status.%I RENAME TO %I', renamed.before, renamed.since);
        FOR part IN SELECT k.conname, renamed.since || substr(k.conname, 1 + length(renamed.before)) AS since
                    FROM pg_constraint k
                    WHERE k.conrelid = renamed.oid AND starts_with(k.conname, renamed.before || '_') LOOP
            EXECUTE format('ALTER TABLE migration_status.%I RENAME CONSTRAINT %I TO %I', renamed.since, part.conname, part.since);
        END LOOP;
    END LOOP;
END
$names$;

CREATE TABLE IF NOT EXISTS migration_status.schema_version (
    version      integer     PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
);

-- One row per migration of one source.
CREATE TABLE IF NOT EXISTS migration_status.runs (
    run_id           text        PRIMARY KEY,
    source_name      text        NOT NULL,
    config_hash      text        NOT NULL,
    status           text        NOT NULL DEFAULT 'running'
                     CHECK (status IN ('running', 'completed', 'completed_with_rejects', 'failed', 'abandoned')),
    snapshot_at      timestamptz NOT NULL,              -- on Snowflake's clock
    started_at       timestamptz NOT NULL DEFAULT now(),
    completed_at     timestamptz,
    rounds           integer     NOT NULL DEFAULT 0,    -- plans made, over all executions
    waits            integer     NOT NULL DEFAULT 0,    -- plans in a row that could only wait
    stalled_rounds   integer     NOT NULL DEFAULT 0,    -- rounds in a row that had work and moved nothing
    planned_round    integer     NOT NULL DEFAULT -1,   -- the last one that this execution planned
    progress_mark    bigint      NOT NULL DEFAULT 0,    -- grows whenever anything moved
    snowmelt_version text        NOT NULL,
    plan_format      integer     NOT NULL,
    store            text        NOT NULL,              -- where the run's frozen plans are
    allow_shrink     boolean     NOT NULL DEFAULT false, -- someone agreed that targets lose most of their rows
    accept_rejected  boolean     NOT NULL DEFAULT false, -- someone agreed that rows are rejected
    error_code       text,
    error_text       text
);

-- Who drives a run: a Step Functions execution, or a process on someone's machine. One at a time.
CREATE TABLE IF NOT EXISTS migration_status.run_executions (
    run_id        text        NOT NULL REFERENCES migration_status.runs ON DELETE CASCADE,
    execution_id  text        NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    renewed_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    backend_pid   integer,                              -- set when the driver is one process with one session
    backend_start timestamptz,
    PRIMARY KEY (run_id, execution_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_driver_per_run
    ON migration_status.run_executions (run_id) WHERE ended_at IS NULL;

CREATE TABLE IF NOT EXISTS migration_status.run_tables (
    run_id        text        NOT NULL REFERENCES migration_status.runs ON DELETE CASCADE,
    table_id      integer     NOT NULL,
    source_table  text        NOT NULL,
    source_database text,                               -- unknown of runs before version 7
    source_schema text,
    target_schema text        NOT NULL,
    target_table  text        NOT NULL,
    status        text        NOT NULL DEFAULT 'pending'
                  CHECK (status IN ('pending', 'scanning', 'loading', 'finalizing', 'completed', 'failed', 'abandoned')),
    load_epoch    integer     NOT NULL DEFAULT 1,       -- a load that began under an earlier epoch cannot commit
    strategy      text        NOT NULL,
    adds_only     boolean     NOT NULL DEFAULT false,   -- may share its target: it appends, or merges as the others do
    loads_after   integer[]   NOT NULL DEFAULT '{}',    -- tables of the run that this one refers to
    query_id      text,                                 -- the scan in Snowflake, or the histogram of the key
    second_query_id text,                               -- what looks into the crowded parts of the histogram
    source_rows   bigint,                               -- rows of that scan
    scan_began_at timestamptz,                          -- on Snowflake's clock; unknown of runs before version 8
    key_columns   text[]      NOT NULL DEFAULT '{}',    -- of the target: what tells its rows apart, or cuts it into ranges
    omitted       text        NOT NULL DEFAULT '',      -- source columns that are not loaded, and what types lose
    truncated_at  timestamptz,                          -- set in the transaction that truncated the target
    target_identity jsonb,                              -- the target as its load began: oid, numbers of columns, files
    started_at    timestamptz,
    completed_at  timestamptz,
    error_code    text,
    error_text    text,
    PRIMARY KEY (run_id, table_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active_run_per_target
    ON migration_status.run_tables (target_schema, target_table)
    WHERE status IN ('pending', 'scanning', 'loading', 'finalizing') AND NOT adds_only;

-- The unit of commit: a chunk is completed in the transaction that loads its rows, or not at all.
CREATE TABLE IF NOT EXISTS migration_status.chunks (
    run_id         text        NOT NULL,
    table_id       integer     NOT NULL,
    chunk_id       integer     NOT NULL,
    source_table   text        NOT NULL,
    status         text        NOT NULL DEFAULT 'pending'
                   CHECK (status IN ('pending', 'running', 'completed', 'failed', 'superseded')),
    reads          jsonb       NOT NULL,                -- which rows of the source
    estimated_rows bigint      NOT NULL,
    actual_rows    bigint,                              -- read, and each of them accounted for below
    load_mode      text CHECK (load_mode IN ('copy', 'upsert', 'insert_only')),
    inserted_rows  bigint,
    updated_rows   bigint,
    unchanged_rows bigint,                              -- there already with the same values
    kept_newer_rows bigint,                             -- not loaded: the target's row has a newer watermark
    deduplicated_rows bigint,                           -- gave way to a newer row of the same key in the same chunk
    size_bytes     bigint,
    rejected_rows  bigint      NOT NULL DEFAULT 0,
    expired_rows   bigint      NOT NULL DEFAULT 0,      -- of these, those that rejects_retention has removed
    changed_values jsonb,                               -- column -> what was changed -> how many values
    attempts       integer     NOT NULL DEFAULT 0,
    lease_token    uuid,                                -- who may complete it
    lease_until    timestamptz,
    backend_pid    integer,
    backend_start  timestamptz,
    started_at     timestamptz,
    completed_at   timestamptz,
    spent_seconds  double precision,                    -- of an attempt that ran out of time
    error_code     text,
    error_text     text,
    PRIMARY KEY (run_id, table_id, chunk_id),
    FOREIGN KEY (run_id, table_id) REFERENCES migration_status.run_tables ON DELETE CASCADE
);

-- What was found when a table's target was compared with the rows that were read for it. Sums of a big table take several
-- invocations: until there is a verdict, what was summed so far.
CREATE TABLE IF NOT EXISTS migration_status.verification_results (
    run_id          text        NOT NULL,
    table_id        integer     NOT NULL,
    mode            text        NOT NULL CHECK (mode IN ('counts', 'checksums', 'rows')),
    verdict         text        CHECK (verdict IN ('equal', 'different', 'not comparable')),
    reason          text        NOT NULL DEFAULT '',
    source_rows     bigint,
    target_rows     bigint,
    missing         bigint,                             -- rows that the target lacks
    extra           bigint,                             -- rows that the source does not have
    changed         bigint,                             -- rows with other values
    kept_newer      bigint      NOT NULL DEFAULT 0,     -- rows that are equal because the target's is newer
    seconds         double precision,                   -- of the invocation that came to the verdict
    checked_at      timestamptz,
    source_query_id text,                               -- Snowflake's sums
    next_block      bigint      NOT NULL DEFAULT 0,     -- of the target, -1 when all are summed
    summed_rows     bigint      NOT NULL DEFAULT 0,
    summed_hashes   numeric     NOT NULL DEFAULT 0,
    tries           integer     NOT NULL DEFAULT 0,     -- of what one invocation must finish, such as finding the rows
    PRIMARY KEY (run_id, table_id),
    FOREIGN KEY (run_id, table_id) REFERENCES migration_status.run_tables ON DELETE CASCADE
);

-- What earlier versions lack.
ALTER TABLE migration_status.runs ADD COLUMN IF NOT EXISTS accept_rejected boolean NOT NULL DEFAULT false;
ALTER TABLE migration_status.runs ADD COLUMN IF NOT EXISTS planned_round integer NOT NULL DEFAULT -1;
ALTER TABLE migration_status.chunks ADD COLUMN IF NOT EXISTS changed_values jsonb;
ALTER TABLE migration_status.chunks ADD COLUMN IF NOT EXISTS kept_newer_rows bigint;
ALTER TABLE migration_status.chunks ADD COLUMN IF NOT EXISTS expired_rows bigint NOT NULL DEFAULT 0;
ALTER TABLE migration_status.verification_results ADD COLUMN IF NOT EXISTS kept_newer bigint NOT NULL DEFAULT 0;
ALTER TABLE migration_status.run_tables ADD COLUMN IF NOT EXISTS omitted text NOT NULL DEFAULT '';
ALTER TABLE migration_status.run_tables ADD COLUMN IF NOT EXISTS target_identity jsonb;
ALTER TABLE migration_status.run_tables ADD COLUMN IF NOT EXISTS source_database text;
ALTER TABLE migration_status.run_tables ADD COLUMN IF NOT EXISTS source_schema text;
ALTER TABLE migration_status.run_tables ADD COLUMN IF NOT EXISTS key_columns text[] NOT NULL DEFAULT '{}';
ALTER TABLE migration_status.run_tables ADD COLUMN IF NOT EXISTS scan_began_at timestamptz;
DO $upgrade$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'migration_status.runs'::regclass
                   AND conname = 'runs_status_check'
                   AND pg_get_constraintdef(oid) LIKE '%completed_with_rejects%') THEN
        ALTER TABLE migration_status.runs DROP CONSTRAINT IF EXISTS runs_status_check;
        ALTER TABLE migration_status.runs ADD CONSTRAINT runs_status_check
            CHECK (status IN ('running', 'completed', 'completed_with_rejects', 'failed', 'abandoned'));
    END IF;
END
$upgrade$;

-- Indexes that were dropped for a load and are to be rebuilt, saved in the transaction that dropped them.
-- No foreign key: the history of a run may be deleted, what has still to be built again may not.
CREATE TABLE IF NOT EXISTS migration_status.saved_indexes (
    saved_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        text        NOT NULL,                 -- the run that rebuilds it; a later one on the same target takes it over
    table_id      integer     NOT NULL,
    target_schema text        NOT NULL,                 -- of the table, and so of the index
    target_table  text        NOT NULL,
    kind          text        NOT NULL DEFAULT 'index' CHECK (kind IN ('index', 'foreign key')),
    index_name    text        NOT NULL,                 -- or that of the constraint
    definition    text        NOT NULL,                 -- CREATE INDEX or ADD CONSTRAINT, every name of it qualified
    tablespace    text        NOT NULL DEFAULT '',      -- '' is the database's own
    afterwards    jsonb       NOT NULL DEFAULT '[]',    -- statements for what no definition holds: comment, statistics, CLUSTER
    is_unique     boolean     NOT NULL,
    size_bytes    bigint      NOT NULL,
    lock_key      bigint      NOT NULL GENERATED ALWAYS AS
                  (hashtextextended('snowmelt:index:' || target_schema || '.' || index_name, 0)) STORED,
    saved_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts      integer     NOT NULL DEFAULT 0,       -- builds that were begun and ended without a word
    started_at    timestamptz,                          -- when the last build was begun
    restored_at   timestamptz,                          -- set in the transaction that built it
    failed_at     timestamptz,                          -- it cannot be built until someone looks at error_text
    error_code    text,                                 -- SQLSTATE
    error_text    text
);
ALTER TABLE migration_status.saved_indexes ADD COLUMN IF NOT EXISTS
    kind text NOT NULL DEFAULT 'index' CHECK (kind IN ('index', 'foreign key'));
DROP INDEX IF EXISTS migration_status.owed_once;       -- of earlier versions
DROP INDEX IF EXISTS migration_status.owed_once_of_its_kind;
CREATE UNIQUE INDEX IF NOT EXISTS unbuilt_once_of_its_kind
    ON migration_status.saved_indexes (target_schema, target_table, kind, index_name) WHERE restored_at IS NULL;
CREATE INDEX IF NOT EXISTS saved_indexes_of_run ON migration_status.saved_indexes (run_id, table_id);

-- Whether a saved definition is what it says: CREATE INDEX or ADD CONSTRAINT on that very table under that very name, as
-- the catalog writes it, and nothing beside it. Every letter outside quotes is plain ASCII, there is no end of a statement,
-- no comment and no text between dollars; of ALTER TABLE there is one command.
CREATE OR REPLACE FUNCTION migration_status.is_definition(
    kind text, target_schema text, target_table text, index_name text, definition text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE kind
        WHEN 'index' THEN
            (starts_with(definition, format('CREATE INDEX %I ON %I.%I USING ', index_name, target_schema, target_table))
             OR starts_with(definition,
                            format('CREATE UNIQUE INDEX %I ON %I.%I USING ', index_name, target_schema, target_table)))
            AND definition ~ ($re$^(?:[ \n\ta-zA-Z0-9_!#%&()*+,.:<=>?@^`{|}~\[\]]|/(?!\*)|-(?!-)|"(?:[^"]|"")+"$re$
                || $re$|(?<![a-zA-Z0-9_'"])(?:E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|[BX]'[0-9A-Fa-f]*'))*$$re$)
        WHEN 'foreign key' THEN
            starts_with(definition,
                        format('ALTER TABLE %I.%I ADD CONSTRAINT %I FOREIGN KEY (', target_schema, target_table, index_name))
            AND substr(definition, 1 + length(
                    format('ALTER TABLE %I.%I ADD CONSTRAINT %I FOREIGN KEY ', target_schema, target_table, index_name)))
                ~ replace(replace(replace(
                    $re$^\(LIST\) REFERENCES NAME\.NAME\(LIST\)( MATCH FULL)?( ON UPDATE ACTION)?$re$
                    || $re$( ON DELETE ACTION( \(LIST\))?)?( DEFERRABLE)?( INITIALLY DEFERRED)?( NOT (VALID|ENFORCED))?$$re$,
                    'LIST', '(PERIOD )?NAME(, (PERIOD )?NAME)*'),
                    'ACTION', '(CASCADE|RESTRICT|SET NULL|SET DEFAULT)'),
                    'NAME', '([a-z_][a-z0-9_]*|"([^"]|"")+")')
        ELSE false
    END
$function$;

-- The same of a statement that follows the definition: a comment, the statistics of a column, or CLUSTER.
CREATE OR REPLACE FUNCTION migration_status.is_afterwards(
    kind text, target_schema text, target_table text, index_name text, statement text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE kind
        WHEN 'index' THEN
            statement = format('ALTER TABLE %I.%I CLUSTER ON %I', target_schema, target_table, index_name)
            OR starts_with(statement, h.comment) AND substr(statement, 1 + length(h.comment)) ~ h.literal
            OR starts_with(statement, h.statistics)
               AND substr(statement, 1 + length(h.statistics)) ~ '^[0-9]+ SET STATISTICS [0-9]+$'
        WHEN 'foreign key' THEN
            starts_with(statement, h.on_key) AND substr(statement, 1 + length(h.on_key)) ~ h.literal
        ELSE false
    END
    FROM (SELECT format('COMMENT ON INDEX %I.%I IS ', target_schema, index_name) AS comment,
                 format('ALTER INDEX %I.%I ALTER COLUMN ', target_schema, index_name) AS statistics,
                 format('COMMENT ON CONSTRAINT %I ON %I.%I IS ', index_name, target_schema, target_table) AS on_key,
                 $re$^(?:E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*')$$re$ AS literal) h
$function$;

-- The key of the fingerprints that stand for values of rows in error texts. Whoever reads it can find out values by trying:
-- it is for the loading role, and for whoever may read rejected_rows.
CREATE TABLE IF NOT EXISTS migration_status.fingerprint_key (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    key      bytea   NOT NULL CHECK (octet_length(key) = 32)
);
INSERT INTO migration_status.fingerprint_key (key)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex') ON CONFLICT DO NOTHING;

-- What stands for a value in a text that leaves the database: HMAC-SHA256 under the installation's key, as in disclosure.py.
CREATE OR REPLACE FUNCTION migration_status.fingerprint(value text) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $function$
    SELECT '[value ' || left(encode(sha256(p.outer_pad || sha256(p.inner_pad || convert_to(value, 'UTF8'))), 'hex'), 10) || ']'
    FROM (SELECT string_agg(set_byte('\x00'::bytea, 0, b.of_key # 54), ''::bytea ORDER BY b.place) AS inner_pad,
                 string_agg(set_byte('\x00'::bytea, 0, b.of_key # 92), ''::bytea ORDER BY b.place) AS outer_pad
          FROM (SELECT place, CASE WHEN place < 32 THEN get_byte(k.key, place) ELSE 0 END AS of_key
                FROM migration_status.fingerprint_key k, generate_series(0, 63) AS place) b) p
$function$;

-- What may be told of an error of an index or a foreign key: key columns with a fingerprint for their values, and nothing of
-- a text that may quote a value, such as one that an expression's function raised.
CREATE OR REPLACE FUNCTION migration_status.without_values(code text, problem text, detail text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT concat_ws(': ',
        CASE WHEN left(code, 2) = ANY ('{22,2F,38,39,44,P0,XX}'::text[])
               OR left(code, 2) = '23' AND problem !~ '^(could not create|insert or update on table|update or delete on table) '
             THEN 'PostgreSQL says ' || migration_status.fingerprint(problem) ELSE problem END,
        CASE WHEN coalesce(detail, '') = '' THEN NULL
             WHEN left(code, 2) <> ALL ('{22,23,2F,38,39,44,P0,XX}'::text[]) THEN detail
             WHEN k.parts IS NULL THEN migration_status.fingerprint(detail)
             ELSE k.parts[1] || migration_status.fingerprint(k.parts[2]) || k.parts[3] END)
    FROM (SELECT regexp_match(detail, '^(Key \(.+?\)=\()(.*)(\)(?: is duplicated| already exists| is not present in table ".*?")\.?)$')) AS k (parts)
$function$;

-- Put back one saved index, or foreign key. Index, comment and mark commit together or not at all, and the server does it all by itself:
-- a build whose client has died goes on, and what came of it is recorded. The answer is a word:
--   restored  it is there, valid, and as it was          failed   error_text says why it cannot be built
--   blocked   a lock was not to be had: try again        held     another session is building it
--   gone      it is restored, given up, or another run's
-- What is stored is executed only if it is the definition of that very index, with the rights of the table's owner, and for a
-- role that has them. The path is for functions in an index expression that find names without a schema.
DROP FUNCTION IF EXISTS migration_status.restore_index(bigint, text);
CREATE OR REPLACE FUNCTION migration_status.restore_index(
    this bigint, of_run text, code_path text DEFAULT 'pg_catalog, pg_temp') RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $function$
DECLARE
    saved       migration_status.saved_indexes;
    target      oid;
    there       record;
    owner       oid;
    asking      text := current_setting('role');
    step        text;
    code        text;
    problem     text;
    detail      text;
    in_schema   text;
    passing     boolean;
BEGIN
    SELECT * INTO saved FROM migration_status.saved_indexes s
    WHERE s.saved_id = this AND s.run_id = of_run AND s.restored_at IS NULL AND s.failed_at IS NULL;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    -- Ends with the transaction, so whoever holds it is at work.
    IF NOT pg_try_advisory_xact_lock(saved.lock_key) THEN
        UPDATE migration_status.saved_indexes s SET attempts = greatest(s.attempts - 1, 0) WHERE s.saved_id = this;
        RETURN 'held';
    END IF;
    BEGIN
        IF NOT migration_status.is_definition(saved.kind, saved.target_schema, saved.target_table, saved.index_name,
                                              saved.definition)
           OR EXISTS (SELECT FROM jsonb_array_elements_text(saved.afterwards) AS s (statement)
                      WHERE NOT migration_status.is_afterwards(saved.kind, saved.target_schema, saved.target_table,
                                                               saved.index_name, s.statement)) THEN
            RAISE EXCEPTION 'what role % saved is no definition of it, and was not executed', saved.loaded_by
                  USING ERRCODE = 'SM002';
        END IF;
        SELECT c.relowner INTO owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = saved.target_schema AND c.relname = saved.target_table;
        IF owner IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = saved.loaded_by
                                             AND pg_has_role(r.oid, owner, 'USAGE')) THEN
            RAISE EXCEPTION 'role %, which saved it, has not the rights of the table''s owner %', saved.loaded_by,
                  pg_get_userbyid(owner) USING ERRCODE = 'SM002';
        END IF;
        EXECUTE format('LOCK TABLE %I.%I IN %s MODE', saved.target_schema, saved.target_table,
                       CASE saved.kind WHEN 'index' THEN 'SHARE' ELSE 'SHARE ROW EXCLUSIVE' END);
        -- Whoever takes an index over locks the table first: only now is it certain that it is still ours to build.
        PERFORM FROM migration_status.saved_indexes s
        WHERE s.saved_id = this AND s.run_id = of_run AND s.restored_at IS NULL AND s.failed_at IS NULL;
        IF NOT FOUND THEN
            RETURN 'gone';
        END IF;
        target := format('%I.%I', saved.target_schema, saved.target_table)::regclass;

        IF saved.kind = 'index' THEN
            SELECT c.oid, i.indrelid, i.indisvalid AND i.indisready AND i.indislive AS valid,
                   CASE WHEN i.indexrelid IS NOT NULL THEN pg_get_indexdef(c.oid) END AS definition
            INTO there
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
            WHERE n.nspname = saved.target_schema AND c.relname = saved.index_name;
        ELSE
            SELECT k.oid, k.conrelid AS indrelid, true AS valid,
                   format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', saved.target_schema, saved.target_table, k.conname,
                          pg_get_constraintdef(k.oid)) AS definition
            INTO there
            FROM pg_catalog.pg_constraint k
            WHERE k.conrelid = target AND k.conname = saved.index_name;
        END IF;
        -- At most the rights of the owner, also where an administrator asks.
        IF current_user <> pg_get_userbyid(owner)
           AND pg_has_role(owner, CASE WHEN current_setting('server_version_num')::integer >= 160000
                                       THEN 'SET' ELSE 'MEMBER' END) THEN
            PERFORM set_config('role', pg_get_userbyid(owner), true);
        END IF;
        IF there.oid IS NOT NULL AND there.indrelid = target AND NOT there.valid THEN
            EXECUTE format('DROP INDEX %I.%I', saved.target_schema, saved.index_name);
            there.oid := NULL;
        END IF;
        IF there.oid IS NOT NULL AND (there.indrelid IS DISTINCT FROM target OR there.definition <> saved.definition) THEN
            RAISE EXCEPTION 'something else has taken its name' USING ERRCODE = 'duplicate_object',
                  DETAIL = coalesce(there.definition, format('a relation %I.%I', saved.target_schema, saved.index_name));
        END IF;
        IF there.oid IS NULL THEN
            PERFORM set_config('default_tablespace', saved.tablespace, true);
            PERFORM set_config('search_path', code_path, true);
            EXECUTE saved.definition;
            PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
        END IF;
        -- CLUSTER ON waits for the other builds of the table; a built index must not be lost to that.
        PERFORM set_config('lock_timeout', '0', true);
        FOR step IN SELECT jsonb_array_elements_text(saved.afterwards) LOOP
            EXECUTE step;
        END LOOP;
        PERFORM set_config('role', asking, true);
        UPDATE migration_status.saved_indexes s
        SET restored_at = clock_timestamp(), error_code = NULL, error_text = NULL
        WHERE s.saved_id = this;
        RETURN 'restored';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                                in_schema = SCHEMA_NAME;
        -- A duplicate key in the catalog is another session that was creating the same name.
        passing := code IN ('40001', '40P01', '55P03') OR code = '23505' AND in_schema = 'pg_catalog';
        UPDATE migration_status.saved_indexes s
        SET error_code = code, error_text = migration_status.without_values(code, problem, detail),
            attempts = CASE WHEN passing THEN greatest(s.attempts - 1, 0) ELSE s.attempts END,
            failed_at = CASE WHEN NOT passing THEN clock_timestamp() END
        WHERE s.saved_id = this;
        RETURN CASE WHEN passing THEN 'blocked' ELSE 'failed' END;
    END;
END
$function$;

-- How far each target has been loaded; written only when a whole table succeeded.
CREATE TABLE IF NOT EXISTS migration_status.watermarks (
    source_name     text        NOT NULL,
    target_schema   text        NOT NULL,
    target_table    text        NOT NULL,
    source_table    text        NOT NULL DEFAULT '',    -- where several are merged into the target, else empty
    watermark       text        NOT NULL,               -- with nine digits of a second
    watermark_type  text        NOT NULL,
    run_id          text        NOT NULL,
    written_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_name, target_schema, target_table, source_table)
);
DO $upgrade$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'migration_status.watermarks'::regclass
                   AND attname = 'source_table' AND NOT attisdropped) THEN
        ALTER TABLE migration_status.watermarks ADD COLUMN source_table text NOT NULL DEFAULT '';
        ALTER TABLE migration_status.watermarks DROP CONSTRAINT watermarks_pkey;
        ALTER TABLE migration_status.watermarks ADD PRIMARY KEY (source_name, target_schema, target_table, source_table);
    END IF;
END
$upgrade$;

-- Rows PostgreSQL refused, kept with the reason: the one place for their values, not for whoever only watches. bytea holds what neither json nor text can.
CREATE TABLE IF NOT EXISTS migration_status.rejected_rows (
    run_id       text        NOT NULL,
    table_id     integer     NOT NULL,
    chunk_id     integer     NOT NULL,
    row_number   bigint      NOT NULL,
    column_name  text,
    sqlstate     text,
    reason       text        NOT NULL,                  -- fingerprints for the values it quotes
    row_content  bytea       NOT NULL,
    rejected_at  timestamptz NOT NULL DEFAULT now(),
    reason_in_full text,                                -- with the values that the reason quotes
    PRIMARY KEY (run_id, table_id, chunk_id, row_number),
    FOREIGN KEY (run_id, table_id, chunk_id) REFERENCES migration_status.chunks ON DELETE CASCADE
);

ALTER TABLE migration_status.rejected_rows ADD COLUMN IF NOT EXISTS reason_in_full text;
UPDATE migration_status.rejected_rows                  -- of earlier versions
SET reason_in_full = reason, reason = 'PostgreSQL says ' || migration_status.fingerprint(reason)
WHERE reason_in_full IS NULL AND NOT EXISTS (SELECT FROM migration_status.schema_version WHERE version >= 6);
CREATE INDEX IF NOT EXISTS rejected_rows_by_age ON migration_status.rejected_rows (rejected_at);

-- Whose each run is, and what it leaves behind: roles that load into one database see and change only what is theirs, or
-- that of a role whose member they are. What earlier versions left belongs to the one role beside the owner that may
-- write it, else to the owner, who hands it on by UPDATE … SET loaded_by.
DO $upgrade$
DECLARE
    loader text;
    named  text;
BEGIN
    SELECT CASE WHEN count(DISTINCT r.rolname) = 1 THEN min(r.rolname::text) END INTO loader
    FROM pg_class c
    CROSS JOIN LATERAL aclexplode(c.relacl) a
    JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.oid = 'migration_status.runs'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> c.relowner;
    FOREACH named IN ARRAY ARRAY['runs', 'saved_indexes', 'watermarks'] LOOP
        IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = format('migration_status.%I', named)::regclass
                       AND attname = 'loaded_by') THEN
            EXECUTE format('ALTER TABLE migration_status.%I ADD COLUMN loaded_by name NOT NULL DEFAULT current_user', named);
            IF loader IS NOT NULL THEN
                EXECUTE format('UPDATE migration_status.%I SET loaded_by = %L', named, loader);
            END IF;
        END IF;
    END LOOP;
END
$upgrade$;

-- Who may see a run: the role itself, its members, and roles that may only look.
CREATE OR REPLACE FUNCTION migration_status.may_see(loaded_by name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT loaded_by = current_user
        OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = loaded_by AND pg_has_role(r.oid, 'USAGE'))
        OR NOT has_table_privilege('migration_status.runs', 'INSERT')
$function$;

-- What other roles hold of these targets, for one that would load them and does not see the runs of others.
CREATE OR REPLACE FUNCTION migration_status.held_by_others(
    schemas text[], tables text[], asking name DEFAULT current_user)
RETURNS TABLE (target_schema text, target_table text, loaded_by name, run_id text, holds text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT h.target_schema, h.target_table, h.loaded_by, h.run_id, h.holds
    FROM (SELECT t.target_schema, t.target_table, r.loaded_by, r.run_id, 'an open run' AS holds
          FROM migration_status.run_tables t
          JOIN migration_status.runs r ON r.run_id = t.run_id
          WHERE t.status IN ('pending', 'scanning', 'loading', 'finalizing', 'failed') AND r.status IN ('running', 'failed')
          UNION ALL
          SELECT s.target_schema, s.target_table, s.loaded_by, s.run_id, 'an index to rebuild'
          FROM migration_status.saved_indexes s WHERE s.restored_at IS NULL
          UNION ALL
          SELECT w.target_schema, w.target_table, w.loaded_by, w.run_id, 'a watermark'
          FROM migration_status.watermarks w) h
    WHERE (h.target_schema, h.target_table) IN (SELECT * FROM unnest(schemas, tables))
      AND h.loaded_by <> asking
      AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = h.loaded_by AND pg_has_role(asking, r.oid, 'USAGE'))
    ORDER BY h.target_schema, h.target_table, h.run_id
$function$;

DO $policies$
DECLARE
    named text;
    ours  text;
BEGIN
    FOREACH named IN ARRAY ARRAY['runs', 'saved_indexes', 'watermarks', 'run_executions', 'run_tables', 'chunks',
                                 'verification_results', 'rejected_rows'] LOOP
        IF named IN ('runs', 'saved_indexes', 'watermarks') THEN
            ours := 'loaded_by = current_user OR EXISTS (SELECT FROM pg_catalog.pg_roles r '
                    'WHERE r.rolname = loaded_by AND pg_catalog.pg_has_role(r.oid, ''USAGE''))';
            -- The name within is a text, which no renaming of the table changes.
            EXECUTE format('DROP POLICY IF EXISTS watchers_look ON migration_status.%I', named);
            EXECUTE format('CREATE POLICY watchers_look ON migration_status.%I FOR SELECT USING '
                           '(NOT pg_catalog.has_table_privilege(''migration_status.runs'', ''INSERT''))', named);
        ELSE
            ours := format('EXISTS (SELECT FROM migration_status.runs r WHERE r.run_id = %I.run_id)', named);
        END IF;
        CONTINUE WHEN EXISTS (SELECT FROM pg_policy
                              WHERE polrelid = format('migration_status.%I', named)::regclass AND polname = 'own_rows');
        EXECUTE format('CREATE POLICY own_rows ON migration_status.%I USING (%s) WITH CHECK (%2$s)', named, ours);
        EXECUTE format('ALTER TABLE migration_status.%I ENABLE ROW LEVEL SECURITY', named);
    END LOOP;
END
$policies$;

-- The key is read by roles that load, and by none that only looks, whatever it was granted; nobody but the owner changes it.
ALTER TABLE migration_status.fingerprint_key ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS loading_roles_read ON migration_status.fingerprint_key;
CREATE POLICY loading_roles_read ON migration_status.fingerprint_key FOR SELECT
    USING (pg_catalog.has_table_privilege('migration_status.runs', 'INSERT'));

-- Five views for people: each has the names and words of the tool that Snowmelt takes the place of (in_progress, total_chunks,
-- error_message, …), which notebooks and dashboards ask for, and all that the tables have. Where the word of a status
-- differs, state has our own. Columns are added at the end, as a view is replaced in place.

-- Each table of each run: rows and chunks, counted from the chunks themselves.
CREATE OR REPLACE VIEW migration_status.v_table_progress AS
SELECT t.run_id,
       t.table_id,
       t.source_table,
       t.target_schema,
       t.target_table,
       CASE WHEN t.status IN ('scanning', 'loading', 'finalizing') THEN 'in_progress' ELSE t.status END AS status,
       t.strategy,
       t.source_rows,
       coalesce(c.rows_loaded, 0)                                             AS rows_loaded,
       coalesce(c.size_bytes, 0)                                              AS size_bytes,
       coalesce(c.rejected_rows, 0)                                           AS rejected_rows,
       coalesce(c.chunks, 0)                                                  AS chunks,
       coalesce(c.completed, 0)                                               AS chunks_completed,
       coalesce(c.running, 0)                                                 AS chunks_running,
       coalesce(c.failed, 0)                                                  AS chunks_failed,
       round(100.0 * coalesce(c.rows_loaded, 0) / nullif(t.source_rows, 0), 1) AS percent,
       t.started_at,
       coalesce(t.completed_at, c.last_completed_at)                          AS last_moved_at,
       extract(epoch FROM coalesce(t.completed_at, clock_timestamp()) - t.started_at)::double precision AS seconds,
       t.error_code,
       t.error_text,
       v.changed_values,
       coalesce(c.kept_newer_rows, 0)                                         AS kept_newer_rows,
       c.first_claimed_at,
       c.last_completed_at                                                    AS last_loaded_at,
       coalesce(c.deduplicated_rows, 0)                                       AS deduplicated_rows,
       t.status                                                               AS state,
       r.source_name,
       coalesce(c.chunks, 0)                                                  AS total_chunks,
       coalesce(c.completed, 0)                                               AS completed_chunks,
       coalesce(c.failed, 0)                                                  AS failed_chunks,
       CASE WHEN t.status = 'completed' THEN 100.0
            ELSE coalesce(round(100.0 * c.completed / nullif(c.chunks, 0), 1), 0.0) END AS completion_percentage,
       coalesce(c.rows_loaded, 0)                                             AS total_rows_copied,
       extract(epoch FROM coalesce(t.completed_at, clock_timestamp()) - t.started_at)::double precision AS duration_seconds,
       t.completed_at
FROM migration_status.run_tables t
JOIN migration_status.runs r ON r.run_id = t.run_id AND migration_status.may_see(r.loaded_by)
LEFT JOIN LATERAL (
    SELECT count(*)                                     AS chunks,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'running')   AS running,
           count(*) FILTER (WHERE status = 'failed')    AS failed,
           sum(actual_rows - rejected_rows)::bigint     AS rows_loaded,
           sum(size_bytes)::bigint                      AS size_bytes,
           sum(rejected_rows)::bigint                   AS rejected_rows,
           sum(kept_newer_rows)::bigint                 AS kept_newer_rows,
           sum(deduplicated_rows)::bigint               AS deduplicated_rows,
           max(completed_at)                            AS last_completed_at,
           min(started_at)                              AS first_claimed_at
    FROM migration_status.chunks
    WHERE run_id = t.run_id AND table_id = t.table_id AND status <> 'superseded'
) c ON true
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(by_column.name, by_column.changes) AS changed_values
    FROM (SELECT name, jsonb_object_agg(change, changed) AS changes
          FROM (SELECT a.key AS name, b.key AS change, sum(b.value::bigint) AS changed
                FROM migration_status.chunks s
                CROSS JOIN LATERAL jsonb_each(s.changed_values) a
                CROSS JOIN LATERAL jsonb_each_text(a.value) b
                WHERE s.run_id = t.run_id AND s.table_id = t.table_id AND s.status = 'completed'
                  AND s.changed_values IS NOT NULL
                GROUP BY a.key, b.key) summed
          GROUP BY name) by_column
) v ON true;

-- Each run that is not over, with its driver and how far it is.
CREATE OR REPLACE VIEW migration_status.v_active_migrations AS
SELECT r.run_id,
       r.source_name,
       r.status,
       r.started_at,
       clock_timestamp() - r.started_at                       AS running_for,
       e.execution_id,
       e.renewed_at                                           AS driver_renewed_at,
       e.expires_at                                           AS driver_expires_at,
       count(p.table_id)                                      AS tables,
       count(p.table_id) FILTER (WHERE p.status = 'completed') AS tables_completed,
       sum(p.source_rows)::bigint                             AS source_rows,
       sum(p.rows_loaded)::bigint                             AS rows_loaded,
       sum(p.chunks)::bigint                                  AS chunks,
       sum(p.chunks_completed)::bigint                        AS chunks_completed,
       sum(p.chunks_running)::bigint                          AS chunks_running,
       sum(p.chunks_failed)::bigint                           AS chunks_failed,
       max(p.last_moved_at)                                   AS last_moved_at,
       r.rounds,
       r.stalled_rounds,
       'in_progress'                                          AS run_status,
       extract(epoch FROM clock_timestamp() - r.started_at)::double precision AS duration_seconds,
       count(p.table_id)                                      AS total_tables,
       count(p.table_id) FILTER (WHERE p.status = 'completed') AS completed_tables,
       count(p.table_id) FILTER (WHERE p.status = 'failed')   AS failed_tables,
       coalesce(sum(p.rows_loaded), 0)::bigint                AS total_rows_copied,
       count(p.table_id) FILTER (WHERE p.status = 'in_progress') AS tables_in_progress,
       coalesce(sum(p.chunks_running), 0)::bigint             AS chunks_in_progress
FROM migration_status.runs r
LEFT JOIN migration_status.run_executions e ON e.run_id = r.run_id AND e.ended_at IS NULL
LEFT JOIN migration_status.v_table_progress p ON p.run_id = r.run_id
WHERE r.status = 'running' AND migration_status.may_see(r.loaded_by)
GROUP BY r.run_id, e.execution_id, e.renewed_at, e.expires_at;

-- What a chunk reads, for whoever may see that: a range of keys has values of rows for its bounds. Else NULL.
CREATE OR REPLACE FUNCTION migration_status.reads_of(of_run text, of_table integer, of_chunk integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT has_column_privilege('migration_status.chunks', 'reads', 'SELECT') THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT c.reads FROM migration_status.chunks c
            WHERE c.run_id = of_run AND c.table_id = of_table AND c.chunk_id = of_chunk);
END
$function$;

-- Each run. What is counted is counted only when it is asked for.
CREATE OR REPLACE VIEW migration_status.migration_runs AS
SELECT
       r.run_id, r.source_name, r.config_hash,
       CASE r.status WHEN 'running' THEN 'in_progress' ELSE r.status END AS status,
       r.snapshot_at, r.started_at, r.completed_at, r.rounds, r.waits, r.stalled_rounds, r.planned_round,
       r.progress_mark, r.snowmelt_version, r.plan_format, r.store, r.allow_shrink, r.accept_rejected, r.error_code,
       r.error_text, r.loaded_by,
       r.status AS state,
       1 AS total_sources,
       (SELECT count(*) FROM migration_status.run_tables t WHERE t.run_id = r.run_id) AS total_tables,
       (SELECT count(*) FROM migration_status.run_tables t
        WHERE t.run_id = r.run_id AND t.status = 'completed') AS completed_tables,
       (SELECT count(*) FROM migration_status.run_tables t
        WHERE t.run_id = r.run_id AND t.status = 'failed') AS failed_tables,
       (SELECT coalesce(sum(c.actual_rows - c.rejected_rows), 0)::bigint FROM migration_status.chunks c
        WHERE c.run_id = r.run_id AND c.status = 'completed') AS total_rows_copied,
       r.error_text AS error_message,
       r.loaded_by AS created_by,
       jsonb_build_object('snowmelt_version', r.snowmelt_version, 'snapshot_at', r.snapshot_at, 'rounds', r.rounds) AS metadata
FROM migration_status.runs r
WHERE migration_status.may_see(r.loaded_by);

-- Each table of each run.
CREATE OR REPLACE VIEW migration_status.migration_table_status AS
SELECT
       t.run_id, t.table_id, t.source_table, t.target_schema, t.target_table,
       CASE WHEN t.status IN ('scanning', 'loading', 'finalizing') THEN 'in_progress' ELSE t.status END AS status,
       t.load_epoch, t.strategy, t.adds_only, t.loads_after, t.query_id, t.second_query_id, t.source_rows, t.omitted,
       t.truncated_at, t.target_identity, t.started_at, t.completed_at, t.error_code, t.error_text,
       t.status AS state, t.source_database, t.source_schema, current_database()::text AS target_database,
       (SELECT count(*) FROM migration_status.chunks c
        WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status <> 'superseded') AS total_chunks,
       (SELECT count(*) FROM migration_status.chunks c
        WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed') AS completed_chunks,
       (SELECT count(*) FROM migration_status.chunks c
        WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'failed') AS failed_chunks,
       (SELECT coalesce(sum(c.actual_rows - c.rejected_rows), 0)::bigint FROM migration_status.chunks c
        WHERE c.run_id = t.run_id AND c.table_id = t.table_id AND c.status = 'completed') AS total_rows_copied,
       (SELECT count(*) > 0 FROM migration_status.saved_indexes s
        WHERE s.run_id = t.run_id AND s.table_id = t.table_id) AS indexes_disabled,
       (SELECT count(*) > 0 AND count(*) = count(s.restored_at) FROM migration_status.saved_indexes s
        WHERE s.run_id = t.run_id AND s.table_id = t.table_id) AS indexes_restored,
       t.error_text AS error_message, t.key_columns, t.scan_began_at
FROM migration_status.run_tables t
JOIN migration_status.runs r ON r.run_id = t.run_id AND migration_status.may_see(r.loaded_by);

-- Each chunk of each table.
CREATE OR REPLACE VIEW migration_status.migration_chunk_status AS
SELECT
       c.run_id, c.table_id, c.chunk_id, c.source_table,
       CASE c.status WHEN 'running' THEN 'in_progress' ELSE c.status END AS status,
       migration_status.reads_of(c.run_id, c.table_id, c.chunk_id) AS reads,
       c.estimated_rows, c.actual_rows, c.load_mode, c.inserted_rows, c.updated_rows, c.unchanged_rows,
       c.kept_newer_rows, c.deduplicated_rows, c.size_bytes, c.rejected_rows, c.changed_values, c.attempts,
       c.lease_token, c.lease_until, c.backend_pid, c.backend_start, c.started_at, c.completed_at, c.spent_seconds,
       c.error_code, c.error_text,
       c.status AS state, t.source_database, t.source_schema,
       migration_status.reads_of(c.run_id, c.table_id, c.chunk_id)::text AS chunk_range,
       coalesce(c.actual_rows - c.rejected_rows, 0) AS rows_copied,
       greatest(c.attempts - 1, 0) AS retry_count,
       c.error_text AS error_message,
       c.expired_rows
FROM migration_status.chunks c
JOIN migration_status.run_tables t ON t.run_id = c.run_id AND t.table_id = c.table_id
JOIN migration_status.runs r ON r.run_id = c.run_id AND migration_status.may_see(r.loaded_by);

-- Who changed rows under these names meant the tables, and other words of theirs.
CREATE OR REPLACE FUNCTION migration_status.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'migration_status.% is a view, and only read', TG_TABLE_NAME
          USING ERRCODE = 'feature_not_supported',
                HINT = format('The table is migration_status.%s, where status has other words: %s.', TG_ARGV[0], TG_ARGV[1]);
END
$function$;

-- A view looks with the rights of its owner, to whom row security does not apply, unless it is told otherwise.
DO $views$
DECLARE
    named text;
    parts text[];
    how   text := CASE WHEN current_setting('server_version_num')::integer >= 150000
                       THEN 'security_invoker' ELSE 'security_barrier' END;
BEGIN
    FOREACH named IN ARRAY ARRAY['migration_runs', 'migration_table_status', 'migration_chunk_status', 'v_table_progress',
                                 'v_active_migrations'] LOOP
        EXECUTE format('ALTER VIEW migration_status.%I SET (%s = true)', named, how);
    END LOOP;
    FOREACH parts SLICE 1 IN ARRAY ARRAY[
            ['migration_runs', 'runs', 'running'], ['migration_table_status', 'run_tables', 'scanning, loading, finalizing'],
            ['migration_chunk_status', 'chunks', 'running']] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS only_read ON migration_status.%I', parts[1]);
        EXECUTE format('CREATE TRIGGER only_read INSTEAD OF INSERT OR UPDATE OR DELETE ON migration_status.%I '
                       'FOR EACH ROW EXECUTE FUNCTION migration_status.refuse_change(%L, %L)', parts[1], parts[2], parts[3]);
    END LOOP;
END
$views$;

-- Who could read a table before version 7 reads the view that has its name, and the columns beneath it that are new.
DO $grants$
DECLARE
    granted record;
BEGIN
    IF NOT EXISTS (SELECT FROM migration_status.schema_version) OR EXISTS (
            SELECT FROM migration_status.schema_version WHERE version >= 7) THEN
        RETURN;
    END IF;
    FOR granted IN
        SELECT DISTINCT v.name, v.beneath,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
               (SELECT string_agg(quote_ident(k.attname), ', ') FROM pg_attribute k
                WHERE k.attrelid = c.oid AND k.attnum > 0 AND NOT k.attisdropped AND k.attname <> 'reads') AS columns
        FROM (VALUES ('migration_runs', 'runs'), ('migration_table_status', 'run_tables'),
                     ('migration_chunk_status', 'chunks'), ('v_table_progress', 'v_table_progress'),
                     ('v_active_migrations', 'v_active_migrations')) AS v (name, beneath)
        JOIN pg_class c ON c.relnamespace = 'migration_status'::regnamespace AND c.relname = v.beneath
        CROSS JOIN LATERAL (
            SELECT x.grantee FROM aclexplode(c.relacl) x WHERE x.privilege_type = 'SELECT'
            UNION ALL
            SELECT x.grantee FROM pg_attribute k CROSS JOIN LATERAL aclexplode(k.attacl) x
            WHERE k.attrelid = c.oid AND k.attname = 'run_id' AND x.privilege_type = 'SELECT') a
        WHERE a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT ON migration_status.%I TO %s', granted.name, granted.role);
        EXECUTE format('GRANT SELECT (%s) ON migration_status.%I TO %s', granted.columns, granted.beneath, granted.role);
    END LOOP;
END
$grants$;

-- Who was granted the columns of a table one by one also reads those that came later: the view that has them needs it.
DO $later_columns$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role
        FROM pg_attribute k CROSS JOIN LATERAL aclexplode(k.attacl) a
        WHERE k.attrelid = 'migration_status.run_tables'::regclass AND k.attname = 'source_rows'
          AND a.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT (scan_began_at) ON migration_status.run_tables TO %s', granted.role);
    END LOOP;
END
$later_columns$;

INSERT INTO migration_status.schema_version (version) VALUES (1), (2), (3), (4), (5), (6), (7), (8) ON CONFLICT DO NOTHING;
