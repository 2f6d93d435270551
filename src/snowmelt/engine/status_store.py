"""Runs, their drivers and their tables, as the status schema holds them."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from snowmelt import disclosure, errors
from snowmelt.engine import leases, target_identity
from snowmelt.engine.resume import KnownRun
from snowmelt.errors import (
    AccessError,
    ConfigError,
    DataError,
    HeldError,
    MissingError,
    SnowmeltError,
    TruncationRefusedError,
)
from snowmelt.models import ChunkRead, Consents, RunPlan, TableName, TablePlan, chunk_read, is_run_id
from snowmelt.planning import watermarks
from snowmelt.postgres.session import Cursor, Row, Session, fetch, fetch_one
from snowmelt.sql_text import queries
from snowmelt.wording import WITH_NO_RESUME

logger = logging.getLogger(__name__)

_SKIPPED = errors.TableSkippedError.__name__
_NEW_READ_CODES = frozenset(code.name for code in errors.codes() if code.retried == "by a new run") - {_SKIPPED}
_OLD_DRIVERS = "the driver that the run is taken over from"
SCHEMA_VERSION = 8
ExecutionState = Callable[[str], Literal["running", "ended", "unknown"]]


@dataclass(frozen=True)
class Driver:
    """The execution that asks, and how long it may be silent before others take it for dead.

    ``backend``: the driver is one process that keeps this session (pid and start) open, so its death shows at once.
    """

    execution_id: str
    seconds: float
    backend: tuple[int, datetime] | None = None


@dataclass(frozen=True)
class RunRow:
    """A run as it stands."""

    run_id: str
    source_name: str
    status: str
    config_hash: str
    started_at: datetime
    completed_at: datetime | None
    rounds: int
    waits: int
    stalled_rounds: int
    planned_round: int
    progress_mark: int
    store: str
    allow_shrink: bool
    accept_rejected: bool
    error_code: str | None
    error_text: str | None


@dataclass(frozen=True)
class TableRow:
    """A table of a run as it stands."""

    table_id: int
    source_table: str
    target: TableName
    status: str
    load_epoch: int
    query_id: str | None
    second_query_id: str | None
    scan_began_at: datetime | None
    source_rows: int | None
    truncated_at: datetime | None
    error_code: str | None
    error_text: str | None


@dataclass(frozen=True)
class ChunkTally:
    """How many chunks of a table there are, by status; ``moved`` grows with every step forward."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    rows_read: int = 0
    rejected: int = 0
    moved: int = 0


def install(session: Session) -> None:
    """Put the status schema in place, or leave it as it is when it is there.

    AccessError names the owner of a schema, or of anything in it, that somebody else made.
    """
    version = _installed_version(session)
    if version != SCHEMA_VERSION:
        if version is not None:
            _require_owner(session, version)
        with session.transaction() as cursor:
            fetch(cursor, queries.query("lock_install"))
            cursor.execute(queries.text("engine/status_schema.sql"))
            cursor.execute(_OWNERS)  # again: what someone made between the first look and the first table
    adopt_fingerprint_key(session)


def adopt_fingerprint_key(session: Session) -> None:
    """Use the installation's key for fingerprints; a process that may not read it keeps its own."""
    if disclosure.has_installation_key():
        return
    # No status schema yet, one of an earlier version, or a role that only watches.
    with suppress(AccessError, DataError):
        row = session.row(queries.query("fingerprint_key"))
        if row is not None:
            disclosure.adopt_key(bytes(row["key"]))


_OWNERS = queries.do_block("engine/status_schema.sql", "owners")


def _require_owner(session: Session, version: int) -> None:
    row = session.row(queries.query("status_schema_owner"))
    if row is not None and not row["is_owned"]:
        raise AccessError(
            f"{session.where}: the status schema has version {version}, this Snowmelt needs {SCHEMA_VERSION}, and only "
            f"its owner {row['owner']} can upgrade it: let that role run `snowmelt status install`, and "
            "then in psql what `snowmelt sql show grants_postgres` prints"
        )


