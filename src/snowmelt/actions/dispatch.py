"""From an event to the action it names."""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError

from snowmelt.actions.finalize import finalize
from snowmelt.actions.nested_events import flattened
from snowmelt.actions.next_source import next_source
from snowmelt.actions.plan_chunks import plan_chunks
from snowmelt.actions.process_chunk import process_chunk
from snowmelt.actions.test_connections import test_connections
from snowmelt.actions.validate_config import validate_config
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError
from snowmelt.models import (
    Event,
    FinalizeEvent,
    MigrateEvent,
    NextSourceEvent,
    PlanChunksEvent,
    ProcessChunkEvent,
    ValidateConfigEvent,
    Value,
)
from snowmelt.wiring import Wiring

ACTIONS = ("validate_config", "plan_chunks", "process_chunk", "finalize", "test_connections")
_KNOWN = (*ACTIONS, "next_source", "migrate", "test_postgres", "test_snowflake")
_DEEPEST = 20
"""Far more than any event needs, and far less than the stack allows."""
_EVENTS: TypeAdapter[Event] = TypeAdapter(Event)


def run(event: Mapping[str, Any], wiring: Wiring, deadline: Deadline) -> dict[str, Any]:
    """The result of the action, as plain JSON. SnowmeltError when it cannot be had."""
    return _result(parse(event), wiring, deadline).model_dump(mode="json")


def parse(event: Mapping[str, Any]) -> Event:
    """The event as a value; ConfigError names every field that is wrong."""
    if not isinstance(event, Mapping):
        raise ConfigError(f"the event is not a JSON object, but {_shown(event)}")
    _refuse_deep(event)
    # Callers of StartExecution write null for what they leave out.
    given = flattened(event)
    action = given.get("action")
    if action not in _KNOWN:
        raise ConfigError(
            f"event.action is {_shown(action)}{_suggestion(str(action))}; it must be one of {', '.join(_KNOWN)}"
        )
    try:
        return _EVENTS.validate_python(given)
    except ValidationError as error:
        problems = [_problem(str(action), details) for details in error.errors(include_url=False, include_input=False)]
    raise ConfigError(f"the event of {action} is not right", problems)


def _result(event: Event, wiring: Wiring, deadline: Deadline) -> Value:
    match event:
        case ValidateConfigEvent():
            return validate_config(event, wiring, deadline)
        case PlanChunksEvent():
            return plan_chunks(event, wiring, deadline)
        case ProcessChunkEvent():
            return process_chunk(event, wiring, deadline)
        case FinalizeEvent():
            return finalize(event, wiring, deadline)
        case NextSourceEvent():
            return next_source(event, wiring)
        case MigrateEvent():
            raise ConfigError("migrate takes a whole run: only the function itself is asked for it, not its actions")
        case _:
            return test_connections(event, wiring)


def _refuse_deep(event: Mapping[str, Any]) -> None:
    """Raise ConfigError for an event that is nested deeper than any is: whoever went down it might not come back."""
    for key, value in event.items():
        level = [value]
        for _ in range(_DEEPEST):
            level = [part for each in level for part in _parts(each)]
        if level:
            raise ConfigError(f"event.{str(key)[:100]} is nested too deep; no part of an event is")


def _shown(value: object) -> str:
    try:
        return json.dumps(value)[:100]
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deep"


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _problem(action: str, details: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in details["loc"] if part != action)
    if details["type"] == "extra_forbidden":
        return f"event.{path}: there is no such field; remove it or fix its name"
    if details["type"] == "missing":
        return f"event.{path}: it is missing"
    if details["type"] == "string_pattern_mismatch":
        return f"event.{path}: it is no id; that of a run has letters, digits, - and _ alone"
    return f"event.{path}: {details['msg']}"


def _suggestion(action: str) -> str:
    close = get_close_matches(action, _KNOWN, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
