"""Cases one after another, on servers of their own; several lanes run beside each other without meeting.

A process: numbers of cases come in on stdin, a line of JSON for each goes out on stdout.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psycopg2

from snowmelt.errors import SnowmeltError
from snowmelt.local.aws import LocalAws
from snowmelt.local.faults import modes
from snowmelt.local.faults.difference import Row
from snowmelt.local.faults.kinds import Case, case
from snowmelt.local.faults.modes import Mode
from snowmelt.local.faults.postgres_wire import PostgresLink
from snowmelt.local.faults.proxy import Proxy
from snowmelt.local.faults.snowflake_wire import SnowflakeLink
from snowmelt.local.faults.starts import INVOCATION_SECONDS, Start
from snowmelt.local.faults.traps import Traps
from snowmelt.local.faults.trial import BUFFER_SECONDS, FUNCTION_SECONDS, RESUME_SECONDS, Result, Trial
from snowmelt.local.postgres import Database, LocalPostgres, new_password
from snowmelt.local.sandbox import Sandbox
from snowmelt.local.snowflake import LocalSnowflake

SOURCE_DATABASE = "FAULTS"
TIME_SCALE = 0.05


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

    def __enter__(self) -> "Lane":
        enter = self._context.enter_context
        snowflake = enter(LocalSnowflake(inline_rows=300, first_rows=400))
        postgres = enter(LocalPostgres(durable=False, password=new_password()))
        self._sandbox = Sandbox(snowflake, postgres)
        self._postgres_proxy = enter(Proxy(PostgresLink, postgres.host, postgres.port, self._traps))
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
        database = self._put_up(case.mode)
        try:
            return replace(Trial(self, case, database).result(), seconds=round(time.monotonic() - began, 2))
        finally:
            self._traps.put()
            self._sandbox.postgres.drop_database(database.name)

    def _put_up(self, mode: Mode) -> Database:
        """The target as it stands before, in a database of its own, and the config that names it."""
        postgres = self._sandbox.postgres
        if mode.name not in self._templates:
            self._templates[mode.name] = self._make_template(mode)
        database = Database(postgres, "faulted")
        postgres.drop_database(database.name)
        postgres.create_database(database.name, template=self._templates[mode.name])
        self.configure(mode, database.name)
        return database

    def _make_template(self, mode: Mode) -> str:
        postgres, name = self._sandbox.postgres, f"before_{mode.name}"
        postgres.create_database(name)
        target = Database(postgres, name)
        target.execute(modes.TARGET.format(mode.table))
        for statement in mode.before:
            target.execute(statement.format(mode.table))
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
        self._sandbox.snowflake.load_table(
            SOURCE_DATABASE, "PUBLIC", mode.table.upper(), modes.as_arrow(rows), types=modes.TYPES
        )

    def configure(self, mode: Mode, database: str) -> None:
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
            "postgres": {},
            "lambda_timeout_buffer_seconds": BUFFER_SECONDS,
            "parallel_threads": self._threads,
            "batch_size": self._rows_per_chunk,
            "sources": [source],
        }
        new = self._folder / "config.new"
        new.write_text(json.dumps(config), encoding="utf-8")
        new.replace(self._folder / "config.json")

    # --- starts ---

    def environment(self, store: str) -> dict[str, str]:
        """What the command and the function need to know; both servers are behind their proxies."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "SNOWMELT_CONFIG": str(self._folder / "config.json"),
            "SNOWMELT_STORE": store,
            **self._sandbox.environment(),
            "POSTGRES_PORT": str(self._postgres_proxy.port),
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
        """Both servers, without the proxies."""
        return self._sandbox

    @property
    def traps(self) -> Traps:
        """What both proxies ask."""
        return self._traps


def _insert(target: Database, table: str, rows: Sequence[Row]) -> None:
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(f"INSERT INTO {table} ({modes.COLUMNS}) VALUES (%s, %s, %s, %s)", row)  # noqa: S608


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