def _installed_version(session: Session) -> int | None:
    session.run(_OWNERS)  # before anything in it is read: a view may call whatever its owner likes
    server = session.row(queries.query("server"))
    _refuse_foreign_schema(session, server["foreign_relations"] if server else ())
    there = session.row(queries.query("has_status_schema"))
    if there is None or not there["installed"]:
        return None
    row = session.row(queries.query("installed_version"))
    version = row["version"] if row else None
    if version is not None and version > SCHEMA_VERSION:
        raise ConfigError(
            f"{session.where}: the status schema has version {version}, this Snowmelt knows {SCHEMA_VERSION}; "
            "use the newer version of Snowmelt"
        )
    return None if version is None else int(version)


def is_installed(session: Session) -> bool:
    """Whether there is a status schema to read."""
    return _installed_version(session) is not None


def require_installed(session: Session) -> None:
    """ConfigError when there is no status schema to read, or one of an earlier version."""
    version = _installed_version(session)
    if version is not None and version < SCHEMA_VERSION:
        raise ConfigError(
            f"{session.where}: the status schema has version {version}, this Snowmelt reads {SCHEMA_VERSION}; run "
            "`snowmelt status install`, or `snowmelt migrate`, which upgrades it in place"
        )
    if version is None:
        raise ConfigError(
            f"{session.where}: nothing has run here yet, there is no status schema; "
            "the first `snowmelt migrate` puts it in place"
        )
    adopt_fingerprint_key(session)


# --- runs -----------------------------------------------------------------------------------------------------------


def known_runs(
    session: Session,
    source_name: str,
    run_id: str | None,
    execution_state: ExecutionState,
    *,
    allow_shrink: bool = False,
) -> tuple[KnownRun, ...]:
    """The runs of a source, newest first, and the named one; what somebody agrees to now is no fault of the source."""
    agreed = {TruncationRefusedError.__name__} if allow_shrink else set()
    rows = session.rows(
        queries.query("runs_of_source"),
        source_name=source_name,
        run_id=run_id,
        new_read_codes=sorted(_NEW_READ_CODES - agreed),
        skipped_code=_SKIPPED,
    )
    return tuple(
        KnownRun(
            run_id=row["run_id"],
            status=row["status"],
            config_hash=row["config_hash"],
            started_at=row["started_at"],
            completed_at=row["completed_at"],
            age=row["age"],
            plan_format=row["plan_format"],
            store=row["store"],
            tables=tuple(row["tables"]),
            driver=row["execution_id"],
            driven=row["status"] == "running" and _is_driven(row, execution_state),
            error_text=row["error_text"],
            source_fault=row["source_fault"],
            has_rejected=row["has_rejected"],
            added_to=tuple(row["added_to"]),
            only_skipped=row["only_skipped"],
        )
        for row in rows
    )


def _is_driven(row: Row, execution_state: ExecutionState) -> bool:
    """Whether a driver must be taken for alive: not ended, not expired, and not known to be gone."""
    if not row["driver_unexpired"] or row["driver_backend_gone"]:
        return False
    return execution_state(row["execution_id"]) != "ended"


SkippedRow = tuple[int, str, TableName, SnowmeltError]
"""``table_id``, source and target of a table that is skipped, and why."""


