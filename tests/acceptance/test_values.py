"""Values that do not fit, and columns that PostgreSQL converts, in whole runs."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from support.world import World

TYPES = {"ID": "NUMBER(18,0)", "HOST": "VARCHAR", "TAGS": "VARIANT", "NAME": "VARCHAR", "AMOUNT": "NUMBER(12,2)"}


Host = tuple[int, str | None, str | None, str | None, int]


def add_hosts(world: World, rows: Sequence[Host], **settings: Any) -> None:
    columns = list(zip(*rows, strict=True))
    kinds = (pa.int64(), pa.string(), pa.string(), pa.string(), pa.decimal128(12, 2))
    values = {name: pa.array(column, kind) for name, column, kind in zip(TYPES, columns, kinds, strict=True)}
    world.snowflake.load_table(world.source_database, "PUBLIC", "HOSTS", pa.table(values), types=TYPES)
    world.target.execute("CREATE DOMAIN short AS varchar(5)")
    world.target.execute("CREATE TABLE hosts (id bigint, host inet, tags jsonb, name short, amount numeric(3, 2))")
    world.tables.append({"source": "HOSTS", **settings})


def migrate(world: World, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = world.cli("migrate", "--json", *arguments)
    assert "Traceback" not in done.err
    return done.exit_code, json.loads(done.out) if done.out.strip() else {}, done.err


def test_what_policies_change_is_counted_to_the_end_of_the_run(world: World) -> None:
    rows: list[Host] = [(i, f"10.0.{i % 200}.1", '{"a": 1}', "four", 1) for i in range(1500)]
    rows[7] = (7, None, None, "longer than five", 12)
    rows[1400] = (1400, "::1", "[]", "six ch", 999)
    add_hosts(world, rows, value_policies={"out_of_range": "null"}, column_policies={"NAME": {"too_long": "truncate"}})
    world.configure(batch_size=500)

    code, result, err = migrate(world)

    assert code == 0, err
    assert "4 values were changed on the way" in result["message"]
    assert world.target.rows(
        "SELECT id, host::text, name, amount::text FROM hosts WHERE id IN (7, 8, 1400) ORDER BY 1"
    ) == [
        (7, None, "longe", None),
        (8, "10.0.8.1/32", "four", "1.00"),
        (1400, "::1/128", "six c", None),
    ]
    changed = {"name": {"too_long": 2}, "amount": {"out_of_range": 2}}
    assert world.target.rows("SELECT changed_values FROM migration_status.v_table_progress") == [(changed,)]
    status = json.loads(world.cli("status", "--json").out)
    assert status["tables"][0]["changed_values"] == changed
    assert "values of name changed on the way: 2 too_long" in world.cli("status").out


def test_a_dry_run_shows_what_goes_through_a_staging_table(world: World) -> None:
    add_hosts(world, [(1, "10.0.0.1", None, "four", 1)])
    world.configure()

    shown = world.cli("migrate", "--dry-run").out

    assert 'HOSTS: by a staging table, as PostgreSQL converts host: "host"::inet' in " ".join(shown.split())


def test_policies_for_a_column_that_is_not_there_are_an_error(world: World) -> None:
    add_hosts(world, [(1, "10.0.0.1", None, "four", 1)], column_policies={"nmae": {"too_long": "truncate"}})
    world.configure()

    code, _, err = migrate(world)

    assert code == 2
    assert "table HOSTS: column_policies names nmae, which is not among the columns" in err
