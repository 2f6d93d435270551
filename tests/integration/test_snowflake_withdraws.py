"""Snowflake withdraws in the middle of a run what the run needs: one table fails and says why, the others go on."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt import actions, manifest_store, runner
from snowmelt.deadline import Deadline
from snowmelt.models import FinalizeResult, Location, PlanChunksResult
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.snowflake import LocalSnowflake

DRIVER = {"execution_id": "test:driver"}


class Scene:
    """A table that is read by key ranges, one that is read by a scan, and a view."""

    def __init__(self, snowflake: LocalSnowflake, database: Database, folder: Path) -> None:
        self.snowflake, self.database = snowflake, database
        snowflake.create_schema("WITHDRAWN", "PUBLIC")
        rows = "select seq4() as id, 'row ' || seq4() as name from table(generator(rowcount => 1000))"
        for statement in (
            f"create or replace table ranged as {rows}",
            f"create or replace table plain as {rows}",
            f"create or replace table base as {rows}",
            "create or replace view viewed as select * from base",
        ):
            self.change(statement)
        for table in ("ranged", "plain", "viewed"):
            database.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, name text)")
        config = {
            "batch_size": 250,
            "verification": "off",
            "max_retry_attempts": 3,
            "sources": [
                {
                    "source_name": "withdrawn",
                    "source_sf_database": "WITHDRAWN",
                    "source_sf_schema": "PUBLIC",
                    "target_pg_database": database.name,
                    "target_pg_schema": "public",
                    "tables": [
                        {"source": "RANGED", "chunking_columns": ["ID"], "truncate_onstart": True},
                        {"source": "PLAIN", "truncate_onstart": True},
                        {"source": "VIEWED", "truncate_onstart": True},
                    ],
                }
            ],
        }
        path = folder / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        environment = {**snowflake.environment(), **database.server.environment()}
        self.wiring = Wiring(Settings(config=str(path), store=str(folder / "store")), environment)

    def change(self, statement: str) -> None:
        self.snowflake.execute(statement, database="WITHDRAWN", schema="PUBLIC")

    def migrate(self, **options: Any) -> runner.Outcome:
        start = {"source_name": "withdrawn", **options.pop("start", {})}
        return runner.migrate(start, self.wiring, execution_id=f"test:{time.time_ns()}", **options)

    def act(self, action: str, **event: Any) -> dict[str, Any]:
        return dict(actions.run({"action": action, **event}, self.wiring, Deadline.after(600)))

    def opened(self) -> str:
        return str(self.act("validate_config", source_name="withdrawn", **DRIVER)["run_id"])

    def planned(self, run_id: str, number: int = 0) -> PlanChunksResult:
        """The first plan that is no wait."""
        plan = PlanChunksResult(next="wait", round=number, wait_seconds=0)
        while plan.next == "wait":
            event = {"run_id": run_id, "round": plan.round, **DRIVER}
            plan = PlanChunksResult.model_validate(self.act("plan_chunks", **event))
        return plan

    def items(self, manifest: Location | None) -> Iterator[dict[str, Any]]:
        assert manifest is not None
        for item in manifest_store.load_manifest(manifest, self.wiring.store):
            yield item.model_dump()

    def finalized(self, run_id: str) -> FinalizeResult:
        while True:
            result = FinalizeResult.model_validate(self.act("finalize", run_id=run_id, **DRIVER))
            if result.next == "done":
                return result

    def tables(self) -> dict[str, tuple[str, str | None, int]]:
        """Of the newest run: status, error code and the attempts of the chunk that had most of them."""
        rows = self.database.rows(
            "SELECT t.source_table, t.status,"
            " coalesce((SELECT min(c.error_code) FROM migration_status.chunks c WHERE c.status = 'failed'"
            "           AND (c.run_id, c.table_id) = (t.run_id, t.table_id)), t.error_code),"
            " coalesce((SELECT max(c.attempts) FROM migration_status.chunks c"
            "           WHERE (c.run_id, c.table_id) = (t.run_id, t.table_id)), 0)"
            " FROM migration_status.run_tables t WHERE t.run_id ="
            " (SELECT run_id FROM migration_status.runs ORDER BY started_at DESC LIMIT 1)"
        )
        return {name: (status, code, attempts) for name, status, code, attempts in rows}

    def errors(self) -> str:
        rows = self.database.rows(
            "SELECT error_text FROM migration_status.run_tables UNION SELECT error_text FROM migration_status.chunks"
        )
        return "\n".join(text for (text,) in rows if text)

    def lose_the_past(self) -> None:
        self.change("alter table ranged set data_retention_time_in_days = 0")
        self.change("insert into ranged values (5000, 'since then')")


@pytest.fixture
def scene(snowflake: LocalSnowflake, database: Database, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(snowflake, database, tmp_path)
    yield made
    snowflake.set_warehouse("running")
    snowflake.set_time_travel(enabled=True)


def test_time_travel_that_ends_after_validation_fails_the_table_in_one_round(scene: Scene) -> None:
    ended = scene.migrate(on_run=lambda _: scene.lose_the_past())

    assert (ended.status, ended.rounds <= 3) == ("failed", True)
    assert scene.tables() == {
        "RANGED": ("failed", "NoTimeTravelError", 0),
        "PLAIN": ("completed", None, 1),
        "VIEWED": ("completed", None, 1),
    }
    assert "let its DATA_RETENTION_TIME_IN_DAYS outlast the run, or set chunking to one_scan" in scene.errors()

    again = scene.migrate()
    assert (again.resumed, again.status) == (False, "completed")
    assert any(
        "its DATA_RETENTION_TIME_IN_DAYS is 0" in each and "one scan reads it" in each for each in again.warnings
    )
    assert scene.database.rows("SELECT count(*), max(id) FROM ranged") == [(1001, 5000)]


def test_time_travel_that_ends_between_two_chunks_is_tried_once_and_not_for_days(scene: Scene) -> None:
    run_id = scene.opened()
    plan = scene.planned(run_id)
    items = list(scene.items(plan.manifest))
    for item in items:
        scene.act("process_chunk", run_id=run_id, item={**item, "chunks": item["chunks"][:1]})
    scene.snowflake.set_time_travel(enabled=True, window_seconds=0)
    for item in items:
        scene.act("process_chunk", run_id=run_id, item=item)
    after = scene.planned(run_id, plan.round)
    while after.next == "process":  # what waited for its turn
        for item in scene.items(after.manifest):
            scene.act("process_chunk", run_id=run_id, item=item)
        after = scene.planned(run_id, after.round)

    assert scene.finalized(run_id).status == "failed"
    assert scene.tables()["RANGED"] == ("failed", "NoTimeTravelError", 1)
    assert {scene.tables()[name][0] for name in ("PLAIN", "VIEWED")} == {"completed"}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("quota", "cannot be resumed because resource monitor 'RM' has exceeded its quota"),
        ("dropped", "No active warehouse selected in the current session"),
    ],
)
def test_a_warehouse_that_stops_fails_what_needs_it_and_the_run_resumes_when_it_is_back(
    scene: Scene, state: str, said: str
) -> None:
    run_id = scene.opened()
    plan = scene.planned(run_id)
    for item in scene.items(plan.manifest):
        scene.act("process_chunk", run_id=run_id, item={**item, "chunks": item["chunks"][:1]})
    scene.snowflake.set_warehouse(state)
    while plan.next == "process":
        for item in scene.items(plan.manifest):
            scene.act("process_chunk", run_id=run_id, item=item)
        plan = scene.planned(run_id, plan.round)

    assert scene.finalized(run_id).status == "failed"
    assert scene.tables()["RANGED"] == ("failed", "NoWarehouseError", 1)
    assert said in scene.errors()
    assert "within the quota of its resource monitor" in scene.errors()
    assert scene.tables()["PLAIN"][0] == "completed"  # its result is there, and needs none

    scene.snowflake.set_warehouse("running")
    again = scene.migrate()
    assert (again.resumed, again.status) == (True, "completed")
    assert scene.database.rows("SELECT count(*), count(DISTINCT id) FROM ranged") == [(1000, 1000)]


def test_a_view_that_no_longer_fits_its_tables_is_named_and_the_others_go_on(scene: Scene) -> None:
    ended = scene.migrate(on_run=lambda _: scene.change("alter table base add column later int"))

    assert ended.status == "failed"
    assert {name: found[:2] for name, found in scene.tables().items()} == {
        "RANGED": ("completed", None),
        "PLAIN": ("completed", None),
        "VIEWED": ("failed", "StatementRefusedError"),
    }
    assert "declared 2 column(s), but view query produces 3 column(s)" in scene.errors()
    assert "CREATE OR REPLACE VIEW" in scene.errors()

    skipping = scene.migrate(start={"skip_failing_tables": True, "no_resume": True})
    assert scene.tables()["VIEWED"][:2] == ("failed", "TableSkippedError")
    assert any("VIEWED is skipped: the view no longer fits its tables" in each for each in skipping.warnings)

    scene.change("create or replace view viewed as select id, name from base")
    assert scene.migrate().status == "completed"
