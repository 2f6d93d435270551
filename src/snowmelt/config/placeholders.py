"""``${NAME}`` in a string of the config becomes the environment's value.

``${NAME:-default}`` has a value for a variable that is unset or empty; ``$${`` is a plain ``${``.
"""

import re
from collections.abc import Mapping
from typing import Self

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-(?P<default>.*))?", re.DOTALL)


class FromEnvironment(str):
    """Text from the environment: it may stand for a number or a flag, and is never shown in an error."""

    variables: tuple[str, ...]

    def __new__(cls, text: str, *variables: str) -> Self:
        """Text, and the variables it was made of."""
        value = super().__new__(cls, text)
        value.variables = variables
        return value


class Unfilled(str):
    """Text whose placeholders could not be filled; nothing else can be said about it."""


def fill(text: str, environment: Mapping[str, str]) -> str:
    """The text with its placeholders filled in; ValueError names what cannot be filled.

    Text without placeholders comes back as a plain ``str``.
    """
    used: list[str] = []
    unset: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        inside = _INSIDE.fullmatch(match["inside"]) if match["end"] else None
        if inside is None:
            raise ValueError("holds a ${ that is no placeholder; write ${NAME}, or $${ for a plain ${")
        name = inside["name"]
        used.append(name)
        if inside["fallback"]:
            return environment.get(name) or inside["default"]
        if name not in environment:
            unset.append(name)
        return environment.get(name, "")

    filled = _PLACEHOLDER.sub(value, text)
    if unset:
        raise ValueError(f"{_listed(unset)} not set in the environment; set it, or write ${{NAME:-default}}")
    return FromEnvironment(filled, *used) if used else filled


def _listed(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return f"{distinct[0]} is" if len(distinct) == 1 else f"{' and '.join(distinct)} are"
