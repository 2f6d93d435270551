"""A session is ended by no time-out that its role or database brings, and a server that cannot be used says why."""

import uuid
from collections.abc import Iterator

import pytest
from psycopg2 import sql as compose

from snowmelt.config import PostgresConfig
from snowmelt.engine import status_store
from snowmelt.errors import AccessError, ConfigError, MissingError, TransientError
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database

TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout")


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    name = f"hurried_{uuid.uuid4().hex[:8]}"
    database.execute(f'CREATE ROLE "{name}" LOGIN; GRANT CREATE ON DATABASE "{database.name}" TO "{name}"')
    yield name
    database.execute(f'SET transaction_read_only = off; ALTER DATABASE "{database.name}" RESET ALL')
    database.execute(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')


def connect(database: Database, user: str) -> Session:
    given = {"host": database.server.host, "port": database.server.port, "user": user, "sslmode": "disable"}
    config = PostgresConfig.model_validate(given)
    return Session.connect(config, database=database.name, application_name="snowmelt test")


@pytest.mark.parametrize("whose", ['ROLE "{role}"', 'DATABASE "{database}"', 'ROLE "{role}" IN DATABASE "{database}"'])
def test_no_time_out_of_the_role_or_the_database_holds_in_our_sessions(
    database: Database, role: str, whose: str
) -> None:
    known = {name for (name,) in database.rows("SELECT name FROM pg_settings") if name in TIMEOUTS}
    for name in known:
        database.execute(f"ALTER {whose.format(role=role, database=database.name)} SET {name} = '77ms'")

    with connect(database, role) as session:
        held = compose.SQL("SELECT name FROM pg_settings WHERE name = ANY (%(names)s) AND setting <> '0'")
        assert known >= {"statement_timeout", "idle_in_transaction_session_timeout"}
        assert session.rows(held, names=list(known)) == []


def test_a_session_that_the_server_ends_nevertheless_is_told_what_may_have_ended_it(
    database: Database, role: str
) -> None:
    with connect(database, role) as session:
        pid, _ = session.backend()
        with pytest.raises(TransientError) as caught, session.transaction() as cursor:  # noqa: PT012
            cursor.execute("SELECT 1")
            database.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
            cursor.execute("SELECT 1")

    assert "the server ended the connection" in caught.value.message or "idle_session_timeout" in caught.value.message


@pytest.mark.parametrize(
    ("whose", "by"),
    [('ROLE "{role}"', "for the role,"), ('DATABASE "{database}"', "for the database,")],
)
def test_a_role_that_only_reads_is_not_sent_to_the_writers_endpoint(
    database: Database, role: str, whose: str, by: str
) -> None:
    altered = whose.format(role=role, database=database.name)
    database.execute(f"ALTER {altered} SET default_transaction_read_only = on")

    with connect(database, role) as session, pytest.raises(AccessError) as caught:
        status_store.check_access(session)

    assert f"default_transaction_read_only is on {by}" in caught.value.message
    assert f"ALTER {altered} RESET default_transaction_read_only" in caught.value.message
    assert "endpoint" not in caught.value.message


@pytest.mark.parametrize(
    "table",
    [
        "migration_runs (run_id uuid PRIMARY KEY)",
        "migration_runs (run_id text PRIMARY KEY, status text)",
        "chunks (run_id bigint)",
        "x (run_id text); CREATE VIEW migration_status.v_table_progress AS SELECT 1 AS run_id",
        "watermarks (source_name text)",
        "schema_version (version text)",
    ],
)
def test_a_status_schema_of_another_tool_is_recognised_by_every_way_in(
    database: Database, role: str, table: str
) -> None:
    database.execute(f"CREATE SCHEMA migration_status; CREATE TABLE migration_status.{table}")
    with connect(database, database.server.user) as session:
        for look in (
            status_store.check_access,
            status_store.require_installed,
            status_store.is_installed,
            status_store.install,
        ):
            with pytest.raises(ConfigError) as caught:
                look(session)
            assert "the schema migration_status is another tool's" in caught.value.message
            assert "ALTER SCHEMA migration_status RENAME TO" in caught.value.message
        database.execute("ALTER SCHEMA migration_status RENAME TO other_migration_status")
        status_store.install(session)
        assert status_store.is_installed(session)
        status_store.check_access(session)


def test_a_status_schema_that_is_dropped_in_the_middle_is_said_to_be(database: Database) -> None:
    with connect(database, database.server.user) as session:
        status_store.install(session)
        database.execute("DROP SCHEMA migration_status CASCADE")

        with pytest.raises(MissingError, match="the status schema, or part of it, is gone"):
            status_store.read_tables(session, "run-1")
