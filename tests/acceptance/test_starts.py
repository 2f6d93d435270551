"""What a start leads to: a new run, the one that was left open, or a refusal that moves nothing."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snowmelt_sandbox.aws import Execution, LocalAws
from support.deployment import validated
from support.world import SOURCE, World, eventually

LONG_GONE = "arn:aws:states:us-east-1:123456789012:execution:migration:long-gone"
"""An execution that AWS does not know any more."""
PATIENT_SECONDS = 300.0


@pytest.fixture
def aws(world: World) -> Iterator[LocalAws]:
    """The deployment; its function has time enough to be stopped for a while."""
    with world.aws(timeout_seconds=PATIENT_SECONDS) as deployed:
        yield deployed


def opened(aws: LocalAws, execution: Execution) -> dict[str, Any]:
    """The run that an execution opened or resumed, and what it said of it."""
    run = validated(aws.step_functions.history(execution.arn))
    assert isinstance(run, dict), execution.cause
    return run


def succeeded(aws: LocalAws, start: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Start, and see it succeed; the run and its message."""
    execution = aws.step_functions.run(start)
    assert execution.status == "SUCCEEDED", execution.cause
    return opened(aws, execution)


def refused(aws: LocalAws, start: Mapping[str, Any] | None = None, *, error: str) -> str:
    """Start, and see it fail before anything is planned; the cause."""
    execution = aws.step_functions.run(start)
    assert (execution.status, execution.error) == ("FAILED", error), execution.cause
    states = {
        e["stateEnteredEventDetails"]["name"]
        for e in aws.step_functions.history(execution.arn)
        if "stateEnteredEventDetails" in e
    }
    assert "PlanChunks" not in states
    assert execution.cause is not None
    assert "\n" not in execution.cause
    return execution.cause


def invoked(aws: LocalAws, **event: Any) -> dict[str, Any]:
    """What the function answers to an event."""
    outcome = aws.functions.invoke(json.dumps(event).encode())
    assert outcome is not None
    answer = json.loads(outcome.payload)
    assert "errorType" not in answer, answer
    return dict(answer)


def left_open(aws: LocalAws, *, chunks: int = 1) -> str:
    """A run whose execution is gone, with that many of its chunks loaded."""
    run_id = invoked(aws, action="validate_config", source_name=SOURCE, execution_id=LONG_GONE)["run_id"]
    planned = invoked(aws, action="plan_chunks", run_id=run_id, execution_id=LONG_GONE, round=0)
    key = planned["manifest"]["key"]
    (first, *_) = json.loads(aws.s3().get_object(Bucket=aws.bucket, Key=key)["Body"].read())
    item = {**first, "chunks": first["chunks"][:chunks]}
    assert invoked(aws, action="process_chunk", run_id=run_id, item=item)["completed"] == chunks
    return str(run_id)


@contextmanager
def living(aws: LocalAws, start: Mapping[str, Any] | None = None, *, action: str = "plan_chunks") -> Iterator[str]:
    """An execution that is in the middle of an action, for as long as the block lasts."""
    execution = aws.step_functions.start_execution(start)
    pid = eventually(lambda: stopped(aws, action) or 0, what=f"{action} is at work", each_seconds=0.005)
    try:
        yield execution
    finally:
        os.kill(pid, signal.SIGCONT)


def stopped(aws: LocalAws, action: str) -> int | None:
    """A process in the middle of that action, now stopped; None when there is none."""
    for process in aws.functions.processes():
        if process.event is not None and process.event["action"] == action:
            os.kill(process.pid, signal.SIGSTOP)
            if process in aws.functions.processes():
                return process.pid
            os.kill(process.pid, signal.SIGCONT)
    return None


def ids(world: World, table: str) -> Counter[int]:
    return Counter(row["id"] for row in world.status(f"SELECT id FROM {table}"))


def status(world: World) -> dict[str, str]:
    return {run["run_id"]: run["status"] for run in world.runs()}


def count(world: World, table: str) -> int:
    return sum(ids(world, table).values())


# --- after the end of a run -----------------------------------------------------------------------------------------


def test_a_start_after_the_end_of_a_run_begins_a_new_one_says_so_and_replaces_the_rows(
    world: World, aws: LocalAws
) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.configure(batch_size=1000, parallel_threads=1)
    first = succeeded(aws, {"source_name": SOURCE, "no_resume": False})
    world.snowflake.execute("DELETE FROM ENTRIES WHERE ID < 100", database=world.source_database, schema="PUBLIC")

    second = succeeded(aws, {"source_name": SOURCE, "no_resume": False})

    assert first["message"] == f"new run, the first of this source: {first['run_id']}"
    assert second["message"] == f"new run; the last one, {first['run_id']}, is completed: {second['run_id']}"
    assert not second["resumed"]
    assert status(world) == {first["run_id"]: "completed", second["run_id"]: "completed"}
    assert count(world, "entries") == 2_900
    assert world.equal("entries")


