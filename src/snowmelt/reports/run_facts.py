"""The facts of a run that the status schema holds, each part by one query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snowmelt import errors
from snowmelt.engine import status_store
from snowmelt.errors import MissingError
from snowmelt.models import TablePlan
from snowmelt.monitoring.speeds import loading_seconds, rows_per_second
from snowmelt.postgres.session import Row, Session
from snowmelt.preflight.schema_compare import says_loss
from snowmelt.reports.facts import Durations, Execution, Index, Pace, Problem, Rejected, Run, Table, Verified
from snowmelt.sql_text import queries
from snowmelt.verification import results

PACE_PARTS = 60
DURATION_PARTS = 18
MOST_EXECUTIONS = 20
MOST_PROBLEMS = 50
MOST_REASONS = 200
MOST_INDEXES = 1000
_SAID_ELSEWHERE = ("row", "table")
"""Errors that are in the report as reasons of refused rows, and with the tables."""


@dataclass(frozen=True)
class RunFacts:
    """A run, and what its row says beside."""

    run: Run
    snowmelt_version: str
    plan_format: int
    postgres_version: str


@dataclass(frozen=True)
class Listed:
    """What went wrong, and what had to be built again; ``left_out`` says of what there was too much."""

    executions: tuple[Execution, ...]
    rejects: tuple[Rejected, ...]
    problems: tuple[Problem, ...]
    indexes: tuple[Index, ...]
    left_out: tuple[str, ...]


def run(session: Session, run_id: str) -> RunFacts:
    """The run; MissingError when there is none of that name."""
    row = session.row(queries.query("report_run"), run_id=run_id)
    if row is None:
        raise MissingError(f"there is no run {run_id}; `snowmelt runs` lists the runs there are")
    fields = ("run_id", "source_name", "status", "started_at", "completed_at", "seconds", "snapshot_at", "rounds")
    more = ("config_hash", "store", "allow_shrink", "accept_rejected", "error_code")
    return RunFacts(
        run=Run(
            **{name: row[name] for name in (*fields, *more)},
            as_of=row["completed_at"] or row["read_at"],
            error=row["error_text"],
        ),
        snowmelt_version=row["snowmelt_version"],
        plan_format=row["plan_format"],
        postgres_version=row["postgres_version"],
    )


def tables(session: Session, run: Run, plans: Mapping[int, TablePlan]) -> tuple[Table, ...]:
    """Every table of the run; what its plan said, where the plan is at hand."""
    rows = session.rows(queries.query("report_tables"), run_id=run.run_id)
    return tuple(_table(row, run, plans.get(row["table_id"])) for row in rows)


def _table(row: Row, run: Run, plan: TablePlan | None) -> Table:
    started, ended = row["started_at"], row["completed_at"] or run.as_of
    seconds = None if started is None else max(0.0, (ended - started).total_seconds())
    load_seconds = loading_seconds([(row["first_claimed_at"], row["last_loaded_at"])])
    said = plan.warnings if plan else ()
    known = {name: value for name, value in row.items() if name in Table.model_fields}
    return Table(
        **{
            **known,
            "table": row["source_table"],
            "target": f"{row['target_schema']}.{row['target_table']}",
            "load_mode": row["load_mode"] or (plan.load_mode if plan else None),
            "seconds": seconds,
            "load_seconds": load_seconds,
            "rows_per_second": rows_per_second(row["rows"], load_seconds),
            "query_ids": tuple(row["query_ids"]),
            "warnings": tuple(warning for warning in said if not says_loss(warning)),
            "may_lose": tuple(warning for warning in said if says_loss(warning)),
            "error": row["error_text"],
        }
    )


def pace(session: Session, run_id: str) -> tuple[Pace, ...]:
    """Rows over time."""
    rows = session.rows(queries.query("report_pace"), run_id=run_id, parts=PACE_PARTS)
    return tuple(Pace(**_without(row, "part")) for row in rows)


def durations(session: Session, run_id: str) -> tuple[Durations, ...]:
    """How many chunks took how long."""
    rows = session.rows(queries.query("report_durations"), run_id=run_id, parts=DURATION_PARTS)
    return tuple(Durations(**_without(row, "part")) for row in rows)


def verification(session: Session, run_id: str) -> tuple[Verified, ...]:
    """What was found of each table; nothing where no verdicts are kept."""
    kept = session.row(queries.query("has_verification_results"))
    if kept is None or not kept["kept"]:
        return ()
    return tuple(
        Verified(**{**_without(row, "source_table"), "table": row["source_table"], "reason": row["reason"] or ""})
        for row in results.verdicts(session, run_id)
    )


def listed(session: Session, run_id: str) -> Listed:
    """Drivers, refused rows, errors and indexes; of very many the first."""
    executions = session.rows(queries.query("report_executions"), run_id=run_id, limit=MOST_EXECUTIONS)
    rejects = session.rows(queries.query("report_rejects"), run_id=run_id, limit=MOST_REASONS)
    groups = status_store.error_groups(session, run_id)
    problems = [row for row in groups if row["what"] not in _SAID_ELSEWHERE]
    indexes = session.rows(queries.query("report_indexes"), run_id=run_id, limit=MOST_INDEXES)
    return Listed(
        executions=tuple(Execution(**row) for row in executions),
        rejects=tuple(_rejected(row) for row in rejects),
        problems=tuple(_problem(row) for row in problems[:MOST_PROBLEMS]),
        indexes=tuple(_index(row) for row in indexes),
        left_out=(
            *_too_many("reasons for which rows were refused", rejects, "kinds"),
            *_too_many("indexes", indexes, "indexes"),
            *([f"{len(problems) - MOST_PROBLEMS} more kinds of errors"] if len(problems) > MOST_PROBLEMS else []),
        ),
    )


def _too_many(what: str, rows: Sequence[Row], count: str) -> tuple[str, ...]:
    left = rows[0][count] - len(rows) if rows else 0
    return (f"{left} more {what}",) if left else ()


def _rejected(row: Row) -> Rejected:
    return Rejected(
        table=row["source_table"],
        column=row["column_name"],
        sqlstate=row["sqlstate"],
        reason=row["reason"],
        rows=row["rows"],
    )


def _problem(row: Row) -> Problem:
    known = errors.code(row["code"])
    return Problem(**{**row, "remedy": known.remedy if known else None})


def _index(row: Row) -> Index:
    return Index(
        index=row["index_name"],
        table=f"{row['target_schema']}.{row['target_table']}",
        is_unique=row["is_unique"],
        size_bytes=row["size_bytes"],
        seconds=row["seconds"],
        attempts=row["attempts"],
        state=(
            "built"
            if row["restored_at"]
            else "failed"
            if row["failed_at"]
            else "building"
            if row["started_at"]
            else "not begun"
        ),
        error_code=row["error_code"],
        error=row["error_text"],
    )


def _without(row: Row, name: str) -> Row:
    return {key: value for key, value in row.items() if key != name}
