"""The queries that operators have from another tool, word for word, over runs, tables and chunks in every state."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from snowmelt.config import PostgresConfig
from snowmelt.engine import status_store
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database
from support import earlier_schemas
from support.psql import run_psql

QUERIES = Path(__file__).parents[1] / "fixtures" / "predecessor" / "queries.sql"
PRESENT = status_store.SCHEMA_VERSION

STATES = """
INSERT INTO migration_status.runs
    (run_id, source_name, config_hash, status, snapshot_at, started_at, completed_at, rounds, snowmelt_version,
     plan_format, store, error_code, error_text)
SELECT 'run-' || s, 'ledger', 'hash-' || s, s, '2026-01-01 00:00+00', now() - age * interval '1 minute',
       CASE WHEN s <> 'running' THEN now() - (age - 5) * interval '1 minute' END, 3, '1.2', 1, 'store',
       CASE s WHEN 'failed' THEN 'RunFailedError' WHEN 'abandoned' THEN 'Abandoned' END,
       CASE s WHEN 'failed' THEN 'one table failed' WHEN 'abandoned' THEN 'closed' END
FROM (VALUES ('running', 60), ('completed', 120), ('completed_with_rejects', 180), ('failed', 240), ('abandoned', 300))
     AS v (s, age);
INSERT INTO migration_status.run_executions (run_id, execution_id, expires_at)
VALUES ('run-running', 'local:host:1', now() - interval '1 hour');
INSERT INTO migration_status.run_tables
    (run_id, table_id, source_table, source_database, source_schema, target_schema, target_table, status, strategy,
     source_rows, started_at, completed_at, error_text)
SELECT run_id, table_id, upper(s || '_T'), 'DB', 'SC', 'public', s || '_t', s, 'one_scan', 400,
       CASE WHEN s <> 'pending' THEN now() - interval '50 minutes' END,
       CASE WHEN s IN ('completed', 'failed', 'abandoned') THEN now() - interval '49 minutes' END,
       CASE WHEN s IN ('failed', 'abandoned') THEN 'why it is ' || s END
FROM (VALUES ('run-running', 0, 'pending'), ('run-running', 1, 'scanning'), ('run-running', 2, 'loading'),
             ('run-running', 3, 'finalizing'), ('run-running', 4, 'completed'), ('run-running', 5, 'failed'),
             ('run-completed', 0, 'completed'), ('run-completed_with_rejects', 0, 'completed'),
             ('run-failed', 0, 'failed'), ('run-abandoned', 0, 'abandoned')) AS v (run_id, table_id, s);
INSERT INTO migration_status.chunks
    (run_id, table_id, chunk_id, source_table, status, reads, estimated_rows, actual_rows, rejected_rows, attempts,
     started_at, completed_at, error_code, error_text)
SELECT run_id, table_id, chunk_id, source_table, s, '{"kind": "rows"}', 100,
       CASE WHEN s = 'completed' THEN 100 END, CASE WHEN s = 'completed' THEN rejected ELSE 0 END, attempts,
       CASE WHEN s <> 'pending' THEN now() - began * interval '1 minute' END,
       CASE WHEN s IN ('completed', 'superseded') THEN now() - (began - 1) * interval '1 minute' END,
       CASE WHEN s = 'failed' THEN '22001' END, CASE WHEN s = 'failed' THEN repeat('too long ', 20) END
FROM (VALUES ('run-running', 2, 1, 'LOADING_T', 'pending', 0, 0, 0),
             ('run-running', 2, 2, 'LOADING_T', 'running', 0, 2, 30),
             ('run-running', 2, 3, 'LOADING_T', 'running', 0, 1, 5),
             ('run-running', 2, 4, 'LOADING_T', 'completed', 10, 1, 8),
             ('run-running', 2, 5, 'LOADING_T', 'failed', 0, 3, 9),
             ('run-running', 2, 6, 'LOADING_T', 'superseded', 0, 1, 9),
             ('run-running', 4, 1, 'COMPLETED_T', 'completed', 0, 1, 90),
             ('run-completed', 0, 1, 'COMPLETED_T', 'completed', 0, 1, 110),
             ('run-completed', 0, 2, 'COMPLETED_T', 'completed', 0, 1, 110),
             ('run-failed', 0, 1, 'FAILED_T', 'failed', 0, 3, 200))
     AS v (run_id, table_id, chunk_id, source_table, s, rejected, attempts, began);
