"""What the server says of itself, to whom it says little."""

from collections.abc import Iterator

import pytest
from psycopg2 import sql

from snowmelt.config import PostgresConfig
from snowmelt.local.postgres import Database
from snowmelt.models import TableName
from snowmelt.postgres import connections, server_facts
from snowmelt.postgres.session import Session


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    name = f"plain_{database.name}"
    named = sql.Identifier(name)
    database.execute(sql.SQL("CREATE ROLE {} LOGIN").format(named))
    yield name
    database.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(named, named))


def session_of(database: Database, user: str) -> Session:
    config = PostgresConfig(host=database.server.host, port=database.server.port, user=user)
    return Session.connect(config, database=database.name, application_name="test")


def test_an_ordinary_user_counts_the_connections_of_others_too(database: Database, role: str) -> None:
    others = [database.connect() for _ in range(5)]
    with session_of(database, role) as plain, session_of(database, "postgres") as superuser:
        free = connections.free(plain)
        assert free == connections.free(superuser)
        facts = server_facts.read(plain)
    for other in others:
        other.close()
    assert facts.max_connections - facts.reserved_connections - facts.connections == pytest.approx(free, abs=2)
    assert facts.database_connections >= 5
    assert facts.role == role


def test_the_limits_are_those_of_the_role_in_this_database(database: Database, role: str) -> None:
    database.execute(
        sql.SQL(
            "ALTER ROLE {0} CONNECTION LIMIT 7; ALTER ROLE {0} IN DATABASE {1} SET statement_timeout = '90s'"
        ).format(sql.Identifier(role), sql.Identifier(database.name))
    )
    with session_of(database, role) as session:
        facts = server_facts.read(session)
    assert (facts.role_limit, facts.statement_timeout, facts.encoding) == (7, 90_000, "UTF8")
    assert facts.may_use_status, "it is not there yet"
    assert facts.without_privilege == ()


def test_labels_constraints_and_sequences_come_for_all_tables_at_once(database: Database, role: str) -> None:
    database.execute(
        "CREATE TYPE mood AS ENUM ('glad', 'it''s sad'); CREATE DOMAIN feeling AS mood;"
        "CREATE TABLE a (id serial CHECK (id > 0), m mood); CREATE TABLE b (id integer, f feeling)"
    )
    names = [TableName(schema_name="public", name=name) for name in ("a", "b", "none")]
    with session_of(database, role) as session:
        found = server_facts.target_details(session, names)
    assert dict(found.labels) == {"public.mood": ("glad", "it's sad")}
    assert found.constraints == {names[0]: ("a_id_check CHECK ((id > 0))",)}
    assert found.fixed_sequences == {names[0]: (TableName(schema_name="public", name="a_id_seq"),)}
