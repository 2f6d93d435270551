"""Runs that an earlier version of the status schema knows are upgraded with it, and go on where they stood."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from snowmelt import actions, manifest_store, runner
from snowmelt.deadline import Deadline
from snowmelt.models import PlanChunksResult
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.snowflake import LocalSnowflake
from support import earlier_schemas

LATER = [version for version in earlier_schemas.VERSIONS if version > 5]
SOURCES = {"done": "GOOD", "broken": "BAD", "half": "GOOD", "closed": "GOOD"}


@pytest.fixture
def wiring(database: Database, snowflake: LocalSnowflake, tmp_path: Path) -> Wiring:
    snowflake.create_schema("EARLIER", "PUBLIC")
    rows = "select seq4() as id, {} as name from table(generator(rowcount => {}))"
    for table, name, count in (("good", "'fits'", 2000), ("bad", "'too long for it'", 10)):
        snowflake.execute(
            f"create or replace table {table} as {rows.format(name, count)}", database="EARLIER", schema="PUBLIC"
        )
    for source in SOURCES:
        database.execute(f"CREATE TABLE {source} (id bigint PRIMARY KEY, name varchar(8))")
    config = {
        "batch_size": 500,
        "max_retry_attempts": 1,
        "parallel_threads": 4,
        "sources": [
            {
                "source_name": source,
                "source_sf_database": "EARLIER",
                "source_sf_schema": "PUBLIC",
                "target_pg_database": database.name,
                "target_pg_schema": "public",
                "tables": [{"source": table, "target": source, "truncate_onstart": True}],
            }
            for source, table in SOURCES.items()
        ],
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    environment = {**snowflake.environment(), **database.server.environment()}
    return Wiring(Settings(config=str(path), store=str(tmp_path / "store")), environment)


def migrate(wiring: Wiring, source: str, **start: Any) -> tuple[str, str]:
    outcome = runner.migrate({"source_name": source, **start}, wiring, execution_id=f"test:{source}:{time.time_ns()}")
    return outcome.run_id, outcome.status


def act(wiring: Wiring, action: str, **event: Any) -> dict[str, Any]:
    return dict(actions.run({"action": action, **event}, wiring, Deadline.after(600)))


def load_one_item(wiring: Wiring, source: str) -> str:
    """A run whose process ended when it had loaded the first of its work items."""
    driver = {"execution_id": "test:gone"}
    run_id = str(act(wiring, "validate_config", source_name=source, **driver)["run_id"])
    plan = PlanChunksResult(next="wait", round=0, wait_seconds=0)
    while plan.manifest is None:
        plan = PlanChunksResult.model_validate(act(wiring, "plan_chunks", run_id=run_id, round=plan.round, **driver))
    first, *rest = manifest_store.load_manifest(plan.manifest, wiring.store)
    assert rest
    act(wiring, "process_chunk", run_id=run_id, item=first.model_dump())
    return run_id


@pytest.mark.parametrize("version", [5, *(pytest.param(later, marks=pytest.mark.full) for later in LATER)])
def test_runs_of_earlier_versions_go_on_after_the_upgrade(database: Database, wiring: Wiring, version: int) -> None:
    done, _ = migrate(wiring, "done")
    broken, status = migrate(wiring, "broken")
    assert status == "failed"
    half = load_one_item(wiring, "half")
    abandoned = str(act(wiring, "validate_config", source_name="closed", execution_id="test:gone too")["run_id"])
    database.execute("UPDATE migration_status.run_executions SET expires_at = now() - interval '1 hour'")
    closed, _ = migrate(wiring, "closed", no_resume=True)
    chunks = "SELECT chunk_id, completed_at FROM migration_status.{} WHERE run_id = %s AND status = 'completed'"
    loaded = database.rows(chunks.format("chunks"), (half,))
    assert 0 < len(loaded) < 4

    earlier_schemas.go_back_to(database, version)
    database.execute("ALTER TABLE broken ALTER COLUMN name TYPE varchar(40)")

    assert migrate(wiring, "half") == (half, "completed")
    assert set(database.rows(chunks.format("chunks"), (half,))) > set(loaded), "they were loaded once"
    assert migrate(wiring, "broken") == (broken, "completed")
    assert database.rows("SELECT run_id, status FROM migration_status.migration_runs ORDER BY started_at") == [
        (done, "completed"),
        (broken, "completed"),
        (half, "completed"),
        (abandoned, "abandoned"),
        (closed, "completed"),
    ]
    assert migrate(wiring, "done")[1] == "completed"
    for source, rows in (("done", 2000), ("broken", 10), ("half", 2000), ("closed", 2000)):
        assert database.rows(f"SELECT count(*), count(DISTINCT id) FROM {source}") == [(rows, rows)]
