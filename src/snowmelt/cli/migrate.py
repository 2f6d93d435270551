"""``snowmelt migrate``, ``retry`` and ``test-connections``: the main job."""

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import ExitStack

import typer

from snowmelt import actions, console, monitor, runner
from snowmelt.cli.options import (
    AcceptRejected,
    AllowShrink,
    AsJson,
    ConfigPath,
    DryRun,
    LogFormat,
    LogLevel,
    NoResume,
    ResumeRunId,
    RunId,
    ShowValues,
    SourceName,
    Tables,
    listed,
)
from snowmelt.cli.shared import EXIT_FAILED, EXIT_UNFINISHED, opened, show_values, wired
from snowmelt.deadline import Deadline
from snowmelt.errors import MissingError
from snowmelt.models import ValidateConfigResult
from snowmelt.wiring import Wiring


def migrate(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    no_resume: NoResume = False,
    resume_run_id: ResumeRunId = None,
    tables: Tables = None,
    allow_shrink: AllowShrink = False,
    accept_rejected: AcceptRejected = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    values: ShowValues = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Migrate a source; an unfinished run of it is resumed."""
    show_values(values, as_json=as_json)
    console.set_up_logging(log_level, as_json=as_json, log_format=log_format)
    wiring, parsed, found = opened(config_path, source)
    start = {
        "source_name": source,
        "no_resume": no_resume,
        "resume_run_id": resume_run_id,
        "allow_shrink": allow_shrink,
        "accept_rejected": accept_rejected,
        "tables": listed(tables),
    }
    if dry_run:
        _foresee(start, wiring, as_json=as_json)
        return
    with ExitStack() as stack:

        def show(run: ValidateConfigResult) -> None:
            if console.err.is_terminal:  # elsewhere the log has it, and the warnings everywhere
                console.err.print(run.message)
            watched = stack.enter_context(monitor.watch(wiring, parsed, found))
            stack.enter_context(console.live_progress(watched, run.run_id))

        try:
            outcome = runner.migrate(start, wiring, execution_id=_execution_id(), on_run=show)
        except KeyboardInterrupt as interrupt:
            console.show_note("stopped; what was completed stays, start again to resume")
            raise typer.Exit(EXIT_UNFINISHED) from interrupt
    with monitor.watch(wiring, parsed, found) as watched:
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
    if outcome.status == "failed":
        raise typer.Exit(EXIT_FAILED)


def _foresee(start: Mapping[str, object], wiring: Wiring, *, as_json: bool) -> None:
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
