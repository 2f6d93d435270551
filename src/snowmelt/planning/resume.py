"""Whether a start goes on with a run that is there, begins a new one, or must not happen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from snowmelt.errors import ConfigError, HeldError
from snowmelt.models import PLAN_FORMAT

OPEN = ("running", "failed")
"""Statuses of runs that can be resumed: a failed one goes on once its cause is mended."""


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


def decide(start: Start, runs: Sequence[KnownRun], changed: Callable[[KnownRun], Sequence[str]]) -> Resume | Fresh:
    """What the start leads to; HeldError or ConfigError when to nothing.

    ``runs`` are those of the source, newest first. ``changed`` tells, key by key, how the config differs from the
    one a run was begun with; it is asked only when the hashes differ.
    """
    if start.resume_run_id is not None:
        return _named(start, runs, changed)

    open_runs = [r for r in runs if r.status in OPEN and set(r.tables) & set(start.tables)]
    for run in open_runs:
        if run.driven and run.driver == start.execution_id:
            return Resume(run, f"run {run.run_id} is driven by this execution", already_driving=True)
        _refuse_if_driven(run)
    if start.no_resume:
        return Fresh(tuple(r.run_id for r in open_runs), _closing(open_runs, "no_resume was asked for"))
    if not open_runs:
        return Fresh((), _after(runs))

    run = open_runs[0]
    if run.age > start.resume_max_age:
        return Fresh(
            tuple(r.run_id for r in open_runs),
            _closing(open_runs, f"it is older than resume_max_age ({_age(run.age)})"),
        )
    if run.config_hash != start.config_hash:
        raise ConfigError(
            f"run {run.run_id} is unfinished ({run.status}) and was begun with another config: "
            f"{_listed(changed(run))}; pass resume_run_id={run.run_id} to finish it as it was begun, "
            "or no_resume=true to close it and start fresh"
        )
    _refuse_if_unreadable(run, start)
    return Resume(run, f"resuming run {run.run_id}, which began {_age(run.age)} ago and stands {run.status}")


def _named(start: Start, runs: Sequence[KnownRun], changed: Callable[[KnownRun], Sequence[str]]) -> Resume:
    if start.no_resume:
        raise ConfigError("resume_run_id and no_resume contradict each other: pass one of them")
    run = next((r for r in runs if r.run_id == start.resume_run_id), None)
    if run is None:
        raise ConfigError(
            f"resume_run_id={start.resume_run_id}: source {start.source_name} has no such run in this database; "
            "`snowmelt status --all` lists the runs there are"
        )
    if run.driven and run.driver == start.execution_id:
        return Resume(run, f"run {run.run_id} is driven by this execution", already_driving=True)
    if run.status not in OPEN:
        raise ConfigError(f"run {run.run_id} is {run.status} and cannot be resumed; start without resume_run_id")
    _refuse_if_driven(run)
    _refuse_if_unreadable(run, start)
    message = f"resuming run {run.run_id}, which began {_age(run.age)} ago and stands {run.status}"
    if run.config_hash != start.config_hash:
        message += f"; it goes on with the config it was begun with, although now {_listed(changed(run))}"
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
            "finish it with the version that began it, or pass no_resume=true"
        )
    if run.store != start.store:
        raise ConfigError(
            f"run {run.run_id} keeps its plans in {run.store}, but SNOWMELT_STORE is {start.store}; "
            "set it to the former, or pass no_resume=true"
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
    return "; ".join(changes[:10]) or "it cannot be said what changed"


def _age(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
