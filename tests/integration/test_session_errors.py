"""What PostgreSQL complains of, as one line that says where, what, and what to do."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql as compose

from fault_injection.postgres_wire import CONNECT, PostgresLink
from fault_injection.proxy import Proxy
from fault_injection.traps import Blow, Moment, Trap, Traps
from snowmelt.config import PostgresConfig
from snowmelt.errors import AccessError, ConfigError, DataError, SnowmeltError, TransientError, UnreachableError
from snowmelt.postgres.session import Session, fetch, fetch_one
from snowmelt_sandbox.postgres import Database, LocalPostgres
from support import left_behind

PASSWORD = left_behind.POSTGRES_PASSWORD


def config_of(server: LocalPostgres, **changes: Any) -> PostgresConfig:
    given = {"host": server.host, "port": server.port, "user": server.user, "sslmode": "disable"}
    return PostgresConfig.model_validate({**given, **changes})


@contextmanager
def session_of(database: Database, **changes: Any) -> Iterator[Session]:
    config = config_of(database.server, **changes)
    with Session.connect(config, database=database.name, application_name="snowmelt test") as session:
        session.run(compose.SQL("SET search_path = pg_catalog, public, pg_temp"))  # tests write names shortly
        yield session


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with session_of(database) as session:
        yield session


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalPostgres]:
    """A server that asks for a password, and has room for few."""
    with LocalPostgres(durable=False, password=PASSWORD, max_connections=6, superuser_reserved_connections=3) as server:
        yield server


def said_by(session: Session, statement: str) -> SnowmeltError:
    with pytest.raises(SnowmeltError) as caught:
        session.run(compose.SQL(statement))
    return caught.value


def refused(server: LocalPostgres, database: str = "postgres", **changes: Any) -> SnowmeltError:
    with pytest.raises(SnowmeltError) as caught:
        Session.connect(config_of(server, **changes), database=database, application_name="test").close()
    assert "\n" not in caught.value.message
    assert PASSWORD not in caught.value.message
    return caught.value


# --- connecting -----------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_not_repeated(guarded: LocalPostgres) -> None:
    error = refused(guarded, password="h1dden-wrong-one")

    assert type(error) is AccessError
    assert "password authentication failed" in error.message
    assert "check POSTGRES_USER and POSTGRES_PASSWORD or the config's postgres section" in error.message
    assert "h1dden-wrong-one" not in error.message


def test_a_password_that_is_missing_is_asked_for(guarded: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)

    error = refused(guarded)

    assert (type(error), error.message.endswith("set postgres.password or POSTGRES_PASSWORD")) == (AccessError, True)


@pytest.mark.parametrize(
    ("database", "changes", "says"),
    [
        ("no_such_db", {}, 'database "no_such_db" does not exist; create it, or fix target_pg_database'),
        ("postgres", {"user": "no_such_role"}, 'role "no_such_role" does not exist; create it, or fix'),
        ("postgres", {"sslmode": "require"}, "set postgres.sslmode to disable"),
    ],
)
def test_a_server_that_refuses_says_what_to_fix(
    postgres: LocalPostgres, database: str, changes: dict[str, Any], says: str
) -> None:
    error = refused(postgres, database, **changes)

    assert type(error) is AccessError
    assert says in error.message
    assert f"PostgreSQL {postgres.host}:{postgres.port}, database {database}" in error.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"port": 1}, "check host and port, that the server runs, and that the network"),
        ({"host": "no-such-host.invalid"}, "check POSTGRES_HOST or postgres.host"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_from_one_that_refuses(
    postgres: LocalPostgres, changes: dict[str, Any], says: str
) -> None:
    """In the middle of a run it may come back; at its start it is a mistake."""
    error = refused(postgres, **changes)

    assert type(error) is UnreachableError
    assert says in error.message


@pytest.mark.parametrize("state", ["starting up", "shutting down", "in recovery mode", "not yet accepting connections"])
def test_a_server_between_two_lives_may_be_tried_again(postgres: LocalPostgres, state: str) -> None:
    traps = Traps()
    traps.put(
        Trap(Moment("postgres", CONNECT, 1), Blow("refuse", code="57P03", message=f"the database system is {state}"))
    )
    with Proxy(PostgresLink, postgres.host, postgres.port, traps) as proxy:
        error = refused(postgres, port=proxy.port)
    assert isinstance(error, TransientError)
    assert state in error.message
    assert error.message.endswith("try again")


def test_a_server_without_a_connection_left_may_be_tried_again(guarded: LocalPostgres) -> None:
    guarded.execute(compose.SQL("CREATE ROLE worker LOGIN PASSWORD {}").format(compose.Literal(PASSWORD)))
    held = [guarded.connect(user="worker") for _ in range(3)]
    try:
        error = refused(guarded, user="worker", password=PASSWORD)
    finally:
        for connection in held:
            connection.close()

    assert type(error) is TransientError
    assert "lower parallel_threads or raise max_connections" in error.message


# --- statements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "kind", "parts"),
    [
        (
            "SELECT * FROM nowhere",
            DataError,
            ('relation "nowhere" does not exist', "create the table, or fix its name"),
        ),
        (
            "SELECT nothing FROM t",
            DataError,
            ('column "nothing" does not exist', "undo that, or start with --no-resume"),
        ),
        ("CREATE TABLE nowhere.t ()", ConfigError, ('schema "nowhere" does not exist', "fix target_pg_schema")),
        (
            "INSERT INTO t VALUES (1, 1)",
            DataError,
            ("Key (id)=([value ", "delete one of the rows and start again: a new run begins"),
        ),
        (
            "INSERT INTO t VALUES (NULL, 1)",
            DataError,
            ('null value in column "id"', "the source has NULL where the target forbids it"),
        ),
        (
            "INSERT INTO t VALUES (2, -1)",
            DataError,
            ("violates check constraint", "the source has rows that the target's CHECK forbids"),
        ),
        (
            "INSERT INTO child VALUES (7)",
            DataError,
            ('is not present in table "t"', "load the referenced table first"),
        ),
        ("SELECT 1/0", DataError, ("division by zero", "[SQLSTATE 22012]")),
        (
            "SET statement_timeout = '10ms'; SELECT pg_sleep(30)",
            TransientError,
            ("somebody cancelled the statement, or statement_timeout ended it",),
        ),
        ("SET transaction_read_only = on; CREATE TABLE x ()", TransientError, ("the server is read-only for now",)),
    ],
)
def test_an_error_of_postgresql_names_place_and_remedy(
    database: Database, session: Session, statement: str, kind: type[SnowmeltError], parts: tuple[str, ...]
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n > 0)); INSERT INTO t VALUES (1, 1)")
    database.execute("CREATE TABLE child (t_id int REFERENCES t)")

    error = said_by(session, statement)

    assert isinstance(error, kind)
    assert error.message.startswith(
        f"PostgreSQL {database.server.host}:{database.server.port}, database {database.name}: "
    )
    for part in parts:
        assert part in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT no_such_function()",
        "SELECT no_such_column FROM t",
        "SELECT * FROM no_such_table",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t SELECT 'x'::text::int",
        "SELECT (SELECT g FROM generate_series(1, 2) AS g)",
        "DO $$ BEGIN ASSERT false; END $$",
        "DO $$ BEGIN RAISE no_data_found; END $$",
        "DO $$ BEGIN RAISE 'no'; END $$",
    ],
)
def test_what_comes_back_however_often_it_is_tried_is_tried_once(
    database: Database, session: Session, statement: str
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")

    assert said_by(session, statement).is_final


def test_a_privilege_that_is_missing_says_of_whom(database: Database) -> None:
    role = f"role_{database.name}"
    database.execute(compose.SQL("CREATE ROLE {} LOGIN; CREATE TABLE t ()").format(compose.Identifier(role)))
    try:
        with session_of(database, user=role) as session:
            error = said_by(session, "SELECT FROM t")
    finally:
        database.execute(compose.SQL("DROP ROLE {}").format(compose.Identifier(role)))

    assert type(error) is AccessError
    assert (
        "permission denied for table t; GRANT the privilege to the user of the config's postgres section"
        in error.message
    )


def test_a_row_that_a_copy_brings_is_found_by_its_line(database: Database, session: Session) -> None:
    database.execute("CREATE TABLE t (id int NOT NULL)")

    with pytest.raises(DataError) as caught, session.transaction() as cursor:
        cursor.copy_expert("COPY t FROM STDIN", io.BytesIO(b"1\n2\n\\N\n"))

    assert "COPY t, line 3" in caught.value.message


def test_a_deadlock_may_be_tried_again(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)")
    both_hold_one = threading.Barrier(2)
    errors: list[SnowmeltError] = []

    def update(first: int, second: int) -> None:
        with session_of(database) as session:
            try:
                with session.transaction() as cursor:
                    cursor.execute("UPDATE t SET n = n + 1 WHERE id = %s", (first,))
                    both_hold_one.wait(120)
                    cursor.execute("UPDATE t SET n = n + 1 WHERE id = %s", (second,))
            except SnowmeltError as error:
                errors.append(error)

    threads = [threading.Thread(target=update, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (error,) = errors
    assert type(error) is TransientError
    assert "it was chosen to end a deadlock" in error.message
    assert database.rows("SELECT n FROM t ORDER BY id") == [(1,), (1,)]


def test_a_lock_that_is_not_granted_says_where_to_look(database: Database, session: Session) -> None:
    database.execute("CREATE TABLE t ()")
    holder = database.connect()
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE t")
    try:
        error = said_by(session, "SET lock_timeout = '50ms'; SELECT FROM t")
    finally:
        holder.close()

    assert type(error) is TransientError
    assert "a lock was not granted in time: while a worker waits, `snowmelt status` names who holds it" in error.message


# --- the life of a session ------------------------------------------------------------------------------------------


def end(database: Database, session: Session) -> None:
    pid, _ = session.backend()
    database.rows("SELECT pg_terminate_backend(%s)", (pid,))


@pytest.mark.parametrize("use", [lambda s: s.rows(compose.SQL("SELECT 1")), lambda s: s.run(compose.SQL("SELECT 1"))])
def test_a_session_that_was_ended_is_an_error_that_passes(
    database: Database, session: Session, use: Callable[[Session], object]
) -> None:
    end(database, session)

    with pytest.raises(TransientError) as caught:
        use(session)

    assert "\n" not in caught.value.message
    assert session.closed


def test_a_session_that_was_ended_in_a_transaction_leaves_nothing(database: Database, session: Session) -> None:
    database.execute("CREATE TABLE t (id int)")

    with pytest.raises(TransientError), session.transaction() as cursor:  # noqa: PT012 - a transaction's end
        cursor.execute("INSERT INTO t VALUES (1)")
        with session_of(database) as other:
            other.rows(
                compose.SQL("SELECT pg_terminate_backend({})").format(
                    compose.Literal(cursor.connection.get_backend_pid())
                )
            )
        cursor.execute("INSERT INTO t VALUES (2)")

    assert session.closed
    assert not session.alive()
    assert database.rows("SELECT * FROM t") == []


def test_a_session_knows_whether_it_is_alive(database: Database, session: Session) -> None:
    assert session.alive()
    end(database, session)
    assert not session.alive()
    assert session.closed


def test_a_transaction_is_all_or_nothing_and_the_session_goes_on(database: Database, session: Session) -> None:
    database.execute("CREATE TABLE t (id int)")

    with pytest.raises(ZeroDivisionError), session.transaction() as cursor:  # noqa: PT012 - a transaction's end
        cursor.execute("INSERT INTO t VALUES (1)")
        raise ZeroDivisionError
    with pytest.raises(DataError), session.transaction() as cursor:  # noqa: PT012 - a transaction's end
        cursor.execute("INSERT INTO t VALUES (2)")
        cursor.execute("SELECT 1/0")
    with session.transaction() as cursor:
        cursor.execute("INSERT INTO t VALUES (3)")
        assert fetch_one(cursor, compose.SQL("SELECT count(*) AS n FROM t")) == {"n": 1}
        assert fetch(cursor, compose.SQL("SELECT id FROM t WHERE id > 9")) == []
    assert session.run(compose.SQL("INSERT INTO t VALUES (4)")) == 1

    assert database.rows("SELECT id FROM t ORDER BY id") == [(3,), (4,)]


def test_statements_outside_a_transaction_commit_at_once(database: Database, session: Session) -> None:
    session.run(compose.SQL("CREATE TABLE public.t ()"))

    assert database.rows("SELECT count(*) FROM t") == [(0,)]


def test_a_session_speaks_utc_and_its_waits_end(session: Session) -> None:
    settings = {
        row["name"]: row["setting"]
        for row in session.rows(
            compose.SQL(
                "SELECT name, setting FROM pg_settings WHERE name IN ('TimeZone', 'lock_timeout', 'client_encoding')"
            )
        )
    }

    assert settings == {"TimeZone": "UTC", "lock_timeout": "60000", "client_encoding": "UTF8"}


def test_two_sessions_are_never_taken_for_each_other(database: Database) -> None:
    with session_of(database) as one, session_of(database) as two:
        assert one.backend() == one.backend()
        assert one.backend() != two.backend()


def test_the_password_is_in_no_error_and_no_representation(guarded: LocalPostgres) -> None:
    config = config_of(guarded, password=PASSWORD)

    with Session.connect(config, database="postgres", application_name="test") as session:
        error = said_by(session, "SELECT * FROM nowhere")

        assert PASSWORD not in f"{error.message}{error!r}{config!r}{session!r}{session.where}"
        assert isinstance(error.__cause__, psycopg2.Error)


def test_a_row_that_is_refused_is_not_in_the_message(database: Database, session: Session) -> None:
    database.execute("CREATE TABLE people (name text, age integer CHECK (age < 150))")

    error = said_by(session, "INSERT INTO people VALUES ('Ada Lovelace', 200)")

    assert "people_age_check" in error.message
    assert "Lovelace" not in error.message
