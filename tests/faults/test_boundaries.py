"""Killed before or after any statement that changes something, in every mode, a migration is ended right by the next.

Every message to PostgreSQL that changes something is a point: the process dies before it leaves, or when the server
has answered it. ``acceptance.test_every_statement`` does the same inside the process, over tables of three modes in one
run; here the wire counts the messages, and each mode has a run of its own.
"""

from collections.abc import Sequence

import pytest

from fault_injection.kinds import CHANGES, Case, Driver, Kind, Strike
from fault_injection.lane import Lane
from fault_injection.modes import MODES, Mode
from fault_injection.traps import Moment, Way
from fault_injection.trial import Result

MOST = 10_000
COMMAND: Driver = "command"


def killed(lane: Lane, mode: Mode, nth: int, way: Way) -> Result:
    """A migration whose process is killed at that message, and resumed."""
    kind = Kind("the worker is killed", ((CHANGES, nth),), (way,), effect="kill_worker")
    strike = Strike(kind, Moment("postgres", CHANGES, nth), way, 0.0, "", "")
    return lane.run(Case(nth, mode, COMMAND, (strike,)))


def messages(lane: Lane, mode: Mode) -> int:
    """How many messages that change something a migration of that mode sends, undisturbed."""
    result = killed(lane, mode, MOST, "instead")
    assert (result.outcome, result.is_right) == ("not_reached", True), result
    return result.met


def wrong(results: Sequence[Result]) -> list[str]:
    return [f"{r.case}, {r.struck}: {r}" for r in results if not r.is_right or r.outcome not in ("unharmed", "resumed")]


def test_killed_at_a_few_statements_a_migration_ends_exact(narrow_lane: Lane) -> None:
    (mode,) = (mode for mode in MODES if mode.name == "merged_reindexed")
    count = messages(narrow_lane, mode)
    points: list[tuple[int, Way]] = [(count // 2, "instead"), (count - 8, "after"), (count - 4, "instead")]
    assert wrong([killed(narrow_lane, mode, nth, way) for nth, way in points]) == []


def killed_everywhere(lane: Lane, mode: Mode, way: Way) -> list[Result]:
    """Killed at the first message, the second, and so on, until there is none of that number.

    While indexes are built, a message more or less is sent from one run to the next: a number counts as too high only
    when three runs did not come to it.
    """
    results: list[Result] = []
    while True:
        tries = (killed(lane, mode, len(results) + 1, way) for _ in range(3))
        reached = next((result for result in tries if result.outcome != "not_reached"), None)
        if reached is None:
            return results
        results.append(reached)


@pytest.mark.full
@pytest.mark.parametrize("way", ["instead", "after"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_killed_at_any_statement_a_migration_ends_exact(narrow_lane: Lane, mode: Mode, way: Way) -> None:
    results = killed_everywhere(narrow_lane, mode, way)
    print(f"{mode.name}: {len(results)} points {way}")  # noqa: T201 - shown by pytest -rP
    assert len(results) >= messages(narrow_lane, mode) - 2
    assert wrong(results) == []