def open_run(
    session: Session,
    plan: RunPlan,
    table_plans: Sequence[TablePlan],
    *,
    driver: Driver,
    snapshot_at: datetime,
    store: str,
    consents: Consents,
    closes: Sequence[str],
    execution_state: ExecutionState,
    why: str = "",
    skipped: Sequence[SkippedRow] = (),
) -> str:
    """Record a new run and take hold of its targets, all or nothing; the run that is open now.

    That is another one when this execution has just opened it, asked twice at the same moment. Tables that are skipped
    are recorded as failed, and hold no target.

    HeldError names the run that holds a target and is alive. Runs that are dead let go, and nothing that their
    workers may still be loading can commit.
    """
    targets = [t.target for t in table_plans]
    with session.transaction() as cursor:
        _lock_opening(session, cursor)
        driven = fetch_one(
            cursor, queries.query("driven_run"), execution_id=driver.execution_id, source_name=plan.source_name
        )
        if driven is not None:
            return str(driven["run_id"])
        refuse_held_by_others(cursor, targets)
        dead = _dead_holders(cursor, targets, execution_state)
        ended: list[Row] = []
        for run_id in dict.fromkeys((*closes, *dead)):
            reason = f", as {why}" if why and run_id in closes else ", which loads the same tables"
            ended += _abandon(cursor, run_id, f"closed by run {plan.run_id}{reason}", driver)
        cursor.execute(
            queries.query("insert_run"),
            {
                "run_id": plan.run_id,
                "source_name": plan.source_name,
                "config_hash": plan.config_hash,
                "snapshot_at": snapshot_at,
                "snowmelt_version": plan.snowmelt_version,
                "plan_format": plan.plan_format,
                "store": store,
                **consents.model_dump(),
            },
        )
        cursor.execute(
            queries.query("insert_tables"),
            {
                "run_id": plan.run_id,
                "table_ids": [t.table_id for t in table_plans],
                "source_tables": [t.source for t in table_plans],
                "source_database": plan.snowflake_database,
                "source_schema": plan.snowflake_schema,
                "schemas": [t.schema_name for t in targets],
                "tables": [t.name for t in targets],
                "strategies": [t.strategy for t in table_plans],
                "adds_only": [t.append or t.shares_target for t in table_plans],
                "omitted": [t.omitted for t in table_plans],
                # An array of arrays must be even, so each travels as text.
                "loads_after": ["{" + ",".join(map(str, t.loads_after)) + "}" for t in table_plans],
                "key_columns": [json.dumps(t.key_columns) for t in table_plans],
            },
        )
        if skipped:
            _record_skipped(cursor, plan, skipped)
        _start_driver(cursor, plan.run_id, driver)
    # Only now that nothing of theirs can commit: end the sessions, so that their locks do not stand in our way.
    leases.end_sessions(session, ended, of=_OLD_DRIVERS)
    for run_id in dict.fromkeys((*closes, *dead)):
        close_workers(session, run_id)
    return plan.run_id


def _record_skipped(cursor: Cursor, plan: RunPlan, skipped: Sequence[SkippedRow]) -> None:
    table_ids, sources, targets, whys = zip(*skipped, strict=True)
    cursor.execute(
        queries.query("insert_skipped_tables"),
        {
            "run_id": plan.run_id,
            "table_ids": list(table_ids),
            "source_tables": list(sources),
            "source_database": plan.snowflake_database,
            "source_schema": plan.snowflake_schema,
            "schemas": [target.schema_name for target in targets],
            "tables": [target.name for target in targets],
            "error_codes": [error.code for error in whys],
            "error_texts": [error.message for error in whys],
        },
    )


def _lock_opening(session: Session, cursor: Cursor) -> None:
    """Be the only one that opens, resumes or closes runs of this database until the transaction ends."""
    row = fetch_one(cursor, queries.query("try_lock_opening"))
    if row is not None and row["held"]:
        return
    holder = _process(fetch_one(cursor, queries.query("lock_holder"), lock="snowmelt:open"))
    logger.warning("%s: waiting for another start, which opens or resumes a run: %s", session.where, holder)
    fetch(cursor, queries.query("lock_opening"))


def refuse_held_by_others(cursor: Cursor, targets: Sequence[TableName]) -> None:
    """HeldError names the role that has a run, an index to rebuild or a watermark on one of the targets.

    Roles do not see each other's rows, so neither could close what the other has left open.
    """
    schemas, names = [t.schema_name for t in targets], [t.name for t in targets]
    held = fetch_one(cursor, queries.query("held_by_others"), schemas=schemas, tables=names)
    if held is not None:
        raise HeldError(
            f"target table {held['target_schema']}.{held['target_table']}: role {held['loaded_by']} has "
            f"{held['holds']} on it, from run {held['run_id']}; load it as that role, or let the owner of the status "
            "schema hand it on by setting loaded_by, or GRANT that role to the one that loads from now on"
        )


