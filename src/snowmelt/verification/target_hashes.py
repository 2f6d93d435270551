"""Hashes of rows in PostgreSQL: of the target's, and of rows that were staged to be compared with them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from psycopg2 import sql as compose

from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import DataError
from snowmelt.loading import marks, staging
from snowmelt.models import ColumnPlan, TableName, TablePlan, WatermarkPlan
from snowmelt.planning import watermarks
from snowmelt.postgres.session import Cursor, Row, Session, fetch
from snowmelt.postgres.tables import identifier, same_key
from snowmelt.sql_text import queries
from snowmelt.verification import forms
from snowmelt.verification.comparing import HASHES, Pair, Tally

Statement: TypeAlias = compose.Composable
"""SQL that is ready to be run."""


@dataclass(frozen=True)
class Hashing:
    """How rows are hashed: by the forms that Snowflake can write too, or by exact ones where both sides are here.

    Without a key a row is its own key.
    """

    compared: tuple[ColumnPlan, ...]
    key: tuple[ColumnPlan, ...]
    is_exact: bool = False
    every: int = 1
    """Only rows whose key's hash is a multiple of it, a power of two."""

    @property
    def row_hash(self) -> compose.SQL:
        """SQL for the hash of a row."""
        return self._hash(self.compared)

    @property
    def key_hash(self) -> compose.SQL:
        """SQL for the hash of a row's key."""
        return self._hash(self.key or self.compared)

    def key_hash_of(self, alias: str) -> compose.SQL:
        """SQL for the hash of the key of a relation's row, where several relations are in scope."""
        return self._hash(self.key or self.compared, prefix=f"{alias}.")

    def _hash(self, columns: Sequence[ColumnPlan], *, prefix: str = "") -> compose.SQL:
        fields = [self.field(column, prefix + quoted(column.target.name)) for column in columns]
        return compose.SQL(forms.hash_in_postgres(fields))

    def field(self, column: ColumnPlan, name: str) -> str:
        """SQL for one field."""
        return forms.exact_in_postgres(column, name) if self.is_exact else forms.form(column, name).target


def pin_text_forms(session: Session) -> bool:
    """Have this session write values as text in one way; whether the database's own texts are UTF-8."""
    row = session.row(queries.query("pin_text_forms"))
    return bool(row and row["is_utf8"])


def target_rows(plan: TablePlan, bounds: WatermarkPlan | None, *, and_newer: bool = False) -> compose.Composable:
    """The target's rows as a relation: all, or those whose watermark is within the bounds, ``and_newer`` or beyond."""
    target = identifier(plan.target)
    if bounds is None:
        return target
    mark = marks.ordered(plan)
    conditions = [compose.SQL("{} IS NULL").format(mark)]
    limits = [(">=", bounds.low), ("<=", None if and_newer else bounds.high)]
    if bounds.high is not None:
        within: list[compose.Composable] = [
            compose.SQL("{} {} {}").format(
                mark, compose.SQL(sign), compose.Literal(watermarks.in_postgres(bounds.kind, value))
            )
            for sign, value in limits
            if value is not None
        ]
        conditions.append(compose.SQL("({})").format(compose.SQL(" AND ").join(within or [compose.SQL("true")])))
    return compose.SQL("(SELECT * FROM {} WHERE {}) AS within_bounds").format(
        target, compose.SQL(" OR ").join(conditions)
    )


# --- sums -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetSide:
    """The target's rows, in a session that may be in a transaction."""

    session: Session
    relation: compose.Composable
    hashing: Hashing

    def count(self) -> int:
        """How many there are."""
        if self.hashing.every > 1:
            return self.total().rows
        rows = self.session.rows(compose.SQL("SELECT count(*) AS rows FROM {}").format(self.relation))
        return int(rows[0]["rows"])

    def total(self) -> Tally:
        """Rows, and the sum of their hashes, in one query."""
        if self.hashing.every > 1:
            return sum(self.buckets(1).values(), start=Tally())
        query = compose.SQL("SELECT count(*) AS rows, sum({}) AS hashes FROM {}").format(
            self.hashing.row_hash, self.relation
        )
        (row,) = self.session.rows(query)
        return Tally.of(row["rows"], row["hashes"])

    def total_of_blocks(self, start: int, stop: int | None) -> Tally:
        """The same for the rows in those blocks of a table, or of each of its partitions; None for all that follow."""
        last = compose.SQL("") if stop is None else compose.SQL(" AND ctid < {}::tid").format(_tid(stop))
        query = compose.SQL("SELECT count(*) AS rows, sum({}) AS hashes FROM {} WHERE ctid >= {}::tid{}").format(
            self.hashing.row_hash, self.relation, _tid(start), last
        )
        (row,) = self.session.rows(query)
        return Tally.of(row["rows"], row["hashes"])

    def buckets(self, count: int) -> dict[int, Tally]:
        """The rows by the key's hash."""
        return bucket_tallies(self.session.rows(buckets_query(self.relation, self.hashing, count)))

    def pairs(self, count: int, buckets: Collection[int]) -> list[Pair]:
        """The hashes of every row in those buckets."""
        return as_pairs(self.session.rows(pairs_query(self.relation, self.hashing, count, buckets)))


