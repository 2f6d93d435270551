-- The status schema of Snowmelt: what every run did, is doing, and has left to do.
-- It is the only truth about what is done, and it is made to be read with plain SQL while a run is on.
-- Running this file again changes nothing.

CREATE SCHEMA IF NOT EXISTS migration_status;

CREATE TABLE IF NOT EXISTS migration_status.schema_version (
    version      integer     PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
);

-- One row per migration of one source.
CREATE TABLE IF NOT EXISTS migration_status.migration_runs (
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
    accept_rejected  boolean     NOT NULL DEFAULT false, -- someone agreed that refused rows stay out
    error_code       text,
    error_text       text
);

-- Who drives a run: a Step Functions execution, or a process on someone's machine. One at a time.
CREATE TABLE IF NOT EXISTS migration_status.run_executions (
    run_id        text        NOT NULL REFERENCES migration_status.migration_runs ON DELETE CASCADE,
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

CREATE TABLE IF NOT EXISTS migration_status.migration_table_status (
    run_id        text        NOT NULL REFERENCES migration_status.migration_runs ON DELETE CASCADE,
    table_id      integer     NOT NULL,
    source_table  text        NOT NULL,
    target_schema text        NOT NULL,
    target_table  text        NOT NULL,
    status        text        NOT NULL DEFAULT 'pending'
                  CHECK (status IN ('pending', 'scanning', 'loading', 'finalizing', 'completed', 'failed', 'abandoned')),
    load_epoch    integer     NOT NULL DEFAULT 1,       -- a load that began under an earlier epoch cannot commit
    strategy      text        NOT NULL,
    adds_only     boolean     NOT NULL DEFAULT false,   -- may share its target with others of the same run
    loads_after   integer[]   NOT NULL DEFAULT '{}',    -- tables of the run that this one refers to
    query_id      text,                                 -- the scan in Snowflake, or the histogram of the key
    second_query_id text,                               -- what looks into the crowded parts of the histogram
    source_rows   bigint,                               -- rows of that scan
    truncated_at  timestamptz,                          -- set in the transaction that truncated the target
    started_at    timestamptz,
    completed_at  timestamptz,
    error_code    text,
    error_text    text,
    PRIMARY KEY (run_id, table_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active_run_per_target
    ON migration_status.migration_table_status (target_schema, target_table)
    WHERE status IN ('pending', 'scanning', 'loading', 'finalizing') AND NOT adds_only;

-- The unit of commit: a chunk is completed in the transaction that loads its rows, or not at all.
CREATE TABLE IF NOT EXISTS migration_status.migration_chunk_status (
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
    FOREIGN KEY (run_id, table_id) REFERENCES migration_status.migration_table_status ON DELETE CASCADE
);

-- What was found when a table's target was held against the rows that were read for it. Sums of a big table take several
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
    FOREIGN KEY (run_id, table_id) REFERENCES migration_status.migration_table_status ON DELETE CASCADE
);

-- What earlier versions lack.
ALTER TABLE migration_status.migration_runs ADD COLUMN IF NOT EXISTS accept_rejected boolean NOT NULL DEFAULT false;
ALTER TABLE migration_status.migration_runs ADD COLUMN IF NOT EXISTS planned_round integer NOT NULL DEFAULT -1;
ALTER TABLE migration_status.migration_chunk_status ADD COLUMN IF NOT EXISTS changed_values jsonb;
ALTER TABLE migration_status.migration_chunk_status ADD COLUMN IF NOT EXISTS kept_newer_rows bigint;
ALTER TABLE migration_status.verification_results ADD COLUMN IF NOT EXISTS kept_newer bigint NOT NULL DEFAULT 0;
DO $upgrade$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'migration_status.migration_runs'::regclass
                   AND conname = 'migration_runs_status_check'
                   AND pg_get_constraintdef(oid) LIKE '%completed_with_rejects%') THEN
        ALTER TABLE migration_status.migration_runs DROP CONSTRAINT IF EXISTS migration_runs_status_check;
        ALTER TABLE migration_status.migration_runs ADD CONSTRAINT migration_runs_status_check
            CHECK (status IN ('running', 'completed', 'completed_with_rejects', 'failed', 'abandoned'));
    END IF;
END
$upgrade$;

-- Indexes that were dropped for a load and are owed to their table, saved in the transaction that dropped them.
-- No foreign key: the history of a run may be deleted, what has still to be built again may not.
CREATE TABLE IF NOT EXISTS migration_status.saved_indexes (
    saved_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        text        NOT NULL,                 -- the run that owes it; a later one on the same target takes it over
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
CREATE UNIQUE INDEX IF NOT EXISTS owed_once_of_its_kind
    ON migration_status.saved_indexes (target_schema, target_table, kind, index_name) WHERE restored_at IS NULL;
CREATE INDEX IF NOT EXISTS saved_indexes_of_run ON migration_status.saved_indexes (run_id, table_id);

-- Put back one saved index, or foreign key. Index, comment and mark commit together or not at all, and the server does it all by itself:
-- a build whose client has died goes on, and what came of it is recorded. The answer is a word:
--   restored  it is there, valid, and as it was          failed   error_text says why it cannot be built
--   blocked   a lock was not to be had: try again        held     another session is building it
--   gone      it is restored, given up, or another run's
CREATE OR REPLACE FUNCTION migration_status.restore_index(this bigint, of_run text) RETURNS text
LANGUAGE plpgsql AS $function$
DECLARE
    saved       migration_status.saved_indexes;
    target      oid;
    there       record;
    path        text := current_setting('search_path');
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
        EXECUTE format('LOCK TABLE %I.%I IN %s MODE', saved.target_schema, saved.target_table,
                       CASE saved.kind WHEN 'index' THEN 'SHARE' ELSE 'SHARE ROW EXCLUSIVE' END);
        -- Whoever takes an index over locks the table first: only now is it certain that it is still ours to build.
        PERFORM FROM migration_status.saved_indexes s
        WHERE s.saved_id = this AND s.run_id = of_run AND s.restored_at IS NULL AND s.failed_at IS NULL;
        IF NOT FOUND THEN
            RETURN 'gone';
        END IF;
        target := format('%I.%I', saved.target_schema, saved.target_table)::regclass;

        PERFORM set_config('search_path', '', true);    -- so that the definition is written as it was when saved
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
        -- Functions inside an index expression may rely on the path they were written under.
        PERFORM set_config('search_path', path, true);

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
            EXECUTE saved.definition;
        END IF;
        -- CLUSTER ON waits for the other builds of the table; a built index must not be lost to that.
        PERFORM set_config('lock_timeout', '0', true);
        FOR step IN SELECT jsonb_array_elements_text(saved.afterwards) LOOP
            EXECUTE step;
        END LOOP;
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
        SET error_code = code, error_text = concat_ws(': ', problem, nullif(detail, '')),
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
    watermark       text        NOT NULL,               -- with nine digits of a second
    watermark_type  text        NOT NULL,
    run_id          text        NOT NULL,
    written_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_name, target_schema, target_table)
);

