"""Pre-flight finds what is wrong with a pair of schemas, all of it, at its place, and nothing else."""

import json
import re
from collections import Counter
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import sql

from snowmelt import actions
from snowmelt.deadline import Deadline
from snowmelt.errors import AccessError, ConfigError
from snowmelt.findings import Finding
from snowmelt.sql_text import queries as statements
from support import planted
from support.preflights import command, looked_at, wired
from support.world import World

CHANGES_POSTGRES = ("ALTER TABLE", "CREATE", "GRANT", "SELECT", "ALTER ROLE")


@pytest.fixture
def role(world: World) -> Iterator[str]:
    """A role that loads and is nobody special; whatever it owns is gone after the test."""
    name = f"loader_{world.target.name}"
    named = sql.Identifier(name)
    world.target.execute(sql.SQL("CREATE ROLE {} LOGIN").format(named))
    try:
        yield name
    finally:
        world.snowflake.deny([])
        world.target.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        world.target.execute(sql.SQL("DROP OWNED BY {} CASCADE; DROP ROLE {}").format(named, named))


def places(findings: tuple[Finding, ...]) -> "Counter[tuple[str, str, str]]":
    return Counter((each.severity, each.check, each.place) for each in findings)


def test_all_that_is_planted_is_found_at_its_place_and_nothing_else(world: World, role: str) -> None:
    world.target.execute(sql.SQL(statements.text("engine/status_schema.sql")))
    planted.plant(world, role)
    world.configure(postgres={"user": role}, parallel_threads=8)
    before = world.target.rows("SELECT oid, relname, relfilenode FROM pg_class ORDER BY oid")

    found = looked_at(world)

    wanted, seen = Counter(planted.expected()), places(found.findings)
    assert sum(wanted.values()) >= 40
    assert {"missed": wanted - seen, "invented": seen - wanted} == {"missed": Counter(), "invented": Counter()}
    assert not found.go
    assert world.target.rows("SELECT oid, relname, relfilenode FROM pg_class ORDER BY oid") == before
    assert failing_fixes(world, found.findings) == {}


@pytest.mark.full
def test_whatever_a_start_refuses_pre_flight_has_found_in_the_same_words(world: World, role: str) -> None:
    world.target.execute(sql.SQL(statements.text("engine/status_schema.sql")))
    planted.plant(world, role)
    world.configure(postgres={"user": role}, parallel_threads=8)
    start = {"action": "validate_config", "execution_id": "local:test", "dry_run": True}

    with pytest.raises(ConfigError) as refusal:
        actions.run(start, wired(world), Deadline.after(600))

    errors = {str(finding) for finding in looked_at(world).findings if finding.severity == "error"}
    assert len(refusal.value.problems) > 30
    without_id = re.compile(r"\(query [0-9a-f-]{36}\)")  # each asks Snowflake by a statement of its own
    told, refused = ({without_id.sub("", text) for text in texts} for texts in (errors, refusal.value.problems))
    assert refused - told == set()


def failing_fixes(world: World, findings: tuple[Finding, ...]) -> dict[str, str]:
    """Lines for PostgreSQL that it does not take, each tried by itself and undone."""
    refused = {}
    lines = {line for each in findings for line in each.fix if line.startswith(CHANGES_POSTGRES)}
    with world.target.connect() as connection:
        for line in sorted(lines):
            if " TO ROLE " in line:  # Snowflake's
                continue
            with connection.cursor() as cursor:
                try:
                    cursor.execute(line)
                except psycopg2.Error as failure:
                    refused[line] = str(failure)
            connection.rollback()
    connection.close()
    return refused


# --- a pair with nothing wrong ----------------------------------------------------------------------------------------


SOUND = """
CREATE TABLE PAYERS (ID NUMBER(9,0) NOT NULL, NAME VARCHAR(3) NOT NULL);
INSERT INTO PAYERS SELECT 1, 'abc' UNION ALL SELECT 2, 'äöü';
CREATE TABLE BILLS (
    ID NUMBER(38,0) NOT NULL, PAYER NUMBER(9,0), AMOUNT NUMBER(12,2), CODE VARCHAR,
    BOOKED TIMESTAMP_NTZ(9), EXTRA VARCHAR
);
INSERT INTO BILLS
SELECT 1, 1, 9999999999.99, 'a', '2026-01-01 00:00:00.123456'::TIMESTAMP_NTZ, '[1]'
UNION ALL SELECT 2, NULL, -9999999999.99, NULL, '2026-01-02'::TIMESTAMP_NTZ, NULL
UNION ALL SELECT 32767, 2, NULL, NULL, '2026-01-03'::TIMESTAMP_NTZ, '{}'
"""


