"""A failure that a resume meets again closes its run: the next plain start begins a new one, and says why."""

import json
from typing import Any

from support.world import SOURCE, World


def migrate(world: World, *options: str) -> tuple[int, dict[str, Any]]:
    """``snowmelt migrate --json``: its exit code and its result, or its last log line."""
    done = world.cli("migrate", "--json", *options)
    return done.exit_code, json.loads((done.out or done.err).splitlines()[-1])


def source(world: World, statement: str) -> None:
    """Change the source."""
    world.snowflake.execute(statement, database=world.source_database, schema="PUBLIC")


def attempts(world: World) -> list[int]:
    return [chunk["attempts"] for chunk in world.chunks() if chunk["error_code"]]


def test_a_duplicate_is_tried_once_told_once_and_read_again_by_the_next_plain_start(world: World) -> None:
    world.add_table("entries", 1_200, truncate_onstart=True)
    world.add_table("others", 50, truncate_onstart=True)
    # A duplicate for the target alone, which is none among the source's own values.
    world.target.execute("CREATE UNIQUE INDEX entries_key ON entries ((id % 1150))")
    world.configure(batch_size=500, parallel_threads=1, max_retry_attempts=3)

    code, failed = migrate(world)

    assert code == 1
    assert "start again: a new run begins" in failed["message"]
    assert "the run resumes" not in failed["message"]
    assert attempts(world) == [1]
    groups = json.loads(world.cli("errors", "--json").out)
    assert [(group["what"], group["code"], group["count"]) for group in groups] == [("chunk", "DuplicateKeyError", 1)]

    source(world, "DELETE FROM ENTRIES WHERE ID >= 1150")
    code, done = migrate(world)

    assert (code, done["status"], done["resumed"]) == (0, "completed", False)
    old, new = world.runs()
    assert (old["run_id"], old["status"], new["status"]) == (failed["run_id"], "abandoned", "completed")
    assert world.equal("entries")
    # What it failed for is still there, after the reason for which it was closed.
    assert old["error_code"] == "RunFailedError"
    assert old["error_text"].startswith(f"closed by run {new['run_id']}, as table ENTRIES: chunk ")
    assert "already exists" in old["error_text"]
    assert f"; before that: run {failed['run_id']} failed" in old["error_text"]


def test_rows_that_the_target_still_rejects_are_read_by_a_new_run_and_appended_ones_never_twice(world: World) -> None:
    world.add_table("entries", 300, truncate_onstart=True)
    world.target.execute("ALTER TABLE entries ADD PRIMARY KEY (id)")
    source(world, "UPDATE ENTRIES SET ID = NULL WHERE ID = 7")
    world.configure()
    assert migrate(world)[0] == 1

    source(world, "UPDATE ENTRIES SET ID = 7 WHERE ID IS NULL")
    code, done = migrate(world)

    assert (code, done["resumed"]) == (0, False)
    assert world.equal("entries")
    assert "are still rejected, and a resume reads nothing again" in world.runs()[0]["error_text"]

    world.tables[0].update(truncate_onstart=False, append=True)
    world.configure()
    world.target.execute("TRUNCATE entries; ALTER TABLE entries DROP CONSTRAINT entries_pkey")
    world.target.execute("ALTER TABLE entries ALTER id SET NOT NULL")
    source(world, "UPDATE ENTRIES SET ID = NULL WHERE ID = 7")
    assert migrate(world)[0] == 1
    source(world, "UPDATE ENTRIES SET ID = 7 WHERE ID IS NULL")

    code, refused = migrate(world)

    assert code == 2
    assert "a new run would append again what is in the target of ENTRIES" in refused["message"]
    assert world.target.rows("SELECT count(*) FROM entries") == [(299,)]


def test_a_source_that_shrank_by_mistake_and_is_filled_again_needs_no_option(world: World) -> None:
    world.add_table("entries", 300, truncate_onstart=True)
    world.configure()
    assert migrate(world)[0] == 0
    source(world, "CREATE TABLE KEPT AS SELECT * FROM ENTRIES")
    source(world, "DELETE FROM ENTRIES WHERE ID > 5")
    assert migrate(world)[0] == 1

    source(world, "INSERT INTO ENTRIES SELECT * FROM KEPT WHERE ID > 5")
    code, done = migrate(world)

    assert (code, done["resumed"]) == (0, False)
    assert world.equal("entries")


def test_a_full_start_goes_on_after_a_run_of_some_tables_and_a_start_of_some_leaves_a_full_run_alone(
    world: World,
) -> None:
    world.add_table("entries", 300, truncate_onstart=True)
    world.add_table("others", 30, truncate_onstart=True)
    world.configure(max_retry_attempts=1)
    world.drop_rows_silently("entries")
    assert migrate(world, "--tables", "ENTRIES")[0] == 1

    code, whole = migrate(world)

    assert code == 1
    partial, full = world.runs()
    assert partial["status"] == "abandoned"
    assert "as it has only ENTRIES, and this start also asks for OTHERS" in partial["error_text"]
    assert world.equal("others")

    code, refused = migrate(world, "--tables", "OTHERS")
    assert code == 1 or "has ENTRIES, OTHERS, but this start asks only for OTHERS" in refused["message"]
    assert (code, len(world.runs())) == (2, 2)

    world.target.execute("DROP TRIGGER keep_none ON entries")
    code, done = migrate(world)
    assert (code, done["run_id"], done["resumed"]) == (0, full["run_id"], True)
    assert whole["run_id"] == full["run_id"]
    assert world.equal("entries")


def test_a_condition_that_snowflake_does_not_understand_fails_before_a_run_is_opened(world: World) -> None:
    world.add_table("entries", 30, source_filter="NO_SUCH_COLUMN > 1")
    world.add_table("others", 30)
    world.configure()

    code, refused = migrate(world)

    assert code == 2
    assert "table ENTRIES: source_filter does not work" in refused["message"]
    assert "NO_SUCH_COLUMN" in refused["message"]
    assert SOURCE in refused["message"]
    assert world.runs() == []
