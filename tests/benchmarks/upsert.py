"""What it costs to bring rows into a table that holds rows already, against two usual ways to do it."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from psycopg2 import sql as compose
from psycopg2.extras import execute_values

from benchmarks import status
from benchmarks.figures import Figure
from snowmelt.cli import console
from snowmelt.columns.batch_conversion import sent_schema
from snowmelt.engine import leases
from snowmelt.errors import DataError
from snowmelt.loading import targets
from snowmelt.loading.copy import copy_batches
from snowmelt.loading.load import load_chunk
from snowmelt.models import ColumnPlan, SourceColumn, TableName, TablePlan, TargetColumn, WatermarkPlan
from snowmelt.planning import one_scan
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import LocalPostgres, new_password

ROWS = 1_000_000
"""Rows that are there; a fifth as many come in."""
ROUNDS = 3
BATCH_ROWS = 50_000
PAGE_ROWS = 1_000
"""Rows per statement of execute_values: ten times its default."""
LEAST_TIMES = 3.0
MOST_WAL_BYTES = 1_000_000
DATABASE = "bench"

COLUMNS: Mapping[str, tuple[str, str]] = {
    "id": ("int8", "int64"),
    "customer": ("int8", "int64"),
    "token": ("text", "string"),
    "quantity": ("int4", "int32"),
    "price": ("numeric", "decimal128(12, 2)"),
    "state": ("text", "string"),
    "note": ("text", "string"),
    "is_paid": ("bool", "bool"),
    "created": ("timestamp", "timestamp[us]"),
    "changed": ("timestamp", "timestamp[us]"),
}
TABLE = """
CREATE TABLE original (
  id bigint PRIMARY KEY, customer bigint, token text, quantity integer, price numeric(12, 2), state text, note text,
  is_paid boolean, created timestamp, changed timestamp
)"""
_NUMERIC_12_2 = (12 << 16) + 2 + 4
_EPOCH = datetime(2026, 1, 1)  # noqa: DTZ001 - time stamps without a zone

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Incoming:
    """Rows that come in, in no order of the key: as the connector gives them, and as tuples."""

    case: str
    rows: Sequence[Row]
    batches: Sequence[pa.RecordBatch]


@dataclass(frozen=True)
class Cost:
    """What bringing them in took."""

    seconds: float
    wal_bytes: int


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield, for each kind of incoming rows, how many times faster the merge is, and what it writes to the log.

    Every way gets a copy of the table as new, and all ways take turns. For the merge the rows are Arrow batches, and
    its time holds all of a chunk's load: claim, staging, merge and mark. For execute_values they are tuples, made
    beforehand. The plain staging copies the same batches in the same way, and then upserts all of them.
    """
    there = rows or ROWS
    with LocalPostgres(password=new_password(), autovacuum=False, max_wal_size="8GB", shared_buffers="512MB") as server:
        server.create_database(DATABASE)
        with status.connect(server, DATABASE) as session:
            console.err.print(f"making a table of {there:,} rows")
            _make_original(session, there)
            cases = _cases(there)
            costs = _costs(session, cases)
    for incoming in cases:
        yield from _figures(incoming, {way: costs[incoming.case, way] for way in WAYS})


def _figures(incoming: Incoming, costs: Mapping[str, Sequence[Cost]]) -> Iterator[Figure]:
    seconds = {way: statistics.median(c.seconds for c in found) for way, found in costs.items()}
    wal_bytes = {way: statistics.median(c.wal_bytes for c in found) for way, found in costs.items()}
    case, merge_seconds = incoming.case, seconds["merge"]
    values, staging = seconds["execute_values"], seconds["plain_staging"]
    yield Figure(f"vs_execute_values_{case}", round(values / merge_seconds, 2), "times", at_least=LEAST_TIMES)
    yield Figure(f"vs_plain_staging_{case}", round(staging / merge_seconds, 2), "times")
    for way in WAYS:
        suffix = "" if way == "merge" else f"_{way}"
        limit = MOST_WAL_BYTES if (way, case) == ("merge", "unchanged") else None
        yield Figure(f"rows_per_second_{case}{suffix}", round(len(incoming.rows) / seconds[way]), "rows/s")
        yield Figure(f"wal_bytes_{case}{suffix}", wal_bytes[way], "bytes", at_most=limit)


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(number: int, version: int) -> Row:
    return (
        number,
        number * 7919 % 100_003,
        f"{number * 2_654_435_761 % 2**32:08x}-{number:012x}",
        number % 40 + version,
        Decimal(number * 31 % 1_000_000) / 100,
        ("open", "packed", "sent", "returned")[(number + version) % 4],
        None if number % 10 == 0 else f"left with neighbour {number % 500}",
        number % 3 == 0,
        _EPOCH + timedelta(seconds=number),
        _EPOCH + timedelta(seconds=number, days=version),
    )


def _cases(there: int) -> tuple[Incoming, ...]:
    count = there // 5
    known = range(0, there, 5)
    return (
        _incoming("new", [_row(there + i, 0) for i in range(count)]),
        _incoming("unchanged", [_row(i, 0) for i in known]),
        _incoming("changed_10pct", [_row(i, 1 if i % 50 == 0 else 0) for i in known]),
        _incoming("changed", [_row(i, 1) for i in known]),
    )


def _incoming(case: str, rows: list[Row]) -> Incoming:
    random.Random(7).shuffle(rows)
    return Incoming(case, rows, _batches(rows))


