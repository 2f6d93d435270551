"""Cases one after another, on servers of their own; several lanes run beside each other without meeting.

A process: numbers of cases come in on stdin, a line of JSON for each goes out on stdout.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from fault_injection import modes
from fault_injection.difference import Row
from fault_injection.kinds import Case, Condition, NotHereError, case
from fault_injection.modes import Mode
from fault_injection.pooler import Pooler
from fault_injection.postgres_wire import PostgresLink
from fault_injection.proxy import Proxy
from fault_injection.snowflake_wire import SnowflakeLink
from fault_injection.starts import INVOCATION_SECONDS, Start
from fault_injection.traps import Traps
from fault_injection.trial import BUFFER_SECONDS, FUNCTION_SECONDS, RESUME_SECONDS, Result, Trial
from snowmelt.errors import SnowmeltError
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.postgres import Database, LocalPostgres, new_password
from snowmelt_sandbox.postgres_programs import DEFAULT_VERSION, versions
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import HOSTILE, LocalSnowflake

SOURCE_DATABASE = "FAULTS"
TIME_SCALE = 0.05
ROLE = "mover"
"""Who moves: no superuser, as in most places, and so one whom time-outs and limits concern."""
TARGET_DATABASE = "faulted"


@dataclass(frozen=True)
class _Server:
    """A PostgreSQL, and the proxy that all migrations reach it by."""

    postgres: LocalPostgres
    proxy: Proxy


class Lane:
    """Both servers behind proxies, and a template of the target for each mode."""

    def __init__(
        self, folder: Path, definition: Path, *, rows_per_chunk: int = modes.ROWS_PER_CHUNK, threads: int = 2
    ) -> None:
        self._folder = folder
        self._definition = definition
        self._rows_per_chunk = rows_per_chunk
        self._threads = threads
        self._traps = Traps()
        self._context = ExitStack()
        self._aws: LocalAws | None = None
        self._templates: dict[str, str] = {}
        self._password = new_password()
        self._servers: dict[int, _Server] = {}
        self._icu: _Server | None = None

    def __enter__(self) -> "Lane":
        enter = self._context.enter_context
        snowflake = enter(LocalSnowflake(inline_rows=300, first_rows=400, account_parameters=HOSTILE))
        self._server = self._serve()
        self._snowflake = snowflake
        self._snowflake_proxy = enter(Proxy(SnowflakeLink, snowflake.host, snowflake.port, self._traps))
        snowflake.create_schema(SOURCE_DATABASE, "PUBLIC")
        snowflake.set_time_travel(enabled=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    # --- one case ---

    def run(self, case: Case) -> Result:
        """Strike, let it finish as a user would, and compare."""
        began = time.monotonic()
        try:
            self._server = self._icu_server() if case.mode.icu else self._serve()
            database = self._put_up(case.mode, case.threads)
        except NotHereError as missing:
            return left_out(case, str(missing))
        try:
            return replace(Trial(self, case, database).result(), seconds=round(time.monotonic() - began, 2))
        except NotHereError as missing:
            return left_out(case, str(missing))
        finally:
            self._traps.put()
            self.sandbox.postgres.drop_database(database.name)

    def _serve(self, version: int = DEFAULT_VERSION) -> _Server:
        """A server of that version; started when it is first asked for."""
        if version in self._servers:
            return self._servers[version]
        postgres = self._context.enter_context(LocalPostgres(version=version, durable=False, password=self._password))
        proxy = self._context.enter_context(Proxy(PostgresLink, postgres.host, postgres.port, self._traps))
        postgres.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(self._password))
        )
        self._servers[version] = _Server(postgres, proxy)
        return self._servers[version]

    def _icu_server(self) -> _Server:
        """A server that can order text by ICU."""
        if self._icu is None:
            self._icu = next(filter(_has_icu, map(self._serve, versions())), None)
        if self._icu is None:
            raise NotHereError(f"no PostgreSQL on this machine has ICU (there are {', '.join(map(str, versions()))})")
        return self._icu

    def _put_up(self, mode: Mode, threads: int) -> Database:
        """The target as it stands before, in a database of its own, and the config that names it."""
        postgres = self.sandbox.postgres
        if mode.name not in self._templates:
            self._templates[mode.name] = self._make_template(mode)
        database = Database(postgres, TARGET_DATABASE)
        postgres.drop_database(database.name)
        postgres.create_database(database.name, template=self._templates[mode.name])
        postgres.execute(f"ALTER DATABASE {database.name} OWNER TO {ROLE}")
        self.configure(mode, database.name, threads=threads)
        return database

    def _make_template(self, mode: Mode) -> str:
        postgres, name = self.sandbox.postgres, f"before_{mode.name}"
        order = " TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" if mode.icu else ""
        postgres.execute(f"CREATE DATABASE {name} OWNER {ROLE}{order}")
        target = Database(postgres, name)
        with closing(target.connect(options=f"-c role={ROLE}")) as connection, connection.cursor() as cursor:
            for statement in (*mode.target, *mode.before):
                cursor.execute(statement.format(mode.table))
        _insert(target, mode.table, mode.held)
        if mode.earlier:
            self._load(mode, mode.earlier)
            self.configure(mode, name)
            ended = self.command().wait(RESUME_SECONDS)
            if ended.verdict != "completed":
                raise RuntimeError(f"the run before all faults did not complete: {ended}")
        self._load(mode, mode.source())
        return name

    def _load(self, mode: Mode, rows: Sequence[Row]) -> None:
        self._snowflake.load_table(
            SOURCE_DATABASE, "PUBLIC", mode.table.upper(), modes.as_arrow(rows, mode.types), types=mode.types
        )

    def configure(self, mode: Mode, database: str, *, threads: int = 0) -> None:
        """Write the config of a mode."""
        source = {
            "source_name": mode.name,
            "source_sf_database": SOURCE_DATABASE,
            "source_sf_schema": "PUBLIC",
            "target_pg_database": database,
            "target_pg_schema": "public",
            "tables": [{"source": mode.table.upper(), **mode.settings}],
        }
        config = {
            "snowflake": {},
            "postgres": {"port": self._server.proxy.port, "user": ROLE},
            "lambda_timeout_buffer_seconds": BUFFER_SECONDS,
            "parallel_threads": max(threads, self._threads),
            "batch_size": self._rows_per_chunk,
            "sources": [source],
        }
        new = self._folder / "config.new"
        new.write_text(json.dumps(config), encoding="utf-8")
        new.replace(self._folder / "config.json")

    @contextmanager
    def under(self, condition: Condition) -> Iterator[None]:
        """Within, the condition holds; NotHereError where this server does not know it."""
        postgres, proxy = self._server.postgres, self._server.proxy
        try:
            self._make_hold(condition)
            if condition.pooler is None:
                yield
                return
            with Pooler(condition.pooler, postgres.host, postgres.port, password=self._password) as pooler:
                proxy.lead_to(postgres.host, pooler.port)
                yield
        finally:
            proxy.lead_to(postgres.host, postgres.port)
            if condition.statements:
                postgres.execute(_AS_USUAL)

    def _make_hold(self, condition: Condition) -> None:
        for statement in condition.statements:
            try:
                self._server.postgres.execute(statement.format(role=ROLE, database=TARGET_DATABASE))
            except psycopg2.errors.UndefinedObject as error:
                raise NotHereError(str(error).splitlines()[0]) from error

    # --- starts ---

    def environment(self, store: str) -> dict[str, str]:
        """What the command and the function need to know; both servers are behind their proxies."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "SNOWMELT_CONFIG": str(self._folder / "config.json"),
            "SNOWMELT_STORE": store,
            **self.sandbox.environment(),
            "SNOWFLAKE_PORT": str(self._snowflake_proxy.port),
        }

    def command(self, invocation_seconds: float = INVOCATION_SECONDS, **event: Any) -> Start:
        """``snowmelt migrate``."""
        return Start(
            self.environment(str(self._folder / "store")),
            event,
            complaints=self._folder / "complaints.log",
            invocation_seconds=invocation_seconds,
        )

    def aws(self) -> LocalAws:
        """The deployment; started when it is first asked for."""
        if self._aws is None:
            environment = self.environment("s3://snowmelt/store")
            del environment["PATH"], environment["HOME"]
            self._aws = self._context.enter_context(
                LocalAws(
                    environment,
                    self._definition,
                    timeout_seconds=FUNCTION_SECONDS,
                    concurrency=6,
                    log_file=self._folder / "function.log",
                    time_scale=TIME_SCALE,
                )
            )
        return self._aws

    @property
    def sandbox(self) -> Sandbox:
        """Both servers of the case that is on, without the proxies."""
        return Sandbox(self._snowflake, self._server.postgres)

    @property
    def traps(self) -> Traps:
        """What both proxies ask."""
        return self._traps


