"""Watermarks that are no moment of a change: beyond the clock, or in years that Python does not have."""

import json

import pytest
from psycopg2 import sql

from support.loads import change, counts, keyed, migrate, refused, verdict
from support.world import World


def stored(world: World) -> list[str]:
    rows = world.status("SELECT watermark FROM migration_status.watermarks ORDER BY target_table")
    return [row["watermark"] for row in rows]


def test_a_sentinel_stops_nothing_where_the_limit_is_the_clock_and_is_said_where_there_is_none(world: World) -> None:
    keyed(world, rows=50, uniqueness_columns=["ID"], source_watermark="BOOKED", watermark_overlap="0s")
    world.configure(verification="checksums")
    change(world, "UPDATE ORDERS SET BOOKED = DATEADD(second, ID, '2024-01-01'::TIMESTAMP_NTZ)")
    change(world, "UPDATE ORDERS SET BOOKED = '9999-12-31' WHERE ID IN (7, 8)")
    beyond = "2 rows have a BOOKED beyond the clock, up to "

    assert beyond in world.cli("preflight").out
    first = migrate(world)
    assert any(beyond in warning and "; once that is stored" in warning for warning in first["warnings"])
    assert stored(world) == ["9999-12-31 00:00:00.000000000"]
    change(world, "UPDATE ORDERS SET BOOKED = '2024-02-01', NOTE = 'changed' WHERE ID = 3")
    second = migrate(world)
    assert counts(world, second["run_id"])["actual"] == 2
    assert any("is beyond the clock: rows with an earlier one are not read" in w for w in second["warnings"])

    world.tables[0]["watermark_limit"] = "now"
    world.configure(verification="checksums")
    planned = world.cli("migrate", "--dry-run").out
    assert "is beyond the clock, so all rows are read" in planned
    assert "every run reads them, and they do not move the stored watermark" in planned
    third = migrate(world)
    assert counts(world, third["run_id"])["actual"] == 50
    assert stored(world) == ["2024-02-01 00:00:00.000000000"]
    assert world.equal("orders")

    change(world, "UPDATE ORDERS SET BOOKED = '2024-02-02', NOTE = 'ended' WHERE ID = 7")
    change(world, "UPDATE ORDERS SET NOTE = 'still open' WHERE ID = 8")
    change(world, "UPDATE ORDERS SET BOOKED = '9999-12-31', NOTE = 'reopened' WHERE ID = 9")
    fourth = migrate(world)
    assert counts(world, fourth["run_id"]) == {
        "actual": 4,
        "inserted": 0,
        "updated": 3,
        "unchanged": 1,
        "deduplicated": 0,
    }
    assert stored(world) == ["2024-02-02 00:00:00.000000000"]
    assert world.equal("orders")
    for mode in ("checksums", "counts", "rows"):
        assert verdict(world, "--mode", mode)["verdict"] == "equal"


ELSEWHERE = {
    "DAYS": ("DATE", "date", ("-0043-03-15", "0001-01-01", "12000-02-29")),
    "MOMENTS": (
        "TIMESTAMP_NTZ(6)",
        "timestamp",
        ("-0043-03-15 01:02:03.123456000", "0001-01-01 00:00:00.000000000", "12000-02-29 23:59:59.999999000"),
    ),
    "ZONED": (
        "TIMESTAMP_TZ(6)",
        "timestamptz",
        ("-0043-03-15 01:02:03.123456000", "0001-01-01 00:00:00.000000000", "12000-02-29 23:59:59.999999000"),
    ),
}


@pytest.mark.full
def test_watermarks_go_from_years_before_1_to_years_of_five_digits_run_after_run(world: World) -> None:
    for name, (source, target, _) in ELSEWHERE.items():
        table = f'"{world.source_database}"."PUBLIC"."{name}"'
        world.snowflake.execute(f"CREATE TABLE {table} (ID NUMBER(9,0), CHANGED {source})")
        world.target.execute(
            sql.SQL(f"CREATE TABLE {{}} (id int PRIMARY KEY, changed {target})").format(sql.Identifier(name.lower()))
        )
        world.tables.append(
            {"source": name, "uniqueness_columns": ["ID"], "source_watermark": "CHANGED", "watermark_overlap": "1h"}
        )
    world.configure(verification="checksums")
    for run in range(3):
        for name, (source, _, marks) in ELSEWHERE.items():
            table, year = f'"{world.source_database}"."PUBLIC"."{name}"', int(marks[run].rpartition("-")[0][:-3])
            rest = marks[run].removeprefix(marks[run].rpartition("-")[0][:-3])
            value = f"DATEADD(year, {year - 2000}, '2000{rest}'::{source})"
            world.snowflake.execute(f"INSERT INTO {table} SELECT {run}, {value}")
            world.snowflake.execute(f"INSERT INTO {table} SELECT {run} + 10, {value}")
        done = migrate(world)
        assert f"{len(ELSEWHERE)} tables verified" in done["message"]
        assert stored(world) == [marks[run] for _, _, marks in ELSEWHERE.values()]
        # A lower bound is inclusive: the rows of the run before are read again.
        assert counts(world, done["run_id"])["actual"] == 2 * len(ELSEWHERE) * (1 if run == 0 else 2)
    assert world.target.rows("SELECT count(*), min(changed)::text, max(changed)::text FROM moments") == [
        (6, "0044-03-15 01:02:03.123456 BC", "12000-02-29 23:59:59.999999")
    ]


def test_a_stored_watermark_that_is_none_is_blamed_where_it_is_and_only_there(world: World) -> None:
    keyed(world, rows=20, uniqueness_columns=["ID"], source_watermark="BOOKED", watermark_from_target=True)
    world.configure()
    world.target.execute("INSERT INTO orders VALUES (900, 1, 'theirs', 'infinity'), (901, 1, 'theirs', '-infinity')")
    migrate(world)
    assert world.target.rows("SELECT count(*) FROM orders") == [(22,)]
    world.target.execute("UPDATE migration_status.watermarks SET watermark = 'infinity'")

    refused(
        world.cli("migrate"), "watermark of public.orders in table watermarks of the status schema is ", "delete it"
    )
    found = json.loads(world.cli("preflight", "--json").out)
    assert [f["check"] for f in found["findings"] if f["severity"] == "error"] == ["watermark"]


@pytest.mark.full
def test_a_limit_by_the_clock_is_refused_for_what_is_no_time_and_a_sentinel_there_is_said(world: World) -> None:
    keyed(world, rows=20, uniqueness_columns=["ID"], source_watermark="ID", watermark_limit="now")
    world.configure()
    refused(world.cli("migrate"), "watermark_limit now needs a date or a time, and ID is a number", "source_filter")
    del world.tables[0]["watermark_limit"]
    world.configure()
    change(world, "UPDATE ORDERS SET ID = 99991231 WHERE ID = 5")
    assert any("which looks like a value that means no end" in warning for warning in migrate(world)["warnings"])
    change(world, "DELETE FROM ORDERS WHERE ID = 99991231")
    said = migrate(world)["warnings"]
    assert any("so only rows that every run reads are read" in warning for warning in said)
