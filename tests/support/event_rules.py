"""EventBridge's input transformer, as its guide describes it, and as strict as it is at its worst.

A value of the event is put in as JSON where the template has no quotes around its name, and as it is, unescaped, within
quotes. Without JSON as the result, and where nothing of the event is at a path, nothing is sent: Undelivered.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_STRINGS_AND_NAMES = re.compile(r'"(?:[^"\\]|\\.)*"|<([\w.-]+)>')
_NAME = re.compile(r"<([\w.-]+)>")


class Undelivered(Exception):  # noqa: N818 - a state of a message
    """What was to be sent is no JSON, or has a hole."""


def transformed(transformer: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """Return what the target of a rule is sent for an event."""
    values = {name: _at(path, event) for name, path in transformer["InputPathsMap"].items()}

    def as_json(name: str) -> str:
        if values[name] is None:
            raise Undelivered(f"nothing is at {transformer['InputPathsMap'][name]}")
        return json.dumps(values[name])

    def within_quotes(name: str) -> str:
        value = values[name]
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    def put(found: re.Match[str]) -> str:
        return as_json(found[1]) if found[1] else _NAME.sub(lambda name: within_quotes(name[1]), found[0])

    template = str(transformer["InputTemplate"])
    # A template that is no object is a list of texts, one a line.
    pieces = [template] if template.startswith("{") else template.splitlines()
    sent = [_STRINGS_AND_NAMES.sub(put, piece) for piece in pieces]
    for piece in sent:
        try:
            json.loads(piece)
        except ValueError as error:
            raise Undelivered(f"{piece}: {error}") from error
    return "\n".join(sent)


def _at(path: str, event: Mapping[str, Any]) -> Any:
    value: Any = event
    for step in path.removeprefix("$.").split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
