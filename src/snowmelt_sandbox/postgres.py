"""A real PostgreSQL server for one machine: no installation, no container, gone when its owner is gone."""

import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import make_dsn

from snowmelt import private_files
from snowmelt.errors import AccessError
from snowmelt_sandbox.child_process import start_child
from snowmelt_sandbox.postgres_programs import SERVER_ENVIRONMENT, ServerAccount, find_programs

SPEED_OVER_DURABILITY: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}
"""Commits survive a crash of the server, but not of the machine.

``synchronous_commit`` stays on: without it, a server that is killed forgets its last commits.
"""

_ASK_EVERYONE = "host all all 127.0.0.1/32 scram-sha-256\n"
_PORTS = range(15_000, 32_000)  # below what systems hand to outgoing connections, so that a restart finds it free
_START_SECONDS = 30.0
_START_ATTEMPTS = 6
_PASSING = (
    "Address already in use",
    "could not create any TCP/IP sockets",
    "lock file",
    "shared memory block",
)
"""What a start may fail with that is over soon: another's port, or the end of the server before this one."""


def new_password() -> str:
    """Return a password that nobody can guess, for a server that lives as long as its owner."""
    return secrets.token_urlsafe(18)


class LocalPostgres:
    """A server on 127.0.0.1 with a database folder of its own.

    Use it as a context manager, or ``start()`` and ``stop()`` it. When the caller is root it runs as an
    unprivileged user, as PostgreSQL insists. ``directory`` keeps the data for a later start; without it, data
    lives in a temporary folder that ``stop()`` deletes. ``durable=False`` is for tests. ``settings`` are server
    settings, as in ``LocalPostgres(max_connections=20, log_statement="all")``.

    With ``password`` the server asks for it, also on data that were made with another one or with none. Otherwise it
    lets everyone on this machine in, and a superuser runs programs as the server's user: for tests alone.
    """

    host = "127.0.0.1"
    user = "postgres"

    def __init__(
        self,
        *,
        version: int | None = None,
        directory: Path | None = None,
        port: int | None = None,
        password: str | None = None,
        durable: bool = True,
        **settings: str | int | bool,
    ) -> None:
        self.password = password
        self._version = version
        self._kept_directory = directory
        self._settings = {
            "listen_addresses": self.host,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
            "log_min_messages": "warning",
            **({} if durable else SPEED_OVER_DURABILITY),
            **{name: _as_setting(value) for name, value in settings.items()},
        }
        self._account = ServerAccount.of_caller()
        self._directory: Path | None = None
        self._programs: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = port

    # --- life ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the server, on an empty cluster if the folder has none; return when it lets clients in."""
        if self._process is not None:
            return self
        try:
            self._directory = self._account.prepare(self._kept_directory)
            self._programs = self._account.readable(find_programs(self._version), self._directory)
            if not (self._data / "PG_VERSION").exists():
                self._create_cluster()
            elif self.password:
                self._ask_for_password(self.password)
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, *, immediate: bool = False) -> None:
        """End the server and every connection; a temporary folder is deleted. Stopping twice is fine.

        ``immediate`` leaves as in a crash: nothing is flushed, and the next start recovers from the log.
        """
        self._end_process(immediate=immediate)
        if self._kept_directory is None and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start again on the same port with the same data; ``immediate`` as in ``stop``."""
        self._end_process(immediate=immediate)
        self._launch()

    # --- where it is ---

    @property
    def port(self) -> int:
        """The TCP port; stays the same across restarts."""
        if self._port is None:
            raise AccessError("The local PostgreSQL has not been started; call start() or use `with`.")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        if self._process is None:
            raise AccessError("The local PostgreSQL is not running; call start() or use `with`.")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """What the server has written to its log."""
        if self._directory is None:
            raise AccessError("The local PostgreSQL has no folder before start() and after stop().")
        return self._directory / "server.log"

    def dsn(self, database: str = "postgres") -> str:
        """Return a libpq connection string."""
        return make_dsn(
            host=self.host,
            port=self.port,
            user=self.user,
            dbname=database,
            **({"password": self.password} if self.password else {}),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that point Snowmelt at this server."""
        return {
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_USER": self.user,
            "POSTGRES_SSLMODE": "disable",
            **({"POSTGRES_PASSWORD": self.password} if self.password else {}),
        }

    # --- databases ---

    def connect(self, database: str = "postgres", **options: Any) -> Connection:
        """Open a connection in autocommit mode; the caller closes it."""
        connection: Connection = psycopg2.connect(self.dsn(database), **options)
        connection.autocommit = True
        return connection

    def execute(self, statement: str | sql.Composable, database: str = "postgres") -> None:
        """Run statements without a result on a connection of their own."""
        with self._session(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def rows(
        self,
        query: str | sql.Composable,
        parameters: Sequence[Any] | None = None,
        *,
        database: str = "postgres",
    ) -> list[tuple[Any, ...]]:
        """Return all rows of a query, on a connection of its own."""
        with self._session(database) as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of ``template`` if given, and return its connection string."""
        copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        # A copy through the log costs a tenth of the checkpoints that the older way takes.
        self.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), copied))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, with every connection to it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def database(self, *, template: str | None = None) -> Iterator["Database"]:
        """Yield a new database that is dropped at the end."""
        name = f"test_{secrets.token_hex(6)}"
        self.create_database(name, template=template)
        try:
            yield Database(self, name)
        finally:
            self.drop_database(name)

    # --- inside ---

    @contextmanager
    def _session(self, database: str) -> Iterator[Connection]:
        connection = self.connect(database)
        try:
            yield connection
        finally:
            connection.close()

    @property
    def _data(self) -> Path:
        return self.log_file.parent / "data"

    def _program(self, name: str) -> str:
        assert self._programs is not None  # noqa: S101
        return str(self._programs / name)

    def _create_cluster(self) -> None:
        how = ["--auth=trust"]
        password_file = self._data.parent / "password"
        if self.password:
            password_file.touch(mode=0o600)
            password_file.write_text(self.password + "\n", encoding="utf-8")
            self._account.give(password_file)
            how = ["--auth=scram-sha-256", f"--pwfile={password_file}"]
        try:
            done = subprocess.run(
                [
                    *(self._program("initdb"), f"--pgdata={self._data}", f"--username={self.user}", *how),
                    *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
                ],
                check=False,
                capture_output=True,
                cwd=self._data.parent,
                env=SERVER_ENVIRONMENT,
                **self._account.popen_options(),
            )
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise AccessError(f"PostgreSQL could not create its files in {self._data}: {_reason(done.stderr.decode())}")

    def _ask_for_password(self, password: str) -> None:
        """Change who is let in, and by which password, before anybody can be."""
        hba = self._data / "pg_hba.conf"
        private_files.write(hba, _ASK_EVERYONE.encode())
        self._account.give(hba)
        quoted = password.replace("'", "''")  # there is no connection yet to quote for
        statement = f"ALTER ROLE {self.user} PASSWORD '{quoted}'\n"
        done = subprocess.run(
            [
                *(self._program("postgres"), "--single", "-D", str(self._data), "-c", "log_statement=none"),
                *("-c", "password_encryption=scram-sha-256", "postgres"),
            ],
            check=False,
            capture_output=True,
            input=statement.encode(),
            cwd=self._data.parent,
            env=SERVER_ENVIRONMENT,
            **self._account.popen_options(),
        )
        if done.returncode != 0 or b"ERROR:" in done.stderr:
            raise AccessError(
                f"PostgreSQL could not change its password in {self._data}: {_reason(done.stderr.decode())}"
            )

    def _launch(self) -> None:
        """Start the server; again if another process took the port that was free a moment ago."""
        said, port = "", 0
        for attempt in range(_START_ATTEMPTS):
            time.sleep(0.1 * attempt)
            log_starts_at = self.log_file.stat().st_size if self.log_file.exists() else 0
            port = self._port or _free_port()
            self._process = self._start_process(port)
            if self._becomes_ready(self._process, port):
                self._port = port
                return
            self._end_process(immediate=True)
            said = self.log_file.read_text(encoding="utf-8", errors="replace")[log_starts_at:]
            if not any(passing in said for passing in _PASSING):
                break
        raise AccessError(f"The local PostgreSQL in {self._data.parent} does not start on port {port}: {_reason(said)}")

    def _start_process(self, port: int) -> "subprocess.Popen[bytes]":
        settings = {**self._settings, "port": str(port), "unix_socket_directories": ""}
        switches = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log_file.open("ab") as log:
            return start_child(
                [self._program("postgres"), "-D", str(self._data), *switches],
                at_parent_death=signal.SIGQUIT,  # immediate shutdown, sessions included
                cwd=self._data.parent,
                env=SERVER_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner, who stops the server in order
                **self._account.popen_options(),
            )

    def _becomes_ready(self, process: "subprocess.Popen[bytes]", port: int) -> bool:
        """Wait until the server says so in its own file: at the port, someone else's might answer."""
        until = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < until:
            lines = _lines(self._data / "postmaster.pid")
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return lines[3] == str(port)
            time.sleep(0.01)
        return False

    def _end_process(self, *, immediate: bool) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Database:
    """One database of a server."""

    server: LocalPostgres
    name: str

    @property
    def dsn(self) -> str:
        """A libpq connection string."""
        return self.server.dsn(self.name)

    def connect(self, **options: Any) -> Connection:
        """Open a connection in autocommit mode; the caller closes it."""
        return self.server.connect(self.name, **options)

    def execute(self, statement: str | sql.Composable) -> None:
        """Run statements without a result on a connection of their own."""
        self.server.execute(statement, self.name)

    def rows(self, query: str | sql.Composable, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return all rows of a query, on a connection of its own."""
        return self.server.rows(query, parameters, database=self.name)


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)  # noqa: S311
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LocalPostgres.host, port))
            except OSError:
                continue
            return port


def _as_setting(value: str | int | bool) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _reason(output: str) -> str:
    """Pick the line that says why: the first fatal one, or else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return (fatal or lines[-1:] or ["it said nothing"])[0]
