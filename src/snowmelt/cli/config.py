"""``snowmelt config``: read a config, and say what is wrong with it."""

import typer

from snowmelt import config
from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath
from snowmelt.cli.shared import wired
from snowmelt.errors import ConfigError
from snowmelt.wording import counted

app = typer.Typer(help="Look at a config.", no_args_is_help=True)


@app.command("check")
def check(config_path: ConfigPath = "config.json", as_json: AsJson = False) -> None:
    """Read a config and report every problem in it; connects to nothing."""
    console.set_up_logging("WARNING", as_json=as_json)
    try:
        parsed = wired(config_path).config()
    except ConfigError as error:
        if as_json:
            console.show_json({"ok": False, "problems": error.problems or (error.message,)})
        raise
    if as_json:
        summary = [
            {"source_name": s.source_name, "enabled": s.enabled, "tables": len(s.tables)} for s in parsed.sources
        ]
        console.show_json({"ok": True, "sources": summary})
        return
    for source in parsed.sources:
        state = "" if source.enabled else " (not enabled)"
        console.out.print(f"ok: source {source.source_name}, {counted(len(source.tables), 'table')}{state}")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    console.show_json(config.json_schema())
