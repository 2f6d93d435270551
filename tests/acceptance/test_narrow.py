"""Columns with fewer digits in the target: refused, or narrowed as an assignment in PostgreSQL would, and counted."""

import json
from typing import Any

import pytest

from support.world import World

COLUMNS = {
    "ID": ("NUMBER(38,5)", "numeric(38,0)"),
    "AMOUNT": ("NUMBER(20,4)", "numeric(12,2)"),
    "WHOLE": ("NUMBER(20,4)", "bigint"),
    "PLACE": ("FLOAT", "numeric(12,8)"),
    "BINARY": ("NUMBER(38,0)", "float8"),
    "AT": ("TIMESTAMP_NTZ(9)", "timestamp(3)"),
    "DAY": ("TIMESTAMP_TZ(9)", "date"),
    "PLAIN_DAY": ("TIMESTAMP_NTZ(9)", "date"),
}
ROWS = [
    (
        *("1.00000", "12.3450", "2.5000", "0.123456785", "12"),
        *("2026-01-01 10:00:00.123500001", "2026-01-01 23:30:00 +00:00", "2026-02-01 10:00:00"),
    ),
    (
        *("2.60000", "-12.3450", "-2.5000", "-51.123456789012", "12345678901234567890123"),
        *("2026-01-01 10:00:00.123", "2026-01-02 00:00:00 +00:00", "2026-02-02 00:00:00"),
    ),
    (
        *("-4.50000", "7.0000", "3.0000", "0.000000004", "9007199254740993"),
        *("1969-12-31 23:59:59.9996", "2026-01-01 23:30:00 -02:00", "1969-12-31 23:59:59"),
    ),
]
CHANGED = {"id": 2, "amount": 2, "whole": 2, "place": 3, "binary": 2, "at": 2, "day": 2, "plain_day": 2}


def planted(world: World, **settings: Any) -> None:
    table = f'"{world.source_database}"."PUBLIC"."T"'
    of = ", ".join(f'"{name}" {source}' for name, (source, _) in COLUMNS.items())
    to = ", ".join(f'"{name.lower()}" {target}' for name, (_, target) in COLUMNS.items())
    world.snowflake.execute(f"CREATE TABLE {table} ({of})")
    for row in ROWS:
        values = ", ".join(f"'{v}'::{source}" for v, (source, _) in zip(row, COLUMNS.values(), strict=True))
        world.snowflake.execute(f"INSERT INTO {table} SELECT {values}")
    world.target.execute(f"SET timezone = 'UTC'; CREATE TABLE t ({to}, PRIMARY KEY (id))")
    world.tables.append({"source": "T", "uniqueness_columns": ["ID"], **settings})


def assigned(world: World) -> list[tuple[Any, ...]]:
    """What PostgreSQL itself makes of the values when they are assigned."""
    world.target.execute("CREATE TABLE expected (LIKE t)")
    kinds = {"NUMBER": "numeric", "FLOAT": "float8", "TIMESTAMP_NTZ": "timestamp", "TIMESTAMP_TZ": "timestamptz"}
    for row in ROWS:
        values = ", ".join(
            f"'{v}'::{kinds[source.partition('(')[0]]}" for v, (source, _) in zip(row, COLUMNS.values(), strict=True)
        )
        world.target.execute(f"SET timezone = 'UTC'; INSERT INTO expected SELECT {values}")
    return world.target.rows("SELECT expected::text FROM expected ORDER BY id")


def test_a_column_that_would_lose_digits_is_refused_with_the_choices_there_are(world: World) -> None:
    planted(world)
    world.configure()

    started = world.cli("migrate")

    assert started.exit_code == 2
    assert started.err.count("set value_policies.narrow to round or truncate") == len(COLUMNS)
    assert "is no column of both" not in started.err


@pytest.mark.parametrize("filled", [False, True], ids=["copied", "merged"])
def test_rounded_values_are_those_of_an_assignment_and_are_counted_by_column(world: World, filled: bool) -> None:
    planted(world, value_policies={"narrow": "round"})
    if filled:
        world.target.execute("INSERT INTO t (id, whole) VALUES (3, 0)")
    world.configure(verification="checksums")

    foreseen = world.cli("migrate", "--dry-run")
    moved = world.cli("migrate", "--json")

    assert moved.exit_code == 0, moved.err
    assert world.target.rows("SELECT t::text FROM t ORDER BY id") == assigned(world)
    (table,) = json.loads(moved.out)["tables"]
    assert table["changed_values"] == {name: {"narrow": count} for name, count in CHANGED.items()}
    assert table["verdict"] == "equal"
    assert 'column "place", FLOAT into numeric(12,8): the shortest decimal that names a value is rounded' in (
        foreseen.out + foreseen.err
    ).replace("\n", " ")


def test_truncated_values_lose_their_last_digits(world: World) -> None:
    planted(world, column_policies={name: {"narrow": "truncate"} for name in COLUMNS})
    world.configure(verification="checksums")

    moved = world.cli("migrate", "--json")

    assert moved.exit_code == 0, moved.err
    assert json.loads(moved.out)["tables"][0]["verdict"] == "equal"
    assert world.target.rows(
        "SELECT id::text, amount::text, whole, place::text, at::text, day::text FROM t ORDER BY id"
    ) == [
        ("-4", "7.00", 3, "0.00000000", "1969-12-31 23:59:59.999", "2026-01-02"),
        ("1", "12.34", 2, "0.12345678", "2026-01-01 10:00:00.123", "2026-01-01"),
        ("2", "-12.34", -2, "-51.12345678", "2026-01-01 10:00:00.123", "2026-01-02"),
    ]


def test_keys_that_become_one_by_it_are_found_before_anything_moves(world: World) -> None:
    planted(world, value_policies={"narrow": "truncate"}, truncate_onstart=True)
    table = f'"{world.source_database}"."PUBLIC"."T"'
    world.snowflake.execute(f"INSERT INTO {table} (ID) VALUES ('2.10000'::NUMBER(38,5))")
    world.target.execute("INSERT INTO t (id) VALUES (77)")
    world.configure()

    started = world.cli("migrate")

    assert started.exit_code == 2
    assert "more than once" in started.err
    assert world.target.rows("SELECT id FROM t") == [(77,)]


def test_numbers_that_fit_no_more_once_they_are_rounded_are_found_and_rejected(world: World) -> None:
    planted(world, value_policies={"narrow": "round"}, max_rejected_rows=2)
    table = f'"{world.source_database}"."PUBLIC"."T"'
    world.snowflake.execute(f"INSERT INTO {table} (ID, AMOUNT) VALUES (8, '9999999999.9950'::NUMBER(20,4))")
    world.snowflake.execute(f"INSERT INTO {table} (ID, PLACE) VALUES (9, 10000.5::FLOAT)")
    world.configure(verification="checksums")

    looked = world.cli("preflight", "--json")
    moved = world.cli("migrate", "--json")

    found = [f for f in json.loads(looked.out)["findings"] if f["check"] == "out_of_range"]
    assert {f["column"] for f in found} == {"amount", "place"}
    assert all("1 row" in f["message"] for f in found)
    assert moved.exit_code == 0, moved.err
    (done,) = json.loads(moved.out)["tables"]
    assert done["verdict_reason"] == ""
    assert (done["rows"], done["rejected"], done["verdict"]) == (3, 2, "equal")
