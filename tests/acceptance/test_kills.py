"""Whatever is killed, wherever it stands: the target ends up exact, and what was completed is not read again."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from snowmelt_sandbox.aws import LocalAws, MotoService
from support.world import World, ended, eventually

Note = Callable[[str, object], None]

DOWNLOAD_SECONDS = 1.5


@pytest.fixture
def two_tables(world: World) -> World:
    """Two tables, loaded one chunk at a time and slowly: EARLY in two chunks, then LATE in four.

    The first chunk of LATE is three result batches: its COPY has rows of two while it waits for the third.
    """
    world.add_table("early", 7_500, truncate_onstart=True)
    world.add_table("late", 15_500, row_bytes=1000, truncate_onstart=True)
    world.configure(batch_size=4_000, parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=DOWNLOAD_SECONDS)
    return world


def until_late_is_copied(world: World) -> None:
    """Wait for the middle of the COPY of LATE's first chunk, when all of EARLY is in."""
    eventually(lambda: world.copying("late", 1), what="the first chunk of LATE is being copied")
    assert [c["source_table"] for c in world.chunks("completed")] == ["EARLY", "EARLY"]


def downloads(world: World) -> tuple[dict[int, int], dict[int, int]]:
    """How often each result batch was downloaded: of EARLY's scan, and of LATE's. There is no third scan."""
    early, late = world.scans()
    return world.snowflake.downloads(early), world.snowflake.downloads(late)


def test_a_worker_killed_in_the_middle_of_a_copy_costs_its_chunk_one_attempt(
    two_tables: World, record_property: Note
) -> None:
    world = two_tables
    with world.aws() as aws:
        arn = aws.step_functions.start_execution()
        until_late_is_copied(world)
        (worker,) = [p for p in aws.functions.processes() if p.event and p.event["action"] == "process_chunk"]
        assert worker.event["item"]["table"] == "LATE"
        os.kill(worker.pid, signal.SIGKILL)
        world.snowflake.set_delays()
        execution = aws.step_functions.wait(arn)

        assert execution.status == "SUCCEEDED", execution.cause
        counted = aws.functions.statistics()
        assert (counted.exit_errors, counted.time_outs, counted.errors) == (1, 0, 0)
    assert world.equal("early")
    assert world.equal("late")
    (run,) = world.runs()
    _record(record_property, rounds=run["rounds"], invocations=counted.invocations, exits=counted.exit_errors)
    assert [(c["source_table"], c["chunk_id"], c["status"], c["attempts"]) for c in world.chunks()] == [
        ("EARLY", 1, "completed", 1),
        ("EARLY", 2, "completed", 1),
        ("LATE", 1, "completed", 2),
        ("LATE", 2, "completed", 1),
        ("LATE", 3, "completed", 1),
        ("LATE", 4, "completed", 1),
    ]
    early, late = downloads(world)
    assert early == {1: 1, 2: 1, 3: 1}
    # Read twice is what the killed worker had begun: batch 1, and batch 2 if that was on its way.
    assert (late[1], late[3], late[4]) == (2, 1, 2)


def test_the_whole_deployment_killed_in_the_middle_is_resumed_by_the_next_execution(
    two_tables: World, record_property: Note
) -> None:
    world = two_tables
    with MotoService() as storage:
        deployment = world.start_deployment(storage.url)
        until_late_is_copied(world)
        deployment.kill()
        assert ended(deployment).exit_code == -signal.SIGKILL
        eventually(lambda: not world.sessions(), what="the killed workers' sessions are gone")
        world.snowflake.set_delays()
        (killed,) = world.runs()
        assert killed["status"] == "running"
        assert world.status("SELECT count(*) AS rows FROM late") == [{"rows": 0}]

        began = time.monotonic()
        again = ended(world.start_deployment(storage.url))
        assert again.exit_code == 0, again.err
        execution = json.loads(again.out)
    assert execution["status"] == "SUCCEEDED", execution["cause"]
    assert (execution["run"]["run_id"], execution["run"]["resumed"]) == (killed["run_id"], True)
    assert execution["run"]["message"].startswith(f"resuming run {killed['run_id']}")
    _record(
        record_property, resumed_in_seconds=round(time.monotonic() - began, 1), invocations=execution["invocations"]
    )
    assert_resumed_exactly(world)


def test_a_command_killed_in_the_middle_is_resumed_by_the_next(two_tables: World, record_property: Note) -> None:
    world = two_tables
    command = world.start_cli("migrate", "--config", str(world.config))
    until_late_is_copied(world)
    command.kill()
    assert command.wait().exit_code == -signal.SIGKILL
    world.snowflake.set_delays()
    (killed,) = world.runs()
    assert killed["status"] == "running"

    began = time.monotonic()
    again = world.cli("migrate", "--config", str(world.config))
    assert again.exit_code == 0, again.err
    assert f"resuming run {killed['run_id']}" in again.err
    _record(record_property, resumed_in_seconds=round(time.monotonic() - began, 1))
    assert_resumed_exactly(world)


