"""A run that is on moves, waits or stands still; the sentence says what to do."""

from typing import Any

import pytest

from snowmelt.monitoring.health import Vitals, judge

ALIVE: dict[str, Any] = {
    "driver": "local:host:1",
    "driver_is_alive": True,
    "driver_seen_seconds": 3.0,
    "pending": 4,
    "loading": 0,
    "lost": 0,
    "oldest_load_seconds": None,
    "last_step_seconds": 12.0,
    "scanning": 0,
}


@pytest.mark.parametrize(
    ("found", "state", "says"),
    [
        ({}, "moves", "between two rounds, 4 chunks to come; the last step was 12 s ago"),
        ({"loading": 2, "oldest_load_seconds": 340.0}, "moves", "2 chunks being loaded, the oldest for 6 min"),
        ({"loading": 1, "blocked_by": ("process 7 (psql)",)}, "waits", "lock that is held by process 7 (psql)"),
        ({"scanning": 1, "pending": 0}, "waits", "Snowflake scans 1 table;"),
        ({"lost": 3}, "waits", "3 chunks have lost their worker"),
        ({"last_step_seconds": 8000.0}, "stands still", "the last step was 2.2 h ago and no worker is at work on 4"),
        (
            {"driver_is_alive": False, "loading": 1, "driver_seen_seconds": 1000.0},
            "stands still",
            "nobody drives it: local:host:1 is gone, last seen 17 min ago; start again",
        ),
    ],
)
def test_what_is_found_comes_to_a_judgement(found: dict[str, Any], state: str, says: str) -> None:
    pulse = judge(Vitals.model_validate(ALIVE | found))
    assert pulse.state == state
    assert says in pulse.says
