"""``snowmelt sql``: what operators run by hand, wherever Snowmelt is installed."""

from dataclasses import asdict
from difflib import get_close_matches
from typing import Annotated

import typer
from rich.table import Table

from snowmelt.cli import console
from snowmelt.cli.options import AsJson
from snowmelt.errors import ConfigError
from snowmelt.sql_text import operator_files

app = typer.Typer(help="Print SQL for operators to run by hand.", no_args_is_help=True)


@app.command("list")
def list_files(as_json: AsJson = False) -> None:
    """List the files: the server that each is for, and what it does."""
    found = operator_files.every_file()
    if as_json:
        console.show_json([asdict(each) for each in found])
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "server", "what for"):
        grid.add_column(title)
    for each in found:
        grid.add_row(each.name, each.server, each.purpose)
    console.out.print(grid)


@app.command("show")
def show_file(name: Annotated[str, typer.Argument(help="One of `snowmelt sql list`.")]) -> None:
    """Print a file, for psql or a worksheet; it needs no other file beside it."""
    wanted = name.removesuffix(".sql")
    names = [each.name for each in operator_files.every_file()]
    if wanted not in names:
        meant = "".join(f"; did you mean {close}?" for close in get_close_matches(wanted, names, n=1))
        raise ConfigError(f"sql show: there is no file {wanted}{meant}; there are {', '.join(names)}")
    console.show_script(operator_files.text(wanted))
