"""A run at one moment: what is said of it adds up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.monitoring import snapshot
from snowmelt.monitoring.snapshot import RunOverview, binned, doing, seconds_left, spread

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RUN: dict[str, Any] = {
    "run_id": "r1",
    "source_name": "shop",
    "status": "running",
    "started_at": NOON - timedelta(hours=1),
    "driven_since": NOON - timedelta(minutes=10),
    "completed_at": None,
    "seen_at": NOON,
    "seconds": 3600.0,
    "rounds": 1,
    "driver": "local:host:1",
    "error_code": None,
    "error_text": None,
}
TABLE: dict[str, Any] = {
    "table_id": 0,
    "source_table": "ORDERS",
    "target_schema": "public",
    "target_table": "orders",
    "status": "loading",
    "strategy": "one_scan",
    "source_rows": 10_000,
    "error_code": None,
    "error_text": None,
    "seconds": 600.0,
    "chunks": 10,
    "completed": 4,
    "running": 1,
    "failed": 0,
    "rows": 4_000,
    "size_bytes": 80_000,
    "rejected": 0,
    "recent_rows": 3_000.0,
    "first_claimed_at": NOON - timedelta(seconds=500),
    "last_loaded_at": NOON - timedelta(seconds=100),
    "cells": "0010rppppp",
    "indexes_to_build": 0,
}


def seen(*tables: dict[str, Any], **run: Any) -> RunOverview:
    numbered = [TABLE | {"table_id": number} | table for number, table in enumerate(tables)]
    return snapshot.shape(RUN | run, tables=numbered, flows=(), workers=(), pulse=None)


# --- speed and time left ----------------------------------------------------------------------------------------------


def test_the_time_left_follows_from_the_rows_of_the_last_minutes() -> None:
    run = seen({}, {"rows": 10_000, "status": "completed", "recent_rows": 2_000.0})

    assert run.rows_per_second == pytest.approx(5_000 / 300)
    assert run.seconds_left == pytest.approx(6_000 * 300 / 5_000)
    assert run.tables[0].seconds_left == pytest.approx(6_000 * 300 / 3_000)
    assert run.tables[1].seconds_left is None


def test_a_run_that_was_just_taken_up_is_measured_from_then_on() -> None:
    run = seen({}, driven_since=NOON - timedelta(seconds=60))

    assert run.rows_per_second == pytest.approx(3_000 / 60)


def test_a_run_in_which_nothing_comes_in_has_no_time_left_to_tell() -> None:
    run = seen({"recent_rows": 0.0})

    assert (run.rows_per_second, run.seconds_left, run.tables[0].seconds_left) == (None, None, None)


def test_refused_rows_are_not_waited_for() -> None:
    assert seen({"rows": 9_000, "rejected": 1_000}).seconds_left == 0.0


def test_a_run_that_is_over_has_its_mean_speed_and_no_time_left() -> None:
    run = seen({"status": "completed", "rows": 10_000}, status="completed", completed_at=NOON)

    assert run.rows_per_second == run.tables[0].rows_per_second == pytest.approx(10_000 / 400)
    assert (run.seconds_left, run.share) == (None, 1.0)


@given(st.integers(-5, 10**12), st.one_of(st.none(), st.floats(1e-3, 1e9)))
def test_time_left_is_never_negative(rows: int, rate: float | None) -> None:
    left = seconds_left(rows, rate)

    assert (left is None) == (rows > 0 and rate is None)
    assert left is None or left >= 0


# --- how much is in ---------------------------------------------------------------------------------------------------


def test_the_share_goes_by_rows_when_all_tables_are_counted() -> None:
    assert seen({}, {"source_rows": 90_000, "rows": 0}).share == pytest.approx(0.04)


def test_the_share_goes_by_tables_while_some_are_not_counted() -> None:
    run = seen({"status": "completed"}, {}, {"status": "scanning", "source_rows": None, "rows": 0, "cells": ""})

    assert run.share == pytest.approx((1 + 0.4 + 0) / 3)
    assert run.tables_uncounted == 1


@given(st.lists(st.tuples(st.integers(0, 10), st.one_of(st.none(), st.integers(0, 10))), max_size=5))
def test_the_share_is_between_nothing_and_all(tables: list[tuple[int, int | None]]) -> None:
    run = seen(*({"rows": rows, "source_rows": of} for rows, of in tables))

    assert 0 <= run.share <= 1


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({}, "Under way: 0 of 1 table done, 4,000 rows so far."),
        ({"status": "completed"}, "Completed: 0 of 1 table, 4,000 rows."),
        ({"status": "completed_with_rejects"}, "Completed: 0 of 1 table, 4,000 rows; 7 rows were rejected."),
        ({"status": "failed", "error_text": "the disk is full"}, "Failed: the disk is full"),
        ({"status": "failed"}, "Failed: no reason is known"),
        ({"status": "abandoned"}, "Closed before its end: another run took its place"),
    ],
)
def test_the_verdict_is_a_sentence(run: dict[str, Any], says: str) -> None:
    assert seen({"rejected": 7}, **run).verdict == says


def test_the_verdict_names_tables_that_could_not_be_compared() -> None:
    done = seen({"verdict": "not comparable", "status": "completed"}, {"verdict": "equal"}, status="completed")

    assert done.verdict.endswith("8,000 rows; not comparable: ORDERS.")
    assert [table.verdict for table in done.tables] == ["not comparable", "equal"]


# --- the line of speeds -----------------------------------------------------------------------------------------------

FLOWS = st.lists(
    st.fixed_dictionaries({"began": st.integers(0, 200), "ended": st.integers(0, 200), "rows": st.integers(0, 10**6)}),
    max_size=30,
)


@given(FLOWS, st.integers(1, 120), st.integers(1, 60))
def test_no_row_is_lost_on_the_line(flows: list[dict[str, int]], steps: int, step_seconds: int) -> None:
    speeds = spread(flows, steps=steps, step_seconds=step_seconds)

    assert len(speeds) == steps
    assert min(speeds) >= 0
    rounding = 0.05 * steps * step_seconds + 1e-6
    assert sum(speeds) * step_seconds == pytest.approx(sum(f["rows"] for f in flows), abs=rounding)


def test_rows_of_a_long_chunk_are_spread_over_its_time() -> None:
    assert spread([{"began": 0, "ended": 2, "rows": 400}], steps=4, step_seconds=1) == (100.0, 200.0, 100.0, 0.0)


def test_the_line_reaches_from_where_the_run_was_taken_up_to_now() -> None:
    run = seen({})

    assert run.speed.begin == RUN["driven_since"]
    assert run.speed.step_seconds * len(run.speed.rows_per_second) == pytest.approx(600)


# --- cells ------------------------------------------------------------------------------------------------------------


@given(st.text("012345jrlpex", max_size=300), st.integers(1, 60))
def test_cells_are_at_most_as_many_as_may_be_and_hide_no_failure(cells: str, most: int) -> None:
    shown, per_cell = binned(cells, most=most)

    assert len(shown) <= most
    assert len(shown) == -(-len(cells) // per_cell)
    for at, letter in enumerate(shown):
        part = cells[at * per_cell : (at + 1) * per_cell]
        assert letter in part
        assert ("x" in part) == (letter == "x")


def test_eleven_thousand_chunks_of_one_table_share_cells() -> None:
    run = seen({"cells": "1" * 10_999 + "x", "chunks": 11_000})

    assert run.tables[0].chunks_per_cell == 3
    assert run.tables[0].cells == "1" * 3666 + "x"


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "does"),
    [
        ((False, None, None, None), "its session is gone; the next round frees the chunk"),
        ((True, "active", "Client", "ClientRead"), "waits for rows from Snowflake"),
        ((True, "idle in transaction", "Client", "ClientRead"), "waits for rows from Snowflake"),
        ((True, "idle", "Client", "ClientRead"), "waits for rows from Snowflake"),
        ((True, "active", "Lock", "relation"), "waits for a lock"),
        ((True, "active", "IO", "WALSync"), "PostgreSQL stores rows (WALSync)"),
        ((True, "active", None, None), "PostgreSQL stores rows"),
        ((True, None, None, None), "at work; this role may not see on what"),
    ],
)
def test_what_a_worker_does_is_said_in_words(
    session: tuple[bool, str | None, str | None, str | None], does: str
) -> None:
    is_alive, state, wait_type, wait = session

    assert doing(is_alive=is_alive, state=state, wait_type=wait_type, wait=wait) == does
