"""From the text of the config to the config, or to everything that is wrong with it at once."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from snowmelt.config import placeholders
from snowmelt.config.checks import contradictions
from snowmelt.config.compatibility import adapted, implied
from snowmelt.config.fallbacks import variable, with_fallbacks
from snowmelt.config.problems import Path, Problem, level, misfits, one_per_place, written
from snowmelt.config.shape import Config
from snowmelt.errors import ConfigError
from snowmelt.models import Compatibility
from snowmelt.wording import counted

_DEEPEST = 50
"""Far more than any config needs, and far less than the stack allows."""


def load(
    text: str, environment: Mapping[str, str], *, where: str, compatibility: Compatibility | None = None
) -> Config:
    """The config that a JSON text describes, completed from the environment.

    ``where`` names the text in errors, ``compatibility`` says whose files it is read as. All that is wrong comes in one
    ConfigError, a problem for each mistake.
    """
    document = _parsed(text, where)
    problems = list(_repeated_keys(document, where))
    unfilled: list[Problem] = []
    filled = _filled(document, (), _with_either_name(environment), unfilled)
    given = _without_blanks(filled, ())
    tree = with_fallbacks(adapted(given, implied(given, compatibility)), environment)
    config: Config | None = None
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems += misfits(error, tree)
    problems = one_per_place([*problems, *unfilled, *contradictions(tree)])
    if config is None or problems:
        raise ConfigError(f"{where} has {counted(len(problems), 'problem')}", map(str, problems))
    return config


def _with_either_name(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment with the key pair under both names that files of the predecessor give it."""
    names = ("SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_RSA_KEY")
    given = next((environment[name] for name in names if environment.get(name)), None)
    if given is None:
        return environment
    return {**environment, **{name: environment.get(name) or given for name in names}}


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys were given more than once."""

    repeated: tuple[str, ...] = ()

    @classmethod
    def of_pairs(cls, pairs: list[tuple[str, Any]]) -> "_Object":
        keys = [key for key, _ in pairs]
        read = cls(pairs)
        read.repeated = tuple(key for key in read if keys.count(key) > 1)
        return read


def _parsed(text: str, where: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON value")

    try:
        document = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_Object.of_pairs, parse_constant=refuse)
    except json.JSONDecodeError as error:  # its cause would carry the whole text, secrets too
        position = f"line {error.lineno} column {error.colno}"
        raise ConfigError(f"{where} is not JSON: {position}: {error.msg}; fix it there") from None
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deep to be read; no part of a config is") from None
    if not isinstance(document, _Object):
        raise ConfigError(f"{where} must be one JSON object with the keys snowflake, postgres and sources")
    document.pop("$schema", None)  # what editors read
    return document


def _places(value: Any, path: Path, where: str) -> Iterator[tuple[Path, Any]]:
    if len(path) > _DEEPEST:
        raise ConfigError(f"{where} is nested too deep at {written(path[:3])}; no part of a config is")
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from _places(item, (*path, step), where)


def _repeated_keys(document: dict[str, Any], where: str) -> Iterator[Problem]:
    for path, value in _places(document, (), where):
        if isinstance(value, _Object):
            for key in value.repeated:
                yield Problem((*path, key), "is given more than once; keep one")


def _filled(value: Any, path: Path, environment: Mapping[str, str], unfilled: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, (*path, key), environment, unfilled) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, (*path, step), environment, unfilled) for step, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    try:
        return placeholders.fill(value, environment)
    except ValueError as error:
        unfilled.append(Problem(path, str(error)))
        return placeholders.Unfilled(value)


def _without_blanks(value: Any, path: Path) -> Any:
    """The tree without keys that count as absent: null ones, and optional ones that are empty text."""
    if isinstance(value, list):
        return [_without_blanks(item, (*path, step)) for step, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    fields = {} if (model := level(path)) is None else model.model_fields
    blanks = {
        key
        for key, item in value.items()
        if key in fields
        and (item is None or (item == "" and (not fields[key].is_required() or variable((*path, key)))))
    }
    return {key: _without_blanks(item, (*path, key)) for key, item in value.items() if key not in blanks}
