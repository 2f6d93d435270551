"""An invocation knows how long it may go on, and keeps back what an orderly end needs."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError, OutOfTimeError
from snowmelt.wiring import keep_back

seconds = st.floats(min_value=0, max_value=900)


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Context:
    milliseconds: int

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def test_time_that_passes_is_time_that_is_gone() -> None:
    clock = Clock()
    deadline = Deadline.after(60, buffer_seconds=10, clock=clock)

    assert (deadline.lifetime_seconds(), deadline.remaining_seconds()) == (60, 50)
    clock.now += 45
    assert (deadline.lifetime_seconds(), deadline.remaining_seconds()) == (15, 5)
    clock.now += 100
    assert (deadline.lifetime_seconds(), deadline.remaining_seconds()) == (-85, 0)


def test_work_is_allowed_while_it_can_be_finished_before_the_buffer() -> None:
    deadline = Deadline.after(60, buffer_seconds=10, clock=Clock())

    assert deadline.allows(49.9)
    assert not deadline.allows(50)


@given(after=seconds, buffer=seconds, elapsed=st.floats(min_value=0, max_value=2_000), work=seconds)
def test_what_is_allowed_ends_before_the_runtime_is_killed(
    after: float, buffer: float, elapsed: float, work: float
) -> None:
    clock = Clock(0.0)
    deadline = Deadline.after(after, buffer_seconds=buffer, clock=clock)
    clock.now = elapsed

    assert deadline.remaining_seconds() >= 0
    if deadline.allows(work):
        assert elapsed + work < deadline.hard_seconds


def test_nothing_is_allowed_once_the_time_is_over() -> None:
    clock = Clock()
    deadline = Deadline.after(1, clock=clock)
    clock.now += 1

    assert not deadline.allows(0)


def test_the_end_is_the_one_that_the_runtime_has_set() -> None:
    deadline = Deadline.of_invocation(Context(milliseconds=900_000))

    assert 890 < deadline.lifetime_seconds() <= 900


def test_another_buffer_leaves_the_end_and_the_clock_as_they_are() -> None:
    clock = Clock()
    deadline = Deadline.after(60, clock=clock).with_buffer(20)
    clock.now += 10

    assert (deadline.lifetime_seconds(), deadline.remaining_seconds()) == (50, 30)


@pytest.mark.parametrize("buffer_seconds", [60, 61, 900])
def test_a_buffer_that_leaves_no_time_to_work_is_refused_with_both_figures(buffer_seconds: float) -> None:
    deadline = Deadline.after(60, clock=Clock())

    with pytest.raises(ConfigError) as caught:
        keep_back(deadline, buffer_seconds)

    assert caught.value.message == (
        f"lambda_timeout_buffer_seconds is {buffer_seconds}, but the function's time-out leaves this invocation 60 s; "
        "lower the buffer or raise the time-out"
    )


def test_a_buffer_that_fits_is_kept_back() -> None:
    assert keep_back(Deadline.after(60, clock=Clock()), 59).remaining_seconds() == 1


def test_an_action_that_begins_when_the_invocations_time_is_used_up_says_so_and_blames_no_setting() -> None:
    clock = Clock()
    deadline = Deadline.after(60, clock=clock)
    clock.now += 45

    with pytest.raises(OutOfTimeError, match="time is nearly over"):
        keep_back(deadline, 20)


def test_the_buffer_of_a_config_of_the_predecessor_leaves_any_invocation_time_to_work() -> None:
    kept = keep_back(Deadline.after(5, clock=Clock()), 90, "predecessor")

    assert (kept.buffer_seconds, kept.remaining_seconds()) == (2, 3)
