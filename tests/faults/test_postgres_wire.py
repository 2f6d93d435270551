"""A proxy that breaks a session of PostgreSQL's at the message it is told, and lets the server be what it is."""

import io
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from fault_injection.postgres_wire import PostgresLink
from fault_injection.proxy import Proxy
from fault_injection.traps import CUTS, Blow, Moment, Struck, Trap, Traps, Way
from snowmelt_sandbox.postgres import Database, LocalPostgres

DISK_FULL = Blow("refuse", code="53100", message="could not extend file: No space left on device")

LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Proxied:
    """A database behind a proxy."""

    def __init__(self, database: Database, proxy: Proxy, traps: Traps) -> None:
        self.database = database
        self._proxy = proxy
        self._traps = traps

    def strike(self, matching: str, blow: Blow, nth: int = 1) -> Trap:
        trap = Trap(Moment("postgres", matching, nth), blow)
        self._traps.put(trap)
        return trap

    @contextmanager
    def session(self) -> Iterator[Connection]:
        with closing(
            psycopg2.connect(
                host="127.0.0.1", port=self._proxy.port, user=LocalPostgres.user, dbname=self.database.name
            )
        ) as connection:
            yield connection

    def insert(self) -> None:
        """A row, in a transaction."""
        with self.session() as connection, connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO numbers VALUES (1)")

    def copy(self) -> None:
        with self.session() as connection, connection, connection.cursor() as cursor:
            cursor.copy_expert("COPY numbers FROM STDIN", io.StringIO("1\n2\n3\n"))

    def rows(self) -> int:
        time.sleep(0.1)  # what was sent before a cut is with the server
        return len(self.database.rows("SELECT n FROM numbers"))


@pytest.fixture
def proxied(database: Database) -> Iterator[Proxied]:
    database.execute("CREATE TABLE numbers (n integer)")
    traps = Traps()
    with Proxy(PostgresLink, database.server.host, database.server.port, traps) as proxy:
        yield Proxied(database, proxy, traps)


def test_without_a_trap_everything_passes(proxied: Proxied) -> None:
    proxied.insert()
    proxied.copy()
    assert proxied.rows() == 4


@pytest.mark.parametrize(
    ("way", "rows"),
    [("cut before", 0), ("cut half", 0), ("cut sent", 1), ("cut unanswered", 1), ("cut half answer", 1)],
)
def test_a_client_that_is_cut_off_at_its_commit_does_not_know_what_became_of_it(
    proxied: Proxied, way: Way, rows: int
) -> None:
    trap = proxied.strike("^COMMIT$", Blow(way))
    with pytest.raises(LOST):
        proxied.insert()
    assert trap.struck == "COMMIT"
    assert proxied.rows() == rows


@pytest.mark.parametrize("way", CUTS)
@pytest.mark.parametrize("message", ["^connect$", "^BEGIN", "^COPY ", "^copy data$", "^copy done$"])
def test_a_copy_that_is_cut_off_before_its_commit_leaves_nothing(proxied: Proxied, message: str, way: Way) -> None:
    trap = proxied.strike(message, Blow(way))
    with pytest.raises(LOST):
        proxied.copy()
    assert trap.struck
    assert proxied.rows() == 0


def test_a_blow_falls_on_the_message_of_that_number_and_on_no_other(proxied: Proxied) -> None:
    proxied.strike("^COMMIT$", Blow("cut before"), nth=2)
    proxied.insert()
    with pytest.raises(LOST):
        proxied.insert()
    proxied.insert()
    assert proxied.rows() == 2


def test_a_statement_that_is_refused_leaves_the_session_as_the_server_would(proxied: Proxied) -> None:
    proxied.strike("^INSERT", DISK_FULL)
    with proxied.session() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        with pytest.raises(psycopg2.errors.DiskFull, match="No space left on device"):
            cursor.execute("INSERT INTO numbers VALUES (1)")
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("INSERT INTO numbers VALUES (2)")
        connection.rollback()
        cursor.execute("INSERT INTO numbers VALUES (3)")
        connection.commit()
    assert proxied.database.rows("SELECT n FROM numbers") == [(3,)]


def test_a_commit_that_is_refused_is_a_rollback(proxied: Proxied) -> None:
    proxied.strike("^COMMIT$", DISK_FULL)
    with proxied.session() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (1)")
        with pytest.raises(psycopg2.errors.DiskFull):
            connection.commit()
        cursor.execute("INSERT INTO numbers VALUES (2)")
        connection.commit()
    assert proxied.database.rows("SELECT n FROM numbers") == [(2,)]


@pytest.mark.parametrize("message", ["^COPY ", "^copy data$", "^copy done$"])
def test_a_copy_that_is_refused_can_be_tried_again(proxied: Proxied, message: str) -> None:
    proxied.strike(message, DISK_FULL)
    with proxied.session() as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg2.errors.DiskFull):
            cursor.copy_expert("COPY numbers FROM STDIN", io.StringIO("1\n2\n"))
        connection.rollback()
        cursor.copy_expert("COPY numbers FROM STDIN", io.StringIO("3\n"))
        connection.commit()
    assert proxied.database.rows("SELECT n FROM numbers") == [(3,)]


def test_a_session_that_is_refused_has_the_servers_words(proxied: Proxied) -> None:
    proxied.strike("^connect$", Blow("refuse", code="53300", message="sorry, too many clients already"))
    with pytest.raises(psycopg2.OperationalError, match="too many clients already"):
        proxied.insert()
    proxied.insert()
    assert proxied.rows() == 1


def test_what_is_slow_or_lost_takes_its_time(proxied: Proxied) -> None:
    began = time.monotonic()
    proxied.strike("^INSERT", Blow("delay", seconds=0.3))
    proxied.insert()
    proxied.strike("^INSERT", Blow("drop", seconds=0.3))
    with pytest.raises(LOST):
        proxied.insert()
    assert time.monotonic() - began > 0.6
    assert proxied.rows() == 1


@pytest.mark.parametrize(("way", "rows"), [("before", 0), ("instead", 0), ("after", 1)])
def test_something_else_happens_before_the_message_arrives_or_when_it_was_answered(
    proxied: Proxied, way: Way, rows: int
) -> None:
    seen: list[int] = []
    proxied.strike("^COMMIT$", Blow(way, effect=lambda _: seen.append(proxied.rows())))
    try:
        proxied.insert()
    except LOST:
        assert way == "instead"
    assert seen == [rows]
    assert proxied.rows() == (0 if way == "instead" else 1)


def test_the_backend_that_is_struck_is_known(proxied: Proxied) -> None:
    def end(struck: Struck) -> None:
        assert struck.backend_pid is not None
        os.kill(struck.backend_pid, signal.SIGTERM)

    proxied.strike("^INSERT", Blow("before", effect=end))
    with pytest.raises(LOST):
        proxied.insert()
    assert proxied.rows() == 0
