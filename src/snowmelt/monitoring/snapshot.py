"""A run at one moment, as those who watch it see it: speeds, time left, a cell per chunk; all of it pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from snowmelt.models import Value
from snowmelt.monitoring.health import Pulse
from snowmelt.monitoring.speeds import loading_seconds, rows_per_second
from snowmelt.wording import counted, omissions

RECENT_SECONDS = 300.0
"""How far back a speed looks that foretells the rest: a few chunks of each worker, and no longer ago."""
STEPS = 120
"""Points of the line of speeds."""
MOST_CELLS = 4000
"""Of one table; where it has more chunks, a cell stands for several."""

_MOST_TELLING = "xjlre543210p"
"""Letters of the status schema's cells; where several chunks share one, the first of these that is among them."""


class Speed(Value):
    """Rows per second over time, in steps of even length from ``begin`` on."""

    begin: datetime
    step_seconds: float
    rows_per_second: tuple[float, ...]


class TableOverview(Value):
    """How far a table is, and how fast. ``source_rows`` is None until its rows are counted."""

    table_id: int
    table: str
    target: str
    status: str
    strategy: str
    source_rows: int | None
    rows: int
    rejected: int
    size_bytes: int
    chunks: int
    completed: int
    running: int
    failed: int
    seconds: float | None
    rows_per_second: float | None
    """Of the last minutes while it loads; afterwards of the time from the first claim of a chunk to the last mark."""
    seconds_left: float | None
    indexes_to_build: int
    """Dropped for the load, and still to be built."""
    cells: str
    """A letter for each chunk in their order, or for each ``chunks_per_cell``; ``snapshot.sql`` says which."""
    chunks_per_cell: int
    error: str | None
    verdict: Literal["equal", "different", "not comparable"] | None = None
    """What its verification found; None before one has ended."""
    omitted: str = ""
    """Source columns that are not loaded, and what pairs of types lose, in one clause."""

    @property
    def share(self) -> float:
        """How much of it is in, from 0 to 1."""
        if self.status == "completed":
            return 1.0
        if self.source_rows is None:
            return 0.0
        return min(1.0, (self.rows + self.rejected) / self.source_rows) if self.source_rows else 1.0


class WorkerOverview(Value):
    """Who loads what, since when, and what its session in PostgreSQL does at the moment."""

    table_id: int
    table: str
    chunk_id: int
    attempt: int
    estimated_rows: int
    seconds: float
    lease_seconds_left: float | None
    backend_pid: int | None
    address: str | None
    is_alive: bool
    does: str


class RunSummary(Value):
    """A run among others."""

    run_id: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    seconds: float
    tables: int
    tables_completed: int


class RunOverview(Value):
    """A run at one moment."""

    run_id: str
    source_name: str
    status: str
    verdict: str
    pulse: Pulse | None
    """None once the run is over."""
    seen_at: datetime
    started_at: datetime
    completed_at: datetime | None
    seconds: float
    rounds: int
    driver: str | None
    share: float
    """How much of it is in, from 0 to 1: by rows where all are counted, else by tables."""
    rows: int
    source_rows: int
    tables_uncounted: int
    """Tables whose rows are not in ``source_rows``, for nobody has counted them yet."""
    rejected: int
    size_bytes: int
    rows_per_second: float | None
    """Of the last minutes while the run is on; afterwards of the time in which rows were loaded."""
    seconds_left: float | None
    """Of the rows that are counted; the others come on top."""
    speed: Speed
    tables: tuple[TableOverview, ...]
    workers: tuple[WorkerOverview, ...]
    workers_total: int


# --- when to look from ------------------------------------------------------------------------------------------------


def recent_since(run: Mapping[str, Any]) -> datetime:
    """From when on rows count as recent: some minutes back, but not before the run was last taken up."""
    back: datetime = run["seen_at"] - timedelta(seconds=RECENT_SECONDS)
    taken_up: datetime = run["driven_since"]
    return max(taken_up, back)


def span(run: Mapping[str, Any]) -> tuple[datetime, float]:
    """Begin and length of a step of the line of speeds: from when the run was last taken up to its end, or now."""
    begin: datetime = run["driven_since"]
    end = max(begin, run["completed_at"] or run["seen_at"])
    return begin, max(1.0, (end - begin).total_seconds() / STEPS)


