"""``snowmelt status`` tells a run that stands still from one that waits and from one that moves."""

import json
from contextlib import closing
from typing import Any

import pytest

from support.world import World, eventually


def pulse(world: World) -> dict[str, Any]:
    shown = world.cli("status", "--json")
    assert shown.exit_code == 0, shown.err
    found: dict[str, Any] = json.loads(shown.out)
    return found["pulse"] or {}


def test_a_run_whose_driver_was_killed_stands_still_until_it_is_started_again(world: World) -> None:
    world.add_table("entries", 20_000, truncate_onstart=True)
    world.configure(batch_size=1_000, parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=0.5)
    process = world.start_cli("migrate")
    eventually(lambda: world.chunks("completed"), what="the first chunk is in")
    moving = pulse(world)

    process.kill()
    eventually(lambda: pulse(world)["state"] == "stands still", what="its sessions are gone")

    assert moving["state"] == "moves"
    assert "nobody drives it: local:" in pulse(world)["says"]
    assert "start again, and it resumes" in " ".join(world.cli("status").out.split())
    world.snowflake.set_delays()
    assert world.cli("migrate").exit_code == 0
    assert pulse(world) == {}
    assert world.equal("entries")


@pytest.mark.full
def test_a_run_that_waits_for_a_lock_says_who_holds_it(world: World) -> None:
    world.add_table("entries", 4_000)
    world.configure(batch_size=1_000, parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=0.5)
    process = world.start_cli("migrate")
    eventually(lambda: world.chunks("completed"), what="the first chunk is in")

    with closing(world.target.server.connect(world.target.name)) as other, other.cursor() as cursor:
        cursor.execute("SET application_name = 'somebody else'")
        cursor.execute("BEGIN; LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: "somebody else" in pulse(world)["says"], what="the next chunk meets the lock")
        assert pulse(world)["state"] == "waits"
        cursor.execute("ROLLBACK")

    assert process.wait().exit_code == 0
    assert world.equal("entries")
