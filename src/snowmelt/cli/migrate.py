"""``snowmelt migrate``, ``retry`` and ``test-connections``: the main job."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from snowmelt.cli import console
from snowmelt.cli.apart import apart
from snowmelt.cli.options import (
    AcceptRejected,
    AllowShrink,
    AsJson,
    CompatibleWith,
    ConfigPath,
    DryRun,
    LogFormat,
    LogLevel,
    NoResume,
    ParallelSources,
    ResumeMaxAge,
    ResumeRunId,
    RunId,
    ShowValues,
    SkipFailingTables,
    SourceName,
    Tables,
    listed,
)
from snowmelt.cli.shared import EXIT_FAILED, EXIT_UNFINISHED, opened, show_values, wired
from snowmelt.config import Config, SourceConfig, with_unit
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError, MissingError, SnowmeltError
from snowmelt.models import ValidateConfigResult
from snowmelt.wording import NOTHING_TO_LOAD

if TYPE_CHECKING:
    from snowmelt.wiring import Wiring


def migrate(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    no_resume: NoResume = False,
    resume_run_id: ResumeRunId = None,
    resume_max_age: ResumeMaxAge = None,
    tables: Tables = None,
    allow_shrink: AllowShrink = False,
    accept_rejected: AcceptRejected = False,
    skip_failing_tables: SkipFailingTables = False,
    dry_run: DryRun = False,
    compatibility: CompatibleWith = None,
    parallel_sources: ParallelSources = 1,
    as_json: AsJson = False,
    values: ShowValues = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Migrate a source, or all that are enabled; unfinished runs are resumed."""
    show_values(values, as_json=as_json)
    console.set_up_logging(log_level, as_json=as_json, log_format=log_format)
    wiring = wired(config_path, compatibility)
    config = wiring.config()
    to_run, idle = config.sources_to_run(source)
    sources = [config.source(name) for name in to_run]
    for name in idle:
        console.show_note(f"source {name}: {NOTHING_TO_LOAD}")
    if len(sources) > 1 and (resume_run_id or tables):
        names = ", ".join(s.source_name for s in sources)
        raise ConfigError(f"--resume-run-id and --tables belong to one source, and this is for {names}; add --source")
    start = {
        "no_resume": no_resume,
        "resume_run_id": resume_run_id,
        "resume_max_age": _with_unit(resume_max_age),
        "allow_shrink": allow_shrink,
        "accept_rejected": accept_rejected,
        "skip_failing_tables": skip_failing_tables,
        "tables": listed(tables),
        "compatibility": compatibility,
    }
    if dry_run:
        for each in sources:
            _foresee({**start, "source_name": each.source_name}, wiring, as_json=as_json)
        return
    if len(sources) == 1:
        exit_code = _run(start, sources[0], config, wiring, as_json=as_json)
    elif parallel_sources > 1:
        exit_code = max(apart(sources, parallel_sources), default=0)
    else:
        codes = (_one_of_several(start, each, config, wiring, as_json=as_json) for each in sources)
        exit_code = max(codes, default=0)
    if exit_code:
        raise typer.Exit(exit_code)


def _with_unit(age: str | None) -> str | None:
    try:
        with_unit(age)
    except ValueError as error:
        raise ConfigError(f"--resume-max-age {age} {error}") from None
    return age


def _one_of_several(
    start: Mapping[str, object], source: SourceConfig, config: Config, wiring: Wiring, *, as_json: bool
) -> int:
    """Run one source; what stops it does not stop those after it."""
    try:
        return _run(start, source, config, wiring, as_json=as_json)
    except SnowmeltError as error:
        console.show_error(error)
        return error.exit_code


def _run(start: Mapping[str, object], source: SourceConfig, config: Config, wiring: Wiring, *, as_json: bool) -> int:
    """Take the run of a source to its end and show what came of it; the command's exit code."""
    from snowmelt import runner
    from snowmelt.cli.live_progress import live_progress
    from snowmelt.monitoring import monitor

    with ExitStack() as stack:

        def show(run: ValidateConfigResult) -> None:
            if console.err.is_terminal:  # elsewhere the log has it, and the warnings everywhere
                console.err.print(run.message)
            watched = stack.enter_context(monitor.watch(wiring, config, source))
            stack.enter_context(live_progress(watched, run.run_id))

        try:
            begun = {**start, "source_name": source.source_name}
            outcome = runner.migrate(begun, wiring, execution_id=_execution_id(), on_run=show)
        except KeyboardInterrupt as interrupt:
            console.show_note("stopped; what was completed stays, start again to resume")
            raise typer.Exit(EXIT_UNFINISHED) from interrupt
    with monitor.watch(wiring, config, source) as watched:
        run, moved = watched.run(outcome.run_id), watched.tables(outcome.run_id)
    if as_json:
        console.show_json(
            {
                **run.model_dump(mode="json"),
                "resumed": outcome.resumed,
                "message": outcome.message,
                "warnings": outcome.warnings,
                "report": outcome.report and outcome.report.model_dump(),
                "page": outcome.page and outcome.page.model_dump(),
                "tables": [t.model_dump(mode="json") for t in moved],
            }
        )
    else:
        console.show_tables(moved, outcome.message)
        if outcome.page:
            console.out.print(f"report: {outcome.page.uri}", markup=False)
    return EXIT_FAILED if outcome.status == "failed" else 0


def _foresee(start: Mapping[str, object], wiring: Wiring, *, as_json: bool) -> None:
    from snowmelt import runner

    message, plan = runner.foresee(start, wiring, execution_id=_execution_id())
    if as_json:
        console.show_json({"message": message, **(plan.model_dump(mode="json", exclude={"message"}) if plan else {})})
    else:
        console.show_dry_run(message, plan)


def retry(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    accept_rejected: AcceptRejected = False,
    as_json: AsJson = False,
    values: ShowValues = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Try again what failed in a run, and nothing else; a run that is complete is left alone."""
    from snowmelt.monitoring import monitor

    console.set_up_logging(log_level, as_json=as_json, log_format=log_format)
    wiring, parsed, found = opened(config_path, source)
    with monitor.watch(wiring, parsed, found) as watched:
        run = watched.asked(found.source_name, run_id)
    if run is None:
        raise MissingError(f"source {found.source_name} has no run yet; begin one with `snowmelt migrate`")
    if run.status.startswith("completed"):
        console.out.print(f"run {run.run_id} is {run.status}: nothing failed in it")
        return
    migrate(
        config_path,
        source,
        resume_run_id=run.run_id,
        accept_rejected=accept_rejected,
        as_json=as_json,
        values=values,
        log_level=log_level,
        log_format=log_format,
    )


def try_connections(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Ask both servers whether they would let a run happen."""
    from snowmelt import actions, runner

    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    event = {"action": "test_connections", "source_name": source}
    result = actions.run(event, wired(config_path), Deadline.after(runner.INVOCATION_SECONDS))
    if as_json:
        console.show_json(result)
    else:
        for verdict in result["verdicts"]:
            console.out.print(f"{verdict['server']}: {'ok' if verdict['ok'] else 'FAILED'}: {verdict['message']}")
    if not result["ok"]:
        raise typer.Exit(EXIT_FAILED)


def _execution_id() -> str:
    """A name for this process that says where to look for it."""
    return f"local:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
