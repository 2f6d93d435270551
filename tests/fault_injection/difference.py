"""How a target differs from what it should hold, row by row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Row = tuple[Any, ...]
"""A row whose first value is its key."""


@dataclass(frozen=True)
class Difference:
    """Rows that are missing, rows that are there once too often, and rows that are there with other values."""

    lost: int = 0
    doubled: int = 0
    changed: int = 0

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.changed)


def difference(expected: Iterable[Row], found: Iterable[Row]) -> Difference:
    """Both sides as bags of rows. A key that is there as often as it should, but not as it should, has changed; rows
    that nobody expected count as doubled."""
    wanted, there = Counter(expected), Counter(found)
    missing, extra = wanted - there, there - wanted
    keys_missing = Counter(row[0] for row in missing.elements())
    keys_extra = Counter(row[0] for row in extra.elements())
    changed = keys_missing & keys_extra
    return Difference(
        lost=(keys_missing - changed).total(),
        doubled=(keys_extra - changed).total(),
        changed=changed.total(),
    )
