"""A temporary table that a chunk's rows come into first: to be merged, or to be converted by PostgreSQL itself.

It holds each column as it travels. What must be converted is converted by the statement that reads it, for all rows of
the chunk at once; when that fails, the rows that are to blame are found by halving.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2 import sql as compose

from snowmelt.columns.type_pairs import postgres_type, remedy
from snowmelt.errors import RejectedRowsError, RowsDroppedError
from snowmelt.models import ColumnPlan, TableName, TablePlan
from snowmelt.postgres.session import Cursor, Session, fetch, shown_of
from snowmelt.postgres.tables import identifier
from snowmelt.sql_text import queries

_MOST_NAMED = 5
"""Rows that an error names."""


def name(plan: TablePlan) -> TableName:
    """The staging table of this session for the table."""
    return TableName(schema_name="pg_temp", name=f"snowmelt_staging_{plan.table_id}")


def create(session: Session, plan: TablePlan) -> None:
    """Make the staging table, once per session: thousands of temporary tables would bloat the catalog."""
    columns = [
        compose.SQL("NULL::{} AS {}").format(compose.SQL(column.staged_as), compose.Identifier(column.target.name))
        if column.staged_as
        else compose.Identifier(column.target.name)
        for column in plan.columns
    ]
    session.run(
        compose.SQL(
            "CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA"
        ).format(compose.Identifier(name(plan).name), compose.SQL(", ").join(columns), identifier(plan.target))
    )
    if plan.is_cast and _is_numbered(plan):
        session.run(
            compose.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} bigint GENERATED ALWAYS AS IDENTITY").format(
                identifier(name(plan)), compose.Identifier(_NUMBER)
            )
        )


def rows(plan: TablePlan) -> compose.Composable:
    """The staged rows with every column in the target's type, to select from."""
    if not plan.is_cast:
        return identifier(name(plan))
    values = [
        compose.SQL("{} AS {}").format(_value(column), compose.Identifier(column.target.name))
        for column in plan.columns
    ]
    return compose.SQL("(SELECT {} FROM {}) AS staged").format(compose.SQL(", ").join(values), identifier(name(plan)))


def insert(cursor: Cursor, plan: TablePlan) -> int:
    """Bring the staged rows into the target; how many PostgreSQL kept."""
    columns = compose.SQL(", ").join(compose.Identifier(column.target.name) for column in plan.columns)
    statement = compose.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
        identifier(plan.target), columns, columns, rows(plan)
    )
    cursor.execute(statement)
    return cursor.rowcount


def insert_all(cursor: Cursor, plan: TablePlan, rows: int, *, where: str) -> None:
    """Bring all of the staged rows into the target; RowsDroppedError, beginning with ``where``, if it keeps fewer."""
    kept = insert(cursor, plan)
    if kept != rows:
        raise RowsDroppedError(
            f"{where}: PostgreSQL kept {kept} of {rows} rows; look for a trigger or a rule on the table that drops rows"
        )


def empty(cursor: Cursor, plan: TablePlan) -> None:
    """Make room for other rows within the same transaction."""
    cursor.execute(compose.SQL("TRUNCATE {}").format(identifier(name(plan))))


def column_to_blame(cursor: Cursor, plan: TablePlan) -> str | None:
    """The first column with a staged value that PostgreSQL cannot convert, if there is one."""
    everything = (_blocks(cursor, plan), 0)
    return next(
        (
            column.target.name
            for column in plan.columns
            if column.cast and _failure(cursor, plan, column, (0, 0), everything) is not None
        ),
        None,
    )


@contextmanager
def naming_rows(cursor: Cursor, plan: TablePlan) -> Iterator[None]:
    """Within, a value that PostgreSQL cannot convert becomes a RejectedRowsError with row, column and reason."""
    if not plan.is_cast:
        yield
        return
    cursor.execute("SAVEPOINT converting")
    try:
        yield
    except psycopg2.DataError as error:
        cursor.execute("ROLLBACK TO SAVEPOINT converting")
        for column in plan.columns:
            if column.cast and (found := _bad_rows(cursor, plan, column)):
                raise _rejected(plan, column, found) from error
        raise
    cursor.execute("RELEASE SAVEPOINT converting")


def _value(column: ColumnPlan) -> compose.Composable:
    return compose.SQL(column.cast) if column.cast else compose.Identifier(column.target.name)


# --- rows that cannot be converted ------------------------------------------------------------------------------------

