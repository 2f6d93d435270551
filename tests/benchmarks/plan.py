"""What it costs to cut a big table into chunks, against a plain count of its rows by day."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import status
from benchmarks.figures import Figure
from snowmelt import manifest_store
from snowmelt.cli import console
from snowmelt.engine import status_store, work_items
from snowmelt.engine.work_items import PendingChunk
from snowmelt.errors import DataError
from snowmelt.loading import targets
from snowmelt.manifest_store import FolderStore
from snowmelt.models import ChunkRead, KeyColumn, KeyKind, KeyRange, KeySpec, TableName, TablePlan
from snowmelt.planning import composite, one_scan
from snowmelt.snowflake_source import ScanDone, SnowflakeSource
from snowmelt_sandbox.postgres import LocalPostgres, new_password
from snowmelt_sandbox.snowflake import LocalSnowflake

ROWS = 100_000_000
ROUNDS = 3
CHUNKS = 200
"""Chunks of the whole table, about: at 100 million rows ``batch_size`` is then its default, 500,000."""
WRITTEN_CHUNKS = 11_000
RESULT_BATCH_MB = 16
MOST_QUERIES = 2
MOST_RATIO = 1.5
MOST_WRITE_SECONDS = 3.0
MOST_OVER_BATCH_SIZE = 2.0

TABLE = '"BENCH"."PUBLIC"."EVENTS"'
CREATE = """
CREATE OR REPLACE TABLE "EVENTS" AS
SELECT n::NUMBER(18, 0) AS id, DATEADD('day', nth, '2026-01-01'::DATE)::DATE AS day,
       DATEADD('second', nth * 86400 + MOD(n, 86400), '2026-01-01'::TIMESTAMP_NTZ)::TIMESTAMP_NTZ AS created
FROM (SELECT n, IFF(n < {crowded}, 100, MOD(n, 198) + IFF(MOD(n, 198) < 100, 0, 1)) AS nth
      FROM (SELECT SEQ8() AS n FROM TABLE(GENERATOR(ROWCOUNT => {rows}))) AS numbers) AS days
