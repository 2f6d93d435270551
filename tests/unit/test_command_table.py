"""The table of commands says what the commands say, and what has nothing to do is quick: it imports nothing heavy."""

import json
import subprocess
import sys
from typing import Any

import pytest
import typer.main

from snowmelt import __version__, cli
from snowmelt.cli.commands import COMMANDS

CLIENTS = ("boto3", "snowflake", "pyarrow", "psycopg2", "jinja2", "starlette")
SLOW = (*CLIENTS, "pydantic", "markdown_it", "pygments", "rich.progress")
"""Of the half second that these take, ``--help`` as a whole may take 0.3 s."""

CALLED = """
import contextlib, io, json, sys
from snowmelt import cli
printed = io.StringIO()
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["snowmelt", *arguments]
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.main()
json.dump({"printed": printed.getvalue(), "modules": sorted(sys.modules)}, sys.stdout)
"""


def called(*calls: tuple[str, ...]) -> tuple[str, set[str]]:
    """Return what the calls print, all in one fresh process, and what it has imported then."""
    done = subprocess.run([sys.executable, "-c", CALLED, json.dumps(calls)], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    return said["printed"], set(said["modules"])


def test_each_line_of_help_is_the_commands_own() -> None:
    made: Any = typer.main.get_command(cli.app)

    assert {name: " ".join(made.commands[name].help.split()) for name in COMMANDS} == {
        name: place.help for name, place in COMMANDS.items()
    }


def test_the_help_of_the_whole_names_every_command_with_its_line() -> None:
    printed, _ = called(("--help",))

    said = " ".join(printed.split())
    assert [name for name, place in COMMANDS.items() if f" {name} {place.help}" not in said] == []
    assert all(f" {option} " in said for option in ("--env-file", "--version", "--help"))


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("--env-file", "/dev/null", "--version"), ("migrat",)], ids=" ".join
)
def test_what_needs_no_command_imports_none(arguments: tuple[str, ...]) -> None:
    _, modules = called(arguments)

    commands = {f"snowmelt.cli.{place.module}" for place in COMMANDS.values()}
    assert modules & commands == set()
    slow = CLIENTS if arguments in (("migrat",), ("--env-file", "/dev/null", "--version")) else SLOW
    assert modules & set(slow) == set()


def test_the_version_is_that_of_the_package() -> None:
    assert called(("--version",))[0] == f"{__version__}\n"


def test_no_commands_help_imports_a_client() -> None:
    inner = [
        (name, each)
        for name in COMMANDS
        for each in getattr(typer.main.get_command(cli.app).commands[name], "commands", {})  # type: ignore[attr-defined]
    ]

    printed, modules = called(*((*command, "--help") for command in [(name,) for name in COMMANDS] + inner))

    assert "Usage: snowmelt rejects replay" in printed
    assert modules & set(CLIENTS) == set()
