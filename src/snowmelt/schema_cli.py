"""``snowmelt schema``: the tables that a source needs in PostgreSQL."""

import sys
from typing import Annotated

import typer

from snowmelt import console, settings
from snowmelt.actions import schema_ddl
from snowmelt.options import AsJson, ConfigPath, SourceName, Tables, listed
from snowmelt.wiring import Wiring

app = typer.Typer(help="Look after target tables.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look after target tables."""


@app.command("ddl")
def ddl(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    tables: Tables = None,
    apply: Annotated[bool, typer.Option("--apply", help="Create the missing tables, all in one transaction.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write CREATE TABLE for targets that are missing, as SQL that psql takes; nothing is executed unless asked for."""
    console.set_up_logging("WARNING", as_json=as_json)
    wiring = Wiring(settings.load(config=config_path), settings.environment())
    config = wiring.config()
    written = schema_ddl.schema_ddl(wiring, config, config.source(source), listed(tables), apply=apply)
    if as_json:
        console.show_json({"applied": apply, "tables": written.creates, "sql": written.text})
        return
    sys.stdout.write(written.text)
    if apply:
        made = ", ".join(written.creates) or "nothing: every target is there"
        console.show_note(f"created {made}")
