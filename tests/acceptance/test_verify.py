"""Differences of every kind, planted in a loaded table of 25 columns, are found, located to the row, and fixed."""

import json
from contextlib import closing
from importlib.resources import files
from typing import Any

import pytest

from support.loads import change, keyed
from support.world import SOURCE, World, eventually

ROWS, MANY = 20_000, 2_000_000
PATIENCE_SECONDS = 900.0
LAST_COLUMN = "IFF(MOD(n, 10) = 8, NULL, MOD(n, 7))::NUMBER(9, 0)                     AS grade"
PLANTED = {
    "missing": "DELETE FROM mixed WHERE id = 17",
    "extra": "INSERT INTO mixed SELECT (jsonb_populate_record(m, '{\"id\": 9000017}')).* FROM mixed m WHERE id = 3",
    "ulp": "UPDATE mixed SET weight = (SELECT weight + 5e-12) WHERE id = 11111",
    "character": "UPDATE mixed SET customer = replace(customer, 'number', 'numbex') WHERE id = 19999",
    "case": "UPDATE mixed SET code = lower(code) WHERE id = 4711",
    "zone": "UPDATE mixed SET zoned = zoned + interval '2 hours' WHERE id = 815",
    "null": "UPDATE mixed SET note = '' WHERE id = 5",
    "empty": "UPDATE mixed SET note = NULL WHERE id = 0",
    "json": "UPDATE mixed SET payload = jsonb_set(payload, '{tags}', '\"a,c\"') WHERE id = 77",
    "bytes": "UPDATE mixed SET digest = digest || '\\x00' WHERE id = 78",
}
SWAPPED = """
    UPDATE mixed m SET amount = other.amount FROM (SELECT id, amount FROM mixed) other
    WHERE (m.id, other.id) IN ((100, 200), (200, 100))
"""


def made(world: World, rows: int = ROWS, **settings: Any) -> World:
    """The table of the benches with a zoned time for its last column, loaded."""
    package = files("benchmarks")
    statement = package.joinpath("snowflake.sql").read_text(encoding="utf-8")
    assert LAST_COLUMN in statement
    statement = statement.replace(LAST_COLUMN, "DATEADD(second, n, '2001-01-01'::TIMESTAMP_NTZ)::TIMESTAMP_TZ AS zoned")
    with world.snowflake.connect(database=world.source_database, schema="PUBLIC") as connection:
        connection.cursor().execute(statement, {"rows": rows})
    world.target.execute(package.joinpath("target.sql").read_text(encoding="utf-8"))
    world.target.execute("ALTER TABLE mixed DROP grade, ADD zoned timestamptz, ADD PRIMARY KEY (id)")
    world.tables.append({"source": "MIXED", "uniqueness_columns": ["ID"], "truncate_onstart": True, **settings})
    world.configure()
    migrated = world.start_cli("migrate", "--source", SOURCE).wait(PATIENCE_SECONDS)
    assert migrated.exit_code == 0, migrated.err
    return world


def verify(world: World, *options: str, code: int = 0) -> dict[str, Any]:
    """The verdict on the only table."""
    verified = world.start_cli("verify", "--source", SOURCE, "--json", *options).wait(PATIENCE_SECONDS)
    assert verified.exit_code == code, (verified.out, verified.err)
    (table,) = json.loads(verified.out)["tables"]
    assert isinstance(table, dict)
    return table


def keys(verdict: dict[str, Any], kind: str) -> list[str]:
    return sorted(row["key"]["id"] for row in verdict["differences"] if row["kind"] == kind)


