"""Ask both servers whether they would let a run happen."""

from collections.abc import Sequence

from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.engine import status_store
from snowmelt.errors import SnowmeltError
from snowmelt.models import ConnectionVerdict, TestConnectionsEvent, TestConnectionsResult
from snowmelt.preflight.table_plans import target_problems
from snowmelt.wiring import Wiring


def test_connections(event: TestConnectionsEvent, wiring: Wiring) -> TestConnectionsResult:
    """One verdict per server: reached, signed in, and allowed to do what a run does; or what to fix.

    ConfigError only when the config itself cannot be read.
    """
    config = wiring.config()
    sources = config.sources_named(event.source_name)
    sides = {"test_snowflake": (_snowflake,), "test_postgres": (_postgres,)}.get(event.action, (_snowflake, _postgres))
    verdicts = tuple(_together([side(wiring, config, source) for source in sources]) for side in sides)
    return TestConnectionsResult(ok=all(v.ok for v in verdicts), verdicts=verdicts)


def _together(verdicts: Sequence[ConnectionVerdict]) -> ConnectionVerdict:
    """Make one verdict on a server of those that its sources gave: what fails, else what was found."""
    telling = [v for v in verdicts if not v.ok] or verdicts
    message = "; ".join(dict.fromkeys(v.message for v in telling))
    return ConnectionVerdict(server=verdicts[0].server, ok=telling[0].ok, message=message)


def _enabled(source: SourceConfig) -> tuple[TableConfig, ...]:
    """Return the tables that move, possibly none: a connection can be tested all the same."""
    return source.select() if any(table.enabled for table in source.tables) else ()


def _snowflake(wiring: Wiring, config: Config, source: SourceConfig) -> ConnectionVerdict:
    try:
        with wiring.source(config, source, run_id=None) as snowflake:
            identity = snowflake.identity()
            tables = _enabled(source)
            for table in tables:
                snowflake.describe_table(source.snowflake_database, source.snowflake_schema, table.snowflake_name)
    except SnowmeltError as error:
        return ConnectionVerdict(server="snowflake", ok=False, message=error.message)
    read = "every table of {} can be read" if tables else "source {}: no table of it is enabled, so none was looked at"
    return ConnectionVerdict(
        server="snowflake",
        ok=True,
        message=f"signed in as {identity.user}, role {identity.role}, warehouse {identity.warehouse}; "
        + read.format(source.source_name),
    )


def _postgres(wiring: Wiring, config: Config, source: SourceConfig) -> ConnectionVerdict:
    try:
        with wiring.target(config, source.postgres_database, "snowmelt test") as session:
            server = status_store.check_access(session)
            problems = target_problems(config, source, _enabled(source), session)
    except SnowmeltError as error:
        return ConnectionVerdict(server="postgres", ok=False, message=error.message)
    if problems:
        return ConnectionVerdict(server="postgres", ok=False, message="; ".join(problems))
    return ConnectionVerdict(
        server="postgres",
        ok=True,
        message=f"connected to {server['database']} as {server['user']}, PostgreSQL {server['version'] // 10_000}",
    )