INSERT INTO migration_status.saved_indexes
    (run_id, table_id, target_schema, target_table, index_name, definition, is_unique, size_bytes, restored_at)
VALUES ('run-completed', 0, 'public', 'completed_t', 'a', 'CREATE INDEX a', false, 1, now()),
       ('run-running', 4, 'public', 'completed_t', 'b', 'CREATE INDEX b', false, 1, NULL);
"""

Answers = list[list[dict[str, str]]]


@contextmanager
def session_of(database: Database) -> Iterator[Session]:
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with Session.connect(config, database=database.name, application_name="test") as session:
        yield session


def install(database: Database) -> None:
    with session_of(database) as session:
        status_store.install(session)


def statements() -> list[str]:
    return re.findall(r"^(?:SELECT)[^;]*;$", QUERIES.read_text(encoding="utf-8"), re.MULTILINE)


def ask(database: Database, *, run_id: str = "run-running", role: str | None = None) -> Answers:
    """Return the rows that psql prints for each statement of the file."""
    commands = "\n\\echo ---\n".join(statements())
    dsn = f"{database.dsn} user={role or database.server.user}"
    done = run_psql(dsn, "--csv", types=commands, ON_ERROR_STOP="1", run_id=run_id)
    assert (done.returncode, done.stderr) == (0, "")
    return [list(csv.DictReader(io.StringIO(part))) for part in done.stdout.split("---\n")]


def test_each_statement_of_the_file_is_asked_below() -> None:
    text = re.sub(r"--.*", "", QUERIES.read_text(encoding="utf-8"))
    assert "".join(text.split()) == "".join("".join(statements()).split())
    assert len(statements()) == 9


def test_before_the_first_run_the_file_as_it_is_finds_nothing(database: Database) -> None:
    install(database)
    done = run_psql(database.dsn, "--tuples-only", "-f", str(QUERIES), ON_ERROR_STOP="1", run_id="x")
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")


@pytest.mark.parametrize("version", [*earlier_schemas.VERSIONS, PRESENT])
def test_every_query_answers_with_runs_tables_and_chunks_in_every_state(database: Database, version: int) -> None:
    install(database)
    database.execute(STATES)
    if version != PRESENT:
        earlier_schemas.go_back_to(database, version)
        install(database)
    named = ("DB", "SC") if version >= 7 else ("", "")

    progress, active, tables, runs, chunks, failed, stuck, speed, minutes = ask(database)

    assert {(row["source_table"], row["progress"]) for row in progress} == {
        ("LOADING_T", "20.0%"),
        ("SCANNING_T", ""),
        ("FINALIZING_T", ""),
    }
    ((only),) = active
    assert float(only.pop("duration_seconds")) == pytest.approx(3600, abs=60)
    assert only.pop("started_at")
    assert only == {
        "run_id": "run-running",
        "run_status": "in_progress",
        "total_tables": "6",
        "completed_tables": "1",
        "failed_tables": "1",
        "total_rows_copied": "190",
        "tables_in_progress": "3",
        "chunks_in_progress": "2",
        "chunks_failed": "1",
    }
    of_running = {row["source_table"]: row for row in tables if row["run_id"] == "run-running"}
    assert {name: row["status"] for name, row in of_running.items()} == {
        "PENDING_T": "pending",
        "SCANNING_T": "in_progress",
        "LOADING_T": "in_progress",
        "FINALIZING_T": "in_progress",
        "COMPLETED_T": "completed",
        "FAILED_T": "failed",
    }
    counts = (
        "source_name",
        "target_table",
        "total_chunks",
        "completed_chunks",
        "failed_chunks",
        "completion_percentage",
    )
    assert [of_running["LOADING_T"][name] for name in counts] == ["ledger", "loading_t", "5", "1", "1", "20.0"]
    assert of_running["COMPLETED_T"]["completion_percentage"] == "100.0"
    assert float(of_running["COMPLETED_T"]["duration_seconds"]) == pytest.approx(60, abs=1)
    assert (of_running["PENDING_T"]["started_at"], of_running["LOADING_T"]["completed_at"]) == ("", "")
    sums = ("status", "config_hash", "total_sources", "total_tables", "completed_tables", "failed_tables")
    assert [[row["run_id"], *(row[name] for name in sums), row["total_rows_copied"]] for row in runs] == [
        ["run-running", "in_progress", "hash-running", "1", "6", "1", "1", "190"],
        ["run-completed", "completed", "hash-completed", "1", "1", "1", "0", "200"],
        [
            "run-completed_with_rejects",
            "completed_with_rejects",
            "hash-completed_with_rejects",
            "1",
            "1",
            "1",
            "0",
            "0",
        ],
        ["run-failed", "failed", "hash-failed", "1", "1", "0", "1", "0"],
        ["run-abandoned", "abandoned", "hash-abandoned", "1", "1", "0", "0", "0"],
    ]
    assert [row["error_message"] for row in runs] == ["", "", "", "one table failed", "closed"]
    assert {row["created_by"] for row in runs} == {database.server.user}
    assert '"snowmelt_version": "1.2"' in runs[0]["metadata"]
    columns = ("source_table", "chunk_id", "status", "rows_copied", "retry_count")
    assert [row["chunk_id"] for row in chunks] == ["1", "1", "2", "3", "4", "5", "6"]
    assert sorted(tuple(row[name] for name in columns) for row in chunks) == [
        ("COMPLETED_T", "1", "completed", "100", "0"),
        ("LOADING_T", "1", "pending", "0", "0"),
        ("LOADING_T", "2", "in_progress", "0", "1"),
        ("LOADING_T", "3", "in_progress", "0", "0"),
        ("LOADING_T", "4", "completed", "90", "0"),
        ("LOADING_T", "5", "failed", "0", "2"),
        ("LOADING_T", "6", "superseded", "0", "0"),
    ]
    assert {(row["source_database"], row["source_schema"], row["chunk_range"]) for row in chunks} == {
        (*named, '{"kind": "rows"}')
    }
    assert {(row["source_table"], row["chunk_id"], row["left"]) for row in failed} == {
        ("LOADING_T", "5", ("too long " * 20)[:80]),
        ("FAILED_T", "1", ("too long " * 20)[:80]),
    }
    ((still),) = stuck
    assert (still["source_table"], still["chunk_id"]) == ("LOADING_T", "2")
    assert still["age"].startswith("00:30:")
    assert sorted((row["total_rows_copied"], row["indexes_disabled"], row["indexes_restored"]) for row in speed) == [
        ("0", "f", "f"),
        ("100", "t", "f"),
        ("200", "t", "t"),
    ]
    assert {(row["source_database"], row["target_database"], row["target_table"]) for row in speed} == {
        (named[0], database.name, "completed_t")
    }
    assert sorted(float(row["rows_per_second"]) for row in speed) == pytest.approx([0, 100 / 60, 200 / 60], abs=0.01)
    assert [(row["count"], row["sum"]) for row in minutes] == [("1", "90")]


def test_our_own_words_and_columns_are_beside_theirs(database: Database) -> None:
    install(database)
    database.execute(STATES)
    for view, table in (
        ("migration_runs", "runs"),
        ("migration_table_status", "run_tables"),
        ("migration_chunk_status", "chunks"),
    ):
        ours = [
            name
            for (name,) in database.rows(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
                (f"migration_status.{table}",),
            )
            if name != "status"
        ]
        listed = ", ".join(ours)
        assert (
            database.rows(
                f"SELECT {listed}, state FROM migration_status.{view} EXCEPT ALL"
                f" SELECT {listed}, status FROM migration_status.{table}"
            )
            == []
        ), view
        assert database.rows(f"SELECT count(*) FROM migration_status.{view}") == database.rows(
            f"SELECT count(*) FROM migration_status.{table}"
        )
    assert database.rows("SELECT DISTINCT status, run_status FROM migration_status.v_active_migrations") == [
        ("running", "in_progress")
    ]


def everything(database: Database) -> list[tuple[object, ...]]:
    return [
        row
        for name in ("runs", "run_tables", "chunks")
        for row in database.rows(f"SELECT t::text FROM migration_status.{name} t ORDER BY 1")
    ]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("DELETE FROM migration_status.migration_runs WHERE status <> 'running'", "runs"),
        ("UPDATE migration_status.migration_table_status SET load_epoch = 9", "run_tables"),
        ("UPDATE migration_status.migration_chunk_status SET status = 'pending'", "chunks"),
        ("INSERT INTO migration_status.migration_runs (run_id) VALUES ('x')", "runs"),
    ],
)
def test_rows_are_not_changed_under_the_names_of_the_views(database: Database, statement: str, table: str) -> None:
    """Such as by a copy of an operator's file from before, for which a run under way was ``running``."""
    install(database)
    database.execute(STATES)
    before = everything(database)

    with pytest.raises(psycopg2.errors.FeatureNotSupported, match=r"is a view, and only read") as refused:
        database.execute(statement)

    assert f"The table is migration_status.{table}, where status has other words" in str(refused.value)
    assert everything(database) == before


