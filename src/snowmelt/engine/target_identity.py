"""Know a target again: the table itself, its columns and its files, whatever bears their names meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass

from snowmelt.errors import TargetChangedError
from snowmelt.models import TableName, TablePlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import Cursor, Row, fetch
from snowmelt.sql_text import queries
from snowmelt.wording import WITH_NO_RESUME, counted


@dataclass(frozen=True)
class _Replaced:
    """A target that is not what its load began with."""

    table_id: int
    target: TableName
    columns: tuple[str, ...]
    problem: TargetChangedError
    rows_are_lost: bool


def remember(cursor: Cursor, run_id: str, plan: TablePlan) -> None:
    """Write down what the target is now that its load begins, in the transaction that has made it ready."""
    _remember(cursor, run_id, plan.table_id, plan.target, [column.target.name for column in plan.columns])


def refuse_replaced(cursor: Cursor, run_id: str) -> None:
    """TargetChangedError when rows of an unfinished table went with what its target was; for a run that is resumed.

    A target that held none of the run's rows yet may be another one now.
    """
    replaced = list(_replaced(cursor, run_id))
    lost = [each.problem for each in replaced if each.rows_are_lost]
    if lost:
        raise TargetChangedError("; ".join(problem.message for problem in lost))
    for each in replaced:
        _remember(cursor, run_id, each.table_id, each.target, each.columns)


def problem(cursor: Cursor, run_id: str, table_id: int) -> TargetChangedError | None:
    """Return why the rows that were loaded into a table's target cannot be there any more, or None."""
    of_table = (each for each in _replaced(cursor, run_id) if each.table_id == table_id)
    return next((each.problem for each in of_table if each.rows_are_lost), None)


def _remember(
    cursor: Cursor, run_id: str, table_id: int, target: TableName, columns: list[str] | tuple[str, ...]
) -> None:
    fetch(
        cursor,
        queries.query("remember_target"),
        run_id=run_id,
        table_id=table_id,
        schema_name=target.schema_name,
        table_name=target.name,
        columns=list(columns),
    )


def _replaced(cursor: Cursor, run_id: str) -> Iterator[_Replaced]:
    for row in fetch(cursor, queries.query("targets_as_they_are"), run_id=run_id):
        target = TableName(schema_name=row["target_schema"], name=row["target_table"])
        what = _what_became_of(cursor, target, row)
        if not what:
            continue
        text = (
            f"table {row['source_table']}: {target} {what}, after run {run_id} had loaded {row['completed']} of its "
            f"{counted(row['chunks'], 'chunk')}, whose rows are not there any more; start {WITH_NO_RESUME}: a new run "
            "loads all of it"
        )
        yield _Replaced(
            table_id=row["table_id"],
            target=target,
            columns=tuple(row["columns"]),
            problem=TargetChangedError(text),
            rows_are_lost=row["least_rows"] > 0,
        )


def _what_became_of(cursor: Cursor, target: TableName, row: Row) -> str:
    if row["is_gone"]:
        return "was dropped"
    if row["is_another"]:
        return "was dropped and made again, or another table has its name now"
    if row["lost_columns"]:
        names = ", ".join(row["lost_columns"])
        return f"has lost columns, or has got them again without their values ({names})"
    least = row["least_rows"]
    if row["is_rewritten"] and least and row["may_read"] and not tables.has_more_rows_than(cursor, target, least - 1):
        return f"was emptied, as by TRUNCATE: it holds fewer than the {counted(least, 'row')} that are loaded"
    return ""
