"""Find the known key that an unknown one means: by its letters, and by which of the two servers its words name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

_SIDES = {
    **dict.fromkeys(("source", "snowflake", "sf", "src"), "source"),
    **dict.fromkeys(("target", "postgres", "postgresql", "pg", "destination", "dest", "sink"), "target"),
}
"""Words that name a server, in our keys and in those of other tools."""
_IN_FULL = {"db": "database", "tbl": "table", "col": "column", "cols": "columns", "pwd": "password"}
_OF_A_TABLE = frozenset({"table", "tables", "name", "table name"})
"""What adds nothing to ``source`` and ``target``."""
_CUTOFF = 0.6
"""Less alike than that is another word; difflib's own default."""


@dataclass(frozen=True)
class _Words:
    text: str
    sides: frozenset[str]
    rest: str


def nearest(key: str, known: Iterable[str], *, section: str = "") -> list[str]:
    """Return the known keys that the key most probably means: none, one, or several that are equally near.

    In a section that is named after a server, every key is one of that server.
    """
    wanted = _words(key.lower().replace("-", "_").replace(" ", "_"), _side)
    given = _words(section, _SIDES.get).sides
    scores = {name: _likeness(wanted, _words(name, _SIDES.get, given)) for name in known}
    best = max(scores.values(), default=0.0)
    return [name for name, score in scores.items() if score == best] if best >= _CUTOFF else []


def _likeness(wanted: _Words, known: _Words) -> float:
    letters, alike = _ratio(wanted.text, known.text), _ratio(wanted.rest, known.rest)
    if wanted.sides and known.sides and not wanted.sides & known.sides:
        return letters - 0.2  # a key of PostgreSQL is hardly one of Snowflake, however alike they are spelt
    if wanted.sides and known.sides and wanted.rest and not known.rest:
        # target_filter is not target, but target_table is
        return max(letters * 0.85, 0.85 * (wanted.rest in _OF_A_TABLE))
    if not wanted.rest or not known.rest:
        return max(letters, 0.85 * (wanted.rest == known.rest))
    if wanted.sides and wanted.sides == known.sides:
        return alike  # the letters of the server's name are alike anyway
    return max(letters, alike * 0.9)


def _words(key: str, side_of: Callable[[str], str | None], given: frozenset[str] = frozenset()) -> _Words:
    words = [_IN_FULL.get(word, word) for word in key.split("_") if word]
    sides = [side_of(word) for word in words]
    rest = " ".join(word for word, side in zip(words, sides, strict=True) if side is None)
    return _Words(key, given | {side for side in sides if side}, rest)


def _side(word: str) -> str | None:
    """Return the server that a word names, also one that is misspelt; short words are alike by chance."""
    close = get_close_matches(word, _SIDES, n=1, cutoff=0.85) if len(word) > 4 else []
    return _SIDES.get(close[0] if close else word)


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
