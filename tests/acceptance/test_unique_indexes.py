"""Unique indexes beside the key: what they refuse is foreseen where Snowflake can tell, else rejected one by one."""

from typing import Any

import pytest

from support.preflights import looked_at
from support.world import World

ROWS = (
    "(1, 'a@x', 'p', TRUE, 1), (2, 'b@x', 'q', TRUE, 2), (3, 'A@X', 'r', TRUE, 3), (4, 'c@x', 'q', TRUE, 4),"
    " (5, 'd@x', 'q', FALSE, 5), (6, 'e@x', 's', TRUE, 6), (7, NULL, NULL, TRUE, 7), (8, NULL, NULL, FALSE, 8)"
)
"""Rows 1 and 3 have one address but for its case, 2 and 4 one code while both are active."""


def with_people(world: World, *indexes: str, filled: bool = False, rows: str = ROWS, **settings: Any) -> None:
    table = f'"{world.source_database}"."PUBLIC"."PEOPLE"'
    world.snowflake.execute(
        f"CREATE TABLE {table} (ID NUMBER(9,0), EMAIL VARCHAR, CODE VARCHAR, ACTIVE BOOLEAN, SEQ NUMBER(9,0))"
    )
    world.snowflake.execute(f"INSERT INTO {table} VALUES {rows}")
    world.target.execute(
        "CREATE TABLE people (id integer PRIMARY KEY, email text, code text, active boolean, seq bigint)"
    )
    for index in indexes:
        world.target.execute(index)
    if filled:
        world.target.execute("INSERT INTO people VALUES (5, 'old@x', 'old', true, 0), (9, 'nine@x', 'nine', true, 0)")
    world.tables.append({"source": "PEOPLE", **settings})


UNJUDGED = (
    "CREATE UNIQUE INDEX by_email ON people (lower(email))",
    "CREATE UNIQUE INDEX by_code ON people (code) WHERE active",
)


@pytest.mark.parametrize("way", [pytest.param("copied", marks=pytest.mark.full), "copied by key", "merged"])
def test_rows_that_an_expression_or_partial_index_refuses_are_rejected_alone(world: World, way: str) -> None:
    key: dict[str, Any] = {} if way == "copied" else {"uniqueness_columns": ["ID"], "source_watermark": "SEQ"}
    with_people(world, *UNJUDGED, filled=way == "merged", max_rejected_rows=2, sort_columns=["ID"], **key)
    world.configure(verification="checksums", batch_size=3)

    done = world.cli("migrate")

    assert done.exit_code == 0, done.out + done.err
    assert "unique index by_email of the target public.people is on an expression" in done.err
    assert "unique index by_code of the target public.people is partial" in done.err
    assert world.runs()[0]["status"] == "completed_with_rejects"
    there = {row[0] for row in world.target.rows("SELECT id FROM people WHERE id < 9")}
    assert len(there) == 6
    assert {5, 6, 7, 8} < there
    refused = world.status(
        "SELECT sqlstate, convert_from(row_content, 'UTF8')::json->>'ID' AS id FROM migration_status.rejected_rows"
    )
    assert {(row["sqlstate"], row["id"]) for row in refused} == {("23505", str(i)) for i in {1, 2, 3, 4} - there}
    assert world.cli("verify").exit_code == 0


def test_what_snowflake_can_be_asked_is_found_before_anything_moves(world: World) -> None:
    with_people(
        world,
        "ALTER TABLE people ADD CONSTRAINT late UNIQUE (email) DEFERRABLE INITIALLY DEFERRED",
        "CREATE UNIQUE INDEX one_null ON people (code, active) NULLS NOT DISTINCT",
        "CREATE UNIQUE INDEX nulls_apart ON people (code, seq)",
        rows="(1, 'a', NULL, TRUE, 1), (2, 'a', NULL, TRUE, 1), (3, NULL, NULL, FALSE, 2), (4, NULL, 'b', NULL, 3)",
        truncate_onstart=True,
        disable_index=True,
    )
    world.configure()
    world.target.execute("INSERT INTO people (id) VALUES (99)")

    found = {
        f.message.split("(")[1].split(")")[0]: f for f in looked_at(world).findings if f.check == "unique_duplicates"
    }

    assert {columns: f.severity for columns, f in found.items()} == {"email": "error", "code, active": "error"}
    done = world.cli("migrate")
    assert done.exit_code == 2, done.out
    assert world.target.rows("SELECT id FROM people") == [(99,)]
