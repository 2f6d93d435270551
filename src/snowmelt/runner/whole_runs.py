"""Whole runs within one invocation, for a function that no state machine drives.

The caller sends the same event until the answer is no longer ``partial``. What one event asks for may be the runs of
several sources; how far they have come is kept in the store, so that a source whose run is complete is not run again
by the invocation that goes on.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from snowmelt import actions, runner
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError, MissingError, OutOfTimeError, SnowmeltError
from snowmelt.manifest_store import Store
from snowmelt.models import MigrateEvent, MigrateResult, SourceOutcome, ValidateConfigEvent, ValidateConfigResult
from snowmelt.wiring import Wiring, with_buffer
from snowmelt.wording import NOTHING_TO_LOAD

ANSWERED = ("migrate", "validate_config", "test_connections", "test_postgres", "test_snowflake")
"""Actions whose result is also told as ``statusCode`` and ``body``, which callers of a lone function read."""
_SAME_SERIES_SECONDS = 3600.0
"""The same event within this time of a partial answer goes on; later it is a new request."""
_OK, _BAD_REQUEST, _FAILED = 200, 400, 500


def answer(event: Mapping[str, Any], wiring: Wiring, deadline: Deadline, *, request_id: str) -> dict[str, Any]:
    """Return the outcome of an event that no state machine sent, errors included, as ``statusCode`` and ``body``."""
    try:
        return _answer(actions.flattened(event), wiring, deadline, f"lambda:{request_id}")
    except SnowmeltError as error:
        code = _BAD_REQUEST if isinstance(error, ConfigError) else _FAILED
        return {"statusCode": code, "body": {"status": "failed", "error": error.code, "message": error.message}}


def is_asked_by(event: Mapping[str, Any]) -> bool:
    """Return whether nothing but the function itself answers the event: the state machine's name their execution."""
    return (event.get("action") or "migrate") in ANSWERED and "execution_id" not in event


def _answer(event: Mapping[str, Any], wiring: Wiring, deadline: Deadline, execution_id: str) -> dict[str, Any]:
    match event.get("action") or "migrate":
        case "migrate":
            parsed = actions.parse({"action": "migrate", **event})
            assert isinstance(parsed, MigrateEvent)  # noqa: S101 - the action says so
            done = migrate(parsed, wiring, deadline, execution_id=execution_id)
            code = _FAILED if done.status == "failed" else _OK
            return {"statusCode": code, "body": done.model_dump(mode="json")}
        case "validate_config":
            dry = {**event, "dry_run": True, "execution_id": execution_id}
            checked = _each_checked(dry, wiring, deadline)
            return {"statusCode": _OK, "body": {"status": "completed", "checks": checked}}
        case _:
            result = actions.run(event, wiring, deadline)
            status = "completed" if result["ok"] else "failed"
            body = {"status": status, "verdicts": result["verdicts"]}
            return {"statusCode": _OK if result["ok"] else _FAILED, "body": body, **result}


def _each_checked(event: Mapping[str, Any], wiring: Wiring, deadline: Deadline) -> list[dict[str, Any]]:
    """Check each source that the event names as a start would, and open no run."""
    asked = actions.parse(event)
    assert isinstance(asked, ValidateConfigEvent)  # noqa: S101 - the action says so
    sources, idle = wiring.config(asked.compatibility).sources_to_run(asked.source_name)
    return [
        *({"source_name": name, "message": NOTHING_TO_LOAD} for name in idle),
        *({"source_name": name, **actions.run({**event, "source_name": name}, wiring, deadline)} for name in sources),
    ]


def migrate(event: MigrateEvent, wiring: Wiring, deadline: Deadline, *, execution_id: str) -> MigrateResult:
    """Take the run of each source as far as the time allows, one after the other.

    A source whose run fails does not stop the others. ConfigError when the event or the config is not right.
    """
    config = wiring.config(event.compatibility)
    sources, idle = config.sources_to_run(event.source_name)
    kept = with_buffer(deadline, config.lambda_timeout_buffer_seconds, config.compatibility)
    actions.refuse_keys_of_one((*sources, *idle), event.resume_run_id, event.tables, asked_by="event")
    series = _Series(wiring.store, event)
    outcomes = [SourceOutcome(source_name=name, status="completed", message=NOTHING_TO_LOAD) for name in idle]
    for name in sources:
        if any(o.status == "partial" for o in outcomes) or (len(outcomes) > len(idle) and not kept.allows(0)):
            waits = "begins with the next invocation; send the same event again"
            outcomes.append(SourceOutcome(source_name=name, status="not_started", message=waits))
            continue
        outcome = series.ended(name) or _one(event, name, series, wiring, deadline, execution_id)
        series.note(outcome)
        outcomes.append(outcome)
    result = _together(outcomes)
    if result.status != "partial":
        series.close()
    return result


