"""How fast rows get from memory into PostgreSQL, against PostgreSQL's own client and what people write themselves."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
from psycopg2.extras import Json, execute_values

from benchmarks import mixed_table, psql
from benchmarks.figures import Figure
from snowmelt.cli import console
from snowmelt.columns.batch_conversion import cut_masks
from snowmelt.errors import DataError
from snowmelt.findings import Place
from snowmelt.loading.copy import copy_batches
from snowmelt.models import ColumnPlan, ScanSlice, TableName
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.preflight import schema_compare
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt_sandbox.postgres import LocalPostgres, new_password
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import LocalSnowflake

ROWS = 1_000_000
ROUNDS = 5
TUPLES = 20_000
"""Rows that execute_values is given, which is slow enough to tell by them."""
LEAST_VS_BINARY, LEAST_VS_TEXT = 1.0, 1.7
TARGET = TableName(schema_name="public", name="mixed")
SERVERS_PYTHON = "BENCH_SERVERS_PYTHON"
"""Variable with the interpreter that runs the stand-in for Snowflake, where this one has a connector that cannot."""
FORMATS = ("binary", "text", "csv")


@dataclass(frozen=True)
class Spent:
    """What bringing rows in took: by the clock, and of this process's processor."""

    seconds: float
    cpu_seconds: float


Way = Callable[[], int]
"""Brings rows into the empty table; returns how many."""


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield how many rows per second go from Arrow batches in memory into PostgreSQL, and how other ways compare.

    The others are ``\\copy`` of psql from files that the server wrote beforehand, and ``execute_values`` with tuples
    that are ready. All ways take turns on one empty table; each ends with its commit. A ratio is the median of those of
    the rounds.
    """
    count = rows or ROWS
    with (
        LocalSnowflake(python=os.environ.get(SERVERS_PYTHON, sys.executable)) as snowflake,
        # What the server does on its own time is kept out of what is measured.
        LocalPostgres(
            password=new_password(), autovacuum=False, max_wal_size="8GB", shared_buffers="512MB"
        ) as postgres,
        tempfile.TemporaryDirectory() as folder,
    ):
        sandbox = Sandbox(snowflake, postgres)
        mixed_table.make_target(sandbox)
        mixed_table.make_source(sandbox, count)
        with _target(sandbox) as session:
            columns, batches = _batches(sandbox, session, count)
            console.err.print(f"{count:,} rows of {len(columns)} columns are in memory")
            _ours(session, columns, batches)
            files = _written(sandbox.postgres, Path(folder))
            ways = _ways(sandbox.postgres, session, columns, batches, files)
            costs = _costs(sandbox, ways, count)
    yield from _figures(costs, count)


def _figures(costs: Mapping[str, Sequence[Spent]], count: int) -> Iterator[Figure]:
    limits = {"psql_binary": LEAST_VS_BINARY, "psql_text": LEAST_VS_TEXT}
    for way in ("psql_binary", "psql_text", "psql_csv", "execute_values"):
        rows = TUPLES if way == "execute_values" else count
        # Of each round on its own: what slows the machine down for a while slows all ways of a round.
        rounds = zip(costs[way], costs["ours"], strict=True)
        ratio = statistics.median(count / rows * other.seconds / ours.seconds for other, ours in rounds)
        yield Figure(f"vs_{way}", round(ratio, 2), "times", at_least=limits.get(way))
    yield Figure("rows_per_second", round(count / statistics.median(c.seconds for c in costs["ours"])), "rows/s")
    cpu_seconds = statistics.median(c.cpu_seconds for c in costs["ours"]) * 1_000_000 / count
    yield Figure("client_cpu_seconds_per_million_rows", round(cpu_seconds, 2), "s")


# --- rows -------------------------------------------------------------------------------------------------------------


def _target(sandbox: Sandbox) -> Session:
    server = sandbox.postgres
    config = mixed_table.postgres_config(server)
    return Session.connect(config, database=mixed_table.DATABASE, application_name="snowmelt bench")


def _batches(sandbox: Sandbox, session: Session, count: int) -> tuple[Sequence[ColumnPlan], Sequence[pa.RecordBatch]]:
    """The source's rows as a worker has them, and how its columns travel."""
    target = tables.read(session, [TARGET])[TARGET]
    with SnowflakeSource(sandbox.snowflake.connect(database="BENCH", schema="PUBLIC")) as source:
        described = source.describe_table("BENCH", "PUBLIC", "MIXED")
        compared = schema_compare.compare(Place("MIXED", TARGET), described, target.columns)
        if compared.problems:
            raise DataError("; ".join(compared.problems))
        selected = ", ".join([*(column.select for column in compared.columns), *cut_masks(compared.columns)])
        result = source.run(f"SELECT {selected} FROM MIXED")
        whole = ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=count)
        return compared.columns, list(result.read(whole))


def _written(server: LocalPostgres, folder: Path) -> Mapping[str, Path]:
    """The table's rows in a file of each format."""
    files = {form: folder / f"rows.{form}" for form in FORMATS}
    for form, file in files.items():
        psql.copy(server, f"\\copy mixed TO '{file}' (FORMAT {form})")
    return files


# --- ways -------------------------------------------------------------------------------------------------------------


def _ways(
    server: LocalPostgres,
    session: Session,
    columns: Sequence[ColumnPlan],
    batches: Sequence[pa.RecordBatch],
    files: Mapping[str, Path],
) -> Mapping[str, Way]:
    tuples = _tuples(server)

    def ready(form: str) -> Way:
        return lambda: psql.copy(server, f"\\copy mixed FROM '{files[form]}' (FORMAT {form})")

    return {
        "ours": lambda: _ours(session, columns, batches),
        **{f"psql_{form}": ready(form) for form in FORMATS},
        "execute_values": lambda: _execute_values(server, tuples),
    }


def _ours(session: Session, columns: Sequence[ColumnPlan], batches: Sequence[pa.RecordBatch]) -> int:
    with session.transaction() as cursor:
        return copy_batches(cursor, TARGET, columns, batches).rows


def _tuples(server: LocalPostgres) -> list[tuple[Any, ...]]:
    rows = server.rows("SELECT * FROM mixed LIMIT %s", [TUPLES], database=mixed_table.DATABASE)
    return [tuple(Json(value) if isinstance(value, dict) else value for value in row) for row in rows]


def _execute_values(server: LocalPostgres, tuples: Sequence[tuple[Any, ...]]) -> int:
    with psycopg2.connect(server.dsn(mixed_table.DATABASE)) as connection, connection.cursor() as cursor:
        execute_values(cursor, "INSERT INTO mixed VALUES %s", tuples, page_size=1000)
    connection.close()
    return len(tuples)


def _costs(sandbox: Sandbox, ways: Mapping[str, Way], count: int) -> Mapping[str, Sequence[Spent]]:
    costs: dict[str, list[Spent]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, bring_in in ways.items():
            wanted = TUPLES if way == "execute_values" else count
            sandbox.postgres.execute("TRUNCATE mixed", mixed_table.DATABASE)
            sandbox.postgres.execute("CHECKPOINT", mixed_table.DATABASE)
            began, cpu_began = time.perf_counter(), time.process_time()
            said = bring_in()
            spent = Spent(time.perf_counter() - began, time.process_time() - cpu_began)
            if not said == mixed_table.target_rows(sandbox) == min(wanted, count):
                raise DataError(f"{way} brought in other rows than it was given, so its figures say nothing")
            costs[way].append(spent)
            console.err.print(f"{way}: {spent.seconds:.2f} s")
    return costs