def _dead_holders(cursor: Cursor, targets: Sequence[TableName], execution_state: ExecutionState) -> tuple[str, ...]:
    rows = fetch(
        cursor,
        queries.query("holders_of_targets"),
        schemas=[t.schema_name for t in targets],
        tables=[t.name for t in targets],
    )
    for row in rows:
        # Also one that is to be closed: it may have found a driver since it was looked at.
        if _is_driven(row, execution_state):
            raise HeldError(
                f"target table {row['target_schema']}.{row['target_table']} is being loaded by run {row['run_id']}, "
                f"driven by {row['execution_id']} and {str(row['age']).split('.')[0]} old; "
                "wait for its end, or stop that execution and start again"
            )
    return tuple(row["run_id"] for row in rows)


def _abandon(cursor: Cursor, run_id: str, reason: str, driver: Driver) -> list[Row]:
    ended = _end_driver(cursor, run_id, driver)
    leases.terminate_workers(cursor, run_id)
    for name in ("abandon_tables", "abandon_run"):
        cursor.execute(queries.query(name), {"run_id": run_id, "reason": reason})
    cursor.execute(queries.query("end_drivers"), {"run_id": run_id})
    return ended


def _end_driver(cursor: Cursor, run_id: str, successor: Driver) -> list[Row]:
    """End the sessions of whoever drove the run, and wait until no transaction of theirs is under way; which they are.

    A driver that is stopped keeps its locks, as its kernel answers for it; and what it had begun could still commit.
    """
    rows = fetch(cursor, queries.query("driver_sessions"), run_id=run_id)
    old = [r for r in rows if (r["backend_pid"], r["backend_start"]) != successor.backend]
    for row in old:
        fetch(cursor, queries.query("terminate_backend"), **row)
    fetch(cursor, queries.query("lock_drivers"), run_id=run_id)
    return old


def close_workers(session: Session, run_id: str) -> None:
    """End the workers of an abandoned run; what it had left to do is nobody's any more."""
    rows = session.rows(queries.query("running_chunks"), run_id=run_id)
    leases.end_sessions(session, [r for r in rows if r["backend_alive"]])
    session.run(queries.query("supersede_unfinished"), run_id=run_id)


def close_left_behind(session: Session, run_id: str) -> None:
    """End workers of closed runs that may still hold a target of this one, should whoever closed them have died."""
    for row in session.rows(queries.query("left_behind"), run_id=run_id):
        close_workers(session, row["run_id"])


def resume_run(
    session: Session,
    run: KnownRun,
    driver: Driver,
    execution_state: ExecutionState,
    *,
    consents: Consents,
) -> None:
    """Take a run over from its dead driver: what was begun under it cannot commit any more.

    HeldError when another execution was quicker, or one of the targets is meanwhile another run's.
    """
    with session.transaction() as cursor:
        _lock_opening(session, cursor)
        found = fetch(
            cursor,
            queries.query("runs_of_source"),
            source_name="",
            run_id=run.run_id,
            new_read_codes=[],
            skipped_code=_SKIPPED,
        )
        row = next(r for r in found if r["run_id"] == run.run_id)
        if (
            row["status"] == "running"
            and row["execution_id"] != driver.execution_id
            and _is_driven(row, execution_state)
        ):
            raise HeldError(f"run {run.run_id} was just resumed by {row['execution_id']}; wait for its end")
        if row["status"] not in ("running", "failed"):
            raise HeldError(f"run {run.run_id} was just ended: it is {row['status']}")
        _refuse_lost_targets(cursor, run.run_id)
        target_identity.refuse_replaced(cursor, run.run_id)
        ended = _end_driver(cursor, run.run_id, driver)
        leases.terminate_workers(cursor, run.run_id)
        cursor.execute(queries.query("fence_run"), {"run_id": run.run_id})
        for name in ("reopen_tables", "reopen_chunks", "reopen_run", "end_drivers"):
            cursor.execute(
                queries.query(name), {"run_id": run.run_id, "skipped_code": _SKIPPED, **consents.model_dump()}
            )
        _start_driver(cursor, run.run_id, driver)
    leases.end_sessions(session, ended, of=_OLD_DRIVERS)
    leases.free_all(session, run.run_id)


def _refuse_lost_targets(cursor: Cursor, run_id: str) -> None:
    lost = [
        t for t in _table_rows(fetch(cursor, queries.query("read_tables"), run_id=run_id)) if t.status == "abandoned"
    ]
    if lost:
        raise HeldError(
            f"run {run_id} has lost {', '.join(t.source_table for t in lost)}: {lost[0].error_text}; "
            f"start a new run {WITH_NO_RESUME}"
        )


