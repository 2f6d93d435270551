"""Nights in which clocks are set, and times that differ by microseconds: as watermarks, and as keys of chunks."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from support.loads import counts, migrate
from support.world import World

AUTUMN = datetime(2025, 10, 26, 0, 0, tzinfo=UTC)
"""An hour before clocks in Berlin go back: the hour from 2 to 3 comes twice there."""
SPRING = datetime(2025, 3, 30, 0, 0, tzinfo=UTC)
"""An hour before they go forward: the hour from 2 to 3 is missing there."""
STEP = timedelta(minutes=10)
TYPES = {"ID": "NUMBER(9,0)", "MOMENT": "TIMESTAMP_LTZ(9)", "WALL": "TIMESTAMP_NTZ(9)"}


def night(start: datetime, *, first: int, rows: int) -> pa.Table:
    """Rows ten minutes apart: the moment, and what a clock on a wall in Berlin shows then."""
    moments = [start + i * STEP for i in range(first, first + rows)]
    turns = AUTUMN + timedelta(hours=1) if start == AUTUMN else SPRING + timedelta(hours=1)
    before, after = (2, 1) if start == AUTUMN else (1, 2)
    walls = [(m + timedelta(hours=before if m < turns else after)).replace(tzinfo=None) for m in moments]
    return pa.table(
        {
            "ID": pa.array(range(first, first + rows), pa.int64()),
            "MOMENT": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "WALL": pa.array(walls, pa.timestamp("us")),
        }
    )


def add(world: World, rows: pa.Table, *, append: bool = False) -> None:
    name = "LATER" if append else "NIGHTS"
    world.snowflake.load_table(world.source_database, "PUBLIC", name, rows, types=TYPES)
    if append:
        database = f'"{world.source_database}"."PUBLIC"'
        world.snowflake.execute(f"INSERT INTO {database}.NIGHTS SELECT * FROM {database}.LATER")


@pytest.mark.parametrize("start", [AUTUMN, SPRING], ids=["clocks go back", "clocks go forward"])
@pytest.mark.parametrize("watermark", ["MOMENT", "WALL"])
def test_a_night_in_which_clocks_are_set_loses_no_row(world: World, start: datetime, watermark: str) -> None:
    world.target.execute("CREATE TABLE nights (id bigint PRIMARY KEY, moment timestamptz, wall timestamp)")
    world.target.execute(f"ALTER DATABASE {world.target.name} SET timezone = 'Europe/Berlin'")
    settings = {"uniqueness_columns": ["ID"], "source_watermark": watermark, "watermark_overlap": "1h"}
    world.tables.append({"source": "NIGHTS", **settings})
    world.configure(verification="checksums")

    # Each run ends within the hour that comes twice, or that is missing.
    add(world, night(start, first=0, rows=9))
    migrate(world)
    add(world, night(start, first=9, rows=5), append=True)
    second = migrate(world)
    add(world, night(start, first=14, rows=10), append=True)
    migrate(world)

    expected = night(start, first=0, rows=24).to_pylist()
    found = world.target.rows(
        "SELECT id, to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), to_char(wall, 'YYYY-MM-DD HH24:MI')"
        " FROM nights ORDER BY id"
    )
    assert found == [(r["ID"], f"{r['MOMENT']:%Y-%m-%d %H:%M}", f"{r['WALL']:%Y-%m-%d %H:%M}") for r in expected]
    assert counts(world, second["run_id"])["inserted"] == 5


def test_times_that_differ_by_microseconds_cut_a_table_into_chunks(world: World) -> None:
    midnight = int(AUTUMN.timestamp()) * 1_000_000
    ticks = pa.table(
        {
            "ID": pa.array(range(4000), pa.int64()),
            "TICK": pa.array([midnight + 7 * i for i in range(4000)], pa.timestamp("us")),
        }
    )
    types = {"ID": "NUMBER(9,0)", "TICK": "TIMESTAMP_NTZ(9)"}
    world.snowflake.load_table(world.source_database, "PUBLIC", "TICKS", ticks, types=types)
    world.target.execute("CREATE TABLE ticks (id bigint PRIMARY KEY, tick timestamp)")
    world.tables.append(
        {"source": "TICKS", "uniqueness_columns": ["ID"], "chunking_columns": ["TICK"], "chunking": "key_range"}
    )
    world.configure(batch_size=500, verification="checksums")
    done = migrate(world)

    chunks = world.chunks("completed")
    assert len(chunks) >= 8
    assert sum(chunk["actual_rows"] for chunk in chunks) == 4000
    assert "1 table verified" in done["message"]
    assert world.target.rows("SELECT count(*), max(tick)::text FROM ticks") == [(4000, "2025-10-26 00:00:00.027993")]
