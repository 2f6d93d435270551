"""What a run needs is taken away in its middle: a line that says so, an exit code, and the way on."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from snowmelt import actions
from snowmelt.cli import outcomes
from snowmelt.deadline import Deadline
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from support.forked import Command
from support.world import World, eventually


@contextmanager
def under_way(world: World) -> Iterator[Command]:
    """A migration of two tables of which some chunks are loaded, and more are to come when the block ends."""
    world.add_table("entries", 6000, row_bytes=400, truncate_onstart=True)
    world.add_table("others", 300, truncate_onstart=True)
    world.configure(batch_size=1000, parallel_threads=1, verification="checksums")
    world.snowflake.set_delays(batch_seconds=1.0)
    command = world.start_cli("migrate", "--json")
    eventually(
        lambda: any(chunk["source_table"] == "ENTRIES" for chunk in world.chunks("completed")),
        what="a chunk of the first table is loaded",
    )
    yield command
    world.snowflake.set_delays()


def last(lines: str) -> dict[str, Any]:
    found = json.loads(lines.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def code(what: str) -> int:
    """The exit code that the page of outcomes gives."""
    (found,) = {each.exit_code for each in outcomes.TAKEN_AWAY if each.what == what}
    return found


def acting(world: World) -> Callable[..., dict[str, Any]]:
    """The function's actions, in this process."""
    environment = world.environment(str(world.folder / "store"))
    wiring = Wiring(Settings(config=str(world.config), store=environment["SNOWMELT_STORE"]), environment)

    def act(action: str, **event: Any) -> dict[str, Any]:
        by_whom = {} if action == "process_chunk" else {"execution_id": "here"}
        return actions.run({"action": action, **by_whom, **event}, wiring, Deadline.after(100))

    return act


def planned(world: World, act: Callable[..., dict[str, Any]], run_id: str) -> list[dict[str, Any]]:
    """The work items of the next round, none when all is loaded."""
    while (plan := act("plan_chunks", run_id=run_id, round=0))["next"] != "finalize":
        if place := plan["manifest"]:
            items = json.loads((world.folder / "store" / place["key"]).read_text())
            assert isinstance(items, list)
            return items
    return []


def test_a_store_that_is_deleted(world: World) -> None:
    with under_way(world) as command:
        shutil.rmtree(world.folder / "store")
    done = command.wait()

    assert done.exit_code == code("the folder or prefix that SNOWMELT_STORE names")
    said = last(done.out)["message"]
    assert "is not there; check that SNOWMELT_STORE is the one the run began with; where it was deleted" in said
    assert "the run cannot go on: start with --no-resume (no_resume: true in the execution's input)" in said
    refused = world.cli("migrate")
    assert (refused.exit_code, "run.json is not there" in refused.err, "--no-resume" in refused.err) == (1, True, True)
    assert world.cli("migrate", "--no-resume").exit_code == 0
    assert world.equal("entries")


def test_a_target_that_is_dropped_fails_once_and_the_other_tables_are_completed(world: World) -> None:
    with under_way(world) as command:
        world.target.execute("SET lock_timeout = '60s'; DROP TABLE entries")
    done = command.wait()

    assert done.exit_code == code("a target table")
    said = last(done.out)
    assert [table["status"] for table in said["tables"]] == ["failed", "completed"]
    assert "table ENTRIES: the target public.entries is gone since the run was planned; restore it" in said["message"]
    assert "no progress" not in said["message"]
    assert world.equal("others")
    assert {chunk["attempts"] for chunk in world.chunks("failed")} == {1}
    groups = json.loads(world.cli("errors", "--json").out)
    assert {(group["what"], group["code"], group["table"]) for group in groups} == {
        ("chunk", "TargetChangedError", "ENTRIES")
    }
    world.target.execute("CREATE TABLE entries (LIKE others)")
    assert world.cli("migrate", "--no-resume").exit_code == 0
    assert world.equal("entries")


CHANGES = {
    "DROP TABLE entries": "the target public.entries is gone since the run was planned; restore it",
    "ALTER TABLE entries RENAME note TO remark": "column note of the target public.entries is gone since",
    "ALTER TABLE entries ALTER amount TYPE text": "column amount of the target public.entries has another type since",
}


