"""Columns that have another name in the target arrive there in every mode, and are compared and replayed there."""

import json

import pytest

from support.world import World


def planted(world: World, **settings: object) -> str:
    """A table whose watermark and note have other names in the target; its name in Snowflake."""
    table = f'"{world.source_database}"."PUBLIC"."ADDRESSES"'
    world.snowflake.execute(
        f'CREATE TABLE {table} ("Address Id" VARCHAR, "Updated Timestamp" TIMESTAMP_NTZ(9), NOTE VARCHAR)'
    )
    world.snowflake.execute(
        f"INSERT INTO {table} VALUES ('a', '2026-01-01 10:00:00.123456', 'one'), ('b', '2026-01-02', 'two')"
    )
    world.target.execute(
        'CREATE TABLE addresses ("Address Id" varchar(20) PRIMARY KEY, "Updated Datatimestamp" timestamp,'
        " remark varchar(5))"
    )
    world.tables.append(
        {
            "source": "ADDRESSES",
            "uniqueness_columns": ["Address Id"],
            "source_watermark": "Updated Timestamp",
            "target_watermark": "Updated Datatimestamp",
            "column_map": {"NOTE": "remark"},
            **settings,
        }
    )
    return table


def stored(world: World) -> list[tuple[object, ...]]:
    return world.target.rows(
        'SELECT "Address Id", "Updated Datatimestamp"::text, remark FROM addresses ORDER BY "Address Id"'
    )


def test_columns_of_other_names_are_loaded_merged_rejected_replayed_and_compared(world: World) -> None:
    table = planted(world, max_rejected_rows=1)
    world.configure(verification="checksums")
    first = world.cli("migrate")
    assert (first.exit_code, stored(world)) == (
        0,
        [("a", "2026-01-01 10:00:00.123456", "one"), ("b", "2026-01-02 00:00:00", "two")],
    ), first.err

    world.snowflake.execute(
        f"UPDATE {table} SET NOTE = 'newer', \"Updated Timestamp\" = '2026-01-03' WHERE \"Address Id\" = 'a'"
    )
    world.snowflake.execute(f"INSERT INTO {table} VALUES ('c', '2026-01-03', 'too long for it')")
    second = world.cli("migrate", "--json")
    assert second.exit_code == 0, second.err
    assert stored(world) == [("a", "2026-01-03 00:00:00", "newer"), ("b", "2026-01-02 00:00:00", "two")]
    assert json.loads(second.out)["tables"][0]["verdict"] == "equal"
    assert "remark" in world.cli("rejects", "list").out

    world.target.execute("ALTER TABLE addresses ALTER remark TYPE varchar(50)")
    assert world.cli("rejects", "replay").exit_code == 0
    assert stored(world)[-1] == ("c", "2026-01-03 00:00:00", "too long for it")
    assert world.cli("verify").exit_code == 0


@pytest.mark.full
def test_a_value_that_differs_is_named_and_repaired_by_its_name_in_the_target(world: World) -> None:
    planted(world)
    world.configure()
    assert world.cli("migrate").exit_code == 0
    world.target.execute("UPDATE addresses SET remark = 'wrong' WHERE \"Address Id\" = 'b'")

    different = world.cli("verify")
    repaired = world.cli("verify", "--repair")

    assert different.exit_code == 3
    assert "remark" in different.out
    assert repaired.exit_code == 0, repaired.out + repaired.err
    assert stored(world)[1] == ("b", "2026-01-02 00:00:00", "two")


def test_pre_flight_and_a_start_name_what_column_map_gets_wrong(world: World) -> None:
    planted(world, column_map={"NOTE": "remarks", "NOTES": "remark"})
    world.configure()

    started = world.cli("migrate")

    assert started.exit_code == 2
    assert "column_map names remarks, which is no column of the target" in started.err
    assert "column_map names NOTES, which is no column of the source" in started.err
    assert stored(world) == []
