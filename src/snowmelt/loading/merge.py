"""Bring a chunk into a table that holds rows already: through a staging table, leaving unchanged rows untouched.

Rows are copied into a temporary table and merged from there in one statement. A row that is there with the same
values is found by a join and never touched: ``ON CONFLICT DO UPDATE`` alone would write it again, to the table and to
the write-ahead log. New rows are inserted in the order of the key, then changed ones updated in the same order, so that
parallel merges do not deadlock. A row that another session has inserted meanwhile is met by the statement's next pass.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from psycopg2 import sql as compose

from snowmelt import disclosure
from snowmelt.errors import AmbiguousKeyError, RejectedRowsError, RowsDroppedError
from snowmelt.loading import marks, staging
from snowmelt.models import TableName, TablePlan
from snowmelt.postgres.session import Cursor, fetch, fetch_one
from snowmelt.postgres.tables import identifier, same_key
from snowmelt.wording import WITH_NO_RESUME

_SAMPLE = 3
_PASSES = 3
"""Each of them meets what other sessions have committed since the one before."""
_SORT_IN_MEMORY = compose.SQL(
    """
    SELECT set_config('work_mem', '32MB', true)
    WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('32MB')
    """
)
"""For this transaction alone: with the server's default of 4 MB a chunk of new rows took a fifth longer."""


@dataclass(frozen=True)
class Merged:
    """What became of a chunk's rows; the five add up to the rows that were read."""

    inserted: int
    updated: int
    unchanged: int
    deduplicated: int
    kept_newer: int = 0
    """Rows that are not loaded because the target's row has a newer watermark."""

    def __add__(self, other: "Merged") -> "Merged":
        return Merged(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


def merge(cursor: Cursor, plan: TablePlan, *, rows: int) -> Merged:
    """Bring the staged rows into the target, by the plan's key; what became of them.

    Of rows with the same key the one with the newest watermark counts. RejectedRowsError when a key holds NULL,
    DataError when the newest is not to be taken.
    """
    _refuse_null_keys(cursor, plan)
    fetch(cursor, _SORT_IN_MEMORY)
    inserted = updated = 0
    for _ in range(_PASSES):
        met = fetch(cursor, _statement(plan))[0]
        inserted, updated = inserted + met["inserted"], updated + met["updated"]
        if met["new"] + met["changed"] == met["inserted"] + met["updated"]:
            break
    distinct = met["distinct_rows"]
    if distinct != rows and not plan.takes_newest:
        raise _no_newest(plan, rows - distinct, _duplicates(cursor, plan, staging.rows(plan)))
    if met["new"] > met["inserted"]:
        raise RowsDroppedError(
            f"table {plan.source}: PostgreSQL kept {inserted} of {inserted + met['new'] - met['inserted']} new rows of "
            f"the chunk; look for a trigger or a rule on {plan.target} that drops rows"
        )
    return Merged(
        inserted=inserted,
        updated=updated,
        unchanged=max(0, distinct - inserted - updated - met["older"]),
        deduplicated=rows - distinct,
        kept_newer=met["older"],
    )


def make_keys(cursor: Cursor, plan: TablePlan) -> None:
    """Make a table, for the rest of the transaction, of the keys that ``remember_keys`` brings in."""
    cursor.execute(
        compose.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            identifier(_keys(plan)), _list(plan.key), staging.rows(plan)
        )
    )


def remember_keys(cursor: Cursor, plan: TablePlan) -> None:
    """Note the keys of the staged rows, so that ``refuse_same_keys`` sees them beside those of rows staged before."""
    cursor.execute(
        compose.SQL("INSERT INTO {} SELECT {} FROM {}").format(
            identifier(_keys(plan)), _list(plan.key), staging.rows(plan)
        )
    )


