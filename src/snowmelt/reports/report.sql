-- What the report of a run says, each part by one query whose answer stays small however many chunks there were.

-- name: report_run
-- The run, and the server's clock and version.
SELECT run_id, source_name, status, config_hash, snapshot_at, started_at, completed_at, rounds, snowmelt_version,
       plan_format, store, allow_shrink, accept_rejected, error_code, error_text, clock_timestamp() AS read_at,
       extract(epoch FROM coalesce(completed_at, clock_timestamp()) - started_at)::float8 AS seconds,
       current_setting('server_version') AS postgres_version
FROM migration_status.runs WHERE run_id = %(run_id)s

-- name: report_executions
-- Who drove the run, the latest first.
SELECT execution_id, started_at, ended_at
FROM migration_status.run_executions WHERE run_id = %(run_id)s
ORDER BY started_at DESC, execution_id LIMIT %(limit)s

-- name: report_tables
-- Each table with what became of its chunks: rows, attempts, and how long they took from their claim to their mark.
SELECT t.table_id, t.source_table, t.target_schema, t.target_table, t.status, t.strategy, t.source_rows,
       array_remove(ARRAY[t.query_id, t.second_query_id], NULL) AS query_ids, t.truncated_at, t.started_at,
       t.completed_at, t.error_code, t.error_text, t.omitted,
       coalesce(c.chunks, 0) AS chunks, coalesce(c.completed, 0) AS chunks_completed,
       coalesce(c.running, 0) AS chunks_running, coalesce(c.failed, 0) AS chunks_failed,
       coalesce(c.retries, 0) AS retries, coalesce(c.retried, 0) AS chunks_retried,
       coalesce(c.rows, 0) AS rows, coalesce(c.inserted, 0) AS inserted, coalesce(c.updated, 0) AS updated,
       coalesce(c.unchanged, 0) AS unchanged, coalesce(c.deduplicated, 0) AS deduplicated,
       coalesce(c.kept_newer, 0) AS kept_newer,
       coalesce(c.rejected, 0) AS rejected, coalesce(c.size_bytes, 0) AS size_bytes,
       c.load_mode, c.first_claimed_at, c.last_loaded_at, c.percentiles[1] AS median_seconds,
       c.percentiles[2] AS p95_seconds, c.slowest_seconds, coalesce(c.total_seconds, 0) AS total_seconds,
       coalesce(v.changed_values, '{}') AS changed_values
FROM migration_status.run_tables t
LEFT JOIN (
    SELECT table_id, count(*) AS chunks,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'running')   AS running,
           count(*) FILTER (WHERE status = 'failed')    AS failed,
           sum(greatest(attempts - 1, 0))::bigint       AS retries,
           count(*) FILTER (WHERE attempts > 1)         AS retried,
           sum(actual_rows - rejected_rows)::bigint     AS rows,
           sum(inserted_rows)::bigint                   AS inserted,
           sum(updated_rows)::bigint                    AS updated,
           sum(unchanged_rows)::bigint                  AS unchanged,
           sum(deduplicated_rows)::bigint               AS deduplicated,
           sum(kept_newer_rows)::bigint                 AS kept_newer,
           sum(rejected_rows)::bigint                   AS rejected,
           sum(size_bytes)::bigint                      AS size_bytes,
           min(load_mode)                               AS load_mode,
           min(started_at)                              AS first_claimed_at,
           max(completed_at)                            AS last_loaded_at,
           percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE status = 'completed')
                                                        AS percentiles,
           max(seconds) FILTER (WHERE status = 'completed') AS slowest_seconds,
           sum(seconds) FILTER (WHERE status = 'completed') AS total_seconds
    FROM (SELECT *, extract(epoch FROM completed_at - started_at)::float8 AS seconds
          FROM migration_status.chunks
          WHERE run_id = %(run_id)s AND status <> 'superseded') timed
    GROUP BY table_id
) c USING (table_id)
LEFT JOIN (
    SELECT table_id, jsonb_object_agg(name, changes) AS changed_values
    FROM (SELECT table_id, name, jsonb_object_agg(change, changed) AS changes
          FROM (SELECT k.table_id, a.key AS name, b.key AS change, sum(b.value::bigint) AS changed
                FROM migration_status.chunks k
                CROSS JOIN LATERAL jsonb_each(k.changed_values) a
                CROSS JOIN LATERAL jsonb_each_text(a.value) b
                WHERE k.run_id = %(run_id)s AND k.status = 'completed' AND k.changed_values IS NOT NULL
                GROUP BY k.table_id, a.key, b.key) summed
          GROUP BY table_id, name) by_column
    GROUP BY table_id
) v USING (table_id)
WHERE t.run_id = %(run_id)s
ORDER BY t.table_id

