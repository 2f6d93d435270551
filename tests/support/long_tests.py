"""Which of the long tests a commit runs, and how long they may take."""

import time
import zlib
from collections.abc import Sequence

import pytest

PARTS = 5
USUAL_MINUTES = 3.0
"""How long a long test takes on two busy cores, unless its mark says more: ``@pytest.mark.full(minutes=15)``."""


def part_of(test_id: str) -> int:
    """The part that the test is in, the same on every machine; 0 is the first."""
    return zlib.crc32(test_id.encode()) % PARTS


def part_of_commit(commit: str) -> int:
    """The part that falls to the commit."""
    return zlib.crc32(commit.encode()) % PARTS


def minutes_of(item: pytest.Item) -> float:
    """How long the test may take."""
    mark = item.get_closest_marker("full")
    return float(mark.kwargs.get("minutes", USUAL_MINUTES)) if mark else 0.0


def chosen(items: Sequence[pytest.Item], commit: str) -> list[pytest.Item]:
    """The long tests that fall to the commit, the longest first: one that is begun late might not end in time."""
    part = part_of_commit(commit)
    mine = [item for item in items if item.get_closest_marker("full") and part_of(item.nodeid) == part]
    return sorted(mine, key=minutes_of, reverse=True)


def skip_if_late(item: pytest.Item, until: float) -> None:
    """Skip the test where it could not end by that moment, in seconds since 1970."""
    left = (until - time.time()) / 60
    if minutes_of(item) > left:
        pytest.skip(f"{max(0.0, left):.0f} minutes are left for long tests, and it may take {minutes_of(item):g}")
