"""Load a chunk that holds rows PostgreSQL refuses: without them, and with each of them kept and explained.

A chunk is loaded at one go, and comes here only when that was refused. Then its rows come in slices, each behind a
savepoint. A slice that is refused is cut: at the line that PostgreSQL names where it names one, else in halves, down to
single rows. What is refused alone goes to ``migration_status.rejected_rows``, in the transaction that loads the others.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
import pyarrow as pa

from snowmelt.columns.batch_conversion import Preparation, Rejected
from snowmelt.engine import leases
from snowmelt.engine.leases import Lease, Loaded
from snowmelt.errors import RejectedRowsError, TooManyRejectedError
from snowmelt.loading import load, merge, repeats, staging
from snowmelt.loading.copy import copy_prepared
from snowmelt.loading.merge import Merged
from snowmelt.models import TablePlan
from snowmelt.postgres.session import Cursor, Session, code_of_targets, fetch, reason_in_full, refuses_a_row, shown_of
from snowmelt.rejected_rows.row_json import row_text
from snowmelt.sql_text import queries

SLICE_ROWS = 8192
MOST_REJECTED = 1000
"""A chunk with more such rows is not loaded at all, unless the config allows more: something else is wrong."""


def load_without_rejected(
    session: Session,
    lease: Lease,
    plan: TablePlan,
    batches: Iterable[pa.RecordBatch],
    *,
    check: Callable[[], None],
) -> Loaded:
    """Bring in the rows that go in, keep the others with their reasons, and mark the chunk, all in one transaction.

    DataError when more rows are refused than anyone would want to look at; FencedError and DuplicateKeyError as for any
    load.
    """
    with isolating(session, plan, f"table {plan.source}, {lease}") as (cursor, isolation):
        for batch in batches:
            for start in range(0, batch.num_rows, SLICE_ROWS):
                check()
                isolation.take(*repeats.numbered(plan, batch.slice(start, SLICE_ROWS)))
        loaded = isolation.loaded()
        load.refuse_met_again(lease, plan, loaded)
        load.refuse_other_count(lease, plan, loaded.rows)
        _keep(cursor, lease, isolation.rejected, isolation.contents)
        leases.complete(cursor, lease, load.counting_given_way(plan, loaded))
    return loaded


def isolates_duplicates(plan: TablePlan) -> bool:
    """Whether a row that a unique index of the target refuses is rejected alone, within ``max_rejected_rows``.

    A duplicate of the key by which a copied table can be merged is none of these: of such rows the newest is loaded.
    """
    return plan.max_rejected_rows > 0 and (plan.load_mode != "copy" or not load.merges_duplicates(plan))


@contextmanager
def isolating(session: Session, plan: TablePlan, where: str) -> "Iterator[tuple[Cursor, RowIsolation]]":
    """A transaction with a way to isolate bad rows of the table; ``where`` says in errors which rows they are."""
    if plan.is_staged:
        staging.create(session, plan)
    with session.transaction() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what is only refused at the end names no row
        yield cursor, RowIsolation(cursor, plan, where)


@dataclass(frozen=True)
class _Refusal:
    """Why PostgreSQL refused some rows; ``line`` is the first of them, counted from 1, where it says so."""

    reason: str
    reason_in_full: str | None = None
    """PostgreSQL's words with the values they quote: for ``rejected_rows`` alone."""
    sqlstate: str | None = None
    column: str | None = None
    constraint: str | None = None
    line: int | None = None


