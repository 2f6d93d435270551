"""``snowmelt rejects``: rows that were refused."""

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, LogFormat, LogLevel, RunId, ShowValues, SourceName, SourceTable
from snowmelt.cli.shared import EXIT_FAILED, opened

app = typer.Typer(help="Look after rows that were refused.", no_args_is_help=True)


@app.command("list")
def list_rejects(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    table: SourceTable = None,
    values: ShowValues = False,
) -> None:
    """List the rejected rows of a run, and why each was rejected."""
    from snowmelt.rejected_rows import replay

    console.set_up_logging("WARNING", as_json=False)
    found = replay.listed(*opened(config_path, source), run_id=run_id, table=table)
    console.show_rejects(found.rows, expired=found.expired, show_values=values)


@app.command("export")
def export_rejects(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    table: SourceTable = None,
) -> None:
    """Print the refused rows of a run, each as a line of JSON that can be fixed and replayed."""
    from snowmelt.rejected_rows import replay

    console.set_up_logging("WARNING", as_json=False)
    found = replay.listed(*opened(config_path, source), run_id=run_id, table=table)
    for line in replay.exported(found.rows):
        console.show_json_line(line)
    console.warn_of_expired_rows(found.expired)


@app.command("replay")
def replay_rejects(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: RunId = None,
    table: SourceTable = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Lines of an export, fixed.", exists=True, dir_okay=False)
    ] = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Load refused rows once more, after whatever they were refused for is fixed."""
    from snowmelt.rejected_rows import replay

    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    lines = None if file is None else [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    done = replay.replay(*opened(config_path, source), run_id=run_id, table=table, lines=lines)
    if as_json:
        console.show_json([each.model_dump(mode="json") for each in done])
    else:
        for each in done:
            console.out.print(console.text_of(f"{each.table}: {each.replayed} rows are in, {each.refused} are refused"))
            for reason in each.reasons:
                console.out.print(console.text_of(f"  {reason}"))
        if not done:
            console.out.print("no row is out")
    if any(each.refused or each.expired for each in done):
        raise typer.Exit(EXIT_FAILED)
