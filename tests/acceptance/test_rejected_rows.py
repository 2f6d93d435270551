"""Rows that are refused, in whole runs: all others are in, and each of these is kept with the reason."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import refused_kinds
from benchmarks.refused_kinds import KINDS
from support.world import World

ROWS = 3000
CHUNK_ROWS = 1000
BAD = {7 + 147 * place: name for place, name in enumerate(KINDS)}
"""One bad row of each kind, spread over all chunks; the kind of each by its id."""


def add_kinds(world: World, names: Sequence[str] = tuple(KINDS), **settings: Any) -> None:
    given, types = refused_kinds.rows(ROWS, BAD, names), refused_kinds.source_types(names)
    world.snowflake.load_table(world.source_database, "PUBLIC", "KINDS", given, types=types)
    world.target.execute(refused_kinds.target_ddl(names))
    world.tables.append({"source": "KINDS", "column_policies": refused_kinds.column_policies(names), **settings})


def migrate(world: World, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = world.cli("migrate", "--json", *arguments)
    assert "Traceback" not in done.err
    assert done.out.strip(), done.err
    return done.exit_code, json.loads(done.out)


@pytest.mark.parametrize(
    "load",
    [
        pytest.param({}, id="copy"),
        pytest.param({"uniqueness_columns": ["ID"], "insert_only_mode": True}, id="merge", marks=pytest.mark.full),
    ],
)
def test_a_bad_row_of_each_kind_is_rejected_and_is_explained_and_all_others_are_in(
    world: World, load: dict[str, Any]
) -> None:
    add_kinds(world, max_rejected_rows=len(KINDS), **load)
    if load:  # a table that holds rows is merged into
        world.target.execute("ALTER TABLE kinds DISABLE TRIGGER quiet")
        good = ", ".join("NULL" if name != "NEEDED" else "'x'" for name in KINDS)
        world.target.execute(f"INSERT INTO kinds VALUES (-1, {good})")
        world.target.execute("ALTER TABLE kinds ENABLE TRIGGER quiet")
    world.configure(batch_size=CHUNK_ROWS, verification="checksums")

    code, result = migrate(world)

    assert code == 0, result["message"]
    assert result["status"] == "completed_with_rejects"
    assert "1 table verified" in result["message"]
    assert f"{len(KINDS)} rows were rejected" in result["message"]
    there = {row[0] for row in world.target.rows("SELECT id FROM kinds WHERE id >= 0")}
    assert there == set(range(ROWS)) - set(BAD)
    kept = world.target.rows(
        "SELECT convert_from(row_content, 'UTF8'), column_name, coalesce(reason_in_full, reason), chunk_id, row_number"
        " FROM migration_status.rejected_rows"
    )
    named = {json.loads(content)["ID"]: (column, reason) for content, column, reason, _, _ in kept}
    assert set(named) == {str(row) for row in BAD}
    assert {name: named[str(row)][0] for row, name in BAD.items()} == {
        name: None if name == "NO_TRIGGER" else name.lower() for name in KINDS
    }
    assert [name for row, name in BAD.items() if KINDS[name].reason not in named[str(row)][1]] == []
    assert world.target.rows(
        "SELECT sum(actual_rows)::int, sum(rejected_rows)::int, sum(inserted_rows)::int FROM migration_status.chunks"
    ) == [(ROWS, len(KINDS), ROWS - len(KINDS))]
    for mode in ("checksums", "rows"):
        verified = world.cli("verify", "--mode", mode, "--json")
        (verdict,) = json.loads(verified.out)["tables"]
        said = {name: verdict[name] for name in ("verdict", "source_rows", "rejected", "left_alone")}
        expected = {"verdict": "equal", "source_rows": ROWS - len(KINDS), "rejected": len(KINDS)}
        assert said == expected | {"left_alone": 1 if load else 0}, verdict
    shown = world.cli("status").out
    assert f"{len(KINDS)} rows were rejected" in " ".join(shown.split())


def test_more_refused_rows_than_allowed_fail_the_run_until_someone_agrees(world: World) -> None:
    add_kinds(world, ["LONG", "CHECKED", "NEEDED"], max_rejected_rows=2)
    world.configure(batch_size=CHUNK_ROWS)

    code, result = migrate(world)

    assert code == 1
    assert result["status"] == "failed"
    assert "3 of 3000 rows are refused, more than max_rejected_rows (2)" in result["message"]
    assert 'column "long": the text is longer than varchar(5) holds' in result["message"]
    assert world.target.rows("SELECT count(*) FROM kinds") == [(ROWS - 3,)]
    loaded_at = world.target.rows("SELECT max(completed_at) FROM migration_status.chunks")

    code, result = migrate(world, "--accept-rejected")

    assert code == 0, result["message"]
    assert result["status"] == "completed_with_rejects"
    assert world.target.rows("SELECT count(*) FROM kinds") == [(ROWS - 3,)]
    assert world.target.rows("SELECT max(completed_at) FROM migration_status.chunks") == loaded_at


def test_a_rejected_row_whose_key_the_target_has_is_left_out_of_both_sides(world: World) -> None:
    codes, ids = ["a", "b", "longer", "d", "e"], [1, 2, 3, 4, None]
    table = pa.table({"ID": pa.array(ids, pa.int64()), "CODE": codes, "DOC": ['{"a": 1}'] * 5})
    types = {"ID": "NUMBER(18,0)", "CODE": "VARCHAR", "DOC": "VARCHAR"}
    world.snowflake.load_table(world.source_database, "PUBLIC", "CODES", table, types=types)
    world.target.execute("CREATE TABLE codes (id bigint PRIMARY KEY, code varchar(5), doc jsonb)")
    world.target.execute("INSERT INTO codes VALUES (3, 'old', '{}'), (4, 'old', '{}'), (9, 'own', '{}')")
    world.tables.append({"source": "CODES", "uniqueness_columns": ["ID"], "source_filter": "ID IS NOT NULL"})
    world.configure(verification="checksums")
    assert migrate(world)[1]["status"] == "failed"  # more than none was rejected

    code, result = migrate(world, "--accept-rejected")

    assert (code, result["status"]) == (0, "completed_with_rejects"), result
    assert "1 table verified" in result["message"]
    loaded = [(1, "a"), (2, "b"), (3, "old"), (4, "d"), (9, "own")]
    assert world.target.rows("SELECT id, code FROM codes ORDER BY id") == loaded
    world.target.execute("UPDATE codes SET code = 'other' WHERE id = 2")
    repaired = world.cli("verify", "--repair", "--json")
    (verdict,) = json.loads(repaired.out)["tables"]
    assert (repaired.exit_code, verdict["verdict"], verdict["left_alone"]) == (0, "equal", 2), verdict
    assert verdict["repaired"] == {"updated": 1, "inserted": 0, "deleted": 0}
    assert world.target.rows("SELECT id, code FROM codes ORDER BY id") == loaded


def test_of_equal_rows_only_the_rejected_one_is_left_out(world: World) -> None:
    table = pa.table({"ID": pa.array([1, 2, 2, 3], pa.int64()), "DOC": ["[1]", "[2]", "[2]", "[3]"]})
    world.snowflake.load_table(
        world.source_database, "PUBLIC", "TWICE", table, types={"ID": "NUMBER(18,0)", "DOC": "VARCHAR"}
    )
    world.target.execute("CREATE TABLE twice (id bigint, doc jsonb, EXCLUDE (id WITH =))")
    world.tables.append({"source": "TWICE", "max_rejected_rows": 1})
    world.configure(verification="checksums")

    code, result = migrate(world)

    assert (code, result["status"]) == (0, "completed_with_rejects"), result
    world.target.execute("UPDATE twice SET doc = '[4]' WHERE id = 3")
    for mode in ("checksums", "rows"):
        verified = world.cli("verify", "--mode", mode, "--json")
        (verdict,) = json.loads(verified.out)["tables"]
        assert (verified.exit_code, verdict["missing"], verdict["extra"]) == (3, 1, 1), verdict


def test_the_state_machine_succeeds_with_rows_left_out_and_fails_with_too_many(world: World) -> None:
    add_kinds(world, ["LONG", "CHECKED"], truncate_onstart=True)
    world.configure(batch_size=CHUNK_ROWS)
    with world.aws() as aws:
        refused = aws.step_functions.run({})
        agreed = aws.step_functions.run({"accept_rejected": True})

    assert (refused.status, refused.error) == ("FAILED", "MigrationFailed")
    assert refused.cause is not None
    assert "2 of 3000 rows are refused, more than max_rejected_rows (0)" in refused.cause
    assert agreed.status == "SUCCEEDED", agreed.cause
    assert world.target.rows("SELECT status FROM migration_status.runs") == [("completed_with_rejects",)]
    assert world.target.rows("SELECT count(*) FROM kinds") == [(ROWS - 2,)]


def test_a_duplicate_and_a_refused_row_in_one_chunk_are_both_settled(world: World) -> None:
    world.target.execute("CREATE TABLE visits (id bigint PRIMARY KEY, age integer CHECK (age < 150), seen timestamp)")
    ids = [*range(1499), 3]
    seen = [row % 60 * 1_000_000 for row in range(1499)] + [10**15]
    ages = [151 if row == 700 else row % 100 for row in range(1500)]
    table = pa.table(
        {
            "ID": pa.array(ids, pa.int64()),
            "AGE": pa.array(ages, pa.int32()),
            "SEEN": pa.array(seen, pa.int64()).cast(pa.timestamp("us")),
        }
    )
    types = {"ID": "NUMBER(18,0)", "AGE": "NUMBER(9,0)", "SEEN": "TIMESTAMP_NTZ(6)"}
    world.snowflake.load_table(world.source_database, "PUBLIC", "VISITS", table, types=types)
    world.tables.append(
        {
            "source": "VISITS",
            "truncate_onstart": True,
            "uniqueness_columns": ["ID"],
            "source_watermark": "SEEN",
            "max_rejected_rows": 1,
        }
    )
    world.configure(batch_size=1500)

    code, result = migrate(world)

    assert code == 0, result["message"]
    assert world.target.rows("SELECT count(*), count(*) FILTER (WHERE id = 700) FROM visits") == [(1498, 0)]
    assert world.target.rows("SELECT age FROM visits WHERE id = 3") == [(1499 % 100,)]


def test_a_table_that_refers_to_itself_is_not_isolated(world: World) -> None:
    world.target.execute(
        "CREATE TABLE staff (id bigint PRIMARY KEY, boss bigint REFERENCES staff, age integer CHECK (age < 150))"
    )
    ids = list(range(1500))
    table = pa.table(
        {
            "ID": pa.array(ids, pa.int64()),
            "BOSS": pa.array([1499] * 1500, pa.int64()),
            "AGE": pa.array([200 if i == 5 else 30 for i in ids], pa.int32()),
        }
    )
    types = {"ID": "NUMBER(18,0)", "BOSS": "NUMBER(18,0)", "AGE": "NUMBER(9,0)"}
    world.snowflake.load_table(world.source_database, "PUBLIC", "STAFF", table, types=types)
    world.tables.append({"source": "STAFF", "max_rejected_rows": 10})
    world.configure(max_retry_attempts=1)

    code, result = migrate(world)

    assert code == 1
    assert "staff_age_check" in result["message"]
    assert world.target.rows("SELECT count(*) FROM staff") == [(0,)]


# --- after the run ----------------------------------------------------------------------------------------------------


def test_refused_rows_come_in_when_their_cause_is_fixed_and_the_run_is_started_again(world: World) -> None:
    add_kinds(world, ["LONG", "CHECKED", "PARENT"])
    world.configure(batch_size=CHUNK_ROWS)
    assert migrate(world)[0] == 1
    loaded_at = world.target.rows("SELECT max(completed_at) FROM migration_status.chunks")

    world.target.execute("ALTER TABLE kinds DROP CONSTRAINT kinds_checked_check; INSERT INTO parents VALUES (2)")
    world.target.execute("ALTER TABLE kinds ALTER long TYPE varchar(6)")
    retried = world.cli("retry", "--json")

    assert retried.exit_code == 0, retried.err
    assert json.loads(retried.out)["status"] == "completed"
    assert world.target.rows("SELECT count(*) FROM kinds") == [(ROWS,)]
    assert world.target.rows("SELECT id, long FROM kinds WHERE long <> 'fives'") == [(7, "longer")]
    assert world.target.rows("SELECT count(*) FROM migration_status.rejected_rows") == [(0,)]
    assert world.target.rows(
        "SELECT sum(rejected_rows)::int, sum(inserted_rows)::int, max(completed_at) FROM migration_status.chunks"
    ) == [(0, ROWS, *loaded_at[0])]


def test_what_keeps_refused_rows_from_being_tried_once_more_is_in_the_verdict(world: World) -> None:
    add_kinds(world, ["LONG"])
    world.configure(batch_size=CHUNK_ROWS)
    assert migrate(world)[0] == 1

    world.target.execute("ALTER TABLE kinds DROP COLUMN long")
    ended = world.cli("migrate")

    assert ended.exit_code == 1
    assert "column long of public.kinds is gone" in ended.err
    assert "public.kinds has lost columns" in ended.err
    assert "start with --no-resume" in ended.err


def test_refused_rows_are_taken_out_fixed_and_replayed(world: World) -> None:
    add_kinds(world, ["LONG", "NUL", "MONEY", "ANCIENT"], max_rejected_rows=9)
    world.configure(batch_size=CHUNK_ROWS)
    code, result = migrate(world)
    assert (code, result["status"]) == (0, "completed_with_rejects")
    shown = " ".join(world.cli("rejects", "list").out.split())
    assert "the text is longer than varchar(5) holds" in shown

    lines = [json.loads(line) for line in world.cli("rejects", "export").out.splitlines()]
    assert [sorted(line["values"]) for line in lines] == [["ANCIENT", "ID", "LONG", "MONEY", "NUL"]] * 4
    for line in lines:
        if line["column"] == "long":
            line["values"]["LONG"] = "short"
        if line["column"] == "nul":
            line["values"]["NUL"] = "ab"
    fixed = world.folder / "fixed.jsonl"
    fixed.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:3]), encoding="utf-8")
    replayed = world.cli("rejects", "replay", "--json", "--file", str(fixed))
    again = world.cli("rejects", "replay", "--json", "--file", str(fixed))

    assert replayed.out, replayed.err
    assert (replayed.exit_code, json.loads(replayed.out)[0]["replayed"]) == (1, 2)
    assert json.loads(replayed.out)[0]["refused"] == 1
    assert world.target.rows("SELECT long, nul FROM kinds WHERE long <> 'fives' OR nul <> 'a' ORDER BY id") == [
        ("short", "a"),
        ("fives", "ab"),
    ]
    assert again.exit_code == 2
    assert "line 1: row" in again.err
    assert "is not among the rejected rows of the run" in again.err
    world.target.execute("ALTER TABLE kinds ALTER money TYPE numeric(9, 2)")
    rest = world.cli("rejects", "replay")
    assert rest.exit_code == 1
    assert "KINDS: 1 rows are in, 1 are refused" in rest.out
    assert world.target.rows("SELECT count(*) FROM kinds") == [(ROWS - 1,)]


@pytest.mark.full
def test_a_target_is_verified_as_equal_but_for_its_refused_rows(world: World) -> None:
    add_kinds(world, ["LONG", "CHECKED"], max_rejected_rows=2, uniqueness_columns=["ID"], truncate_onstart=True)
    world.configure(batch_size=CHUNK_ROWS)
    assert migrate(world)[0] == 0

    verified = world.cli("verify", "--json")
    counted = world.cli("verify", "--json", "--mode", "counts")
    world.target.execute("DELETE FROM kinds WHERE id = 5")
    short = world.cli("verify", "--json")

    assert verified.exit_code == counted.exit_code == 0, verified.err
    (table,) = json.loads(verified.out)["tables"]
    assert (table["verdict"], table["rejected"], table["missing"]) == ("equal", 2, 0), table["reason"]
    (table,) = json.loads(short.out)["tables"]
    assert (short.exit_code, table["verdict"], table["missing"]) == (3, "different", 3)


@pytest.mark.full
def test_rows_are_not_replayed_into_a_target_that_was_loaded_since(world: World) -> None:
    add_kinds(world, ["LONG"], max_rejected_rows=1, truncate_onstart=True)
    world.configure()
    first = migrate(world)[1]["run_id"]
    assert migrate(world)[0] == 0

    done = world.cli("rejects", "replay", "--run", first)

    assert done.exit_code == 1
    assert "has loaded public.kinds after" in done.err
    assert world.target.rows("SELECT count(*) FROM kinds") == [(ROWS - 1,)]


def test_errors_are_grouped_with_their_remedy(world: World) -> None:
    add_kinds(world, ["LONG", "CHECKED"])
    world.configure(batch_size=CHUNK_ROWS)
    migrate(world)

    groups = json.loads(world.cli("errors", "--json").out)

    assert {(group["code"], group["what"], group["count"]) for group in groups} == {
        ("RejectedRowsError", "row", 1),
        ("23514", "row", 1),
    }
    shown = " ".join(world.cli("errors").out.split())
    assert "what to do: see `snowmelt rejects`" in shown
    assert "kinds_checked_check" in shown


@pytest.mark.full
def test_there_is_nothing_to_retry_in_a_run_that_is_complete(world: World) -> None:
    world.add_table("entries", 10)
    world.configure()
    assert "has no run yet" in world.cli("retry").err or world.cli("status", "install").exit_code == 0
    migrate(world)
    assert "is completed: nothing failed in it" in world.cli("retry").out
    assert world.cli("errors").out.strip() == "no error"
    assert world.cli("rejects", "list").out.strip() == "no row was refused"
    assert world.cli("rejects", "replay").exit_code == 1


def test_rejected_rows_that_are_older_than_their_retention_are_removed_and_named(world: World) -> None:
    add_kinds(world, ["LONG", "CHECKED"], max_rejected_rows=1, truncate_onstart=True)
    world.add_table("other", 10, truncate_onstart=True)
    world.configure(rejects_retention="30d", max_retry_attempts=1)
    code, failed = migrate(world, "--tables", "KINDS")
    assert (code, failed["status"]) == (1, "failed")
    counted = world.status("SELECT sum(rejected_rows)::int AS n FROM migration_status.chunks")
    export = world.folder / "export.jsonl"
    export.write_text(world.cli("rejects", "export").out, encoding="utf-8")

    deep = world.folder / "deep.jsonl"
    for levels in (900, 100_000):
        first = json.loads(export.read_text(encoding="utf-8").splitlines()[0])
        nested = f'"values": {{"LONG": {"[" * levels}{"]" * levels}}}'
        deep.write_text(f'{{"table": "KINDS", "chunk_id": {first["chunk_id"]}, "row_number": 1, {nested}}}\n')
        refused = world.cli("rejects", "replay", "--file", str(deep))
        assert (refused.exit_code, "Traceback" in refused.err, "line 1" in refused.err) == (2, False, True), refused

    # A refusal once more does not make a row younger.
    assert world.cli("rejects", "replay").exit_code == 1
    world.target.execute("UPDATE migration_status.rejected_rows SET rejected_at = now() - interval '31 days'")
    assert world.cli("rejects", "replay").exit_code == 1
    code, other = migrate(world, "--tables", "OTHER")

    line = f"KINDS: 2 rejected rows of run {failed['run_id']} had waited longer than rejects_retention"
    assert code == 0
    assert line in " ".join(other["warnings"])
    assert world.target.rows("SELECT count(*)::int FROM migration_status.rejected_rows") == [(0,)]
    assert world.status("SELECT sum(rejected_rows)::int AS n FROM migration_status.chunks") == counted
    of_run = ("--run", failed["run_id"])
    for command, out in (("list", "no rejected row is kept"), ("export", "")):
        said = world.cli("rejects", command, *of_run)
        assert (said.exit_code, said.out.strip(), line in " ".join(said.err.split())) == (0, out, True), said
    replayed = world.cli("rejects", "replay", *of_run)
    assert (replayed.exit_code, line in " ".join(replayed.out.split())) == (1, True), replayed
    (told,) = json.loads(world.cli("rejects", "replay", "--json", *of_run).out)
    assert (told["table"], told["replayed"], told["refused"], told["expired"]) == ("KINDS", 0, 0, 2)
    gone = world.cli("rejects", "replay", "--file", str(export), *of_run)
    assert (gone.exit_code, line in " ".join(gone.err.split())) == (2, True), gone

    # A resume could load none of them: the next start reads the source again.
    world.target.execute("ALTER TABLE kinds DROP CONSTRAINT IF EXISTS checked, ALTER long TYPE text")
    _, fresh = migrate(world, "--tables", "KINDS")
    assert fresh["run_id"] != failed["run_id"]
