"""A pooler before the server: refused where it would share our sessions, named where it is in the way."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg2 import sql as compose

from fault_injection.pooler import Lends, Pooler, Rules
from snowmelt.config import PostgresConfig
from snowmelt.errors import AccessError, TransientError
from snowmelt.postgres import poolers, session
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database

ADVICE = "connect past the pooler: name the server itself in postgres.host and postgres.port"


def before(database: Database, lends: Lends, *, connections: int = 20, takes_options: bool = True) -> Pooler:
    """Return a pooler before the test's server; whoever finds no connection waits."""
    rules = Rules(lends, connections, wait_seconds=60, takes_options=takes_options)
    return Pooler(rules, database.server.host, database.server.port)


def connect(pooler: Pooler, database: Database) -> Session:
    config = PostgresConfig(host="127.0.0.1", port=pooler.port, user=database.server.user)
    return Session.connect(config, database=database.name, application_name="test")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Ports are given again: what is known of a pooler is forgotten."""
    yield
    session._KEEPS_SESSIONS.clear()


@pytest.mark.parametrize("size", [1, 5])
def test_a_pooler_that_shares_sessions_is_refused_before_anything_is_set_in_them(database: Database, size: int) -> None:
    with before(database, "transaction", connections=size) as pooler:
        with pytest.raises(AccessError, match="transaction mode") as refused:
            connect(pooler, database)
        assert ADVICE in refused.value.message
        with database.connect(port=pooler.port) as other, other.cursor() as cursor:
            cursor.execute("SHOW search_path")
            assert cursor.fetchone() == ('"$user", public',)


def test_a_pooler_whose_mode_is_changed_meanwhile_is_refused_by_the_next_look(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "POOLER_TRUSTED_SECONDS", 0.0)
    with before(database, "session") as pooler:
        connect(pooler, database).close()
        pooler.rules = Rules("transaction", 20, wait_seconds=60)
        with pytest.raises(AccessError, match="transaction mode"):
            connect(pooler, database)


@pytest.mark.parametrize("lends", ["session", "transaction"])
def test_a_pooler_that_refuses_our_settings_is_named(database: Database, lends: Lends) -> None:
    with before(database, lends, takes_options=False) as pooler, pytest.raises(AccessError) as refused:
        connect(pooler, database)
    assert "unsupported startup parameter: options" in refused.value.message
    assert ADVICE in refused.value.message


def test_a_pooler_that_keeps_a_session_for_each_client_gives_one_like_the_servers_own(database: Database) -> None:
    database.execute(
        compose.SQL("ALTER DATABASE {} SET statement_timeout = '1h'").format(compose.Identifier(database.name))
    )
    names = (*session._settings(PostgresConfig(host="x", user="y")), *session._TIMEOUTS)
    chosen = [name for name in names if not name.startswith("tcp_") and name != "transaction_timeout"]
    asked = compose.SQL("SELECT name, current_setting(name) AS value FROM unnest({}::text[]) AS s (name)").format(
        compose.Literal(chosen)
    )
    with before(database, "session") as pooler, connect(pooler, database) as through:
        config = PostgresConfig(host=database.server.host, port=database.server.port, user=database.server.user)
        with Session.connect(config, database=database.name, application_name="test") as direct:
            assert through.rows(asked) == direct.rows(asked)
            assert (through.pooled, direct.pooled) == (True, False)
        with connect(pooler, database) as another:
            assert another.backend() != through.backend()


def test_a_pool_that_is_too_small_is_told_instead_of_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poolers, "FIRST_ANSWER_SECONDS", 0.5)
    with before(database, "session", connections=2) as pooler:
        with connect(pooler, database) as first, connect(pooler, database):
            with pytest.raises(TransientError, match=r"no answer within 0\.5 s; a pooler") as refused:
                connect(pooler, database)
            assert ADVICE in refused.value.message
            assert first.alive()
        with connect(pooler, database) as again:
            assert again.alive()


def test_a_server_that_answers_late_is_waited_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poolers, "FIRST_ANSWER_SECONDS", 30.0)
    with before(database, "session", connections=2) as pooler, ThreadPoolExecutor(1) as thread:
        connect(pooler, database).close()  # what it is, is known now
        first, second = connect(pooler, database), connect(pooler, database)
        waiting = thread.submit(connect, pooler, database)
        time.sleep(0.1)
        first.close()
        with waiting.result(20) as third:
            assert third.alive()
        second.close()