def _start_driver(cursor: Cursor, run_id: str, driver: Driver) -> None:
    cursor.execute(
        queries.query("start_driver"),
        {
            "run_id": run_id,
            "execution_id": driver.execution_id,
            "seconds": driver.seconds,
            "backend_pid": driver.backend[0] if driver.backend else None,
            "backend_start": driver.backend[1] if driver.backend else None,
        },
    )


def drive(session: Session, run_id: str, driver: Driver) -> RunRow:
    """Renew this execution's hold of the run, and guard the session as one of its driver.

    HeldError when the run is another's, DataError when there is no such run.
    """
    run = read_run(session, run_id)
    renewed = session.row(
        queries.query("renew_driver"), run_id=run_id, execution_id=driver.execution_id, seconds=driver.seconds
    )
    if renewed is None and run.status == "running":
        current = session.row(queries.query("current_driver"), run_id=run_id)
        raise HeldError(_not_its_driver(run_id, driver.execution_id, current))
    if renewed is not None and run.status == "running":
        guard_driver(session, run_id, driver.execution_id)
    return run


def guard_driver(session: Session, run_id: str, execution_id: str) -> None:
    """Let the session do only what the run's driver may: each of its statements and transactions holds the run.

    HeldError, and a rollback, from the moment on that another execution has taken the run over. A takeover finds the
    session and ends it.
    """

    def check(cursor: Cursor) -> None:
        if fetch_one(cursor, queries.query("hold_driver"), run_id=run_id, execution_id=execution_id) is None:
            current = fetch_one(cursor, queries.query("current_driver"), run_id=run_id)
            raise HeldError(_not_its_driver(run_id, execution_id, current))

    session.rows(queries.query("join_driver"), run_id=run_id)
    session.guard(check)


def _not_its_driver(run_id: str, execution_id: str, current: Row | None) -> str:
    return (
        f"run {run_id} is no longer driven by {execution_id}, but by "
        f"{current['execution_id'] if current else 'nobody'}; nothing more was written; `snowmelt status {run_id}` "
        "shows how it goes on"
    )


def touch_driver(session: Session, run_id: str, seconds: float) -> None:
    """A worker vouches for the driver of its run."""
    session.run(queries.query("renew_any_driver"), run_id=run_id, seconds=seconds)


def read_run(session: Session, run_id: str) -> RunRow:
    """A run; DataError when the status schema has none of that name."""
    row = session.row(queries.query("read_run"), run_id=run_id) if is_run_id(run_id) else None
    if row is None:
        raise MissingError(
            f"{session.where}: there is no run {run_id}; `snowmelt status --all` lists the runs there are"
        )
    return RunRow(**{name: row[name] for name in RunRow.__dataclass_fields__})


@contextmanager
def only_planner(session: Session, run_id: str) -> Iterator[bool]:
    """Whether this session is the only one that plans or finalizes the run while the block lasts."""
    row = session.row(queries.query("try_run_lock"), run_id=run_id)
    held = bool(row and row["held"])
    try:
        yield held
    finally:
        session.guard(None)  # a lock that is this session's may be returned whoever drives the run
        if held and not session.closed:
            session.rows(queries.query("run_unlock"), run_id=run_id)


def planner_at_work(session: Session, run_id: str) -> str:
    """Return who plans or finalizes the run at this moment, for the caller that waits for it."""
    holder = session.row(queries.query("lock_holder"), lock=f"snowmelt:run:{run_id}")
    driver = session.row(queries.query("current_driver"), run_id=run_id)
    whose = f" of {driver['execution_id']}" if driver else ""
    return f"waiting for another planner{whose}: {_process(holder)}"


def _process(holder: Row | None) -> str:
    """Return who holds a lock, by what finds it in pg_stat_activity."""
    if holder is None:
        return "its session has just ended"
    return (
        f"PostgreSQL process {holder['pid']} ({holder['application_name']}, user {holder['user']}, from "
        f"{holder['address'] or 'a local socket'})"
    )