-- Rows PostgreSQL refused, kept with the reason. bytea holds what neither json nor text can.
CREATE TABLE IF NOT EXISTS migration_status.rejected_rows (
    run_id       text        NOT NULL,
    table_id     integer     NOT NULL,
    chunk_id     integer     NOT NULL,
    row_number   bigint      NOT NULL,
    column_name  text,
    sqlstate     text,
    reason       text        NOT NULL,
    row_content  bytea       NOT NULL,
    rejected_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, table_id, chunk_id, row_number),
    FOREIGN KEY (run_id, table_id, chunk_id) REFERENCES migration_status.migration_chunk_status ON DELETE CASCADE
);

-- Each table of each run: rows and chunks, counted from the chunks themselves.
CREATE OR REPLACE VIEW migration_status.v_table_progress AS
SELECT t.run_id,
       t.table_id,
       t.source_table,
       t.target_schema,
       t.target_table,
       t.status,
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
       coalesce(c.kept_newer_rows, 0)                                         AS kept_newer_rows
FROM migration_status.migration_table_status t
LEFT JOIN LATERAL (
    SELECT count(*)                                     AS chunks,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'running')   AS running,
           count(*) FILTER (WHERE status = 'failed')    AS failed,
           sum(actual_rows - rejected_rows)::bigint     AS rows_loaded,
           sum(size_bytes)::bigint                      AS size_bytes,
           sum(rejected_rows)::bigint                   AS rejected_rows,
           sum(kept_newer_rows)::bigint                 AS kept_newer_rows,
           max(completed_at)                            AS last_completed_at
    FROM migration_status.migration_chunk_status
    WHERE run_id = t.run_id AND table_id = t.table_id AND status <> 'superseded'
) c ON true
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(by_column.name, by_column.changes) AS changed_values
    FROM (SELECT name, jsonb_object_agg(change, changed) AS changes
          FROM (SELECT a.key AS name, b.key AS change, sum(b.value::bigint) AS changed
                FROM migration_status.migration_chunk_status s
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
       r.stalled_rounds
FROM migration_status.migration_runs r
LEFT JOIN migration_status.run_executions e ON e.run_id = r.run_id AND e.ended_at IS NULL
LEFT JOIN migration_status.v_table_progress p ON p.run_id = r.run_id
WHERE r.status = 'running'
GROUP BY r.run_id, e.execution_id, e.renewed_at, e.expires_at;

INSERT INTO migration_status.schema_version (version) VALUES (1), (2), (3), (4), (5), (6) ON CONFLICT DO NOTHING;
