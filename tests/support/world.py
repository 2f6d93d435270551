"""A small world per test: some source tables, their empty targets, a config, and ways to move the one to the other."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
import pyarrow as pa
from psycopg2 import sql

from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.child_process import start_child
from snowmelt_sandbox.demo import content
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import LocalSnowflake
from support import left_behind
from support.forked import Command, Ended, Runtime

DEFINITION = Path(__file__).parents[2] / "statemachine" / "migration.asl.json"
SOURCE = "ledger"
"""The one source of the config."""
TYPES = {"ID": "NUMBER(18,0)", "AMOUNT": "NUMBER(12,2)", "NOTE": "VARCHAR", "BOOKED": "TIMESTAMP_NTZ(6)"}
TARGET = sql.SQL("CREATE TABLE {} (id bigint, amount numeric(12,2), note text, booked timestamp)")


@dataclass
class World:
    """Both servers with a database of this test's own on each side, and the config that joins them.

    Tables have the same name on both sides but for its case. The first rows of a result travel with the answer; after
    500 of those, result batches hold 1000, 2000, 4000 ... rows, and ``snowflake.set_delays`` slows each of them.
    """

    snowflake: LocalSnowflake
    target: Database
    folder: Path
    tables: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """What commands that ended have printed."""
    variables: dict[str, str] = field(default_factory=dict)
    """What the environment has beside, or instead of, what ``environment`` gives."""
    schema: str = "public"
    """Schema of the targets; those of ``add_table`` are made in it."""
    _commands: int = 0

    @property
    def source_database(self) -> str:
        """The database in Snowflake, and the name by which its statements are told from other tests'."""
        return self.target.name.upper()

    # --- data and config ---

    def add_table(self, name: str, rows: int, *, row_bytes: int = 50, **settings: Any) -> None:
        """A source table with generated rows and an empty target; ``settings`` are the config's for this table.

        The encoder sends nothing before it has a megabyte: where a COPY is to be seen at work, rows must be wide.
        """
        self.snowflake.load_table(
            self.source_database, "PUBLIC", name.upper(), _rows(rows, " " * row_bytes), types=TYPES
        )
        self.target.execute(TARGET.format(sql.Identifier(self.schema, name.lower())))
        self.tables.append({"source": name.upper(), **settings})

    def drop_rows_silently(self, name: str) -> None:
        """From now on the target takes rows and keeps none of them, without an error."""
        self.target.execute(
            sql.SQL(
                "CREATE FUNCTION keep_none() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
                "CREATE TRIGGER keep_none BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION keep_none()"
            ).format(sql.Identifier(name.lower()))
        )

    def configure(self, **settings: Any) -> Path:
        """Write the config; ``settings`` are its global ones. Workers then have two seconds to end in order."""
        source = {
            "source_name": SOURCE,
            "source_sf_database": self.source_database,
            "source_sf_schema": "PUBLIC",
            "target_pg_database": f'"{self.target.name}"',
            "target_pg_schema": self.schema,
            "tables": self.tables,
        }
        usual = {"snowflake": {}, "postgres": {}, "lambda_timeout_buffer_seconds": 2, "verification": "off"}
        config = {
            **usual,
            **settings,
            "sources": [source],
        }
        self.config.write_text(json.dumps(config), encoding="utf-8")
        return self.config

    @property
    def config(self) -> Path:
        """The config file."""
        return self.folder / "config.json"

    # --- ways to move ---

    def environment(self, store: str) -> dict[str, str]:
        """What the handler and the command line need to know; nothing of this machine's own environment."""
        return {
            "SNOWMELT_CONFIG": str(self.config),
            "SNOWMELT_STORE": store,
            **self.snowflake.environment(),
            "POSTGRES_PASSWORD": left_behind.POSTGRES_PASSWORD,  # unless the server asks for its own
            **self.target.server.environment(),
            **self.variables,
        }

    def aws(self, *, timeout_seconds: float = 60.0, concurrency: int = 4, **options: Any) -> LocalAws:
        """The deployment, with the definition that is shipped; not started yet. ``options`` are those of LocalAws."""
        return LocalAws(
            self.environment("s3://snowmelt/store"),
            DEFINITION,
            timeout_seconds=timeout_seconds,
            concurrency=concurrency,
            log_file=self.folder / "function.log",
            **{"start_process": Runtime, **options},
        )

    def start_deployment(self, storage_url: str) -> "subprocess.Popen[bytes]":
        """The deployment and one execution in a process of their own; it ends with a line of JSON on stdout."""
        program = Path(__file__).with_name("deployment.py")
        options = {
            "environment": self.environment("s3://snowmelt/store"),
            "definition": str(DEFINITION),
            "storage_url": storage_url,
            "log_file": str(self.folder / "function.log"),
        }
        return start_child(
            [sys.executable, str(program), json.dumps(options)],
            env=self._process_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def start_cli(self, *arguments: str) -> Command:
        """``snowmelt ARGUMENTS`` as a process of its own, its store in the test's folder."""
        self._commands += 1
        environment = self._process_environment()
        return Command(*arguments, environment=environment, printed=self.folder / f"command-{self._commands}")

    def cli(self, *arguments: str) -> Ended:
        """``snowmelt ARGUMENTS`` to its end, whatever its exit code."""
        done = self.start_cli(*arguments).wait()
        self.said += (done.out, done.err)
        return done

    def _process_environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": str(self.folder), **self.environment(str(self.folder / "store"))}

    # --- what became of it ---

    def leaks(self) -> list[str]:
        """Where a credential is that was signed in with: logs, plans, manifests, reports, status rows, output."""
        printed = ["what a command printed"] * any(left_behind.MARK in text for text in self.said)
        return [*left_behind.in_folder(self.folder), *printed, *left_behind.in_status(self.target)]

    def equal(self, name: str) -> bool:
        """Whether the target holds just the source's rows: both read whole, by other means than the migration's."""
        self.snowflake.set_delays()
        compared = content.compare(
            Sandbox(self.snowflake, self.target.server),
            table=name,
            source=(self.source_database, "PUBLIC", name.upper()),
            database=self.target.name,
            target=(self.schema, name.lower()),
        )
        return compared.verified and compared.source_rows > 0

    def runs(self) -> list[dict[str, Any]]:
        """Every run, oldest first."""
        return self.status("SELECT * FROM migration_status.runs ORDER BY started_at, run_id")

    def chunks(self, status: str | None = None) -> list[dict[str, Any]]:
        """Every chunk of every run, or those in that status, with the scan it reads."""
        chunks = self.status(
            "SELECT *, reads->>'query_id' AS query_id FROM migration_status.chunks ORDER BY run_id, table_id, chunk_id"
        )
        return [chunk for chunk in chunks if status in (None, chunk["status"])]

    def copying(self, table: str, chunk_id: int) -> bool:
        """Whether a worker is in the middle of that chunk's COPY: some of its rows are in, uncommitted."""
        found = self.status(
            "SELECT c.chunk_id FROM migration_status.chunks c"
            " JOIN pg_stat_progress_copy p ON p.pid = c.backend_pid"
            f" WHERE c.source_table = '{table.upper()}' AND c.chunk_id = {chunk_id} AND c.status = 'running'"
            " AND p.tuples_processed > 0"
        )
        return bool(found)

    def sessions(self) -> int:
        """Sessions of Snowmelt's in the target database, whoever's."""
        found = self.status(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'snowmelt%'"
        )
        return len(found)

    def status(self, query: str) -> list[dict[str, Any]]:
        """Rows of the status schema; none before it is installed."""
        with closing(self.target.connect()) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(query)
            except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
                return []
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def scans(self) -> list[str]:
        """The query id of every scan of this world's tables, oldest first."""
        log = self.snowflake.queries(containing=f'"{self.source_database}"."PUBLIC"')
        return [query["query_id"] for query in log if _SCAN.match(query["text"])]


_SCAN = re.compile(r'SELECT [^\n]+ AS "[^"\n]+"(,\n|\nFROM)')
"""How the statements begin whose result is loaded."""


def _rows(count: int, padding: str) -> pa.Table:
    """Rows that differ in every column, with NULL, empty and odd values among them."""
    notes = ("", None, "\\N", "NULL", "tab\tand\nline", "Größe ⛄", 'quoted "x", y')
    began = datetime(2024, 2, 29, 23, 59, 59, 999_999)  # noqa: DTZ001 - a TIMESTAMP_NTZ has no zone
    ids = range(count)
    return pa.table(
        {
            "ID": pa.array(ids, pa.int64()),
            "AMOUNT": pa.array(
                [None if i % 11 == 3 else Decimal(i * 37 - 999) / 100 for i in ids], pa.decimal128(12, 2)
            ),
            "NOTE": pa.array([f"entry {i}{padding}" if i % 5 else notes[i // 5 % len(notes)] for i in ids]),
            "BOOKED": pa.array(
                [None if i % 13 == 5 else began + timedelta(seconds=i) for i in ids], pa.timestamp("us")
            ),
        }
    )


def ended(process: "subprocess.Popen[bytes]", within_seconds: float = 120.0) -> Ended:
    """Wait for a process of this world's; one that takes too long is killed, and that is a failure."""
    with process:
        try:
            out, err = process.communicate(timeout=within_seconds)
        except BaseException:
            process.kill()
            raise
    return Ended(process.returncode, out.decode(), err.decode())


Seen = TypeVar("Seen")


def eventually(
    seen: Callable[[], Seen], *, what: str, within_seconds: float = 90.0, each_seconds: float = 0.05
) -> Seen:
    """The first true answer of ``seen``; an assertion error that says what was waited for when there is none."""
    until = time.monotonic() + within_seconds
    while not (answer := seen()):
        assert time.monotonic() < until, f"it took more than {within_seconds:g} s until {what}"
        time.sleep(each_seconds)
    return answer
