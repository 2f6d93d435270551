"""``AT`` and ``BEFORE``: tables as they were at a moment."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fakesnow.dialect import parse_one
from fakesnow.transforms import timestamp_offsets
from sqlglot import exp

from snowmelt_sandbox.snowflake.catalog import Catalog, TableRef
from snowmelt_sandbox.snowflake.errors import SqlError, no_such_object

_CHANGES_ROWS = (exp.Insert, exp.Update, exp.Delete, exp.Merge)

Resolve = Callable[[exp.Table], TableRef]
Period = Callable[[str], "tuple[datetime, datetime] | None"]
"""When a query began and when it had completed its changes, by its id."""


def go_back(
    statement: Any, *, catalog: Catalog, duck: Any, resolve: Resolve, period: Period, window: timedelta | None = None
) -> None:
    """Replace each table that is read ``AT`` or ``BEFORE`` a moment by what held its rows then.

    A view is replaced by its query over the tables as they were. Nothing is known of what is longer ago than the
    table's retention, or than ``window``; a table that keeps nothing is known as it is.
    """
    waiting = list(statement.find_all(exp.Table))
    while waiting:
        table = waiting.pop()
        when = table.args.get("when")
        if not isinstance(when, exp.HistoricalData):
            continue
        asked = resolve(table)
        exact = catalog.find(duck, asked)
        if exact is None:
            raise no_such_object(str(asked))
        moment, before = _moment(when, duck=duck, period=period)
        version = catalog.version_at(exact, moment, before=before)
        if version is None or moment > datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1):
            raise _no_data(exact)
        days = catalog.kept_days(exact)
        kept = min(timedelta(days=days or 1), timedelta(days=90) if window is None else window)
        if (days == 0 and version != exact) or moment < datetime.now(UTC).replace(tzinfo=None) - kept:
            raise _no_data(exact)
        table.set("when", None)
        if query := catalog.view_query(exact):
            waiting.extend(_open_view(table, query, when))
        elif version != exact:
            _replace(table, version)


def _open_view(view: exp.Table, query: str, when: exp.HistoricalData) -> list[exp.Table]:
    """Put a view's query in its place; returns the tables in it, each to be read at the same moment."""
    alias = view.args.get("alias") or exp.TableAlias(this=view.this.copy())
    opened = exp.Subquery(this=parse_one(query), alias=alias.copy())
    tables = [t for t in opened.find_all(exp.Table) if t.args.get("db")]
    for table in tables:
        table.set("when", when.copy())
    view.replace(opened)
    return tables


def _replace(table: exp.Table, version: TableRef) -> None:
    if not table.args.get("alias"):
        table.set("alias", exp.TableAlias(this=table.this.copy()))
    set_name(table, version)


def set_name(table: exp.Table, full: TableRef) -> None:
    """Call a table in a statement by its full name."""
    for arg, part in zip(("catalog", "db", "this"), full.parts(), strict=True):
        table.set(arg, exp.to_identifier(part, quoted=True))


def _moment(when: Any, *, duck: Any, period: Period) -> tuple[datetime, bool]:
    """The moment in UTC, and whether changes at that very moment are left out."""
    before = str(when.this).upper() == "BEFORE"
    kind = str(when.args["kind"]).upper()
    expression = when.args["expression"]
    if kind == "STATEMENT":
        ran = period(expression.name)
        if ran is None:
            raise SqlError(709, "02000", f"Statement {expression.name} not found")
        return ran[1], before  # BEFORE, too, is about the statement's end: just before it completed
    value = exp.cast(expression.transform(timestamp_offsets), "TIMESTAMPTZ" if kind == "TIMESTAMP" else "DOUBLE")
    asked = duck.execute("select " + value.sql(dialect="duckdb")).fetchone()[0]
    if kind == "OFFSET":
        return datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=asked), before
    return asked.astimezone(UTC).replace(tzinfo=None), before


NO_PAST = 707
"""The number of the error that a table has no data of that moment."""


def _no_data(table: TableRef) -> SqlError:
    return SqlError(
        NO_PAST,
        "02000",
        f"Time travel data is not available for table {table.name}. The requested time is either beyond the "
        "allowed time travel period or before the object creation time.",
    )


def tables_changed(statement: Any) -> list[exp.Table]:
    """Tables that are there before the statement and hold other rows or columns after it."""
    if isinstance(statement, exp.TruncateTable):
        return [t for t in statement.expressions if isinstance(t, exp.Table)]
    if isinstance(statement, _CHANGES_ROWS) or (
        isinstance(statement, exp.Alter) and statement.args.get("kind") == "TABLE"
    ):
        target = statement.this.this if isinstance(statement.this, exp.Schema) else statement.this
        return [target] if isinstance(target, exp.Table) else []
    return []
