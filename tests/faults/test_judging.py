"""What counts as a failure although nothing was wrong."""

import time
from dataclasses import replace

import pytest

from fault_injection.judging import HELD, false_failure, not_refused
from fault_injection.kinds import Case, Excuse, Kind, Strike
from fault_injection.modes import MODES
from fault_injection.starts import Ended, Patience
from fault_injection.traps import Moment

COMPLETED, FAILED, HUNG, DIED = (
    Ended("completed"),
    Ended("failed", "TransientError", "no"),
    Ended("hung"),
    Ended("died"),
)
HELD_OFF = Ended("failed", HELD, "another is at work")


def case(excuses: Excuse = "nothing", refused_for: str = "") -> Case:
    kind = Kind("it is tried", ((".", 1),), ("delay",), excuses=excuses, refused_for=refused_for)
    return Case(0, MODES[0], "command", (Strike(kind, Moment("postgres", ".", 1), "delay", 0.1, "", ""),))


def test_where_nothing_is_wrong_the_first_start_must_complete() -> None:
    assert false_failure(case(), COMPLETED, run_failed=False) == ""
    for first in (FAILED, HUNG, DIED):
        assert "the first start" in false_failure(case(), first, run_failed=False, afterwards=[COMPLETED]), first


def test_an_invocation_too_short_for_any_chunk_may_say_so_but_not_stand_still() -> None:
    kind = Kind("time is short", ((".", 1),), ("delay",), excuses="nothing", effect="short_invocation")
    short = Case(0, MODES[0], "command", (Strike(kind, Moment("postgres", ".", 1), "delay", 0.1, "", ""),))
    told = Ended("failed", "StalledError", "look at the workers' time-out")
    assert false_failure(short, told, run_failed=False, afterwards=[COMPLETED]) == ""
    assert "the first start" in false_failure(case(), told, run_failed=False, afterwards=[COMPLETED])
    for first in (FAILED, HUNG, DIED):
        assert "the first start" in false_failure(short, first, run_failed=False, afterwards=[COMPLETED]), first


def test_a_start_may_fail_by_what_passes_but_the_run_may_not() -> None:
    for first in (FAILED, DIED):
        assert false_failure(case("a start"), first, run_failed=False, afterwards=[COMPLETED]) == ""
        assert "marked failed" in false_failure(case("a start"), first, run_failed=True, afterwards=[COMPLETED])
    assert false_failure(case("the run"), FAILED, run_failed=True, afterwards=[COMPLETED]) == ""


@pytest.mark.parametrize("excuses", ["nothing", "a start", "the run"])
def test_nothing_excuses_that_a_start_stands_still(excuses: Excuse) -> None:
    assert "hung" in false_failure(case(excuses), HUNG, run_failed=False, afterwards=[COMPLETED])


def test_when_all_is_over_starts_complete_once_the_driver_before_them_is_known_to_be_gone() -> None:
    within = case("a start")
    assert false_failure(within, DIED, run_failed=False, afterwards=[HELD_OFF, HELD_OFF, COMPLETED]) == ""
    assert "start 1" in false_failure(within, DIED, run_failed=False, afterwards=[FAILED, COMPLETED])
    assert "start 2" in false_failure(within, DIED, run_failed=False, afterwards=[HELD_OFF, HELD_OFF])


def test_what_had_to_be_put_right_first_is_no_false_failure() -> None:
    within = case("a start")
    assert false_failure(within, FAILED, run_failed=True, afterwards=[FAILED, COMPLETED], corrected=True) == ""
    assert "start 2" in false_failure(within, FAILED, run_failed=True, afterwards=[FAILED, FAILED], corrected=True)


def test_who_takes_over_from_a_driver_that_is_stopped_completes() -> None:
    within = case("a start")
    assert false_failure(within, FAILED, run_failed=False, taken_over=[COMPLETED]) == ""
    for ended in (FAILED, HUNG, HELD_OFF):
        assert "took over" in false_failure(within, COMPLETED, run_failed=False, taken_over=[ended]), ended


def test_who_meets_the_driver_at_work_again_may_be_kept_out_by_it() -> None:
    within = case("a start")
    assert false_failure(within, COMPLETED, run_failed=False, met=[HELD_OFF]) == ""
    assert "took over" in false_failure(within, FAILED, run_failed=False, met=[HELD_OFF])
    assert "took over" in false_failure(within, COMPLETED, run_failed=False, met=[FAILED])
    late = Ended("failed", "ConfigError", "the target public.copied holds rows already")
    assert false_failure(within, COMPLETED, run_failed=False, met=[late]) == ""
    assert "took over" in false_failure(replace(within, mode=MODES[1]), COMPLETED, run_failed=False, met=[late])


def test_a_start_that_must_be_refused_says_the_word() -> None:
    within = case("a start", refused_for="pooler")
    assert not_refused(within, replace(FAILED, message="connect past the pooler")) == ""
    assert "pooler" in not_refused(within, FAILED)
    assert "pooler" in not_refused(within, COMPLETED)
    assert not_refused(case(), FAILED) == ""


def test_a_start_that_moves_is_given_more_time_than_one_that_stands_still() -> None:
    assert 0 < Patience(10).left() <= 10
    assert Patience(10, lambda: time.monotonic() - 8).left() > 9
    moves = Patience(10, lambda: time.monotonic() + 5)
    assert 10 < moves.left() <= 15
    assert Patience(10, lambda: time.monotonic() + 1_000).left() <= 40
    assert Patience(0).left() <= 0
