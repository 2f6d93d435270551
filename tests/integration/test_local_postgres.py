"""The PostgreSQL of one machine is a real server that comes and goes without a trace."""

import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from snowmelt.errors import AccessError, ConfigError
from snowmelt_sandbox import postgres as local_postgres
from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.postgres_programs import find_programs


@pytest.fixture
def own() -> Iterator[LocalPostgres]:
    """A server that the test may break."""
    with LocalPostgres(durable=False) as server:
        yield server


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own may not."""
    folder = Path(tempfile.mkdtemp(prefix="snowmelt-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_each_test_has_a_database_of_its_own(database: Database) -> None:
    database.execute("CREATE TABLE only_here (n int); INSERT INTO only_here VALUES (1)")

    assert database.rows("SELECT n, current_database() FROM only_here") == [(1, database.name)]


def test_a_database_copies_its_template_and_is_dropped_with_open_connections(postgres: LocalPostgres) -> None:
    with postgres.database() as template:
        template.execute("CREATE TABLE t AS SELECT 42 AS n")
        with postgres.database(template=template.name) as copy:
            left_open = copy.connect()
            assert copy.rows("SELECT n FROM t") == [(42,)]

    with pytest.raises(psycopg2.OperationalError):
        left_open.cursor().execute("SELECT 1")
    left_open.close()
    assert not postgres.rows("SELECT FROM pg_database WHERE datname = %s", (copy.name,))


def test_settings_are_the_servers_and_durability_is_the_default() -> None:
    with LocalPostgres(max_connections=17, wal_compression=True) as server:
        assert server.rows(
            "SELECT name, setting FROM pg_settings WHERE name IN "
            "('fsync', 'max_connections', 'TimeZone', 'wal_compression') ORDER BY 1"
        ) == [("TimeZone", "UTC"), ("fsync", "on"), ("max_connections", "17"), ("wal_compression", "pglz")]


def test_tests_trade_durability_for_speed_but_keep_synchronous_commit(postgres: LocalPostgres) -> None:
    assert postgres.rows("SELECT current_setting('fsync'), current_setting('synchronous_commit')") == [("off", "on")]


def test_the_wheel_brings_an_older_version_too() -> None:
    with LocalPostgres(version=16, durable=False) as server:
        assert server.rows("SELECT current_setting('server_version_num')::int / 10000") == [(16,)]


def test_a_version_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"PostgreSQL 9 .*16, 18.*pip install"):
        find_programs(9)


def test_the_environment_leads_to_the_server(postgres: LocalPostgres) -> None:
    variables = postgres.environment()

    with psycopg2.connect(
        host=variables["POSTGRES_HOST"],
        port=variables["POSTGRES_PORT"],
        user=variables["POSTGRES_USER"],
        sslmode=variables["POSTGRES_SSLMODE"],
        dbname="postgres",
    ) as connection:
        assert connection.info.port == postgres.port
    connection.close()


def test_with_a_password_the_server_asks_for_it() -> None:
    with LocalPostgres(password="it's a secret", durable=False) as server:
        assert server.environment()["POSTGRES_PASSWORD"] == "it's a secret"
        assert server.rows("SELECT 1") == [(1,)]
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.dsn(), password="wrong")


def test_a_server_that_let_everyone_in_asks_for_the_password_that_it_is_given(open_folder: Path) -> None:
    kept = open_folder / "cluster"
    with LocalPostgres(directory=kept, durable=False) as server:
        server.execute("CREATE TABLE t AS SELECT 7 AS n")

    for password in ("it's a secret", "another"):
        with LocalPostgres(directory=kept, password=password, durable=False) as server:
            assert server.rows("SELECT n FROM t") == [(7,)]
            assert server.rows("SELECT rolpassword LIKE 'SCRAM-SHA-256$%%' FROM pg_authid WHERE rolname = 'postgres'")
            with pytest.raises(psycopg2.OperationalError, match="password"):
                psycopg2.connect(server.dsn(), password="wrong")
        assert (kept / "data").stat().st_mode & 0o777 == 0o700
        assert kept.stat().st_mode & 0o777 == 0o700


def test_what_was_committed_survives_an_immediate_restart_on_the_same_port(own: LocalPostgres) -> None:
    port = own.port
    own.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    client = own.connect()

    own.restart(immediate=True)

    with pytest.raises(psycopg2.OperationalError):
        client.cursor().execute("SELECT 1")
    client.close()
    assert own.port == port
    assert own.rows("SELECT count(*) FROM t") == [(1000,)]


def test_a_directory_keeps_the_data_and_no_directory_leaves_nothing(open_folder: Path) -> None:
    kept = open_folder / "cluster"
    with LocalPostgres(directory=kept, durable=False) as server:
        server.execute("CREATE TABLE t AS SELECT 7 AS n")
    with LocalPostgres(directory=kept, durable=False) as server:
        assert server.rows("SELECT n FROM t") == [(7,)]

    with LocalPostgres(durable=False) as server:
        temporary = server.log_file.parent
    assert not temporary.exists()


def test_a_port_that_is_taken_is_reported_in_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(AccessError, match=r"does not start on port \d+: could not create any TCP"):
            LocalPostgres(port=other.getsockname()[1], durable=False).start()


def test_a_setting_that_does_not_exist_is_reported_without_waiting_for_a_server_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("snowmelt_sandbox.postgres._START_SECONDS", math.inf)
    with pytest.raises(AccessError, match="no_such_setting"):
        LocalPostgres(no_such_setting=1).start()


@pytest.mark.full
def test_it_runs_from_a_folder_that_only_the_owner_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As below /root: the server runs as another user, who cannot read the programs there."""
    wheel = find_programs(18).parent.parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(wheel / "pginstall18", hidden / wheel.name / "pginstall18", symlinks=True)
    shutil.copytree(wheel.parent / f"{wheel.name}.libs", hidden / f"{wheel.name}.libs")
    programs = hidden / wheel.name / "pginstall18" / "bin"
    monkeypatch.setattr(local_postgres, "find_programs", lambda version: programs)

    with LocalPostgres(durable=False) as server:
        assert server.rows("SELECT 1") == [(1,)]


def test_the_server_dies_with_its_owner_even_by_sigkill_and_the_next_finds_what_was_committed(
    open_folder: Path,
) -> None:
    program = (
        "import pathlib, sys, threading, time; from snowmelt_sandbox.postgres import LocalPostgres\n"
        "server = LocalPostgres(directory=pathlib.Path(sys.argv[1]), durable=False)\n"
        "starter = threading.Thread(target=server.start)\n"
        "starter.start(); starter.join(); time.sleep(0.2)\n"  # the thread is gone, the server is not
        "server.execute('CREATE TABLE t AS SELECT 1 AS n')\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(open_folder / "cluster")], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()

    with LocalPostgres(directory=open_folder / "cluster", durable=False) as server:  # at once
        assert server.rows("SELECT n FROM t") == [(1,)]
        assert not _exists(pid)


def test_a_folder_that_the_servers_user_cannot_reach_is_refused_or_works(tmp_path: Path) -> None:
    """Who is root must choose another folder; who is not runs the server under their own name."""
    tmp_path.chmod(0o700)
    server = LocalPostgres(directory=tmp_path / "cluster", durable=False)
    if os.geteuid() == 0:
        with pytest.raises(ConfigError, match="runs as user nobody, who cannot reach"):
            server.start()
    else:
        with server:
            assert server.rows("SELECT 1") == [(1,)]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