"""
"""199 days, all alike but the hundredth, which has 12 of 100 rows."""


@dataclass(frozen=True)
class Strategy:
    """A way to cut the table by keys, and the plain count it is compared with."""

    name: str
    spec: KeySpec
    plain: str


@dataclass(frozen=True)
class Planned:
    """What cutting took and gave."""

    seconds: float
    queries: int
    chunks: Sequence[ChunkRead]


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield what planning costs by each strategy, and what writing 11,000 chunks does.

    A ratio is the median of all that planning does, queries, fetching their answers and cutting, over the median of
    the plain count; both take turns on the same data. For one_scan, whose statement reads the rows that are to be
    loaded anyway, it is what planning adds to that: opening the finished result, cutting it, keeping its row counts.
    """
    count = rows or ROWS
    batch_size = max(1, count // CHUNKS)
    with LocalSnowflake(memory_limit="6GB", time_travel=False) as server:
        server.create_schema("BENCH", "PUBLIC")
        with _source(server) as source:
            console.err.print(f"making a table of {count:,} rows in Snowflake")
            source.aggregate(CREATE.format(rows=count, crowded=count * 12 // 100))
            yield from _key_figures(source, count, batch_size)
            yield from _scan_figures(source, count, batch_size)
    seconds = statistics.median(_write_seconds() for _ in range(ROUNDS))
    yield Figure("write_11000_chunks_seconds", round(seconds, 2), "s", at_most=MOST_WRITE_SECONDS)


def _source(server: LocalSnowflake) -> SnowflakeSource:
    """A session that waits as long as it takes to make the table; its results come in batches as those of a run."""
    parameters = {"CLIENT_RESULT_CHUNK_SIZE": RESULT_BATCH_MB, "ABORT_DETACHED_QUERY": False}
    return SnowflakeSource(server.connect(database="BENCH", schema="PUBLIC", session_parameters=parameters))


# --- key ranges -------------------------------------------------------------------------------------------------------


def _strategies(batch_size: int) -> tuple[Strategy, ...]:
    by_day = "SELECT DATE_TRUNC('day', {}), COUNT(*) FROM {} GROUP BY 1"
    by_width = f"SELECT FLOOR(id / {batch_size:d}), COUNT(*) FROM {TABLE} GROUP BY 1"
    return (
        Strategy("timestamp", _spec(batch_size, CREATED="timestamp_ntz"), by_day.format("created", TABLE)),
        Strategy("integer", _spec(batch_size, ID="number"), by_width),
        Strategy("composite", _spec(batch_size, DAY="date", ID="number"), by_day.format("day", TABLE)),
    )


def _spec(batch_size: int, **columns: KeyKind) -> KeySpec:
    keys = tuple(KeyColumn(name=name, kind=kind) for name, kind in columns.items())
    return KeySpec(table=TABLE, columns=keys, batch_size=batch_size)


def _key_figures(source: SnowflakeSource, count: int, batch_size: int) -> Iterator[Figure]:
    queries, largest = 0, 0.0
    for strategy in _strategies(batch_size):
        ratio, planned = _compared(strategy.name, source, strategy.plain, partial(_planned, source, strategy.spec))
        yield Figure(f"ratio_{strategy.name}", round(ratio, 2), "times", at_most=MOST_RATIO)
        yield Figure(f"queries_{strategy.name}", planned.queries, "queries")
        yield from _sizes(strategy.name, planned.chunks, count)
        queries = max(queries, planned.queries)
        largest = max(largest, max(c.rows for c in planned.chunks) / batch_size)
    yield Figure("queries_max", queries, "queries", at_most=MOST_QUERIES)
    yield Figure("largest_chunk_over_batch_size", round(largest, 3), "times", at_most=MOST_OVER_BATCH_SIZE)


def _planned(source: SnowflakeSource, spec: KeySpec) -> Planned:
    began = time.perf_counter()
    histogram = composite.read_histogram(spec, source.aggregate(composite.first_query(spec)))
    second = composite.second_query(spec, histogram)
    pieces = composite.read_pieces(spec, source.aggregate(second)) if second else ()
    chunks = composite.plan(spec, histogram, pieces)
    return Planned(time.perf_counter() - began, 2 if second else 1, chunks)


def _compared(name: str, source: SnowflakeSource, plain: str, cut: Callable[[], Planned]) -> tuple[float, Planned]:
    """How many times as long as the plain count cutting takes, and what it gave the last time."""
    plain_seconds, cuts = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        source.aggregate(plain)
        plain_seconds.append(time.perf_counter() - began)
        cuts.append(cut())
    seconds, over = statistics.median(c.seconds for c in cuts), statistics.median(plain_seconds)
    console.err.print(f"{name}: planned in {seconds:.3f} s, plain count in {over:.3f} s")
    return seconds / over, cuts[-1]


def _sizes(name: str, chunks: Sequence[ChunkRead], count: int) -> Iterator[Figure]:
    """How many chunks there are and how far their sizes lie apart; DataError where rows are missing."""
    rows = sorted(chunk.rows for chunk in chunks)
    if sum(rows) != count:
        raise DataError(f"{name}: the chunks hold {sum(rows)} rows of {count}, so their figures say nothing")
    yield Figure(f"chunks_{name}", len(rows), "chunks")
    yield Figure(f"smallest_chunk_{name}", rows[0], "rows")
    yield Figure(f"median_chunk_{name}", rows[len(rows) // 2], "rows")
    yield Figure(f"largest_chunk_{name}", rows[-1], "rows")


# --- one scan ---------------------------------------------------------------------------------------------------------


def _scan_figures(source: SnowflakeSource, count: int, batch_size: int) -> Iterator[Figure]:
    console.err.print("scanning a column of the table")
    began = time.perf_counter()
    query_id = source.submit(f"SELECT id FROM {TABLE}")
    while not isinstance(source.scan_state(query_id), ScanDone):
        time.sleep(0.5)
    console.err.print(f"scanned in {time.perf_counter() - began:.1f} s")
    plain = _strategies(batch_size)[0].plain
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        ratio, planned = _compared("one_scan", source, plain, lambda: _cut_scan(source, store, query_id, batch_size))
    yield Figure("ratio_one_scan", round(ratio, 4), "times", at_most=MOST_RATIO)
    yield from _sizes("one_scan", planned.chunks, count)


def _cut_scan(source: SnowflakeSource, store: FolderStore, query_id: str, batch_size: int) -> Planned:
    began = time.perf_counter()
    state = source.scan_state(query_id)
    if not isinstance(state, ScanDone):
        raise DataError("the result of the scan is gone; look at the log of the stand-in")
    manifest_store.save_row_counts(store, "bench", query_id, state.row_counts)
    chunks = tuple(one_scan.plan(query_id, state.row_counts, batch_size))
    return Planned(time.perf_counter() - began, 0, chunks)


# --- writing it down --------------------------------------------------------------------------------------------------


def _write_seconds() -> float:
    """Seconds from chunks in memory to rows of the status schema, and on to a manifest of work items."""
    ranges = [
        KeyRange(start=(f"2026-01-01 {i:015}",), stop=(f"2026-01-01 {i + 1:015}",), rows=9_000)
        for i in range(WRITTEN_CHUNKS)
    ]
    with (
        LocalPostgres(password=new_password()) as server,
        tempfile.TemporaryDirectory() as folder,
        status.connect(server, "postgres") as session,
    ):
        server.execute("CREATE TABLE target (id bigint)")
        status.open_scanned_run(session, "bench", PLAN)
        began = time.perf_counter()
        ready = targets.Ready(PLAN, status.QUERY_ID, sum(r.rows for r in ranges), ranges)
        targets.start_loading(session, "bench", [ready], allow_shrink=False)
        pending = status_store.pending_chunks(session, "bench")
        found = [PendingChunk(c.table_id, c.source_table, c.chunk_id) for c in pending]
        items = tuple(work_items.plan(found, workers=100, slowest_seconds={}))
        manifest_store.save_manifest(FolderStore(Path(folder)), "bench", "000000", items)
        seconds = time.perf_counter() - began
    if sum(len(item.chunks) for item in items) != WRITTEN_CHUNKS:
        raise DataError(f"the manifest does not hold {WRITTEN_CHUNKS} chunks, so its figure says nothing")
    console.err.print(f"{WRITTEN_CHUNKS:,} chunks written in {seconds:.2f} s")
    return seconds


PLAN = TablePlan(
    table_id=0,
    source="EVENTS",
    target=TableName(schema_name="public", name="target"),
    columns=(),
    reads_from=TABLE,
    strategy="key_range",
    truncate_onstart=True,
    append=False,
    batch_size=9_000,
    max_retry_attempts=1,
)
