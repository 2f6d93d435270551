"""A run goes on while anything moves, waits as long as it must, and ends when it stands still."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.engine import rounds
from snowmelt.engine.rounds import LONGEST_WAIT_SECONDS, MOST_ROUNDS, Before, Outlook, Step
from snowmelt.errors import StalledError

FRESH = Before(progress_mark=0, stalled_rounds=0, waits=0)

counts = st.integers(min_value=0, max_value=50_000)
outlooks = st.builds(
    Outlook,
    claimable=counts,
    running=counts,
    scanning=counts,
    progress_mark=counts,
    lease_seconds=st.none() | st.floats(min_value=0, max_value=1000),
)
round_numbers = st.integers(min_value=0, max_value=MOST_ROUNDS - 1)
befores = st.builds(
    Before,
    progress_mark=counts,
    stalled_rounds=st.integers(min_value=0, max_value=1),
    waits=st.integers(min_value=0, max_value=10_000),
)


def decide(found: Outlook, before: Before = FRESH, round_number: int = 0) -> Step:
    return rounds.decide("flights-1", round_number, before, found)


def after(step: Step, found: Outlook, last_error: str | None = None, round_number: int = -1) -> Before:
    """What the run's row holds for the next plan."""
    return Before(found.progress_mark, step.stalled_rounds, step.waits, round_number, last_error)


def ready(chunks: int = 7, mark: int = 0) -> Outlook:
    return Outlook(claimable=chunks, running=0, scanning=0, progress_mark=mark)


def waiting(*, running: int = 0, scanning: int = 0, lease_seconds: float | None = None) -> Outlook:
    return Outlook(claimable=0, running=running, scanning=scanning, progress_mark=0, lease_seconds=lease_seconds)


# --- what comes next ------------------------------------------------------------------------------------------------


def test_one_chunk_that_is_left_is_loaded_like_many() -> None:
    assert [decide(ready(chunks)).next for chunks in (2, 1, 0)] == ["process", "process", "finalize"]


@given(found=outlooks, before=befores, number=round_numbers)
def test_what_can_be_claimed_is_loaded_what_is_out_is_awaited_and_else_the_run_is_over(
    found: Outlook, before: Before, number: int
) -> None:
    before = replace(before, progress_mark=found.progress_mark + 1)  # something moved

    step = decide(found, before, number)

    expected = "process" if found.claimable else "wait" if found.scanning or found.running else "finalize"
    assert step.next == expected


@given(found=outlooks, before=befores, number=round_numbers)
def test_no_wait_is_negative_or_longer_than_five_minutes(found: Outlook, before: Before, number: int) -> None:
    before = replace(before, progress_mark=found.progress_mark + 1)

    step = decide(found, before, number)

    assert 0 <= step.wait_seconds <= LONGEST_WAIT_SECONDS == 300
    assert step.next != "wait" or step.wait_seconds >= 1


# --- stalling -------------------------------------------------------------------------------------------------------


def test_two_rounds_in_a_row_that_load_nothing_end_the_run() -> None:
    before, found = FRESH, ready(mark=1)
    for _ in range(2):  # the first plan sees that the scan has moved it
        before = after(decide(found, before), found, "AccessError: 42501")

    with pytest.raises(StalledError) as caught:
        decide(found, before)

    assert caught.value.message == (
        "run flights-1: 7 chunks are ready, but 2 rounds in a row loaded none of them: AccessError: 42501; "
        "fix the cause and start again: the run resumes, or says why a new one begins"
    )


def test_a_round_that_is_planned_again_counts_once() -> None:
    found = ready(mark=1)
    before = after(decide(found), found, round_number=0)
    for _ in range(5):
        before = after(decide(found, before, 1), found, round_number=1)

    assert before.stalled_rounds == 1
    with pytest.raises(StalledError):
        decide(found, before, 2)


def test_a_cause_that_says_how_to_go_on_is_not_contradicted() -> None:
    cause = "column note is gone; undo the change, or start again with no_resume"
    with pytest.raises(StalledError) as caught:
        decide(ready(), Before(progress_mark=0, stalled_rounds=1, waits=0, last_error=cause))

    assert caught.value.message.endswith(f"loaded none of them: {cause}")


def test_a_run_that_stalls_without_a_word_sends_its_reader_to_the_log() -> None:
    with pytest.raises(StalledError, match=r"look at the workers' log \(time-out, memory, throttling, network\)"):
        decide(ready(), Before(progress_mark=0, stalled_rounds=1, waits=0))