def _tid(block: int) -> compose.Composable:
    return compose.Literal(f"({block},0)")


def blocks(session: Session, table: TableName) -> int | None:
    """How many blocks the table has, or the largest of its partitions; None where ranges of them cannot be read."""
    row = session.row(queries.query("blocks_of_table"), schema_name=table.schema_name, table_name=table.name)
    return None if row is None or row["blocks"] is None else int(row["blocks"])


def buckets_query(relation: compose.Composable, hashing: Hashing, count: int) -> Statement:
    """Rows and sums of hashes by the key's hash."""
    return compose.SQL(
        "SELECT key_hash & {mask} AS bucket, count(*) AS rows, sum(row_hash) AS hashes FROM {hashed} GROUP BY 1"
    ).format(mask=compose.Literal(count - 1), hashed=_hashed(relation, hashing))


def pairs_query(relation: compose.Composable, hashing: Hashing, count: int, buckets: Collection[int]) -> Statement:
    """The hashes of keys and rows in those buckets."""
    return compose.SQL(
        "SELECT key_hash, row_hash FROM {hashed} WHERE key_hash & {mask} = ANY ({buckets}::bigint[])"
    ).format(
        mask=compose.Literal(count - 1),
        hashed=_hashed(relation, hashing),
        buckets=compose.Literal(sorted(buckets)),
    )


def bucket_tallies(rows: Iterable[Row]) -> dict[int, Tally]:
    """What ``buckets_query`` gave."""
    return {int(row["bucket"]): Tally.of(row["rows"], row["hashes"]) for row in rows}


def as_pairs(rows: Iterable[Row]) -> list[Pair]:
    """What ``pairs_query`` gave."""
    return [(int(row["key_hash"]), int(row["row_hash"])) for row in rows]


def _hashed(relation: compose.Composable, hashing: Hashing) -> compose.Composable:
    # OFFSET 0 keeps the planner from writing the hash out wherever its name stands.
    hashed = compose.SQL("(SELECT {} AS key_hash, {} AS row_hash FROM {} OFFSET 0) AS hashed").format(
        hashing.key_hash, hashing.row_hash, relation
    )
    if hashing.every == 1:
        return hashed
    return compose.SQL("(SELECT * FROM {} WHERE key_hash & {} = 0) AS sampled").format(
        hashed, compose.Literal(hashing.every - 1)
    )


# --- the rows of some keys --------------------------------------------------------------------------------------------


def known_pairs(
    cursor: Cursor, relation: compose.Composable, found_by: Hashing, exact: Hashing, keys: Collection[int] | None
) -> list[Pair]:
    """Exact hashes of the rows that the keys' hashes name, or of all; each with the exact hash of its key."""
    where: compose.Composable = compose.SQL("")
    if keys is not None:
        where = compose.SQL(" WHERE {}").format(_among(found_by.key_hash, keys))
    query = compose.SQL("SELECT {} AS key_hash, {} AS row_hash FROM {}{}").format(
        exact.key_hash, exact.row_hash, relation, where
    )
    return as_pairs(fetch(cursor, query))


def _among(hash_: compose.Composable, keys: Collection[int]) -> compose.Composable:
    return compose.SQL("{} = ANY ({}::bigint[])").format(hash_, compose.Literal(signed(keys)))


def signed(keys: Collection[int]) -> list[int]:
    """Hashes as PostgreSQL's bigints have them."""
    half = HASHES // 2
    return [(key + half) % HASHES - half for key in sorted(keys)]


def kept_query(plan: TablePlan, hashing: Hashing, unmatched: Collection[int]) -> Statement:
    """Hashes of the staged keys whose rows a merge does not load, as the target's row stays: it is newer.

    Insert-only keeps whatever row is there. A row whose key is the same only to PostgreSQL has also given way to one
    of the source that is as new: to no row under a spelling that the source does not have. ``unmatched`` holds the
    hashes of the target's keys that are such.
    """
    targets = {column.target.name: column.target for column in plan.columns}
    stays = compose.SQL("true" if plan.load_mode == "insert_only" else "(NOT {} OR ({} AND ({}) AND NOT {}))").format(
        marks.may_replace(plan, "s", "t"),
        marks.may_replace(plan, "t", "s"),
        _is_spelt_otherwise(plan),
        _among(hashing.key_hash_of("t"), unmatched),
    )
    return compose.SQL(
        "SELECT key_hash, count(*) AS rows FROM"
        " (SELECT {key_hash} AS key_hash, EXISTS (SELECT FROM {target} AS t WHERE {same} AND {stays}) AS stays"
        " FROM {staged} AS s) AS met GROUP BY key_hash HAVING bool_and(stays)"
    ).format(
        key_hash=hashing.key_hash,
        target=identifier(plan.target),
        same=same_key([targets[name] for name in plan.key], "t", "s"),
        stays=stays,
        staged=_staged(plan),
    )


