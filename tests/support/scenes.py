"""Runs written straight into a status schema, so that those who watch can be shown any state, however large."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2 import sql

from snowmelt.monitoring.dashboard import server
from snowmelt.monitoring.reconnecting import Lookout
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.plain_install import PYTHONPATH
from snowmelt_sandbox.postgres import Database

SOURCE = "warehouse"

_RUN = """
INSERT INTO migration_status.runs
    (run_id, source_name, config_hash, status, snapshot_at, started_at, completed_at, rounds, snowmelt_version,
     plan_format, store, error_code, error_text)
VALUES (%(run_id)s, %(source)s, 'h', %(status)s, now(), now() - %(age)s * interval '1 second',
        CASE WHEN %(status)s <> 'running' THEN now() - %(age)s * interval '0.2 second' END, 2, 'test', 1, 'store',
        CASE WHEN %(status)s = 'failed' THEN 'AccessError' END,
        CASE WHEN %(status)s = 'failed' THEN 'PostgreSQL refuses the sign-in; fix it' END)
"""
_DRIVER = """
INSERT INTO migration_status.run_executions (run_id, execution_id, started_at, renewed_at, expires_at)
VALUES (%(run_id)s, 'arn:aws:states:eu-central-1:1:execution:snowmelt:nightly', now() - %(age)s * interval '1 second',
        now(), now() + interval '15 minutes')
"""
_TABLES = """
INSERT INTO migration_status.run_tables
    (run_id, table_id, source_table, target_schema, target_table, status, strategy, source_rows, started_at,
     completed_at)
SELECT %(run_id)s, n, names[1 + n %% array_length(names, 1)] || CASE WHEN n < array_length(names, 1) THEN ''
           ELSE '_' || n END, 'public', %(run_id)s || '_' || n, s.status, 'one_scan',
       CASE WHEN s.status NOT IN ('pending', 'scanning') THEN %(chunks)s * 50000 END,
       CASE WHEN s.status <> 'pending' THEN now() - %(age)s * interval '0.95 second' END,
       CASE WHEN s.status = 'completed'
            THEN now() - %(age)s * (1 - (n + 1.0) / (%(completed)s + 1)) * interval '0.9 second' END
FROM (SELECT %(names)s::text[] AS names) given, generate_series(0, %(tables)s - 1) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n < %(completed)s THEN 'completed'
                                WHEN n < %(completed)s + %(loading)s THEN 'loading'
                                WHEN n = %(completed)s + %(loading)s THEN 'scanning' ELSE 'pending' END AS status) s
"""
_CHUNKS = """
INSERT INTO migration_status.chunks
    (run_id, table_id, chunk_id, source_table, status, reads, estimated_rows, actual_rows, load_mode, inserted_rows,
     updated_rows, unchanged_rows, deduplicated_rows, size_bytes, rejected_rows, attempts, started_at, completed_at,
     error_code, error_text)
SELECT t.run_id, t.table_id, c, t.source_table, s.status, '{}', 50000,
       CASE WHEN s.status = 'completed' THEN 50000 END, 'copy',
       CASE WHEN s.status = 'completed' THEN 50000 END, 0, 0, 0, 50000 * 180,
       CASE WHEN s.status = 'completed' AND (t.table_id * 31 + c) %% 401 = 7 THEN 3 ELSE 0 END,
       CASE WHEN s.status = 'pending' THEN 0 ELSE 1 END,
       CASE WHEN s.status = 'completed' THEN m.at - m.took * interval '1 second' END,
       CASE WHEN s.status = 'completed' THEN m.at END,
       CASE WHEN s.retry THEN 'TransientError' WHEN s.status = 'failed' THEN 'RejectedRowsError' END,
       CASE WHEN s.retry THEN 'Snowflake: the connection was lost: timed out'
            WHEN s.status = 'failed' THEN 'public.x: value too long for type character varying(8)' END
FROM migration_status.run_tables t
CROSS JOIN generate_series(0, %(chunks)s - 1) AS c
CROSS JOIN LATERAL (SELECT t.status = 'completed' OR c < %(chunks)s * 0.6 AS done) d
CROSS JOIN LATERAL (SELECT CASE WHEN d.done THEN 'completed'
                                WHEN t.table_id %% 5 = 4 AND c = %(chunks)s - 1 THEN 'failed'
                                ELSE 'pending' END AS status,
                           NOT d.done AND c %% 17 = 3 AS retry) s
CROSS JOIN LATERAL (SELECT 0.4 + 6 * abs(sin(t.table_id + c / 9.0)) + CASE WHEN c %% 53 = 11 THEN 60 ELSE 0 END AS took,
                           coalesce(t.completed_at, now()) - ((%(chunks)s - c) / %(chunks)s::float8)
                               * %(age)s * interval '0.3 second' AS at) m
WHERE t.run_id = %(run_id)s AND t.status IN ('completed', 'loading')
"""
_CLAIM = """
UPDATE migration_status.chunks c
SET status = 'running', attempts = 1, lease_token = gen_random_uuid(), lease_until = now() + interval '14 minutes',
    backend_pid = a.pid, backend_start = a.backend_start, started_at = now() - random() * interval '9 second'