def refuse_same_keys(cursor: Cursor, plan: TablePlan) -> None:
    """DataError when a key was noted twice."""
    query = compose.SQL(
        "SELECT coalesce(sum(n - 1), 0)::bigint AS again FROM (SELECT count(*) AS n FROM {} GROUP BY {}) AS keys"
    ).format(identifier(_keys(plan)), _list(plan.key))
    again = fetch(cursor, query)[0]["again"]
    if again:
        raise _no_newest(plan, again, _duplicates(cursor, plan, identifier(_keys(plan))))


def _keys(plan: TablePlan) -> TableName:
    return TableName(schema_name="pg_temp", name=f"snowmelt_keys_{plan.table_id}")


def _no_newest(plan: TablePlan, again: int, examples: str) -> AmbiguousKeyError:
    return AmbiguousKeyError(
        f"table {plan.source}: {again} rows of the chunk have a key ({', '.join(plan.key)}) that another row has too: "
        f"{examples}{why_not_newest(plan)}"
    )


def why_not_newest(plan: TablePlan) -> str:
    """Say why no row gives way to another with its key, and what to do."""
    unwanted = f", and on_duplicate_keys is {plan.on_duplicate_keys}" if plan.watermark else ""
    why = unwanted or ", and no watermark says which is newer"
    change = "set on_duplicate_keys to newest" if plan.watermark else "name source_watermark and target_watermark"
    return (
        f"{why}; fix the source and start again: a new run begins; or fix uniqueness_columns, or {change}, and start "
        f"{WITH_NO_RESUME}"
    )


def _refuse_null_keys(cursor: Cursor, plan: TablePlan) -> None:
    query = compose.SQL("SELECT count(*) AS rows FROM {} WHERE {}").format(
        staging.rows(plan),
        compose.SQL(" OR ").join(compose.SQL("{} IS NULL").format(compose.Identifier(k)) for k in plan.key),
    )
    found = fetch_one(cursor, query)
    if found and found["rows"]:
        raise RejectedRowsError(
            f"table {plan.source}: {found['rows']} rows of the chunk have NULL in {', '.join(plan.key)}, by which they "
            "could never be found again; exclude them by source_filter, or fix uniqueness_columns"
        )


def _statement(plan: TablePlan) -> compose.Composed:
    """Newest of each key → what each meets in the target → insert or update; the counts of each step.

    Which rows are new is not asked of ``xmax``, which partitioned tables do not tell.
    """
    columns, key = _columns(plan), plan.key
    targets = {column.target.name: column.target for column in plan.columns}
    return compose.SQL(
        """
        WITH met AS MATERIALIZED (
            SELECT {n_columns}, {meets} AS {meeting}
            FROM (SELECT DISTINCT ON ({key}) {columns} FROM {staging} ORDER BY {order}) n
            LEFT JOIN {target} t ON {same_key}
        ), inserted AS (
            INSERT INTO {target} ({columns})
            SELECT {columns} FROM met WHERE {meeting} = 'new' ORDER BY {key}
            ON CONFLICT ({key}) DO NOTHING
            RETURNING 1
        ), {updates}
        SELECT count(*) AS distinct_rows,
               count(*) FILTER (WHERE {meeting} = 'new') AS new,
               count(*) FILTER (WHERE {meeting} IN ('changed', 'respelled')) AS changed,
               count(*) FILTER (WHERE {meeting} = 'older') AS older,
               (SELECT count(*) FROM inserted) AS inserted,
               (SELECT count(*) FROM updated) + (SELECT count(*) FROM respelled) AS updated
        FROM met
        """
    ).format(
        key=_list(key),
        columns=_list(columns),
        staging=staging.rows(plan),
        target=identifier(plan.target),
        order=_order(plan),
        n_columns=_list(columns, "n"),
        same_key=same_key([targets[name] for name in key], "t", "n"),
        meeting=_MEETING,
        meets=_meets(plan),
        updates=compose.SQL(", ").join(
            (
                _update(plan, "updated", "changed", [c for c in columns if c not in key]),
                _update(plan, "respelled", "respelled", columns),
            )
        ),
    )


