"""The one order of watermarks in PostgreSQL, which is that of the bounds in Snowflake, and what follows from it.

Texts are ordered by their bytes, as Snowflake orders them: the database's own collation would call another row the
newest than the bounds of the read do. A row without a watermark says nothing of its age: it is read by every run, and
a merge takes it for the present state of its key.
"""

from psycopg2 import sql as compose

from snowmelt.models import TablePlan

TEXTS = ("text", "varchar", "bpchar", "citext.citext")
"""Types of a target column that can hold a text watermark."""


def ordered(plan: TablePlan, *table: str) -> compose.Composable:
    """Return the watermark of a row as it is compared everywhere."""
    name = plan.target_watermark or ""
    mark = compose.Identifier(*table, name)
    is_text = {c.target.name: c.target.type for c in plan.columns}.get(name) in TEXTS
    return compose.SQL('({}::text COLLATE "C")').format(mark) if is_text else mark


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
