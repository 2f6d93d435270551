"""Merging a chunk into a table that holds rows: against a model of what upsert and insert-only mean."""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from snowmelt.config import PostgresConfig
from snowmelt.errors import DataError
from snowmelt.local.postgres import Database, LocalPostgres
from snowmelt.models import ColumnPlan, LoadMode, SourceColumn, TableName, TablePlan, TargetColumn, WatermarkPlan
from snowmelt.postgres import merge, staging
from snowmelt.postgres.merge import Merged
from snowmelt.postgres.session import Session

Row = tuple[int, str, int | None, str | None]
"""Two key columns, a watermark, and JSON."""

COLUMNS = {"id": "int4", "part of": "text", "changed": "int8", "payload": "json"}
ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["a", "b"]),
        st.none() | st.integers(0, 5),
        st.sampled_from([None, '{"x": 1}', '{"x":1}', '{"x": 2}', "null"]),
    ),
    max_size=14,
)


def plan(load_mode: LoadMode, *, watermark: bool) -> TablePlan:
    return TablePlan(
        table_id=7,
        source="Orders",
        target=TableName(schema_name="public", name="the orders"),
        columns=tuple(
            ColumnPlan(
                source=SourceColumn(name=name, type="TEXT"),
                target=TargetColumn(name=name, type=kind),
                select="x",
                wire="string",
            )
            for name, kind in COLUMNS.items()
        ),
        reads_from="",
        load_mode=load_mode,
        key=("id", "part of"),
        watermark=WatermarkPlan(source="c", target="changed", kind="number", low=None, high="9", null_rows=0)
        if watermark
        else None,
        truncate_onstart=False,
        append=False,
        batch_size=1,
        max_retry_attempts=1,
    )


@pytest.fixture(scope="module")
def orders(postgres: LocalPostgres) -> Iterator[Database]:
    with postgres.database() as database:
        database.execute(
            'CREATE TABLE "the orders" (id integer, "part of" text, changed bigint, payload json, '
            'PRIMARY KEY (id, "part of"))'
        )
        yield database


def session_of(database: Database) -> Session:
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user)
    return Session.connect(config, database=database.name, application_name="test")


def fill(database: Database, table: str, rows: Sequence[Row]) -> None:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f'TRUNCATE "{table}"')
        cursor.executemany(f'INSERT INTO "{table}" VALUES (%s, %s, %s, %s)', rows)


def merged(session: Session, table: TablePlan, rows: Sequence[Row]) -> Merged:
    staging.create(session, table)
    with session.transaction() as cursor:
        cursor.executemany("INSERT INTO pg_temp.snowmelt_staging_7 VALUES (%s, %s, %s, %s)", rows)
        return merge.merge(cursor, table, rows=len(rows))


def contents(database: Database) -> dict[tuple[int, str], tuple[int | None, str | None]]:
    rows: list[Any] = database.rows('SELECT id, "part of", changed, payload::text FROM "the orders"')
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


def as_json(text: str | None) -> str | None:
    return None if text is None else text.replace(" ", "")


def distinct(rows: Sequence[Row]) -> list[Row]:
    return list({row[:2]: row for row in rows}.values())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(there=ROWS, incoming=ROWS)
@example(there=[(1, "a", 2, None)], incoming=[(1, "a", 1, "null"), (1, "a", None, '{"x": 1}')])
def test_the_newest_row_of_each_key_wins_and_every_row_is_accounted_for(
    orders: Database, there: list[Row], incoming: list[Row]
) -> None:
    there = distinct(there)
    fill(orders, "the orders", there)
    with session_of(orders) as session:
        result = merged(session, plan("upsert", watermark=True), incoming)
    before = {row[:2]: row[2:] for row in there}
    after = contents(orders)
    assert result.inserted + result.updated + result.unchanged + result.deduplicated == len(incoming)
    assert set(after) == set(before) | {row[:2] for row in incoming}
    assert result.inserted == len(set(after) - set(before))
    changed = {key for key in before if before[key] != after[key]}
    assert result.updated == len(changed)
    for key, (mark, payload) in after.items():
        offered = [row for row in incoming if row[:2] == key]
        best = max((row[2] for row in offered if row[2] is not None), default=None)
        old = before.get(key)
        if not offered or (old is not None and old[0] is not None and (best is None or best < old[0])):
            assert (mark, payload) == old
            continue
        assert mark == best
        assert as_json(payload) in {as_json(row[3]) for row in offered if row[2] == best} | (
            {as_json(old[1])} if old and old[0] == best else set()
        )


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(there=ROWS, incoming=ROWS.map(distinct))
def test_insert_only_adds_new_keys_and_changes_nothing_else(
    orders: Database, there: list[Row], incoming: list[Row]
) -> None:
    there = distinct(there)
    fill(orders, "the orders", there)
    with session_of(orders) as session:
        result = merged(session, plan("insert_only", watermark=False), incoming)
    before = {row[:2]: row[2:] for row in there}
    new = {row[:2]: row[2:] for row in incoming if row[:2] not in before}
    assert contents(orders) == before | new
    assert result == Merged(inserted=len(new), updated=0, unchanged=len(incoming) - len(new), deduplicated=0)


