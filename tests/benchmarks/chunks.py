"""What a chunk costs beyond its rows, on a worker that is warm."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import driven, mixed_table
from benchmarks.figures import Figure
from snowmelt import actions
from snowmelt.cli import console
from snowmelt.deadline import Deadline
from snowmelt.errors import DataError
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.sandbox import Sandbox, started

ROWS = 100_000
CHUNKS = (1, 10, 100, 1000)
ROUNDS = 3
MOST_MS = 40.0
_INVOCATION_SECONDS = 900.0


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield how much longer the same rows take for each chunk more that they are cut into.

    An invocation without chunks comes first, so that the sessions are open; then one invocation loads all rows. All
    that a chunk takes is counted: its claim, reading its part of the result, COPY, the mark, two commits.
    """
    count = rows or ROWS
    console.set_up_logging("ERROR", as_json=False)  # the actions run in this process
    seconds: dict[int, list[float]] = {}
    with started() as sandbox, tempfile.TemporaryDirectory() as folder:
        mixed_table.make_target(sandbox)
        mixed_table.make_source(sandbox, count)
        _load(sandbox, Path(folder), count, rows_per_chunk=count)  # what is imported when it is needed is now there
        for _ in range(ROUNDS):
            for wanted in CHUNKS:
                chunks, spent = _load(sandbox, Path(folder), count, rows_per_chunk=-(-count // wanted))
                seconds.setdefault(chunks, []).append(spent)
                console.err.print(f"{count:,} rows in {chunks} chunks: {spent:.2f} s")
    yield from _figures(seconds)


def _figures(seconds: Mapping[int, Sequence[float]]) -> Iterator[Figure]:
    medians = {chunks: statistics.median(spent) for chunks, spent in sorted(seconds.items())}
    fewest, most = min(medians), max(medians)
    if most == fewest:
        raise DataError("the table was never cut into more chunks, so there is nothing to compare; give it more rows")
    slope = (medians[most] - medians[fewest]) / (most - fewest)
    yield Figure("overhead_ms_per_chunk", round(1000 * slope, 2), "ms", at_most=MOST_MS)
    for chunks, spent in medians.items():
        yield Figure(f"seconds_in_{chunks}_chunks", round(spent, 3), "s")


def _load(sandbox: Sandbox, folder: Path, count: int, *, rows_per_chunk: int) -> tuple[int, float]:
    """How many chunks the table was cut into, and what loading them took."""
    config = mixed_table.write_config(folder, batch_size=rows_per_chunk)
    wiring = Wiring(Settings(config=str(config), store=str(folder / "store")), sandbox.environment())
    invoke = partial(_invoke, wiring)
    run = driven.planned(invoke, wiring.store.at)
    run.warm_up(invoke)
    began = time.perf_counter()
    run.load(invoke, run.table.chunks)
    seconds = time.perf_counter() - began
    run.finish(invoke)
    loaded = mixed_table.target_rows(sandbox)
    if loaded != count:
        raise DataError(f"run {run.run_id} loaded {loaded} rows of {count}, so its figures say nothing")
    return len(run.table.chunks), seconds


def _invoke(wiring: Wiring, event: Mapping[str, Any]) -> dict[str, Any]:
    return actions.run(event, wiring, Deadline.after(_INVOCATION_SECONDS))
