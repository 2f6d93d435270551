"""Merging a chunk into a table that holds rows: against a model of what upsert and insert-only mean."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from snowmelt.errors import DataError, RowsDroppedError
from snowmelt.loading import merge, staging
from snowmelt.loading.merge import Merged
from snowmelt.models import LoadMode, TablePlan, WatermarkPlan
from snowmelt.postgres.session import Cursor, Session, fetch
from snowmelt.verification import target_hashes
from snowmelt.verification.target_hashes import Hashing
from snowmelt_sandbox.postgres import Database, LocalPostgres
from support.merges import keyed_by_id, plan, session_of, written

Row = tuple[int, str, int | None, str | None]
"""Two key columns, a watermark, and JSON."""

ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["a", "b"]),
        st.none() | st.integers(0, 5),
        st.sampled_from([None, '{"x": 1}', '{"x":1}', '{"x": 2}', "null"]),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def orders(postgres: LocalPostgres) -> Iterator[Database]:
    with postgres.database() as database:
        database.execute(
            'CREATE TABLE "the orders" (id integer, "part of" text, changed bigint, payload json, '
            'PRIMARY KEY (id, "part of"))'
        )
        yield database


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
    assert sum(dataclasses.astuple(result)) == len(incoming)
    assert set(after) == set(before) | {row[:2] for row in incoming}
    assert result.inserted == len(set(after) - set(before))
    changed = {key for key in before if before[key] != after[key]}
    assert result.updated == len(changed)
    kept = 0
    for key, (mark, payload) in after.items():
        offered = [row for row in incoming if row[:2] == key]
        best = max((row[2] for row in offered if row[2] is not None), default=None)
        old = before.get(key)
        is_kept = old is not None and old[0] is not None and best is not None and best < old[0]
        kept += is_kept
        if not offered or is_kept:
            assert (mark, payload) == old
            continue
        assert mark == best
        assert as_json(payload) in {as_json(row[3]) for row in offered if row[2] == best} | (
            {as_json(old[1])} if old and old[0] == best else set()
        )
    assert result.kept_newer == kept


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
    with (
        session_of(orders) as session,
        pytest.raises(DataError, match=r"id=\[value \w+\], part of=\[value \w+\], and no watermark says"),
    ):
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


# --- sessions that are at work at the same time -----------------------------------------------------------------------


def waits_for_a_lock(database: Database) -> bool:
    return bool(
        database.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    )


def merged_while(database: Database, table: TablePlan, *, theirs: str, ours: str) -> Merged:
    """Merge ``ours`` while another transaction, begun before and committed during the merge, has written ``theirs``."""
    with closing(database.connect()) as other, other.cursor() as cursor, session_of(database) as session:
        other.autocommit = False
        cursor.execute(theirs)
        with ThreadPoolExecutor(1) as pool:
            merging = pool.submit(written, session, table, ours)
            while not waits_for_a_lock(database):
                assert not merging.done(), merging.result()
                time.sleep(0.01)
            other.commit()
            return merging.result(timeout=60)


PARTITIONED = """
    CREATE TABLE "the orders" (id integer, region text, mark integer, v text, PRIMARY KEY (id, region))
    PARTITION BY LIST (region);
    CREATE TABLE north PARTITION OF "the orders" FOR VALUES IN ('n');
    CREATE TABLE rest PARTITION OF "the orders" DEFAULT PARTITION BY HASH (id);
    CREATE TABLE rest_0 PARTITION OF rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE rest_1 PARTITION OF rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""
PLAIN = 'CREATE TABLE "the orders" (id integer, region text, mark integer, v text, PRIMARY KEY (id, region))'


def regional(load_mode: LoadMode = "upsert") -> TablePlan:
    return keyed_by_id(region="text", mark="int4", v="text").model_copy(
        update={
            "key": ("id", "region"),
            "load_mode": load_mode,
            "watermark": WatermarkPlan(source="M", target="mark", kind="number", low=None, high="9", null_rows=0),
        }
    )