def content(world: World) -> str:
    with closing(world.target.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT md5(string_agg(m::text, ' ' ORDER BY id)) FROM mixed m")
        return str(cursor.fetchall()[0][0])


@pytest.mark.parametrize("rows", [ROWS, pytest.param(MANY, marks=pytest.mark.full)])
def test_every_kind_of_difference_is_found_located_and_fixed(world: World, rows: int) -> None:
    made(world, rows)
    loaded = content(world)
    clean = verify(world)
    assert (clean["verdict"], clean["source_rows"], clean["target_rows"]) == ("equal", rows, rows)

    for statement in (*PLANTED.values(), SWAPPED):
        world.target.execute(statement)
    found = verify(world, code=3)

    assert (found["missing"], found["extra"], found["changed"]) == (1, 1, len(PLANTED) - 2 + 2)
    assert keys(found, "missing") == ["17"]
    assert keys(found, "extra") == ["9000017"]
    assert keys(found, "changed") == sorted(["11111", "19999", "4711", "815", "5", "0", "77", "78", "100", "200"])
    columns = {
        row["key"]["id"]: [(c["column"], c["source"], c["target"]) for c in row["columns"]]
        for row in found["differences"]
        if row["kind"] == "changed"
    }
    assert columns["5"] == [("note", None, "")]
    assert [name for name, *_ in columns["11111"]] == ["weight"]
    assert columns["4711"] == [("code", "C723", "c723")]
    assert columns["815"] == [("zoned", "2001-01-01 00:13:35+00", "2001-01-01 02:13:35+00")]
    assert [name for name, *_ in columns["100"]] == ["amount"]
    assert columns["77"] == [("payload", '{"n": 77, "tags": "a,b"}', '{"n": 77, "tags": "a,c"}')]

    fixed = verify(world, "--repair")

    assert (fixed["verdict"], fixed["repaired"]) == ("equal", {"updated": 10, "inserted": 1, "deleted": 1})
    assert content(world) == loaded


@pytest.mark.full
def test_values_find_one_last_place_of_a_float(world: World) -> None:
    made(world, 300)
    world.target.execute("UPDATE mixed SET score = 33.000000000000007 WHERE id = 99")

    for mode in ("rows", "checksums"):
        found = verify(world, "--mode", mode, code=3)
        assert [(row["key"], row["columns"]) for row in found["differences"]] == [
            ({"id": "99"}, [{"column": "score", "source": "33", "target": "33.00000000000001"}])
        ]
    assert verify(world, "--mode", "counts")["verdict"] == "equal"
    assert verify(world, "--mode", "rows", "--repair")["repaired"] == {"updated": 1, "inserted": 0, "deleted": 0}


@pytest.mark.full
def test_rows_without_a_key_are_told_by_what_they_hold(world: World) -> None:
    made(world, 300, uniqueness_columns=[])
    world.target.execute("UPDATE mixed SET code = 'other' WHERE id = 7")

    for mode in ("checksums", "rows"):
        found = verify(world, "--mode", mode, code=3)
        assert (found["missing"], found["extra"], found["changed"]) == (1, 1, 0)
        rows = {row["kind"]: row["key"] for row in found["differences"]}
        assert rows["extra"]["code"] == "other"
        assert mode == "rows" or rows["missing"]["code"] == "C7"
    refused = world.cli("verify", "--source", SOURCE, "--repair")
    assert (refused.exit_code, "not repaired: table MIXED differs, and no key tells" in refused.out) == (3, True)


@pytest.mark.full
def test_what_was_read_counts_and_not_what_the_source_holds_now(world: World) -> None:
    made(world, 300)
    world.snowflake.execute("DELETE FROM mixed WHERE id < 100", database=world.source_database, schema="PUBLIC")
    assert verify(world)["verdict"] == "equal"

    world.snowflake.expire_results()
    found = verify(world)
    assert (found["verdict"], found["source_rows"]) == ("equal", 300)
    assert found["snapshot"].startswith("the table as of 20")

    world.snowflake.set_time_travel(enabled=False)
    world.snowflake.execute(
        "CREATE OR REPLACE TABLE mixed AS SELECT 1 AS id", database=world.source_database, schema="PUBLIC"
    )
    try:
        gone = verify(world, code=3)
        assert verify(world, "--allow-not-comparable", code=0)["verdict"] == "not comparable"
    finally:
        world.snowflake.set_time_travel(enabled=True)
    assert gone["verdict"] == "not comparable"
    assert "cannot be had any more" in gone["reason"]
    assert "load the table again and verify within 24 hours" in gone["advice"]


def test_rows_that_are_committed_during_the_scan_are_no_difference(world: World) -> None:
    keyed(world, rows=2000, uniqueness_columns=["ID"])
    world.configure()
    scan = f'FROM "{world.source_database}"."PUBLIC"."ORDERS"'
    world.snowflake.set_delays(query_seconds=3600, containing='AS "booked"')
    process = world.start_cli("migrate")
    eventually(
        lambda: any(q["reads"] and scan in q["text"] for q in world.snowflake.queries(containing='AS "booked"')),
        what="the scan reads the table",
    )
    change(world, "INSERT INTO ORDERS (ID, NOTE) VALUES (77777, 'committed while the scan was on')")
    change(world, "UPDATE ORDERS SET NOTE = 'and this too' WHERE ID = 3")
    world.snowflake.set_delays()
    assert process.wait().exit_code == 0
    assert world.target.rows("SELECT count(*), max(id) FROM orders") == [(2000, 1999)]

    def passes() -> int:
        return len(world.snowflake.queries(containing="RESULT_SCAN"))

    before = passes()
    assert (verify(world)["verdict"], passes() - before) == ("equal", 1)
    assert (verify(world, "--mode", "counts")["verdict"], passes() - before) == ("equal", 1)
    assert (verify(world, "--mode", "rows")["verdict"], passes() - before) == ("equal", 1)

    world.snowflake.expire_results()
    for mode in ("checksums", "counts", "rows"):
        found = verify(world, "--mode", mode, *["--repair"] * (mode != "counts"))
        assert (found["verdict"], found["source_rows"], found["repaired"]) == ("equal", 2000, None)
        assert found["snapshot"].startswith("the table as of 20")
    assert world.target.rows("SELECT count(*), max(id) FROM orders") == [(2000, 1999)]

    world.target.execute("UPDATE orders SET note = 'spoiled' WHERE id IN (3, 4)")
    assert verify(world, "--repair")["repaired"] == {"updated": 2, "inserted": 0, "deleted": 0}
    assert world.target.rows("SELECT note FROM orders WHERE id = 3") == [("entry 3" + " " * 50,)]

    world.target.execute("UPDATE migration_status.run_tables SET scan_began_at = clock_timestamp()")
    guarded = verify(world, code=3)
    assert guarded["verdict"] == "not comparable"
    assert "has 2001 rows, and the query read 2000: rows were committed at that very moment" in guarded["reason"]
    world.target.execute("UPDATE migration_status.run_tables SET scan_began_at = NULL")
    assert "an earlier version of Snowmelt" in verify(world, code=3)["reason"]


def test_what_befalls_one_table_is_said_and_the_others_are_verified(world: World) -> None:
    for name in ("gone", "kept", "never"):
        world.add_table(name, 20)
    world.configure()
    assert world.cli("migrate", "--source", SOURCE, "--tables", "GONE,KEPT").exit_code == 0
    world.target.execute("DROP TABLE gone")

    done = world.cli("verify", "--json")

    found = json.loads(done.out)
    verdicts = {table["table"]: (table["verdict"], table["advice"]) for table in found["tables"]}
    assert (done.exit_code, found["equal"], found["not_comparable"]) == (3, False, ["GONE", "NEVER"])
    assert verdicts["KEPT"] == ("equal", "")
    assert verdicts["NEVER"] == ("not comparable", "run `snowmelt migrate` for it first")
    assert "remove what the error names" in verdicts["GONE"][1]
    told = " ".join(world.cli("verify").out.split())
    assert 'relation "public.gone" does not exist' in told
    assert "NEVER: what to do: run `snowmelt migrate` for it first" in told
    assert world.cli("verify", "--allow-not-comparable").exit_code == 0
    world.target.execute("DELETE FROM kept WHERE id = 3")
    assert world.cli("verify", "--allow-not-comparable").exit_code == 3


def test_every_verdict_says_what_was_not_loaded(world: World) -> None:
    statement = (
        "CREATE TABLE parts AS SELECT n AS id, 'x' AS secret, n AS extra,"
        " '2026-01-01 00:00:00'::TIMESTAMP_NTZ::TIMESTAMP_TZ AS seen FROM (SELECT 1 AS n UNION ALL SELECT 2 AS n)"
    )
    world.snowflake.execute(statement, database=world.source_database, schema="PUBLIC")
    world.target.execute("CREATE TABLE parts (id bigint PRIMARY KEY, seen timestamptz)")
    world.tables.append({"source": "PARTS", "exclude_columns": ["secret"], "truncate_onstart": True})
    world.configure(verification="checksums")
    clause = "without EXTRA (not in the target), SECRET (excluded); seen: the moment is kept, the UTC offset"

    done = world.cli("migrate", "--json")

    result = json.loads(done.out)
    assert f"1 table verified; not loaded or not kept: PARTS {clause}" in result["message"]
    assert clause in result["tables"][0]["omitted"]
    assert clause in verify(world)["omitted"]
    report = json.loads((world.folder / "store" / "runs" / result["run_id"] / "report.json").read_text())
    assert f"PARTS {clause}" in report["verdict"]["headline"]
    assert "SECRET" not in " ".join(result["warnings"])
    for shown in (world.cli("status").out, world.cli("verify").out):
        assert clause in " ".join(shown.split())

    world.configure(verification="checksums", on_extra_columns="fail")
    refused = world.cli("migrate", "--no-resume")
    assert (refused.exit_code, "or name it in exclude_columns" in refused.err) == (2, True)
    assert len(world.runs()) == 1
    world.tables[0] |= {"exclude_columns": ["SECRET", "EXTRA", "NONE"], "on_extra_columns": "fail"}
    world.configure(verification="checksums")
    assert "exclude_columns names NONE, which is no column of the source" in world.cli("migrate").err
    world.tables[0]["exclude_columns"] = ["SECRET", "EXTRA"]
    world.configure(verification="checksums")
    assert world.cli("migrate", "--no-resume").exit_code == 0


@pytest.mark.full
def test_a_column_that_is_added_later_is_named_by_the_next_run_or_stops_it(world: World) -> None:
    world.add_table("entries", 50, uniqueness_columns=["ID"], source_watermark="BOOKED", exclude_columns=["note"])
    world.target.execute("ALTER TABLE entries ADD PRIMARY KEY (id), DROP note")
    world.configure(verification="checksums", on_extra_columns="fail")
    assert world.cli("migrate").exit_code == 0
    for statement in (
        "ALTER TABLE ENTRIES ADD COLUMN LATER VARCHAR",
        "UPDATE ENTRIES SET LATER = 'x', BOOKED = '2026-01-01 00:00:00' WHERE ID < 5",
    ):
        world.snowflake.execute(statement, database=world.source_database, schema="PUBLIC")

    refused = world.cli("migrate")

    assert refused.exit_code == 2
    assert 'source column "LATER" is left out, the target has no such column' in refused.err
    assert len(world.runs()) == 1
    world.configure(verification="checksums")
    result = json.loads(world.cli("migrate", "--json").out)
    clause = "without LATER (not in the target), NOTE (excluded)"
    assert f"1 table verified; not loaded or not kept: ENTRIES {clause}" in result["message"]
    assert verify(world)["omitted"] == clause
    assert verify(world, "--all-rows")["omitted"] == clause
    watched = json.loads(world.cli("status", "--watch", "--json").out.splitlines()[-1])[
        "run"
    ]  # as the dashboard has it
    assert f"ENTRIES {clause}" in watched["verdict"]
    assert watched["tables"][0]["omitted"] == clause
    report = json.loads((world.folder / "store" / "runs" / result["run_id"] / "report.json").read_text())
    assert f"ENTRIES {clause}" in report["verdict"]["headline"]
    assert world.cli("preflight").exit_code == 0
    world.target.execute("DROP TABLE entries")
    made = world.cli("schema", "ddl").out
    assert ("LATER" in made.upper(), "NOTE" in made.upper()) == (True, False)


def test_a_repair_that_a_trigger_undoes_says_so(world: World) -> None:
    world.add_table("entries", 60, uniqueness_columns=["ID"], source_filter="ID >= 0")
    world.target.execute("ALTER TABLE entries ADD PRIMARY KEY (id)")
    world.configure()
    assert world.cli("migrate").exit_code == 0
    world.target.execute(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := ''LOUD''; RETURN NEW; END';"
        "CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION shout();"
        "UPDATE entries SET amount = 7 WHERE id < 51"
    )

    repaired = verify(world, "--repair", code=3)

    assert (repaired["verdict"], repaired["changed"]) == ("different", 51)
    assert "still differs; columns that do not keep it: note;" in repaired["reason"]
    assert "drop or disable what rewrites public.entries (trigger loud)" in repaired["reason"]
    assert {c["column"] for row in repaired["differences"] for c in row["columns"]} == {"note"}
    said = " ".join(world.cli("verify", "--repair").out.split())
    assert "written, but not kept: 51 rows updated, 0 inserted, 0 deleted" in said
    world.target.execute("DROP TRIGGER loud ON entries")
    assert verify(world, "--repair")["repaired"]["updated"] == 51

    foreseen = json.loads(world.cli("migrate", "--dry-run", "--json").out)
    assert any("no longer does stays in public.entries" in said for said in foreseen["tables"][0]["warnings"])


@pytest.mark.full
def test_an_incremental_load_is_held_against_what_it_moved(world: World) -> None:
    world.add_table("entries", 200, uniqueness_columns=["ID"], source_watermark="BOOKED", watermark_overlap="0s")
    world.target.execute("ALTER TABLE entries ADD PRIMARY KEY (id)")
    world.configure()
    assert world.cli("migrate", "--source", SOURCE).exit_code == 0
    assert verify(world)["verdict"] == "equal"
    change = "UPDATE entries SET note = 'changed', booked = '2024-05-01 00:00:00.5' WHERE id IN (3, 4)"
    world.snowflake.execute(change, database=world.source_database, schema="PUBLIC")
    assert world.cli("migrate", "--source", SOURCE).exit_code == 0

    moved = verify(world)
    assert moved["verdict"] == "equal"
    assert moved["source_rows"] < 50

    world.target.execute("UPDATE entries SET amount = 0 WHERE id IN (4, 150)")
    assert verify(world, code=3)["changed"] == 1
    assert verify(world, "--all-rows", code=3)["changed"] == 2
    assert verify(world, "--all-rows", "--repair")["repaired"]["updated"] == 2
    first = world.runs()[0]["run_id"]
    assert "has loaded it since" in verify(world, "--run", first, code=3)["reason"]


def test_a_sample_looks_at_some_keys_only(world: World) -> None:
    made(world, 2_000)
    found = verify(world, "--mode", "rows", "--sample", "200")
    assert (found["verdict"], found["sampled"]) == ("equal", 8)
    assert 0 < found["source_rows"] == found["target_rows"] < 500


@pytest.mark.full
def test_a_repair_never_deletes_into_other_tables(world: World) -> None:
    made(world, 300)
    world.target.execute(PLANTED["extra"])
    world.target.execute("CREATE TABLE child (mixed_id bigint REFERENCES mixed (id) ON DELETE CASCADE)")
    world.target.execute("INSERT INTO child VALUES (9000017)")

    refused = world.cli("verify", "--source", SOURCE, "--repair")

    assert (refused.exit_code, "reach into child" in refused.out) == (3, True)
    assert world.status("SELECT count(*) AS n FROM child") == [{"n": 1}]
