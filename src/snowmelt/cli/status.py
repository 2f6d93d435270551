"""``snowmelt status``, ``runs`` and ``errors``: how far runs are, and what went wrong in them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli import console
from snowmelt.cli import watch as watching
from snowmelt.cli.options import AsJson, ConfigPath, RunId, ShowValues, SourceName
from snowmelt.cli.shared import opened, show_values
from snowmelt.errors import ConfigError
from snowmelt.sql_text import queries

app = typer.Typer(help="See how far runs are.", invoke_without_command=True)


@app.callback()
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
        watching.watch_status(config_path, source, run_id=run_id, as_json=as_json)
    else:
        status_of(config_path, source, run_id=run_id, all_runs=all_runs, as_json=as_json)


@app.command("install")
def install(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    show: Annotated[bool, typer.Option("--print", help="Print the DDL; connect to nothing.")] = False,
) -> None:
    """Put the status schema into the target database, or print its DDL."""
    if show:
        there = Path(config_path).exists()
        schema = opened(config_path, source)[1].postgres.status_schema if there else queries.STATUS_SCHEMA
        sys.stdout.write(queries.in_schema(queries.text("engine/status_schema.sql"), schema))
        return
    from snowmelt.monitoring import monitor

    console.out.print(f"status schema installed: {monitor.install(*opened(config_path, source))}")


def status_of(config_path: str, source: str | None, *, run_id: str | None, all_runs: bool, as_json: bool) -> None:
    """Show a run with its tables, or a line for each of the latest runs."""
    from snowmelt.monitoring import monitor

    console.set_up_logging("WARNING", as_json=as_json)
    wiring, parsed, found = opened(config_path, source)
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
        rate = runs[0].rows_per_second if runs[0].status != "running" else None
        speed = f", {rate:,.0f} rows/s while loading" if rate else ""
        console.show_tables(moved, f"run {runs[0].run_id}: {runs[0].status}, {runs[0].seconds:.0f} s{speed}")
        if beat:
            console.out.print(f"it {beat.state}: {beat.says}", markup=False)


def runs(config_path: ConfigPath = "config.json", source: SourceName = None, as_json: AsJson = False) -> None:
    """List the latest runs of a source, newest first."""
    status_of(config_path, source, run_id=None, all_runs=True, as_json=as_json)


def errors(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    as_json: AsJson = False,
    values: ShowValues = False,
) -> None:
    """Say what went wrong in a run, each kind once: how often, where first, what to do."""
    from snowmelt.monitoring import monitor

    show_values(values, as_json=as_json)
    console.set_up_logging("WARNING", as_json=as_json)
    wiring, parsed, found = opened(config_path, source)
    with monitor.watch(wiring, parsed, found) as watched:
        run = watched.asked(found.source_name, run_id)
        groups = watched.errors(run.run_id) if run else ()
        if run and values:
            watched.recognise_values(run.run_id)
    if as_json:
        console.show_json([group.model_dump(mode="json") for group in groups])
    else:
        console.show_errors(groups)