def _one(
    event: MigrateEvent, name: str, series: "_Series", wiring: Wiring, deadline: Deadline, execution_id: str
) -> SourceOutcome:
    start = event.model_dump(exclude={"action", "dry_run"}) | {"source_name": name}
    if begun := series.begun(name):
        start["no_resume"] = False  # what the first event of the series began is not begun once more
        if over := _ended(name, begun, wiring, execution_id):
            return over
    if event.dry_run:
        message, _ = runner.foresee(start, wiring, execution_id=execution_id)
        return SourceOutcome(source_name=name, status="dry_run", message=message)
    run_id: str | None = None

    def note_opened(run: ValidateConfigResult) -> None:
        nonlocal run_id
        run_id = run.run_id
        message = "the invocation ended before the run"
        series.note(SourceOutcome(source_name=name, status="partial", message=message, run_id=run_id))

    try:
        outcome = runner.migrate(start, wiring, execution_id=execution_id, on_run=note_opened, within=deadline)
    except OutOfTimeError as error:
        return SourceOutcome(source_name=name, status="partial", message=error.message, run_id=run_id)
    except SnowmeltError as error:
        return SourceOutcome(source_name=name, status="failed", message=error.message, run_id=run_id)
    return SourceOutcome.model_validate(
        {
            "source_name": name,
            "status": outcome.status,
            "message": outcome.message,
            "run_id": outcome.run_id,
            "warnings": outcome.warnings,
        }
    )


def _ended(name: str, run_id: str, wiring: Wiring, execution_id: str) -> SourceOutcome | None:
    """Return how the run ended when the invocation that ended it was killed before it could say so."""
    try:
        verdict = runner.ended(run_id, wiring, execution_id=execution_id)
    except SnowmeltError:  # the start that follows says what is wrong
        return None
    told = verdict and {"status": verdict.status, "message": verdict.message}
    return SourceOutcome.model_validate({"source_name": name, "run_id": run_id, **told}) if told else None


def _together(outcomes: list[SourceOutcome]) -> MigrateResult:
    if not {o.status for o in outcomes} & {"partial", "not_started"}:
        return actions.together(tuple(outcomes))
    said = "time is nearly over; send the same event again to go on"
    return MigrateResult.model_validate({"status": "partial", "message": said, "runs": outcomes})


class _Series:
    """What earlier invocations of the same event, sent again and again, have done."""

    def __init__(self, store: Store, event: MigrateEvent) -> None:
        self._store = store
        canonical = json.dumps(event.model_dump(mode="json"), sort_keys=True)
        self._key = f"series/{hashlib.sha256(canonical.encode()).hexdigest()}.json"
        self._before = self._load()

    def ended(self, source_name: str) -> SourceOutcome | None:
        """Return how the source's run ended within the series, None while it has not."""
        found = self._before.get(source_name)
        return None if found is None or found.status in ("partial", "not_started") else found

    def begun(self, source_name: str) -> str | None:
        """Return the run of the source that an earlier invocation of the series opened."""
        found = self._before.get(source_name)
        return found.run_id if found else None

    def note(self, outcome: SourceOutcome) -> None:
        """Remember how far a source is, also if this invocation is killed in the next moment."""
        if self._before.get(outcome.source_name) != outcome:
            self._before[outcome.source_name] = outcome
            self._keep()

    def close(self) -> None:
        """Have the same event be a new request from now on: every source has ended."""
        self._before.clear()
        self._keep()

    def _keep(self) -> None:
        told = [o.model_dump(mode="json") for o in self._before.values()]
        self._store.put(self._key, json.dumps({"at": time.time(), "runs": told}).encode())

    def _load(self) -> dict[str, SourceOutcome]:
        try:
            kept = json.loads(self._store.get(self._key))
        except MissingError:
            return {}
        if time.time() - kept["at"] > _SAME_SERIES_SECONDS:
            return {}
        runs = (SourceOutcome.model_validate(run) for run in kept["runs"])
        return {run.source_name: run for run in runs}
