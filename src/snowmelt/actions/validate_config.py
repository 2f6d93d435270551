"""Check everything before anything moves, then open a run or resume one."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from snowmelt import __version__, manifest_store, schema_compare
from snowmelt import config as configs
from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.deadline import Deadline
from snowmelt.errors import AccessError, ConfigError, DataError, SnowmeltError
from snowmelt.models import (
    RunPlan,
    SourceColumn,
    TableName,
    TablePlan,
    ValidateConfigEvent,
    ValidateConfigResult,
)
from snowmelt.planning import load_mode, resume, statement, ties
from snowmelt.planning.load_mode import Loading, NoLoading
from snowmelt.planning.resume import Fresh, KnownRun, Resume, Start
from snowmelt.planning.ties import Tied
from snowmelt.postgres import status_store, tables
from snowmelt.postgres.session import Session
from snowmelt.postgres.tables import TargetTable
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring import Wiring, keep_back

logger = logging.getLogger(__name__)

_ALL_ROWS = 2**62


@dataclass(frozen=True)
class _Asked:
    """What the event names, once it has been found in the config."""

    config: Config
    source: SourceConfig
    tables: tuple[TableConfig, ...]
    frozen: dict[str, object]
    config_hash: str


def validate_config(event: ValidateConfigEvent, wiring: Wiring, deadline: Deadline) -> ValidateConfigResult:
    """The run that is now open, new or resumed, driven by the event's execution.

    Nothing is written to a target. Every problem of every table is reported at once, in one ConfigError;
    HeldError names the living run that holds a table.
    """
    if event.dry_run:
        raise ConfigError("dry_run is not supported by this version; leave it out")
    asked = _asked(event, wiring)
    keep_back(deadline, asked.config.lambda_timeout_buffer_seconds)
    with wiring.target(asked.config, asked.source.postgres_database, "snowmelt validate") as session:
        status_store.check_access(session)
        status_store.install(session)
        runs = status_store.known_runs(session, asked.source.source_name, event.resume_run_id, wiring.execution_state)
        decision = resume.decide(_start(event, asked, wiring), runs, lambda run: _changed(run, asked, wiring))
        if isinstance(decision, Resume):
            return _resume(decision, event, session, wiring)
        return _open(decision, event, asked, session, wiring)


def _asked(event: ValidateConfigEvent, wiring: Wiring) -> _Asked:
    config = wiring.config()
    source = config.source(event.source_name)
    selected = tuple(config.with_defaults(table) for table in source.select(event.tables))
    frozen = configs.frozen(config, source, selected)
    return _Asked(config, source, selected, frozen, configs.config_hash(frozen))


def _start(event: ValidateConfigEvent, asked: _Asked, wiring: Wiring) -> Start:
    return Start(
        execution_id=event.execution_id,
        source_name=asked.source.source_name,
        config_hash=asked.config_hash,
        tables=tuple(t.source for t in asked.tables),
        store=wiring.store.uri,
        no_resume=event.no_resume,
        resume_run_id=event.resume_run_id,
        resume_max_age=asked.config.resume_max_age,
    )


def _changed(run: KnownRun, asked: _Asked, wiring: Wiring) -> Sequence[str]:
    try:
        begun_with = manifest_store.load_run(wiring.store, run.run_id).config
    except SnowmeltError as error:
        return (f"its frozen config cannot be read: {error.message}",)
    return configs.differences(begun_with, asked.frozen)


def _resume(decision: Resume, event: ValidateConfigEvent, session: Session, wiring: Wiring) -> ValidateConfigResult:
    plan = manifest_store.load_run(wiring.store, decision.run.run_id)
    if not decision.already_driving:
        status_store.resume_run(
            session,
            decision.run,
            wiring.driver(event.execution_id),
            wiring.execution_state,
            allow_shrink=event.allow_shrink,
        )
    logger.info("run resumed", extra={"run_id": plan.run_id, "message_text": decision.message})
    return ValidateConfigResult(run_id=plan.run_id, resumed=True, message=decision.message, tables=len(plan.tables))


def _open(
    decision: Fresh, event: ValidateConfigEvent, asked: _Asked, session: Session, wiring: Wiring
) -> ValidateConfigResult:
    run_id = _new_run_id(asked.source.source_name)
    with wiring.source(asked.config, asked.source, run_id) as snowflake:
        identity = snowflake.identity()
        table_plans = _plan_tables(asked, snowflake, session)
    warnings = tuple(w for t in table_plans for w in t.warnings)
    plan = RunPlan(
        snowmelt_version=__version__,
        run_id=run_id,
        source_name=asked.source.source_name,
        config_hash=asked.config_hash,
        config=asked.frozen,
        target_database=asked.source.postgres_database,
        snowflake_database=asked.source.snowflake_database,
        snowflake_schema=asked.source.snowflake_schema,
        snowflake_user=identity.user,
        snowflake_role=identity.role,
        parallel_threads=asked.config.parallel_threads,
        lambda_timeout_buffer_seconds=asked.config.lambda_timeout_buffer_seconds,
        tables=tuple(t.source for t in table_plans),
    )
    manifest_store.save_run(wiring.store, plan, table_plans)
    status_store.open_run(
        session,
        plan,
        table_plans,
        driver=wiring.driver(event.execution_id),
        snapshot_at=identity.now,
        store=wiring.store.uri,
        allow_shrink=event.allow_shrink,
        closes=decision.closes,
        execution_state=wiring.execution_state,
    )
    for warning in warnings:
        logger.warning(warning, extra={"run_id": run_id})
    logger.info("run opened", extra={"run_id": run_id, "message_text": decision.message})
    return ValidateConfigResult(
        run_id=run_id,
        resumed=False,
        message=f"{decision.message}: {run_id}",
        tables=len(table_plans),
        # A result must stay small whatever the tables hold; the plan in the store has every warning.
        warnings=tuple(w[:300] for w in warnings[:20]),
    )


def _plan_tables(asked: _Asked, snowflake: SnowflakeSource, session: Session) -> tuple[TablePlan, ...]:
    """The plan of every table; ConfigError with every problem of every table."""
    names = [_target(asked.source, t) for t in asked.tables]
    found = tables.read(session, names)
    filled = tables.filled(
        session, [name for name, t in found.items() if t.is_table and t.may_use_schema and t.may_select]
    )
    keys = tables.foreign_keys(session, names)
    tied = ties.plan(dict(enumerate(names)), [i for i, t in enumerate(asked.tables) if t.truncate_onstart], keys)
    problems: list[str] = [*tied.problems]
    plans: list[TablePlan] = []
    for table_id, (table, name) in enumerate(zip(asked.tables, names, strict=True)):
        described = _describe(asked.source, table, snowflake, problems)
        target = found.get(name)
        here = list(_target_problems(table, name, target, session))
        problems += here
        if described is None or target is None or here:
            continue
        compared = schema_compare.compare(table.source, described, target.columns)
        loading = load_mode.choose(table, name, compared.columns, filled=name in filled, unique_keys=target.unique_keys)
        problems += compared.problems
        if isinstance(loading, NoLoading):
            problems += loading.problems
            continue
        plans.append(_table_plan(asked, table_id, table, name, compared, loading, tied.tables[table_id]))
    if problems:
        raise ConfigError(f"source {asked.source.source_name} cannot be migrated as it is", problems)
    return tuple(plans)


def _describe(
    source: SourceConfig, table: TableConfig, snowflake: SnowflakeSource, problems: list[str]
) -> tuple[SourceColumn, ...] | None:
    try:
        return snowflake.describe_table(source.snowflake_database, source.snowflake_schema, table.snowflake_name)
    except (AccessError, ConfigError, DataError) as error:
        problems.append(f"table {table.source}: {error.message}")
        return None


def _target(source: SourceConfig, table: TableConfig) -> TableName:
    return TableName(schema_name=source.postgres_schema, name=table.postgres_name)


def _target_problems(
    table: TableConfig, name: TableName, target: TargetTable | None, session: Session
) -> Sequence[str]:
    where = f"table {table.source}: the target {name}"
    if target is None:
        return (f"{where} is not there in {session.where}; create it, or mend target and target_pg_schema",)
    if not target.is_table:
        return (f"{where} is not a table; name a table as the target",)
    wanted = {
        "USAGE on its schema": target.may_use_schema,
        "INSERT": target.may_insert,
        "SELECT": target.may_select,
        "TRUNCATE": target.may_truncate or not table.truncate_onstart,
    }
    lacking = [privilege for privilege, there in wanted.items() if not there]
    if lacking:
        return (f"{where} may not be loaded by this user; GRANT {', '.join(lacking)}",)
    return ()


def _table_plan(
    asked: _Asked,
    table_id: int,
    table: TableConfig,
    name: TableName,
    compared: schema_compare.Comparison,
    loading: Loading,
    tied: Tied,
) -> TablePlan:
    source = asked.source
    return TablePlan(
        table_id=table_id,
        source=table.source,
        target=name,
        columns=compared.columns,
        statement=statement.select(
            compared.columns,
            database=source.snowflake_database,
            schema=source.snowflake_schema,
            table=table.snowflake_name,
            source_filter=table.source_filter,
        ),
        load_mode=loading.load_mode,
        key=loading.key,
        truncate_onstart=table.truncate_onstart,
        truncated_with=tied.truncated_with if table.truncate_onstart else (),
        loads_after=tied.loads_after,
        allow_shrink_to=table.allow_shrink_to,
        append=table.append,
        # Rows that refer to rows of their own table come in one transaction: PostgreSQL checks them at its end.
        batch_size=_ALL_ROWS if tied.refers_to_itself else table.batch_size or asked.config.batch_size,
        max_retry_attempts=table.max_retry_attempts or asked.config.max_retry_attempts,
        warnings=(*compared.warnings, *loading.warnings),
    )


def _new_run_id(source_name: str) -> str:
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in source_name)[:40]
    return f"{readable}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
