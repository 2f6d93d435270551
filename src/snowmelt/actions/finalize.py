"""Close the tables that are in, and give the verdict."""

import logging
from collections.abc import Mapping, Sequence

from snowmelt import manifest_store
from snowmelt.deadline import Deadline
from snowmelt.errors import DataError, SnowmeltError
from snowmelt.models import FinalizeEvent, FinalizeResult
from snowmelt.postgres import status_store, tables
from snowmelt.postgres.session import Session
from snowmelt.postgres.status_store import ChunkTally, TableRow
from snowmelt.wiring import RunResources, Wiring

logger = logging.getLogger(__name__)

BUSY_WAIT_SECONDS = 5
MOST_REASONS = 5


def finalize(event: FinalizeEvent, wiring: Wiring, deadline: Deadline) -> FinalizeResult:
    """The verdict of the run, or ``more`` when time ran out before the last table was closed.

    A table is completed only when its chunks' rows add up to the rows of its scan. Called again after the verdict,
    it says the same.
    """
    run = wiring.open_run(event.run_id)
    deadline = run.within_buffer(deadline)
    with run.target() as session, status_store.only_planner(session, event.run_id) as alone:
        row = status_store.drive(session, event.run_id, run.driver(event.execution_id))
        if not alone:
            return _more("another planner is at work", BUSY_WAIT_SECONDS)
        if row.status == "running":
            if not _close_tables(run, session, deadline):
                return _more("tables are left to close", 1)
            status_store.finish_run(session, event.run_id, _verdict(run, session))
        return _result(run, session)


def _more(message: str, wait_seconds: int) -> FinalizeResult:
    return FinalizeResult(next="more", status="running", message=message, wait_seconds=wait_seconds)


def _close_tables(run: RunResources, session: Session, deadline: Deadline) -> bool:
    """Complete or fail every table that is still open; False when time ran out first."""
    tallies = status_store.chunk_tallies(session, run.run_id)
    for table in status_store.read_tables(session, run.run_id):
        if table.status not in ("loading", "finalizing", "pending", "scanning"):
            continue
        if not deadline.allows(0):
            return False
        _close(run, session, table, tallies.get(table.table_id, ChunkTally()))
    return True


def _close(run: RunResources, session: Session, table: TableRow, tally: ChunkTally) -> None:
    closed = table.status == "finalizing" or status_store.start_finalizing(session, run.run_id, table.table_id)
    error: SnowmeltError | None = None
    if not closed:
        error = DataError(
            f"table {table.source_table}: {tally.failed} of {tally.failed + tally.completed + tally.pending} chunks "
            "could not be loaded"
        )
    elif tally.rows_loaded != table.source_rows:
        error = DataError(
            f"table {table.source_table}: {tally.rows_loaded} rows were loaded where the scan has {table.source_rows}; "
            "start again with no_resume"
        )
    if error is not None:
        status_store.fail_table(session, run.run_id, table.table_id, error)
        return
    tables.analyze(session, table.target)
    status_store.complete_table(session, run.run_id, run.plan.source_name, run.table(table.table_id))
    logger.info("table completed", extra={"table": table.source_table, "rows": tally.rows_loaded})


def _verdict(run: RunResources, session: Session) -> SnowmeltError | None:
    rows = status_store.read_tables(session, run.run_id)
    bad = [t for t in rows if t.status != "completed"]
    if not bad:
        return None
    reasons = [*(t.error_text or f"table {t.source_table} is {t.status}" for t in bad)][:MOST_REASONS]
    reasons += status_store.first_chunk_errors(session, run.run_id)
    return DataError(
        f"run {run.run_id} failed: {len(bad)} of {len(rows)} tables are not complete: {'; '.join(reasons)}; "
        "mend the cause and start again: the run resumes"
    )


def _result(run: RunResources, session: Session) -> FinalizeResult:
    row = status_store.read_run(session, run.run_id)
    progress = status_store.progress(session, run.run_id)
    report = manifest_store.save_report(run.store, run.run_id, _report(row.__dict__, progress))
    loaded = sum(t["rows_loaded"] for t in progress)
    message = row.error_text or f"run {run.run_id} completed: {len(progress)} tables, {loaded} rows"
    logger.info("run ended", extra={"status": row.status, "rows": loaded})
    return FinalizeResult(
        next="done",
        status="completed" if row.status == "completed" else "failed",
        # The cause of a failed execution may be 32 kB; a readable one is shorter.
        message=message[:4000],
        report=report,
    )


def _report(run: Mapping[str, object], progress: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {**run, "tables": [dict(t) for t in progress]}
