"""A dry run says what would happen, and nothing happens."""

import json
from typing import Any

import pytest

from support.loads import change, keyed, migrate
from support.world import World


def everything(world: World) -> list[Any]:
    """Whatever a run could change on the target's side: rows, catalog, status, sequences, statistics of writes."""
    rows = world.target.rows("SELECT ctid::text, xmin::text FROM orders ORDER BY 1")
    catalog = world.target.rows("SELECT oid, relname, relfilenode FROM pg_class ORDER BY oid")
    return [rows, catalog, world.runs(), world.chunks()]


def test_a_dry_run_tells_chunks_modes_truncations_and_index_drops_and_touches_nothing(world: World) -> None:
    keyed(world, rows=3000, truncate_onstart=True, disable_index=True, chunking_columns=["ID"])
    world.add_table("notes", 700, source_filter="ID < 500")
    world.target.execute("CREATE INDEX by_note ON orders (note)")
    world.target.execute("INSERT INTO orders (id) VALUES (1)")
    world.configure(batch_size=500)
    before = everything(world)
    scans = len(world.scans())
    done = world.cli("migrate", "--dry-run", "--json")
    assert done.exit_code == 0, done.err
    plan = json.loads(done.out)
    assert everything(world) == before
    assert world.target.rows("SELECT to_regnamespace('migration_status')") == [(None,)]
    assert len(world.scans()) == scans
    orders, notes = plan["tables"]
    assert (orders["strategy"], orders["load_mode"], orders["rows"]) == ("key_range", "copy", 3000)
    assert orders["chunks"] >= 6
    assert orders["truncates"]
    assert orders["drops_indexes"] == ["by_note"]
    assert any("AT(TIMESTAMP" in statement for statement in orders["statements"])
    assert any("clustered" in warning for warning in orders["warnings"])
    assert (notes["strategy"], notes["rows"], notes["chunks"], notes["truncates"]) == ("one_scan", 500, 1, False)
    assert "ID < 500" in notes["statements"][0]
    assert plan["connections_needed"] == 7


def test_a_dry_run_reads_well_and_is_followed_by_just_that_run(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"], chunking_columns=["ID"])
    world.configure(batch_size=1000)
    migrate(world)
    change(world, "UPDATE ORDERS SET NOTE = 'fixed' WHERE ID = 3")
    done = world.cli("migrate", "--dry-run")
    assert done.exit_code == 0, done.err
    assert "nothing was touched" in done.out
    assert "upsert" in done.out
    chunks = len(world.chunks())
    migrate(world)
    assert len(world.chunks()) == chunks + int(done.out.split(" chunks; nothing")[0].split()[-1])
    assert len(world.runs()) == 2


def test_the_state_machine_does_dry_runs_too(world: World) -> None:
    keyed(world)
    world.configure()
    with world.aws() as aws:
        ended = aws.step_functions.run({"source_name": "ledger", "dry_run": True})
    assert ended.status == "SUCCEEDED", ended.cause
    assert "3,000 rows in 1 chunk; nothing was touched" in json.dumps(ended.output)
    assert world.runs() == []
    assert world.target.rows("SELECT count(*) FROM orders") == [(0,)]


@pytest.mark.full
def test_runs_are_listed(world: World) -> None:
    keyed(world, truncate_onstart=True)
    world.configure()
    first, second = migrate(world)["run_id"], migrate(world)["run_id"]
    done = world.cli("runs", "--json")
    assert [run["run_id"] for run in json.loads(done.out)] == [second, first]
