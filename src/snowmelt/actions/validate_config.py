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
from snowmelt.errors import ConfigError, DataError, SnowmeltError
from snowmelt.models import (
    RunPlan,
    SourceColumn,
    TableName,
    TablePlan,
    ValidateConfigEvent,
    ValidateConfigResult,
)
from snowmelt.planning import resume, statement
from snowmelt.planning.resume import Fresh, KnownRun, Resume, Start
from snowmelt.postgres import status_store, tables
from snowmelt.postgres.session import Session
from snowmelt.postgres.tables import TargetTable
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring import Wiring, keep_back

logger = logging.getLogger(__name__)


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
    selected = source.select(event.tables)
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
        status_store.resume_run(session, decision.run, wiring.driver(event.execution_id), wiring.execution_state)
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
    names = [_target(asked.source, t) for t in asked.tables]
    found = tables.read(session, names)
    problems: list[str] = []
    plans: list[TablePlan] = []
    for table_id, (table, name) in enumerate(zip(asked.tables, names, strict=True)):
        described = _describe(asked.source, table, snowflake, problems)
        target = found.get(name)
        here = list(_target_problems(table, name, target, session))
        problems += here
        if described is None or target is None or here:
            continue
        compared = schema_compare.compare(table.source, described, target.columns)
        problems += compared.problems
        plans.append(_table_plan(asked, table_id, table, name, compared))
    problems += _filled_targets(asked.tables, names, found, session)
    if problems:
        raise ConfigError(f"source {asked.source.source_name} cannot be migrated as it is", problems)
    return tuple(plans)


def _describe(
    source: SourceConfig, table: TableConfig, snowflake: SnowflakeSource, problems: list[str]
) -> tuple[SourceColumn, ...] | None:
    try:
        return snowflake.describe_table(source.snowflake_database, source.snowflake_schema, table.snowflake_name)
    except (DataError, ConfigError) as error:
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


def _filled_targets(
    selected: Sequence[TableConfig],
    names: Sequence[TableName],
    found: dict[TableName, TargetTable],
    session: Session,
) -> Sequence[str]:
    must_be_empty = {
        name: table
        for table, name in zip(selected, names, strict=True)
        if not table.truncate_onstart and not table.append and name in found
        if found[name].is_table and found[name].may_select and found[name].may_use_schema
    }
    return [
        f"table {must_be_empty[name].source}: the target {name} holds rows already, and loading it again would double "
        "them; set truncate_onstart to replace them, or append to add to them"
        for name in tables.filled(session, list(must_be_empty))
    ]


def _table_plan(
    asked: _Asked, table_id: int, table: TableConfig, name: TableName, compared: schema_compare.Comparison
) -> TablePlan:
    config, source = asked.config, asked.source
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
        truncate_onstart=table.truncate_onstart,
        append=table.append,
        batch_size=table.batch_size or config.batch_size,
        max_retry_attempts=table.max_retry_attempts or config.max_retry_attempts,
        warnings=compared.warnings,
    )


def _new_run_id(source_name: str) -> str:
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in source_name)[:40]
    return f"{readable}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
