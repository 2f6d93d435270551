"""Decide how many chunks are loaded at once where PostgreSQL gives few connections."""

from collections.abc import Sequence
from dataclasses import dataclass

from snowmelt.wording import counted

SPARE = 1
"""Connections that are left beside those of the workers: verification's, a build of an index, someone's who looks."""
FEWEST = 4
"""Connections of a run with one worker: its driver, its planner, the worker, and the spare one."""


@dataclass(frozen=True)
class Limit:
    """How many connections the server, the role or the database gives to the user, and who has them."""

    whose: str
    raised_by: str
    """The statement that sets it, ending where the number comes."""
    most: int
    taken: int
    """With the session that asks, the driver's, and those of the run's own workers."""
    reserved: int = 0
    """Connections beyond ``most`` that the number in that statement counts too."""
    workers: int = 0
    """Those of ``taken`` that the run's own workers have."""

    @property
    def free(self) -> int:
        """How many are left."""
        return max(0, self.most - self.taken)

    @property
    def for_workers(self) -> int:
        """How many the run's workers may have together, when the planner and the driver keep theirs."""
        return self.free + self.workers - SPARE


@dataclass(frozen=True)
class Budget:
    """How many chunks may be loaded at once; with the reason where that is less than was asked for."""

    workers: int
    reason: str = ""


def budget(limits: Sequence[Limit], wanted: int) -> Budget:
    """Give the workers that were asked for, or as many as the tightest limit leaves; one in any case."""
    tightest = min(limits, key=lambda limit: limit.for_workers, default=None)
    if tightest is None or tightest.for_workers >= wanted:
        return Budget(wanted)
    workers = max(1, tightest.for_workers)
    others = tightest.taken - tightest.workers
    reason = (
        f"{tightest.whose} gives {counted(tightest.most, 'connection')}, of which {others} "
        f"{'is' if others == 1 else 'are'} taken: {counted(workers, 'chunk')} instead of {wanted} "
        f"{'is' if workers == 1 else 'are'} loaded at once, so that planning and verifying have theirs; lower "
        f"parallel_threads, or raise the limit: {tightest.raised_by} {others + SPARE + wanted + tightest.reserved}"
    )
    return Budget(workers, reason)