# --- what is seen -----------------------------------------------------------------------------------------------------


def shape(
    run: Mapping[str, Any],
    *,
    tables: Sequence[Mapping[str, Any]],
    flows: Iterable[Mapping[str, Any]],
    workers: Sequence[Mapping[str, Any]],
    pulse: Pulse | None,
) -> RunOverview:
    """The run as one value, from the rows of ``snapshot.sql``."""
    recent_seconds = (run["seen_at"] - recent_since(run)).total_seconds()
    is_on = run["status"] == "running"
    seen = tuple(_table(row, recent_seconds=recent_seconds if is_on else 0.0) for row in tables)
    uncounted = sum(t.source_rows is None and t.status not in ("failed", "abandoned") for t in seen)
    begin, step_seconds = span(run)
    rows = sum(t.rows for t in seen)
    loading = loading_seconds((row["first_claimed_at"], row["last_loaded_at"]) for row in tables)
    recent_rows = sum(row["recent_rows"] for row in tables)
    rate = rows_per_second(recent_rows, recent_seconds) if is_on else rows_per_second(rows, loading)
    ahead = sum(_rows_ahead(t) for t in seen)
    return RunOverview(
        **{k: run[k] for k in ("run_id", "source_name", "status", "seen_at", "started_at", "completed_at", "seconds")},
        rounds=run["rounds"],
        driver=run["driver"],
        verdict=verdict(run, seen),
        pulse=pulse,
        share=_share(run["status"], seen, uncounted=uncounted),
        rows=rows,
        source_rows=sum(t.source_rows or 0 for t in seen),
        tables_uncounted=uncounted,
        rejected=sum(t.rejected for t in seen),
        size_bytes=sum(t.size_bytes for t in seen),
        rows_per_second=rate,
        seconds_left=seconds_left(ahead, rate) if is_on else None,
        speed=Speed(
            begin=begin,
            step_seconds=step_seconds,
            rows_per_second=spread(flows, steps=_steps(run, begin, step_seconds), step_seconds=step_seconds),
        ),
        tables=seen,
        workers=tuple(_worker(row) for row in workers),
        workers_total=workers[0]["workers"] if workers else 0,
    )


def summary(row: Mapping[str, Any]) -> RunSummary:
    """A run among others, from a row of ``overview_runs``."""
    return RunSummary.model_validate(row)


def verdict(run: Mapping[str, Any], tables: Sequence[TableOverview]) -> str:
    """What has become of the run, in a sentence."""
    done = sum(t.status == "completed" for t in tables)
    rows = f"{sum(t.rows for t in tables):,} rows"
    of_tables = f"{done} of {len(tables)} table{'s' * (len(tables) != 1)}"
    rejected = sum(t.rejected for t in tables)
    unknown = [t.table for t in tables if t.verdict == "not comparable"]
    not_compared = f"; not comparable: {', '.join(unknown)}" if unknown else ""
    not_compared += omissions([(t.table, t.omitted) for t in tables])
    match run["status"]:
        case "completed":
            return f"Completed: {of_tables}, {rows}{not_compared}."
        case "completed_with_rejects":
            return f"Completed: {of_tables}, {rows}; {counted(rejected, 'row')} were rejected{not_compared}."
        case "failed":
            return f"Failed: {run['error_text'] or run['error_code'] or 'no reason is known'}"
        case "abandoned":
            return f"Closed before its end: {run['error_text'] or 'another run took its place'}"
        case _:
            return f"Under way: {of_tables} done, {rows} so far."


def seconds_left(rows_ahead: int, rows_per_second: float | None) -> float | None:
    """How long the rest takes at that speed; None when nothing moves, or nothing is known."""
    if rows_ahead <= 0:
        return 0.0
    return rows_ahead / rows_per_second if rows_per_second else None


