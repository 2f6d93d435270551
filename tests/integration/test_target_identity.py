"""A target that was replaced or emptied while its run stood still is refused: the rows that were loaded are gone."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg2 import sql as compose

from snowmelt.engine import leases, status_store, target_identity
from snowmelt.engine.leases import Loaded
from snowmelt.errors import TargetChangedError, TruncationRefusedError
from snowmelt.loading import targets
from snowmelt.planning import one_scan
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database
from support.opened_run import PLAN, RUN, TABLE_ID, connect, open_run, take_over

REPLACED = {
    "dropped": ("DROP TABLE target", "was dropped"),
    "dropped and made again": (
        "DROP TABLE target; CREATE TABLE target (id bigint); INSERT INTO target SELECT generate_series(1, 5)",
        "was dropped and made again",
    ),
    "swapped with another": (
        "CREATE TABLE other (LIKE target); ALTER TABLE target RENAME TO old; ALTER TABLE other RENAME TO target",
        "another table has its name now",
    ),
    "a column lost": (
        "ALTER TABLE target DROP id",
        "has lost columns, or has got them again without their values (id)",
    ),
    "a column lost and regained": (
        "ALTER TABLE target DROP id; ALTER TABLE target ADD id bigint",
        "has lost columns, or has got them again without their values (id)",
    ),
    "a column renamed and another put in its place": (
        "ALTER TABLE target RENAME id TO old; ALTER TABLE target ADD id bigint",
        "has got them again without their values (id)",
    ),
    "truncated": ("TRUNCATE target", "was emptied, as by TRUNCATE: it holds fewer than the 5 rows that are loaded"),
    "truncated and filled a little": ("TRUNCATE target; INSERT INTO target VALUES (1)", "was emptied, as by TRUNCATE"),
}
HARMLESS = {
    "nothing": "SELECT 1",
    "rewritten with all of its rows": "VACUUM FULL target",
    "a column widened": "ALTER TABLE target ALTER id TYPE numeric(20)",
    "columns that are not loaded": "ALTER TABLE target ADD note text; ALTER TABLE target DROP extra",
    "an index": "CREATE INDEX ON target (id)",
    "moved to another place and back": "ALTER TABLE target RENAME TO t; ALTER TABLE t RENAME TO target",
    "rows of others": "INSERT INTO target VALUES (77)",
}


@pytest.fixture
def opened(database: Database) -> Database:
    """A run of one table, opened by "the first"."""
    open_run(database)
    return database


@pytest.fixture
def loading(opened: Database) -> Iterator[Session]:
    """A session of the run's first driver, which has begun to load five rows into each of two chunks."""
    opened.execute("ALTER TABLE target ADD extra text")
    with connect(opened) as session:
        status_store.record_scan(session, RUN, TABLE_ID, "query")
        ready = targets.Ready(PLAN, "query", 10, tuple(one_scan.plan("query", [10], 5)))
        targets.start_loading(session, RUN, [ready], allow_shrink=False)
        yield session


@pytest.mark.parametrize(
    ("source_rows", "advice", "refused", "allowed"),
    [
        (0, "set allow_shrink_to to 0 (an empty source passes with no other share)", 0.001, 0.0),
        (3, "set allow_shrink_to to 3 divided by the rows of the target, or less", 0.31, 0.3),
    ],
)
def test_the_advice_of_a_truncation_that_is_refused_is_what_lets_it_happen(
    opened: Database, source_rows: int, advice: str, refused: float, allowed: float
) -> None:
    opened.execute("INSERT INTO target SELECT generate_series(1, 10)")
    chunks = tuple(one_scan.plan("query", [source_rows] if source_rows else [], 5))

    def truncate(share: float) -> None:
        plan = PLAN.model_copy(update={"allow_shrink_to": share})
        targets.start_loading(session, RUN, [targets.Ready(plan, "query", source_rows, chunks)], allow_shrink=False)

    with connect(opened) as session:
        status_store.record_scan(session, RUN, TABLE_ID, "query")
        for share in (0.5, refused):
            with pytest.raises(TruncationRefusedError) as caught:
                truncate(share)
            assert advice in caught.value.message
            assert opened.rows("SELECT count(*) FROM target") == [(10,)]
        truncate(allowed)
    assert opened.rows("SELECT count(*) FROM target") == [(0,)]


