"""Snowflake keeps a result for a day: what becomes of a run that lasts longer, in each of the three cases."""

from typing import Any

import pytest

from support.loads import change, keyed, migrate, refused
from support.world import World, eventually


def interrupted(world: World) -> None:
    """A run that was stopped after some chunks, whose result has expired since."""
    world.snowflake.set_delays(batch_seconds=0.5)
    process = world.start_cli("migrate")
    eventually(lambda: len(world.chunks("completed")) >= 2, what="two chunks are completed")
    process.kill()
    process.wait()
    world.snowflake.set_delays()
    for query_id in world.scans():
        world.snowflake.expire_results(query_id)


@pytest.mark.full
@pytest.mark.parametrize("settings", [{"truncate_onstart": True}, {"uniqueness_columns": ["ID"]}])
def test_a_table_that_can_restart_does_and_arrives_whole(world: World, settings: dict[str, Any]) -> None:
    keyed(world, rows=9000, **settings)
    world.configure(batch_size=1000, parallel_threads=1)
    if "uniqueness_columns" in settings:
        world.target.execute("INSERT INTO orders (id, note) VALUES (1, 'old'), (8999, 'old')")
    interrupted(world)
    change(world, "UPDATE ORDERS SET NOTE = 'since then' WHERE ID = 2")
    result = migrate(world)
    assert result["resumed"]
    assert world.equal("orders")
    assert len(world.scans()) == 2


def test_rows_that_were_only_added_stop_the_table_and_say_so(world: World) -> None:
    world.add_table("orders", 9000)
    world.configure(batch_size=1000, parallel_threads=1)
    interrupted(world)
    loaded = world.target.rows("SELECT count(*) FROM orders")
    refused(world.cli("migrate"), "no longer keeps the result of query", "empty the target")
    assert world.target.rows("SELECT count(*) FROM orders") == loaded
