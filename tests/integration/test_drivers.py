"""A run has one driver: whoever takes it over ends the sessions of the one before, which changes nothing any more."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from psycopg2 import sql as compose

from snowmelt.engine import status_store
from snowmelt.engine.status_store import Driver
from snowmelt.errors import HeldError, RunFailedError, TransientError
from snowmelt.loading import sequences, targets
from snowmelt.models import Consents
from snowmelt.planning import one_scan
from snowmelt.postgres.session import Session
from snowmelt.sql_text import queries
from snowmelt.verification import results
from snowmelt.verification.table_check import not_comparable
from snowmelt_sandbox.postgres import Database
from support.opened_run import PLAN, RUN, TABLE_ID, connect, open_run, take_over


@pytest.fixture
def opened(database: Database) -> Database:
    """A run with one table, opened by "the first" and driven by no session yet."""
    open_run(database)
    return database


def start_loading(session: Session) -> None:
    ready = targets.Ready(PLAN, "query", 10, tuple(one_scan.plan("query", [10], 10)))
    targets.start_loading(session, RUN, [ready], allow_shrink=False)


def split(session: Session) -> None:
    status_store.split_chunk(session, RUN, PLAN, 1, tuple(one_scan.plan("query", [10], 5)))


def save_verdict(session: Session) -> None:
    verdict = not_comparable("T", "public.target", RUN, "counts", "nothing to compare", "compare it by hand")
    results.save_verdict(session, RUN, TABLE_ID, verdict)


WRITES: dict[str, Callable[[Session], Any]] = {
    "the result": lambda s: status_store.finish_run(s, RUN, RunFailedError("no")),
    "a success": lambda s: status_store.finish_run(s, RUN, None),
    "a failed table": lambda s: status_store.fail_table(s, RUN, TABLE_ID, RunFailedError("no")),
    "a table that is closed": lambda s: status_store.start_finalizing(s, RUN, TABLE_ID),
    "a table that is complete, and its watermark": lambda s: status_store.complete_table(s, RUN, "source", PLAN),
    "a restarted table": lambda s: status_store.restart_table(s, RUN, TABLE_ID),
    "a round": lambda s: status_store.record_round(s, RUN, waits=9, stalled_rounds=9, round_number=9, progress_mark=9),
    "a scan": lambda s: status_store.record_scan(s, RUN, TABLE_ID, "another query"),
    "a second query": lambda s: status_store.record_second_query(s, RUN, TABLE_ID, "another query"),
    "a scan that is forgotten": lambda s: status_store.forget_scan(s, RUN, TABLE_ID, "query"),
    "a truncation and chunks": start_loading,
    "smaller chunks": split,
    "a verdict": save_verdict,
    "a sequence": lambda s: sequences.advance(s, PLAN.target),
}
STAGES: dict[str, str] = {
    "pending": "status = 'pending'",
    "scanning": "status = 'scanning', query_id = 'query'",
    "loading": "status = 'loading', query_id = 'query', source_rows = 0",
    "finalizing": "status = 'finalizing', query_id = 'query', source_rows = 0",
}
_STATE = (
    "SELECT (SELECT jsonb_agg(r) FROM migration_status.runs r),"
    " (SELECT jsonb_agg(t) FROM migration_status.run_tables t),"
    " (SELECT jsonb_agg(c) FROM migration_status.chunks c),"
    " (SELECT jsonb_agg(w) FROM migration_status.watermarks w),"
    " (SELECT jsonb_agg(v) FROM migration_status.verification_results v),"
    " (SELECT jsonb_agg(x.ended_at) FROM migration_status.run_executions x),"
    " (SELECT last_value FROM target_id_seq), (SELECT count(*) FROM target)"
)


def state(database: Database) -> tuple[Any, ...]:
    (row,) = ask(database, _STATE)
    return row


def ask(database: Database, question: str) -> list[tuple[Any, ...]]:
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchall()


@pytest.mark.parametrize("stage", STAGES)
def test_a_driver_that_was_replaced_writes_nothing(opened: Database, stage: str) -> None:
    opened.execute("INSERT INTO target VALUES (50)")
    with connect(opened) as second, connect(opened) as first:
        take_over(second)
        opened.execute(f"UPDATE migration_status.run_tables SET {STAGES[stage]}")
        if stage == "loading":
            opened.execute(
                "INSERT INTO migration_status.chunks"
                " (run_id, table_id, chunk_id, source_table, reads, estimated_rows)"
                " VALUES ('run-1', 0, 1, 'T', '{}', 10)"
            )
        before = state(opened)
        status_store.guard_driver(first, RUN, "the first")

        for what, write in WRITES.items():
            with pytest.raises(HeldError, match="no longer driven by the first, but by the second"):
                write(first)
            assert state(opened) == before, what


def test_the_driver_of_a_run_may_write(opened: Database) -> None:
    with connect(opened) as session:
        status_store.drive(session, RUN, Driver("the first", 600))
        assert status_store.record_scan(session, RUN, TABLE_ID, "query")
        start_loading(session)
        status_store.fail_table(session, RUN, TABLE_ID, RunFailedError("no"))
        status_store.finish_run(session, RUN, RunFailedError("no"))
        assert status_store.read_run(session, RUN).status == "failed"


def _falls_asleep(database: Database, where: str, told: Any) -> None:
    """Drive the run, fall asleep with what a driver holds at that moment, and go on when awakened."""
    with connect(database, "asleep") as session, status_store.only_planner(session, RUN):
        status_store.drive(session, RUN, Driver("the first", 600))
        try:
            if where == "between two statements":
                told.send("asleep")
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                with session.transaction() as cursor:
                    cursor.execute(compose.SQL("TRUNCATE public.target"))
                    told.send("asleep")
                    os.kill(os.getpid(), signal.SIGSTOP)
            status_store.finish_run(session, RUN, RunFailedError("the sleeper's"))
        except (HeldError, TransientError) as error:
            told.send(type(error).__name__)
        with connect(database, "awake") as other:
            try:
                status_store.drive(other, RUN, Driver("the first", 600))
                status_store.finish_run(other, RUN, RunFailedError("the sleeper's"))
            except HeldError as error:
                told.send(error.message)


@pytest.mark.parametrize("where", ["between two statements", "in a truncation"])
def test_a_driver_that_was_stopped_lets_go_at_the_takeover_and_changes_nothing_when_it_goes_on(
    opened: Database, where: str
) -> None:
    opened.execute("INSERT INTO target VALUES (50)")
    hears, tells = multiprocessing.Pipe(duplex=False)
    sleeper = multiprocessing.get_context("fork").Process(target=_falls_asleep, args=(opened, where, tells))
    sleeper.start()
    try:
        assert hears.poll(60)
        assert hears.recv() == "asleep"
        with connect(opened) as session:
            take_over(session)
            with status_store.only_planner(session, RUN) as alone:
                assert alone
                status_store.drive(session, RUN, Driver("the second", 600))
                before = state(opened)
                os.kill(sleeper.pid or 0, signal.SIGCONT)
                assert hears.poll(60)
                assert hears.recv() == "TransientError"  # its session is gone
                assert hears.poll(60)
                assert "no longer driven by the first, but by the second" in hears.recv()
                assert state(opened) == before
                assert ask(opened, "SELECT id FROM target") == [(50,)]
    finally:
        sleeper.kill()
        sleeper.join()


def test_a_planner_that_waits_says_for_whom(opened: Database) -> None:
    with connect(opened, "snowmelt run-1") as first, connect(opened) as second:
        with status_store.only_planner(first, RUN), status_store.only_planner(second, RUN) as alone:
            assert not alone
            (pid,) = first.rows(compose.SQL("SELECT pg_backend_pid() AS pid"))
            told = status_store.planner_at_work(second, RUN)
        assert f"another planner of the first: PostgreSQL process {pid['pid']} (snowmelt run-1, user " in told


def test_a_start_that_waits_for_another_says_for_whom(opened: Database, caplog: pytest.LogCaptureFixture) -> None:
    with connect(opened, "the quicker") as first, connect(opened) as second, ThreadPoolExecutor(1) as thread:
        (pid,) = first.rows(compose.SQL("SELECT pg_backend_pid() AS pid"))
        with first.transaction() as cursor:
            cursor.execute(queries.query("try_lock_opening"))
            taking = thread.submit(take_over, second)
            while not caplog.records and not taking.done():
                time.sleep(0.01)
        taking.result()
    assert (
        f"waiting for another start, which opens or resumes a run: PostgreSQL process {pid['pid']} (the quicker, "
        in (caplog.text)
    )


def test_a_role_that_only_reads_sees_that_a_run_and_its_workers_live(opened: Database) -> None:
    name = f"reader_{os.getpid()}"
    opened.execute(f"CREATE ROLE {name} LOGIN")
    try:
        opened.execute(f"GRANT USAGE ON SCHEMA migration_status TO {name}")
        opened.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO {name}")
        with connect(opened) as session, connect(opened, user=name) as reader:
            take_over_with(session)
            status_store.record_scan(session, RUN, TABLE_ID, "query")
            start_loading(session)
            session.rows(queries.query("claim_chunk"), run_id=RUN, table_id=TABLE_ID, chunk_id=1, seconds=60)

            seen = status_store.vitals(reader, RUN)
            assert seen is not None
            assert (seen["driver_is_alive"], seen["loading"], seen["lost"]) == (True, 1, 0)
            (worker,) = reader.rows(queries.query("overview_workers"), run_id=RUN, limit=10)
            assert worker["is_alive"]

            session.close()
            watched = status_store.vitals(reader, RUN)
            while watched is not None and watched["driver_is_alive"]:
                watched = status_store.vitals(reader, RUN)
            assert watched is not None
            assert (watched["loading"], watched["lost"]) == (0, 1)
    finally:
        opened.execute(f"DROP OWNED BY {name}")
        opened.execute(f"DROP ROLE {name}")


def take_over_with(session: Session) -> None:
    """Drive the run from this session's process, as the command line does."""
    (known,) = status_store.known_runs(session, "source", None, lambda _: "ended")
    driver = Driver("the command line", 600, session.backend())
    status_store.resume_run(session, known, driver, lambda _: "ended", consents=Consents())
