"""Rejected rows: read them, and load them once their cause is fixed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from snowmelt.columns.batch_conversion import Rejected
from snowmelt.columns.type_pairs import Refusal, match
from snowmelt.errors import HeldError, TargetChangedError
from snowmelt.loading.repeats import UNIQUE_VIOLATION
from snowmelt.models import ColumnPlan, TablePlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import Cursor, Row, Session, fetch, fetch_one
from snowmelt.rejected_rows import expired_rows
from snowmelt.rejected_rows.isolation import RowIsolation, isolating
from snowmelt.rejected_rows.row_json import RowText, batch_of, parsed
from snowmelt.sql_text import queries


@dataclass(frozen=True)
class RejectedRow:
    """A rejected row: which one, why, and its values by the source's columns."""

    table: str
    table_id: int
    chunk_id: int
    row_number: int
    column: str | None
    sqlstate: str | None
    reason: str
    """Without the values that PostgreSQL quotes."""
    reason_in_full: str
    values: RowText


@dataclass(frozen=True)
class Replayed:
    """How many rows of a chunk are in now, and how many are refused once more."""

    replayed: int = 0
    refused: int = 0

    def __add__(self, other: "Replayed") -> "Replayed":
        return Replayed(self.replayed + other.replayed, self.refused + other.refused)


def read(session: Session, run_id: str, table: str | None = None) -> Iterator[RejectedRow]:
    """Yield the rejected rows of a run, or those of one table of it, in the order in which they came."""
    for row in session.rows(queries.query("rejected_rows"), run_id=run_id, table=table, table_id=None, chunk_id=None):
        yield _row(row)


def _row(row: Row) -> RejectedRow:
    return RejectedRow(
        table=row["source_table"],
        table_id=row["table_id"],
        chunk_id=row["chunk_id"],
        row_number=row["row_number"],
        column=row["column_name"],
        sqlstate=row["sqlstate"],
        reason=row["reason"],
        reason_in_full=row["reason_in_full"],
        values=parsed(bytes(row["row_content"])),
    )


def replay_table(
    session: Session, run_id: str, plan: TablePlan, *, has_time: Callable[[], bool] = lambda: True
) -> Replayed:
    """Load the rejected rows of a table once more, chunk by chunk, as long as there is time.

    Errors are those of ``present_plan`` and ``replay``; chunks before the one that raised are done.
    """
    now = present_plan(session, plan)
    done = Replayed()
    for chunk in session.rows(queries.query("chunks_with_rejects"), run_id=run_id, table_id=plan.table_id):
        if not has_time():
            break
        keys = {"table_id": plan.table_id, "chunk_id": chunk["chunk_id"]}
        rows = [_row(row) for row in session.rows(queries.query("rejected_rows"), run_id=run_id, table=None, **keys)]
        done += replay(session, run_id, now, chunk["chunk_id"], {row.row_number: row.values for row in rows})
    return done


def present_plan(session: Session, plan: TablePlan) -> TablePlan:
    """The plan for the target as it is now, whose columns may have been altered to take the rows.

    TargetChangedError when a column is gone, or when it cannot take its source's values any more.
    """
    found = tables.read(session, [plan.target]).get(plan.target)
    now = {column.name: column for column in found.columns} if found else {}
    columns: list[ColumnPlan] = []
    for column in plan.columns:
        if column.target.name not in now:
            raise TargetChangedError(f"table {plan.source}: column {column.target.name} of {plan.target} is gone")
        way = match(column.source, now[column.target.name], narrow=column.policies.narrow)
        if isinstance(way, Refusal):
            raise TargetChangedError(f"table {plan.source}: {way.reason}")
        columns.append(way.plan.model_copy(update={"policies": column.policies, "cut": None}))
    return plan.model_copy(update={"columns": tuple(columns)})


