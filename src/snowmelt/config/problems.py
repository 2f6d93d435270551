"""What is wrong with a config: exactly where, and what to do about it. Values of secrets are never shown."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from snowmelt.config.fallbacks import variable
from snowmelt.config.near_keys import nearest
from snowmelt.config.placeholders import FromEnvironment, Unfilled
from snowmelt.config.shape import Config, PostgresConfig, SnowflakeConfig, SourceConfig, TableConfig

Path = tuple[str | int, ...]

LEVELS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Config,
    ("snowflake",): SnowflakeConfig,
    ("postgres",): PostgresConfig,
    ("sources", "[]"): SourceConfig,
    ("sources", "[]", "tables", "[]"): TableConfig,
}
"""The config's objects by where they are."""

_PLACES: Mapping[type[BaseModel], str] = {
    Config: "at the top level",
    SnowflakeConfig: "in snowflake",
    PostgresConfig: "in postgres",
    SourceConfig: "in a source",
    TableConfig: "in a table",
}


@dataclass(frozen=True)
class Problem:
    """One thing to fix."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{written(self.path)}: {self.text}" if self.path else self.text


def written(path: Path) -> str:
    """The path as people write it: ``sources[0].tables[3].chunking_columns``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isidentifier():
            text += f".{step}"
        else:
            text += f"[{json.dumps(step)}]"
    return text.removeprefix(".")


def level(path: Path) -> type[BaseModel] | None:
    """What kind of object the config has there."""
    return LEVELS.get(tuple("[]" if isinstance(step, int) else step for step in path))


def one_per_place(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of their paths, without those that follow from an earlier one.

    A later problem with a value of which a part, or the whole, is wrong already says nothing new.
    """
    kept: list[Problem] = []
    for problem in problems:
        depth = len(problem.path)
        if not any(earlier.path[:depth] == problem.path for earlier in kept):
            kept.append(problem)
    return sorted(kept, key=_position)


def _position(problem: Problem) -> list[tuple[int, str]]:
    return [(step, "") if isinstance(step, int) else (0, step) for step in problem.path]


def misfits(error: ValidationError, tree: Any) -> Iterator[Problem]:
    """What pydantic found, in our words. A key that is misspelt is not missing as well."""
    details = error.errors(include_url=False)
    unknown = [each["loc"] for each in details if each["type"] == "extra_forbidden"]
    meant = {(*path[:-1], keys[0]) for path in unknown if len(keys := meant_by(path)) == 1}
    yield from (Problem(path, _unknown(path)) for path in unknown)
    for each in details:
        if each["type"] in _SAID_ELSEWHERE:
            continue
        path, value = each["loc"], _value_at(each["loc"], tree)
        follows_from_items = each["type"] == "too_short" and bool(value)
        misspelt = each["type"] == "missing" and any(path[:depth] in meant for depth in range(1, len(path) + 1))
        if not (follows_from_items or misspelt or isinstance(value, Unfilled)):
            yield Problem(path, _wording(each, value))


def meant_by(path: Path) -> list[str]:
    """Return the known keys that are most like the one at the path: itself, or what a misspelt one probably means."""
    model = level(path[:-1])
    section = str(path[0]) if len(path) > 1 else ""
    return nearest(str(path[-1]), model.model_fields, section=section) if model else []


def _unknown(path: Path) -> str:
    key, meant = path[-1], meant_by(path)
    places = [place for model, place in _PLACES.items() if key in model.model_fields]
    hints = [f"did you mean {' or '.join(meant)}?"] if meant else []
    hints += [f"{key} belongs {' or '.join(places)}"] if places else []
    return "; ".join(("unknown key", *(hints or ["remove it"])))


_EXPECTED: Mapping[str, str] = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "time_delta_type": 'must be a duration such as "7d", "12h" or a number of seconds',
    "time_delta_parsing": 'must be a duration such as "7d", "12h" or a number of seconds',
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
}
"""Kinds of pydantic's errors that show the value they found."""

_SAID_ELSEWHERE = {"extra_forbidden", "default_factory_not_called"}
"""Unknown keys, which come first, and defaults that wait for a value that is wrong itself."""

_KINDS: Mapping[type, str] = {dict: "an object", list: "a list", str: "a string"}

_OPEN_NUMBERS = frozenset({"port", "statement_timeout_seconds"})
"""Keys of connections whose numbers are shown."""

_SHOWN_WHOLE = {"literal_error", "time_delta_parsing"}
"""Those where a string is a word of ours that is misspelt, not a text of the user's."""


def _wording(error: ErrorDetails, value: Any) -> str:
    kind, path, context = error["type"], error["loc"], error.get("ctx", {})
    if kind == "missing":
        name = variable(path)
        return f"is missing; add it, or set {name} in the environment" if name else "is missing; add it"
    if kind in {"too_short", "string_too_short"}:
        text = "must not be empty"
    elif kind == "value_error":
        text = str(context["error"])
    elif kind in _EXPECTED:
        text = _EXPECTED[kind].format(**context) + _found(path, value, whole=kind in _SHOWN_WHOLE)
    else:
        text = error["msg"].replace("Input should be", "must be")
    return f"{text}{_origin(value)}"


def _found(path: Path, value: Any, *, whole: bool) -> str:
    if isinstance(value, FromEnvironment):
        return ""
    # Whatever stands in a section of a connection may be a secret that got into the wrong place.
    is_connection = path[0] in ("snowflake", "postgres")
    is_short = isinstance(value, str) and whole and len(value) <= 40 and not is_connection
    is_open = value is None or (isinstance(value, int | float) and (not is_connection or path[-1] in _OPEN_NUMBERS))
    kind = _KINDS.get(type(value), "a number")
    return f", not {json.dumps(value) if is_short or is_open else kind}"


def _origin(value: Any) -> str:
    if not isinstance(value, FromEnvironment):
        return ""
    return f"; its value comes from {' and '.join(dict.fromkeys(value.variables))}"


def _value_at(path: Path, tree: Any) -> Any:
    for step in path:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree
