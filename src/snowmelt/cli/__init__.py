"""The command line: each command turns its flags into one call, and the result into lines or JSON."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from snowmelt import __version__
from snowmelt.cli.commands import Group
from snowmelt.errors import SnowmeltError

app = typer.Typer(
    cls=Group,
    help="Move tables out of Snowflake into PostgreSQL, every row exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a failure that can be explained is one line on stderr and an exit code."""
    try:
        app(args=_general_first(sys.argv[1:]), standalone_mode=True)
    except SnowmeltError as error:
        from snowmelt.cli import console

        with suppress(OSError):  # stderr may be as full as stdout; the exit code is what is left
            console.show_error(error)
        sys.exit(error.exit_code)


def _general_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with --env-file, which may follow a command, before it; of a sandbox it is the result."""
    if "sandbox" in arguments[:1]:
        return list(arguments)
    first: list[str] = []
    others: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == "--env-file":
            first += [argument, *islice(given, 1)]
        else:
            (first if argument.startswith("--env-file=") else others).append(argument)
    return [*first, *others]


def _print_version(asked: bool) -> None:
    if asked:
        from snowmelt.cli import console

        console.out.print(__version__)
        raise typer.Exit


def _read_env_file(path: Path | None) -> None:
    if path is not None:
        from snowmelt import settings

        settings.add_env_file(path)


@app.callback()
def _options(
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            help="File of NAME=value lines that adds to the environment; may also follow the command.",
            is_eager=True,
            callback=_read_env_file,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of no command."""