_NUMBER = "snowmelt row number"
"""Column that tells in which order rows came, which their places on disk do not: a short row fills an earlier gap."""

_MOST_COLUMNS = 1_600
"""Of a table in PostgreSQL."""


def _is_numbered(plan: TablePlan) -> bool:
    """Whether the staging table has room for the rows' numbers beside the columns."""
    return len(plan.columns) < _MOST_COLUMNS


_Place = tuple[int, int]
"""Block and line of a row."""

_LINES_PER_BLOCK = 2048
"""More than any block holds."""


def _bad_rows(cursor: Cursor, plan: TablePlan, column: ColumnPlan) -> list[tuple[int | None, str]]:
    """Numbers of some rows whose value cannot be converted, if they have any, each with PostgreSQL's reason."""
    blocks = _blocks(cursor, plan)
    found: list[tuple[int | None, str]] = []
    start: _Place = (0, 0)
    while len(found) < _MOST_NAMED and (bad := _first_bad(cursor, plan, column, start, (blocks, 0))) is not None:
        place, reason = bad
        found.append((_number(cursor, plan, place) if _is_numbered(plan) else None, reason))
        start = (place[0], place[1] + 1)
    return sorted(found, key=lambda bad: bad[0] or 0)


def _first_bad(
    cursor: Cursor, plan: TablePlan, column: ColumnPlan, start: _Place, stop: _Place
) -> tuple[_Place, str] | None:
    """The first place in the range whose value cannot be converted, and why; halved by blocks, then by lines."""
    reason = _failure(cursor, plan, column, start, stop)
    if reason is None:
        return None
    while stop[0] - start[0] > 1:
        middle = ((start[0] + stop[0]) // 2, 0)
        if (found := _failure(cursor, plan, column, start, middle)) is not None:
            stop, reason = middle, found
        else:
            start = middle
    low, high = start[1], _LINES_PER_BLOCK
    while high - low > 1:
        line = (low + high) // 2
        if (found := _failure(cursor, plan, column, (start[0], low), (start[0], line))) is not None:
            high, reason = line, found
        else:
            low = line
    return (start[0], low), reason


def _failure(cursor: Cursor, plan: TablePlan, column: ColumnPlan, start: _Place, stop: _Place) -> str | None:
    """Why PostgreSQL cannot convert every value from one place up to another; None if it can."""
    query = compose.SQL("SELECT count({}) AS n FROM {} WHERE ctid >= {}::tid AND ctid < {}::tid").format(
        _value(column), identifier(name(plan)), compose.Literal(_tid(start)), compose.Literal(_tid(stop))
    )
    cursor.execute("SAVEPOINT probing")
    try:
        fetch(cursor, query)
    except psycopg2.DataError as error:
        cursor.execute("ROLLBACK TO SAVEPOINT probing")
        return shown_of(error).primary
    cursor.execute("RELEASE SAVEPOINT probing")
    return None


def _number(cursor: Cursor, plan: TablePlan, place: _Place) -> int:
    query = compose.SQL(
        "SELECT number - (SELECT min({number}) FROM {staging}) + 1 AS n"
        " FROM (SELECT {number} AS number FROM {staging} WHERE ctid = {place}::tid) AS bad"
    ).format(number=compose.Identifier(_NUMBER), staging=identifier(name(plan)), place=compose.Literal(_tid(place)))
    return int(fetch(cursor, query)[0]["n"])


def _blocks(cursor: Cursor, plan: TablePlan) -> int:
    quoted = identifier(name(plan)).as_string(cursor)
    return int(fetch(cursor, queries.query("table_blocks"), table=quoted)[0]["blocks"])


def _tid(place: _Place) -> str:
    return f"({place[0]},{place[1]})"


def _rejected(plan: TablePlan, column: ColumnPlan, found: list[tuple[int | None, str]]) -> RejectedRowsError:
    numbers = ", ".join(str(number) for number, _ in found)
    more = " and maybe more" if len(found) == _MOST_NAMED else ""
    rows = f"row{'s' * (len(found) > 1)} {numbers}{more} of the chunk" if _is_numbered(plan) else "a row of the chunk"
    return RejectedRowsError(
        f'table {plan.source}: column "{column.target.name}", {rows}: PostgreSQL cannot convert the value into '
        f"{postgres_type(column.target)}: {found[0][1]}; correct or exclude such rows in Snowflake, or "
        f"{remedy(column.source)}"
    )
