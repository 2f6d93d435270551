"""What a migration costs on AWS: the measured work of a worker, and list prices."""

from dataclasses import dataclass
from math import ceil

from snowmelt.engine import work_items
from snowmelt.engine.work_items import PendingChunk
from snowmelt.reports.cost import Prices

VCPU_MB = 1769
"""Memory with which AWS Lambda gives a whole processor."""
ACTIONS_BESIDE_ITEMS = 20
"""Invocations that validate, plan and finalize: a generous number."""
SECONDS_PER_ACTION = 5.0
TRANSITIONS_BESIDE_ITEMS = 100
"""Of the state machine itself, some for each round of planning: generous too."""
TRANSITIONS_PER_ITEM = 3
"""An iteration of the Map is started, enters its one state, and ends."""
PUTS = 20
"""Plans, row counts, a manifest for each round, the report."""


@dataclass(frozen=True)
class Work:
    """What a worker of one thread was measured to need for rows of 25 mixed columns."""

    seconds_per_million_rows: float
    """By the clock, with a processor of its own; what it waits for the servers included."""
    cpu_seconds_per_million_rows: float
    seconds_per_chunk: float = 0.04
    seconds_per_cold_start: float = 1.5


@dataclass(frozen=True)
class Shape:
    """How a deployment is set up and a run is cut."""

    rows: int = 272_000_000
    memory_mb: int = VCPU_MB
    rows_per_chunk: int = 500_000
    workers: int = 40

    @property
    def chunks(self) -> int:
        """Chunks of the run, all of one table."""
        return ceil(self.rows / self.rows_per_chunk)

    @property
    def items(self) -> int:
        """Work items that they are handed out in, as the planner does it."""
        pending = [PendingChunk(0, "T", chunk) for chunk in range(self.chunks)]
        return sum(1 for _ in work_items.plan(pending, workers=self.workers, slowest_seconds={}))


@dataclass(frozen=True)
class Estimate:
    """What it comes to; the warehouse, the target, log lines and traffic are not in it."""

    worker_seconds: float
    """Of all workers together, those that plan not counted."""
    gb_seconds: float
    requests: int
    state_transitions: int
    lambda_usd: float
    step_functions_usd: float
    s3_usd: float

    @property
    def usd(self) -> float:
        """All of it."""
        return self.lambda_usd + self.step_functions_usd + self.s3_usd

    def __str__(self) -> str:
        return (
            f"{self.worker_seconds:,.0f} s of workers; {self.gb_seconds:,.0f} GB-s and {self.requests:,} requests of "
            f"Lambda: {self.lambda_usd:.4f} USD; {self.state_transitions:,} state transitions: "
            f"{self.step_functions_usd:.4f} USD; S3: {self.s3_usd:.4f} USD; together {self.usd:.2f} USD"
        )


def estimate(work: Work, shape: Shape | None = None, prices: Prices | None = None) -> Estimate:
    """What a run costs. Pure: measured work in, dollars out.

    A worker is as slow as the slower of two: its servers, as they were measured, and its own share of a processor.
    """
    shape, prices = shape or Shape(), prices or Prices()
    items = shape.items
    # More than a whole processor is of no use to one thread.
    on_its_share = work.cpu_seconds_per_million_rows * max(1.0, VCPU_MB / shape.memory_mb)
    worker_seconds = (
        shape.rows / 1_000_000 * max(work.seconds_per_million_rows, on_its_share)
        + shape.chunks * work.seconds_per_chunk
        + min(shape.workers, items) * work.seconds_per_cold_start
    )
    requests = items + ACTIONS_BESIDE_ITEMS
    gb_seconds = (worker_seconds + ACTIONS_BESIDE_ITEMS * SECONDS_PER_ACTION) * shape.memory_mb / 1024
    state_transitions = items * TRANSITIONS_PER_ITEM + TRANSITIONS_BESIDE_ITEMS
    return Estimate(
        worker_seconds=worker_seconds,
        gb_seconds=gb_seconds,
        requests=requests,
        state_transitions=state_transitions,
        lambda_usd=gb_seconds * prices.lambda_gb_second + requests * prices.lambda_request,
        step_functions_usd=state_transitions * prices.state_transition,
        s3_usd=PUTS * prices.s3_put,
    )
