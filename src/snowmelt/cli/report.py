"""``snowmelt report``: make the report of a run afresh, whoever ran it."""

from pathlib import Path
from typing import Annotated

import typer

from snowmelt import private_files, settings
from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, LogFormat, LogLevel, SourceName
from snowmelt.deadline import Deadline
from snowmelt.errors import AccessError, MissingError
from snowmelt.settings import Settings

_PATIENCE_SECONDS = 300.0


def report(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run; the latest unless given.")] = None,
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; report-RUN.html unless given.")
    ] = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Write the report of a run, ended or under way, as one HTML file."""
    from snowmelt.engine import status_store
    from snowmelt.reports import page
    from snowmelt.reports import saved_report as reports
    from snowmelt.wiring import Wiring

    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    given = settings.load(config=config_path)
    wiring = Wiring(given, settings.environment())
    config = wiring.config()
    found = config.source(source)
    with wiring.target(config, found.postgres_database, "snowmelt report") as session:
        status_store.require_installed(session)
        if run_id is None:
            latest = status_store.list_runs(session, source_name=found.source_name, limit=1)
            if not latest:
                raise MissingError(f"source {found.source_name} has no run yet; begin one with `snowmelt migrate`")
            run_id = str(latest[0]["run_id"])
        run = status_store.read_run(session, run_id)
        # Its plans are where it began, wherever this environment keeps its own.
        there = Wiring(Settings(**{**given.model_dump(), "store": run.store}), settings.environment())
        made = reports.make(there.open_run(run_id), session, Deadline.after(_PATIENCE_SECONDS))
    if output is not None or not as_json:
        path = output or Path(f"report-{run_id}.html")
        _write(path, page.page(made))
        if not as_json:
            console.out.print(f"{made.verdict.headline}\nreport: {path.absolute()}", markup=False)
    if as_json:
        console.show_json(made.model_dump(mode="json"))


def _write(path: Path, text: str) -> None:
    try:
        private_files.write(path, text.encode())
    except OSError as error:
        raise AccessError(f"cannot write {path}: {error.strerror}; name another file by --output") from error