def sound(world: World) -> None:
    """Two tables that refer to each other as they should, with values at the very edges of what their targets take."""
    connection = world.snowflake.connect(database=world.source_database, schema="PUBLIC")
    with connection, connection.cursor() as cursor:
        for statement in SOUND.split(";\n"):
            cursor.execute(statement)
    world.target.execute(
        "CREATE TABLE payers (id integer PRIMARY KEY, name varchar(3) NOT NULL);"
        "CREATE TABLE bills (id smallint PRIMARY KEY, payer integer REFERENCES payers, amount numeric(12,2),"
        " code text NOT NULL DEFAULT '', booked timestamp, extra text)"
    )
    world.target.execute("ALTER TABLE bills ALTER code DROP NOT NULL; ALTER TABLE bills ADD UNIQUE (code)")
    world.tables += [
        {"source": "BILLS", "uniqueness_columns": ["ID"], "source_watermark": "BOOKED", "chunking_columns": ["ID"]},
        {"source": "PAYERS", "uniqueness_columns": ["id"]},
    ]
    world.configure()


@pytest.mark.full
def test_nothing_is_found_where_nothing_is_wrong_and_then_it_migrates(world: World) -> None:
    sound(world)

    first = command(world, "preflight", "--json")
    moved = world.cli("migrate")
    again = command(world, "preflight")

    found = json.loads(first.stdout)
    assert (first.exit_code, found["findings"], found["verdict"]) == (0, [], "go")
    assert [(t["table"], t["rows"], t["strategy"]) for t in found["tables"]] == [
        ("BILLS", 3, "key_range"),
        ("PAYERS", 2, "one_scan"),
    ]
    assert moved.exit_code == 0, moved.err
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "go")


def test_a_table_that_is_in_the_way_is_no_go_with_what_fixes_it(world: World) -> None:
    sound(world)
    world.target.execute("ALTER TABLE payers ALTER name TYPE varchar(2)")

    done = command(world, "preflight")
    others = command(world, "preflight", "--tables", "BILLS", "--json")

    assert done.exit_code == 3
    assert 'error [too_long] table PAYERS -> public.payers, column "name": 2 rows have a value' in done.stdout
    assert '> ALTER TABLE "public"."payers" ALTER COLUMN "name" TYPE text;' in done.stdout
    assert '> sources[0].tables[1].column_policies["name"].too_long: "truncate"' in done.stdout
    assert done.stdout.splitlines()[-1] == "no-go: 1 error, 0 warnings"
    (note,) = json.loads(others.stdout)["findings"]
    assert (note["severity"], note["check"]) == ("note", "orphans")
    assert others.exit_code == 0


@pytest.mark.full
def test_the_filter_that_is_proposed_leaves_out_just_what_is_in_the_way(world: World) -> None:
    sound(world)
    world.target.execute("ALTER TABLE bills ALTER amount TYPE numeric(6,2), DROP CONSTRAINT bills_payer_fkey")
    world.tables.pop()
    del world.tables[0]["chunking_columns"]
    world.configure()
    (finding,) = looked_at(world).findings
    world.tables[0]["source_filter"] = json.loads(finding.fix[-1].partition(": ")[2])
    world.configure()

    found = looked_at(world)

    assert finding.check == "out_of_range"
    assert finding.brief.startswith("2 rows have")
    assert [(f.severity, f.check) for f in found.findings] == [("note", "out_of_range")]
    assert found.tables[0].rows == 1, "the one whose amount is NULL"


def test_a_server_that_lets_nobody_in_is_the_usual_error(world: World) -> None:
    sound(world)
    world.configure(postgres={"user": "nobody_by_that_name"})

    with pytest.raises(AccessError, match="nobody_by_that_name"):
        looked_at(world)