@pytest.mark.parametrize("ddl", [PLAIN, PARTITIONED], ids=["plain", "partitioned"])
def test_a_row_that_another_session_inserts_meanwhile_is_updated_only_by_a_newer_one(
    database: Database, ddl: str
) -> None:
    database.execute(ddl)
    theirs = """INSERT INTO "the orders" VALUES (1, 'n', 5, 'theirs'), (2, 's', 5, 'theirs'), (3, 's', 5, 'theirs')"""
    ours = "(1, 'n', 4, 'ours'), (2, 's', 6, 'ours'), (3, 's', 5, 'theirs'), (4, 'e', 1, 'ours')"

    result = merged_while(database, regional(), theirs=theirs, ours=ours)

    assert result == Merged(inserted=1, updated=1, unchanged=1, deduplicated=0, kept_newer=1)
    assert database.rows('SELECT id, mark, v FROM "the orders" ORDER BY id') == [
        (1, 5, "theirs"),
        (2, 6, "ours"),
        (3, 5, "theirs"),
        (4, 1, "ours"),
    ]


@pytest.mark.parametrize("ddl", [PLAIN, PARTITIONED], ids=["plain", "partitioned"])
def test_a_row_that_another_session_makes_newer_meanwhile_is_left_alone(database: Database, ddl: str) -> None:
    database.execute(f"{ddl}; INSERT INTO \"the orders\" VALUES (1, 'n', 1, 'old'), (2, 's', 1, 'old')")
    theirs = """UPDATE "the orders" SET mark = 7, v = 'theirs' WHERE id = 1"""

    result = merged_while(database, regional(), theirs=theirs, ours="(1, 'n', 6, 'ours'), (2, 's', 6, 'ours')")

    assert result == Merged(inserted=0, updated=1, unchanged=0, deduplicated=0, kept_newer=1)
    assert database.rows('SELECT id, mark, v FROM "the orders" ORDER BY id') == [(1, 7, "theirs"), (2, 6, "ours")]


@pytest.mark.parametrize("ddl", [PLAIN, PARTITIONED], ids=["plain", "partitioned"])
def test_insert_only_leaves_what_another_session_inserts_meanwhile(database: Database, ddl: str) -> None:
    database.execute(f"{ddl}; INSERT INTO \"the orders\" VALUES (2, 's', 1, 'old')")
    theirs = """INSERT INTO "the orders" VALUES (1, 'n', 1, 'theirs')"""

    result = merged_while(
        database,
        regional("insert_only"),
        theirs=theirs,
        ours="(1, 'n', 6, 'ours'), (2, 's', 6, 'ours'), (3, 's', 6, 'ours')",
    )

    assert result == Merged(inserted=1, updated=0, unchanged=2, deduplicated=0)
    assert database.rows('SELECT v FROM "the orders" ORDER BY id') == [("theirs",), ("old",), ("ours",)]


# --- partitions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load_mode", ["upsert", "insert_only"])
def test_a_partitioned_target_is_merged_and_counted_like_any_other(database: Database, load_mode: LoadMode) -> None:
    database.execute(
        f"{PARTITIONED}; INSERT INTO \"the orders\" VALUES (1, 'n', 1, 'a'), (2, 's', 1, 'b'), (3, 's', 9, 'c')"
    )
    rows = (
        "(1, 'n', 2, 'A'), (2, 's', 1, 'b'), (3, 's', 2, 'C'), (4, 'e', 1, 'd'), (1, 'w', 1, 'moved'), (1, 'n', 1, 'x')"
    )

    with session_of(database) as session:
        result = written(session, regional(load_mode), rows)
        again = written(session, regional(load_mode), rows)

    upserts = load_mode == "upsert"
    assert result == (Merged(2, 1, 1, 1, kept_newer=1) if upserts else Merged(2, 0, 3, 1))
    assert again == (Merged(0, 0, 4, 1, kept_newer=1) if upserts else Merged(0, 0, 5, 1))
    # A row whose partition key changed is another row, as that column is a part of the key.
    assert database.rows('SELECT tableoid::regclass::text, id, v FROM "the orders" ORDER BY id, region') == [
        ("north", 1, "A" if upserts else "a"),
        (database.rows("SELECT tableoid::regclass::text FROM rest WHERE id = 1")[0][0], 1, "moved"),
        (database.rows("SELECT tableoid::regclass::text FROM rest WHERE id = 2")[0][0], 2, "b"),
        (database.rows("SELECT tableoid::regclass::text FROM rest WHERE id = 3")[0][0], 3, "c"),
        (database.rows("SELECT tableoid::regclass::text FROM rest WHERE id = 4")[0][0], 4, "d"),
    ]


# --- rows without a watermark, keys in another spelling, triggers -----------------------------------------------------