def _batches(rows: Sequence[Row]) -> list[pa.RecordBatch]:
    schema = sent_schema(PLAN.columns)
    parts = (rows[at : at + BATCH_ROWS] for at in range(0, len(rows), BATCH_ROWS))
    return [
        pa.record_batch(
            [pa.array(values, field.type) for values, field in zip(zip(*part, strict=True), schema, strict=True)],
            schema=schema,
        )
        for part in parts
    ]


def _make_original(session: Session, there: int) -> None:
    session.run(compose.SQL(TABLE))
    original = TableName(schema_name="public", name="original")
    with session.transaction() as cursor:
        for at in range(0, there, BATCH_ROWS):
            rows = [_row(i, 0) for i in range(at, min(at + BATCH_ROWS, there))]
            copy_batches(cursor, original, PLAN.columns, _batches(rows))


def _renew_target(session: Session) -> None:
    """The table as it was; nothing is left for the server to write or to tidy up in the middle of a measurement."""
    for statement in (
        "DROP TABLE IF EXISTS target",
        "CREATE TABLE target (LIKE original INCLUDING ALL)",
        "INSERT INTO target SELECT * FROM original",
        "VACUUM (ANALYZE) target",
        "CHECKPOINT",
    ):
        session.run(compose.SQL(statement))


# --- ways -------------------------------------------------------------------------------------------------------------


def _merge(session: Session, incoming: Incoming, run_id: str) -> None:
    lease = leases.claim(session, run_id=run_id, table_id=PLAN.table_id, chunk_id=1, seconds=600)
    if lease is None:
        raise DataError("the chunk of the bench cannot be claimed; look at the status schema")
    load_chunk(session, lease, PLAN, incoming.batches, check=lambda: None)


def _execute_values(session: Session, incoming: Incoming, run_id: str) -> None:
    statement = f"INSERT INTO target ({', '.join(COLUMNS)}) VALUES %s {ON_CONFLICT}"
    with session.transaction() as cursor:
        execute_values(cursor, statement, incoming.rows, page_size=PAGE_ROWS)


def _plain_staging(session: Session, incoming: Incoming, run_id: str) -> None:
    staging = TableName(schema_name="pg_temp", name="plain_staging")
    columns = ", ".join(COLUMNS)
    session.run(compose.SQL("CREATE TEMP TABLE IF NOT EXISTS plain_staging (LIKE original) ON COMMIT DELETE ROWS"))
    with session.transaction() as cursor:
        copy_batches(cursor, staging, PLAN.columns, incoming.batches)
        cursor.execute(f"INSERT INTO target ({columns}) SELECT {columns} FROM plain_staging {ON_CONFLICT}")


Way = Callable[[Session, Incoming, str], None]
WAYS: Mapping[str, Way] = {"merge": _merge, "execute_values": _execute_values, "plain_staging": _plain_staging}
ON_CONFLICT = "ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in COLUMNS if c != "id")


def _costs(session: Session, cases: Sequence[Incoming]) -> Mapping[tuple[str, str], Sequence[Cost]]:
    """What each way costs in each case, once per round; the ways take turns."""
    costs: dict[tuple[str, str], list[Cost]] = {(i.case, way): [] for i in cases for way in WAYS}
    for turn in range(ROUNDS):
        for incoming in cases:
            results = set()
            for way, bring_in in WAYS.items():
                _renew_target(session)
                run_id = f"{incoming.case}-{way}-{turn}"
                _start_run(session, run_id, len(incoming.rows))
                cost = _cost(session, partial(bring_in, session, incoming, run_id))
                costs[incoming.case, way].append(cost)
                results.add(_content(session))
                console.err.print(f"{incoming.case}, {way}: {cost.seconds:.2f} s, {cost.wal_bytes:,} bytes of WAL")
            if len(results) > 1:
                raise DataError(f"{incoming.case}: the ways do not leave the same rows, so their figures say nothing")
    return costs


def _start_run(session: Session, run_id: str, count: int) -> None:
    status.open_scanned_run(session, run_id, PLAN)
    chunks = tuple(one_scan.plan(status.QUERY_ID, [count], count))
    ready = targets.Ready(PLAN, status.QUERY_ID, count, chunks)
    targets.start_loading(session, run_id, [ready], allow_shrink=False)


def _cost(session: Session, bring_in: Callable[[], None]) -> Cost:
    position = compose.SQL("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS bytes")
    before, began = session.rows(position)[0]["bytes"], time.perf_counter()
    bring_in()
    seconds = time.perf_counter() - began
    return Cost(seconds, int(session.rows(position)[0]["bytes"] - before))


def _content(session: Session) -> str:
    query = compose.SQL("SELECT count(*) || ' ' || sum(hashtextextended(t::text, 0)) AS content FROM target t")
    return str(session.rows(query)[0]["content"])


PLAN = TablePlan(
    table_id=0,
    source="ORDERS",
    target=TableName(schema_name="public", name="target"),
    columns=tuple(
        ColumnPlan(
            source=SourceColumn(name=name.upper(), type="TEXT"),
            target=TargetColumn(name=name, type=kind, typmod=_NUMERIC_12_2 if kind == "numeric" else -1),
            select=f'"{name.upper()}"',
            wire=wire,
        )
        for name, (kind, wire) in COLUMNS.items()
    ),
    reads_from="ORDERS",
    load_mode="upsert",
    key=("id",),
    watermark=WatermarkPlan(source="CHANGED", target="changed", kind="timestamp", low=None, high=None, null_rows=0),
    truncate_onstart=False,
    append=False,
    batch_size=500_000,
    max_retry_attempts=1,
)
