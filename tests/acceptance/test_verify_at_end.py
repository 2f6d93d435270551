"""A run is complete when its tables hold what was read for them, and not before."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowmelt.deadline import Deadline
from snowmelt.errors import OutOfTimeError
from snowmelt.settings import Settings
from snowmelt.verification import at_end, results
from snowmelt.verification.at_end import verify_at_end
from snowmelt.verification.verdicts import TableVerdict
from snowmelt.wiring import RunResources, Wiring
from support.world import World

ROWS = 3_000


def migrate(world: World, *options: str) -> tuple[int, dict[str, Any]]:
    done = world.cli("migrate", "--json", *options)
    assert done.out, done.err
    result = json.loads(done.out)
    assert isinstance(result, dict)
    return done.exit_code, result


def found(world: World) -> list[tuple[Any, ...]]:
    return world.target.rows(
        "SELECT mode, verdict, source_rows, target_rows, missing, extra, changed, reason"
        " FROM migration_status.verification_results ORDER BY run_id, table_id"
    )


def shout(world: World, table: str) -> None:
    """From now on something rewrites the texts that arrive."""
    world.target.execute(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id = 7 THEN NEW.note := ''LOUD''; END IF; RETURN NEW; END'"
    )
    world.target.execute(f"CREATE TRIGGER shout BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION shout()")


def test_a_run_says_that_its_tables_are_verified(world: World) -> None:
    world.add_table("entries", ROWS)
    world.add_table("unread", 10, verification="off")
    world.configure(verification="checksums")

    code, result = migrate(world)

    assert code == 0
    assert "2 tables, 3,010 rows, 1 table verified" in result["message"]
    assert found(world) == [("checksums", "equal", ROWS, ROWS, 0, 0, 0, "")]


@pytest.mark.full
def test_a_column_that_was_altered_since_the_load_is_no_difference_of_rows(world: World) -> None:
    world.add_table("entries", ROWS, truncate_onstart=True)
    world.configure(verification="checksums")
    shout(world, "entries")
    assert migrate(world)[0] == 1
    world.target.execute("DROP TRIGGER shout ON entries")
    world.target.execute("ALTER TABLE entries ALTER amount TYPE numeric(14,4)")

    code, result = migrate(world)

    assert (code, result["tables"][0]["status"]) == (1, "failed")
    assert "column amount of the target public.entries has another type since the run was planned" in result["message"]
    assert "does not hold" not in result["message"]
    assert migrate(world, "--no-resume")[0] == 0
    assert world.equal("entries")


def test_a_table_that_something_rewrites_fails_until_it_is_fixed(world: World) -> None:
    world.add_table("entries", ROWS, uniqueness_columns=["ID"], truncate_onstart=True)
    world.target.execute("ALTER TABLE entries ADD PRIMARY KEY (id)")
    world.configure(verification="checksums")
    shout(world, "entries")

    code, result = migrate(world)

    assert code == 1
    assert f"public.entries does not hold the {ROWS} rows of the result of query" in result["message"]
    assert f"of its {ROWS} rows 1 with other values; `snowmelt verify --table ENTRIES` shows them" in result["message"]
    assert [run["status"] for run in world.runs()] == ["failed"]

    world.target.execute("DROP TRIGGER shout ON entries")
    again, _ = migrate(world)
    repaired = world.cli("verify", "--repair", "--json")
    fixed, result = migrate(world)

    assert (again, repaired.exit_code, fixed) == (1, 0, 0), (repaired.err, result)
    assert [run["status"] for run in world.runs()] == ["completed"]
    assert len(world.scans()) == 1
    assert world.equal("entries")
    assert found(world) == [("checksums", "equal", ROWS, ROWS, 0, 0, 0, "")]


def test_what_cannot_be_compared_is_said_and_fails_nothing(world: World) -> None:
    world.add_table("entries", ROWS)
    world.configure(verification="checksums")
    assert migrate(world)[0] == 0
    world.target.execute("UPDATE migration_status.runs SET status = 'failed'")
    world.target.execute("UPDATE migration_status.run_tables SET status = 'finalizing'")
    world.snowflake.expire_results(world.chunks()[0]["query_id"])
    world.snowflake.set_time_travel(enabled=False)
    world.snowflake.execute(
        "CREATE OR REPLACE TABLE entries AS SELECT 1 AS id", database=world.source_database, schema="PUBLIC"
    )
    try:
        code, result = migrate(world)
    finally:
        world.snowflake.set_time_travel(enabled=True)

    assert code == 0
    assert (
        "1 table, 3,000 rows, 0 tables verified; not comparable: ENTRIES (the rows that were read" in result["message"]
    )
    assert [row[:2] for row in found(world)] == [("checksums", "not comparable")]
    assert result["tables"][0]["verdict"] == "not comparable"
    shown = " ".join(world.cli("status").out.split())
    assert "ENTRIES: not comparable: the rows that were read cannot be had any more" in shown
    assert "load the table again and verify within 24 hours" in shown


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_table_whose_chunks_read_other_than_all_rows_is_never_complete(world: World, difference: int) -> None:
    world.add_table("entries", ROWS)
    world.configure(verification="off")
    assert migrate(world)[0] == 0
    world.target.execute("UPDATE migration_status.runs SET status = 'failed', completed_at = NULL")
    world.target.execute("UPDATE migration_status.run_tables SET status = 'loading', completed_at = NULL")
    world.target.execute(f"UPDATE migration_status.chunks SET actual_rows = actual_rows + {difference}")

    code, result = migrate(world)

    assert (code, result["tables"][0]["status"]) == (1, "failed")
    assert f"{ROWS + difference} rows were read where the source has {ROWS}" in result["message"]


# --- in steps ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(world: World) -> World:
    world.add_table("entries", ROWS)
    world.configure(verification="off")
    assert migrate(world)[0] == 0
    return world


@contextmanager
def run_of(world: World) -> Iterator[RunResources]:
    variables = world.environment(str(world.folder / "store"))
    chosen = Settings(config=variables["SNOWMELT_CONFIG"], store=variables["SNOWMELT_STORE"])
    yield Wiring(chosen, variables).open_run(world.runs()[0]["run_id"])


def ending_after(checks: int) -> Deadline:
    """Time that is over when it has been asked for so often."""
    asked = count()
    return Deadline(hard_seconds=100.0, clock=lambda: 0.0 if next(asked) < checks else 1_000.0)


def in_steps(run: RunResources, checks: list[int]) -> tuple[TableVerdict, int]:
    """The verdict, and how many invocations came to it; ``checks`` are how long the first of them last."""
    for invocation, so_many in enumerate(checks, start=1):
        try:
            return verify_at_end(run, 0, "checksums", ending_after(so_many)), invocation
        except OutOfTimeError:
            continue
    return verify_at_end(run, 0, "checksums", Deadline.after(60)), len(checks) + 1


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(checks=st.lists(st.integers(1, 60), max_size=6))
def test_sums_are_the_same_however_often_time_runs_out(
    loaded: World, monkeypatch: pytest.MonkeyPatch, checks: list[int]
) -> None:
    monkeypatch.setattr(at_end, "FIRST_BLOCKS", 1)
    monkeypatch.setattr(at_end, "SLICE_SECONDS", 1e-9)  # each step one block
    loaded.target.execute("DELETE FROM migration_status.verification_results")
    with run_of(loaded) as run:
        verdict, _ = in_steps(run, checks)

    assert (verdict.verdict, verdict.source_rows, verdict.target_rows) == ("equal", ROWS, ROWS), verdict


def test_invocations_that_are_always_too_short_are_told_instead_of_repeated_for_ever(loaded: World) -> None:
    with run_of(loaded) as run:
        verdict = verify_at_end(run, 0, "checksums", Deadline.after(1.8, buffer_seconds=1.0))

    assert verdict.verdict == "not comparable"
    assert "raise the function's time-out" in verdict.advice


def test_an_invocation_goes_on_where_the_last_one_stopped(loaded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_end, "FIRST_BLOCKS", 1)
    monkeypatch.setattr(at_end, "SLICE_SECONDS", 1e-9)
    blocks: list[int] = []
    usual = results.save_sums

    def noted(*arguments: Any) -> None:
        blocks.append(arguments[3])
        usual(*arguments)

    monkeypatch.setattr(results, "save_sums", noted)
    with run_of(loaded) as run:
        verdict, invocations = in_steps(run, [20, 20, 20])

    assert verdict.verdict == "equal"
    assert invocations > 1
    assert blocks == [*range(1, len(blocks)), results.ALL_SUMMED]  # each block once
    assert len(blocks) > 10


def test_rows_that_no_invocation_has_time_to_find_are_not_looked_for_for_ever(loaded: World) -> None:
    loaded.target.execute("UPDATE entries SET note = 'other' WHERE id = 7")
    reason, ran_out = "", 0
    with run_of(loaded) as run:
        for checks in range(1, 60):  # the first invocations have not even time for the sums
            try:
                reason = verify_at_end(run, 0, "checksums", ending_after(checks)).reason
            except OutOfTimeError:
                ran_out += 1
            else:
                break

    assert ran_out > 2
    assert "does not fit in an invocation" in reason


def test_partitions_are_summed_block_by_block_too(world: World) -> None:
    world.add_table("entries", ROWS)
    world.target.execute(
        "DROP TABLE entries; CREATE TABLE entries (id bigint, amount numeric(12,2), note text, booked timestamp)"
        " PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF entries FOR VALUES FROM (MINVALUE) TO (100);"
        "CREATE TABLE high PARTITION OF entries FOR VALUES FROM (100) TO (MAXVALUE)"
    )
    world.configure(verification="checksums")

    code, result = migrate(world)

    assert code == 0, result
    assert found(world) == [("checksums", "equal", ROWS, ROWS, 0, 0, 0, "")]