def test_filled_targets_that_are_not_to_be_truncated_are_all_named_before_anything_moves(
    world: World, aws: LocalAws
) -> None:
    world.add_table("renewed", 600, truncate_onstart=True)
    world.add_table("kept", 600)
    world.add_table("held", 600)
    world.add_table("empty", 600)
    world.configure()
    for name in ("renewed", "kept", "held"):
        world.target.execute(f"INSERT INTO {name} (id) VALUES (-1)")

    cause = refused(aws, {"source_name": SOURCE, "no_resume": False}, error="ConfigError")

    assert "table KEPT: the target public.kept holds rows already" in cause
    assert "table HELD: the target public.held holds rows already" in cause
    assert "loading it again would double them; set truncate_onstart to replace them" in cause
    assert "RENEWED" not in cause
    assert "EMPTY" not in cause
    assert {name: count(world, name) for name in ("renewed", "kept", "held", "empty")} == {
        "renewed": 1,
        "kept": 1,
        "held": 1,
        "empty": 0,
    }
    assert world.runs() == []
    assert world.scans() == []


def test_a_completed_table_without_truncation_is_refused_the_second_time(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 600)
    world.configure()
    succeeded(aws)

    cause = refused(aws, error="ConfigError")

    assert "table ENTRIES: the target public.entries holds rows already" in cause
    assert world.equal("entries")
    assert len(world.scans()) == 1


def test_append_adds_to_what_is_there(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 600, append=True)
    world.configure()
    world.target.execute("INSERT INTO entries (id) VALUES (-1)")

    succeeded(aws)
    succeeded(aws)

    assert ids(world, "entries") == Counter({-1: 1, **dict.fromkeys(range(600), 2)})


# --- while another execution lives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [{}, {"no_resume": True}], ids=["as usual", "with no_resume"])
def test_a_second_start_while_the_first_is_alive_fails_and_names_it(
    world: World, aws: LocalAws, start: dict[str, Any]
) -> None:
    world.add_table("entries", 600, truncate_onstart=True)
    world.configure()

    with living(aws) as first:
        cause = refused(aws, {"source_name": SOURCE, **start}, error="HeldError")
        (run,) = world.runs()
        assert run["status"] == "running"
        named = refused(aws, {"resume_run_id": run["run_id"]}, error="HeldError")

    for said in (cause, named):
        assert run["run_id"] in said
        assert first in said
        assert "wait for its end, or stop that execution" in said
    assert aws.step_functions.wait(first).status == "SUCCEEDED"
    assert world.equal("entries")
    assert len(world.scans()) == 1


def test_a_target_that_a_living_run_of_another_source_loads_is_refused_and_the_run_is_named(
    world: World, aws: LocalAws
) -> None:
    world.add_table("entries", 600, truncate_onstart=True)
    two_sources(world)

    with living(aws, {"source_name": SOURCE}) as first:
        cause = refused(aws, {"source_name": "other", "no_resume": True}, error="HeldError")
        (run,) = world.runs()

    assert f"target table public.entries is being loaded by run {run['run_id']}, driven by {first}" in cause
    assert aws.step_functions.wait(first).status == "SUCCEEDED"
    assert world.equal("entries")