@contextmanager
def role_of(database: Database, name: str) -> Iterator[str]:
    """A role that goes with all it was granted."""
    role = f"{name}_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN; GRANT pg_monitor TO {role}")
    try:
        yield role
    finally:
        database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_who_could_read_each_column_reads_the_views_after_a_later_upgrade(database: Database) -> None:
    install(database)
    database.execute(STATES)
    earlier_schemas.go_back_to(database, 7)
    with role_of(database, "watcher") as watcher:
        of_table = (
            "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attnum > 0 AND attname <> 'reads'"
            " AND attrelid = 'migration_status.{}'::regclass"
        )
        database.execute(
            f"GRANT USAGE ON SCHEMA migration_status TO {watcher};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO {watcher}"
        )
        for table in ("runs", "run_tables", "chunks"):
            ((columns,),) = database.rows(of_table.format(table))
            database.execute(
                f"REVOKE SELECT ON migration_status.{table} FROM {watcher};"
                f"GRANT SELECT ({columns}) ON migration_status.{table} TO {watcher}"
            )
        install(database)
        database.execute(f"UPDATE migration_status.runs SET loaded_by = '{watcher}'")
        assert [len(rows) for rows in ask(database, role=watcher)] == [len(rows) for rows in ask(database)]


@pytest.mark.parametrize("version", [version for version in earlier_schemas.VERSIONS if version < 7])
def test_who_could_read_the_tables_reads_the_views_after_the_upgrade(database: Database, version: int) -> None:
    """A loader that was granted all tables, and a watcher that was granted all columns without values of rows."""
    install(database)
    database.execute(STATES)
    earlier_schemas.go_back_to(database, version)
    with role_of(database, "loader") as loader, role_of(database, "watcher") as watcher:
        database.execute(
            f"GRANT USAGE ON SCHEMA migration_status TO {loader}, {watcher};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status TO {loader};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO {watcher};"
            f"REVOKE SELECT ON migration_status.migration_chunk_status FROM {watcher}"
        )
        ((columns,),) = database.rows(
            "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attnum > 0 AND attname <> 'reads'"
            " AND attrelid = 'migration_status.migration_chunk_status'::regclass"
        )
        database.execute(f"GRANT SELECT ({columns}) ON migration_status.migration_chunk_status TO {watcher}")

        install(database)
        database.execute(
            f"UPDATE migration_status.runs SET loaded_by = '{loader}';"
            "UPDATE migration_status.runs SET loaded_by = current_user WHERE run_id = 'run-failed'"
        )

        seen = ask(database, role=watcher)
        assert [len(rows) for rows in seen] == [len(rows) for rows in ask(database)]
        assert {row["chunk_range"] for row in seen[4]} == {""}
        assert {row["run_id"] for row in seen[3]} >= {"run-failed", "run-running"}
        (_, active, _, runs, chunks, failed, *_) = ask(database, role=loader)
        assert [row["run_id"] for row in active] == ["run-running"]
        assert "run-failed" not in {row["run_id"] for row in runs}
        assert [row["source_table"] for row in failed] == ["LOADING_T"]
        assert {row["chunk_range"] for row in chunks} == {'{"kind": "rows"}'}