def replay(session: Session, run_id: str, plan: TablePlan, chunk_id: int, rows: Mapping[int, RowText]) -> Replayed:
    """Load rows of one chunk, given by their numbers, in one transaction.

    Those that go in are forgotten, the others are explained again. HeldError when another run has loaded the target
    since: it may have brought the same rows.
    """
    keys = {"run_id": run_id, "table_id": plan.table_id, "chunk_id": chunk_id}
    where = f"table {plan.source}, refused rows of chunk {chunk_id}"
    with isolating(session, plan, where) as (cursor, isolation):
        _refuse_loaded_since(cursor, run_id, plan)
        locked = fetch(cursor, queries.query("lock_rejected_rows"), **keys, row_numbers=list(rows))
        numbers = [row["row_number"] for row in locked]
        if not numbers:
            return Replayed()
        repeated = {row["row_number"] for row in locked if _repeats_a_key(plan, row)}
        inserted = RowIsolation(cursor, _only_inserting(plan), where)
        refused: dict[int, Rejected] = {}
        for chosen, some in (
            (inserted, [n for n in numbers if n in repeated]),
            (isolation, [n for n in numbers if n not in repeated]),
        ):
            if some:
                chosen.take(batch_of({number: rows[number] for number in some}, plan.columns, where=where))
            refused |= {some[each.row - 1]: each for each in chosen.rejected}
        loaded, more = isolation.loaded(), inserted.loaded()
        replayed = [number for number in numbers if number not in refused]
        fetch(cursor, queries.query("forget_rejected_rows"), **keys, row_numbers=replayed)
        # A row whose key is still taken has a reason already, which says more than PostgreSQL does.
        explained = {number: each for number, each in refused.items() if number not in repeated}
        fetch(
            cursor,
            queries.query("explain_rejected_rows"),
            **keys,
            row_numbers=list(explained),
            columns=[each.column for each in explained.values()],
            sqlstates=[each.sqlstate for each in explained.values()],
            reasons=[each.reason for each in explained.values()],
            reasons_in_full=[each.reason_in_full for each in explained.values()],
        )
        fetch(
            cursor,
            queries.query("count_replayed"),
            **keys,
            rows=len(replayed),
            inserted=loaded.inserted + more.inserted,
            updated=loaded.updated,
            unchanged=loaded.unchanged,
            deduplicated=loaded.deduplicated,
            kept_newer=loaded.kept_newer,
        )
        fetch(cursor, queries.query("complete_without_rejects"), run_id=run_id)
    return Replayed(replayed=len(replayed), refused=len(refused))


def _repeats_a_key(plan: TablePlan, row: Row) -> bool:
    return (
        plan.on_duplicate_keys == "reject"
        and row["sqlstate"] == UNIQUE_VIOLATION
        and row["column_name"] == ", ".join(plan.key)
    )


def _only_inserting(plan: TablePlan) -> TablePlan:
    """Return the plan for rows that were rejected for their key: they replace no row that has it."""
    return plan.model_copy(
        update={"load_mode": "copy", "on_duplicate_keys": "reject", "max_rejected_rows": max(1, plan.max_rejected_rows)}
    )


def _refuse_loaded_since(cursor: Cursor, run_id: str, plan: TablePlan) -> None:
    later = fetch_one(cursor, queries.query("loaded_since"), run_id=run_id, table_id=plan.table_id)
    if later:
        raise HeldError(
            f"table {plan.source}: run {later['run_id']} has loaded {plan.target} after {run_id}, and may have brought "
            "these rows; nothing was replayed"
        )


def by_chunk(rows: Sequence[RejectedRow]) -> Mapping[tuple[int, int], Mapping[int, RowText]]:
    """The rows' values by table and chunk, and in these by number."""
    grouped: dict[tuple[int, int], dict[int, RowText]] = {}
    for row in rows:
        grouped.setdefault((row.table_id, row.chunk_id), {})[row.row_number] = row.values
    return grouped


def rejection_reasons(session: Session, run_id: str, table_id: int | None = None) -> tuple[str, ...]:
    """Return why rows of a run, or of a table of it, were rejected: a line for each reason, the most frequent first.

    What is not kept any more has a line of its own for each table.
    """
    expired = expired_rows.read(session, run_id, table_id=table_id)
    return tuple(
        f"{row['source_table']}: {row['rows']} row{'s' * (row['rows'] > 1)}, the first of them row "
        f"{row['row_number']} of chunk {row['chunk_id']}"
        + (f', column "{row["column_name"]}"' if row["column_name"] else "")
        + f": {row['reason']}"
        for row in session.rows(queries.query("rejection_reasons"), run_id=run_id, table_id=table_id)
    ) + tuple(map(str, expired))