class RowIsolation:
    """Rows of a chunk on their way into the target, or beside it, all within the cursor's transaction."""

    def __init__(self, cursor: Cursor, plan: TablePlan, where: str) -> None:
        self.rejected: list[Rejected] = []
        self.contents: list[bytes] = []
        """The same rows as ``row_text`` writes them."""
        self._cursor = cursor
        self._plan = plan
        self._where = where
        self._preparation = Preparation(plan.columns)
        self._merged = Merged(0, 0, 0, 0)
        self._rows = 0
        self._size_bytes = 0
        # Slice by slice a merge would take the later of two rows with one key for the newer.
        self._remembers_keys = plan.load_mode != "copy" and not plan.takes_newest
        if self._remembers_keys:
            merge.make_keys(cursor, plan)

    def take(self, batch: pa.RecordBatch, repeated: Collection[int] = ()) -> None:
        """Load what can be loaded of the next rows; those at the places ``repeated`` have the key of another row."""
        first_row, self._rows = self._rows + 1, self._rows + batch.num_rows
        prepared = self._preparation.separate(
            batch, first_row=first_row, repeated=repeats.reasons(self._plan, repeated)
        )

        def reject(rejected: Rejected) -> None:
            self._reject(rejected, row_text(batch, rejected.row - first_row, self._plan.columns))

        for rejected in prepared.rejected:
            reject(rejected)
        waiting = [(0, prepared.ready.num_rows)]
        while waiting:
            start, stop = waiting.pop()
            refusal = self._refusal(prepared.ready.slice(start, stop - start)) if start < stop else None
            if refusal is None:
                continue
            if stop - start == 1:
                column = self._to_blame(prepared.ready.slice(start, 1), refusal)
                number = prepared.numbers[start]
                reject(Rejected(number, column, refusal.reason, refusal.sqlstate, refusal.reason_in_full))
                continue
            waiting += reversed(_cut(start, stop, refusal.line))

    def loaded(self) -> Loaded:
        """What became of all rows; DataError when two of them have one key and nothing says which is newer."""
        if self._remembers_keys:
            merge.refuse_same_keys(self._cursor, self._plan)
        return Loaded(
            rows=self._rows,
            size_bytes=self._size_bytes,
            load_mode=self._plan.load_mode,
            inserted=self._merged.inserted,
            updated=self._merged.updated,
            unchanged=self._merged.unchanged,
            deduplicated=self._merged.deduplicated,
            kept_newer=self._merged.kept_newer,
            rejected=len(self.rejected),
            changes=self._preparation.changes,
        )

    def _refusal(self, rows: pa.RecordBatch) -> _Refusal | None:
        """Bring in the rows, all of them or none; why PostgreSQL refused, if it did."""
        self._cursor.execute("SAVEPOINT isolating")
        try:
            with code_of_targets(self._cursor, self._plan.code_path):
                self._bring_in(rows)
        except psycopg2.Error as error:
            is_duplicate = error.pgcode == repeats.UNIQUE_VIOLATION and isolates_duplicates(self._plan)
            if not (is_duplicate or refuses_a_row(error)):
                raise
            refusal = _explained(error)
        except RejectedRowsError as error:
            refusal = _Refusal(error.message)
        else:
            self._cursor.execute("RELEASE SAVEPOINT isolating")
            return None
        self._cursor.execute("ROLLBACK TO SAVEPOINT isolating")
        return refusal

    def _bring_in(self, rows: pa.RecordBatch) -> None:
        plan, cursor = self._plan, self._cursor
        if not plan.is_staged:
            size_bytes = copy_prepared(cursor, plan.target, plan.columns, rows).size_bytes
            self._account(size_bytes, Merged(rows.num_rows, 0, 0, 0))
            return
        size_bytes = copy_prepared(cursor, staging.name(plan), plan.columns, rows).size_bytes
        if plan.load_mode == "copy":
            staging.insert_all(cursor, plan, rows.num_rows, where=self._where)
            self._account(size_bytes, Merged(rows.num_rows, 0, 0, 0))
        else:
            merged = merge.merge(cursor, plan, rows=rows.num_rows)
            self._account(size_bytes, merged)
            if self._remembers_keys:
                merge.remember_keys(cursor, plan)
        staging.empty(cursor, plan)

    def _to_blame(self, row: pa.RecordBatch, refusal: _Refusal) -> str | None:
        """The column that the row is refused for, or several; None when PostgreSQL refuses it for other reasons."""
        if refusal.column:
            return refusal.column
        if refusal.constraint:
            query, target = queries.query("constraint_columns"), self._plan.target
            found = fetch(
                self._cursor, query, schema=target.schema_name, table=target.name, constraint=refusal.constraint
            )
            return found[0]["columns"] if found else None
        if not self._plan.is_cast:
            return None
        self._cursor.execute("SAVEPOINT isolating")
        copy_prepared(self._cursor, staging.name(self._plan), self._plan.columns, row)
        column = staging.column_to_blame(self._cursor, self._plan)
        self._cursor.execute("ROLLBACK TO SAVEPOINT isolating")
        return column

    def _account(self, size_bytes: int, merged: Merged) -> None:
        self._size_bytes += size_bytes
        self._merged += merged

    def _reject(self, rejected: Rejected, content: bytes) -> None:
        self.rejected.append(rejected)
        self.contents.append(content)
        most = max(MOST_REJECTED, self._plan.max_rejected_rows)
        if len(self.rejected) > most:
            first = self.rejected[0]
            raise TooManyRejectedError(
                f"{self._where}: more than {most} rows are refused, so none of it was "
                f"kept; the first is row {first.row}, column {first.column or 'unknown'}: {first.reason}; fix the "
                "source or the target, or set max_rejected_rows higher"
            )


def _cut(start: int, stop: int, line: int | None) -> Sequence[tuple[int, int]]:
    """The rows in parts: those before the line, the line alone and those after it, or two halves."""
    if line is None or not 1 <= line <= stop - start:
        middle = (start + stop) // 2
        return [(start, middle), (middle, stop)]
    place = start + line - 1
    return [(start, place), (place, place + 1), (place + 1, stop)]


_PLACE = re.compile(r"^COPY .*, line (\d+)(?:, column (.+?))?(?:: .*)?$", re.MULTILINE)


def _explained(error: psycopg2.Error) -> _Refusal:
    place = _PLACE.search(error.diag.context or "")
    return _Refusal(
        reason=shown_of(error).with_detail,
        reason_in_full=reason_in_full(error),
        sqlstate=error.pgcode,
        column=error.diag.column_name or (place[2] if place else None),
        constraint=error.diag.constraint_name,
        line=int(place[1]) if place else None,
    )


def _keep(cursor: Cursor, lease: Lease, rejected: Sequence[Rejected], contents: Sequence[bytes]) -> None:
    fetch(
        cursor,
        queries.query("insert_rejected_rows"),
        run_id=lease.run_id,
        table_id=lease.table_id,
        chunk_id=lease.chunk_id,
        row_numbers=[each.row for each in rejected],
        columns=[each.column for each in rejected],
        sqlstates=[each.sqlstate for each in rejected],
        reasons=[each.reason for each in rejected],
        reasons_in_full=[each.reason_in_full for each in rejected],
        contents=[psycopg2.Binary(content) for content in contents],
    )
