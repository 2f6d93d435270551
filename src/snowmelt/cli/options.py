"""Options that several commands take, each said once."""

from typing import Annotated, Literal

import typer

from snowmelt.models import Compatibility

ConfigPath = Annotated[
    str, typer.Option("--config", "-c", help="Config file, or s3://bucket/key.", envvar="SNOWMELT_CONFIG")
]
SourceName = Annotated[
    str | None, typer.Option("--source", "-s", help="Source of the config; not needed when it has one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]

ShowValues = Annotated[
    bool,
    typer.Option("--show-values", help="Show values of rows, not fingerprints; for your own terminal."),
]

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None,
    typer.Option(
        "--log-level", help="What is logged; by default what a terminal or a pipe needs.", envvar="SNOWMELT_LOG_LEVEL"
    ),
]
LogFormat = Annotated[
    Literal["plain", "json"] | None,
    typer.Option(
        "--log-format", help="How log lines are written; by default as the result is.", envvar="SNOWMELT_LOG_FORMAT"
    ),
]

# --- what a start may say, here and on AWS ----------------------------------------------------------------------------

NoResume = Annotated[bool, typer.Option("--no-resume", help="Close an unfinished run and start fresh.")]
ResumeRunId = Annotated[str | None, typer.Option("--resume-run-id", help="Finish this run.")]
Tables = Annotated[str | None, typer.Option("--tables", help="Only these tables, separated by commas.")]
AllowShrink = Annotated[
    bool, typer.Option("--allow-shrink", help="Truncate targets even if the source has far fewer rows.")
]
AcceptRejected = Annotated[
    bool, typer.Option("--accept-rejected", help="Complete tables however many of their rows are refused.")
]
SkipFailingTables = Annotated[
    bool, typer.Option("--skip-failing-tables", help="Load the others where a check refuses a table; exit code 1 then.")
]
ResumeMaxAge = Annotated[
    str | None,
    typer.Option("--resume-max-age", help="Resume no run that began longer ago: 12h, 7d; the config's else."),
]
CompatibleWith = Annotated[
    Compatibility | None, typer.Option("--compatibility", help="Whose files the config is read as.")
]
ParallelSources = Annotated[
    int, typer.Option("--parallel-sources", min=1, help="So many sources at once, a process each, where none is named.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and touch nothing.")]

# --- which of what is there -------------------------------------------------------------------------------------------

RunId = Annotated[str | None, typer.Option("--run", help="This run, rather than the latest.")]
SourceTable = Annotated[str | None, typer.Option("--table", help="Only this source table.")]


def listed(names: str | None) -> list[str] | None:
    """The names that an option separates by commas; None when it was not given."""
    return None if names is None else [name.strip() for name in names.split(",")]
