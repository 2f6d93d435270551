"""The command line: each command turns its flags into one call, and the result into lines or JSON."""

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from snowmelt import (
    __version__,
    actions,
    aws_cli,
    config,
    console,
    monitor,
    preflight_cli,
    rejects,
    report_cli,
    runner,
    schema_cli,
    settings,
    sql,
    watch_cli,
)
from snowmelt.actions import verify as verify_action
from snowmelt.actions.verify_source import Asked
from snowmelt.config import Config, SourceConfig
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError, MissingError, SnowmeltError
from snowmelt.models import ValidateConfigResult
from snowmelt.options import (
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
    SourceName,
    SourceTable,
    Tables,
    listed,
)
from snowmelt.wiring import Wiring

app = typer.Typer(
    help="Move tables out of Snowflake into PostgreSQL, every row exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at a config.", no_args_is_help=True)
indexes_app = typer.Typer(help="Look after indexes that loads dropped.", no_args_is_help=True)
rejects_app = typer.Typer(help="Look after rows that were refused.", no_args_is_help=True)
status_app = typer.Typer(help="See how far runs are.", invoke_without_command=True)
app.add_typer(config_app, name="config")
app.add_typer(status_app, name="status")
app.add_typer(indexes_app, name="indexes")
app.add_typer(rejects_app, name="rejects")
app.add_typer(aws_cli.app, name="aws")
app.add_typer(schema_cli.app, name="schema")
app.command("preflight")(preflight_cli.preflight)
app.command("dashboard")(watch_cli.dashboard)
app.command("report")(report_cli.report)

EXIT_FAILED = 1
EXIT_DIFFERENT = 3
EXIT_UNFINISHED = 4


def main() -> None:
    """Run the command line; a failure that can be explained is one line on stderr and an exit code."""
    try:
        app(standalone_mode=True)
    except SnowmeltError as error:
        console.show_error(error)
        sys.exit(error.exit_code)


def _print_version(asked: bool) -> None:
    if asked:
        console.out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of no command."""


# --- the main job ---------------------------------------------------------------------------------------------------


@app.command()
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
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Migrate a source; an unfinished run of it is resumed."""
    console.set_up_logging(log_level, as_json=as_json, log_format=log_format)
    wiring = _wiring(config_path)
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
    parsed, found = _source(wiring, source)
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