def test_rows_that_are_there_already_are_not_written_again(orders: Database) -> None:
    rows: list[Row] = [(i, "a", 1, '{"x": 1}') for i in range(500)]
    fill(orders, "the orders", rows)
    before = orders.rows('SELECT ctid::text, xmin::text FROM "the orders" ORDER BY id')
    with session_of(orders) as session:
        result = merged(session, plan("upsert", watermark=False), rows)
    assert result == Merged(inserted=0, updated=0, unchanged=500, deduplicated=0)
    assert orders.rows('SELECT ctid::text, xmin::text FROM "the orders" ORDER BY id') == before


def test_two_rows_of_one_key_without_a_watermark_are_refused_and_named(orders: Database) -> None:
    fill(orders, "the orders", [])
    with session_of(orders) as session, pytest.raises(DataError, match=r"id=3, part of=b; fix the source and start again"):
        merged(session, plan("upsert", watermark=False), [(3, "b", 1, None), (3, "b", 2, None), (1, "a", 1, None)])
    assert contents(orders) == {}


def test_a_key_that_holds_null_is_refused(orders: Database) -> None:
    with session_of(orders) as session, pytest.raises(DataError, match="1 rows of the chunk have NULL in id, part of"):
        merged(session, plan("upsert", watermark=True), [(1, None, 1, None)])  # type: ignore[list-item]


def test_parallel_merges_of_overlapping_keys_do_not_deadlock(orders: Database) -> None:
    fill(orders, "the orders", [])
    with session_of(orders) as one, session_of(orders) as two:
        staging.create(one, plan("upsert", watermark=True))
        staging.create(two, plan("upsert", watermark=True))
        merged(one, plan("upsert", watermark=True), [(i, "a", 1, None) for i in range(2000)])
        merged(two, plan("upsert", watermark=True), [(i, "a", 2, None) for i in reversed(range(2000))])
    assert {mark for mark, _ in contents(orders).values()} == {2}


def test_the_staging_table_is_made_once_per_session(orders: Database) -> None:
    with session_of(orders) as session:
        for _ in range(3):
            staging.create(session, plan("upsert", watermark=True))
            assert merged(session, plan("insert_only", watermark=True), []) == Merged(0, 0, 0, 0)
    with pytest.raises(psycopg2.errors.UndefinedTable):
        orders.rows("SELECT 1 FROM pg_temp.snowmelt_staging_7")


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("interval", "30 days", "1 mon"),
        ("box", "(1,1),(0,0)", "(2,0.5),(0,0)"),
        ("point", "(1,2)", "(1,3)"),
        ("json", '{"a":1}', '{"a": 1}'),
        ("numeric", "1.0", "1.00"),
        ("float8", "0", "-0"),
    ],
)
def test_a_value_that_postgres_calls_equal_is_written_as_it_was_sent(
    database: Database, kind: str, old: str, new: str
) -> None:
    database.execute(f'CREATE TABLE "the orders" (id integer PRIMARY KEY, v {kind})')
    database.execute(f"INSERT INTO \"the orders\" VALUES (1, '{old}')")
    table = keyed_by_id(v=kind)
    with session_of(database) as session:
        assert written(session, table, f"(1, '{new}')") == Merged(inserted=0, updated=1, unchanged=0, deduplicated=0)
        assert written(session, table, f"(1, '{new}')") == Merged(inserted=0, updated=0, unchanged=1, deduplicated=0)
    assert database.rows('SELECT v::text FROM "the orders"') == database.rows(f"SELECT '{new}'::{kind}::text")


def keyed_by_id(**columns: str) -> TablePlan:
    """Return a plan that merges by ``id`` into the orders, with these other columns."""
    return plan("upsert", watermark=False).model_copy(
        update={
            "key": ("id",),
            "columns": tuple(
                ColumnPlan(
                    source=SourceColumn(name=name, type="TEXT"),
                    target=TargetColumn(name=name, type=kind),
                    select="x",
                    wire="string",
                )
                for name, kind in {"id": "int4", **columns}.items()
            ),
        }
    )


def written(session: Session, table: TablePlan, rows: str) -> Merged:
    """Merge literal rows, and return what became of them."""
    staging.create(session, table)
    with session.transaction() as cursor:
        cursor.execute(f"INSERT INTO pg_temp.snowmelt_staging_7 VALUES {rows}")
        return merge.merge(cursor, table, rows=cursor.rowcount)
