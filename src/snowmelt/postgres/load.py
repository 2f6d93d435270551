"""Load one chunk: its rows and the mark that they are in, in one transaction."""

from collections.abc import Callable, Iterable

import pyarrow as pa

from snowmelt.errors import DataError
from snowmelt.models import TablePlan
from snowmelt.postgres import leases, tables
from snowmelt.postgres.copy import CopyResult, copy_batches
from snowmelt.postgres.leases import Lease
from snowmelt.postgres.session import Session


def load_chunk(
    session: Session,
    lease: Lease,
    plan: TablePlan,
    batches: Iterable[pa.RecordBatch],
    *,
    check: Callable[[], None],
) -> CopyResult:
    """Copy the rows in and mark the chunk completed; either both are committed or neither is.

    ``check`` is called on the way and may raise to end the attempt. FencedError when the lease is no longer valid.
    """
    with session.transaction() as cursor:
        copied = copy_batches(cursor, plan.target, plan.columns, batches, check=check)
        if copied.rows != lease.reads.rows:
            raise DataError(
                f"table {plan.source}, {lease}: {copied.rows} rows were read where {lease.reads.rows} were planned; "
                "nothing of it was kept"
            )
        leases.complete(cursor, lease, rows=copied.rows, size_bytes=copied.size_bytes)
    return copied


def refuse_changed_target(session: Session, plan: TablePlan) -> None:
    """DataError when the target's columns are no longer those of the plan.

    Binary COPY believes what it is told: after an ALTER TABLE it could store other values without a word.
    """
    found = tables.read(session, [plan.target]).get(plan.target)
    now = {c.name: c for c in found.columns} if found else {}
    for column in plan.columns:
        there = now.get(column.target.name)
        if there is None or (there.type, there.typmod) != (column.target.type, column.target.typmod):
            raise DataError(
                f"table {plan.source}: column {column.target.name} of the target {plan.target} "
                f"{'is gone' if there is None else 'has another type'} since the run was planned; "
                "undo the change, or start again with no_resume"
            )