@app.command("test-connections")
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
    result = actions.run(event, _wiring(config_path), Deadline.after(runner.INVOCATION_SECONDS))
    if as_json:
        console.show_json(result)
    else:
        for verdict in result["verdicts"]:
            console.out.print(f"{verdict['server']}: {'ok' if verdict['ok'] else 'FAILED'}: {verdict['message']}")
    if not result["ok"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def verify(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    tables: Annotated[
        str | None, typer.Option("--table", "--tables", help="Only these tables, separated by commas.")
    ] = None,
    mode: Annotated[
        Literal["counts", "checksums", "rows"],
        typer.Option("--mode", help="What is compared: counts, sums of hashes of rows, or values."),
    ] = "checksums",
    run_id: Annotated[str | None, typer.Option("--run", help="What this run loaded, rather than the latest.")] = None,
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="Look at about so many rows.")] = None,
    all_rows: Annotated[
        bool, typer.Option("--all-rows", help="Of an incremental run, also rows it had no need to move.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Load again what differs, and verify again.")] = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Say whether targets hold just what was read for them, and which rows differ."""
    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    wiring = _wiring(config_path)
    asked = Asked(mode=mode, sample=sample, repair=repair, all_rows=all_rows)
    names = listed(tables)
    found = verify_action.verify(wiring, *_source(wiring, source), asked, tables=names, run_id=run_id)
    if as_json:
        console.show_json({"equal": found.equal, **found.model_dump(mode="json")})
    else:
        console.show_verification(found)
    if not found.equal:
        raise typer.Exit(EXIT_DIFFERENT)


# --- status ---------------------------------------------------------------------------------------------------------


@status_app.callback()
def status(
    context: typer.Context,
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    all_runs: Annotated[bool, typer.Option("--all", help="A line for each of the latest runs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how it goes on, until it is over.")] = False,
    as_json: AsJson = False,
) -> None:
    """See how far a run is: the latest, unless one is named."""
    if context.invoked_subcommand is not None:
        return
    if watch and all_runs:
        raise ConfigError("--watch shows one run, --all a line for each: choose one of them")
    if watch:
        watch_cli.watch_status(config_path, source, run_id=run_id, as_json=as_json)
    else:
        status_of(config_path, source, run_id=run_id, all_runs=all_runs, as_json=as_json)


@status_app.command("install")
def install(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    show: Annotated[bool, typer.Option("--print", help="Print the DDL; connect to nothing.")] = False,
) -> None:
    """Put the status schema into the target database, or print its DDL."""
    if show:
        sys.stdout.write(sql.text("status_schema.sql"))
        return
    wiring = _wiring(config_path)
    console.out.print(f"status schema installed: {monitor.install(wiring, *_source(wiring, source))}")


def status_of(config_path: str, source: str | None, *, run_id: str | None, all_runs: bool, as_json: bool) -> None:
    """Show a run with its tables, or a line for each of the latest runs."""
    console.set_up_logging("WARNING", as_json=as_json)
    wiring = _wiring(config_path)
    parsed, found = _source(wiring, source)
    with monitor.watch(wiring, parsed, found) as watched:
        runs = watched.runs(found.source_name) if run_id is None else (watched.run(run_id),)
        moved = watched.tables(runs[0].run_id) if runs and not all_runs else ()
        beat = watched.pulse(runs[0]) if runs and not all_runs else None
    if as_json:
        listed = [r.model_dump(mode="json") for r in runs]
        tables = [t.model_dump(mode="json") for t in moved]
        pulse = beat.model_dump(mode="json") if beat else None
        console.show_json(listed if all_runs else {**listed[0], "pulse": pulse, "tables": tables} if listed else None)
    elif not runs:
        console.out.print("no run yet")
    elif all_runs:
        console.show_runs(runs)
    else:
        console.show_tables(moved, f"run {runs[0].run_id}: {runs[0].status}, {runs[0].seconds:.0f} s")
        if beat:
            console.out.print(f"it {beat.state}: {beat.says}", markup=False)


@app.command("runs")
def runs(config_path: ConfigPath = "config.json", source: SourceName = None, as_json: AsJson = False) -> None:
    """List the latest runs of a source, newest first."""
    status_of(config_path, source, run_id=None, all_runs=True, as_json=as_json)


@app.command("errors")
def errors(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    as_json: AsJson = False,
) -> None:
    """Say what went wrong in a run, each kind once: how often, where first, what to do."""
    console.set_up_logging("WARNING", as_json=as_json)
    wiring = _wiring(config_path)
    parsed, found = _source(wiring, source)
    with monitor.watch(wiring, parsed, found) as watched:
        run = watched.asked(found.source_name, run_id)
        groups = watched.errors(run.run_id) if run else ()
    if as_json:
        console.show_json([group.model_dump(mode="json") for group in groups])
    else:
        console.show_errors(groups)


@app.command("retry")
def retry(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    accept_rejected: AcceptRejected = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Try again what failed in a run, and nothing else; a run that is complete is left alone."""
    console.set_up_logging(log_level, as_json=as_json, log_format=log_format)
    wiring = _wiring(config_path)
    parsed, found = _source(wiring, source)
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
        log_level=log_level,
        log_format=log_format,
    )


# --- refused rows -----------------------------------------------------------------------------------------------------


@rejects_app.command("list")
def list_rejects(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    table: SourceTable = None,
) -> None:
    """Say which rows of a run were refused, and why."""
    console.set_up_logging("WARNING", as_json=False)
    wiring = _wiring(config_path)
    console.show_rejects(rejects.listed(wiring, *_source(wiring, source), run_id=run_id, table=table))


@rejects_app.command("export")
def export_rejects(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    table: SourceTable = None,
) -> None:
    """Print the refused rows of a run, each as a line of JSON that can be mended and replayed."""
    console.set_up_logging("WARNING", as_json=False)
    wiring = _wiring(config_path)
    for line in rejects.exported(rejects.listed(wiring, *_source(wiring, source), run_id=run_id, table=table)):
        sys.stdout.write(f"{line}\n")