FROM pg_stat_activity a
WHERE a.pid = pg_backend_pid() AND (c.run_id, c.table_id, c.chunk_id) = (
    SELECT run_id, table_id, chunk_id FROM migration_status.chunks
    WHERE run_id = %(run_id)s AND status = 'pending' AND error_code IS NULL ORDER BY chunk_id, table_id LIMIT 1)
"""
_REJECTS = """
INSERT INTO migration_status.rejected_rows
    (run_id, table_id, chunk_id, row_number, column_name, sqlstate, reason, row_content)
SELECT run_id, table_id, chunk_id, n, 'note', '22001', 'value too long for type character varying(8)', ''
FROM migration_status.chunks CROSS JOIN generate_series(1, 3) n
WHERE run_id = %(run_id)s AND rejected_rows > 0
"""

NAMES = (
    "ORDERS",
    "ORDER_LINES",
    "CUSTOMERS",
    "INVOICES",
    "PAYMENTS",
    "SHIPMENTS",
    "STOCK",
    "SUPPLIERS",
    "EVENTS",
    "VISITS",
)


@dataclass(frozen=True)
class Stage:
    """A database with a status schema, and a config that finds it."""

    database: Database
    config: Path
    environment: dict[str, str]

    def lookout(self) -> Lookout:
        """Someone who watches the one source."""
        wiring = Wiring(Settings(config=str(self.config)), self.environment)
        config = wiring.config()
        return Lookout(wiring, config, config.source(None))

    @contextmanager
    def run(
        self,
        run_id: str,
        *,
        tables: int = 5,
        completed: int = 2,
        loading: int = 2,
        chunks: int = 20,
        workers: int = 3,
        names: Sequence[str] = NAMES,
        age_seconds: float = 600.0,
        status: str = "running",
    ) -> Iterator[None]:
        """A run of so many tables and so many chunks in each that is counted; its workers live as long as the block."""
        values = {
            "run_id": run_id, "source": SOURCE, "status": status, "age": age_seconds, "tables": tables,
            "completed": completed, "loading": loading, "chunks": chunks, "names": list(names),
        }  # fmt: skip
        with ExitStack() as stack:
            connection = self.database.connect()
            with connection, connection.cursor() as cursor:
                for statement in (_RUN, _DRIVER, _TABLES, _CHUNKS, _REJECTS):
                    cursor.execute(statement, values)
            connection.close()
            self.database.execute("ANALYZE migration_status.chunks")
            for _ in range(workers):
                worker = self.database.connect(application_name=f"snowmelt worker {run_id}")
                stack.callback(worker.close)
                with worker, worker.cursor() as cursor:
                    cursor.execute(_CLAIM, values)
            yield

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Nobody gets into the database while the block lasts, and whoever was in it is out."""
        switch = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        name = sql.Identifier(self.database.name)
        self.database.server.execute(switch.format(name, sql.SQL("false")))
        self.dismiss()
        try:
            yield
        finally:
            self.database.server.execute(switch.format(name, sql.SQL("true")))

    def dismiss(self) -> None:
        """End every session that watches, as a restart of the server does."""
        self.database.server.rows(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'snowmelt watch'"
            " AND datname = %s",
            [self.database.name],
        )

    def complete(self, run_id: str, table_id: int, chunk_id: int) -> None:
        """One chunk more is in."""
        self.database.execute(
            "UPDATE migration_status.chunks SET status = 'completed', actual_rows = 50000,"
            " started_at = now() - interval '2 seconds', completed_at = clock_timestamp(), error_code = NULL,"
            f" error_text = NULL WHERE run_id = '{run_id}' AND table_id = {table_id} AND chunk_id = {chunk_id}"
        )


def stage(database: Database, folder: Path) -> Stage:
    """A config in the folder that finds the database, which has a status schema."""
    source = {
        "source_name": SOURCE,
        "source_sf_database": "SHOP",
        "source_sf_schema": "PUBLIC",
        "target_pg_database": database.name,
        "target_pg_schema": "public",
        "tables": [{"source": "ORDERS"}],
    }
    config = folder / "config.json"
    snowflake = {"account": "a", "user": "u", "password": "p"}
    config.write_text(json.dumps({"snowflake": snowflake, "postgres": {}, "sources": [source]}), encoding="utf-8")
    return Stage(database, config, database.server.environment())


# --- the commands that watch -----------------------------------------------------------------------------------------


def command(stage: Stage, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """``snowmelt ARGUMENTS`` with the stage's config, as a process of its own; ``options`` are those of Popen."""
    here = {"PATH": os.defpath, "HOME": str(stage.config.parent), "PYTHONPATH": PYTHONPATH, "TERM": "xterm"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "snowmelt.cli", *arguments, "--config", str(stage.config)],
        env={**here, **stage.environment},
        text=True,
        **{**pipes, **options},
    )


@dataclass(frozen=True)
class Served:
    """A dashboard at work."""

    url: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.split("/")[2].split(":")[1])

    @property
    def token(self) -> str:
        """What its URL holds."""
        return self.url.split("/")[3]


@contextmanager
def dashboard(stage: Stage) -> Iterator[Served]:
    """The dashboard's own server in a thread, ended with the block."""
    with stage.lookout() as lookout, server.listen(0) as listening:
        serving, url = server.prepare(lookout, listening)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(url)
        finally:
            serving.should_exit = True
            thread.join(timeout=120)
