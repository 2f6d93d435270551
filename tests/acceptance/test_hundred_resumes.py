"""One run that is stopped a hundred times, in every way there is, and resumed each time."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from snowmelt import runner
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from support.world import World, eventually

RESUMES = 100
ROWS = 31_500
ROWS_PER_CHUNK = 50
EXIT_STOPPED = 4
BUFFER_SECONDS = 2.0
AMPLE_SECONDS = 60.0
SHORT_SECONDS = BUFFER_SECONDS + 1.0
"""An invocation that has a second for its chunks, so that most items are handed back half done."""

LOADED_BEFOREHAND = [
    "pytest",
    "snowflake.connector",
    "snowmelt_sandbox.aws",
    "snowmelt_sandbox.demo.content",
    "snowmelt.runner",
]
"""Installed modules only: the server that processes are forked from does not know where the tests are."""

Completed = Mapping[int, tuple[Any, ...]]


@pytest.mark.full
def test_a_run_that_is_stopped_a_hundred_times_ends_exact(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    world.add_table("entries", ROWS, truncate_onstart=True, max_retry_attempts=RESUMES)
    world.configure(batch_size=ROWS_PER_CHUNK, parallel_threads=1, lambda_timeout_buffer_seconds=BUFFER_SECONDS)
    world.snowflake.set_delays(batch_seconds=0.1)
    chance, began = random.Random(53), time.monotonic()
    ways: Counter[str] = Counter()
    interrupted = start(world, AMPLE_SECONDS)
    until_more_is_done(world, interrupted, chunks=1)
    stop(world, interrupted, signal.SIGKILL)
    done = completed(world)
    for number in range(RESUMES):
        way = WAYS[number % len(WAYS)]
        ways[way.__name__] += 1
        way(world, chance)
        now = completed(world)
        assert done.items() <= now.items(), "a chunk that was completed has been touched"
        assert world.runs()[0]["status"] != "completed", f"resume {number} was the last one needed"
        done = now
    stopped_seconds = round(time.monotonic() - began, 1)
    world.snowflake.set_delays()
    last = world.cli("migrate", "--config", str(world.config), "--json")

    assert last.exit_code == 0, last.err
    assert json.loads(last.out)["resumed"]
    assert world.equal("entries")
    assert len(world.runs()) == 1
    assert done.items() <= completed(world).items()
    # On a slow machine, a chunk may not fit into one of the short invocations and be split.
    chunks = [c for c in world.chunks() if c["status"] != "superseded"]
    assert {c["status"] for c in chunks} == {"completed"}
    assert len(chunks) >= ROWS // ROWS_PER_CHUNK
    assert sum(c["actual_rows"] for c in chunks) == ROWS
    (scan,) = world.scans()
    downloads = sum(world.snowflake.downloads(scan).values())
    figures = {
        **ways,
        "stopped_seconds": stopped_seconds,
        "rounds": world.runs()[0]["rounds"],
        "done_before_the_last": len(done),
        "chunks": len(chunks),
        "downloads": downloads,
        "attempts": dict(Counter(c["attempts"] for c in chunks)),
    }
    record_property("figures", figures)
    print(json.dumps(figures))  # noqa: T201 - shown by pytest -rP
    # The one worker has one chunk at a time: a start that is stopped, or runs out of time, has read one in vain.
    assert downloads <= len(chunks) + figures["rounds"] + RESUMES


# --- ways to stop ---------------------------------------------------------------------------------------------------


def killed_at_work(world: World, chance: random.Random) -> None:
    """SIGKILL, wherever the worker stands after some chunks."""
    process = start(world, AMPLE_SECONDS)
    until_more_is_done(world, process, chunks=1)
    time.sleep(chance.random() / 5)
    stop(world, process, signal.SIGKILL)


def killed_early(world: World, chance: random.Random) -> None:
    """SIGKILL at any moment from the first on, whatever has been done by then."""
    process = start(world, AMPLE_SECONDS)
    process.join(chance.random() * 1.5)
    stop(world, process, signal.SIGKILL)


def stopped_in_order(world: World, chance: random.Random) -> None:
    """Ctrl-C: what was begun is handed back."""
    process = start(world, AMPLE_SECONDS)
    until_more_is_done(world, process, chunks=1)
    time.sleep(chance.random() / 5)
    stop(world, process, signal.SIGINT)
    assert process.exitcode == EXIT_STOPPED


def out_of_time_and_killed(world: World, chance: random.Random) -> None:
    """Invocations too short for their items, and SIGKILL in the middle of one."""
    process = start(world, SHORT_SECONDS)
    until_more_is_done(world, process, chunks=chance.randint(2, 8))
    stop(world, process, signal.SIGKILL)


WAYS = (killed_at_work, out_of_time_and_killed, killed_early, stopped_in_order)


# --- processes ------------------------------------------------------------------------------------------------------


def start(world: World, invocation_seconds: float) -> BaseProcess:
    """A process that begins or resumes the run; forked from one that has loaded all it needs, which saves seconds."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(LOADED_BEFOREHAND)
    environment = world.environment(str(world.folder / "store"))
    process = processes.Process(target=migrate, args=(environment, invocation_seconds), daemon=True)
    process.start()
    return process


def migrate(environment: Mapping[str, str], invocation_seconds: float) -> None:
    """What the command line does, with invocations of that length."""
    settings = Settings(config=environment["SNOWMELT_CONFIG"], store=environment["SNOWMELT_STORE"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runner.migrate(
            {},
            Wiring(settings, environment),
            execution_id=f"process-{os.getpid()}",
            invocation_seconds=invocation_seconds,
        )
    except KeyboardInterrupt:
        sys.exit(EXIT_STOPPED)


def until_more_is_done(world: World, process: BaseProcess, *, chunks: int) -> None:
    """Wait until the process has completed so many chunks more, or has given up for want of time."""
    enough = len(completed(world)) + chunks
    eventually(
        lambda: len(completed(world)) >= enough or not process.is_alive(),
        what=f"{chunks} more chunks are completed",
        each_seconds=0.03,
    )


def stop(world: World, process: BaseProcess, by: signal.Signals) -> None:
    """End the process so, and wait until the server has noticed."""
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, by)
    process.join(60)
    assert process.exitcode is not None
    eventually(lambda: not world.sessions(), what="the sessions of the stopped process are gone")


def completed(world: World) -> Completed:
    """Every chunk that is in its target, with all that would change if someone loaded it again."""
    return {
        c["chunk_id"]: (c["attempts"], c["lease_token"], c["completed_at"], c["actual_rows"])
        for c in world.chunks("completed")
    }