@rejects_app.command("replay")
def replay_rejects(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    table: SourceTable = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Lines of an export, mended.", exists=True, dir_okay=False)
    ] = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Load refused rows once more, after whatever they were refused for is mended."""
    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    wiring = _wiring(config_path)
    lines = None if file is None else [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    done = rejects.replay(wiring, *_source(wiring, source), run_id=run_id, table=table, lines=lines)
    if as_json:
        console.show_json([each.model_dump(mode="json") for each in done])
    else:
        for each in done:
            console.out.print(f"{each.table}: {each.brought_in} rows are in, {each.refused} are refused", markup=False)
            for reason in each.reasons:
                console.out.print(f"  {reason}", markup=False)
        if not done:
            console.out.print("no row is out")
    if any(each.refused for each in done):
        raise typer.Exit(EXIT_FAILED)


# --- indexes ---------------------------------------------------------------------------------------------------------


@indexes_app.command("restore")
def restore_indexes(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Only what this run dropped.")] = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Put back indexes that a load dropped and did not come to build; tables that are being loaded are left alone."""
    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    wiring = _wiring(config_path)
    restored = monitor.restore_indexes(wiring, *_source(wiring, source), run_id=run_id)
    if as_json:
        console.show_json(restored.model_dump(mode="json"))
    else:
        for state, names in restored.model_dump().items():
            for name in names:
                console.out.print(f"{state}: {name}", markup=False)
        if not any(restored.model_dump().values()):
            console.out.print("no index is owed")
    if restored.failed:
        raise typer.Exit(EXIT_FAILED)
    if restored.unfinished:
        raise typer.Exit(EXIT_UNFINISHED)


# --- config ---------------------------------------------------------------------------------------------------------


@config_app.command("check")
def check(config_path: ConfigPath = "config.json", as_json: AsJson = False) -> None:
    """Read a config and report every problem in it; connects to nothing."""
    console.set_up_logging("WARNING", as_json=as_json)
    try:
        parsed = _wiring(config_path).config()
    except ConfigError as error:
        if as_json:
            console.show_json({"ok": False, "problems": error.problems or (error.message,)})
        raise
    summary = [{"source_name": s.source_name, "enabled": s.enabled, "tables": len(s.tables)} for s in parsed.sources]
    if as_json:
        console.show_json({"ok": True, "sources": summary})
        return
    for line in summary:
        state = "" if line["enabled"] else " (not enabled)"
        console.out.print(f"ok: source {line['source_name']}, {line['tables']} tables{state}")


@config_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    console.show_json(config.json_schema())


# --- one machine ----------------------------------------------------------------------------------------------------


@app.command()
def sandbox(
    load: Annotated[
        Path | None, typer.Option(help="Folder of CSV or Parquet files, a table each.", exists=True, file_okay=False)
    ] = None,
    into: Annotated[str, typer.Option(help="Snowflake database and schema the files go to.")] = "SANDBOX.PUBLIC",
    env_file: Annotated[
        Path | None, typer.Option(help="Write the environment to this file too.", dir_okay=False)
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Keep both servers' data in this folder.", file_okay=False)
    ] = None,
) -> None:
    """Start a stand-in for Snowflake and a real PostgreSQL, and stay until stopped."""
    try:
        from snowmelt.local.sandbox import run
    except ModuleNotFoundError as error:
        raise ConfigError(f"the sandbox needs {error.name}; install snowmelt[local]") from error
    run(load=load, into=into, env_file=env_file, directory=directory)


# --- what commands share --------------------------------------------------------------------------------------------


def _wiring(config_path: str) -> Wiring:
    return Wiring(settings.load(config=config_path), settings.environment())


def _source(wiring: Wiring, name: str | None) -> tuple[Config, SourceConfig]:
    parsed = wiring.config()
    return parsed, parsed.source(name)


def _execution_id() -> str:
    """A name for this process that says where to look for it."""
    return f"local:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


if __name__ == "__main__":
    main()
