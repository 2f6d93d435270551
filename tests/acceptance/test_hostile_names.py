"""Names and data that try to be SQL: they stay names and data, on every way that rows can take."""

from typing import Any

import pyarrow as pa
import pytest
from psycopg2 import sql

from support.hostile_names import DATA, TABLE, quoted
from support.world import World

KEY = "id'); drop table kept; --"
COLUMN = 'say "%s" {0} \\'
STAGED = "$$;\\copy (select 1)"


def add_hostile(world: World, rows: int, **settings: Any) -> None:
    table = pa.table(
        {
            KEY: pa.array(range(rows), pa.int64()),
            COLUMN: pa.array([DATA] * rows, pa.string()),
            STAGED: pa.array(["10.0.0.1"] * rows, pa.string()),
        }
    )
    types = {KEY: "NUMBER(18,0)", COLUMN: "VARCHAR", STAGED: "VARCHAR"}
    world.snowflake.load_table(world.source_database, "PUBLIC", TABLE, table, types=types)
    world.target.execute(
        sql.SQL("CREATE TABLE {} ({} bigint PRIMARY KEY, {} text, {} inet); CREATE INDEX {} ON {} ({})").format(
            *(sql.Identifier(name) for name in (TABLE, KEY, COLUMN, STAGED, f"{TABLE}_index", TABLE, COLUMN))
        )
    )
    world.target.execute("CREATE TABLE kept (id bigint)")
    world.tables.append({"source": quoted(TABLE), "target": quoted(TABLE), **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"truncate_onstart": True, "disable_index": True},
        {"uniqueness_columns": [KEY]},
        {"chunking": "key_range", "chunking_columns": [KEY], "sort_columns": [KEY]},
        {"source_filter": f"{quoted(COLUMN)} <> ';'"},
    ],
    ids=["copy", "truncated without indexes", "merge", "key ranges", "filter"],
)
def test_hostile_names_and_data_arrive_as_they_are(world: World, settings: dict[str, Any]) -> None:
    add_hostile(world, 1200, **settings)
    if "uniqueness_columns" in settings:
        world.target.execute(sql.SQL("INSERT INTO {} VALUES (5, 'old', NULL)").format(sql.Identifier(TABLE)))
    world.configure(batch_size=500)

    done = world.cli("migrate", "--json")

    assert done.exit_code == 0, done.err
    rows = world.target.rows(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(TABLE)))
    assert rows == [(number, DATA, "10.0.0.1") for number in range(1200)]
    assert world.target.rows("SELECT count(*) FROM kept") == [(0,)]
    assert world.target.rows(
        sql.SQL("SELECT count(*) FROM pg_indexes WHERE tablename = {}").format(sql.Literal(TABLE))
    ) == [(2,)]


def test_hostile_rows_that_are_refused_are_kept_as_they_are(world: World) -> None:
    add_hostile(world, 10, max_rejected_rows=10)
    world.target.execute(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} <> 3)").format(
            *(sql.Identifier(name) for name in (TABLE, 'c"; drop table kept; --', KEY))
        )
    )
    world.configure()

    assert world.cli("migrate").exit_code == 0
    listed = world.cli("rejects", "list")

    assert listed.exit_code == 0, listed.err
    assert world.target.rows("SELECT column_name FROM migration_status.rejected_rows") == [(KEY,)]
    assert world.target.rows("SELECT count(*) FROM kept") == [(0,)]


@pytest.mark.parametrize(
    "condition",
    ["1 = 1; DROP TABLE KEPT", "1 = 1) OR (1 = 1", "A = 'x", "1 = 1 /*"],
    ids=["end", "bracket", "text", "comment"],
)
def test_a_filter_that_reaches_beyond_itself_is_refused_before_anything_starts(world: World, condition: str) -> None:
    world.add_table("entries", 10, source_filter=condition)
    world.configure()

    done = world.cli("migrate")

    assert done.exit_code == 2
    assert "sources[0].tables[0].source_filter: " in " ".join(done.err.split())
    assert world.target.rows("SELECT to_regclass('migration_status.runs')") == [(None,)]