def record_round(
    session: Session, run_id: str, *, waits: int, stalled_rounds: int, round_number: int, progress_mark: int
) -> None:
    """What this plan found, for the next one to compare."""
    session.run(
        queries.query("record_round"),
        run_id=run_id,
        waits=waits,
        stalled_rounds=stalled_rounds,
        round=round_number,
        progress_mark=progress_mark,
    )


def note_error(session: Session, run_id: str, error: SnowmeltError) -> None:
    """Keep what a worker complained of, for the plan that finds the run stalled."""
    session.run(queries.query("note_error"), run_id=run_id, error_code=error.code, error_text=error.message)


def finish_run(session: Session, run_id: str, error: SnowmeltError | None) -> None:
    """Write the result, and let the driver go, with the session's guard."""
    with session.transaction() as cursor:
        cursor.execute(
            queries.query("finish_run"),
            {
                "run_id": run_id,
                "error_code": error.code if error else None,
                "error_text": error.message if error else None,
            },
        )
        cursor.execute(queries.query("end_drivers"), {"run_id": run_id})
    session.guard(None)


# --- tables of a run ------------------------------------------------------------------------------------------------


def read_tables(session: Session, run_id: str) -> tuple[TableRow, ...]:
    """The run's tables, by ``table_id``."""
    return tuple(_table_rows(session.rows(queries.query("read_tables"), run_id=run_id)))


def _table_rows(rows: Sequence[Row]) -> Iterator[TableRow]:
    for row in rows:
        target = TableName(schema_name=row["target_schema"], name=row["target_table"])
        values = {name: row[name] for name in TableRow.__dataclass_fields__ if name != "target"}
        yield TableRow(target=target, **values)


def record_scan(session: Session, run_id: str, table_id: int, query_id: str, began_at: datetime | None = None) -> bool:
    """Remember the statement that Snowflake is running for the table; False when there is one already.

    ``began_at`` is on Snowflake's clock, shortly before the statement began.
    """
    row = session.row(
        queries.query("record_scan"), run_id=run_id, table_id=table_id, query_id=query_id, began_at=began_at
    )
    return row is not None


def record_second_query(session: Session, run_id: str, table_id: int, query_id: str) -> bool:
    """Remember the statement that looks into a crowded histogram; False when there is one already."""
    row = session.row(queries.query("record_second_query"), run_id=run_id, table_id=table_id, query_id=query_id)
    return row is not None


def forget_scan(session: Session, run_id: str, table_id: int, query_id: str) -> None:
    """Let the next plan submit another statement for the table."""
    session.run(queries.query("forget_scan"), run_id=run_id, table_id=table_id, query_id=query_id)


def split_chunk(session: Session, run_id: str, plan: TablePlan, chunk_id: int, parts: Sequence[ChunkRead]) -> bool:
    """Put smaller chunks in the place of one that does not fit; False when someone has claimed it."""
    key = {"run_id": run_id, "table_id": plan.table_id}
    with session.transaction() as cursor:
        if fetch_one(cursor, queries.query("supersede_chunk"), **key, chunk_id=chunk_id) is None:
            return False
        insert_chunks(cursor, run_id, plan, parts)
    return True


def insert_chunks(cursor: Cursor, run_id: str, plan: TablePlan, chunks: Sequence[ChunkRead]) -> None:
    """Add chunks that can be claimed as soon as the transaction commits, numbered on from those there are."""
    first_id = next_chunk_id(cursor, run_id, plan.table_id)
    cursor.execute(
        queries.query("insert_chunks"),
        {
            "run_id": run_id,
            "table_id": plan.table_id,
            "source_table": plan.source,
            "chunk_ids": list(range(first_id, first_id + len(chunks))),
            "reads": [c.model_dump_json() for c in chunks],
            "estimated_rows": [c.rows for c in chunks],
        },
    )


def fail_table(session: Session, run_id: str, table_id: int, error: SnowmeltError) -> None:
    """Give the table up, with the reason; no load of it can commit any more."""
    session.run(
        queries.query("fail_table"),
        run_id=run_id,
        table_id=table_id,
        error_code=error.code,
        error_text=error.message,
    )


