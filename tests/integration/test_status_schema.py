"""The status schema: installed once however often and by however many, and strict about what it holds."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg2
import pytest
from psycopg2 import sql as compose

from snowmelt.config import PostgresConfig
from snowmelt.engine import status_store
from snowmelt.engine.status_store import SCHEMA_VERSION
from snowmelt.errors import AccessError, ConfigError
from snowmelt.postgres.session import Session
from snowmelt.sql_text import queries
from snowmelt_sandbox.postgres import Database
from support import earlier_schemas

CATALOG = """
SELECT c.relkind::text, c.relname::text, pg_get_userbyid(c.relowner)::text,
       array(SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_class c WHERE c.relnamespace = 'migration_status'::regnamespace ORDER BY 1, 2
"""
RULES = """
SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'migration_status'::regnamespace
UNION ALL
SELECT polrelid::regclass::text, polname::text,
       concat_ws(' / ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM pg_policy
UNION ALL
SELECT oid::regclass::text, relrowsecurity::text, array_to_string(reloptions, ', ')
FROM pg_class WHERE relnamespace = 'migration_status'::regnamespace AND relkind IN ('r', 'v')
UNION ALL
SELECT p.oid::regprocedure::text, array_to_string(p.proconfig, ', '), p.prosecdef::text
FROM pg_proc p WHERE p.pronamespace = 'migration_status'::regnamespace
ORDER BY 1, 2, 3
"""
"""Constraints, policies, and how views and functions look names up and at rows."""
OPERATORS_QUERY = {
    "migration_runs",
    "migration_table_status",
    "migration_chunk_status",
    "v_active_migrations",
    "v_table_progress",
}


@contextmanager
def session_of(database: Database, user: str | None = None) -> Iterator[Session]:
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=user or server.user, sslmode="disable")
    with Session.connect(config, database=database.name, application_name="test") as session:
        yield session


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with session_of(database) as session:
        yield session


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may connect, and nothing else."""
    name = f"role_{database.name}"
    database.execute(compose.SQL("CREATE ROLE {} LOGIN").format(compose.Identifier(name)))
    try:
        yield name
    finally:
        database.execute(compose.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(compose.Identifier(name)))


def grant(database: Database, privilege: str, role: str) -> None:
    database.execute(compose.SQL("GRANT {} TO {}").format(compose.SQL(privilege), compose.Identifier(role)))


def insert_run(database: Database, run_id: str, **targets: str) -> None:
    """A run that loads these targets, each in a status."""
    database.execute(
        compose.SQL(
            "INSERT INTO migration_status.runs"
            " (run_id, source_name, config_hash, snapshot_at, snowmelt_version, plan_format, store)"
            " VALUES ({}, 'ledger', 'h', now(), '1', 1, 's')"
        ).format(compose.Literal(run_id))
    )
    for table_id, (target, status) in enumerate(targets.items()):
        values = [run_id, table_id, target.upper(), "public", target, status, "one_scan"]
        database.execute(
            compose.SQL(
                "INSERT INTO migration_status.run_tables"
                " (run_id, table_id, source_table, target_schema, target_table, status, strategy) VALUES ({})"
            ).format(compose.SQL(", ").join(map(compose.Literal, values)))
        )


# --- installing -----------------------------------------------------------------------------------------------------


def test_installing_again_changes_nothing(database: Database, session: Session) -> None:
    status_store.install(session)
    before = database.rows(CATALOG)
    insert_run(database, "run-1", entries="loading")

    status_store.install(session)
    database.execute(queries.text("engine/status_schema.sql"))

    assert database.rows(CATALOG) == before
    assert database.rows("SELECT run_id FROM migration_status.runs") == [("run-1",)]
    assert database.rows("SELECT max(version) FROM migration_status.schema_version") == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize("version", earlier_schemas.VERSIONS)
def test_a_schema_of_an_earlier_version_is_upgraded_in_place_and_not_read_before(
    database: Database, session: Session, version: int
) -> None:
    status_store.install(session)
    insert_run(database, "run-1", entries="loading")
    made, rules = database.rows(CATALOG), database.rows(RULES)
    earlier_schemas.go_back_to(database, version)
    with pytest.raises(ConfigError, match=rf"has version {version}, .* run `snowmelt status install`"):
        status_store.require_installed(session)

    status_store.install(session)
    status_store.require_installed(session)

    columns = [
        [(kind, name, sorted(columns)) for kind, name, _, columns in found] for found in (database.rows(CATALOG), made)
    ]
    assert columns[0] == columns[1]
    assert database.rows(RULES) == rules
    assert database.rows("SELECT run_id FROM migration_status.runs") == [("run-1",)]


def test_a_schema_of_another_tool_is_not_renamed_by_whoever_installs_by_hand(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA migration_status; CREATE TABLE migration_status.migration_runs (run_id text, status text)"
    )

    with pytest.raises(psycopg2.Error, match="the schema migration_status is another tool's"):
        database.execute(queries.text("engine/status_schema.sql"))

    assert database.rows("SELECT relname FROM pg_class WHERE relnamespace = 'migration_status'::regnamespace") == [
        ("migration_runs",)
    ]


def test_reasons_of_earlier_versions_keep_their_values_where_watchers_do_not_look(
    database: Database, session: Session
) -> None:
    status_store.install(session)
    insert_run(database, "run-1", entries="loading")
    database.execute(
        "INSERT INTO migration_status.chunks (run_id, table_id, chunk_id, source_table, reads,"
        " estimated_rows) VALUES ('run-1', 0, 0, 'ENTRIES', '{}', 1);"
        "INSERT INTO migration_status.rejected_rows (run_id, table_id, chunk_id, row_number, reason, row_content)"
        " VALUES ('run-1', 0, 0, 1, 'invalid input: \"078-05-1120\"', '')"
    )
    earlier_schemas.go_back_to(database, 5)

    status_store.install(session)

    ((reason, in_full),) = database.rows("SELECT reason, reason_in_full FROM migration_status.rejected_rows")
    assert re.fullmatch(r"PostgreSQL says \[value \w{10}\]", reason)
    assert in_full == 'invalid input: "078-05-1120"'


def test_many_that_install_at_once_do_not_get_in_each_others_way(database: Database) -> None:
    def install(_: int) -> None:
        with session_of(database) as session:
            status_store.install(session)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(install, range(8)))

    assert database.rows("SELECT max(version) FROM migration_status.schema_version") == [(SCHEMA_VERSION,)]


def test_the_names_that_operators_query_are_there(database: Database, session: Session) -> None:
    status_store.install(session)
    there = {(kind, name) for kind, name, *_ in database.rows(CATALOG)}

    assert {("v", name) for name in OPERATORS_QUERY} <= there


def test_a_schema_of_a_newer_version_is_left_alone(database: Database, session: Session) -> None:
    status_store.install(session)
    database.execute(f"INSERT INTO migration_status.schema_version VALUES ({SCHEMA_VERSION + 1})")

    for ask in (status_store.install, status_store.require_installed):
        with pytest.raises(
            ConfigError, match=rf"has version {SCHEMA_VERSION + 1}, this Snowmelt knows {SCHEMA_VERSION}; use the newer"
        ):
            ask(session)


def test_a_reader_of_a_database_without_the_schema_is_told_how_to_install_it(session: Session) -> None:
    with pytest.raises(
        ConfigError, match="nothing has run here yet, there is no status schema; the first `snowmelt migrate`"
    ):
        status_store.require_installed(session)


# --- privileges -----------------------------------------------------------------------------------------------------


def test_a_role_that_may_not_create_the_schema_is_told_what_to_grant(database: Database, role: str) -> None:
    with session_of(database, role) as session, pytest.raises(AccessError) as caught:
        status_store.check_access(session)

    assert f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"' in caught.value.message
    assert "let an administrator run `snowmelt status install`" in caught.value.message


def test_the_grant_that_was_asked_for_is_enough(database: Database, role: str) -> None:
    grant(database, f'CREATE ON DATABASE "{database.name}"', role)

    with session_of(database, role) as session:
        status_store.check_access(session)
        status_store.install(session)
        assert status_store.list_runs(session) == []


def test_a_schema_that_an_administrator_installed_can_be_used_with_grants(
    database: Database, session: Session, role: str
) -> None:
    status_store.install(session)
    grant(database, "USAGE ON SCHEMA migration_status", role)
    grant(database, "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status", role)

    with session_of(database, role) as limited:
        status_store.check_access(limited)
        status_store.install(limited)
        assert status_store.list_runs(limited) == []


def test_a_schema_that_may_not_be_used_is_an_error_on_one_line(database: Database, session: Session, role: str) -> None:
    status_store.install(session)

    with session_of(database, role) as limited, pytest.raises(AccessError) as caught:  # noqa: PT012 - either may
        status_store.check_access(limited)
        status_store.install(limited)

    assert "migration_status" in caught.value.message
    assert "GRANT" in caught.value.message


# --- what it does not let happen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["pending", "scanning", "loading", "finalizing"])
def test_two_runs_cannot_load_one_target_at_once(database: Database, session: Session, status: str) -> None:
    status_store.install(session)
    insert_run(database, "run-1", entries=status)

    with pytest.raises(psycopg2.errors.UniqueViolation, match="one_active_run_per_target"):
        insert_run(database, "run-2", entries="pending")


@pytest.mark.parametrize("status", ["completed", "failed", "abandoned"])
def test_a_target_is_free_when_its_run_has_let_go_of_it(database: Database, session: Session, status: str) -> None:
    status_store.install(session)
    insert_run(database, "run-1", entries=status)

    insert_run(database, "run-2", entries="pending")

    assert database.rows("SELECT count(*) FROM migration_status.run_tables") == [(2,)]


def test_a_run_has_one_driver_at_a_time(database: Database, session: Session) -> None:
    status_store.install(session)
    insert_run(database, "run-1")
    drive = (
        "INSERT INTO migration_status.run_executions (run_id, execution_id, expires_at)"
        " VALUES ('run-1', '{}', now() + interval '1 hour')"
    )
    database.execute(drive.format("one"))

    with pytest.raises(psycopg2.errors.UniqueViolation, match="one_driver_per_run"):
        database.execute(drive.format("two"))
    database.execute("UPDATE migration_status.run_executions SET ended_at = now()")
    database.execute(drive.format("two"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE migration_status.runs SET status = 'done'",
        "UPDATE migration_status.run_tables SET status = 'done'",
        """INSERT INTO migration_status.chunks
               (run_id, table_id, chunk_id, source_table, status, reads, estimated_rows)
           VALUES ('run-1', 0, 1, 'T', 'done', '{}', 1)""",
    ],
)
def test_there_are_no_statuses_but_the_known_ones(database: Database, session: Session, statement: str) -> None:
    status_store.install(session)
    insert_run(database, "run-1", entries="loading")

    with pytest.raises(psycopg2.errors.CheckViolation):
        database.execute(statement)


def test_a_run_goes_with_all_that_is_known_of_it(database: Database, session: Session) -> None:
    """What an operator deletes by hand leaves nothing behind."""
    status_store.install(session)
    insert_run(database, "run-1", entries="loading")
    database.execute(
        "INSERT INTO migration_status.chunks"
        " (run_id, table_id, chunk_id, source_table, reads, estimated_rows) VALUES ('run-1', 0, 1, 'T', '{}', 1)"
    )

    database.execute("DELETE FROM migration_status.runs")

    for table in ("run_tables", "chunks", "run_executions"):
        query = compose.SQL("SELECT count(*) FROM migration_status.{}").format(compose.Identifier(table))
        assert database.rows(query) == [(0,)]


# --- what the views tell --------------------------------------------------------------------------------------------


def test_progress_is_counted_from_the_chunks_and_leaves_superseded_ones_out(
    database: Database, session: Session
) -> None:
    status_store.install(session)
    insert_run(database, "run-1", entries="loading", lines="pending")
    database.execute(
        """
        UPDATE migration_status.run_tables SET source_rows = 200 WHERE table_id = 0;
        INSERT INTO migration_status.chunks
            (run_id, table_id, chunk_id, source_table, reads, estimated_rows, status, actual_rows, size_bytes)
        VALUES ('run-1', 0, 1, 'T', '{}', 50, 'completed', 50, 1000),
               ('run-1', 0, 2, 'T', '{}', 50, 'running', NULL, NULL),
               ('run-1', 0, 3, 'T', '{}', 50, 'failed', NULL, NULL),
               ('run-1', 0, 4, 'T', '{}', 99, 'superseded', 99, 99),
               ('run-1', 0, 5, 'T', '{}', 50, 'pending', NULL, NULL)
        """
    )

    columns = "chunks, chunks_completed, chunks_running, chunks_failed, rows_loaded, size_bytes, percent"
    progress = database.rows(f"SELECT {columns} FROM migration_status.v_table_progress ORDER BY table_id")
    active = database.rows(
        "SELECT run_id, tables, chunks, chunks_completed, rows_loaded, source_rows"
        " FROM migration_status.v_active_migrations"
    )

    assert [tuple(map(float, filter(None, row))) for row in progress] == [(4, 1, 1, 1, 50, 1000, 25.0), ()]
    assert active == [("run-1", 2, 4, 1, 50, 200)]