_AS_USUAL = "; ".join(
    (
        f"ALTER ROLE {ROLE} RESET ALL",
        f"ALTER ROLE {ROLE} IN DATABASE {TARGET_DATABASE} RESET ALL",
        f"ALTER ROLE {ROLE} CONNECTION LIMIT -1",
        f"ALTER DATABASE {TARGET_DATABASE} RESET ALL",
        f"ALTER DATABASE {TARGET_DATABASE} CONNECTION LIMIT -1",
    )
)


def left_out(case: Case, why: str) -> Result:
    """What became of a case for which something is not there."""
    return Result(case.number, str(case), case.strikes[0].kind.name, "left_out", why, "", 0, 0.0, mode=case.mode.name)


def _has_icu(server: _Server) -> bool:
    return server.postgres.rows("SELECT EXISTS (SELECT FROM pg_collation WHERE collname LIKE '%-x-icu')") == [(True,)]


def _insert(target: Database, table: str, rows: Sequence[Row]) -> None:
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(f"INSERT INTO {table} ({modes.COLUMNS}) VALUES (%s, %s, %s, %s)", row)


def main() -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--definition", type=Path, required=True)
    options = parser.parse_args()
    with Lane(options.folder, options.definition) as lane:
        for line in sys.stdin:
            drawn = case(options.seed, int(line))
            try:
                answer = asdict(lane.run(drawn))
            except (SnowmeltError, psycopg2.Error, OSError, RuntimeError) as error:
                traceback.print_exc()
                answer = {"number": drawn.number, "case": str(drawn), "broken": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
