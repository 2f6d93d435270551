"""A pooler lends few connections to many clients, for a session or for a transaction, and keeps their options."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from fault_injection.pooler import Pooler, Rules
from snowmelt_sandbox.postgres import Database, LocalPostgres


@contextmanager
def pooled(database: Database, rules: Rules) -> Iterator[Pooler]:
    with Pooler(rules, database.server.host, database.server.port) as pooler:
        yield pooler


def connect(database: Database, pooler: Pooler, **options: Any) -> Connection:
    connection: Connection = psycopg2.connect(database.dsn, port=pooler.port, sslmode="disable", **options)
    connection.autocommit = True
    return connection


def ask(connection: Connection, statement: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        assert row is not None
        return row[0]


def test_a_session_keeps_its_server_connection_and_its_settings(database: Database) -> None:
    with (
        pooled(database, Rules("session", 2)) as pooler,
        closing(connect(database, pooler)) as one,
        closing(connect(database, pooler, application_name="it's me")) as other,
    ):
        backend = ask(one, "SELECT pg_backend_pid()")
        ask(one, "SELECT set_config('lock_timeout', '7s', false)")
        assert ask(other, "SELECT current_setting('lock_timeout')") == "0"
        assert ask(one, "SELECT current_setting('lock_timeout')") == "7s"
        assert ask(one, "SELECT pg_backend_pid()") == backend
        assert ask(other, "SELECT current_setting('application_name')") == "it's me"


def test_a_transaction_gives_its_server_connection_and_its_settings_to_the_next(database: Database) -> None:
    with (
        pooled(database, Rules("transaction", 1)) as pooler,
        closing(connect(database, pooler)) as one,
        closing(connect(database, pooler)) as other,
    ):
        ask(one, "SELECT set_config('lock_timeout', '7s', false)")
        assert ask(other, "SELECT current_setting('lock_timeout')") == "7s"
        assert ask(one, "SELECT pg_backend_pid()") == ask(other, "SELECT pg_backend_pid()")


def test_a_copy_goes_through_both_ways_of_lending(database: Database) -> None:
    database.execute("CREATE TABLE t (n integer)")
    for lends in ("session", "transaction"):
        with (
            pooled(database, Rules(lends, 1)) as pooler,
            closing(connect(database, pooler)) as one,
            one.cursor() as cursor,
        ):
            cursor.copy_expert("COPY t FROM STDIN", BytesIO(b"1\n2\n"))
            with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
                cursor.copy_expert("COPY t FROM STDIN", BytesIO(b"3\nno number\n"))
            assert ask(one, "SELECT count(*) FROM t") in (2, 4)
    assert database.rows("SELECT n, count(*) FROM t GROUP BY n ORDER BY n") == [(1, 2), (2, 2)]


def test_who_finds_no_connection_is_let_in_and_waits_until_it_is_sent_away(database: Database) -> None:
    with (
        pooled(database, Rules("session", 1, wait_seconds=0.2)) as pooler,
        closing(connect(database, pooler)) as one,
    ):
        ask(one, "SELECT 1")
        with closing(connect(database, pooler)) as late, pytest.raises(psycopg2.OperationalError):
            ask(late, "SELECT 1")


def test_who_waits_gets_the_connection_that_another_gives_back(database: Database) -> None:
    with pooled(database, Rules("session", 1, wait_seconds=60)) as pooler:
        one = connect(database, pooler)
        ask(one, "SELECT 1")
        with closing(connect(database, pooler)) as late:
            answers: list[object] = []
            waits = threading.Thread(target=lambda: answers.append(ask(late, "SELECT 2")))
            waits.start()
            assert answers == []
            one.close()
            waits.join(60)
            assert answers == [2]


def test_options_are_refused_or_kept_from_the_server(database: Database) -> None:
    options = "-c lock_timeout=7s"
    with (
        pooled(database, Rules("session", 1, takes_options=False)) as pooler,
        pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter: options"),
    ):
        connect(database, pooler, options=options)
    with pooled(database, Rules("session", 1)) as pooler, closing(connect(database, pooler, options=options)) as one:
        assert ask(one, "SELECT current_setting('lock_timeout')") == "0"


def test_what_the_server_says_to_who_may_not_come_in_reaches_the_client(database: Database) -> None:
    with (
        pooled(database, Rules("session", 1)) as pooler,
        pytest.raises(psycopg2.OperationalError, match='role "nobody_of_that_name" does not exist'),
    ):
        connect(database, pooler, user="nobody_of_that_name")


def test_sessions_end_with_the_pooler(database: Database) -> None:
    with pooled(database, Rules("session", 1)) as pooler:
        one = connect(database, pooler)
        ask(one, "SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        ask(one, "SELECT 1")
    until = time.monotonic() + 30
    while database.rows(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ):
        assert time.monotonic() < until


def test_a_pooler_signs_in_by_the_password_that_it_knows() -> None:
    with LocalPostgres(durable=False, password="pass,w=ord") as server:
        own = Database(server, "postgres")
        with (
            Pooler(Rules("session", 1), server.host, server.port, password="pass,w=ord") as pooler,
            closing(connect(own, pooler)) as one,
        ):
            assert ask(one, "SELECT session_user") == server.user
        with (
            Pooler(Rules("session", 1), server.host, server.port, password="another") as pooler,
            pytest.raises(psycopg2.OperationalError),
        ):
            connect(own, pooler)
