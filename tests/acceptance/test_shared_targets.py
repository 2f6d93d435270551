"""Several source tables are merged into one target by key, each with a watermark and a verdict of its own."""

import json
from typing import Any

from support.world import World


def with_regions(world: World, europe: str, asia: str, **settings: Any) -> None:
    for name, rows in (("EUROPE", europe), ("ASIA", asia)):
        table = f'"{world.source_database}"."PUBLIC"."{name}"'
        world.snowflake.execute(f"CREATE TABLE {table} (ID NUMBER(9,0), REGION VARCHAR, SEQ NUMBER(9,0))")
        world.snowflake.execute(f"INSERT INTO {table} VALUES {rows}")
        merged = {"uniqueness_columns": ["ID"], "source_watermark": "SEQ", "watermark_overlap": 0, **settings}
        world.tables.append({"source": name, "target": "orders", **merged})
    world.target.execute("CREATE TABLE orders (id integer PRIMARY KEY, region text, seq integer)")
    world.configure(verification="checksums", batch_size=2)


def orders(world: World) -> list[tuple[Any, ...]]:
    return world.target.rows("SELECT id, region, seq FROM orders ORDER BY id")


def test_each_table_goes_on_from_its_own_watermark_and_calls_no_row_of_the_other_too_many(world: World) -> None:
    with_regions(world, "(1, 'eu', 100), (2, 'eu', 90), (5, 'eu', 80)", "(3, 'as', 5), (4, 'as', 6), (5, 'as', 7)")
    first = world.cli("migrate")
    assert first.exit_code == 0, first.out + first.err
    assert "1 key (id) of ASIA is in EUROPE too" in first.out + first.err
    assert orders(world) == [(1, "eu", 100), (2, "eu", 90), (3, "as", 5), (4, "as", 6), (5, "eu", 80)]
    verified = json.loads(world.cli("verify", "--json").out)["tables"]
    assert [(table["table"], table["verdict"]) for table in verified] == [("EUROPE", "equal"), ("ASIA", "equal")]

    asia = f'"{world.source_database}"."PUBLIC"."ASIA"'
    world.snowflake.execute(f"UPDATE {asia} SET REGION = 'moved', SEQ = 8 WHERE ID = 3")
    world.snowflake.execute(f"INSERT INTO {asia} VALUES (6, 'late', 8)")
    second = world.cli("migrate")

    assert second.exit_code == 0, second.out + second.err
    assert orders(world)[2] == (3, "moved", 8)
    assert orders(world)[-1] == (6, "late", 8)
    stored = world.status("SELECT source_table, watermark FROM migration_status.watermarks ORDER BY 1")
    assert [(row["source_table"], float(row["watermark"])) for row in stored] == [("ASIA", 8.0), ("EUROPE", 100.0)]
    again = world.cli("migrate", "--tables", "ASIA")
    assert again.exit_code == 0, again.out + again.err
    assert world.cli("verify").exit_code == 0


def test_a_key_of_both_tables_that_nothing_settles_is_found_before_anything_moves(world: World) -> None:
    unsettled = {"source_watermark": None, "watermark_overlap": None}
    with_regions(world, "(1, 'eu', 1), (2, 'eu', 2)", "(2, 'as', 3), (3, 'as', 4)", **unsettled)

    done = world.cli("migrate")

    assert done.exit_code == 2, done.out
    assert "1 key (id) of ASIA is in EUROPE too" in done.err
    assert orders(world) == []
    preflight = world.cli("preflight", "--json")
    assert "key_shared" in {finding["check"] for finding in json.loads(preflight.out)["findings"]}
    asia = f'"{world.source_database}"."PUBLIC"."ASIA"'
    world.snowflake.execute(f"DELETE FROM {asia} WHERE ID = 2")
    settled = world.cli("migrate")
    assert settled.exit_code == 0, settled.out + settled.err
    assert orders(world) == [(1, "eu", 1), (2, "eu", 2), (3, "as", 4)]