-- name: report_pace
-- Rows over time: each chunk's rows spread evenly over the time from its claim to its mark, in so many equal parts of
-- the time in which anything was loaded.
WITH done AS (
    SELECT extract(epoch FROM started_at)::float8 AS start, extract(epoch FROM completed_at)::float8 AS stop,
           actual_rows - rejected_rows AS rows, coalesce(size_bytes, 0) AS size_bytes
    FROM migration_status.chunks
    WHERE run_id = %(run_id)s AND status = 'completed' AND completed_at > started_at
), span AS MATERIALIZED (  -- or it would be made again for each chunk
    SELECT min(start) AS low, max(stop) AS high, (max(stop) - min(start)) / %(parts)s AS width FROM done
)
SELECT part, to_timestamp(s.low + (part - 1) * s.width) AS starts_at, s.width AS seconds,
       sum(d.rows * shared.seconds / (d.stop - d.start))::float8 AS rows,
       sum(d.size_bytes * shared.seconds / (d.stop - d.start))::float8 AS size_bytes,
       (sum(shared.seconds) / s.width)::float8 AS chunks_at_once
FROM span s
JOIN done d ON s.high > s.low
CROSS JOIN LATERAL generate_series(width_bucket(d.start, s.low, s.high, %(parts)s),
                                   least(width_bucket(d.stop, s.low, s.high, %(parts)s), %(parts)s)) AS part
CROSS JOIN LATERAL (
    SELECT greatest(0, least(d.stop, s.low + part * s.width) - greatest(d.start, s.low + (part - 1) * s.width)) AS seconds
) shared
GROUP BY part, s.low, s.width
ORDER BY part

-- name: report_durations
-- How many chunks took how long: each part of the range is as many times longer than the one before.
WITH done AS (
    SELECT greatest(extract(epoch FROM completed_at - started_at)::float8, 0.001) AS seconds
    FROM migration_status.chunks
    WHERE run_id = %(run_id)s AND status = 'completed'
), span AS MATERIALIZED (  -- or it would be made again for each chunk
    SELECT ln(min(seconds)) AS low, greatest(ln(max(seconds)), ln(min(seconds)) + 0.001) AS high FROM done
)
SELECT part, exp(s.low + (part - 1) * (s.high - s.low) / %(parts)s) AS low_seconds,
       exp(s.low + part * (s.high - s.low) / %(parts)s) AS high_seconds, count(*) AS chunks
FROM span s
CROSS JOIN done d
CROSS JOIN LATERAL least(width_bucket(ln(d.seconds), s.low, s.high, %(parts)s), %(parts)s) AS part
GROUP BY part, s.low, s.high
ORDER BY part

-- name: report_rejects
-- Why rows were rejected, a reason once, the most frequent first; values that a reason quotes make no new one.
SELECT t.source_table, r.column_name, r.sqlstate, min(r.reason) AS reason, count(*) AS rows, count(*) OVER () AS kinds
FROM migration_status.rejected_rows r
JOIN migration_status.chunks c USING (run_id, table_id, chunk_id)
JOIN migration_status.run_tables t USING (run_id, table_id)
WHERE r.run_id = %(run_id)s AND c.status = 'completed'
GROUP BY t.table_id, t.source_table, r.column_name, r.sqlstate,
         left(regexp_replace(r.reason, '\[value [0-9a-f]+\]', '[value]', 'g'), 120)
ORDER BY count(*) DESC, t.table_id, r.column_name, min(r.reason)
LIMIT %(limit)s

-- name: report_indexes
-- Indexes that were dropped for the load, those that took longest to build first.
SELECT target_schema, target_table, index_name, is_unique, size_bytes, attempts, started_at, restored_at, failed_at,
       extract(epoch FROM restored_at - started_at)::float8 AS seconds, error_code, error_text,
       count(*) OVER () AS indexes
FROM migration_status.saved_indexes
WHERE run_id = %(run_id)s
ORDER BY restored_at - started_at DESC NULLS FIRST, saved_id
LIMIT %(limit)s

-- name: has_verification_results
-- Whether verdicts on tables are kept here.
SELECT to_regclass('migration_status.verification_results') IS NOT NULL AS kept
