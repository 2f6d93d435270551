"""Foreign keys that stand in the way of a load: dropped for it, and put back, checked, whatever happens in between."""

from typing import Any

import pyarrow as pa
import pytest

from support.loads import migrate, refused
from support.world import World

ROWS = 3_000
KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated, obj_description(oid)
    FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1, 2
"""


def circle(world: World, *, boss: int = ROWS - 1, **settings: Any) -> None:
    """Departments refer to the one who leads them, people to their department and to their boss, who comes last."""
    people = pa.table({"ID": range(ROWS), "DEPARTMENT": [i % 10 for i in range(ROWS)], "BOSS": [boss] * ROWS})
    departments = pa.table({"ID": range(10), "LEAD": [ROWS - 1 - i for i in range(10)]})
    for name, rows in (("PEOPLE", people), ("DEPARTMENTS", departments)):
        types = dict.fromkeys(rows.column_names, "NUMBER(18,0)")
        world.snowflake.load_table(world.source_database, "PUBLIC", name, rows, types=types)
    world.target.execute(
        "CREATE TABLE departments (id bigint PRIMARY KEY, lead bigint);"
        "CREATE TABLE people (id bigint PRIMARY KEY, department bigint REFERENCES departments ON DELETE CASCADE,"
        '  boss bigint CONSTRAINT "has a boss" REFERENCES people DEFERRABLE);'
        "ALTER TABLE departments ADD CONSTRAINT led FOREIGN KEY (lead) REFERENCES people;"
        "COMMENT ON CONSTRAINT led ON departments IS 'it''s who leads'"
    )
    world.tables += [{"source": "PEOPLE", **settings}, {"source": "DEPARTMENTS"}]
    world.configure(batch_size=1_000)


def test_keys_in_a_circle_are_refused_with_the_way_out(world: World) -> None:
    circle(world)
    refused(world.cli("migrate"), "foreign keys go round in a circle", "set drop_foreign_keys for one of them")


@pytest.mark.parametrize("indexes", [False, True])
def test_keys_are_dropped_for_the_load_and_put_back_with_all_that_they_had(world: World, indexes: bool) -> None:
    circle(world, drop_foreign_keys=True, disable_index=indexes)
    world.target.execute("CREATE INDEX ON people (boss)")
    before = world.target.rows(KEYS)
    assert len(before) == 3

    migrate(world)

    assert world.target.rows(KEYS) == before
    assert world.equal("people")
    assert world.equal("departments")
    assert len([chunk for chunk in world.chunks("completed") if chunk["source_table"] == "PEOPLE"]) > 1
    assert world.status("SELECT kind, index_name FROM migration_status.saved_indexes WHERE restored_at IS NULL") == []


def test_a_dry_run_names_the_keys_that_would_be_dropped(world: World) -> None:
    circle(world, drop_foreign_keys=True)
    said = " ".join(world.cli("migrate", "--dry-run", "--json").out.split())
    assert '"drops_foreign_keys":' in said.replace(" :", ":")
    assert "has a boss" in said
    assert len(world.target.rows(KEYS)) == 3


def test_a_row_that_refers_to_nothing_fails_the_run_until_it_is_fixed(world: World) -> None:
    circle(world, boss=ROWS + 7, drop_foreign_keys=True)
    before = world.target.rows(KEYS)

    failed = world.cli("migrate")
    assert failed.exit_code == 1
    for words in (
        "foreign key has a boss of table public.people",
        "is not present in table",
        "snowmelt indexes restore",
    ):
        assert words in " ".join(failed.out.split())
    assert world.target.rows("SELECT count(*) FROM people") == [(ROWS,)]
    assert len(world.target.rows(KEYS)) == 2

    world.target.execute(f"UPDATE people SET boss = {ROWS - 1}")
    assert migrate(world)["resumed"]
    assert world.target.rows(KEYS) == before


@pytest.mark.full
def test_truncated_tables_in_a_circle_are_loaded_again(world: World) -> None:
    circle(world, drop_foreign_keys=True)
    migrate(world)
    before = world.target.rows(KEYS)
    for table in world.tables:
        table["truncate_onstart"] = True
    world.configure()

    migrate(world)

    assert world.target.rows(KEYS) == before
    assert world.equal("people")
    assert world.equal("departments")
