"""Load one chunk: its rows and the mark that they are in, in one transaction."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pyarrow as pa

from snowmelt.columns.type_pairs import postgres_type
from snowmelt.engine import leases
from snowmelt.engine.leases import Lease, Loaded
from snowmelt.errors import (
    AmbiguousKeyError,
    DataError,
    RowCountError,
    SnowmeltError,
    TargetChangedError,
    TargetRefusedError,
)
from snowmelt.loading import merge, repeats, staging
from snowmelt.loading.copy import copy_batches
from snowmelt.models import TablePlan, TargetColumn
from snowmelt.postgres import tables
from snowmelt.postgres.session import Cursor, Session, code_of_targets
from snowmelt.sql_text import queries
from snowmelt.wording import WITH_NO_RESUME

Batches = Iterable[pa.RecordBatch]


def load_chunk(
    session: Session, lease: Lease, plan: TablePlan, batches: Batches, *, check: Callable[[], None]
) -> Loaded:
    """Bring the rows in as the plan says and mark the chunk completed; either both are committed or neither is.

    ``check`` is called on the way and may raise to end the attempt. FencedError when the lease is no longer valid;
    DuplicateKeyError when COPY meets a key that is there already; RejectedRowsError when rows are to be rejected.
    """
    batches = repeats.without_numbers(plan, batches)
    if plan.load_mode == "copy":
        return _copy(session, lease, plan, batches, check)
    return _merge(session, lease, plan, batches, check)


def merges_duplicates(plan: TablePlan) -> bool:
    """Whether a chunk that COPY refuses for a duplicate is to be merged; else its rows are loaded one by one."""
    return bool(plan.key) and plan.on_duplicate_keys != "reject"


def merging_duplicates(plan: TablePlan) -> TablePlan:
    """The plan that loads a chunk which COPY refused for a duplicate: of rows with the same key the newest counts.

    What COPY loads into was empty when the run began, so every key that is met again is twice in the source; that is
    an error where the newest is not to be taken.
    """
    return plan.model_copy(update={"load_mode": "upsert", "one_row_per_key": True})


def refuse_met_again(lease: Lease, plan: TablePlan, loaded: Loaded) -> None:
    """DataError when a key that the source should hold once was met again, and the newest row is not to be taken."""
    again = loaded.updated + loaded.unchanged + loaded.kept_newer
    if again and plan.one_row_per_key and not plan.takes_newest:
        raise AmbiguousKeyError(
            f"table {plan.source}, {lease}: {again} rows have a key ({', '.join(plan.key)}) that the source holds "
            f"more than once{merge.why_not_newest(plan)}"
        )


def counting_given_way(plan: TablePlan, loaded: Loaded) -> Loaded:
    """Return the counts of a chunk with rows of a key that was met again among those that gave way to another.

    Only where the target was empty when the run began: there, whatever a merge finds has come from the same source.
    """
    if not plan.one_row_per_key:
        return loaded
    given_way = loaded.deduplicated + loaded.updated + loaded.unchanged + loaded.kept_newer
    return replace(loaded, updated=0, unchanged=0, kept_newer=0, deduplicated=given_way)


def refuse_changed_target(session: Session, plan: TablePlan) -> str | None:
    """What the target's columns are, for leases to be bound to; DataError when they are no longer those of the plan.

    Binary COPY believes what it is told: after an ALTER TABLE it could store other values without a word.
    """
    names = [column.target.name for column in plan.columns]
    key = {"schema_name": plan.target.schema_name, "table_name": plan.target.name}
    as_they_are = session.row(queries.query("columns_as_they_are"), **key, columns=names)
    found = tables.read(session, [plan.target]).get(plan.target)
    if found is None:
        raise TargetChangedError(
            f"table {plan.source}: the target {plan.target} is gone since the run was planned; restore it with the "
            f"rows that it had and start again, or create it and start {WITH_NO_RESUME}"
        )
    now = {c.name: c for c in found.columns}
    for column in plan.columns:
        there = now.get(column.target.name)
        if there is None or (there.type, there.typmod) != (column.target.type, column.target.typmod):
            raise TargetChangedError(
                f"table {plan.source}: column {column.target.name} of the target {plan.target} "
                f"{'is gone' if there is None else 'has another type'} since the run was planned"
                f"{_instead(there, column.target)}; undo the change and start again, or start {WITH_NO_RESUME}"
            )
    return as_they_are["target_columns"] if as_they_are else None


def cause_of(session: Session, plans: Iterable[TablePlan], error: SnowmeltError) -> SnowmeltError:
    """What became of a target under the statement that failed with the error, where that is why; else the error.

    The server's own text only says that some relation or column does not exist, or names an object's number.
    """
    if not isinstance(error, (TargetChangedError, TargetRefusedError)) and type(error) is not DataError:
        return error
    try:
        for plan in plans:
            refuse_changed_target(session, plan)
    except TargetChangedError as change:
        return change
    return error


def _instead(there: TargetColumn | None, planned: TargetColumn) -> str:
    return f" ({postgres_type(there)}, it was {postgres_type(planned)})" if there else ""


def _copy(session: Session, lease: Lease, plan: TablePlan, batches: Batches, check: Callable[[], None]) -> Loaded:
    into = staging.name(plan) if plan.is_cast else plan.target
    if plan.is_cast:
        staging.create(session, plan)
    with session.transaction() as cursor:
        with code_of_targets(cursor, plan.code_path):
            copied = copy_batches(cursor, into, plan.columns, batches, check=check)
            refuse_other_count(lease, plan, copied.rows)
            if plan.is_cast:
                with staging.naming_rows(cursor, plan):
                    staging.insert_all(cursor, plan, copied.rows, where=f"table {plan.source}, {lease}")
        loaded = Loaded(copied.rows, copied.size_bytes, "copy", inserted=copied.rows, changes=copied.changes)
        leases.complete(cursor, lease, loaded)
    return loaded


def _merge(session: Session, lease: Lease, plan: TablePlan, batches: Batches, check: Callable[[], None]) -> Loaded:
    staging.create(session, plan)
    with session.transaction() as cursor:
        with code_of_targets(cursor, plan.code_path):
            loaded = _merge_in(cursor, lease, plan, batches, check)
        refuse_met_again(lease, plan, loaded)
        leases.complete(cursor, lease, counting_given_way(plan, loaded))
    return loaded


def _merge_in(cursor: Cursor, lease: Lease, plan: TablePlan, batches: Batches, check: Callable[[], None]) -> Loaded:
    copied = copy_batches(cursor, staging.name(plan), plan.columns, batches, check=check)
    refuse_other_count(lease, plan, copied.rows)
    with staging.naming_rows(cursor, plan):
        merged = merge.merge(cursor, plan, rows=copied.rows)
    return Loaded(
        rows=copied.rows,
        size_bytes=copied.size_bytes,
        load_mode=plan.load_mode,
        inserted=merged.inserted,
        updated=merged.updated,
        unchanged=merged.unchanged,
        deduplicated=merged.deduplicated,
        kept_newer=merged.kept_newer,
        changes=copied.changes,
    )


def refuse_other_count(lease: Lease, plan: TablePlan, rows: int) -> None:
    """RowCountError when a frozen source gave other than the planned number of rows."""
    if plan.is_frozen and rows != lease.reads.rows:
        raise RowCountError(
            f"table {plan.source}, {lease}: {rows} rows were read where {lease.reads.rows} were planned; "
            "nothing of it was kept; start again: a new run begins"
        )
