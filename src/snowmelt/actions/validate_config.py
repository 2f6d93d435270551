"""Check everything before anything moves, then open a run or resume one."""

import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from snowmelt import __version__, manifest_store
from snowmelt import config as configs
from snowmelt.actions.dry_run import dry_run
from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.deadline import Deadline
from snowmelt.engine import connection_count, resume, status_store
from snowmelt.engine.connection_budget import budget
from snowmelt.engine.resume import Fresh, KnownRun, Resume, Start
from snowmelt.errors import ConfigError, RejectedRowsError, SnowmeltError
from snowmelt.loading import indexes
from snowmelt.models import RunPlan, ValidateConfigEvent, ValidateConfigResult
from snowmelt.postgres.session import Session
from snowmelt.preflight.table_plans import TablePlans, table_plans
from snowmelt.rejected_rows import store
from snowmelt.rejected_rows.retention import remove_expired_rows
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring import Wiring, keep_back
from snowmelt.wording import counted, with_resume_run_id

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
    asked = _asked(event, wiring)
    result = _validated(event, asked, wiring, deadline)
    notes = []
    if asked.config.compatibility == "predecessor":
        notes.append(configs.COMPATIBILITY_NOTE)
    if isinstance(event.resume_max_age, int | float):
        notes.append(f"resume_max_age {event.resume_max_age:g} of the event has no unit and counts hours")
    return result.model_copy(update={"warnings": _few((*notes, *result.warnings))}) if notes else result


def _validated(event: ValidateConfigEvent, asked: _Asked, wiring: Wiring, deadline: Deadline) -> ValidateConfigResult:
    keep_back(deadline, asked.config.lambda_timeout_buffer_seconds, asked.config.compatibility)
    with wiring.target(asked.config, asked.source.postgres_database, "snowmelt validate") as session:
        status_store.check_access(session)
        if event.dry_run:
            return _foresee(event, asked, session, wiring, deadline)
        status_store.install(session)
        decision = _decide(event, asked, session, wiring)
        if isinstance(decision, Resume):
            result = _resume(decision, event, session, wiring)
        else:
            result = _open(decision, event, asked, session, wiring, deadline)
        expired = remove_expired_rows(session, asked.config, asked.source.source_name)
        return result.model_copy(update={"warnings": _few((*expired, *result.warnings))})


def _decide(event: ValidateConfigEvent, asked: _Asked, session: Session, wiring: Wiring) -> Resume | Fresh:
    runs = status_store.known_runs(
        session,
        asked.source.source_name,
        event.resume_run_id,
        wiring.execution_state,
        allow_shrink=event.allow_shrink,
    )
    return resume.decide(
        _start(event, asked, wiring),
        runs,
        lambda run: _changed(run, asked, wiring),
        lambda run: _still_rejected(run, event, session, wiring),
    )


def _foresee(
    event: ValidateConfigEvent, asked: _Asked, session: Session, wiring: Wiring, deadline: Deadline
) -> ValidateConfigResult:
    """What a run would do; the server itself refuses whatever this session would change."""
    session.look_only()
    decision = _decide(event, asked, session, wiring) if status_store.is_installed(session) else Fresh((), "new run")
    if isinstance(decision, Resume):
        message = f"dry run: a start would go on with what is there: {decision.message}"
        return ValidateConfigResult(run_id=decision.run.run_id, resumed=True, message=message, tables=len(asked.tables))
    with wiring.source(asked.config, asked.source, run_id=None) as snowflake, _said_what_stays_open(decision):
        moment = snowflake.identity().now
        planned = _planned(event, asked, snowflake, session, moment, deadline)
        foreseen = dry_run(
            planned,
            snowflake,
            session,
            message=decision.message,
            parallel_threads=asked.config.parallel_threads,
        )
    place = manifest_store.save_dry_run(wiring.store, _new_run_id(asked.source.source_name), foreseen)
    rows, chunks = sum(t.rows for t in foreseen.tables), sum(t.chunks for t in foreseen.tables)
    warnings = (*foreseen.warnings, *(w for t in foreseen.tables for w in t.warnings))
    found = f"{counted(len(foreseen.tables), 'table')}, {counted(rows, 'row')} in {counted(chunks, 'chunk')}"
    if planned.skipped:
        found += f", {counted(len(planned.skipped), 'table')} skipped"
        warnings = (*_skipped_warnings(planned), *warnings)
    return ValidateConfigResult(
        run_id="",
        resumed=False,
        message=f"dry run: {decision.message}; {found}; nothing was touched",
        tables=len(foreseen.tables),
        warnings=_few(warnings),
        plan=place,
    )


def _few(warnings: Sequence[str]) -> tuple[str, ...]:
    """A result must stay small whatever the tables hold; the plan in the store has every warning."""
    return tuple(w[:300] for w in warnings[:20])


def _asked(event: ValidateConfigEvent, wiring: Wiring) -> _Asked:
    config = wiring.config(event.compatibility)
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
        resume_max_age=_resume_max_age(event, asked.config),
    )


def _resume_max_age(event: ValidateConfigEvent, config: Config) -> timedelta:
    if event.resume_max_age is None:
        return config.resume_max_age
    try:
        return configs.age(event.resume_max_age)
    except ValueError as error:
        raise ConfigError(f"event.resume_max_age: {error}") from None


def _changed(run: KnownRun, asked: _Asked, wiring: Wiring) -> Sequence[str]:
    try:
        begun_with = manifest_store.load_run(wiring.store, run.run_id).config
    except SnowmeltError as error:
        return (f"its frozen config cannot be read: {error.message}",)
    return configs.differences(begun_with, asked.frozen)


