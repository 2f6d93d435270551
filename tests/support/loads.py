"""What tests of whole loads do: change the source, migrate, read the counts."""

import json
from typing import Any

from support.forked import Ended
from support.world import World


def keyed(world: World, name: str = "orders", rows: int = 3000, **settings: Any) -> None:
    world.add_table(name, rows, **settings)
    world.target.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")


def change(world: World, statement: str) -> None:
    world.snowflake.execute(statement.replace("ORDERS", f'"{world.source_database}"."PUBLIC"."ORDERS"'))


def migrate(world: World, *arguments: str) -> dict[str, Any]:
    done = world.cli("migrate", "--json", *arguments)
    assert done.exit_code == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    return result


def counts(world: World, run_id: str) -> dict[str, int]:
    names = ("actual_rows", "inserted_rows", "updated_rows", "unchanged_rows", "deduplicated_rows")
    chunks = [c for c in world.chunks("completed") if c["run_id"] == run_id]
    return {name.removesuffix("_rows"): sum(c[name] for c in chunks) for name in names}


def refused(done: Ended, *words: str) -> None:
    assert done.exit_code in (1, 2), done.out
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def verdict(world: World, *arguments: str) -> dict[str, Any]:
    done = world.cli("verify", "--json", *arguments)
    assert done.exit_code == 0, (done.out, done.err)
    (table,) = json.loads(done.out)["tables"]
    return dict(table)
