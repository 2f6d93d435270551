"""Peak memory of a worker, and whether it grows with the table."""

import time
from collections.abc import Iterator
from pathlib import Path

from snowmelt import console
from snowmelt.errors import DataError
from snowmelt.local.aws import LocalAws
from snowmelt.local.bench import mixed_table
from snowmelt.local.bench.figures import Figure
from snowmelt.local.sandbox import Sandbox, started

ROWS = 2_000_000
MOST_MB = 300.0
MOST_GROWTH = 1.10
MOST_SECONDS = 900.0


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield the peak while a table is loaded by one process, and how it compares with that of a quarter of the table.

    The process is the function's own, under the real Lambda runtime, driven by the real state machine: it validates,
    plans, loads every chunk and finalizes. Its peak is what the kernel says (VmHWM), the interpreter included.
    """
    large_rows = rows or ROWS
    small_rows = large_rows // 4
    with started() as sandbox:
        mixed_table.make_target(sandbox)
        small = _peak_mb(sandbox, definition, small_rows)
        yield Figure(f"peak_rss_mb_{small_rows}_rows", round(small, 1), "MB")
        large = _peak_mb(sandbox, definition, large_rows)
        yield Figure("peak_rss_mb", round(large, 1), "MB", at_most=MOST_MB)
        yield Figure("growth_over_table", round(large / small, 3), "ratio", at_most=MOST_GROWTH)


def _peak_mb(sandbox: Sandbox, definition: Path, rows: int) -> float:
    console.err.print(f"making a table of {rows:,} rows and 25 columns in Snowflake")
    mixed_table.make_source(sandbox, rows)
    console.err.print("loading it by one worker")
    environment = {"SNOWMELT_CONFIG": str(mixed_table.config_path()), **sandbox.environment()}
    with LocalAws({**environment, "SNOWMELT_STORE": "s3://snowmelt/store"}, definition, concurrency=1) as aws:
        began = time.monotonic()
        _run(aws)
        console.err.print(f"{rows:,} rows in {time.monotonic() - began:.1f} s")
        peaks = aws.functions.statistics().peak_rss_bytes
    loaded = mixed_table.target_rows(sandbox)
    if loaded != rows:
        raise DataError(f"the bench loaded {loaded} rows of {rows}, so its figures say nothing; run snowmelt status")
    if len(peaks) != 1:
        raise DataError(f"the bench took {len(peaks)} processes where one was to do it all; look at the function's log")
    return max(peaks.values()) / 2**20


def _run(aws: LocalAws) -> None:
    event = {"source_name": mixed_table.SOURCE_NAME, "no_resume": True}
    ended = aws.step_functions.run(event, timeout_seconds=MOST_SECONDS)
    if ended.status != "SUCCEEDED":
        raise DataError(f"the execution {ended.status}: {ended.error}: {ended.cause}")
