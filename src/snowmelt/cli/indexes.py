"""``snowmelt indexes``: indexes that a load dropped."""

from typing import Annotated

import typer

from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, LogFormat, LogLevel, SourceName
from snowmelt.cli.shared import EXIT_FAILED, EXIT_UNFINISHED, opened

app = typer.Typer(help="Look after indexes that loads dropped.", no_args_is_help=True)


@app.command("restore")
def restore_indexes(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Only what this run dropped.")] = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Put back indexes that a load dropped and did not come to build; tables that are being loaded are left alone."""
    from snowmelt.monitoring import monitor

    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    restored = monitor.restore_indexes(*opened(config_path, source), run_id=run_id)
    if as_json:
        console.show_json(restored.model_dump(mode="json"))
    else:
        for state, names in restored.model_dump().items():
            for name in names:
                console.out.print(f"{state}: {name}", markup=False)
        if not any(restored.model_dump().values()):
            console.out.print("no index is to be rebuilt")
    if restored.failed:
        raise typer.Exit(EXIT_FAILED)
    if restored.unfinished:
        raise typer.Exit(EXIT_UNFINISHED)
