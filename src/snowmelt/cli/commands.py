"""Every command by its name and its line of help; the module of one is imported when that one is called.

What commands do needs boto3, the connector and more, seconds of a processor, which ``--help``, ``--version`` and a
misspelt call need not spend. A test compares these lines with what the commands say of themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperGroup


@dataclass(frozen=True)
class Place:
    """Where a command is: what its module calls it, a function or, with commands of its own, a ``Typer``."""

    help: str
    module: str
    attribute: str = "app"


COMMANDS: Mapping[str, Place] = {
    "config": Place("Look at a config.", "config"),
    "test-connections": Place("Ask both servers whether they would let a run happen.", "migrate", "try_connections"),
    "selftest": Place(
        "Show on your own account that what Snowmelt relies on is so; drops what it makes.", "selftest", "selftest"
    ),
    "schema": Place("Look after target tables.", "schema"),
    "preflight": Place(
        "Look at both sides for whatever could stand in the way of a run; exit code 3 if something does.",
        *("preflight", "preflight"),
    ),
    "migrate": Place("Migrate a source, or all that are enabled; unfinished runs are resumed.", "migrate", "migrate"),
    "retry": Place(
        "Try again what failed in a run, and nothing else; a run that is complete is left alone.", "migrate", "retry"
    ),
    "status": Place("See how far runs are.", "status"),
    "dashboard": Place("Serve a page to this machine that shows how runs go on, until Ctrl-C.", "watch", "dashboard"),
    "runs": Place("List the latest runs of a source, newest first.", "status", "runs"),
    "errors": Place(
        "Say what went wrong in a run, each kind once: how often, where first, what to do.", "status", "errors"
    ),
    "rejects": Place("Look after rows that were refused.", "rejects"),
    "indexes": Place("Look after indexes that loads dropped.", "indexes"),
    "verify": Place("Say whether targets hold just what was read for them, and which rows differ.", "verify", "verify"),
    "report": Place("Write the report of a run, ended or under way, as one HTML file.", "report", "report"),
    "sql": Place("Print SQL for operators to run by hand.", "sql"),
    "aws": Place("Drive a deployed stack.", "aws"),
    "sandbox": Place(
        "Start a stand-in for Snowflake and a real PostgreSQL, and stay until stopped.", "sandbox", "sandbox"
    ),
}
"""In the order in which they are needed."""


class _Imported(Mapping[str, Any]):
    """The commands as Typer makes them, each made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        place = COMMANDS[name]
        found = getattr(import_module(f"snowmelt.cli.{place.module}"), place.attribute)
        holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
        return typer.main.get_group(holder).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Group(TyperGroup):
    """The whole command line, which knows its commands by the table."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Imported()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        """Return the names, in the table's order."""
        return list(COMMANDS)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write plain text: what draws Typer's frames also imports what renders Markdown, half of the 0.3 s allowed."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """Write each command's line, in full."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in COMMANDS.items()])
