"""Few connections make a run load fewer chunks at once, and never none."""

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.engine.connection_budget import Budget, Limit, budget

SERVER = Limit("the server", "ALTER SYSTEM SET max_connections =", most=97, taken=10, reserved=3)
ROLE = Limit("role loader", 'ALTER ROLE "loader" CONNECTION LIMIT', most=6, taken=2)


def test_a_run_takes_what_it_asked_for_where_there_is_enough() -> None:
    assert budget([SERVER], 16) == Budget(16)


def test_the_tightest_limit_decides_and_is_named_with_the_statement_that_raises_it() -> None:
    assert budget([SERVER, ROLE], 16) == Budget(
        3,
        "role loader gives 6 connections, of which 2 are taken: 3 chunks instead of 16 are loaded at once, so that "
        "planning and verifying have theirs; lower parallel_threads, or raise the limit: "
        'ALTER ROLE "loader" CONNECTION LIMIT 19',
    )


def test_the_number_for_the_server_counts_what_it_reserves() -> None:
    assert budget([SERVER], 100).reason.endswith("ALTER SYSTEM SET max_connections = 114")


@given(most=st.integers(0, 50), taken=st.integers(0, 50), workers=st.integers(0, 20), wanted=st.integers(1, 100))
def test_workers_that_are_connected_already_do_not_count_against_the_run(
    most: int, taken: int, workers: int, wanted: int
) -> None:
    limit = Limit("x", "y", most=max(most, taken) + workers, taken=taken + workers, workers=workers)

    found = budget([limit], wanted)

    assert found.workers == max(1, min(wanted, limit.most - taken - 1))
    assert (found.reason == "") == (found.workers == wanted) or wanted == 1
