"""Close the tables that are in, and give the verdict."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from snowmelt.deadline import Deadline
from snowmelt.engine import connection_count, leases, rounds, status_store, target_identity
from snowmelt.engine.status_store import ChunkTally, RunRow, TableRow
from snowmelt.errors import (
    DataError,
    IndexNotRestoredError,
    NotEqualError,
    OutOfTimeError,
    RejectedRowsError,
    RowCountError,
    RunFailedError,
    SnowmeltError,
    TableFailedError,
    TableSkippedError,
    TargetChangedError,
)
from snowmelt.loading import indexes, load, sequences
from snowmelt.models import FinalizeEvent, FinalizeResult, TablePlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import store
from snowmelt.rejected_rows.retention import remove_expired_rows
from snowmelt.verification import results
from snowmelt.verification.at_end import verify_at_end
from snowmelt.verification.verdicts import TableVerdict
from snowmelt.wiring import RunResources, Wiring
from snowmelt.wording import WITH_ACCEPT_REJECTED, counted, gave_way, omissions

logger = logging.getLogger(__name__)

BUSY_WAIT_SECONDS = 5
MOST_REASONS = 5
_LONGEST_REASON = 300
_MOST_NARROWED = 50
_REPLAY_SECONDS = 5.0
"""With less than this left, the refused rows of a chunk are not tried once more."""
_REPORT_SECONDS = 20.0
"""With less than this left after the verdict, another invocation makes the report."""
INDEX_WORKERS = 2
"""Builds at once; each takes ``INDEX_MEMORY`` and so many processes of the server."""
INDEX_MEMORY = "256MB"
INDEX_PARALLEL_WORKERS = 2


def finalize(event: FinalizeEvent, wiring: Wiring, deadline: Deadline) -> FinalizeResult:
    """The verdict of the run, or ``more`` when time ran out before the last table was closed.

    A table is completed only when its chunks' rows add up to the rows of its scan. Called again after the verdict,
    it says the same.
    """
    run = wiring.open_run(event.run_id)
    deadline = run.within_buffer(deadline)
    with run.target() as session, status_store.only_planner(session, event.run_id) as alone:
        row = run.drive(session, event.execution_id)
        if not alone:
            reason = status_store.planner_at_work(session, event.run_id)
            logger.warning(reason, extra={"run_id": event.run_id})
            return _more(reason, BUSY_WAIT_SECONDS)
        if row.status == "running":
            if not _close_tables(run, row, session, deadline):
                return _more("indexes or tables are left to finish", 10)
            status_store.finish_run(session, event.run_id, _verdict(run, session))
            remove_expired_rows(session, run.config, run.plan.source_name)
            leases.end_idle_workers(session, event.run_id)
            if not deadline.allows(_REPORT_SECONDS):
                return _more("the report is left to make", 1)
        return _result(run, session, deadline)


def _more(message: str, wait_seconds: int) -> FinalizeResult:
    return FinalizeResult(next="more", status="running", message=message, wait_seconds=wait_seconds)


def _close_tables(run: RunResources, row: RunRow, session: Session, deadline: Deadline) -> bool:
    """Complete or fail every table that is still open; False when time ran out first.

    First nothing may be loaded any more, then indexes are built, then what depends on the rows is brought up to date.
    """
    tallies = status_store.chunk_tallies(session, run.run_id)
    for table in status_store.read_tables(session, run.run_id):
        if table.status in ("loading", "pending", "scanning"):
            tally, hindrance = tallies.get(table.table_id, ChunkTally()), ""
            if tally.rejected and not row.accept_rejected:
                tally, hindrance = _tried_once_more(run, session, table, tally, deadline)
            _end_loading(run, session, table, tally, accept_rejected=row.accept_rejected, hindrance=hindrance)
    if not _restore_indexes(run, session, deadline):
        return False
    for table in status_store.read_tables(session, run.run_id):
        if table.status != "finalizing":
            continue
        if not deadline.allows(0):
            return False
        try:
            _complete(run, session, table, deadline)
        except OutOfTimeError:
            return False
        except DataError as error:  # such as a target that somebody has dropped: the other tables are completed
            status_store.fail_table(session, run.run_id, table.table_id, error)
    return True


def _tried_once_more(
    run: RunResources, session: Session, table: TableRow, tally: ChunkTally, deadline: Deadline
) -> tuple[ChunkTally, str]:
    """Bring in refused rows that find what they lacked: the row they refer to, or a target that was fixed since.

    The tally then, and what kept them from being tried, if anything did.
    """
    try:
        done = store.replay_table(
            session, run.run_id, run.table(table.table_id), has_time=lambda: deadline.allows(_REPLAY_SECONDS)
        )
    except SnowmeltError as error:
        logger.warning(
            "refused rows were not tried again", extra={"table": table.source_table, "reason": error.message}
        )
        return status_store.chunk_tallies(session, run.run_id).get(table.table_id, tally), error.message
    if done.replayed:
        logger.info(
            "refused rows are in", extra={"table": table.source_table, "rows": done.replayed, "left": done.refused}
        )
    return replace(tally, rejected=tally.rejected - done.replayed), ""


def _end_loading(
    run: RunResources, session: Session, table: TableRow, tally: ChunkTally, *, accept_rejected: bool, hindrance: str
) -> None:
    """Close the table for loading; it fails unless its chunks' rows are just those of its source.

    It also fails when more of them than allowed were refused.
    """
    if not status_store.start_finalizing(session, run.run_id, table.table_id):
        status_store.fail_table(session, run.run_id, table.table_id, _unfinished(table, tally))
    elif run.table(table.table_id).is_frozen and tally.rows_read != table.source_rows:
        text = (
            f"table {table.source_table}: {tally.rows_read} rows were read where the source has "
            f"{table.source_rows}; start again: a new run begins"
        )
        status_store.fail_table(session, run.run_id, table.table_id, RowCountError(text))
    elif tally.rejected > run.table(table.table_id).max_rejected_rows and not accept_rejected:
        error = _too_many_rejected(run, session, table, tally, hindrance)
        status_store.fail_table(session, run.run_id, table.table_id, error)


def _too_many_rejected(
    run: RunResources, session: Session, table: TableRow, tally: ChunkTally, hindrance: str
) -> RejectedRowsError:
    not_tried = f" (they could not be tried once more: {hindrance})" if hindrance else ""
    reasons = store.rejection_reasons(session, run.run_id, table.table_id)
    return RejectedRowsError(
        f"table {table.source_table}: {tally.rejected} of {tally.rows_read} rows are refused, more than "
        f"max_rejected_rows ({run.table(table.table_id).max_rejected_rows}); all others are in, and these are in "
        f"{session.status_schema}.rejected_rows: {'; '.join(reasons)}{not_tried}; change the target so that it takes "
        "them and start again: they are loaded, and nothing else is; or fix them in the source and start again: what "
        "the target still rejects is read by a new run; or, if they may be left in rejected_rows, start "
        f"{WITH_ACCEPT_REJECTED}"
    )


def _unfinished(table: TableRow, tally: ChunkTally) -> TableFailedError:
    chunks = tally.failed + tally.completed + tally.pending + tally.running
    if tally.pending and not tally.failed:
        return TableFailedError(
            f"table {table.source_table}: {tally.pending} of {chunks} chunks were never tried, as a table that it "
            "refers to is not complete"
        )
    return TableFailedError(f"table {table.source_table}: {tally.failed} of {chunks} chunks could not be loaded")


def _restore_indexes(run: RunResources, session: Session, deadline: Deadline) -> bool:
    """Put back what was dropped for the load, of failed tables too; False when builds are left."""
    if not indexes.missing(session, run.run_id):
        return True
    restored = indexes.restore(
        run.connect_target,
        run.run_id,
        workers=max(1, min(INDEX_WORKERS, connection_count.free(session))),
        deadline=deadline,
        maintenance_work_mem=INDEX_MEMORY,
        parallel_workers=INDEX_PARALLEL_WORKERS,
        code_path=run.plan.code_path,
        session=session,
    )
    logger.info(
        "indexes restored",
        extra={
            "built": len(restored.built),
            "building": len(restored.building),
            "remaining": len(restored.remaining),
            "failed": len(restored.failed),
        },
    )
    tables_by_name = {t.target: t for t in status_store.read_tables(session, run.run_id)}
    for index in restored.failed:
        table = tables_by_name[index.table]
        text = f"table {table.source_table}: all rows are in, but {index.problem}"
        status_store.fail_table(session, run.run_id, table.table_id, IndexNotRestoredError(text))
    return not restored.more


def _complete(run: RunResources, session: Session, table: TableRow, deadline: Deadline) -> None:
    """Bring up to date what depends on the rows, and complete the table unless it does not hold what was read for it.

    OutOfTimeError when another invocation must go on with that.
    """
    with session.transaction() as cursor:
        replaced = target_identity.problem(cursor, run.run_id, table.table_id)
    if replaced is not None:
        status_store.fail_table(session, run.run_id, table.table_id, replaced)
        return
    tables.analyze(session, table.target, run.plan.code_path)
    for moved in sequences.advance(session, table.target):
        logger.info(
            "sequence moved", extra={"table": table.source_table, "sequence": str(moved.sequence), "to": moved.value}
        )
    mode = run.config.verification_of(run.plan.source_name, table.source_table)
    if mode != "off":
        verdict = verify_at_end(run, table.table_id, mode, deadline)
        if verdict.differs:
            error = _why_different(session, run.table(table.table_id), verdict)
            status_store.fail_table(session, run.run_id, table.table_id, error)
            return
        if verdict.verdict == "not comparable":  # no wonder where the target is gone
            load.refuse_changed_target(session, run.table(table.table_id))
        logger.info(
            "table verified",
            extra={"table": table.source_table, "verdict": verdict.verdict, "reason": verdict.reason, "mode": mode},
        )
    status_store.complete_table(session, run.run_id, run.plan.source_name, run.table(table.table_id))
    logger.info("table completed", extra={"table": table.source_table, "rows": table.source_rows})


def _why_different(session: Session, plan: TablePlan, verdict: TableVerdict) -> SnowmeltError:
    """A column that was altered since the load is told from rows that differ."""
    try:
        load.refuse_changed_target(session, plan)
    except TargetChangedError as error:
        return error
    return NotEqualError(_difference(verdict))


def _difference(verdict: TableVerdict) -> str:
    differences = ((verdict.missing, "missing"), (verdict.extra, "too many"), (verdict.changed, "with other values"))
    found = ", ".join(f"{rows} {what}" for rows, what in differences if rows)
    return (
        f"table {verdict.table}: {verdict.target} does not hold the {verdict.source_rows} rows of {verdict.snapshot}: "
        f"of its {verdict.target_rows} rows {found}; `snowmelt verify --table {verdict.table}` shows them, --repair "
        "fixes them, and a start resumes; if something else is meant to write there, set verification to counts or off"
    )


def _verdict(run: RunResources, session: Session) -> SnowmeltError | None:
    rows = status_store.read_tables(session, run.run_id)
    bad = [t for t in rows if t.status != "completed"]
    if not bad:
        return None
    skipped = [_brief(t) for t in bad if t.error_code == TableSkippedError.__name__]
    rest = [t for t in bad if t.error_code != TableSkippedError.__name__]
    reasons = [*(t.error_text or f"table {t.source_table} is {t.status}" for t in rest)][:MOST_REASONS]
    reasons += [*status_store.first_chunk_errors(session, run.run_id), *skipped]
    text = f"run {run.run_id} failed: {len(bad)} of {len(rows)} tables are not complete: {'; '.join(reasons)}"
    if not rest:
        return TableSkippedError(f"{text}; everything else is loaded; fix that and start again: a new run begins")
    if all(t.error_code == RejectedRowsError.__name__ for t in bad):  # each says itself what to do
        return RejectedRowsError(text)
    return RunFailedError(rounds.with_advice(text))


def _brief(table: TableRow) -> str:
    """Return why a table is skipped, short enough to name every one; its own row says all of it."""
    text = table.error_text or ""
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _result(run: RunResources, session: Session, deadline: Deadline) -> FinalizeResult:
    from snowmelt.reports import (
        saved_report,  # here: no other action needs what makes pages, and a cold start would wait
    )

    row = status_store.read_run(session, run.run_id)
    progress = status_store.progress(session, run.run_id)
    verdicts = results.verdicts(session, run.run_id)
    saved = saved_report.save(run, session, deadline)
    loaded = sum(t["rows_loaded"] for t in progress)
    moved = f"{counted(len(progress), 'table')}, {counted(loaded, 'row')}"
    message = row.error_text or f"run {run.run_id} completed: {moved}"
    if row.status != "failed":
        message += _verified(verdicts) + omissions((t["source_table"], t["omitted"]) for t in progress)
    if row.status == "completed_with_rejects":
        rejected = sum(t["rejected_rows"] for t in progress)
        reasons = store.rejection_reasons(session, run.run_id)
        kept_in = f"{session.status_schema}.rejected_rows"
        message += f"; {counted(rejected, 'row')} were rejected, see {kept_in}: {'; '.join(reasons)}"
    message += _kept_newer(progress)
    message += "".join(
        f"; {gave_way(t['deduplicated_rows'])} ({t['source_table']})" for t in progress if t["deduplicated_rows"]
    )
    message += _changed_values(progress)
    logger.info("run ended", extra={"status": row.status, "rows": loaded})
    return FinalizeResult(
        next="done",
        status=_STATUSES.get(row.status, "failed"),
        # The cause of a failed execution may be 32 kB; a readable one is shorter.
        message=message[:4000],
        report=saved.json if saved else None,
        page=saved.page if saved else None,
    )


def _changed_values(progress: Sequence[Mapping[str, Any]]) -> str:
    """Say how many values arrived changed, and name each column that was narrowed."""
    of_columns = [(t["source_table"], *item) for t in progress for item in (t["changed_values"] or {}).items()]
    changed = sum(n for _, _, changes in of_columns for n in changes.values())
    narrowed = [f"{table}.{column} {c['narrow']:,}" for table, column, c in of_columns if c.get("narrow")]
    if not changed:
        return ""
    further = len(narrowed) - _MOST_NARROWED
    names = ", ".join([*narrowed[:_MOST_NARROWED], *([f"{further} more columns"] if further > 0 else [])])
    return (
        f"; {counted(changed, 'value was', 'values were')} changed on the way as was said beforehand, "
        f"{f'narrowed: {names}; ' if names else ''}see changed_values in the report"
    )


def _verified(verdicts: Sequence[Mapping[str, object]]) -> str:
    """How many tables were found equal, and of which nothing could be found."""
    if not verdicts:
        return ""
    unknown = [f"{v['source_table']} ({v['reason']})" for v in verdicts if v["verdict"] == "not comparable"]
    equal = f", {counted(len(verdicts) - len(unknown), 'table')} verified"
    return f"{equal}; not comparable: {', '.join(unknown[:MOST_REASONS])}" if unknown else equal


def _kept_newer(progress: Sequence[Mapping[str, int]]) -> str:
    """How many rows gave way to newer ones that the target has."""
    kept = sum(table["kept_newer_rows"] for table in progress)
    return f"; {counted(kept, 'row is', 'rows are')} not loaded, as the target has newer ones" if kept else ""


_STATUSES: Mapping[str, Literal["completed", "completed_with_rejects"]] = {
    "completed": "completed",
    "completed_with_rejects": "completed_with_rejects",
}
