"""Peak memory of a worker, and whether it grows with the table or with the chunk."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import large_batches, mixed_table
from benchmarks.figures import Figure
from snowmelt.cli import console
from snowmelt.errors import DataError
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.aws.stack import HANDLER
from snowmelt_sandbox.sandbox import Sandbox, started

ROWS = 4_000_000
"""Of the largest table; a sixteenth of it still has several result batches of full size."""
TABLE_GROWTH = (1, 4, 16)
CHUNK_GROWTH = 8
CHUNKS = 4
"""Chunks of the smallest table."""
THREADS = 4
MOST_MB = 256.0
MOST_GROWTH = 1.10
MOST_SECONDS = 900.0
FUNCTION_MB = 3008
"""More than anything here takes: a process is to be measured, and not to be ended."""
LARGE_BATCHES = f"{large_batches.__name__}.handler"


@dataclass(frozen=True)
class Case:
    """A table, and how a worker is to load it."""

    rows: int
    chunk_rows: int
    threads: int = 1
    handler: str = HANDLER


@dataclass(frozen=True)
class Peaks:
    """Megabytes at most, case by case."""

    by_table: tuple[float, ...]
    """As ``TABLE_GROWTH`` has them, in chunks of one size."""
    large_chunk: float
    """Of the second of these tables."""
    threads: float
    large_batches: float


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield the peak of one process that loads tables of 1, 4 and 16 times the size, in chunks of 1 and 8 times.

    The process is the function's own, under the real Lambda runtime, driven by the real state machine: it validates,
    plans, loads every chunk and finalizes. Its peak is what the kernel says (VmHWM), the interpreter included. It has
    one thread and result batches of 16 MB, unless a figure says otherwise.
    """
    small_rows = max(1, (rows or ROWS) // TABLE_GROWTH[-1])
    chunk_rows = -(-small_rows // CHUNKS)
    small, middle, large = (Case(small_rows * growth, chunk_rows) for growth in TABLE_GROWTH)
    with started() as sandbox, tempfile.TemporaryDirectory() as folder:
        mixed_table.make_target(sandbox)
        bench = _Bench(sandbox, Path(folder), definition)
        small_mb = bench.peak_mb(small)
        middle_mb = bench.peak_mb(middle)
        large_chunk_mb = bench.peak_mb(Case(middle.rows, chunk_rows * CHUNK_GROWTH))
        threads_mb = bench.peak_mb(Case(middle.rows, chunk_rows, threads=THREADS))
        large_batches_mb = bench.peak_mb(Case(middle.rows, chunk_rows, handler=LARGE_BATCHES))
        large_mb = bench.peak_mb(large)
    yield from _figures(Peaks((small_mb, middle_mb, large_mb), large_chunk_mb, threads_mb, large_batches_mb))


def _figures(peaks: Peaks) -> Iterator[Figure]:
    for growth, peak in zip(TABLE_GROWTH, peaks.by_table, strict=True):
        yield Figure(f"peak_rss_mb_table_{growth}_times", round(peak, 1), "MB")
    yield Figure(f"peak_rss_mb_chunk_{CHUNK_GROWTH}_times", round(peaks.large_chunk, 1), "MB")
    yield Figure("peak_rss_mb", round(max(*peaks.by_table, peaks.large_chunk), 1), "MB", at_most=MOST_MB)
    over_table = max(peaks.by_table) / peaks.by_table[0]
    yield Figure("growth_over_table", round(over_table, 3), "ratio", at_most=MOST_GROWTH)
    over_chunk = peaks.large_chunk / peaks.by_table[1]
    yield Figure("growth_over_chunk", round(over_chunk, 3), "ratio", at_most=MOST_GROWTH)
    yield Figure(f"peak_rss_mb_{THREADS}_threads", round(peaks.threads, 1), "MB")
    yield Figure(f"peak_rss_mb_{large_batches.BATCH_MB}_mb_batches", round(peaks.large_batches, 1), "MB")


class _Bench:
    """Loads one case after the other, each by a new process of the function."""

    def __init__(self, sandbox: Sandbox, folder: Path, definition: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._definition = definition
        self._rows_there = 0

    def peak_mb(self, case: Case) -> float:
        """The process's peak; DataError unless one process brought in every row."""
        if case.rows != self._rows_there:
            console.err.print(f"making a table of {case.rows:,} rows and 25 columns in Snowflake")
            mixed_table.make_source(self._sandbox, case.rows)
            self._rows_there = case.rows
        config = mixed_table.write_config(self._folder, batch_size=case.chunk_rows, threads=case.threads)
        environment = {
            "SNOWMELT_CONFIG": str(config),
            "SNOWMELT_STORE": "s3://snowmelt/store",
            **self._sandbox.environment(),
        }
        with LocalAws(environment, self._definition, handler=case.handler, concurrency=1, memory_mb=FUNCTION_MB) as aws:
            began = time.monotonic()
            _run(aws)
            seconds = time.monotonic() - began
            peaks = aws.functions.statistics().peak_rss_bytes
        loaded = mixed_table.target_rows(self._sandbox)
        if loaded != case.rows:
            raise DataError(f"the bench loaded {loaded} rows of {case.rows}, so its figures say nothing")
        if len(peaks) != 1:
            raise DataError(f"the bench took {len(peaks)} processes where one was to do it all; look at its log")
        peak_mb = max(peaks.values()) / 2**20
        console.err.print(f"{self._described(case)}: {peak_mb:.1f} MB at most, {seconds:.1f} s")
        return peak_mb

    def _described(self, case: Case) -> str:
        """The sizes that count, as the run had them."""
        query = (
            "SELECT t.query_id, count(*), max(c.actual_rows) FROM migration_status.run_tables t"
            " JOIN migration_status.chunks c USING (run_id, table_id)"
            " WHERE run_id = (SELECT run_id FROM migration_status.runs ORDER BY started_at DESC LIMIT 1)"
            " GROUP BY t.query_id"
        )
        ((query_id, chunks, chunk_rows),) = self._sandbox.postgres.rows(query, database=mixed_table.DATABASE)
        with SnowflakeSource(self._sandbox.snowflake.connect(database="BENCH", schema="PUBLIC")) as source:
            batch_rows = max(source.open_result(query_id).row_counts)
        return (
            f"{case.rows:,} rows in {chunks} chunks of at most {chunk_rows:,}, result batches of at most "
            f"{batch_rows:,}, {case.threads} threads"
        )


def _run(aws: LocalAws) -> None:
    event = {"source_name": mixed_table.SOURCE_NAME, "no_resume": True}
    ended = aws.step_functions.run(event, timeout_seconds=MOST_SECONDS)
    if ended.status != "SUCCEEDED":
        raise DataError(f"the execution {ended.status}: {ended.error}: {ended.cause}")
