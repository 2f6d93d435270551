"""A table that takes longer than an invocation may: many invocations load it, and none is killed."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from snowmelt_sandbox.aws import Execution, LocalAws
from support.world import World

FIRST_ROWS = (0, 500, 1_500, 3_500, 7_500, 15_500, 31_500)
"""Where each result batch of a big table begins."""


@pytest.mark.full
def test_a_table_that_needs_half_a_minute_is_loaded_by_invocations_of_five_seconds(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    rows = 48_500
    world.add_table("entries", rows, truncate_onstart=True)
    world.configure(batch_size=1000, parallel_threads=1, lambda_timeout_buffer_seconds=3.4)
    # 49 chunks, each of which the target takes about a second to store.
    world.target.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0006); RETURN NEW; END';"
        "CREATE TRIGGER slow BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    with world.aws(timeout_seconds=5, concurrency=2) as aws:
        execution = aws.step_functions.run()

        assert execution.status == "SUCCEEDED", execution.cause
        counted = aws.functions.statistics()
        assert (counted.time_outs, counted.exit_errors, counted.errors) == (0, 0, 0)
        _record(record_property, world, aws, execution)
    assert world.equal("entries")
    (run,) = world.runs()
    assert run["status"] == "completed"
    assert run["rounds"] >= 5
    assert counted.invocations >= 30
    done = world.chunks("completed")
    assert load_seconds(world) > 30
    assert {c["attempts"] for c in done} == {1}
    assert covered(done) == [(0, rows)]
    assert {c["status"] for c in world.chunks()} <= {"completed", "superseded"}
    assert len(world.scans()) == 1


def test_a_chunk_that_does_not_fit_in_an_invocation_is_split_by_the_next_plan(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    world.add_table("entries", 7_500, truncate_onstart=True)
    world.configure(batch_size=7_500, parallel_threads=2, lambda_timeout_buffer_seconds=2)
    # One chunk of four batches, of which three are downloaded: that alone takes as long as an invocation may work.
    world.snowflake.set_delays(batch_seconds=1.0)
    with world.aws(timeout_seconds=5, concurrency=3) as aws:
        execution = aws.step_functions.run()

        assert execution.status == "SUCCEEDED", execution.cause
        counted = aws.functions.statistics()
        assert (counted.time_outs, counted.exit_errors, counted.errors) == (0, 0, 0)
        _record(record_property, world, aws, execution)
    assert world.equal("entries")
    whole, *parts = world.chunks()
    assert (whole["status"], whole["estimated_rows"], whole["error_code"]) == ("superseded", 7_500, "TooLong")
    assert whole["attempts"] == 0
    done = [part for part in parts if part["status"] == "completed"]
    assert len(done) >= 4
    assert {part["attempts"] for part in done} == {1}
    assert covered(done) == [(0, 7_500)]


def load_seconds(world: World) -> float:
    """What the loads of all completed chunks took together."""
    loads = [c["completed_at"] - c["started_at"] for c in world.chunks("completed")]
    return sum(loads, timedelta()).total_seconds()


def covered(chunks: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """The rows of the scan's result that the chunks read, as half-open ranges; neighbours are joined."""
    joined: list[tuple[int, int]] = []
    for start, rows in sorted(
        (FIRST_ROWS[c["reads"]["first_batch"]] + c["reads"]["offset"], c["actual_rows"]) for c in chunks
    ):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], start + rows)
        else:
            joined.append((start, start + rows))
    return joined


def _record(record_property: Callable[[str, object], None], world: World, aws: LocalAws, execution: Execution) -> None:
    """Keep the figures with the test's result, and in its output."""
    ((run,), counted) = world.runs(), aws.functions.statistics()
    figures = {
        "rounds": run["rounds"],
        "invocations": counted.invocations,
        "time_outs": counted.time_outs,
        "load_seconds": round(load_seconds(world), 1),
        "seconds": round((run["completed_at"] - run["started_at"]).total_seconds(), 1),
        "events": len(aws.step_functions.history(execution.arn)),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(json.dumps(figures))  # noqa: T201 - shown by pytest -rP