def _is_spelt_otherwise(plan: TablePlan) -> compose.Composable:
    return compose.SQL(" OR ").join(
        compose.SQL('t.{0}::text COLLATE "C" <> s.{0}::text COLLATE "C"').format(compose.Identifier(name))
        for name in plan.key
    )


def kept(rows: Iterable[Row]) -> dict[int, int]:
    """What ``kept_query`` gave: the source's rows by the hashes of their keys, without a sign."""
    return {int(row["key_hash"]) % HASHES: int(row["rows"]) for row in rows}


def side_by_side(
    cursor: Cursor, plan: TablePlan, exact: Hashing, *, limit: int
) -> list[tuple[dict[str, str | None], dict[str, tuple[str | None, str | None]]]]:
    """Rows that are staged and in the target with other values: the key, and each column that differs, both values."""
    selected: list[compose.Composable] = [
        compose.SQL("s.{0}::text AS {1}").format(compose.Identifier(c.target.name), compose.Identifier(f"k{i}"))
        for i, c in enumerate(exact.key)
    ]
    names = [compose.Identifier(column.target.name) for column in exact.compared]
    fields = [quoted(column.target.name) for column in exact.compared]
    differs = [
        compose.SQL(
            f"({exact.field(column, f's.{name}')})::text IS DISTINCT FROM ({exact.field(column, f't.{name}')})::text"
        )
        for column, name in zip(exact.compared, fields, strict=True)
    ]
    # Arrays: a list of results may have 1,664 items, and a table 1,600 columns.
    selected += [
        _array([compose.SQL("s.{}::text").format(name) for name in names], "there"),
        _array([compose.SQL("t.{}::text").format(name) for name in names], "here"),
        _array(differs, "differs"),
    ]
    order = [compose.Identifier(f"o{i}") for i in range(len(exact.key))]
    selected += [
        compose.SQL("s.{} AS {}").format(compose.Identifier(c.target.name), name)
        for c, name in zip(exact.key, order, strict=True)
    ]
    # Sorted outside: a sort of the joined rows would be one of both tables' columns, which may be more than 1,664 too.
    query = compose.SQL(
        "SELECT * FROM (SELECT {} FROM {} AS s JOIN {} AS t ON {} WHERE {} OFFSET 0) AS changed ORDER BY {} LIMIT {}"
    ).format(
        compose.SQL(", ").join(selected),
        _staged(plan),
        identifier(plan.target),
        _same_key(exact),
        compose.SQL(" OR ").join(differs),
        compose.SQL(", ").join(order),
        compose.Literal(limit),
    )
    return [
        (
            {c.target.name: row[f"k{i}"] for i, c in enumerate(exact.key)},
            {
                c.target.name: (there, here)
                for c, there, here, differ in zip(
                    exact.compared, row["there"], row["here"], row["differs"], strict=True
                )
                if differ
            },
        )
        for row in fetch(cursor, query)
    ]


def _array(items: Sequence[compose.Composable], name: str) -> compose.Composable:
    return compose.SQL("ARRAY[{}] AS {}").format(compose.SQL(", ").join(items), compose.Identifier(name))


def rows_as_text(
    cursor: Cursor, plan: TablePlan, hashing: Hashing, keys: Collection[int], *, staged: bool, limit: int
) -> list[dict[str, str | None]]:
    """Some rows by the hashes of their keys: the key, or the whole row where there is none."""
    columns = hashing.key or hashing.compared
    relation = staging.rows(plan) if staged else identifier(plan.target)
    selected = [compose.SQL("{0}::text AS {0}").format(compose.Identifier(c.target.name)) for c in columns]
    query = compose.SQL("SELECT {} FROM {} WHERE {} LIMIT {}").format(
        compose.SQL(", ").join(selected), relation, _among(hashing.key_hash, keys), compose.Literal(limit)
    )
    return [dict(row) for row in fetch(cursor, query)]


# --- fixing ----------------------------------------------------------------------------------------------------------


