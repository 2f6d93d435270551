"""A start goes on with what is there, restarts, or is refused with words that say what to do."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from snowmelt.engine import resume
from snowmelt.engine.resume import Fresh, KnownRun, Resume, Start
from snowmelt.errors import ConfigError, HeldError, SnowmeltError
from snowmelt.models import PLAN_FORMAT
from snowmelt.wording import WITH_NO_RESUME

START = Start(
    execution_id="arn:me",
    source_name="flights",
    config_hash="same",
    tables=("AIRLINES", "FLIGHTS"),
    store="s3://bucket/store",
    no_resume=False,
    resume_run_id=None,
    resume_max_age=timedelta(days=7),
)
OPEN_RUN = KnownRun(
    run_id="flights-1",
    status="running",
    config_hash="same",
    started_at=datetime(2026, 11, 1, tzinfo=UTC),
    completed_at=None,
    age=timedelta(hours=3),
    plan_format=PLAN_FORMAT,
    store="s3://bucket/store",
    tables=("AIRLINES", "FLIGHTS"),
    driver="arn:another",
    driven=False,
)
FAILED_RUN = replace(OPEN_RUN, status="failed", driver=None)
DONE_RUN = replace(OPEN_RUN, status="completed", driver=None)
CHANGES = ("batch_size was 500000 and is 1000", "sources[0].tables[1].source_filter was added")


def changed(_: KnownRun) -> Sequence[str]:
    return CHANGES


def not_asked(_: KnownRun) -> Sequence[str]:
    raise AssertionError("the config did not change")


def decide(start: Start, *runs: KnownRun) -> Resume | Fresh:
    differs = any(run.config_hash != start.config_hash for run in runs)
    return resume.decide(start, runs, changed if differs else not_asked)


def refusal(start: Start, *runs: KnownRun) -> SnowmeltError:
    with pytest.raises(SnowmeltError) as caught:
        decide(start, *runs)
    return caught.value


# --- new runs -------------------------------------------------------------------------------------------------------


def test_the_first_start_of_a_source_begins_a_run() -> None:
    assert decide(START) == Fresh(closes=(), message="new run, the first of this source")


@pytest.mark.parametrize("status", ["completed", "abandoned"])
def test_after_a_run_that_is_over_a_new_one_begins_and_says_so(status: str) -> None:
    found = decide(START, replace(DONE_RUN, status=status))

    assert found == Fresh(closes=(), message=f"new run; the last one, flights-1, is {status}")


def test_an_open_run_of_other_tables_is_left_alone() -> None:
    other = replace(OPEN_RUN, tables=("WEATHER",), driven=True)

    assert decide(START, other) == Fresh(closes=(), message="new run; the last one, flights-1, is running")


def test_no_resume_closes_every_unfinished_run_of_the_tables() -> None:
    older = replace(FAILED_RUN, run_id="flights-0", tables=("FLIGHTS", "WEATHER"))
    apart = replace(FAILED_RUN, run_id="weather-0", tables=("WEATHER",))

    found = decide(replace(START, no_resume=True), OPEN_RUN, older, apart, replace(DONE_RUN, run_id="flights-x"))

    assert found == Fresh(
        closes=("flights-1", "flights-0"),
        message="new run; the unfinished flights-1, flights-0 is closed, as no_resume was asked for",
        why="no_resume was asked for",
    )


def test_no_resume_with_nothing_to_close_is_a_new_run() -> None:
    assert decide(replace(START, no_resume=True), DONE_RUN) == Fresh(closes=(), message="new run")


def test_no_resume_does_not_mind_how_the_run_it_closes_was_begun() -> None:
    foreign = replace(OPEN_RUN, config_hash="other", plan_format=PLAN_FORMAT + 1, store="elsewhere")

    assert isinstance(decide(replace(START, no_resume=True), foreign), Fresh)


def test_a_run_that_is_too_old_is_closed() -> None:
    old = replace(FAILED_RUN, age=timedelta(days=8))

    assert decide(START, old) == Fresh(
        closes=("flights-1",),
        message="new run; the unfinished flights-1 is closed, as it is older than resume_max_age (8 d)",
        why="it is older than resume_max_age (8 d)",
    )


# --- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [OPEN_RUN, FAILED_RUN])
def test_an_unfinished_run_is_resumed(run: KnownRun) -> None:
    found = decide(START, run)

    assert found == Resume(run, f"resuming run flights-1, which began 3 h ago and stands {run.status}")


def test_the_newest_unfinished_run_is_the_one_that_is_resumed() -> None:
    found = decide(START, replace(DONE_RUN, run_id="flights-3"), replace(OPEN_RUN, run_id="flights-2"), OPEN_RUN)

    assert isinstance(found, Resume)
    assert found.run.run_id == "flights-2"


def test_a_run_as_old_as_the_limit_is_still_resumed() -> None:
    assert isinstance(decide(START, replace(OPEN_RUN, age=timedelta(days=7))), Resume)


@pytest.mark.parametrize("no_resume", [False, True])
def test_the_same_start_twice_finds_the_run_it_began(no_resume: bool) -> None:
    """Step Functions may deliver an event again after its answer was lost."""
    mine = replace(OPEN_RUN, driver=START.execution_id, driven=True)

    found = decide(replace(START, no_resume=no_resume), mine)

    assert found == Resume(mine, "run flights-1 is driven by this execution", already_driving=True)


@pytest.mark.parametrize("no_resume", [False, True])
def test_a_run_that_is_driven_by_another_execution_is_not_touched(no_resume: bool) -> None:
    error = refusal(replace(START, no_resume=no_resume), replace(OPEN_RUN, driven=True))

    assert isinstance(error, HeldError)
    assert error.message == (
        "run flights-1 of the same tables is on, driven by arn:another since 3 h; "
        "wait for its end, or stop that execution and start again"
    )


def test_another_config_is_no_reason_to_resume_or_to_throw_work_away() -> None:
    error = refusal(START, replace(FAILED_RUN, config_hash="other"))

    assert isinstance(error, ConfigError)
    assert error.message == (
        f"run flights-1 is unfinished (failed) and was begun with another config: {CHANGES[0]}; {CHANGES[1]}; "
        'to finish it as it was begun, start with --resume-run-id flights-1 (resume_run_id: "flights-1" in the '
        "execution's input); to close it and begin a new run, start with --no-resume (no_resume: true in the "
        "execution's input)"
    )


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (
            replace(OPEN_RUN, plan_format=PLAN_FORMAT + 1),
            (
                f"was planned in format {PLAN_FORMAT + 1}, this version of Snowmelt reads {PLAN_FORMAT}; "
                "finish it with the version that began it, or start " + WITH_NO_RESUME
            ),
        ),
        (
            replace(OPEN_RUN, store="/var/plans"),
            (
                "keeps its plans in /var/plans, but SNOWMELT_STORE is s3://bucket/store; "
                "set it to the former, or start " + WITH_NO_RESUME
            ),
        ),
    ],
)
@pytest.mark.parametrize("named", [None, "flights-1"])
def test_a_run_whose_plans_cannot_be_read_is_not_resumed(run: KnownRun, says: str, named: str | None) -> None:
    error = refusal(replace(START, resume_run_id=named), run)

    assert isinstance(error, ConfigError)
    assert error.message == f"run flights-1 {says}"


# --- a run that a resume does not help --------------------------------------------------------------------------------

FAULT = "table FLIGHTS: chunk 3: Key (id)=(7) already exists"
FAULTY_RUN = replace(FAILED_RUN, source_fault=FAULT)


def test_a_run_that_failed_for_what_its_source_held_is_closed_with_that_reason_and_a_new_one_begins() -> None:
    assert decide(START, FAULTY_RUN) == Fresh(
        closes=("flights-1",),
        message=f"new run; the unfinished flights-1 is closed, as {FAULT}",
        why=FAULT,
        resumable="flights-1",
    )


def test_a_run_whose_rows_are_still_rejected_is_closed_and_one_whose_rows_are_loaded_now_is_resumed() -> None:
    run = replace(FAILED_RUN, has_rejected=True)

    closed = resume.decide(START, [run], changed, lambda _: "2 rows are still rejected")
    resumed = resume.decide(START, [run], changed, lambda _: None)

    assert isinstance(closed, Fresh)
    assert closed.message == "new run; the unfinished flights-1 is closed, as 2 rows are still rejected"
    assert isinstance(resumed, Resume)


def test_a_run_that_appended_rows_is_neither_resumed_in_vain_nor_repeated() -> None:
    error = refusal(START, replace(FAULTY_RUN, added_to=("AIRLINES",)))

    assert isinstance(error, ConfigError)
    assert f"is not resumed, as {FAULT}; a new run would append again what" in error.message
    assert "the target of AIRLINES (run flights-1): delete those rows there" in error.message
    assert WITH_NO_RESUME in error.message
    assert "--resume-run-id flights-1" in error.message


def test_a_named_run_goes_on_whatever_it_failed_for_and_says_that_this_comes_back() -> None:
    found = decide(replace(START, resume_run_id="flights-1"), FAULTY_RUN)

    assert isinstance(found, Resume)
    assert found.message.endswith(f"what failed before will fail again: {FAULT}")


def test_a_fault_is_no_reason_to_ignore_another_config() -> None:
    assert "another config" in refusal(START, replace(FAULTY_RUN, config_hash="other")).message


# --- a start of other tables ------------------------------------------------------------------------------------------


def no_change(_: KnownRun) -> Sequence[str]:
    return ()


def test_a_start_of_more_tables_than_the_open_run_has_closes_it_and_names_both_sides() -> None:
    partial = replace(FAILED_RUN, tables=("FLIGHTS",), config_hash="of fewer tables")

    found = resume.decide(START, [partial], no_change)

    assert isinstance(found, Fresh)
    assert found.message == (
        "new run; the unfinished flights-1 is closed, as it has only FLIGHTS, and this start also asks for AIRLINES"
    )


def test_a_start_of_fewer_tables_than_the_open_run_has_names_both_sides_and_moves_nothing() -> None:
    start = replace(START, tables=("FLIGHTS",), config_hash="of fewer tables")

    with pytest.raises(ConfigError) as caught:
        resume.decide(start, [FAILED_RUN], no_change)

    assert "has AIRLINES, FLIGHTS, but this start asks only for FLIGHTS" in caught.value.message
    assert "--resume-run-id flights-1" in caught.value.message
    assert "another config" not in caught.value.message


def test_a_named_run_goes_on_with_its_own_tables_and_says_so() -> None:
    start = replace(START, tables=("FLIGHTS",), resume_run_id="flights-1", config_hash="of fewer tables")

    found = resume.decide(start, [FAILED_RUN], no_change)

    assert found.message.endswith("it goes on with its own tables: AIRLINES, FLIGHTS; this start names FLIGHTS")


# --- a run that is named --------------------------------------------------------------------------------------------

NAMED = replace(START, resume_run_id="flights-1")


def test_a_named_run_is_resumed_whatever_came_after_it_and_however_old_it_is() -> None:
    newer = replace(OPEN_RUN, run_id="flights-2")
    old = replace(FAILED_RUN, age=timedelta(days=90))

    assert decide(NAMED, newer, old) == Resume(old, "resuming run flights-1, which began 90 d ago and stands failed")


def test_a_named_run_goes_on_with_its_own_config_and_says_what_changed_since() -> None:
    found = decide(NAMED, replace(OPEN_RUN, config_hash="other"))

    assert found.message == (
        "resuming run flights-1, which began 3 h ago and stands running; it goes on with the config it was begun "
        f"with, although now {CHANGES[0]}; {CHANGES[1]}"
    )


def test_a_named_run_that_this_execution_drives_is_found_again() -> None:
    mine = replace(OPEN_RUN, driver=START.execution_id, driven=True)

    assert decide(NAMED, mine) == Resume(mine, "run flights-1 is driven by this execution", already_driving=True)


def test_a_named_run_that_another_drives_is_not_touched() -> None:
    error = refusal(NAMED, replace(OPEN_RUN, driven=True))

    assert isinstance(error, HeldError)
    assert "driven by arn:another" in error.message


@pytest.mark.parametrize("status", ["completed", "abandoned"])
def test_a_named_run_that_is_over_cannot_be_resumed(status: str) -> None:
    error = refusal(NAMED, replace(DONE_RUN, status=status))

    assert isinstance(error, ConfigError)
    assert (
        error.message
        == f"run flights-1 is {status} and cannot be resumed; start without --resume-run-id (resume_run_id)"
    )


def test_a_named_run_that_is_not_there_is_an_error_that_says_where_to_look() -> None:
    error = refusal(replace(START, resume_run_id="flights-7"), OPEN_RUN)

    assert isinstance(error, ConfigError)
    assert error.message == (
        "--resume-run-id flights-7 (resume_run_id): source flights has no such run in this database; "
        "`snowmelt status --all` lists the runs there are"
    )


def test_a_named_run_and_no_resume_contradict_each_other() -> None:
    error = refusal(replace(NAMED, no_resume=True), OPEN_RUN)

    assert isinstance(error, ConfigError)
    assert error.message == (
        "--resume-run-id and --no-resume (resume_run_id, no_resume) contradict each other: pass one of them"
    )


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=3), "3 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(hours=48), "2 d"),
    ],
)
def test_ages_are_told_in_the_unit_a_person_would_choose(age: timedelta, words: str) -> None:
    assert f"began {words} ago" in decide(START, replace(OPEN_RUN, age=age)).message


@pytest.mark.parametrize("other", [PLAN_FORMAT - 1, PLAN_FORMAT + 1])
def test_a_plan_of_an_older_version_is_refused_as_one_of_a_newer_is(other: int) -> None:
    refused = refusal(START, replace(OPEN_RUN, plan_format=other))
    assert f"was planned in format {other}" in refused.message


def test_a_run_that_lacks_only_skipped_tables_gives_way_to_a_new_one_whatever_the_config_is_now() -> None:
    run = replace(FAILED_RUN, config_hash="other", only_skipped="table FLIGHTS is skipped: why")

    decision = decide(START, run)
    named = decide(replace(START, resume_run_id=run.run_id), run)

    assert decision == Fresh(
        (run.run_id,),
        f"new run; the unfinished {run.run_id} is closed, as all that it could load is loaded; table FLIGHTS is "
        "skipped: why",
        "all that it could load is loaded; table FLIGHTS is skipped: why",
    )
    assert isinstance(named, Resume)
    assert "only a new run loads what it skipped: table FLIGHTS is skipped: why" in named.message
