"""The one order of watermarks in PostgreSQL, which is that of the bounds in Snowflake, and what follows from it.

Texts are ordered by their bytes, as Snowflake orders them: the database's own collation would call another row the
newest than the bounds of the read do. A row without a watermark says nothing of its age: it is read by every run, and
a merge takes it for the present state of its key. So is one whose watermark is beyond the run's limit.
"""

from psycopg2 import sql as compose

from snowmelt.models import TableName, TablePlan, TargetColumn
from snowmelt.planning import watermarks
from snowmelt.postgres.session import Session
from snowmelt.postgres.tables import identifier

TEXTS = ("text", "varchar", "bpchar", "citext.citext")
"""Types of a target column that can hold a text watermark."""


_TIMES = ("date", "timestamp", "timestamptz")
_NUMBERS = ("numeric", "float4", "float8")


def ordered(plan: TablePlan, *table: str) -> compose.Composable:
    """Return the watermark of a row as it is compared everywhere; NULL where it is beyond the run's limit."""
    bounds = plan.watermark
    column = next((c for c in plan.columns if bounds is not None and c.target.name == bounds.target), None)
    if bounds is None or column is None:
        return compose.Identifier(*table, plan.target_watermark or "")
    mark = _compared(column.target, *table)
    is_time = column.target.type in (*_TIMES, *TEXTS)
    if bounds.limit is None or not is_time or column.source.name != bounds.source:
        return mark
    limit = compose.Literal(watermarks.in_postgres(bounds.kind, bounds.limit))
    return compose.SQL("(CASE WHEN {0} <= {1} THEN {0} END)").format(mark, limit)


def highest(session: Session, name: TableName, column: TargetColumn, *, limit: str | None) -> str | None:
    """Return the highest watermark in a table as text, none that is infinite or beyond the limit; None without any."""
    mark = _compared(column)
    conditions: list[compose.Composable] = [compose.SQL("true")]
    if column.type in _TIMES:
        conditions.append(compose.SQL("isfinite({})").format(mark))
    if column.type in _NUMBERS:
        conditions.append(compose.SQL("{}::text NOT IN ('NaN', 'Infinity', '-Infinity')").format(mark))
    if limit is not None:
        conditions.append(compose.SQL("{} <= {}").format(mark, compose.Literal(limit)))
    query = compose.SQL("SELECT max({}) FILTER (WHERE {})::text AS high FROM {}").format(
        mark, compose.SQL(" AND ").join(conditions), identifier(name)
    )
    row = session.row(query)
    return None if row is None else row["high"]


def _compared(column: TargetColumn, *table: str) -> compose.Composable:
    mark = compose.Identifier(*table, column.name)
    return compose.SQL('({}::text COLLATE "C")').format(mark) if column.type in TEXTS else mark


def may_replace(plan: TablePlan, new: str, old: str) -> compose.Composable:
    """Return the condition that a row may take the place of one with the same key: it is not older.

    Into a target that was empty when the run began both rows come from the source, and the one with a watermark counts
    as the newer. Otherwise a row whose watermark is gone replaces what an earlier run has loaded.
    """
    if plan.target_watermark is None:
        return compose.SQL("true")
    return compose.SQL("coalesce({new} >= {old}, {without})").format(
        new=ordered(plan, new),
        old=ordered(plan, old),
        without=compose.SQL("{} IS NULL").format(ordered(plan, old)) if plan.one_row_per_key else compose.SQL("true"),
    )


def newest_first(plan: TablePlan, *table: str) -> compose.Composable:
    """Return the order of rows with the same key, the one that counts first."""
    return compose.SQL("{} DESC NULLS LAST").format(ordered(plan, *table))
