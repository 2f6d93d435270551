"""A run of one table in a test's database, opened by an execution called "the first"."""

from datetime import UTC, datetime

from snowmelt.config import PostgresConfig
from snowmelt.engine import status_store
from snowmelt.engine.status_store import Driver
from snowmelt.models import ColumnPlan, Consents, RunPlan, SourceColumn, TableName, TablePlan, TargetColumn
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database

RUN, TABLE_ID = "run-1", 0
PLAN = TablePlan(
    table_id=TABLE_ID,
    source="T",
    target=TableName(schema_name="public", name="target"),
    columns=(
        ColumnPlan(
            source=SourceColumn(name="ID", type="FIXED", precision=18, scale=0),
            target=TargetColumn(name="id", type="int8"),
            select='"ID"',
            wire="int64",
        ),
    ),
    reads_from="T",
    truncate_onstart=True,
    append=False,
    batch_size=10,
    max_retry_attempts=3,
)
RUN_PLAN = RunPlan(
    snowmelt_version="1",
    run_id=RUN,
    source_name="source",
    config_hash="hash",
    config={},
    target_database="d",
    snowflake_database="D",
    snowflake_schema="S",
    snowflake_user="U",
    snowflake_role="R",
    parallel_threads=2,
    lambda_timeout_buffer_seconds=1,
    tables=("T",),
)


def connect(database: Database, name: str = "test", user: str | None = None) -> Session:
    """Return a session in that database."""
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=user or server.user)
    return Session.connect(config, database=database.name, application_name=name)


def open_run(database: Database) -> None:
    """Make the target and open the run; no session drives it yet."""
    database.execute("CREATE TABLE target (id bigserial)")
    with connect(database) as session:
        status_store.install(session)
        begin(session, RUN_PLAN, PLAN, "the first")


def begin(
    session: Session, plan: RunPlan, table: TablePlan, execution_id: str, *, closes: tuple[str, ...] = ()
) -> None:
    """Open a run of one table, driven by that execution; every other execution has ended."""
    status_store.open_run(
        session,
        plan,
        [table],
        driver=Driver(execution_id, 600),
        snapshot_at=datetime.now(UTC),
        store="store",
        consents=Consents(),
        closes=closes,
        execution_state=lambda _: "ended",
    )


def take_over(session: Session, execution_id: str = "the second") -> None:
    """Resume the run by another execution, as its first one has ended."""
    (known,) = status_store.known_runs(session, "source", None, lambda _: "ended")
    status_store.resume_run(session, known, Driver(execution_id, 600), lambda _: "ended", consents=Consents())
