"""Make targets ready for their first row: emptied or proven empty, in the transaction that lets workers in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from snowmelt.engine import status_store, target_identity
from snowmelt.errors import TargetNotEmptyError, TruncationRefusedError
from snowmelt.loading import indexes
from snowmelt.models import ChunkRead, TablePlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import Cursor, Row, Session, code_of_targets, fetch, fetch_one
from snowmelt.sql_text import queries
from snowmelt.wording import WITH_ALLOW_SHRINK, WITH_NO_RESUME


@dataclass(frozen=True)
class Ready:
    """A table whose rows are known and cut: what was read to know them, how many they are, and their chunks."""

    plan: TablePlan
    query_id: str
    source_rows: int
    chunks: Sequence[ChunkRead]
    began_at: datetime | None = None
    """When the statement began, on Snowflake's clock, where Snowflake tells it exactly."""


def start_loading(session: Session, run_id: str, ready: Sequence[Ready], *, allow_shrink: bool) -> bool:
    """Make the targets ready and the chunks claimable, in one transaction; False when another planner was first.

    Tables that foreign keys tie come together. What is to be truncated is truncated here, in one statement, once per
    run and epoch. DataError when that would lose most of a table without consent, or when a target that must be
    empty is not.
    """
    with session.transaction() as cursor:
        rows = [_locked(cursor, run_id, table) for table in ready]
        epochs = {r["table_id"]: r for r in rows if r is not None}
        if len(epochs) < len(ready):
            return False
        for table in ready:
            _set_indexes_aside(cursor, run_id, table.plan)
        for table in ready:  # last, as an index that a key refers to stays
            indexes.save_and_drop_keys(cursor, run_id, table.plan.table_id, table.plan.target, table.plan.dropped_keys)
        _truncate(cursor, run_id, [t for t in ready if t.plan.truncate_onstart], epochs, allow_shrink=allow_shrink)
        for table in ready:
            _refuse_filled(cursor, table)
            status_store.insert_chunks(cursor, run_id, table.plan, table.chunks)
            key = {"run_id": run_id, "table_id": table.plan.table_id}
            fetch(cursor, queries.query("start_loading"), **key, source_rows=table.source_rows, began_at=table.began_at)
            target_identity.remember(cursor, run_id, table.plan)
    return True


def _set_indexes_aside(cursor: Cursor, run_id: str, plan: TablePlan) -> None:
    """Drop indexes for the load, if it asks for that; and take over what an earlier load left unbuilt in any case."""
    if plan.disable_index:
        indexes.save_and_drop(cursor, run_id, plan.table_id, plan.target, [plan.key] if plan.key else [])
    else:
        indexes.adopt(cursor, run_id, plan.table_id, plan.target)


def _locked(cursor: Cursor, run_id: str, table: Ready) -> Row | None:
    return fetch_one(
        cursor,
        queries.query("lock_scanned_table"),
        run_id=run_id,
        table_id=table.plan.table_id,
        query_id=table.query_id,
    )


def _truncate(
    cursor: Cursor, run_id: str, ready: Sequence[Ready], epochs: dict[int, Row], *, allow_shrink: bool
) -> None:
    for table in ready:
        if not allow_shrink and epochs[table.plan.table_id]["truncated_at"] is None:
            _refuse_shrinking(cursor, table)
    due = [
        t.plan.target
        for t in ready
        if fetch_one(
            cursor,
            queries.query("record_truncate"),
            run_id=run_id,
            table_id=t.plan.table_id,
            load_epoch=epochs[t.plan.table_id]["load_epoch"],
        )
    ]
    if due:
        with code_of_targets(cursor, ready[0].plan.code_path):
            tables.truncate(cursor, due)


def _refuse_shrinking(cursor: Cursor, table: Ready) -> None:
    plan, rows = table.plan, table.source_rows
    if plan.allow_shrink_to == 0:
        return
    most = int(rows / plan.allow_shrink_to)
    if tables.has_more_rows_than(cursor, plan.target, most):
        share = (
            f"{rows} divided by the rows of the target, or less"
            if rows
            else "0 (an empty source passes with no other share)"
        )
        raise TruncationRefusedError(
            f"table {plan.source}: the source has {rows} rows and the target {plan.target} more than {most}; emptying "
            "it would lose data, and nothing was touched; look at the source and its source_filter: once the source is "
            f"right, start again and a new run begins; if the loss is meant, start {WITH_ALLOW_SHRINK}, or set "
            f"allow_shrink_to to {share}, and start {WITH_NO_RESUME}"
        )


def _refuse_filled(cursor: Cursor, table: Ready) -> None:
    plan = table.plan
    must_be_empty = plan.load_mode == "copy" and not plan.truncate_onstart and not plan.append
    if must_be_empty and tables.is_filled(cursor, plan.target):
        raise TargetNotEmptyError(
            f"table {plan.source}: the target {plan.target} was empty when the run began and now holds rows; "
            "find out who wrote them, or set truncate_onstart or append"
        )
