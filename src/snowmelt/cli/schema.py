"""``snowmelt schema``: the tables that a source needs in PostgreSQL."""

from typing import Annotated

import typer

from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, SourceName, Tables, listed
from snowmelt.cli.shared import opened

app = typer.Typer(help="Look after target tables.", no_args_is_help=True)


@app.command("ddl")
def ddl(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    tables: Tables = None,
    apply: Annotated[bool, typer.Option("--apply", help="Create the missing tables, all in one transaction.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write CREATE TABLE for targets that are missing, as SQL that psql takes; nothing is executed unless asked for."""
    from snowmelt.preflight import create_targets

    console.set_up_logging("WARNING", as_json=as_json)
    written = create_targets.schema_ddl(*opened(config_path, source), listed(tables), apply=apply)
    if as_json:
        console.show_json({"applied": apply, "tables": written.creates, "sql": written.text})
        return
    console.show_script(written.text)
    if apply:
        made = ", ".join(written.creates) or "nothing: every target is there"
        console.show_note(f"created {made}")
