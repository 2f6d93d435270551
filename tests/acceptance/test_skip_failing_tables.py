"""One table that cannot be loaded does not keep the others of its source from being loaded, where that is asked for."""

import json
from typing import Any

from support.function_calls import call
from support.world import World


def three_tables(world: World, **settings: Any) -> None:
    """One sound table and two that are refused: a column of another type, and no target at all."""
    world.add_table("entries", 300, truncate_onstart=True)
    world.add_table("misfits", 200, truncate_onstart=True)
    world.add_table("strays", 200, truncate_onstart=True)
    world.target.execute("ALTER TABLE misfits DROP COLUMN note, ADD COLUMN note date NOT NULL; DROP TABLE strays")
    world.configure(**settings)


def tables(world: World) -> dict[str, tuple[str, str | None]]:
    rows = world.status(
        "SELECT t.* FROM migration_status.run_tables t"
        " JOIN migration_status.runs r USING (run_id) ORDER BY r.started_at, table_id"
    )
    return {row["source_table"]: (row["status"], row["error_code"]) for row in rows}


def test_tables_that_a_check_refuses_are_skipped_named_and_loaded_by_the_next_run(world: World) -> None:
    three_tables(world)

    refused = world.cli("migrate")
    foreseen = world.cli("migrate", "--dry-run", "--json", "--skip-failing-tables")
    nothing_yet = world.runs()
    skipping = world.cli("migrate", "--json", "--skip-failing-tables")
    report = world.cli("report", "--json")
    shown = world.cli("status", "--json")
    after_it = tables(world)
    world.target.execute("ALTER TABLE misfits DROP COLUMN note, ADD COLUMN note text")
    world.target.execute("CREATE TABLE strays (LIKE misfits)")
    fixed = world.cli("migrate", "--json")

    assert (refused.exit_code, nothing_yet) == (2, [])
    assert "table MISFITS:" in refused.err
    assert "table STRAYS:" in refused.err
    plan = json.loads(foreseen.out)
    assert [t["table"] for t in plan["tables"]] == ["ENTRIES"]
    assert [t["table"] for t in plan["skipped"]] == ["MISFITS", "STRAYS"]
    assert skipping.exit_code == 1
    told = json.loads(skipping.out)
    assert told["status"] == "failed"
    for text in (told["message"], report.out, shown.out, *told["warnings"][:1]):
        assert "table MISFITS is skipped" in text
    for text in (told["message"], report.out, shown.out, *told["warnings"][1:2]):
        assert "table STRAYS is skipped" in text
    assert 'column "note"' in told["message"]
    assert after_it == {
        "ENTRIES": ("completed", None),
        "MISFITS": ("failed", "TableSkippedError"),
        "STRAYS": ("failed", "TableSkippedError"),
    }
    assert world.equal("entries")
    assert fixed.exit_code == 0, fixed.err
    assert all(world.equal(name) for name in ("entries", "misfits", "strays"))
    first, second = world.runs()
    assert (first["status"], second["status"]) == ("abandoned", "completed")
    assert "all that it could load is loaded; table MISFITS is skipped" in first["error_text"]


def test_a_resume_goes_on_with_the_others_and_leaves_skipped_tables_as_they_are(world: World) -> None:
    three_tables(world, skip_failing_tables=True)
    world.drop_rows_silently("entries")

    stopped = world.cli("migrate", "--json")
    world.target.execute("DROP TRIGGER keep_none ON entries")
    resumed = world.cli("migrate", "--json")

    assert (stopped.exit_code, resumed.exit_code) == (1, 1)
    assert json.loads(resumed.out)["resumed"]
    assert tables(world)["ENTRIES"] == ("completed", None)
    assert tables(world)["MISFITS"] == ("failed", "TableSkippedError")
    assert world.equal("entries")
    assert len(world.runs()) == 1


def test_nothing_begins_where_every_table_is_refused(world: World) -> None:
    world.add_table("strays", 10)
    world.target.execute("DROP TABLE strays")
    world.configure()

    started = world.cli("migrate", "--skip-failing-tables")

    assert started.exit_code == 2
    assert "table STRAYS:" in started.err
    assert world.runs() == []


def test_foreign_keys_of_skipped_tables_tie_nothing(world: World) -> None:
    """A child loads without its skipped parent; a parent that is truncated with a skipped child is skipped too."""
    for name in ("parents", "children", "owners", "things"):
        world.add_table(name, 50, truncate_onstart=True)
    world.target.execute(
        "ALTER TABLE parents ADD PRIMARY KEY (id); ALTER TABLE owners ADD PRIMARY KEY (id);"
        "INSERT INTO parents SELECT i, NULL, 'kept', NULL FROM generate_series(0, 60) AS i;"
        "ALTER TABLE parents ALTER COLUMN note TYPE varchar(4);"
        "ALTER TABLE children ADD FOREIGN KEY (id) REFERENCES parents;"
        "ALTER TABLE things ADD FOREIGN KEY (id) REFERENCES owners;"
        "ALTER TABLE parents DROP COLUMN amount, ADD COLUMN amount date;"
        "ALTER TABLE things DROP COLUMN amount, ADD COLUMN amount date"
    )
    world.configure(skip_failing_tables=True)

    ended = world.cli("migrate", "--json")

    assert {name: status for name, (status, _) in tables(world).items()} == {
        "PARENTS": "failed",
        "CHILDREN": "completed",
        "OWNERS": "failed",
        "THINGS": "failed",
    }
    assert ended.exit_code == 1
    assert "table OWNERS is skipped" in ended.out
    assert "cannot be truncated, because public.things refers to it" in ended.out
    assert world.equal("children")
    assert world.target.rows("SELECT count(*) FROM parents WHERE note = 'kept'") == [(61,)]


def test_a_function_alone_skips_them_by_its_event_and_says_which(world: World) -> None:
    three_tables(world)
    with world.aws(concurrency=1) as aws:
        answer = call(aws, {"skip_failing_tables": True})
        again = call(aws, {"skip_failing_tables": True})

    for each in (answer, again):
        assert (each["statusCode"], each["body"]["status"]) == (500, "failed")
        assert "table MISFITS is skipped" in each["body"]["message"]
    assert [run["status"] for run in world.runs()] == ["abandoned", "failed"]
    assert world.equal("entries")


def test_whatever_fails_later_in_one_table_does_not_stop_the_others(world: World) -> None:
    """A scan that Snowflake ends, a chunk whose rows do not arrive, a row that the target rejects."""
    world.add_table("entries", 300)
    world.add_table("unscanned", 300, source_filter="TO_NUMBER(NOTE) > 0")
    world.add_table("dropped", 300)
    world.add_table("rejected", 300)
    world.drop_rows_silently("dropped")
    world.target.execute("ALTER TABLE rejected ADD CHECK (id < 250)")
    world.configure()

    ended = world.cli("migrate", "--json")

    assert ended.exit_code == 1
    told = json.loads(ended.out)
    assert tables(world) == {
        "ENTRIES": ("completed", None),
        "UNSCANNED": ("failed", "SourceValueError"),
        "DROPPED": ("failed", "TableFailedError"),
        "REJECTED": ("failed", "RejectedRowsError"),
    }
    assert all(name in told["message"] for name in ("UNSCANNED", "DROPPED", "REJECTED"))
    assert world.equal("entries")