def repair_from_staging(cursor: Cursor, plan: TablePlan, key: Sequence[ColumnPlan]) -> tuple[int, int]:
    """Bring the staged rows into the target by their key; how many were changed and how many inserted.

    What a merge leaves alone is left alone here: a newer row, and with insert-only every row that is there.

    Rows are changed in place: whatever refers to them stays. Of rows that have the same key one is kept.
    """
    hashing = Hashing(tuple(plan.columns), tuple(key), is_exact=True)
    names = [compose.Identifier(c.target.name) for c in plan.columns]
    others = [c for c in plan.columns if c not in key]
    join = {"staged": _newest(plan, key), "target": identifier(plan.target), "same": _same_key(hashing)}
    cursor.execute(
        compose.SQL(
            "DELETE FROM {target} AS d USING (SELECT t.tableoid AS o, t.ctid AS c,"
            " row_number() OVER (PARTITION BY {key}{newest_first}) AS n"
            " FROM {target} AS t JOIN {staged} AS s ON {same}) AS twice"
            " WHERE d.tableoid = twice.o AND d.ctid = twice.c AND twice.n > 1"
        ).format(
            key=compose.SQL(", ").join(compose.Identifier("t", c.target.name) for c in key),
            newest_first=compose.SQL(" ORDER BY {}").format(marks.newest_first(plan, "t"))
            if plan.target_watermark is not None
            else compose.SQL(""),
            **join,
        )
    )
    changed = 0
    if others and plan.load_mode != "insert_only":
        values = [compose.SQL("{0} = s.{0}").format(compose.Identifier(column.target.name)) for column in others]
        cursor.execute(
            compose.SQL("UPDATE {target} AS t SET {values} FROM {staged} AS s WHERE {same} AND {may_replace}").format(
                values=compose.SQL(", ").join(values),
                may_replace=marks.may_replace(plan, "s", "t") if plan.keeps_newer else compose.SQL("true"),
                **join,
            )
        )
        changed = cursor.rowcount
    cursor.execute(
        compose.SQL(
            "INSERT INTO {target} ({names}) SELECT {names} FROM {staged} AS s"
            " WHERE NOT EXISTS (SELECT FROM {target} AS t WHERE {same})"
        ).format(names=compose.SQL(", ").join(names), **join)
    )
    return changed, int(cursor.rowcount)


def delete_extra(cursor: Cursor, plan: TablePlan, hashing: Hashing, keys: Collection[int]) -> int:
    """Delete the target's rows under those keys' hashes; how many there were.

    DataError where that would reach into other tables.
    """
    spreading = fetch(
        cursor,
        queries.query("spreading_deletes"),
        schema_name=plan.target.schema_name,
        table_name=plan.target.name,
    )
    if spreading:
        raise DataError(
            f"table {plan.source}: {len(keys)} rows of {plan.target} are not in the source, and deleting them would "
            f"reach into {spreading[0]['of_table']} through {spreading[0]['name']}; delete them by hand, or drop the "
            "foreign key for the repair"
        )
    cursor.execute(
        compose.SQL("DELETE FROM {} WHERE {}").format(identifier(plan.target), _among(hashing.key_hash, keys))
    )
    return int(cursor.rowcount)


def rewriting_triggers(session: Session, table: TableName) -> tuple[str, ...]:
    """Return the triggers and rules that may change or drop what is written into the table, each with its kind."""
    rows = session.rows(queries.query("rewriting_triggers"), schema_name=table.schema_name, table_name=table.name)
    return tuple(f"{row['kind']} {row['name']}" for row in rows)


def forget_staging(session: Session, plan: TablePlan) -> None:
    """Drop the session's staging table: tables of different runs may share its name and have other columns."""
    session.run(compose.SQL("DROP TABLE IF EXISTS {}").format(identifier(staging.name(plan))))


def clear_staging(cursor: Cursor, plan: TablePlan) -> None:
    """Make room for the next rows of the same transaction."""
    cursor.execute(compose.SQL("DELETE FROM {}").format(identifier(staging.name(plan))))


def _staged(plan: TablePlan) -> compose.Composable:
    if not plan.is_cast:
        return identifier(staging.name(plan))
    return compose.SQL("(SELECT * FROM {})").format(staging.rows(plan))


def _newest(plan: TablePlan, key: Sequence[ColumnPlan]) -> compose.Composable:
    """The staged rows, of those with the same key the newest."""
    names = [compose.Identifier(c.target.name) for c in key]
    order: list[compose.Composable] = [*names]
    if plan.target_watermark is not None:
        order.append(marks.newest_first(plan))
    return compose.SQL("(SELECT DISTINCT ON ({}) * FROM {} ORDER BY {})").format(
        compose.SQL(", ").join(names), staging.rows(plan), compose.SQL(", ").join(order)
    )


def _same_key(hashing: Hashing) -> compose.Composable:
    return same_key([column.target for column in hashing.key], "t", "s")