def marked(mark: str = "int4") -> TablePlan:
    return keyed_by_id(mark=mark, v="text").model_copy(
        update={"watermark": WatermarkPlan(source="M", target="mark", kind="number", low=None, high="9", null_rows=0)}
    )


def test_a_row_whose_watermark_is_gone_replaces_what_an_earlier_run_loaded(database: Database) -> None:
    database.execute('CREATE TABLE "the orders" (id integer PRIMARY KEY, mark integer, v text)')
    database.execute(
        "INSERT INTO \"the orders\" VALUES (1, 5, 'old'), (2, NULL, 'old'), (3, 5, 'same'), (4, NULL, 'old')"
    )
    with session_of(database) as session:
        result = written(session, marked(), "(1, NULL, 'new'), (2, 1, 'new'), (3, 5, 'same'), (4, NULL, 'new')")
    assert result == Merged(inserted=0, updated=3, unchanged=1, deduplicated=0)
    assert database.rows('SELECT mark, v FROM "the orders" ORDER BY id') == [
        (None, "new"),
        (1, "new"),
        (5, "same"),
        (None, "new"),
    ]


NEWER_OR_NOT = {  # watermark of the target's row, that of the source's, and whether the source's replaces it
    (5, 6): True,
    (5, 5): True,
    (5, 4): False,
    (5, None): True,
    (None, 1): True,
    (None, None): True,
}


@pytest.mark.parametrize("load_mode", ["upsert", "insert_only", "copy"])
def test_merge_verification_and_repair_agree_which_row_stays(database: Database, load_mode: LoadMode) -> None:
    """``copy`` stands for a table whose first load was one: what became newer since then stays in a repair too."""
    there = ", ".join(f"({i}, {old or 'NULL'}, 'old')" for i, (old, _) in enumerate(NEWER_OR_NOT))
    incoming = ", ".join(f"({i}, {new or 'NULL'}, 'new')" for i, (_, new) in enumerate(NEWER_OR_NOT))
    table = marked().model_copy(update={"load_mode": load_mode})
    key = table.columns[:1]
    replaced = [is_replaced and load_mode != "insert_only" for is_replaced in NEWER_OR_NOT.values()]

    def outcome(step: Callable[[Cursor], object]) -> tuple[object, list[bool]]:
        database.execute('DROP TABLE IF EXISTS "the orders"')
        database.execute('CREATE TABLE "the orders" (id integer PRIMARY KEY, mark integer, v text)')
        database.execute(f'INSERT INTO "the orders" VALUES {there}')
        with session_of(database) as session:
            staging.create(session, table)
            with session.transaction() as cursor:
                cursor.execute(f"INSERT INTO pg_temp.snowmelt_staging_7 VALUES {incoming}")
                found = step(cursor)
        rows = database.rows('SELECT v, mark FROM "the orders" ORDER BY id')
        return found, [v == "new" and mark == new for (v, mark), (_, new) in zip(rows, NEWER_OR_NOT, strict=True)]

    def kept(cursor: Cursor) -> list[int]:
        by_key = Hashing(table.columns, key, is_exact=True)
        keys = target_hashes.known_pairs(cursor, staging.rows(table), by_key, by_key, None)
        ids = [row["id"] for row in fetch(cursor, sql.SQL("SELECT id FROM pg_temp.snowmelt_staging_7"))]
        stays = target_hashes.kept(fetch(cursor, target_hashes.kept_query(table, by_key, ())))
        return [i for i, (hash_, _) in zip(ids, keys, strict=True) if hash_ % 2**64 in stays]

    if load_mode != "copy":
        assert outcome(lambda cursor: merge.merge(cursor, table, rows=len(NEWER_OR_NOT)))[1] == replaced
    assert outcome(lambda cursor: target_hashes.repair_from_staging(cursor, table, key))[1] == replaced
    assert outcome(kept)[0] == [i for i, is_replaced in enumerate(replaced) if not is_replaced]


