"""Keys that are two in Snowflake and one in PostgreSQL are found, named and counted."""

import json
import re
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from support.preflights import looked_at
from support.world import World

FOLDED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "BLANKS": ("VARCHAR", "char(5)", "SELECT 'a' UNION ALL SELECT 'a '", {}),
    "SPELLINGS": (
        "VARCHAR",
        "uuid",
        "SELECT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' UNION ALL SELECT 'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
        {},
    ),
    "CUT": (
        "VARCHAR",
        "varchar(3)",
        "SELECT 'abcd' UNION ALL SELECT 'abce'",
        {"value_policies": {"too_long": "truncate"}},
    ),
    "STRIPPED": (
        "VARCHAR",
        "text",
        "SELECT 'a' || CHR(0) UNION ALL SELECT 'a'",
        {"value_policies": {"nul_characters": "strip"}},
    ),
    "DIGITS": ("FLOAT", "float4", "SELECT 0.1::FLOAT UNION ALL SELECT 0.10000000001::FLOAT", {}),
    "MOMENTS": (
        "TIMESTAMP_NTZ(9)",
        "timestamp",
        "SELECT '2024-01-01 00:00:00.000001001' UNION ALL SELECT '2024-01-01 00:00:00.000001002'",
        {"value_policies": {"sub_microsecond": "truncate"}},
    ),
    "OFFSETS": (
        "TIMESTAMP_TZ(6)",
        "timestamptz",
        "SELECT ('2024-01-01 1' || N || ':00:00+0' || N)::TIMESTAMP_TZ(6) FROM (SELECT 1 AS N UNION SELECT 2)",
        {},
    ),
    "NETWORKS": ("VARCHAR", "inet", "SELECT '10.0.0.1' UNION ALL SELECT '10.0.0.1/32'", {}),
    "MACS": ("VARCHAR", "macaddr", "SELECT '08:00:2b:01:02:03' UNION ALL SELECT '08-00-2B-01-02-03'", {}),
}
APART: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "FRONT_BLANKS": ("VARCHAR", "char(5)", "SELECT 'a' UNION ALL SELECT ' a'", {}),
    "TEXTS": ("VARCHAR", "text", "SELECT 'a' UNION ALL SELECT 'a ' UNION ALL SELECT 'A'", {}),
    "FLOATS": ("FLOAT", "float8", "SELECT 0.1::FLOAT UNION ALL SELECT 0.10000000001::FLOAT", {}),
    "NARROW": ("FLOAT", "float4", "SELECT 16777216::FLOAT UNION ALL SELECT 16777218::FLOAT UNION ALL SELECT 0", {}),
    "DAYS": ("DATE", "date", "SELECT '2024-01-01'::DATE UNION ALL SELECT '2024-01-02'::DATE", {}),
    "NULLS": ("VARCHAR", "char(5)", "SELECT NULL UNION ALL SELECT NULL", {}),
    "NETS": ("VARCHAR", "inet", "SELECT '10.0.0.0/8' UNION ALL SELECT '10.0.0.0/16' UNION ALL SELECT '::1'", {}),
}


def plant(world: World, name: str, source: str, target: str, rows: str, **settings: Any) -> None:
    table = f'"{world.source_database}"."PUBLIC"."{name}"'
    world.snowflake.execute(f"CREATE TABLE {table} (K {source})")
    world.snowflake.execute(f"INSERT INTO {table} {rows}")
    world.target.execute(sql.SQL(f"CREATE TABLE {{}} (k {target} UNIQUE)").format(sql.Identifier(name.lower())))
    world.tables.append({"source": name, **settings})


def test_what_the_target_folds_is_found_before_anything_moves_and_nothing_else_is(world: World) -> None:
    for name, (source, target, rows, settings) in {**FOLDED, **APART}.items():
        plant(world, name, source, target, rows, **settings)
    world.configure()

    found = {f.table: f for f in looked_at(world).findings if f.check == "unique_duplicates"}

    assert set(found) == set(FOLDED)
    assert "1 row has the same (k) as another" in found["BLANKS"].message
    assert re.search(r"K='\[value \w+\]' and '\[value \w+\]'", found["BLANKS"].message)


def test_a_full_load_that_would_meet_one_key_twice_truncates_nothing(world: World) -> None:
    _, target, rows, _ = FOLDED["BLANKS"]
    plant(world, "BLANKS", "VARCHAR", target, rows, truncate_onstart=True, uniqueness_columns=["K"])
    world.target.execute("INSERT INTO blanks VALUES ('old')")
    world.configure()

    done = world.cli("migrate", "--show-values")

    assert done.exit_code == 2, done.out
    assert "key (K) more than once (1 row too many), as in K='a' and 'a '" in done.err
    assert world.target.rows("SELECT trim(k) FROM blanks") == [("old",)]


