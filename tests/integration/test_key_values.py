"""Keys that only PostgreSQL can compare, compared by it in a session that may not write."""

from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg2
import pytest

from snowmelt.columns.type_pairs import Match, match
from snowmelt.config import PostgresConfig
from snowmelt.errors import DataError
from snowmelt.models import ColumnPlan, SourceColumn, TableName
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.preflight import key_values
from snowmelt.preflight.key_values import Repeated
from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.postgres_programs import versions

KEYS = TableName(schema_name="public", name="keys")
NO_CASE = "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
NEEDS = {"citext": "SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"}
NEEDS["no_case"] = "SELECT 1 FROM pg_collation WHERE collname = 'no_case'"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A database of the oldest server there is: those of the system have extensions and ICU."""
    with LocalPostgres(version=min(versions()), durable=False) as server, server.database() as made:
        if made.rows(NEEDS["citext"]):
            made.execute("CREATE EXTENSION citext")
        with suppress(psycopg2.errors.FeatureNotSupported):
            made.execute(NO_CASE)
        yield made


def compared(database: Database, kind: str, *keys: str, source: str = "TEXT") -> Repeated:
    """What PostgreSQL says of keys of such a column, of which the target has a unique index."""
    database.execute(f"DROP TABLE IF EXISTS keys; CREATE TABLE keys (k {kind} UNIQUE)")
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with closing(Session.connect(config, database=database.name, application_name="test")) as session:
        session.look_only()
        way = match(SourceColumn(name="K", type=source), tables.read(session, [KEYS])[KEYS].columns[0])
        assert isinstance(way, Match), way
        column: ColumnPlan = way.plan
        return key_values.repeated(session, [column], [(key,) for key in keys])


@pytest.mark.parametrize(
    ("kind", "keys", "again"),
    [
        ("citext", ("É", "é", "e"), 1),
        ("text COLLATE no_case", ("Straße", "STRASSE", "strasse", "other"), 2),
        ("char(9) COLLATE no_case", ("a", "A ", "b"), 1),
        ("inet", ("::1", "0:0:0:0:0:0:0:1", "10.0.0.1"), 1),
        ("jsonb", ('{"a":1,"b":2}', '{"b": 2.0, "a": 1}', "{}"), 1),
        ("int4[]", ("{1,2}", "{1, 2}", "{2,1}"), 1),
        ("interval", ("30 days", "1 mon", "2 mon"), 1),
        ("numrange", ("[1,2]", "[1.0,2.00]", "[1,3]"), 1),
        ("numeric[]", ("{1}", "{1.0}", "{1.01}"), 1),
    ],
)
def test_what_a_type_or_collation_takes_for_the_same_is_counted(
    database: Database, kind: str, keys: tuple[str, ...], again: int
) -> None:
    if any(need in kind and not database.rows(query) for need, query in NEEDS.items()):
        pytest.skip(f"this build of PostgreSQL has no {kind}")

    found = compared(database, kind, *keys)

    assert found.keys == again
    assert len(found.shown) == 1


def test_a_collation_that_only_the_index_has_counts(database: Database) -> None:
    if not database.rows(NEEDS["no_case"]):
        pytest.skip("this build of PostgreSQL has no ICU")
    database.execute("DROP TABLE IF EXISTS keys; CREATE TABLE keys (k text)")
    database.execute("CREATE UNIQUE INDEX ON keys (k COLLATE no_case)")
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with closing(Session.connect(config, database=database.name, application_name="test")) as session:
        (column,) = tables.read(session, [KEYS])[KEYS].columns

    assert (column.folds, column.folds_by) == (True, "public.no_case")


def test_a_value_that_cannot_be_converted_is_an_error_and_no_answer(database: Database) -> None:
    with pytest.raises(DataError, match="inet"):
        compared(database, "inet", "::1", "nonsense")