def assert_resumed_exactly(world: World) -> None:
    """Both targets are exact, by one run, and nothing of EARLY was read a second time."""
    assert world.equal("early")
    assert world.equal("late")
    (run,) = world.runs()
    assert run["status"] == "completed"
    assert {c["status"] for c in world.chunks()} == {"completed"}
    assert [c["attempts"] for c in world.chunks()] == [1, 1, 2, 1, 1, 1]
    early, late = downloads(world)
    assert early == {1: 1, 2: 1, 3: 1}
    # Read twice is what the killed worker had begun: batch 1, and batch 2 if that was on its way. Chunks that had not
    # begun are read once: all of batch 3, and the two halves of batch 4.
    assert (late[1], late[3], late[4]) == (2, 1, 2)


def test_ctrl_c_hands_back_what_was_begun_and_the_next_command_resumes(
    two_tables: World, record_property: Note
) -> None:
    world = two_tables
    command = world.start_cli("migrate", "--config", str(world.config))
    until_late_is_copied(world)
    began = time.monotonic()
    command.interrupt()
    stopped = command.wait()
    seconds = round(time.monotonic() - began, 1)
    world.snowflake.set_delays()

    assert stopped.exit_code == 4, stopped.err
    assert stopped.err.splitlines()[-1] == "stopped; what was completed stays, start again to resume"
    assert "Traceback" not in stopped.err
    assert [(c["status"], c["attempts"]) for c in world.chunks()] == 2 * [("completed", 1)] + 4 * [("pending", 0)]

    (run,) = world.runs()
    again = world.cli("migrate", "--config", str(world.config))
    assert again.exit_code == 0, again.err
    assert f"resuming run {run['run_id']}" in again.err
    assert world.equal("early")
    assert world.equal("late")
    assert [(c["status"], c["attempts"]) for c in world.chunks()] == 6 * [("completed", 1)]
    assert downloads(world)[0] == {1: 1, 2: 1, 3: 1}
    _record(record_property, stopped_in_seconds=seconds)


def test_a_command_stopped_while_it_finalizes_is_taken_over_and_changes_nothing_when_it_goes_on(world: World) -> None:
    world.add_table("entries", 600)
    world.configure()
    with closing(world.target.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE entries IN SHARE UPDATE EXCLUSIVE MODE")  # a load passes, ANALYZE waits
        sleeper = world.start_cli("migrate", "--config", str(world.config))
        waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'ANALYZE%' AND wait_event_type = 'Lock'"
        eventually(lambda: world.status(waiting), what="the command finalizes")
        os.kill(sleeper.pid, signal.SIGSTOP)
    world.target.execute("UPDATE migration_status.run_executions SET expires_at = now()")

    second = world.cli("migrate", "--config", str(world.config))

    assert second.exit_code == 0, second.err
    (run,) = world.runs()
    assert f"resuming run {run['run_id']}" in second.err
    assert run["status"] == "completed"
    os.kill(sleeper.pid, signal.SIGCONT)
    first = sleeper.wait()
    assert first.exit_code == 0, first.err
    assert f"run {run['run_id']} completed" in first.out  # the result of the one that drives the run now
    assert world.runs() == [run]
    assert world.equal("entries")


@pytest.mark.full
def test_a_deployment_of_new_code_in_the_middle_lets_workers_finish(two_tables: World, record_property: Note) -> None:
    world = two_tables
    with world.aws() as aws:
        arn = aws.step_functions.start_execution()
        until_late_is_copied(world)
        before = {process.pid for process in aws.functions.processes()}
        redeploy(aws)
        world.snowflake.set_delays()
        execution = aws.step_functions.wait(arn)

        assert execution.status == "SUCCEEDED", execution.cause
        counted = aws.functions.statistics()
        assert (counted.exit_errors, counted.time_outs, counted.errors) == (0, 0, 0)
        assert before.isdisjoint(process.pid for process in aws.functions.processes())
    assert world.equal("early")
    assert world.equal("late")
    assert [(c["status"], c["attempts"]) for c in world.chunks()] == 6 * [("completed", 1)]
    early, late = downloads(world)
    assert (early, late) == ({1: 1, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 1, 4: 2})
    _record(record_property, invocations=counted.invocations, cold_starts=counted.cold_starts)


def redeploy(aws: LocalAws) -> None:
    """Deploy the function again with another memory size, as an operator would while a run is on."""
    function = aws.functions.function
    aws.functions.redeploy(replace(function, memory_mb=function.memory_mb * 2))


def _record(record_property: Note, **figures: object) -> None:
    """Keep the figures with the test's result, and in its output."""
    for name, value in figures.items():
        record_property(name, value)
    print(json.dumps(figures))  # noqa: T201 - shown by pytest -rP