@pytest.mark.parametrize("statement", CHANGES)
def test_a_target_that_changes_between_the_look_at_it_and_its_merge_is_told_as_such(
    world: World, statement: str
) -> None:
    world.add_table("entries", 600, uniqueness_columns=["ID"])
    world.configure()
    # Into a target with rows the chunk is merged: until all of it has arrived, nothing keeps the target as it is.
    world.target.execute("ALTER TABLE entries ADD UNIQUE (id); INSERT INTO entries (id) VALUES (-1)")
    act = acting(world)
    run_id = act("validate_config")["run_id"]
    (item,) = planned(world, act, run_id)

    world.snowflake.set_delays(batch_seconds=3)
    with ThreadPoolExecutor(1) as worker:
        at_work = worker.submit(act, "process_chunk", run_id=run_id, item=item)
        eventually(lambda: world.chunks("running"), what="a worker has looked at the target and taken the chunk")
        world.target.execute(statement)
        world.snowflake.set_delays()
        assert at_work.result()["failed"] == 1, (at_work.result(), world.chunks())

    (chunk,) = world.chunks("failed")
    assert (chunk["attempts"], chunk["error_code"]) == (1, "TargetChangedError")
    assert f"table ENTRIES: {CHANGES[statement]}" in chunk["error_text"]


def test_a_target_that_is_dropped_before_its_load_begins_is_told_as_such(world: World) -> None:
    for name in ("entries", "others"):
        world.add_table(name, 30, truncate_onstart=True)
    world.configure()
    act = acting(world)
    run_id = act("validate_config")["run_id"]
    world.target.execute("DROP TABLE entries")

    loaded = set()
    while items := planned(world, act, run_id):
        loaded |= {item["table"] for item in items}
        for item in items:
            act("process_chunk", run_id=run_id, item=item)
    assert loaded == {"OTHERS"}
    (failed,) = world.status("SELECT error_text FROM migration_status.run_tables WHERE status = 'failed'")
    assert f"table ENTRIES: {CHANGES['DROP TABLE entries']}" in failed["error_text"]


@pytest.mark.parametrize("verification", ["checksums", "off"])
def test_a_target_that_is_dropped_when_all_its_rows_are_loaded_is_not_completed(
    world: World, verification: str
) -> None:
    for name in ("entries", "others"):
        world.add_table(name, 30)
    world.configure(verification=verification)
    act = acting(world)

    run_id = act("validate_config")["run_id"]
    while items := planned(world, act, run_id):
        for item in items:
            act("process_chunk", run_id=run_id, item=item)
    world.target.execute("DROP TABLE entries")

    said = act("finalize", run_id=run_id)

    assert said["status"] == "failed"
    assert "public.entries" in said["message"]
    tables = world.status("SELECT status, error_code FROM migration_status.run_tables ORDER BY table_id")
    assert [tuple(table.values()) for table in tables] == [("failed", "TargetChangedError"), ("completed", None)]


def test_a_status_schema_that_is_dropped(world: World) -> None:
    with under_way(world) as command:
        world.target.execute("DROP SCHEMA migration_status CASCADE")
    done = command.wait()

    assert (done.out, done.exit_code) == ("", code("the schema migration_status"))
    said = last(done.err)
    assert said["error_code"] == "MissingError"
    assert "the status schema, or part of it, is gone, and with it what runs had done" in said["message"]
    assert world.cli("migrate").exit_code == 0
    assert world.equal("entries")


def test_a_snowflake_that_lets_nobody_in_is_no_matter_of_a_table(world: World) -> None:
    for name in ("entries", "others"):
        world.add_table(name, 30)
    world.configure()
    assert world.cli("migrate").exit_code == 0
    world.variables["SNOWFLAKE_PORT"] = "1"

    refused = world.cli("verify")

    assert (refused.exit_code, refused.out) == (1, "")
    assert "Error: cannot reach Snowflake at 127.0.0.1:1" in refused.err