def load(session: Session, chunk_id: int) -> None:
    lease = leases.claim(session, run_id=RUN, table_id=TABLE_ID, chunk_id=chunk_id, seconds=60)
    assert lease is not None
    with session.transaction() as cursor:
        cursor.execute(compose.SQL("INSERT INTO public.target (id) SELECT generate_series(1, 5)"))
        leases.complete(cursor, lease, Loaded(5, size_bytes=1, load_mode="copy", inserted=5))


def identity(database: Database) -> Any:
    return database.rows("SELECT target_identity FROM migration_status.run_tables")[0][0]


@pytest.mark.parametrize("way", REPLACED)
def test_a_target_whose_rows_are_gone_is_refused_by_a_resume_and_fails_its_table(
    opened: Database, loading: Session, way: str
) -> None:
    statements, told = REPLACED[way]
    load(loading, 1)
    opened.execute(statements)

    with connect(opened) as second, pytest.raises(TargetChangedError) as refused:
        take_over(second)

    assert "table T: public.target " in refused.value.message
    assert told in refused.value.message
    assert f"after run {RUN} had loaded 1 of its 2 chunks" in refused.value.message
    assert "start with --no-resume" in refused.value.message
    assert status_store.read_run(loading, RUN).status == "running"  # nothing was taken over
    with loading.transaction() as cursor:
        problem = target_identity.problem(cursor, RUN, TABLE_ID)
    assert problem is not None
    assert problem.message == refused.value.message


@pytest.mark.parametrize("way", HARMLESS)
def test_a_target_that_keeps_its_rows_is_loaded_on(opened: Database, loading: Session, way: str) -> None:
    load(loading, 1)
    opened.execute(HARMLESS[way])

    with connect(opened) as second:
        take_over(second)
        load(second, 2)
        with second.transaction() as cursor:
            assert target_identity.problem(cursor, RUN, TABLE_ID) is None


@pytest.mark.parametrize("way", ["dropped and made again", "a column lost and regained"])
def test_a_target_that_is_replaced_under_a_worker_gets_no_row_of_it(
    opened: Database, loading: Session, way: str
) -> None:
    opened.execute(REPLACED[way][0])

    with pytest.raises(TargetChangedError, match="since its load began the target was dropped and made again"):
        load(loading, 1)

    assert opened.rows("SELECT count(*) FROM target WHERE id IS NOT NULL")[0][0] in (0, 5)


def test_a_target_that_held_none_of_the_runs_rows_may_be_made_again(opened: Database, loading: Session) -> None:
    before = identity(opened)
    opened.execute("DROP TABLE target; CREATE TABLE target (id bigint)")

    with connect(opened) as second:
        take_over(second)
        assert identity(opened) != before
        load(second, 1)
        load(second, 2)


def test_a_partition_that_is_emptied_is_noticed(opened: Database) -> None:
    opened.execute(
        "DROP TABLE target; CREATE TABLE target (id bigint) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF target FOR VALUES FROM (0) TO (3);"
        "CREATE TABLE high PARTITION OF target FOR VALUES FROM (3) TO (100)"
    )
    with connect(opened) as session:
        status_store.record_scan(session, RUN, TABLE_ID, "query")
        ready = targets.Ready(PLAN, "query", 5, tuple(one_scan.plan("query", [5], 5)))
        targets.start_loading(session, RUN, [ready], allow_shrink=False)
        load(session, 1)
        opened.execute("TRUNCATE low")

        with pytest.raises(TargetChangedError, match="was emptied"):
            take_over(session)