@pytest.mark.parametrize("load_mode", ["upsert", "insert_only"])
@pytest.mark.parametrize("is_there", [False, True])
def test_of_the_rows_of_one_chunk_those_without_a_watermark_come_last(
    database: Database, load_mode: LoadMode, is_there: bool
) -> None:
    database.execute('CREATE TABLE "the orders" (id integer PRIMARY KEY, mark integer, v text)')
    if is_there:
        database.execute("INSERT INTO \"the orders\" VALUES (1, NULL, 'old'), (2, 9, 'old')")
    table = marked().model_copy(update={"load_mode": load_mode})
    with session_of(database) as session:
        result = written(
            session, table, "(1, NULL, 'none'), (1, 5, 'five'), (1, 4, 'four'), (2, NULL, 'a'), (2, 8, 'b')"
        )
    replaced = load_mode == "upsert" or not is_there
    assert result.deduplicated == 3
    assert database.rows('SELECT v FROM "the orders" ORDER BY id') == [
        ("five" if replaced else "old",),
        ("old" if is_there else "b",),
    ]


def test_a_repair_keeps_the_newest_of_rows_that_the_target_has_twice(database: Database) -> None:
    database.execute('CREATE TABLE "the orders" (id integer, mark integer, v text)')
    database.execute(
        "INSERT INTO \"the orders\" VALUES (1, 1, 'old'), (1, 9, 'newest'), (1, NULL, 'none'), (1, 3, 'c')"
    )
    with session_of(database) as session:
        staging.create(session, marked())
        with session.transaction() as cursor:
            cursor.execute("INSERT INTO pg_temp.snowmelt_staging_7 VALUES (1, 3, 'c')")
            target_hashes.repair_from_staging(cursor, marked(), marked().columns[:1])
    assert database.rows('SELECT mark, v FROM "the orders"') == [(9, "newest")]


def test_of_two_rows_that_one_run_reads_the_one_with_a_watermark_counts(database: Database) -> None:
    database.execute('CREATE TABLE "the orders" (id integer PRIMARY KEY, mark integer, v text)')
    first_load = marked().model_copy(update={"one_row_per_key": True})
    with session_of(database) as session:
        written(session, first_load, "(1, 5, 'marked'), (2, NULL, 'none')")
        written(session, first_load, "(1, NULL, 'none'), (2, 5, 'marked')")
    assert database.rows('SELECT v FROM "the orders"') == [("marked",), ("marked",)]


def test_a_key_that_is_the_same_to_postgres_gets_the_spelling_that_was_sent(database: Database) -> None:
    database.execute('CREATE TABLE "the orders" (id numeric PRIMARY KEY, v text)')
    database.execute("INSERT INTO \"the orders\" VALUES (1.0, 'a'), (2.0, 'b'), (3.0, 'c')")
    table = keyed_by_id(v="text")
    with session_of(database) as session:
        result = written(session, table, "(1.00, 'a'), (2.00, 'B'), (3.0, 'c')")
    assert result == Merged(inserted=0, updated=2, unchanged=1, deduplicated=0)
    assert database.rows('SELECT id::text, v FROM "the orders" ORDER BY id') == [
        ("1.00", "a"),
        ("2.00", "B"),
        ("3.0", "c"),
    ]


def test_a_trigger_that_drops_new_rows_is_an_error_and_no_silence(database: Database) -> None:
    database.execute(
        'CREATE TABLE "the orders" (id integer PRIMARY KEY, v text);'
        "CREATE FUNCTION keep_some() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END';"
        'CREATE TRIGGER keep_some BEFORE INSERT ON "the orders" FOR EACH ROW EXECUTE FUNCTION keep_some()'
    )
    with session_of(database) as session, pytest.raises(RowsDroppedError, match=r"kept 2 of 3 new rows .* a trigger"):
        written(session, keyed_by_id(v="text"), "(1, 'a'), (2, 'b'), (3, 'c')")
    assert database.rows('SELECT * FROM "the orders"') == []


def test_a_table_of_1600_columns_is_merged(database: Database) -> None:
    columns = {f"c{n}": "int4" for n in range(1599)}
    database.execute(f'CREATE TABLE "the orders" (id integer PRIMARY KEY, {", ".join(f"{c} int" for c in columns)})')
    values = ", ".join(["1"] * 1598)
    with session_of(database) as session:
        assert written(session, keyed_by_id(**columns), f"(1, {values}, 1), (2, {values}, 1)").inserted == 2
        result = written(session, keyed_by_id(**columns), f"(1, {values}, 1), (2, {values}, 2), (3, {values}, 3)")
    assert result == Merged(inserted=1, updated=1, unchanged=1, deduplicated=0)
    assert database.rows('SELECT c1598 FROM "the orders" ORDER BY id') == [(1,), (2,), (3,)]
