"""What the workflow does after a plan, and when it is time to give up."""

from dataclasses import dataclass

from snowmelt.errors import StalledError
from snowmelt.wording import WITH_NO_RESUME

LONGEST_WAIT_SECONDS = 300
MOST_STALLED_ROUNDS = 2
MOST_ROUNDS = 1_200
"""Rounds of one execution. Each leaves about fifteen events in its history, which may hold 25,000."""
ROUNDS_BEFORE_PAUSES = 100


@dataclass(frozen=True)
class Outlook:
    """What a plan found.

    ``progress_mark`` grows with every claim, completion, failure and split; ``lease_seconds`` is how long the
    first of the living leases lasts, None when none is out.
    """

    claimable: int
    running: int
    scanning: int
    progress_mark: int
    lease_seconds: float | None = None


@dataclass(frozen=True)
class Before:
    """What the plan before this one left in the run's row."""

    progress_mark: int
    stalled_rounds: int
    waits: int
    round_number: int = -1
    """Its own; -1 when this execution has planned none."""
    last_error: str | None = None
    """What a worker last complained of."""


@dataclass(frozen=True)
class Step:
    """What comes next, and what the run's row remembers of it."""

    next: str
    wait_seconds: int
    reason: str
    stalled_rounds: int
    waits: int


def decide(run_id: str, round_number: int, before: Before, found: Outlook) -> Step:
    """The next step of the run, or StalledError when it no longer moves.

    A round counts as stalled when it had something to claim and nothing moved since the last plan; waiting for
    Snowflake or for living workers is no stall. A round that is planned once more, as when the answer to its plan was
    lost, counts once.
    """
    if round_number >= MOST_ROUNDS:
        raise StalledError(
            f"run {run_id}: this execution ends in order after {round_number} rounds, before its history is full; "
            "start it again and the run resumes where it stands"
        )
    moved = found.progress_mark != before.progress_mark
    if found.claimable:
        stalled = 0 if moved else before.stalled_rounds + (round_number != before.round_number)
        if stalled >= MOST_STALLED_ROUNDS:
            cause = before.last_error or "look at the workers' log (time-out, memory, throttling, network)"
            raise StalledError(
                f"run {run_id}: {found.claimable} chunks are ready, but {stalled} rounds in a row loaded none of them: "
                f"{with_advice(cause)}"
            )
        # Rounds of many small steps slow down, so that the execution's history lasts.
        pause = min(LONGEST_WAIT_SECONDS, max(0, round_number - ROUNDS_BEFORE_PAUSES))
        return Step("process", pause, f"{found.claimable} chunks are ready", stalled, 0)
    if found.scanning or found.running:
        waits = 0 if moved else before.waits
        return Step("wait", _wait_seconds(waits, found), _waiting_for(found), 0, waits + 1)
    return Step("finalize", 0, "nothing is left to load", 0, 0)


def with_advice(reasons: str) -> str:
    """The reasons of a run's end, and that a start resumes it; not where they say themselves how to go on."""
    if "start again" in reasons or WITH_NO_RESUME in reasons:
        return reasons
    return f"{reasons}; fix the cause and start again: the run resumes, or says why a new one begins"


def _wait_seconds(waits: int, found: Outlook) -> int:
    grown = min(LONGEST_WAIT_SECONDS, 1 << min(waits, 9))
    if found.scanning or found.lease_seconds is None:
        return grown
    # Nothing can happen before the first lease ends, unless its worker finishes or dies sooner.
    return max(1, min(grown, int(found.lease_seconds) + 1))


def _waiting_for(found: Outlook) -> str:
    parts = []
    if found.scanning:
        parts.append(f"{found.scanning} scans are under way in Snowflake")
    if found.running:
        parts.append(f"{found.running} chunks are with living workers")
    return ", ".join(parts)
