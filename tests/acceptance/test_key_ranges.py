"""Tables cut by ranges of their keys: every row once, from one moment, whatever the key is like."""

from typing import Any

import pytest

from support.loads import change, keyed, migrate, refused
from support.world import World, eventually


def ranges(world: World) -> list[dict[str, Any]]:
    return [c["reads"] for c in world.chunks("completed")]


@pytest.mark.parametrize(
    "columns",
    [
        ["NOTE", "BOOKED", "ID"],
        *(
            pytest.param(few, marks=pytest.mark.full)
            for few in (["ID"], ["AMOUNT"], ["BOOKED"], ["NOTE"], ["AMOUNT", "ID"])
        ),
    ],
    ids=" ".join,
)
def test_a_table_is_cut_by_its_key_and_arrives_whole(world: World, columns: list[str]) -> None:
    world.add_table("orders", 6000, chunking_columns=columns)
    world.configure(batch_size=500)
    migrate(world)
    assert world.equal("orders")
    found = ranges(world)
    assert len(found) >= 6
    assert sum(r["rows"] for r in found) == 6000
    assert len(world.snowflake.queries(containing=f'"{world.source_database}"."PUBLIC"."ORDERS" AT(')) > len(found)


def test_rows_that_arrive_after_the_start_are_not_read(world: World) -> None:
    world.add_table("orders", 4000, chunking_columns=["ID"])
    world.configure(batch_size=500)
    world.snowflake.set_delays(query_seconds=0.3, containing='"ORDERS"')
    process = world.start_cli("migrate", "--json")
    eventually(lambda: bool(world.chunks("completed")), what="a chunk is completed")
    change(world, "DELETE FROM ORDERS WHERE ID >= 2000")
    change(world, "INSERT INTO ORDERS SELECT ID + 100000, AMOUNT, NOTE, BOOKED FROM ORDERS")
    done = process.wait()
    assert done.exit_code == 0, done.err
    assert world.target.rows("SELECT count(*), max(id) FROM orders") == [(4000, 3999)]


def test_one_value_with_too_many_rows_is_cut_by_the_second_key(world: World) -> None:
    world.add_table("orders", 4000, chunking_columns=["NOTE", "ID"], chunking_column_types=["varchar", "bigint"])
    change(world, "UPDATE ORDERS SET NOTE = 'the same' WHERE ID < 3000")
    world.configure(batch_size=400)
    migrate(world)
    assert world.equal("orders")
    assert max(r["rows"] for r in ranges(world)) <= 800


@pytest.mark.full
def test_key_ranges_merge_into_a_filled_target_too(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"], chunking_columns=["ID"], disable_index=True)
    world.configure(batch_size=700)
    migrate(world)
    change(world, "UPDATE ORDERS SET NOTE = 'fixed' WHERE ID IN (1, 2999)")
    migrate(world)
    assert world.equal("orders")


def test_an_empty_table_and_a_table_of_null_keys_are_cut_too(world: World) -> None:
    for name in ("empty", "nothing"):
        world.add_table(name, 1200, chunking_columns=["ID"])
    database = world.source_database
    world.snowflake.execute(f'DELETE FROM "{database}"."PUBLIC"."EMPTY"')
    world.snowflake.execute(f'UPDATE "{database}"."PUBLIC"."NOTHING" SET ID = NULL')
    world.configure(batch_size=500)
    migrate(world)
    assert world.equal("nothing")
    assert world.target.rows("SELECT count(*) FROM empty") == [(0,)]


def test_a_chunking_column_that_is_not_there_is_refused(world: World) -> None:
    world.add_table("orders", 10, chunking_columns=["NO SUCH"])
    world.configure()
    refused(world.cli("migrate"), "chunking_columns names NO SUCH, which the source does not have")


def test_a_table_with_its_own_number_of_workers_is_loaded_whole(world: World) -> None:
    world.add_table("orders", 5000, parallel_threads=1)
    world.configure(batch_size=300, parallel_threads=4)
    migrate(world)
    assert world.equal("orders")
