"""``snowmelt aws``: drive a deployed stack."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from snowmelt.cli import console
from snowmelt.cli.options import (
    AcceptRejected,
    AllowShrink,
    AsJson,
    DryRun,
    NoResume,
    ResumeRunId,
    SkipFailingTables,
    Tables,
    listed,
)
from snowmelt.cli.shared import EXIT_FAILED
from snowmelt.errors import ConfigError

if TYPE_CHECKING:
    from snowmelt.aws.stack import RemoteExecution, RemoteStack

app = typer.Typer(help="Drive a deployed stack.", no_args_is_help=True)

StackName = Annotated[str, typer.Option("--stack", help="Name of the CloudFormation stack.", envvar="SNOWMELT_STACK")]
Region = Annotated[str | None, typer.Option("--region", help="Unless it is the one of your AWS profile.")]
ExecutionArn = Annotated[str | None, typer.Argument(help="An execution's ARN; the latest unless given.")]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@app.command()
def start(
    stack: StackName = "snowmelt",
    region: Region = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", "-s", help="Sources of the config, commas between; all that are enabled unless given."
        ),
    ] = None,
    no_resume: NoResume = False,
    resume_run_id: ResumeRunId = None,
    tables: Tables = None,
    allow_shrink: AllowShrink = False,
    accept_rejected: AcceptRejected = False,
    skip_failing_tables: SkipFailingTables = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Start an execution; an unfinished run of the source is resumed."""
    arn = _found(stack, region).start(
        {
            "source_name": source,
            "no_resume": no_resume,
            "resume_run_id": resume_run_id,
            "tables": listed(tables) if tables else None,
            "allow_shrink": allow_shrink,
            "accept_rejected": accept_rejected,
            "skip_failing_tables": skip_failing_tables,
            "dry_run": dry_run,
        }
    )
    if as_json:
        console.show_json({"execution": arn})
    else:
        console.out.print(arn)


@app.command()
def status(
    execution: ExecutionArn = None,
    stack: StackName = "snowmelt",
    region: Region = None,
    latest: Annotated[
        int | None, typer.Option("--latest", min=1, max=1000, help="A line for each of so many instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See how an execution is; exit code 1 when it has ended badly."""
    deployed = _found(stack, region)
    if latest:
        found = deployed.executions(latest)
        if as_json:
            console.show_json({"executions": [each.model_dump(mode="json") for each in found]})
        else:
            for each in found:
                console.out.print(_line(each))
        return
    one = deployed.execution(execution)
    _show(one, as_json=as_json)
    if one.status not in ("RUNNING", "SUCCEEDED"):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def stop(
    execution: ExecutionArn = None, stack: StackName = "snowmelt", region: Region = None, as_json: AsJson = False
) -> None:
    """Stop an execution; what is loaded stays, and a new start resumes the run."""
    _show(_found(stack, region).stop(execution), as_json=as_json)


@app.command()
def logs(
    stack: StackName = "snowmelt",
    region: Region = None,
    since: Annotated[str, typer.Option("--since", help="How far back, such as 30m, 4h or 2d.")] = "1h",
    run_id: Annotated[str | None, typer.Option("--run", help="Only lines of this run.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only errors.")] = False,
) -> None:
    """Print the function's log lines, one JSON object each."""
    conditions = [f'($.run_id = "{run_id}")'] if run_id else []
    conditions += ['($.level = "ERROR")'] if errors else []
    pattern = f"{{ {' && '.join(conditions)} }}" if conditions else None
    for line in _found(stack, region).logs(since=_moment(since), pattern=pattern):
        console.out.print(line)


def _found(stack: str, region: str | None) -> RemoteStack:
    from snowmelt.aws.stack import RemoteStack

    return RemoteStack.find(stack, region)


def _moment(ago: str) -> datetime:
    match = re.fullmatch(r"(\d{1,6})([smhd])", ago)
    if match is None:
        raise ConfigError(f"--since {ago}: write a number and s, m, h or d, such as 30m")
    return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})


def _show(execution: RemoteExecution, *, as_json: bool) -> None:
    if as_json:
        console.show_json(execution.model_dump(mode="json"))
        return
    console.out.print(_line(execution))
    for each in execution.rounds:
        console.out.print(
            f"  round {each.status}: {each.succeeded} of {each.total} work items done, {each.running} at work "
            f"(at most {each.max_concurrency}), {each.pending} waiting, {each.failed} failed and planned again"
        )
    if execution.error or execution.cause:
        console.out.print(f"  {execution.error}: {execution.cause}")
    if execution.message:
        console.out.print(f"  {execution.message}")


def _line(execution: RemoteExecution) -> str:
    ended = f" to {execution.stopped_at:%Y-%m-%d %H:%M:%S}" if execution.stopped_at else ""
    return f"{execution.status}  {execution.started_at:%Y-%m-%d %H:%M:%S}{ended}  {execution.arn}"
