"""A run as the status schema knows it, for benches that measure a single step of one."""

from datetime import UTC, datetime

from benchmarks import mixed_table
from snowmelt.engine import status_store
from snowmelt.engine.status_store import Driver
from snowmelt.models import Consents, RunPlan, TablePlan
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import LocalPostgres

QUERY_ID = "bench"
_HOUR_SECONDS = 3600.0


def connect(server: LocalPostgres, database: str) -> Session:
    """A session as workers and planners have it, the status schema in place."""
    session = Session.connect(mixed_table.postgres_config(server), database=database, application_name="snowmelt bench")
    status_store.install(session)
    return session


def open_scanned_run(session: Session, run_id: str, table: TablePlan) -> None:
    """Open a run of one table, whose scan counts as done; it takes the target from the run before it."""
    plan = RunPlan(
        snowmelt_version="bench",
        run_id=run_id,
        source_name="bench",
        config_hash="bench",
        config={},
        target_database="bench",
        snowflake_database="BENCH",
        snowflake_schema="PUBLIC",
        snowflake_user="bench",
        snowflake_role="bench",
        parallel_threads=1,
        lambda_timeout_buffer_seconds=1,
        tables=(table.source,),
    )
    status_store.open_run(
        session,
        plan,
        [table],
        driver=Driver(run_id, _HOUR_SECONDS),
        snapshot_at=datetime.now(UTC),
        store="bench",
        consents=Consents(),
        closes=(),
        execution_state=lambda _: "ended",
    )
    status_store.record_scan(session, run_id, table.table_id, QUERY_ID)
