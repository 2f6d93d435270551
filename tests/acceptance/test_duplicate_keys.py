"""What becomes of rows that have one key in the target: the config says it, and the result counts it."""

from typing import Any

import pytest

from support.world import World

ROWS = "('a', 1, 'x'), ('b', 3, 'y'), ('a ', 2, 'z'), ('c', 4, 'v'), ('c  ', 4, 'w'), (NULL, 5, 'u')"
"""Two keys of char(5) that two rows have each; by SEQ one of the first two is newer, the other two are not told."""


def with_table(world: World, *, filled: bool, **settings: Any) -> None:
    table = f'"{world.source_database}"."PUBLIC"."T"'
    world.snowflake.execute(f"CREATE TABLE {table} (K VARCHAR, SEQ NUMBER(9,0), V VARCHAR)")
    world.snowflake.execute(f"INSERT INTO {table} VALUES {ROWS}")
    world.target.execute("CREATE TABLE t (k char(5) UNIQUE, seq integer, v text)")
    if filled:
        world.target.execute("INSERT INTO t VALUES ('z', 0, 'old'), ('b', 1, 'old')")
    world.tables.append({"source": "T", "source_filter": "K IS NOT NULL", "uniqueness_columns": ["K"], **settings})


def rejected(world: World) -> list[dict[str, Any]]:
    return world.status(
        "SELECT column_name, sqlstate, reason, convert_from(row_content, 'UTF8')::json->>'SEQ' AS seq"
        " FROM migration_status.rejected_rows ORDER BY 4, chunk_id, row_number"
    )


@pytest.mark.parametrize(
    "way", ["merged", "in ranges", *(pytest.param(way, marks=pytest.mark.full) for way in ("copied", "added"))]
)
def test_rows_that_have_the_key_of_another_are_rejected_whichever_chunk_they_are_in(world: World, way: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "copied": {"source_watermark": "SEQ"},
        "merged": {"source_watermark": "SEQ"},
        "in ranges": {"source_watermark": "SEQ", "chunking_columns": ["V"], "chunking": "key_range"},
        "added": {"insert_only_mode": True, "sort_columns": ["V"]},
    }
    filled = way in ("merged", "added")
    with_table(world, filled=filled, **settings[way], on_duplicate_keys="reject", max_rejected_rows=2)
    if way == "in ranges":
        world.tables[0]["allow_moving_source"] = True
    world.configure(verification="checksums", batch_size=1)

    done = world.cli("migrate")

    assert done.exit_code == 0, done.out + done.err
    assert "2 rows" in done.out + done.err
    (run,) = world.runs()
    assert run["status"] == "completed_with_rejects"
    kept = world.target.rows("SELECT trim(k), seq FROM t WHERE k <> 'z' ORDER BY 1, 2")
    stays = ("b", 1) if way == "added" else ("b", 3)
    newest = [2] if way != "added" else [1, 2]
    assert kept[0] in [("a", seq) for seq in newest]
    assert kept[1:] == [stays, ("c", 4)]
    assert [(row["column_name"], row["sqlstate"]) for row in rejected(world)] == [("k", "23505")] * 2
    assert all("another row has the same key" in row["reason"] for row in rejected(world))
    verified = world.cli("verify")
    assert verified.exit_code == 0, verified.out + verified.err


def test_more_of_them_than_may_be_rejected_stop_the_run_before_the_target_is_emptied(world: World) -> None:
    with_table(world, filled=True, truncate_onstart=True, on_duplicate_keys="reject", max_rejected_rows=1)
    world.configure(batch_size=1)

    done = world.cli("migrate")

    assert done.exit_code == 2, done.out
    assert "2 rows have the same key (K) as another, and are rejected, where max_rejected_rows is 1" in done.err
    assert world.target.rows("SELECT count(*) FROM t") == [(2,)]


def test_a_watermark_does_not_settle_them_where_the_config_says_fail(world: World) -> None:
    with_table(world, filled=True, source_watermark="SEQ")
    world.configure(on_duplicate_keys="fail")

    done = world.cli("migrate")

    assert done.exit_code == 2, done.out
    assert "key (K) more than once (2 rows too many)" in done.err
    assert "no watermark" not in done.err
    plan = world.cli("migrate", "--dry-run")
    assert plan.exit_code == 2


def test_a_rejected_row_is_loaded_later_only_where_its_key_is_free(world: World) -> None:
    with_table(world, filled=False, on_duplicate_keys="reject", max_rejected_rows=2, source_watermark="SEQ")
    world.configure()
    assert world.cli("migrate").exit_code == 0
    world.target.execute("DELETE FROM t WHERE k = 'a'")

    again = world.cli("rejects", "replay", "--run", world.runs()[0]["run_id"])

    assert [row["seq"] for row in rejected(world)] == ["4"], again.out + again.err
    assert world.target.rows("SELECT trim(k), seq FROM t ORDER BY 1") == [("a", 1), ("b", 3), ("c", 4)]


def test_an_incremental_run_looks_at_the_rows_that_it_reads_and_says_so(world: World) -> None:
    incremental = {"source_watermark": "SEQ", "watermark_overlap": 0, "on_duplicate_keys": "fail"}
    with_table(world, filled=False, **incremental)
    table = f'"{world.source_database}"."PUBLIC"."T"'
    world.snowflake.execute(f"DELETE FROM {table} WHERE V IN ('z', 'w')")
    world.configure()
    assert world.cli("migrate").exit_code == 0
    world.snowflake.execute(f"INSERT INTO {table} VALUES ('b ', 10, 'changed')")

    again = world.cli("migrate")

    assert again.exit_code == 0, again.out + again.err
    assert world.target.rows("SELECT seq, v FROM t WHERE k = 'b'") == [(10, "changed")]
    world.snowflake.execute(f"INSERT INTO {table} VALUES ('d', 11, 'one'), ('d ', 12, 'other')")
    refused = world.cli("migrate")
    assert refused.exit_code == 2
    assert "1 row too many" in refused.err
    assert "among the rows that are read since the stored watermark" in refused.err