@pytest.mark.parametrize("filled", [False, True])
def test_rows_that_give_way_to_a_newer_one_of_their_key_are_counted_and_said(world: World, filled: bool) -> None:
    table = f'"{world.source_database}"."PUBLIC"."T"'
    world.snowflake.execute(f"CREATE TABLE {table} (K VARCHAR, SEQ NUMBER(9,0))")
    world.snowflake.execute(f"INSERT INTO {table} VALUES ('a', 1), ('a ', 2), ('b', 3)")
    world.target.execute("CREATE TABLE t (k char(5) PRIMARY KEY, seq integer)")
    if filled:
        world.target.execute("INSERT INTO t VALUES ('z', 0)")
    world.tables.append({"source": "T", "uniqueness_columns": ["K"], "source_watermark": "SEQ"})
    world.configure(verification="checksums", batch_size=1 if not filled else 10)

    done = world.cli("migrate")

    assert done.exit_code == 0, done.err
    assert "1 row gave way to a newer one of the same key (T)" in done.out + done.err
    status = world.cli("status").out
    assert "T: 1 row gave way to a newer one of the same key" in status, status
    (table,) = json.loads(world.cli("status", "--json").out)["tables"]
    assert table["gave_way"] == 1
    (verdict,) = json.loads(world.cli("verify", "--json").out)["tables"]
    assert (verdict["verdict"], verdict["gave_way"]) == ("equal", 1)
    report = json.loads(world.cli("report", "--json").out)
    assert "1 row gave way to a newer one of the same key" in report["verdict"]["headline"]
    assert world.target.rows("SELECT trim(k), seq FROM t WHERE k <> 'z' ORDER BY k") == [("a", 2), ("b", 3)]


ONLY_POSTGRES: dict[str, tuple[str, str, str]] = {
    "SEVEN": ("VARCHAR", "citext", "SELECT 'É' UNION ALL SELECT 'é'"),
    "CASES": ("VARCHAR", "text COLLATE no_case", "SELECT 'Straße' UNION ALL SELECT 'STRASSE'"),
    "FIXED_CASES": ("VARCHAR", "char(5) COLLATE no_case", "SELECT 'a' UNION ALL SELECT 'A '"),
    "SIX": ("VARCHAR", "inet", "SELECT '::1' UNION ALL SELECT '0:0:0:0:0:0:0:1'"),
    "NETWORK": ("VARCHAR", "cidr", "SELECT '10/8' UNION ALL SELECT '10.0.0.0/8'"),
    "DOCUMENTS": ("VARCHAR", "jsonb", 'SELECT \'{"a":1,"b":2}\' UNION ALL SELECT \'{"b":2, "a":1.0}\''),
    "LISTS": ("ARRAY", "int4[]", "SELECT [1, 2] UNION ALL SELECT [1, 3]"),
    "WRITTEN_LISTS": ("VARCHAR", "int4[]", "SELECT '{1,2}' UNION ALL SELECT '{1, 2}'"),
    "SPANS": ("VARCHAR", "int4range", "SELECT '[1,3]' UNION ALL SELECT '[1,4)'"),
    "WAITS": ("VARCHAR", "interval", "SELECT '30 days' UNION ALL SELECT '1 mon'"),
    "MOMENTS_OF_DAY": ("VARCHAR", "timetz", "SELECT '10:00+00' UNION ALL SELECT '10:00:00+00'"),
    "BYTES": ("BINARY", "bytea", "SELECT TO_BINARY('00', 'HEX') UNION ALL SELECT TO_BINARY('0000', 'HEX')"),
    "SCALES": ("NUMBER(12,2)", "numeric(12,4)", "SELECT 1.5 UNION ALL SELECT 1.50"),
    "OTHER_SCALES": ("NUMBER(12,2)", "numeric", "SELECT 1.5 UNION ALL SELECT 1.51"),
}
"""With keys that are one to PostgreSQL, but for those of APART_THERE."""
APART_THERE = {"LISTS", "BYTES", "OTHER_SCALES"}


def plant_what_only_postgres_compares(world: World) -> set[str]:
    """Plant all that this server can have: neither extensions nor ICU belong to every build."""
    planted = dict(ONLY_POSTGRES)
    if world.target.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"):
        world.target.execute("CREATE EXTENSION citext")
    else:
        del planted["SEVEN"]
    try:
        world.target.execute(
            "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
        )
    except psycopg2.errors.FeatureNotSupported:
        del planted["CASES"], planted["FIXED_CASES"]
    for name, (source, target, rows) in planted.items():
        plant(world, name, source, target, rows)
    return set(planted)


def test_what_only_postgres_can_compare_is_compared_by_it_before_anything_moves(world: World) -> None:
    planted = plant_what_only_postgres_compares(world)
    world.configure()

    found = [f for f in looked_at(world).findings if f.check in ("unique_duplicates", "key_uncompared")]

    assert {f.table: f.check for f in found} == dict.fromkeys(planted - APART_THERE, "unique_duplicates")
    done = world.cli("migrate", "--show-values")
    assert done.exit_code == 2
    assert "1 row has the same (k) as another" in done.err
    assert "K='0:0:0:0:0:0:0:1' and '::1'" in done.err


@pytest.mark.parametrize("size", [1, 10])
def test_a_row_that_gives_way_where_only_postgres_knows_is_equal(world: World, size: int) -> None:
    table = f'"{world.source_database}"."PUBLIC"."T"'
    world.snowflake.execute(f"CREATE TABLE {table} (K VARCHAR, SEQ NUMBER(9,0))")
    world.snowflake.execute(f"INSERT INTO {table} VALUES ('::1', 1), ('0:0:0:0:0:0:0:1', 2), ('::2', 3)")
    world.target.execute("CREATE TABLE t (k inet PRIMARY KEY, seq integer)")
    world.tables.append({"source": "T", "uniqueness_columns": ["K"], "source_watermark": "SEQ"})
    world.configure(verification="checksums", batch_size=size)

    done = world.cli("migrate")

    assert done.exit_code == 0, done.out + done.err
    assert "1 row gave way to a newer one of the same key (T)" in done.out + done.err
    assert world.target.rows("SELECT host(k), seq FROM t ORDER BY seq") == [("::1", 2), ("::2", 3)]
    (verdict,) = json.loads(world.cli("verify", "--json").out)["tables"]
    assert (verdict["verdict"], verdict["gave_way"], verdict["kept_newer"]) == ("equal", 1, 0)
