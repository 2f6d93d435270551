"""Whether a start goes on with a run that is there, begins a new one, or must not happen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from snowmelt.errors import ConfigError, HeldError
from snowmelt.models import PLAN_FORMAT
from snowmelt.wording import WITH_NO_RESUME, with_resume_run_id

OPEN = ("running", "failed")
"""Statuses of runs that can be resumed: a failed one goes on once its cause is fixed."""


@dataclass(frozen=True)
class KnownRun:
    """A run of the past or present, as far as a start must know it."""

    run_id: str
    status: str
    config_hash: str
    started_at: datetime
    completed_at: datetime | None
    age: timedelta
    plan_format: int
    store: str
    tables: tuple[str, ...]
    driver: str | None
    driven: bool
    """Whether an execution drives it that is not known to be dead."""
    error_text: str | None = None
    source_fault: str | None = None
    """The failure of a table or chunk that every resume would meet again, as it is in rows that are read already."""
    has_rejected: bool = False
    """Whether a table failed because of rejected rows."""
    only_skipped: str | None = None
    """Why tables were skipped, where all others are complete: then there is nothing to resume."""
    added_to: tuple[str, ...] = ()
    """Tables whose rows were appended to their targets: a new run would append them again."""


@dataclass(frozen=True)
class Start:
    """What a caller asked for, in the terms of the runs there are."""

    execution_id: str
    source_name: str
    config_hash: str
    tables: tuple[str, ...]
    store: str
    no_resume: bool
    resume_run_id: str | None
    resume_max_age: timedelta


@dataclass(frozen=True)
class Resume:
    """Go on with this run."""

    run: KnownRun
    message: str
    already_driving: bool = False


@dataclass(frozen=True)
class Fresh:
    """Begin a new run, closing these open ones first."""

    closes: tuple[str, ...]
    message: str
    why: str = ""
    """Why those are closed."""
    resumable: str | None = None
    """The closed run that was not asked to be closed, and can still be named."""


def decide(
    start: Start,
    runs: Sequence[KnownRun],
    changed: Callable[[KnownRun], Sequence[str]],
    still_rejected: Callable[[KnownRun], str | None] = lambda _: None,
) -> Resume | Fresh:
    """Decide what the start leads to; HeldError or ConfigError when to nothing.

    ``runs`` are those of the source, newest first. ``changed`` tells, key by key, how the config differs from the
    one a run was begun with, its choice of tables aside; it is asked only when the hashes differ. ``still_rejected``
    tries the rejected rows of a run again, and returns why they are rejected still; it is asked only of a run that
    would be resumed otherwise.
    """
    if start.resume_run_id is not None:
        return _named(start, runs, changed)

    open_runs = [r for r in runs if r.status in OPEN and set(r.tables) & set(start.tables)]
    for run in open_runs:
        if run.driven and run.driver == start.execution_id:
            return Resume(run, f"run {run.run_id} is driven by this execution", already_driving=True)
        _refuse_if_driven(run)
    if start.no_resume:
        return _fresh(open_runs, "no_resume was asked for")
    if not open_runs:
        return Fresh((), _after(runs))

    run = open_runs[0]
    if run.only_skipped is not None:
        return _fresh(open_runs, f"all that it could load is loaded; {run.only_skipped}")
    if run.age > start.resume_max_age:
        return _fresh(open_runs, f"it is older than resume_max_age ({_age(run.age)})")
    changes = changed(run) if run.config_hash != start.config_hash else ()
    if changes:
        raise ConfigError(
            f"run {run.run_id} is unfinished ({run.status}) and was begun with another config: "
            f"{_listed(changes)}; to finish it as it was begun, start {with_resume_run_id(run.run_id)}; to close it "
            f"and begin a new run, start {WITH_NO_RESUME}"
        )
    fault = run.source_fault or _other_tables(start, run)
    if fault is None:
        _refuse_if_unreadable(run, start)
        fault = still_rejected(run) if run.has_rejected else None
    if fault is not None:
        return _instead_of(run, open_runs, fault)
    return Resume(run, f"resuming run {run.run_id}, which began {_age(run.age)} ago and stands {run.status}")


def _other_tables(start: Start, run: KnownRun) -> str | None:
    """Return why a run cannot stand for a start that chose other tables; ConfigError when the start chose fewer."""
    lacking = [t for t in start.tables if t not in run.tables]
    further = [t for t in run.tables if t not in start.tables]
    if lacking:
        return f"it has only {_few(run.tables)}, and this start also asks for {_few(lacking)}"
    if further:
        raise ConfigError(
            f"run {run.run_id} is unfinished ({run.status}) and has {_few(run.tables)}, but this start asks only for "
            f"{_few(start.tables)}; to finish all of it, start {with_resume_run_id(run.run_id)}; to close it and load "
            f"only those, start {WITH_NO_RESUME}"
        )
    return None


def _instead_of(run: KnownRun, open_runs: Sequence[KnownRun], fault: str) -> Fresh:
    """Close runs that a resume does not help, unless the new run would add rows a second time."""
    added = [f"{table} (run {each.run_id})" for each in open_runs for table in each.added_to]
    if added:
        raise ConfigError(
            f"run {run.run_id} is unfinished ({run.status}) and is not resumed, as {fault}; a new run would append "
            f"again what is in the target of {_few(added)}: delete those rows there, then start {WITH_NO_RESUME}; to "
            f"resume the run nevertheless, start {with_resume_run_id(run.run_id)}"
        )
    found = _fresh(open_runs, fault)
    return replace(found, resumable=run.run_id)


def _fresh(open_runs: Sequence[KnownRun], why: str) -> Fresh:
    if not open_runs:
        return Fresh((), "new run")
    return Fresh(tuple(r.run_id for r in open_runs), _closing(open_runs, why), why)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _named(start: Start, runs: Sequence[KnownRun], changed: Callable[[KnownRun], Sequence[str]]) -> Resume:
    if start.no_resume:
        raise ConfigError(
            "--resume-run-id and --no-resume (resume_run_id, no_resume) contradict each other: pass one of them"
        )
    run = next((r for r in runs if r.run_id == start.resume_run_id), None)
    if run is None:
        raise ConfigError(
            f"--resume-run-id {start.resume_run_id} (resume_run_id): source {start.source_name} has no such run "
            "in this database; `snowmelt status --all` lists the runs there are"
        )
    if run.driven and run.driver == start.execution_id:
        return Resume(run, f"run {run.run_id} is driven by this execution", already_driving=True)
    if run.status not in OPEN:
        raise ConfigError(
            f"run {run.run_id} is {run.status} and cannot be resumed; start without --resume-run-id (resume_run_id)"
        )
    _refuse_if_driven(run)
    _refuse_if_unreadable(run, start)
    message = f"resuming run {run.run_id}, which began {_age(run.age)} ago and stands {run.status}"
    changes = changed(run) if run.config_hash != start.config_hash else ()
    if changes:
        message += f"; it goes on with the config it was begun with, although now {_listed(changes)}"
    if set(run.tables) != set(start.tables):
        message += f"; it goes on with its own tables: {_few(run.tables)}; this start names {_few(start.tables)}"
    if run.only_skipped is not None:
        message += f"; it has nothing left to load, and only a new run loads what it skipped: {run.only_skipped}"
    if run.source_fault is not None:
        message += f"; what failed before will fail again: {run.source_fault}"
    return Resume(run, message)


def _refuse_if_driven(run: KnownRun) -> None:
    if run.driven:
        raise HeldError(
            f"run {run.run_id} of the same tables is on, driven by {run.driver} since {_age(run.age)}; "
            "wait for its end, or stop that execution and start again"
        )


def _refuse_if_unreadable(run: KnownRun, start: Start) -> None:
    if run.plan_format != PLAN_FORMAT:
        raise ConfigError(
            f"run {run.run_id} was planned in format {run.plan_format}, this version of Snowmelt reads {PLAN_FORMAT}; "
            f"finish it with the version that began it, or start {WITH_NO_RESUME}"
        )
    if run.store != start.store:
        raise ConfigError(
            f"run {run.run_id} keeps its plans in {run.store}, but SNOWMELT_STORE is {start.store}; "
            f"set it to the former, or start {WITH_NO_RESUME}"
        )


def _closing(open_runs: Sequence[KnownRun], why: str) -> str:
    if not open_runs:
        return "new run"
    names = ", ".join(r.run_id for r in open_runs)
    return f"new run; the unfinished {names} is closed, as {why}"


def _after(runs: Sequence[KnownRun]) -> str:
    if not runs:
        return "new run, the first of this source"
    return f"new run; the last one, {runs[0].run_id}, is {runs[0].status}"


def _listed(changes: Sequence[str]) -> str:
    return "; ".join(changes[:10])


def _age(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