def test_on_aurora_the_note_on_temporary_tables_has_rows_width_and_threads(world: World) -> None:
    sound(world)
    world.target.execute("INSERT INTO bills (id) VALUES (1)")  # so that rows are merged
    world.target.execute("CREATE FUNCTION aurora_version() RETURNS text LANGUAGE sql AS $$ SELECT '16.4.1' $$")
    world.configure(parallel_threads=8, batch_size=2)

    (note,) = looked_at(world).findings

    assert (note.severity, note.check, note.place) == ("note", "room", "PostgreSQL")
    # Three rows in chunks of two, so two of the eight threads have one at a time.
    assert re.search(r"of table BILLS, chunks of 2 rows of \d+ bytes in 2 threads\)", note.message), note.message


def test_policies_are_told_by_column_and_one_that_masks_a_key_stands_against_a_run(world: World) -> None:
    world.add_table("masked", 10)
    world.add_table("hidden", 10)
    world.add_table("keyed", 10, uniqueness_columns=["ID"])
    world.target.execute("ALTER TABLE keyed ADD PRIMARY KEY (id)")
    world.add_table("ranged", 10, chunking_columns=["ID"])
    world.add_table("marked", 10, source_watermark="BOOKED", truncate_onstart=True)
    world.add_table("excluded", 10, exclude_columns=["NOTE"])
    world.add_table("secret", 10)
    where = f"{world.source_database}.PUBLIC"
    world.snowflake.set_policies(f"{where}.MASKED", masking={"NOTE": "MASK_TEXT"})
    world.snowflake.set_policies(f"{where}.HIDDEN", row_access="ONLY_OWN_ROWS")
    world.snowflake.set_policies(f"{where}.KEYED", masking={"ID": "MASK_ID", "NOTE": "MASK_TEXT"}, row_access="OWN")
    world.snowflake.set_policies(f"{where}.RANGED", masking={"ID": "MASK_ID"})
    world.snowflake.set_policies(f"{where}.MARKED", masking={"BOOKED": "MASK_TIME"})
    world.snowflake.set_policies(f"{where}.EXCLUDED", masking={"NOTE": "MASK_TEXT"})
    world.snowflake.set_policies(f"{where}.SECRET", masking={"NOTE": "MASK_TEXT"}, row_access="X", permitted=False)
    world.configure()

    before = len(world.snowflake.queries())
    found = looked_at(world)
    asked = [query["text"] for query in world.snowflake.queries()[before:]]

    told = {
        (each.severity, each.check, each.table, each.column)
        for each in found.findings
        if each.check in ("masking", "row_access")
    }
    assert told == {
        ("warning", "masking", "MASKED", "NOTE"),
        ("warning", "row_access", "HIDDEN", None),
        ("error", "masking", "KEYED", "ID"),
        ("warning", "masking", "KEYED", "NOTE"),
        ("warning", "row_access", "KEYED", None),
        ("error", "masking", "RANGED", "ID"),
        ("error", "masking", "MARKED", "BOOKED"),
        ("warning", "masking", "SECRET", "NOTE"),
    }
    assert sum("DESCRIBE TABLE" in text for text in asked) == len(world.tables)
    assert sum("POLICY_REFERENCES" in text for text in asked) == 1
    assert not found.go

    refused = world.cli("migrate")
    assert refused.exit_code == 2
    assert 'table KEYED: column "ID": the policy MASK_ID is set on it' in refused.err

    for table in ("KEYED", "RANGED", "MARKED"):
        world.snowflake.set_policies(f"{where}.{table}")
    migrated = world.cli("migrate", "--json")
    assert migrated.exit_code == 0, migrated.err
    warnings = json.loads(migrated.out)["warnings"]
    assert any('table MASKED: column "NOTE": the policy MASK_TEXT is set on it' in each for each in warnings)
    assert any("table HIDDEN: the row access policy ONLY_OWN_ROWS is set on it" in each for each in warnings)


def test_a_type_that_the_connector_does_not_know_is_named_as_the_table_declares_it(world: World) -> None:
    world.snowflake.execute("CREATE TABLE exact (ID INT, D DECFLOAT)", database=world.source_database, schema="PUBLIC")
    world.target.execute("CREATE TABLE exact (id bigint, d bigint)")
    world.tables.append({"source": "EXACT"})
    world.configure()
    (told,) = [each for each in looked_at(world).findings if each.severity == "error"]
    assert (told.check, told.column) == ("column_type", "d")
    assert "DECFLOAT does not go into int8" in told.message
    world.target.execute("ALTER TABLE exact ALTER d TYPE numeric")
    assert looked_at(world).go