def spread(flows: Iterable[Mapping[str, Any]], *, steps: int, step_seconds: float) -> tuple[float, ...]:
    """Rows per second in each step: the rows of a chunk are spread evenly over the steps in which it was loaded.

    No row is lost: those of the first and last step of a chunk count half of what a whole one counts.
    """
    rows = [0.0] * steps
    for flow in flows:
        first, last = (min(steps - 1, max(0, flow[name])) for name in ("began", "ended"))
        if first >= last:
            rows[last] += flow["rows"]
            continue
        share = flow["rows"] / (last - first)
        rows[first] += share / 2
        rows[last] += share / 2
        for step in range(first + 1, last):
            rows[step] += share
    return tuple(round(count / step_seconds, 1) for count in rows)


def binned(cells: str, *, most: int = MOST_CELLS) -> tuple[str, int]:
    """The cells, at most so many, and how many chunks each stands for: by the most telling of them."""
    per_cell = -(-len(cells) // most) or 1
    if per_cell == 1:
        return cells, 1
    parts = (cells[start : start + per_cell] for start in range(0, len(cells), per_cell))
    return "".join(next(letter for letter in _MOST_TELLING if letter in part) for part in parts), per_cell


def doing(*, is_alive: bool, state: str | None, wait_type: str | None, wait: str | None) -> str:
    """What a worker's session does, in words."""
    if not is_alive:
        return "its session is gone; the next round frees the chunk"
    if state is None:
        return "at work; this role may not see on what"
    if wait_type == "Lock":
        return "waits for a lock"
    if wait_type == "Client" or state.startswith("idle"):
        return "waits for rows from Snowflake"
    return f"PostgreSQL stores rows ({wait})" if wait_type in ("IO", "LWLock") else "PostgreSQL stores rows"


def _table(row: Mapping[str, Any], *, recent_seconds: float) -> TableOverview:
    cells, per_cell = binned(row["cells"])
    loads = recent_seconds > 0 and row["status"] == "loading"
    rate = rows_per_second(row["recent_rows"], min(recent_seconds, row["seconds"] or recent_seconds)) if loads else None
    if not loads:
        rate = rows_per_second(row["rows"], loading_seconds([(row["first_claimed_at"], row["last_loaded_at"])]))
    copied = (
        "table_id", "status", "strategy", "source_rows", "rows", "rejected", "size_bytes", "chunks", "completed",
        "running", "failed", "seconds", "indexes_to_build",
    )  # fmt: skip
    seen = TableOverview(
        **{name: row[name] for name in copied},
        table=row["source_table"],
        target=f"{row['target_schema']}.{row['target_table']}",
        rows_per_second=rate,
        seconds_left=None,
        cells=cells,
        chunks_per_cell=per_cell,
        error=row["error_text"] or row["error_code"],
        verdict=row.get("verdict"),
        omitted=row.get("omitted") or "",
    )
    return seen.model_copy(update={"seconds_left": seconds_left(_rows_ahead(seen), rate)}) if loads else seen


def _worker(row: Mapping[str, Any]) -> WorkerOverview:
    copied = ("table_id", "chunk_id", "estimated_rows", "seconds", "lease_seconds_left", "backend_pid", "address")
    return WorkerOverview(
        **{name: row[name] for name in copied},
        table=row["source_table"],
        attempt=row["attempts"],
        is_alive=row["is_alive"],
        does=doing(
            is_alive=row["is_alive"], state=row["state"], wait_type=row["wait_event_type"], wait=row["wait_event"]
        ),
    )


def _rows_ahead(table: TableOverview) -> int:
    if table.source_rows is None or table.status in ("completed", "failed", "abandoned"):
        return 0
    return max(0, table.source_rows - table.rows - table.rejected)


def _share(status: str, tables: Sequence[TableOverview], *, uncounted: int) -> float:
    if status.startswith("completed") or not tables:
        return float(status.startswith("completed"))
    source_rows = sum(t.source_rows or 0 for t in tables)
    if uncounted or not source_rows:
        return sum(t.share for t in tables) / len(tables)
    return min(1.0, sum(t.rows + t.rejected for t in tables) / source_rows)


def _steps(run: Mapping[str, Any], begin: datetime, step_seconds: float) -> int:
    end = max(begin, run["completed_at"] or run["seen_at"])
    return max(1, min(STEPS, int((end - begin).total_seconds() / step_seconds)))
