"""``snowmelt selftest``: what Snowmelt relies on, shown on an account of one's own."""

from __future__ import annotations

import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from snowmelt import private_files, settings
from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, LogFormat, LogLevel, SourceName
from snowmelt.cli.shared import EXIT_FAILED, EXIT_UNFINISHED, wired
from snowmelt.errors import ConfigError

if TYPE_CHECKING:
    from snowmelt.selftest.assumption import Result
    from snowmelt.selftest.report import Report

Region = Annotated[str | None, typer.Option("--region", help="Of the stack, unless it is the one of your AWS profile.")]
_COLOURS = {"pass": "green", "fail": "red", "skipped": "yellow"}


def selftest(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before anything is made.")] = False,
    snowflake_database: Annotated[
        str | None, typer.Option(help="Database in which a schema is made; that of the source unless given. Exact.")
    ] = None,
    snowflake_schema: Annotated[
        str | None, typer.Option(help="Schema in which tables are made, rather than one of its own. Exact.")
    ] = None,
    postgres_database: Annotated[
        str | None, typer.Option(help="Database in which schemas are made; that of the source unless given. Exact.")
    ] = None,
    postgres_schema: Annotated[
        str | None, typer.Option(help="Schema in which tables are made, rather than one of its own. Exact.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="Role in Snowflake, rather than that of the config.")] = None,
    stack: Annotated[
        str | None, typer.Option("--stack", help="Move the tables by this deployed stack too.", envvar="SNOWMELT_STACK")
    ] = None,
    region: Region = None,
    report: Annotated[
        Path, typer.Option("--report", help="File that the results are written to, for a bug report.", dir_okay=False)
    ] = Path("selftest.json"),
    as_json: AsJson = False,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Show on your own account that what Snowmelt relies on is so; drops what it makes."""
    from snowmelt.aws.stack import RemoteStack
    from snowmelt.selftest import connections, runner
    from snowmelt.selftest import stack as stacks
    from snowmelt.selftest.connections import OwnSource, Request

    console.set_up_logging(log_level or "ERROR", as_json=as_json, log_format=log_format)
    given = wired(config_path)
    request = Request(source, snowflake_database, snowflake_schema, postgres_database, postgres_schema, role)
    places = connections.places(given, config_path, request, secrets.token_hex(4))
    needs = ("tables-are-moved",)
    by_stack = [stacks.step(RemoteStack.find(stack, region), places.postgres_database, needs)] if stack else []
    _write(report, b"")  # before minutes are spent on what could then not be told
    with tempfile.TemporaryDirectory(prefix="snowmelt-selftest-") as store:
        own = OwnSource(
            settings.load(config=config_path).model_copy(update={"store": store}),
            settings.environment(),
            places,
            role=role,
        )
        config = own.config()
        for line in runner.intention(places, user=config.snowflake.user, host=config.postgres.host):
            console.err.print(f"- {line}")
        _ask(yes)
        console.err.print("Ctrl-C stops it when the check that is on has ended, and drops what was made")
        found = runner.run(own, places, lambda result: _show(result, as_json=as_json), by_stack)
    _write(report, found.as_json().encode())
    _show_end(found, report, as_json=as_json)
    if found.stopped:
        raise typer.Exit(EXIT_UNFINISHED)
    if found.summary["failed"] or found.left_behind:
        raise typer.Exit(EXIT_FAILED)


def _write(report: Path, content: bytes) -> None:
    try:
        private_files.write(report, content)
    except OSError as error:
        raise ConfigError(f"--report {report} cannot be written: {error.strerror}; name another file") from error


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("selftest asks before it makes anything, and there is no terminal to ask at; add --yes")
    if not typer.confirm("Go on?", err=True):
        raise typer.Exit(EXIT_UNFINISHED)


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        line = {"check": result.id, "verdict": result.verdict, "seconds": round(result.seconds, 2)}
        console.show_json(line | ({"reason": result.reason} if result.reason else {}))
        return
    reason = f": {console.text_of(result.reason)}" if result.reason else f" ({result.seconds:.1f} s)"
    console.out.print(Text.assemble((f"{result.verdict:8}", _COLOURS[result.verdict]), f"{result.id}{reason}"))


def _show_end(found: Report, report: Path, *, as_json: bool) -> None:
    for statement in found.left_behind:
        console.show_note(f"still there; run: {statement}")
    console.show_note(f"{'stopped; what was made is dropped. ' if found.stopped else ''}results: {report.absolute()}")
    if as_json:
        console.show_json(found.summary)
        return
    counted = found.summary
    console.out.print(
        f"{counted['passed']} passed, {counted['failed']} failed, {counted['skipped']} skipped, {found.seconds:.0f} s"
    )