def start_finalizing(session: Session, run_id: str, table_id: int) -> bool:
    """Close the table for loading; False unless every chunk is in."""
    return session.row(queries.query("start_finalizing"), run_id=run_id, table_id=table_id) is not None


def tables_without_result(session: Session, run_id: str) -> dict[int, int]:
    """Tables whose scan Snowflake no longer keeps, with how many of their chunks are in."""
    rows = session.rows(queries.query("tables_without_result"), run_id=run_id)
    return {row["table_id"]: row["completed"] for row in rows}


def tables_without_time_travel(session: Session, run_id: str) -> dict[int, str]:
    """Return tables being loaded that Snowflake no longer knows as they were, each with what it said."""
    rows = session.rows(queries.query("tables_without_time_travel"), run_id=run_id)
    return {row["table_id"]: row["error_text"] for row in rows}


def restart_table(session: Session, run_id: str, table_id: int) -> bool:
    """Restart the table in one transaction: no earlier load of it can commit, and none of its chunks counts."""
    with session.transaction() as cursor:
        if fetch_one(cursor, queries.query("restart_table"), run_id=run_id, table_id=table_id) is None:
            return False
        cursor.execute(queries.query("supersede_chunks"), {"run_id": run_id, "table_id": table_id})
    return True


def next_chunk_id(cursor: Cursor, run_id: str, table_id: int) -> int:
    """The first number that no chunk of the table has."""
    row = fetch_one(cursor, queries.query("next_chunk_id"), run_id=run_id, table_id=table_id)
    return int(row["chunk_id"]) if row else 1


def complete_table(session: Session, run_id: str, source_name: str, plan: TablePlan) -> None:
    """All of the table is in the target; with it, and only now, its watermark moves."""
    with session.transaction() as cursor:
        if fetch_one(cursor, queries.query("complete_table"), run_id=run_id, table_id=plan.table_id) is None:
            return
        rows = fetch(cursor, queries.query("read_watermarks"), source_name=source_name)
        stored = watermark_of(rows, plan.target, plan.watermark_of)
        bounds = plan.watermark
        reached = bounds and watermarks.to_store(bounds, stored)
        if bounds is None or reached is None:
            return
        cursor.execute(
            queries.query("write_watermark"),
            {
                "source_name": source_name,
                "target_schema": plan.target.schema_name,
                "target_table": plan.target.name,
                "source_table": plan.watermark_of,
                "watermark": reached,
                "watermark_type": bounds.kind,
                "run_id": run_id,
            },
        )


def read_watermarks(session: Session, source_name: str) -> list[Row]:
    """How far each target of the source has been loaded; ``watermark_of`` finds one among them."""
    if not is_installed(session):  # as before the first run
        return []
    return session.rows(queries.query("read_watermarks"), source_name=source_name)


def watermark_of(rows: Sequence[Row], target: TableName, source_table: str = "") -> str | None:
    """The stored watermark of a target, or None; of one of its source tables where several are merged into it."""
    names = (target.schema_name, target.name, source_table)
    return next(
        (r["watermark"] for r in rows if (r["target_schema"], r["target_table"], r["source_table"]) == names), None
    )


# --- what is left to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PendingRow:
    """A chunk that can be claimed, and why its last attempt ended."""

    table_id: int
    source_table: str
    chunk_id: int
    reads: ChunkRead
    error_code: str | None
    spent_seconds: float | None


def pending_chunks(session: Session, run_id: str) -> tuple[PendingRow, ...]:
    """What can be claimed, sorted by table."""
    return tuple(
        PendingRow(
            table_id=row["table_id"],
            source_table=row["source_table"],
            chunk_id=row["chunk_id"],
            reads=chunk_read(row["reads"]),
            error_code=row["error_code"],
            spent_seconds=row["spent_seconds"],
        )
        for row in session.rows(queries.query("pending_chunks"), run_id=run_id)
    )


def slowest_chunks(session: Session, run_id: str) -> dict[int, float]:
    """Seconds that the slowest completed chunk of each table took."""
    return {row["table_id"]: row["seconds"] for row in session.rows(queries.query("slowest_chunks"), run_id=run_id)}


