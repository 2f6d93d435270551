"""Say which source an execution runs next: one after another, a run each, whatever becomes of those before."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from snowmelt.actions.nested_events import flattened
from snowmelt.errors import ConfigError
from snowmelt.models import MigrateResult, NextSourceEvent, NextSourceResult, SourceOutcome
from snowmelt.wiring import Wiring
from snowmelt.wording import NOTHING_TO_LOAD, counted

_LONGEST_MESSAGE = 1000
"""Of each source: an execution may carry 256 KiB."""


def next_source(event: NextSourceEvent, wiring: Wiring) -> NextSourceResult:
    """Return the start of the next source's run, or the result of all of them.

    ConfigError for an input that names no source of the config, or keys that belong to one source for several.
    """
    given = {key: value for key, value in flattened(event.given).items() if key not in ("action", "execution_id")}
    if event.left is None:
        left, idle = _sources(given, wiring)
        done = tuple(SourceOutcome(source_name=s, status="completed", message=NOTHING_TO_LOAD) for s in idle)
    else:
        done, left = (*event.done, _outcome(given, event.outcome or {})), event.left
    sources = "several" if len(done) + len(left) > 1 else "one"
    if left:
        start = {**given, "source_name": left[0]}
        return NextSourceResult(next="source", sources=sources, start=start, done=done, left=left[1:])
    result = together(done)
    return NextSourceResult.model_validate(
        {"next": result.status, "sources": sources, "done": done, "message": result.message, "result": result}
    )


def together(outcomes: tuple[SourceOutcome, ...]) -> MigrateResult:
    """Return what the runs of several sources come to; the message names those that failed, and why."""
    failed = [f"source {each.source_name}: {each.message}" for each in outcomes if each.status == "failed"]
    message = f"{counted(len(outcomes), 'source')} completed"
    if failed and len(outcomes) == 1:
        message = outcomes[0].message
    elif failed:
        message = f"{len(failed)} of {counted(len(outcomes), 'source')} failed: {'; '.join(failed)}"
    status = "failed" if failed else "completed"
    return MigrateResult.model_validate({"status": status, "message": message, "runs": outcomes})


def _sources(given: Mapping[str, Any], wiring: Wiring) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sources to run, and those that have nothing to load."""
    named, compatibility = given.get("source_name"), given.get("compatibility")
    if not isinstance(named, str | None):
        raise ConfigError(f'source_name is {json.dumps(named)[:100]}; name a source of the config, or several as "a,b"')
    config = wiring.config("predecessor" if compatibility == "predecessor" else None)
    to_run, idle = config.sources_to_run(named)
    refuse_keys_of_one((*to_run, *idle), given.get("resume_run_id"), given.get("tables"), asked_by="input")
    return to_run, idle


def refuse_keys_of_one(names: Sequence[str], resume_run_id: object, tables: object, *, asked_by: str) -> None:
    """Raise ConfigError where a start of several sources names a run, or tables, which one of them has."""
    if len(names) > 1 and (resume_run_id or tables):
        raise ConfigError(
            f"resume_run_id and tables belong to one source, and the {asked_by} asks for {', '.join(names)}; name one"
        )


def _outcome(given: Mapping[str, Any], came: Mapping[str, Any]) -> SourceOutcome:
    """Return how the source's run has ended: its verdict, what a dry run says, or the error that ended it."""
    told = came.get("verdict") or came.get("run") or {"status": "failed", "message": _said(came.get("failure") or {})}
    return SourceOutcome.model_validate(
        {
            "source_name": given["source_name"],
            "status": told.get("status", "dry_run"),
            "message": str(told["message"])[:_LONGEST_MESSAGE],
            "run_id": came.get("run_id"),
        }
    )


def _said(failure: Mapping[str, Any]) -> str:
    """Return the line for people in the error of a Task: that of the function, or what AWS says."""
    name, cause = failure.get("Error", "an unknown error"), str(failure.get("Cause", ""))
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return f"{name}: {cause}" if cause else f"{name}, for which AWS gave no cause; see the function's log"
