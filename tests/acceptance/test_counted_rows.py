"""A scan's rows are compared with what Snowflake's own catalog counts, where nothing else explains a difference."""

from support.loads import change, keyed, migrate, refused
from support.world import World, eventually

COUNTS = "LAST_ALTERED"


def counted(world: World) -> int:
    """How often the catalog was asked to count this world's tables."""
    return len([q for q in world.snowflake.queries(containing=COUNTS) if f'"{world.source_database}"' in q["text"]])


def test_a_result_that_ends_too_early_fails_its_table_and_truncates_nothing(world: World) -> None:
    keyed(world, rows=3000, truncate_onstart=True)
    world.add_table("small", 100, truncate_onstart=True)
    world.add_table("filtered", 3000, truncate_onstart=True, source_filter="TRUE")
    world.target.execute("INSERT INTO orders (id, note) VALUES (-1, 'of before')")
    world.configure()
    world.snowflake.break_assumptions("all-rows-arrive")
    try:
        done = world.cli("migrate")
    finally:
        world.snowflake.break_assumptions()
    ((scan,),) = world.target.rows("SELECT query_id FROM migration_status.run_tables WHERE source_table = 'ORDERS'")
    said = f"table ORDERS: query {scan} gave 2000 rows, and Snowflake counts 3000"
    refused(done, said, "ROWS_PER_RESULTSET", "source_filter")
    assert world.target.rows("SELECT id, note FROM orders") == [(-1, "of before")]
    assert world.equal("small")
    # Nobody counts what a filter lets through.
    assert world.target.rows("SELECT count(*)::int FROM filtered") == [(2000,)]
    assert counted(world) >= 1
    result = migrate(world)
    assert not result["resumed"]
    assert all(world.equal(name) for name in ("orders", "small", "filtered"))


def test_a_table_that_is_changed_while_it_is_scanned_is_not_blamed(world: World) -> None:
    keyed(world, rows=600)
    world.configure()
    world.snowflake.set_delays(query_seconds=30, containing='AS "booked"')
    process = world.start_cli("migrate", "--json")
    eventually(lambda: world.scans() and world.snowflake.queries(containing='AS "note"')[-1]["reads"], what="it reads")
    change(world, "DELETE FROM ORDERS WHERE ID < 100")
    world.snowflake.set_delays()
    done = process.wait()
    assert done.exit_code == 0, done.err
    assert world.target.rows("SELECT count(*)::int FROM orders") == [(600,)]
    assert counted(world) == 1


def test_a_catalog_that_does_not_answer_is_no_reason_to_fail(world: World) -> None:
    keyed(world, rows=600)
    world.configure()
    world.snowflake.deny([f"{world.source_database}.INFORMATION_SCHEMA.TABLES"])
    try:
        migrate(world)
    finally:
        world.snowflake.deny([])
    assert world.equal("orders")