def chunk_tallies(session: Session, run_id: str) -> dict[int, ChunkTally]:
    """Chunks of each table by status."""
    rows = session.rows(queries.query("chunk_tally"), run_id=run_id)
    return {row.pop("table_id"): ChunkTally(**row) for row in rows}


def first_chunk_errors(session: Session, run_id: str) -> tuple[str, ...]:
    """Why chunks failed, a line for each reason, the most frequent first."""
    return tuple(
        f"{row['source_table']} chunk {row['chunk_id']}"
        + (f" and {row['chunks'] - 1} more" if row["chunks"] > 1 else "")
        + f": {row['error_text'] or row['error_code']}"
        for row in session.rows(queries.query("first_chunk_errors"), run_id=run_id)
    )


def bounds(session: Session, run_id: str) -> tuple[str, ...]:
    """List the bounds of a run's key ranges and watermarks."""
    return tuple(row["bound"] for row in session.rows(queries.query("bounds_of_run"), run_id=run_id))


def vitals(session: Session, run_id: str) -> Row | None:
    """Whether a run has a driver and workers, and what they wait for; None when there is no such run."""
    return session.row(queries.query("vitals"), run_id=run_id)


def error_groups(session: Session, run_id: str) -> list[Row]:
    """A row for each kind of error of a run, the most frequent first."""
    return session.rows(queries.query("error_groups"), run_id=run_id)


def progress(session: Session, run_id: str) -> list[Row]:
    """A row per table of the run: rows, chunks, bytes, seconds."""
    return session.rows(queries.query("progress"), run_id=run_id)


def list_runs(
    session: Session, *, source_name: str | None = None, run_id: str | None = None, limit: int = 20
) -> list[Row]:
    """The latest runs, of a source or of all, or the named one."""
    return session.rows(queries.query("list_runs"), source_name=source_name, run_id=run_id, limit=limit)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _why_read_only(server: Row) -> str:
    """Return what makes transactions read-only on a server that is none, and the statement that changes it."""
    user, database = (_quoted(server[name]) for name in ("user", "database"))
    statements = {
        "user": f"ALTER ROLE {user} RESET default_transaction_read_only",
        "database": f"ALTER DATABASE {database} RESET default_transaction_read_only",
        "database user": f"ALTER ROLE {user} IN DATABASE {database} RESET default_transaction_read_only",
    }
    by = {"user": "the role", "database": "the database", "database user": "the role in this database"}
    found = server["read_only_by"]
    return (
        f"default_transaction_read_only is on for {by.get(found, f'every session ({found})')}, so nothing can be "
        f"written; {statements.get(found, 'set it to off in the configuration of the server')}"
    )


def _refuse_foreign_schema(session: Session, relations: Sequence[str]) -> None:
    if relations:
        raise ConfigError(
            f"{session.where}: the schema {session.status_schema} is another tool's: {'; '.join(relations)}; "
            "Snowmelt keeps its status in a schema of that name; give it another one (postgres.status_schema in the "
            f"config), or rename this one (ALTER SCHEMA {session.status_schema} RENAME TO "
            f"other_{session.status_schema}), then start again"
        )


def check_access(session: Session) -> Row:
    """The server as this session sees it; AccessError when a run could not keep its status there."""
    server = session.row(queries.query("server"))
    if server is None:
        raise AccessError(f"{session.where}: the server does not answer")
    if server["version"] < 130_000:
        raise AccessError(f"{session.where}: PostgreSQL 13 or newer is needed, this is {server['version'] // 10_000}")
    if server["is_standby"]:
        raise AccessError(f"{session.where}: this server is read-only; name the writer's endpoint in postgres.host")
    if server["read_only"]:
        raise AccessError(f"{session.where}: {_why_read_only(server)}")
    _refuse_foreign_schema(session, server["foreign_relations"])
    if not server["has_status_schema"] and not server["may_create_schema"]:
        raise AccessError(
            f"{session.where}: user {server['user']} may not create the schema {session.status_schema}; "
            f'GRANT CREATE ON DATABASE "{server["database"]}" TO "{server["user"]}", '
            "or let an administrator run `snowmelt status install`"
        )
    return server