_MEETING = compose.Identifier("snowmelt meeting")
"""Column that tells what a row meets in the target."""


def _meets(plan: TablePlan) -> compose.Composable:
    """What a row ``n`` meets in the target's row ``t``."""
    others = [c for c in _columns(plan) if c not in plan.key]
    if plan.load_mode == "insert_only":
        return compose.SQL("CASE WHEN t.{} IS NULL THEN 'new' ELSE 'same' END").format(compose.Identifier(plan.key[0]))
    return compose.SQL(
        "CASE WHEN t.{} IS NULL THEN 'new' WHEN NOT {} THEN 'older' WHEN {} THEN 'respelled' WHEN {} THEN 'changed'"
        " ELSE 'same' END"
    ).format(
        compose.Identifier(plan.key[0]),
        marks.may_replace(plan, "n", "t"),
        _differs(plan.key, "n", "t"),
        _differs(others, "n", "t") if others else compose.SQL("false"),
    )


def _update(plan: TablePlan, name: str, meeting: str, columns: Sequence[str]) -> compose.Composable:
    """Update of the rows that met such a row, after the new ones are inserted; by then it may be newer.

    A key that is written differently and is the same to PostgreSQL is updated apart: to write the key of every row
    would lock it against foreign keys that refer to it.
    """
    if not columns:
        return compose.SQL("{} AS (SELECT WHERE false)").format(compose.Identifier(name))
    return compose.SQL(
        """{name} AS (
            INSERT INTO {target} AS t ({all})
            SELECT {all} FROM met WHERE {meeting} = {met} AND (SELECT count(*) FROM inserted) >= 0 ORDER BY {key}
            ON CONFLICT ({key}) DO UPDATE SET {values} WHERE {may_replace} AND {differs}
            RETURNING 1
        )"""
    ).format(
        name=compose.Identifier(name),
        target=identifier(plan.target),
        all=_list(_columns(plan)),
        meeting=_MEETING,
        met=compose.Literal(meeting),
        key=_list(plan.key),
        values=compose.SQL(", ").join(compose.SQL("{0} = excluded.{0}").format(compose.Identifier(c)) for c in columns),
        may_replace=marks.may_replace(plan, "excluded", "t"),
        differs=_differs(columns, "excluded", "t"),
    )


def _differs(columns: Sequence[str], new: str, old: str) -> compose.Composable:
    """Whether what is stored is not what was sent, by the values' images.

    The types' own ``=`` calls values equal that are not (``citext``, ``interval``), and some have none (``point``).
    """

    def side(name: str) -> compose.Composable:
        values = (compose.SQL("{}.{}").format(compose.Identifier(name), compose.Identifier(c)) for c in columns)
        return compose.SQL("ROW({})::record").format(compose.SQL(", ").join(values))

    return compose.SQL("{} OPERATOR(pg_catalog.*<>) {}").format(side(new), side(old))


def _order(plan: TablePlan) -> compose.Composable:
    order: list[compose.Composable] = [compose.Identifier(k) for k in plan.key]
    return compose.SQL(", ").join(order if plan.target_watermark is None else [*order, marks.newest_first(plan)])


def _duplicates(cursor: Cursor, plan: TablePlan, rows: compose.Composable) -> str:
    query = compose.SQL(
        "SELECT {key} FROM {staging} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT {n}"
    ).format(key=_list(plan.key), staging=rows, n=compose.Literal(_SAMPLE))
    return disclosure.examples(fetch(cursor, query))


def _columns(plan: TablePlan) -> list[str]:
    return [c.target.name for c in plan.columns]


def _list(names: Sequence[str], table: str | None = None) -> compose.Composed:
    return compose.SQL(", ").join(compose.Identifier(table, n) if table else compose.Identifier(n) for n in names)