@given(marks=st.lists(st.integers(min_value=0, max_value=3), max_size=40))
def test_a_run_ends_exactly_when_two_rounds_found_work_and_moved_nothing(marks: list[int]) -> None:
    before, mark, still = FRESH, 0, 0
    for number, step_forward in enumerate(marks):
        mark += step_forward
        still = 0 if step_forward else still + 1
        found = ready(mark=mark)
        if still == 2:
            with pytest.raises(StalledError):
                decide(found, before, number)
            return
        before = after(decide(found, before, number), found)


@given(founds=st.lists(outlooks, max_size=60))
def test_waiting_never_counts_as_stalling(founds: list[Outlook]) -> None:
    before = FRESH
    for number, found in enumerate(founds):
        stuck = replace(found, claimable=0, running=max(1, found.running), progress_mark=0)
        step = decide(stuck, before, number)
        assert (step.next, step.stalled_rounds) == ("wait", 0)
        before = after(step, stuck)


def test_a_wait_between_two_rounds_that_moved_nothing_restarts_the_count() -> None:
    before = Before(progress_mark=0, stalled_rounds=1, waits=0)

    step = decide(waiting(running=1), before)

    assert decide(ready(), after(step, waiting(running=1))).stalled_rounds == 1


# --- waiting --------------------------------------------------------------------------------------------------------


def waits_of(found: Outlook, times: int) -> list[int]:
    before, seconds = FRESH, []
    for number in range(times):
        step = decide(found, before, number)
        seconds.append(step.wait_seconds)
        before = after(step, found)
    return seconds


def test_waits_double_up_to_five_minutes() -> None:
    assert waits_of(waiting(scanning=1), 12) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_wait_during_which_something_moved_is_followed_by_a_short_one() -> None:
    moved = replace(waiting(scanning=2), progress_mark=5)

    assert decide(moved, Before(progress_mark=4, stalled_rounds=0, waits=9)).wait_seconds == 1


@given(lease=st.floats(min_value=0, max_value=1000), waits=st.integers(min_value=0, max_value=1000))
def test_a_wait_for_workers_ends_when_the_first_lease_does(lease: float, waits: int) -> None:
    found = waiting(running=3, lease_seconds=lease)

    seconds = decide(found, Before(0, 0, waits)).wait_seconds

    assert 1 <= seconds <= lease + 1


def test_a_wait_for_a_scan_is_not_cut_short_by_leases() -> None:
    assert waits_of(waiting(running=1, scanning=1, lease_seconds=3.0), 8)[-1] == 128


def test_a_wait_says_what_it_is_for() -> None:
    found = waiting(running=3, scanning=2, lease_seconds=10)

    assert decide(found).reason == "2 scans are under way in Snowflake, 3 chunks are with living workers"


# --- history --------------------------------------------------------------------------------------------------------


@given(found=outlooks, before=befores, more=st.integers(min_value=0, max_value=5))
def test_an_execution_ends_in_order_before_its_history_is_full(found: Outlook, before: Before, more: int) -> None:
    with pytest.raises(StalledError, match=r"ends in order after \d+ rounds.*start it again and the run resumes"):
        decide(found, before, MOST_ROUNDS + more)


def test_so_many_rounds_fit_into_the_history_of_an_execution() -> None:
    events_per_round = 16
    assert MOST_ROUNDS * events_per_round < 20_000


def test_many_rounds_of_small_steps_slow_down() -> None:
    """Else a run that is handed back chunk by chunk would use its history up within hours."""
    pauses = [decide(ready(mark=n), Before(n - 1, 0, 0), n).wait_seconds for n in range(MOST_ROUNDS)]

    assert set(pauses[:100]) == {0}
    assert all(one <= two for one, two in pairwise(pauses))
    assert pauses[-1] == LONGEST_WAIT_SECONDS


def test_a_wait_for_a_lease_ends_after_it_and_not_before() -> None:
    patient = replace(FRESH, waits=9)
    assert decide(waiting(running=1, lease_seconds=5.0), patient).wait_seconds == 6
    assert decide(waiting(running=1, lease_seconds=5.9), patient).wait_seconds == 6
    assert decide(waiting(running=1, lease_seconds=0.0), patient).wait_seconds == 1
