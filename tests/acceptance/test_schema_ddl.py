"""Target tables that are missing are written as DDL, made when asked for, and then take every row."""

import json

import pytest
from psycopg2 import sql

from support.hostile_names import DATA, TABLE, quoted
from support.preflights import command, looked_at
from support.world import World

EVERYTHING = """
CREATE TABLE EVERYTHING (
    ID NUMBER(9,0) NOT NULL PRIMARY KEY, SMALL NUMBER(4,0), BIG NUMBER(18,0), HUGE NUMBER(38,0), MONEY NUMBER(12,2),
    HALF FLOAT, NAME VARCHAR(20) NOT NULL, YES BOOLEAN, RAW BINARY, BORN DATE, AT_TIME TIME(6),
    NTZ TIMESTAMP_NTZ(6), LTZ TIMESTAMP_LTZ(6), ANYTHING VARIANT
);
INSERT INTO EVERYTHING
SELECT 1, 9999, 999999999999999999, 99999999999999999999999999999999999999, 1.25,
       0.5::FLOAT, 'a', TRUE, TO_BINARY('00ff', 'HEX'), '2024-02-29'::DATE, '23:59:59'::TIME,
       '2024-02-29 23:59:59'::TIMESTAMP_NTZ, '2024-02-29 23:59:59 +0000'::TIMESTAMP_LTZ, PARSE_JSON('{"a": 1}')
"""
ROW = (
    '(1,9999,999999999999999999,99999999999999999999999999999999999999,1.25,0.5,a,t,"\\\\x00ff",2024-02-29,23:59:59,'
    '"2024-02-29 23:59:59","2024-02-29 23:59:59+00","{""a"": 1}")'
)
"""What PostgreSQL makes of it."""
KEY = "id'); drop table kept; --"
COLUMN = 'say "%s" {0} \\'


def fill(world: World, script: str) -> None:
    connection = world.snowflake.connect(database=world.source_database, schema="PUBLIC")
    with connection, connection.cursor() as cursor:
        for statement in script.split(";\n"):
            cursor.execute(statement)


def hostile(world: World) -> None:
    """A table whose names try to be SQL, with a column that has a name of two lines."""
    columns = f'{quoted(KEY)} NUMBER(18,0) NOT NULL, {quoted(COLUMN)} VARCHAR, "two\nlines" VARCHAR'
    rows = f"SELECT 1, $${DATA}$$, 'x'"
    fill(world, f"CREATE TABLE {quoted(TABLE)} ({columns});\nINSERT INTO {quoted(TABLE)} {rows}")
    world.tables.append({"source": quoted(TABLE), "target": quoted(TABLE), "uniqueness_columns": [KEY]})


def test_a_table_of_each_type_is_made_from_what_is_printed_and_then_takes_every_row(world: World) -> None:
    fill(world, EVERYTHING)
    world.tables.append({"source": "EVERYTHING", "chunking_columns": ["BORN"]})
    hostile(world)
    world.target.execute("CREATE TABLE kept (id bigint)")
    world.configure()

    printed = command(world, "schema", "ddl")
    nothing_yet = world.target.rows("SELECT to_regclass('everything')")
    world.target.execute(sql.SQL(printed.stdout))
    found, moved = looked_at(world), world.cli("migrate")

    assert printed.exit_code == 0, printed.stderr
    assert nothing_yet == [(None,)]
    # A note of what no target type of a VARIANT can keep; nothing that could be done.
    assert [(f.severity, f.check, f.column) for f in found.findings] == [("note", "column_lossy", "anything")]
    assert moved.exit_code == 0, moved.err
    assert world.target.rows("SELECT e::text FROM everything e") == [(ROW,)]
    assert world.target.rows(sql.SQL("SELECT * FROM {}").format(sql.Identifier(TABLE))) == [(1, DATA, "x")]
    assert world.target.rows("SELECT count(*) FROM kept") == [(0,)]
    types = world.target.rows(
        "SELECT a.attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute a"
        " WHERE attrelid = 'everything'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert types == [
        ("id", "integer", True),
        ("small", "smallint", False),
        ("big", "bigint", False),
        ("huge", "numeric(38,0)", False),
        ("money", "numeric(12,2)", False),
        ("half", "double precision", False),
        ("name", "text", True),
        ("yes", "boolean", False),
        ("raw", "bytea", False),
        ("born", "date", False),
        ("at_time", "time without time zone", False),
        ("ntz", "timestamp without time zone", False),
        ("ltz", "timestamp with time zone", False),
        ("anything", "jsonb", False),
    ]
    keys = world.target.rows("SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'p' ORDER BY 1")
    assert ("everything",) in keys
    assert '-- CREATE INDEX ON "public"."everything" ("born");' in printed.stdout


def test_apply_makes_what_is_missing_and_leaves_the_rest_alone(world: World) -> None:
    hostile(world)
    world.tables.append({"source": "THERE"})
    fill(world, "CREATE TABLE THERE (ID NUMBER(9,0), MORE NUMBER(5,0))")
    world.target.execute("CREATE TABLE there (id integer); INSERT INTO there VALUES (1)")
    world.configure()

    done = command(world, "schema", "ddl", "--apply", "--json")
    again = command(world, "schema", "ddl", "--apply")

    said = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr
    assert (said["applied"], said["tables"]) == (True, [f"public.{TABLE}"])
    assert '-- ALTER TABLE "public"."there" ADD COLUMN "more" integer;' in said["sql"]
    assert world.target.rows("SELECT * FROM there") == [(1,)]
    assert world.target.rows(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(TABLE))) == [(0,)]
    assert again.exit_code == 0
    assert "CREATE TABLE" not in again.stdout
    assert "nothing" in again.stderr


@pytest.mark.full
def test_a_schema_that_is_missing_is_made_too(world: World) -> None:
    fill(world, "CREATE TABLE FIRST (ID NUMBER(9,0))")
    world.tables.append({"source": "FIRST"})
    world.configure()
    config = json.loads(world.config.read_text())
    config["sources"][0]["target_pg_schema"] = '"new ""place"'
    world.config.write_text(json.dumps(config))

    done = command(world, "schema", "ddl", "--apply")

    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith('CREATE SCHEMA "new ""place";\n')
    assert world.target.rows("""SELECT count(*) FROM "new ""place".first""") == [(0,)]
    assert looked_at(world).go


@pytest.mark.full
def test_one_table_that_cannot_be_made_leaves_none_behind(world: World) -> None:
    fill(world, "CREATE TABLE FIRST (ID NUMBER(9,0));\nCREATE TABLE SECOND (ID NUMBER(9,0))")
    world.target.execute("CREATE TYPE second AS (id integer)")
    world.tables += [{"source": "FIRST"}, {"source": "SECOND"}]
    world.configure()

    done = world.cli("schema", "ddl", "--apply")

    assert done.exit_code == 1
    assert done.err.startswith("TargetRefusedError: ")
    assert len(done.err.splitlines()) == 1
    assert world.target.rows("SELECT to_regclass('first')") == [(None,)]
