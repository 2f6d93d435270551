"""Random tables of all types and collations, changed at random between runs that merge them, against a model."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.postgres_programs import find_programs
from snowmelt_sandbox.snowflake import LocalSnowflake
from support import merge_model
from support.loads import migrate
from support.merge_model import ModelTable
from support.world import World

ICU_VERSION = 15
"""Debian's own binaries have ICU and citext, those of the wheel have neither."""
MOOD = "CREATE TYPE mood AS ENUM ('sad', 'glad')"
FOLDING = """
    CREATE EXTENSION citext;
    CREATE COLLATION same_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE COLLATION same_accent (provider = icu, locale = 'und-u-ks-level1-kc-true', deterministic = false);
    CREATE COLLATION numbers_in_order (provider = icu, locale = 'en-u-kn-true')
"""


def has_icu() -> bool:
    programs = find_programs(ICU_VERSION) if Path(f"/usr/lib/postgresql/{ICU_VERSION}/bin/postgres").exists() else None
    return programs is not None and Path(f"/usr/share/postgresql/{ICU_VERSION}/extension/citext.control").exists()


@contextmanager
def world_with_icu(snowflake: LocalSnowflake, folder: Path) -> Iterator[World]:
    """A world whose target database is ordered by ICU, with collations that call different texts equal."""
    with LocalPostgres(version=ICU_VERSION, durable=False) as server:
        server.execute("CREATE DATABASE ordered LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0")
        with server.database(template="ordered") as database:
            database.execute(FOLDING)
            snowflake.create_schema(database.name.upper(), "PUBLIC")
            yield World(snowflake, database, folder)


def is_as_the_model_says(world: World, table: ModelTable) -> bool:
    world.target.execute(f"DROP TABLE IF EXISTS expected; {table.target_ddl('expected')}")
    rows = table.expected_rows()
    with world.target.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO expected VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)
    got, wanted = (
        world.target.rows(f'SELECT t::text FROM {name} t ORDER BY t::text COLLATE "C"')
        for name in (table.name, "expected")
    )
    assert got == wanted, table
    return True


def merge_at_random(world: World, seed: int, *, tables: int, runs: int, has_collations: bool) -> None:
    chance = random.Random(seed)
    world.target.execute(MOOD)
    kinds = [*merge_model.KINDS, *(merge_model.ICU_KINDS if has_collations else ())]
    keys = merge_model.KEYS + (merge_model.ICU_KEYS if has_collations else ())
    chance.shuffle(kinds)
    # Each type is a column of one of the tables, and each kind of key is that of one as far as there are so many.
    made = [ModelTable.chosen(f"t{i}", chance, kinds[i::tables], [keys[-1 - i % len(keys)]]) for i in range(tables)]
    for table in made:
        world.snowflake.execute(table.source_ddl(here(world, table)))
        world.target.execute(table.target_ddl(table.name))
        world.tables.append({"source": table.name.upper(), **table.settings})
    world.configure(verification="checksums")
    for run in range(runs):
        for table in made:
            table.change(chance, changes=25 if run == 0 else 12)
            world.snowflake.execute(f"DELETE FROM {here(world, table)}")
            world.snowflake.execute(table.source_rows(here(world, table)))
        run_id = migrate(world)["run_id"]
        for table in made:
            table.run()
            assert is_as_the_model_says(world, table), (seed, run)
        verdicts = world.status(f"SELECT * FROM migration_status.verification_results WHERE run_id = '{run_id}'")
        assert [row["verdict"] for row in verdicts] == ["equal"] * tables, (seed, run, verdicts)


def here(world: World, table: ModelTable) -> str:
    return f'"{world.source_database}"."PUBLIC"."{table.name.upper()}"'


def long_ones(*seeds: int) -> list[object]:
    return [pytest.param(seed, marks=pytest.mark.full) for seed in seeds]


@pytest.mark.parametrize("seed", long_ones(1, 2, 3, 4) if has_icu() else [1, *long_ones(2, 3, 4)])
def test_after_each_run_the_target_is_what_the_model_says_and_so_is_the_verdict(world: World, seed: int) -> None:
    is_short = seed == 1
    merge_at_random(world, seed, tables=5 if is_short else 12, runs=2 if is_short else 5, has_collations=False)


@pytest.mark.skipif(not has_icu(), reason=f"PostgreSQL {ICU_VERSION} with ICU and citext is not on this machine")
@pytest.mark.parametrize("seed", [1, *long_ones(2, 3, 4)])
def test_so_it_is_where_collations_call_different_texts_equal(
    snowflake: LocalSnowflake, tmp_path: Path, seed: int
) -> None:
    is_short = seed == 1
    with world_with_icu(snowflake, tmp_path) as world:
        merge_at_random(world, seed, tables=5 if is_short else 12, runs=2 if is_short else 5, has_collations=True)


@pytest.mark.skipif(not has_icu(), reason=f"PostgreSQL {ICU_VERSION} with ICU and citext is not on this machine")
def test_a_row_changed_by_hand_under_a_spelling_that_the_source_lacks_is_a_difference(
    snowflake: LocalSnowflake, tmp_path: Path
) -> None:
    with world_with_icu(snowflake, tmp_path) as world:
        table = f'"{world.source_database}"."PUBLIC"."WORDS"'
        world.snowflake.execute(f"CREATE TABLE {table} (K VARCHAR, M NUMBER(9,0), V VARCHAR)")
        world.snowflake.execute(f"INSERT INTO {table} VALUES ('Abc', 3, 'a'), ('ABC', 3, 'a'), ('Xyz', 4, 'x')")
        world.target.execute("CREATE TABLE words (k citext PRIMARY KEY, m integer, v text)")
        merged = {"uniqueness_columns": ["K"], "source_watermark": "M", "on_duplicate_keys": "newest"}
        world.tables.append({"source": "WORDS", **merged})
        world.configure(verification="checksums")
        migrate(world)
        assert [
            row["verdict"] for row in world.status("SELECT verdict FROM migration_status.verification_results")
        ] == ["equal"]

        world.target.execute("UPDATE words SET k = 'aBC', v = 'by hand' WHERE k = 'abc'")
        assert world.cli("verify").exit_code == 3
        refused = world.cli("verify", "--repair")
        assert (refused.exit_code, "its key has no form that both servers share" in refused.out) == (3, True)
        world.target.execute("UPDATE words SET k = 'ABC', v = 'a' WHERE k = 'abc'")
        assert world.cli("verify").exit_code == 0
