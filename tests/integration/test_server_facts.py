"""What the server says of itself, to whom it says little."""

from collections.abc import Iterator

import pytest
from psycopg2 import sql

from snowmelt.config import PostgresConfig, TableConfig
from snowmelt.engine import connection_count
from snowmelt.findings import Place
from snowmelt.models import TableName
from snowmelt.planning.load_mode import Loading
from snowmelt.postgres import facts as facts_of_tables
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.preflight import server_facts
from snowmelt.preflight.target_checks import consequences
from snowmelt_sandbox.postgres import Database


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
        free = connection_count.free(plain)
        assert free == connection_count.free(superuser)
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


@pytest.fixture
def rds(database: Database) -> Iterator[None]:
    """The role that every server of RDS has, and others have not."""
    database.execute("CREATE ROLE rds_superuser")
    yield
    database.execute("DROP ROLE rds_superuser")


def test_an_ordinary_server_is_neither_rds_nor_aurora(database: Database, role: str) -> None:
    with session_of(database, role) as session:
        facts = server_facts.read(session)
        (server,) = connection_count.limits(session)
    assert (facts.is_rds, facts.is_aurora) == (False, False)
    assert server.raised_by == "ALTER SYSTEM SET max_connections ="


@pytest.mark.usefixtures("rds")
def test_rds_is_told_by_its_role_and_a_plan_does_not_propose_alter_system(database: Database, role: str) -> None:
    with session_of(database, role) as session:
        facts = server_facts.read(session)
        (server,) = connection_count.limits(session)
        taken = connection_count.free(session)
    assert (facts.is_rds, facts.is_aurora) == (True, False)
    assert (server.whose, server.raised_by) == (
        "the server",
        "in the parameter group of the instance or cluster, max_connections =",
    )
    assert server.taken >= 1, "sessions are counted as on any server"
    assert 0 < taken < server.most


@pytest.mark.usefixtures("rds")
def test_aurora_is_told_by_its_function(database: Database, role: str) -> None:
    database.execute("CREATE FUNCTION aurora_version() RETURNS text LANGUAGE sql AS $$ SELECT '16.4.1' $$")
    with session_of(database, role) as session:
        facts = server_facts.read(session)
    assert (facts.is_rds, facts.is_aurora) == (True, True)


@pytest.mark.usefixtures("rds")
def test_row_security_on_rds_is_met_by_the_owner_as_nobody_can_give_bypassrls(database: Database, role: str) -> None:
    database.execute("CREATE TABLE t (id integer); ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT ALL ON t TO public")
    name = TableName(schema_name="public", name="t")
    with session_of(database, role) as session:
        found = facts_of_tables.read(session, [name])[name]
        (target,) = tables.read(session, [name]).values()
    place = Place("T", name, "sources[0].tables[0]")

    said = list(consequences(place, TableConfig(source="T"), Loading("copy"), target, found, is_staged=False))

    (row_security,) = (finding for finding in said if finding.check == "row_security")
    assert row_security.fix == (f'ALTER TABLE "public"."t" OWNER TO "{role}";',)
    assert "on RDS nobody is a superuser" in row_security.advice
