"""Bring a chunk into a table that holds rows already: through a staging table, leaving unchanged rows untouched.

Rows are copied into a temporary table and merged from there in one statement. A row that is there with the same
values is found by a join and never touched: ``ON CONFLICT DO UPDATE`` alone would write it again, to the table and to
the write-ahead log. What remains is inserted in the order of the key, so that parallel merges do not deadlock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql as compose

from snowmelt.errors import AmbiguousKeyError, RejectedRowsError
from snowmelt.models import TableName, TablePlan
from snowmelt.postgres import staging
from snowmelt.postgres.session import Cursor, fetch, fetch_one
from snowmelt.postgres.tables import identifier
from snowmelt.wording import WITH_NO_RESUME

_TEXTS = ("text", "varchar", "bpchar", "citext")
_SAMPLE = 3
_SORT_IN_MEMORY = compose.SQL(
    """
    SELECT set_config('work_mem', '32MB', true)
    WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('32MB')
    """
)
"""For this transaction alone: with the server's default of 4 MB a chunk of new rows took a fifth longer."""


@dataclass(frozen=True)
class Merged:
    """What became of a chunk's rows; the four add up to the rows that were read."""

    inserted: int
    updated: int
    unchanged: int
    deduplicated: int


def merge(cursor: Cursor, plan: TablePlan, *, rows: int) -> Merged:
    """Bring the staged rows into the target, by the plan's key; what became of them.

    Of rows with the same key the one with the newest watermark counts. RejectedRowsError when a key holds NULL,
    DataError when there is no watermark to choose by.
    """
    _refuse_null_keys(cursor, plan)
    fetch(cursor, _SORT_IN_MEMORY)
    counted = fetch(cursor, _statement(plan))[0]
    distinct, inserted, updated = counted["distinct_rows"], counted["inserted"], counted["updated"]
    if distinct != rows and plan.target_watermark is None:
        raise _no_newest(plan, rows - distinct, _duplicates(cursor, plan, staging.rows(plan)))
    return Merged(
        inserted=inserted,
        updated=updated,
        unchanged=distinct - inserted - updated,
        deduplicated=rows - distinct,
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
        f"table {plan.source}: {again} rows of the chunk have a key that another row has too, and no watermark says "
        f"which is newer: {examples}; fix the source and start again: a new run begins; or fix uniqueness_columns, or "
        f"name source_watermark and target_watermark, and start {WITH_NO_RESUME}"
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
            "could never be found again; exclude them by source_filter, or mend uniqueness_columns"
        )


def _statement(plan: TablePlan) -> compose.Composed:
    """Newest of each key → those that are new or differ → insert or update; the counts of each step."""
    columns, key = _columns(plan), plan.key
    others = [c for c in columns if c not in key]
    newer = _newer(plan, "n", "t")
    wanted = compose.SQL("t.{} IS NULL").format(compose.Identifier(key[0]))
    if plan.load_mode == "upsert" and others:
        wanted = compose.SQL("{} OR ({} AND {})").format(wanted, newer, _differs(others, "n", "t"))
    return compose.SQL(
        """
        WITH newest AS MATERIALIZED (
            SELECT DISTINCT ON ({key}) {columns} FROM {staging} ORDER BY {order}
        ), wanted AS (
            SELECT {n_columns} FROM newest n LEFT JOIN {target} t ON {same_key} WHERE {wanted} ORDER BY {n_key}
        ), written AS (
            INSERT INTO {target} AS t ({columns}) SELECT {columns} FROM wanted
            ON CONFLICT ({key}) DO {conflict}
            RETURNING (xmax = 0) AS is_new
        )
        SELECT (SELECT count(*) FROM newest) AS distinct_rows,
               (SELECT count(*) FROM written WHERE is_new) AS inserted,
               (SELECT count(*) FROM written WHERE NOT is_new) AS updated
        """
    ).format(
        key=_list(key),
        columns=_list(columns),
        staging=staging.rows(plan),
        target=identifier(plan.target),
        order=_order(plan),
        n_columns=_list(columns, "n"),
        n_key=_list(key, "n"),
        same_key=compose.SQL(" AND ").join(compose.SQL("t.{0} = n.{0}").format(compose.Identifier(k)) for k in key),
        wanted=wanted,
        conflict=_conflict(plan, others),
    )


def _conflict(plan: TablePlan, others: Sequence[str]) -> compose.Composable:
    """What happens to a row whose key arrived between the join and the insert."""
    if plan.load_mode == "insert_only" or not others:
        return compose.SQL("NOTHING")
    return compose.SQL("UPDATE SET {} WHERE {} AND {}").format(
        compose.SQL(", ").join(compose.SQL("{0} = excluded.{0}").format(compose.Identifier(c)) for c in others),
        _newer(plan, "excluded", "t"),
        _differs(others, "excluded", "t"),
    )


def _newer(plan: TablePlan, new: str, old: str) -> compose.Composable:
    """Whether the new row may replace the old one: late arrivals never undo a later change."""
    if plan.target_watermark is None:
        return compose.SQL("true")
    return compose.SQL("({old}.{mark} IS NULL OR {new} >= {ordered})").format(
        old=compose.Identifier(old),
        mark=compose.Identifier(plan.target_watermark),
        new=_ordered_mark(plan, new),
        ordered=_ordered_mark(plan, old),
    )


def _ordered_mark(plan: TablePlan, *table: str) -> compose.Composable:
    """Return the watermark of a row as it is ordered everywhere: texts by their bytes, as Snowflake orders them.

    The database's own collation would call another row the newest than the bounds of the read do.
    """
    name = plan.target_watermark or ""
    mark = compose.Identifier(*table, name)
    is_text = {c.target.name: c.target.type for c in plan.columns}.get(name) in _TEXTS
    return compose.SQL('({}::text COLLATE "C")').format(mark) if is_text else mark


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
    if plan.target_watermark is None:
        return compose.SQL(", ").join(order)
    return compose.SQL(", ").join([*order, compose.SQL("{} DESC NULLS LAST").format(_ordered_mark(plan))])


def _duplicates(cursor: Cursor, plan: TablePlan, rows: compose.Composable) -> str:
    query = compose.SQL(
        "SELECT {key} FROM {staging} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT {n}"
    ).format(key=_list(plan.key), staging=rows, n=compose.Literal(_SAMPLE))
    found = [", ".join(f"{k}={v}" for k, v in row.items()) for row in fetch(cursor, query)]
    return "; ".join(found)


def _columns(plan: TablePlan) -> list[str]:
    return [c.target.name for c in plan.columns]


def _list(names: Sequence[str], table: str | None = None) -> compose.Composed:
    return compose.SQL(", ").join(compose.Identifier(table, n) if table else compose.Identifier(n) for n in names)