def _still_rejected(run: KnownRun, event: ValidateConfigEvent, session: Session, wiring: Wiring) -> str | None:
    """Load rejected rows of a failed run again, and return why too many of them are rejected still.

    None where the run can complete, also because somebody agrees to its rejected rows; and where it cannot be told: the
    resumed run says then what stands in the way.
    """
    if event.accept_rejected or event.dry_run:
        return None
    plan = manifest_store.load_run(wiring.store, run.run_id)
    failed = {t.table_id: t for t in status_store.read_tables(session, run.run_id) if t.status == "failed"}
    for table_id, table in failed.items():
        if table.error_code != RejectedRowsError.__name__:
            continue
        of_table = manifest_store.load_table(wiring.store, plan.run_id, table_id)
        try:
            store.replay_table(session, run.run_id, of_table)
        except SnowmeltError as error:
            logger.warning("rejected rows were not loaded again", extra={"reason": error.message})
            return None
        tally = status_store.chunk_tallies(session, run.run_id)[table_id]
        if tally.rejected > of_table.max_rejected_rows:
            reasons = "; ".join(store.rejection_reasons(session, run.run_id, table_id))
            rows = counted(tally.rejected, "row")
            return f"{rows} of what it read are still rejected, and a resume reads nothing again: {reasons}"
    return None


def _resume(decision: Resume, event: ValidateConfigEvent, session: Session, wiring: Wiring) -> ValidateConfigResult:
    plan = manifest_store.load_run(wiring.store, decision.run.run_id)
    if not decision.already_driving:
        status_store.resume_run(
            session,
            decision.run,
            wiring.driver(event.execution_id),
            wiring.execution_state,
            consents=event.consents,
        )
        status_store.guard_driver(session, plan.run_id, event.execution_id)
        indexes.retry_failed(session, plan.run_id)
    logger.info("run resumed", extra={"run_id": plan.run_id, "message_text": decision.message})
    return ValidateConfigResult(
        run_id=plan.run_id,
        resumed=True,
        message=decision.message,
        tables=len(plan.tables),
        warnings=_few_connections(session, plan.parallel_threads),
    )


def _few_connections(session: Session, parallel_threads: int) -> tuple[str, ...]:
    """Return why a run that begins now loads fewer chunks at once than its config says, if it does."""
    reason = budget(connection_count.limits(session), parallel_threads).reason
    return (reason,) if reason else ()


def _open(
    decision: Fresh, event: ValidateConfigEvent, asked: _Asked, session: Session, wiring: Wiring, deadline: Deadline
) -> ValidateConfigResult:
    run_id = _new_run_id(asked.source.source_name)
    with wiring.source(asked.config, asked.source, run_id) as snowflake, _said_what_stays_open(decision):
        identity = snowflake.identity()
        planned = _planned(event, asked, snowflake, session, identity.now, deadline)
    warnings = (
        *_skipped_warnings(planned),
        *_few_connections(session, asked.config.parallel_threads),
        *(warning for table in planned.loaded for warning in table.warnings),
    )
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
        threads_per_invocation=asked.config.threads_per_invocation,
        code_path=asked.source.code_path,
        lambda_timeout_buffer_seconds=asked.config.lambda_timeout_buffer_seconds,
        tables=tuple(t.source for t in asked.tables),
        compatibility=asked.config.compatibility,
        skipped=tuple(t.table_id for t in planned.skipped),
    )
    manifest_store.save_run(wiring.store, plan, planned.loaded)
    opened = status_store.open_run(
        session,
        plan,
        planned.loaded,
        skipped=[(t.table_id, t.source, t.target, t.error) for t in planned.skipped],
        driver=wiring.driver(event.execution_id),
        snapshot_at=identity.now,
        store=wiring.store.uri,
        consents=event.consents,
        closes=decision.closes,
        why=decision.why,
        execution_state=wiring.execution_state,
    )
    if opened != run_id:
        message = f"run {opened} was opened by this execution a moment ago"
        return ValidateConfigResult(run_id=opened, resumed=True, message=message, tables=len(asked.tables))
    for warning in warnings:
        logger.warning(warning, extra={"run_id": run_id})
    logger.info("run opened", extra={"run_id": run_id, "message_text": decision.message})
    return ValidateConfigResult(
        run_id=run_id,
        resumed=False,
        message=f"{decision.message}: {run_id}",
        tables=len(planned.loaded),
        warnings=_few(warnings),
    )


def _planned(
    event: ValidateConfigEvent,
    asked: _Asked,
    snowflake: SnowflakeSource,
    session: Session,
    moment: datetime,
    deadline: Deadline,
) -> TablePlans:
    return table_plans(
        asked.config,
        asked.source,
        asked.tables,
        snowflake,
        session,
        moment=moment,
        skip_failing_tables=event.skip_failing_tables or asked.config.skip_failing_tables,
        deadline=deadline,
    )


def _skipped_warnings(planned: TablePlans) -> tuple[str, ...]:
    return tuple(table.brief(1) for table in planned.skipped)


@contextmanager
def _said_what_stays_open(decision: Fresh) -> Iterator[None]:
    """Add to a refusal of the new run why the unfinished one is not resumed, and how it can be."""
    try:
        yield
    except ConfigError as error:
        if decision.resumable is None:
            raise
        unfinished = (
            f"run {decision.resumable} is unfinished and stays so; it was not resumed, as {decision.why}; to resume it "
            f"nevertheless, start {with_resume_run_id(decision.resumable)}"
        )
        heading = error.message.removesuffix("; ".join(("", *error.problems)))
        raise ConfigError(heading, (*error.problems, unfinished)) from error


def _new_run_id(source_name: str) -> str:
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in source_name)[:40]
    return f"{readable}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
