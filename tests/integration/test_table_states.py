"""From which state a table goes on to the next, and what a resumed run does with chunks that failed."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from snowmelt.engine import status_store
from snowmelt.errors import TargetNotEmptyError
from snowmelt.loading import targets
from snowmelt.loading.targets import Ready
from snowmelt.planning import one_scan
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database
from support.opened_run import PLAN, RUN, RUN_PLAN, TABLE_ID, begin, connect, open_run, take_over

READY = Ready(PLAN, "a scan", 20, tuple(one_scan.plan("a scan", (20,), PLAN.batch_size)))


@pytest.fixture
def loading(database: Database) -> Iterator[Session]:
    """A run whose table has two chunks to load."""
    open_run(database)
    with closing(connect(database)) as session:
        assert status_store.record_scan(session, RUN, TABLE_ID, "a scan")
        assert targets.start_loading(session, RUN, [READY], allow_shrink=True)
        yield session


@pytest.mark.parametrize("status", ["pending", "running", "failed"])
def test_a_table_is_not_finalized_before_each_of_its_chunks_is_in(
    loading: Session, database: Database, status: str
) -> None:
    database.execute("UPDATE migration_status.chunks SET status = 'completed', actual_rows = 10")
    database.execute(f"UPDATE migration_status.chunks SET status = '{status}' WHERE chunk_id = 1")
    assert not status_store.start_finalizing(loading, RUN, TABLE_ID)

    database.execute("UPDATE migration_status.chunks SET status = 'completed'")
    assert status_store.start_finalizing(loading, RUN, TABLE_ID)


def test_a_second_planner_does_not_empty_a_table_that_is_being_loaded(loading: Session, database: Database) -> None:
    database.execute("INSERT INTO target VALUES (7)")

    assert not targets.start_loading(loading, RUN, [READY], allow_shrink=True)

    assert database.rows("SELECT id FROM target") == [(7,)]
    assert database.rows("SELECT count(*) FROM migration_status.chunks") == [(2,)]


def test_a_target_that_was_filled_since_the_plan_is_not_added_to(database: Database) -> None:
    open_run(database)
    once = replace(READY, plan=PLAN.model_copy(update={"truncate_onstart": False}))
    with closing(connect(database)) as session:
        assert status_store.record_scan(session, RUN, TABLE_ID, "a scan")
        database.execute("INSERT INTO target VALUES (7)")
        with pytest.raises(TargetNotEmptyError, match="was empty when the run began and now holds rows"):
            targets.start_loading(session, RUN, [once], allow_shrink=True)
    assert database.rows("SELECT id FROM target") == [(7,)]
    assert database.rows("SELECT count(*) FROM migration_status.chunks") == [(0,)]


def test_tables_that_begin_together_all_wait_for_the_last_of_them(database: Database) -> None:
    open_run(database)
    database.execute("INSERT INTO target VALUES (7)")
    not_scanned = replace(READY, plan=PLAN.model_copy(update={"table_id": TABLE_ID + 1}))
    with closing(connect(database)) as session:
        assert status_store.record_scan(session, RUN, TABLE_ID, "a scan")
        assert not targets.start_loading(session, RUN, [READY, not_scanned], allow_shrink=True)
    assert database.rows("SELECT id FROM target") == [(7,)]
    assert database.rows("SELECT status FROM migration_status.run_tables") == [("scanning",)]


def test_chunks_that_failed_are_tried_by_a_resumed_run_as_often_as_any_other(
    loading: Session, database: Database
) -> None:
    database.execute("UPDATE migration_status.chunks SET status = 'failed', attempts = 3 WHERE chunk_id = 1")
    database.execute("UPDATE migration_status.run_tables SET status = 'failed', error_code = 'DataError'")
    database.execute("UPDATE migration_status.runs SET status = 'failed'")

    take_over(loading)

    chunks = database.rows("SELECT status, attempts FROM migration_status.chunks ORDER BY chunk_id")
    assert chunks == [("pending", 0), ("pending", 0)]
    assert database.rows("SELECT status FROM migration_status.run_tables") == [("loading",)]


def test_tables_of_a_run_that_another_takes_the_place_of_are_abandoned(loading: Session, database: Database) -> None:
    database.execute("UPDATE migration_status.run_tables SET status = 'failed'")
    database.execute("UPDATE migration_status.runs SET status = 'failed'")

    begin(loading, RUN_PLAN.model_copy(update={"run_id": "run-2"}), PLAN, "the second", closes=(RUN,))

    found = database.rows("SELECT run_id, status FROM migration_status.run_tables ORDER BY run_id")
    assert found == [(RUN, "abandoned"), ("run-2", "pending")]


def test_a_run_is_driven_until_its_driver_expires(loading: Session, database: Database) -> None:
    def driven() -> bool:
        (run,) = status_store.known_runs(loading, "source", None, lambda _: "unknown")
        return run.driven

    assert driven()
    database.execute("UPDATE migration_status.run_executions SET expires_at = clock_timestamp() - interval '1 s'")
    assert not driven()