def test_a_target_that_a_dead_run_of_another_source_held_is_taken_over_for_good(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    two_sources(world, batch_size=1000, parallel_threads=1)
    dead = left_open(aws)

    other = succeeded(aws, {"source_name": "other"})

    assert status(world) == {dead: "abandoned", other["run_id"]: "completed"}
    assert world.equal("entries")
    cause = refused(aws, {"source_name": SOURCE, "resume_run_id": dead}, error="ConfigError")
    assert f"run {dead} is abandoned and cannot be resumed" in cause
    assert world.equal("entries")
    fresh = succeeded(aws, {"source_name": SOURCE})
    assert fresh["message"].startswith(f"new run; the last one, {dead}, is abandoned")
    assert world.equal("entries")


def two_sources(world: World, **settings: Any) -> Path:
    """A config whose sources differ in nothing but their names."""
    path = world.configure(**settings)
    config = json.loads(path.read_text(encoding="utf-8"))
    config["sources"].append({**config["sources"][0], "source_name": "other"})
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


# --- a run that was left open ---------------------------------------------------------------------------------------


def test_a_run_whose_execution_was_stopped_is_resumed_by_the_next_start(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.configure(batch_size=500, parallel_threads=1)
    with living(aws, action="process_chunk") as first:
        aws.step_functions.stop_execution(first)
        (run,) = world.runs()

        second = succeeded(aws)

    assert (second["run_id"], second["resumed"]) == (run["run_id"], True)
    assert second["message"].startswith(f"resuming run {run['run_id']}")
    assert world.equal("entries")
    assert len(world.scans()) == 1


def test_no_resume_closes_the_open_run_and_begins_a_new_one(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.configure(batch_size=500, parallel_threads=1)
    left = left_open(aws)

    fresh = succeeded(aws, {"no_resume": True})

    assert not fresh["resumed"]
    assert fresh["message"] == (
        f"new run; the unfinished {left} is closed, as no_resume was asked for: {fresh['run_id']}"
    )
    assert status(world) == {left: "abandoned", fresh["run_id"]: "completed"}
    of_left = Counter(c["status"] for c in world.chunks() if c["run_id"] == left)
    assert of_left["completed"] == 1
    assert of_left.keys() == {"completed", "superseded"}
    assert world.equal("entries")
    assert len(world.scans()) == 2


def test_a_changed_config_is_refused_key_by_key_and_the_named_run_goes_on_as_it_was_begun(
    world: World, aws: LocalAws
) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.configure(batch_size=500, parallel_threads=1)
    left = left_open(aws)
    world.tables[0]["source_filter"] = "ID < 10"
    world.configure(batch_size=700, parallel_threads=2)

    cause = refused(aws, error="ConfigError")

    assert f"run {left} is unfinished (running) and was begun with another config" in cause
    assert "parallel_threads: 1 -> 2" in cause
    assert "tables.ENTRIES.batch_size: 500 -> 700" in cause
    assert 'tables.ENTRIES.source_filter: null -> "ID < 10"' in cause
    assert f"to finish it as it was begun, start with --resume-run-id {left} (resume_run_id: " in cause

    resumed = succeeded(aws, {"resume_run_id": left})

    assert (resumed["run_id"], resumed["resumed"]) == (left, True)
    assert "goes on with the config it was begun with" in resumed["message"]
    assert "tables.ENTRIES.batch_size: 500 -> 700" in resumed["message"]
    assert world.equal("entries")
    assert {c["actual_rows"] for c in world.chunks("completed")} == {500}
    assert len(world.scans()) == 1


def test_a_run_cannot_be_resumed_that_is_over_or_unknown_or_closed_by_the_same_start(
    world: World, aws: LocalAws
) -> None:
    world.add_table("entries", 600, truncate_onstart=True)
    world.configure()
    over = succeeded(aws)["run_id"]

    assert f"run {over} is completed and cannot be resumed" in refused(
        aws, {"resume_run_id": over}, error="ConfigError"
    )
    assert f"source {SOURCE} has no such run" in refused(aws, {"resume_run_id": "ledger-0"}, error="ConfigError")
    both = refused(aws, {"resume_run_id": over, "no_resume": True}, error="ConfigError")
    assert "--resume-run-id and --no-resume (resume_run_id, no_resume) contradict each other" in both
    assert len(world.scans()) == 1


def test_a_run_that_is_older_than_resume_max_age_is_closed_and_a_new_one_begun(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.configure(batch_size=500, parallel_threads=1, resume_max_age="12h")
    left = left_open(aws)
    world.target.execute("UPDATE migration_status.runs SET started_at = started_at - interval '13 hours'")

    fresh = succeeded(aws)

    assert f"the unfinished {left} is closed, as it is older than resume_max_age (13 h)" in fresh["message"]
    assert status(world) == {left: "abandoned", fresh["run_id"]: "completed"}
    assert world.equal("entries")


def test_an_old_run_is_resumed_by_its_name_whatever_its_age(world: World, aws: LocalAws) -> None:
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.configure(batch_size=500, parallel_threads=1, resume_max_age="12h")
    left = left_open(aws)
    world.target.execute("UPDATE migration_status.runs SET started_at = started_at - interval '13 hours'")

    assert succeeded(aws, {"resume_run_id": left})["resumed"]

    assert status(world) == {left: "completed"}
    assert world.equal("entries")


def test_a_target_that_is_altered_between_two_chunks_gets_no_row_that_it_would_misread(world: World) -> None:
    world.add_table("entries", 7_500)
    world.configure(batch_size=1_000, parallel_threads=1, max_retry_attempts=1)
    world.snowflake.set_delays(batch_seconds=0.7)
    migrating = world.start_cli("migrate")
    eventually(lambda: world.chunks("completed") and world.chunks("running"), what="the second chunk is begun")
    world.target.execute("ALTER TABLE entries ALTER id TYPE double precision")  # of the same width as before
    done = migrating.wait()

    assert done.exit_code == 1
    told = f"{done.out}{done.err}"
    assert "column id of the target public.entries has another type since the run was planned" in told
    in_target = {row[0] for row in world.target.rows("SELECT id FROM entries")}
    assert len(in_target) == sum(chunk["actual_rows"] for chunk in world.chunks("completed")) < 7_500
    assert in_target <= set(range(7_500))
