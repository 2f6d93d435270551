"""The same work item sent three times at once, and again when its time is long over: each chunk is in once."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fault_injection.kinds import MARK
from fault_injection.postgres_wire import PostgresLink
from fault_injection.proxy import Proxy
from fault_injection.traps import Blow, Moment, Struck, Trap, Traps
from snowmelt import actions, manifest_store
from snowmelt.deadline import Deadline
from snowmelt.errors import SnowmeltError
from snowmelt.models import PlanChunksResult
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from support.world import World, eventually

ROWS = 3_000
WAYS: dict[str, dict[str, Any]] = {
    "copied": {},
    "refilled": {"truncate_onstart": True},
    "merged": {"uniqueness_columns": ["ID"]},
    "added": {"uniqueness_columns": ["ID"], "insert_only_mode": True},
}
MODES = [
    pytest.param(way, marks=() if way in ("copied", "merged") else pytest.mark.full)  # the others differ little
    for way in WAYS
]
DRIVER = {"execution_id": "sent-again"}


@pytest.fixture
def world(snowflake: LocalSnowflake, postgres: LocalPostgres, tmp_path: Path) -> Iterator[World]:
    with postgres.database() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        yield World(snowflake, database, tmp_path)


class Machine:
    """The state machine, turned by hand; each invocation has a process of its own, as far as connections go."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._own = self.wiring()
        self.run_id = str(self.invoke({"action": "validate_config", **DRIVER})["run_id"])

    def wiring(self, **environment: str) -> Wiring:
        given = {**self._world.environment(str(self._world.folder / "store")), **environment}
        return Wiring(Settings(config=given["SNOWMELT_CONFIG"], store=given["SNOWMELT_STORE"]), given)

    def invoke(self, event: Mapping[str, Any], wiring: Wiring | None = None) -> dict[str, Any]:
        return actions.run(event, wiring or self._own, Deadline.after(60))

    def plan(self) -> list[dict[str, Any]]:
        """The events of the next round."""
        event = {"action": "plan_chunks", "run_id": self.run_id, "round": 0, **DRIVER}
        plan = PlanChunksResult.model_validate(self.invoke(event))
        assert plan.manifest is not None, plan
        items = manifest_store.load_manifest(plan.manifest, self._own.store)
        return [{"action": "process_chunk", "run_id": self.run_id, "item": item.model_dump()} for item in items]

    def plan_as_one(self) -> dict[str, Any]:
        """The same, all chunks in one work item."""
        first, *others = self.plan()
        chunks = [chunk for event in (first, *others) for chunk in event["item"]["chunks"]]
        return {**first, "item": {**first["item"], "chunks": chunks}}

    def finish(self) -> None:
        assert self.invoke({"action": "finalize", "run_id": self.run_id, **DRIVER})["status"] == "completed"


def ready(world: World, mode: str) -> Machine:
    world.add_table("entries", ROWS, **WAYS[mode])
    if mode in ("merged", "added"):
        world.target.execute("ALTER TABLE entries ADD PRIMARY KEY (id)")
    world.configure(batch_size=500, parallel_threads=1)
    return Machine(world)


@pytest.mark.parametrize("mode", MODES)
def test_an_item_that_is_sent_three_times_at_once_is_loaded_once(world: World, mode: str) -> None:
    machine = ready(world, mode)
    events = machine.plan()
    wirings = [machine.wiring() for _ in range(3)]
    together = threading.Barrier(3)

    def send(wiring: Wiring) -> Counter[str]:
        together.wait(120)
        told: Counter[str] = Counter()
        for event in events:
            told.update(machine.invoke(event, wiring))
        return told

    with ThreadPoolExecutor(3) as three:
        told = sum(three.map(send, wirings), Counter())
    chunks = len(world.chunks())
    assert (told["completed"], told["skipped"], told["failed"]) == (chunks, 2 * chunks, 0)
    assert told["rows"] == ROWS
    machine.finish()
    assert world.equal("entries")
    assert {c["attempts"] for c in world.chunks()} == {1}

    for event in events:  # and once more, when all is over
        late = machine.invoke(event, machine.wiring())
        assert (late["completed"], late["rows"]) == (0, 0)
    assert world.equal("entries")


@pytest.mark.parametrize("mode", MODES)
def test_an_item_is_loaded_once_although_its_worker_wakes_up_an_hour_after_its_lease(world: World, mode: str) -> None:
    machine = ready(world, mode)
    event = machine.plan_as_one()
    asleep, awake, traps = threading.Event(), threading.Event(), Traps()

    def sleep(_: Struck) -> None:
        asleep.set()
        awake.wait(120)

    traps.put(Trap(Moment("postgres", MARK, 2), Blow("before", effect=sleep)))
    server = world.target.server
    with Proxy(PostgresLink, server.host, server.port, traps) as proxy, ThreadPoolExecutor(1) as one:
        late = one.submit(outcome_of, machine, event, machine.wiring(POSTGRES_PORT=str(proxy.port)))
        assert asleep.wait(120)
        assert [c["status"] for c in world.chunks()].count("running") == 1
        world.target.execute(
            "UPDATE migration_status.chunks SET lease_until = now() - interval '1 hour' WHERE status = 'running'"
        )
        # The very item again does not take what another holds; the next plan ends the sleeper and gives its chunk away.
        again = machine.invoke(event, machine.wiring())
        assert again["failed"] == 0
        (rest,) = machine.plan()
        assert machine.invoke(rest, machine.wiring())["completed"] == 1
        awake.set()
        assert "the connection was lost" in late.result(120)
    assert [c["attempts"] for c in world.chunks()] == [1, 2, *[1] * (len(world.chunks()) - 2)]
    machine.finish()
    for sent in (event, rest):
        assert machine.invoke(sent, machine.wiring())["completed"] == 0
    eventually(lambda: world.equal("entries"), what="the target is exact")
    assert sum(c["actual_rows"] for c in world.chunks("completed")) == ROWS


def outcome_of(machine: Machine, event: Mapping[str, Any], wiring: Wiring) -> str:
    try:
        return json.dumps(machine.invoke(event, wiring))
    except SnowmeltError as error:
        return error.message
