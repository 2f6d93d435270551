"""Whether a run that is on moves, waits or stands still, and what it waits for: judged by its marks in PostgreSQL."""

from typing import Literal

from snowmelt.models import Value

QUIET_SECONDS = 900.0
"""As long as an invocation may take: a driver and workers that are alive may be silent for so long."""


class Vitals(Value):
    """What PostgreSQL knows of a run that is on; times are seconds ago, by the server's clock."""

    driver: str | None
    """The execution or process that drives the run."""
    driver_is_alive: bool
    driver_seen_seconds: float | None
    pending: int
    """Chunks that wait for a worker."""
    loading: int
    """Chunks with a worker whose session is there."""
    lost: int
    """Chunks whose worker's session is gone."""
    oldest_load_seconds: float | None
    """Since the oldest of the loading chunks was claimed."""
    last_step_seconds: float
    """Since a chunk was claimed or completed, or the run began."""
    scanning: int
    """Tables that Snowflake is at work on."""
    blocked_by: tuple[str, ...] = ()
    """Sessions in PostgreSQL that hold what workers wait for, each with since when and how to end it."""


class Pulse(Value):
    """The judgement, and a sentence for a person in the night."""

    state: Literal["moves", "waits", "stands still"]
    says: str


def judge(vitals: Vitals) -> Pulse:
    """What the vitals come to."""
    step = f"the last step was {_ago(vitals.last_step_seconds)}"
    if not vitals.driver_is_alive:
        seen = f", last seen {_ago(vitals.driver_seen_seconds)}" if vitals.driver_seen_seconds is not None else ""
        return Pulse(
            state="stands still",
            says=f"nobody drives it: {vitals.driver or 'its driver'} is gone{seen}; start again, and it resumes",
        )
    if vitals.blocked_by:
        return Pulse(
            state="waits",
            says=f"a worker waits for a lock that is held by {'; and by '.join(vitals.blocked_by)}; or wait: the "
            "attempt gives up after a minute and is made again",
        )
    if vitals.loading:
        oldest = f"the oldest for {_time(vitals.oldest_load_seconds or 0)}"
        chunks = f"{vitals.loading} chunk{'s' * (vitals.loading > 1)} being loaded, {oldest}"
        return Pulse(state="moves", says=f"{chunks}; {step}")
    if vitals.scanning:
        tables = f"{vitals.scanning} table{'s' * (vitals.scanning > 1)}"
        return Pulse(state="waits", says=f"Snowflake scans {tables}; {step}; see its query history if that takes long")
    if vitals.lost:
        return Pulse(
            state="waits", says=f"{vitals.lost} chunks have lost their worker; the next round frees them; {step}"
        )
    if vitals.last_step_seconds > QUIET_SECONDS:
        return Pulse(
            state="stands still",
            says=f"its driver {vitals.driver} lives, but {step} and no worker is at work on {vitals.pending} chunks; "
            "look at the function's log: throttling, time-outs, memory, network",
        )
    return Pulse(state="moves", says=f"between two rounds, {vitals.pending} chunks to come; {step}")


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{_time(seconds)} ago"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
