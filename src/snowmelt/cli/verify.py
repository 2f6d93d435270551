"""``snowmelt verify``: is it all there, and is it right."""

from typing import Annotated, Literal

import typer

from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, LogFormat, LogLevel, SourceName, listed
from snowmelt.cli.shared import EXIT_DIFFERENT, opened


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
    allow_not_comparable: Annotated[
        bool,
        typer.Option("--allow-not-comparable", help="Exit with 0 although tables could not be compared."),
    ] = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Say whether targets hold just what was read for them, and which rows differ."""
    from snowmelt.verification import command as actions
    from snowmelt.verification.source_rows import Asked

    console.set_up_logging(log_level or "WARNING", as_json=as_json, log_format=log_format)
    asked = Asked(mode=mode, sample=sample, repair=repair, all_rows=all_rows)
    names = listed(tables)
    found = actions.verify(*opened(config_path, source), asked, tables=names, run_id=run_id)
    if as_json:
        said = {"equal": found.equal, "not_comparable": list(found.not_comparable)}
        console.show_json({**said, **found.model_dump(mode="json")})
    else:
        console.show_verification(found)
    if found.differs or (found.not_comparable and not allow_not_comparable):
        raise typer.Exit(EXIT_DIFFERENT)
