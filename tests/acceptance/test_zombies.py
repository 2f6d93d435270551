"""A worker that was stopped in the middle of a COPY and wakes up when its chunk is another's: it cannot commit."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from snowmelt_sandbox.aws import LocalAws
from support.world import World, eventually

ROWS = 7_500
BATCH_ROWS = 3_500
"""Three chunks; the first is made of three result batches, and its worker can be stopped between them."""
PATIENT_SECONDS = 300.0


@dataclass(frozen=True)
class Zombie:
    """A worker that its execution believes dead, stopped in the middle of the first chunk's COPY."""

    aws: LocalAws
    pid: int
    request_id: str

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def last_words(self) -> list[dict[str, Any]]:
        """What it logged as it found its chunk gone."""
        lines = self.aws.functions.log_file.read_text(encoding="utf-8").splitlines()
        said = [json.loads(line) for line in lines if self.request_id in line and line.startswith("{")]
        return [entry for entry in said if entry["level"] in ("WARNING", "ERROR")]


@contextmanager
def zombie(world: World, aws: LocalAws, execution: str) -> Iterator[Zombie]:
    """Stop the worker of the first chunk in the middle of its COPY, and let its execution think it timed out."""
    world.snowflake.set_delays(batch_seconds=2, containing=world.source_database)
    found = eventually(lambda: _stopped(world, aws, execution), what="a worker is in the middle of a COPY")
    assert found is not None
    pid, request_id = found
    try:
        aws.functions.abandon(pid)
        world.snowflake.set_delays()
        assert world.copying("entries", 1)
        yield Zombie(aws, pid, request_id)
    finally:
        os.kill(pid, signal.SIGKILL)


def _stopped(world: World, aws: LocalAws, execution: str) -> tuple[int, str] | None:
    going_on = aws.step_functions.describe(execution)
    assert going_on.running, going_on
    if not world.copying("entries", 1):
        return None
    for process in aws.functions.processes():
        if process.event is not None and 1 in process.event.get("item", {}).get("chunks", ()):
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.1)  # what it had sent is with the server
            if process in aws.functions.processes() and world.copying("entries", 1):
                assert process.request_id is not None
                return process.pid, process.request_id
            os.kill(process.pid, signal.SIGCONT)
    return None


def cannot_commit(sleeper: Zombie) -> None:
    """Wake it up, and see it find out that its chunk is gone."""
    sleeper.wake()
    (*_, last) = eventually(sleeper.last_words, what="the zombie has found out")
    assert "the connection was lost" in last["message"] or "are rolled back" in last["message"], last


def target(world: World) -> list[dict[str, Any]]:
    """Every row, with the transaction it came in."""
    return world.status("SELECT xmin::text, id FROM entries ORDER BY id, xmin::text")


def completed(world: World, run_id: str) -> list[dict[str, Any]]:
    return [chunk for chunk in world.chunks("completed") if chunk["run_id"] == run_id]


@pytest.fixture
def filled(world: World) -> World:
    """A world whose target holds rows of old, which the run is to replace."""
    world.add_table("entries", ROWS, row_bytes=1000, truncate_onstart=True)
    world.target.execute("INSERT INTO entries (id) VALUES (-1)")
    world.configure(batch_size=BATCH_ROWS, parallel_threads=2)
    return world


def test_a_worker_that_outlives_its_lease_cannot_commit_after_the_verdict(filled: World) -> None:
    with filled.aws(timeout_seconds=15) as aws:
        execution = aws.step_functions.start_execution()
        with zombie(filled, aws, execution) as sleeper:
            ended = aws.step_functions.wait(execution)

            assert ended.status == "SUCCEEDED", ended.cause
            before = target(filled)
            cannot_commit(sleeper)
            assert target(filled) == before
    assert filled.equal("entries")
    (run,) = filled.runs()
    assert run["status"] == "completed"
    first, *others = filled.chunks()
    assert (first["status"], first["attempts"]) == ("completed", 2)
    assert {c["attempts"] for c in others} == {1}
    assert len(filled.scans()) == 1


def test_a_worker_cannot_commit_what_a_resuming_execution_is_loading_again(filled: World) -> None:
    with filled.aws(timeout_seconds=PATIENT_SECONDS) as aws:
        first = aws.step_functions.start_execution()
        with zombie(filled, aws, first) as sleeper:
            aws.step_functions.stop_execution(first)
            filled.snowflake.set_delays(batch_seconds=2, containing=filled.source_database)
            second = aws.step_functions.start_execution()
            eventually(lambda: attempted_again(filled), what="another worker is in the middle of the chunk")

            cannot_commit(sleeper)
            ended = aws.step_functions.wait(second)
    assert ended.status == "SUCCEEDED", ended.cause
    assert filled.equal("entries")
    (run,) = filled.runs()
    assert run["status"] == "completed"
    assert filled.chunks()[0]["attempts"] == 2
    assert len(filled.scans()) == 1


def new_run_copies(world: World) -> bool:
    running = {chunk["run_id"] for chunk in world.chunks("running")}
    return running == {run["run_id"] for run in world.runs()[1:]} != set() and world.copying("entries", 1)


def attempted_again(world: World) -> bool:
    return world.chunks()[0]["attempts"] == 2 and world.copying("entries", 1)


@pytest.mark.parametrize(
    "awake", ["while the new run loads", pytest.param("after its verdict", marks=pytest.mark.full)]
)
def test_a_worker_of_a_closed_run_cannot_commit_into_a_table_that_another_run_truncated(
    filled: World, awake: str
) -> None:
    with filled.aws(timeout_seconds=PATIENT_SECONDS) as aws:
        first = aws.step_functions.start_execution()
        with zombie(filled, aws, first) as sleeper:
            aws.step_functions.stop_execution(first)
            (closed,) = filled.runs()
            if awake == "while the new run loads":
                filled.snowflake.set_delays(batch_seconds=2, containing=filled.source_database)
            second = aws.step_functions.start_execution({"no_resume": True})
            if awake == "while the new run loads":
                eventually(lambda: new_run_copies(filled), what="the new run is in the middle of its COPY")
                cannot_commit(sleeper)
            ended = aws.step_functions.wait(second)
            assert ended.status == "SUCCEEDED", ended.cause
            if awake == "after its verdict":
                before = target(filled)
                cannot_commit(sleeper)
                assert target(filled) == before
    assert filled.equal("entries")
    (old, new) = filled.runs()
    assert (old["run_id"], old["status"], new["status"]) == (closed["run_id"], "abandoned", "completed")
    assert sum(c["actual_rows"] for c in completed(filled, new["run_id"])) == ROWS
    assert {c["status"] for c in filled.chunks() if c["run_id"] == old["run_id"]} <= {"completed", "superseded"}
    assert len(filled.scans()) == 2
