"""How long an invocation may go on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol


class LambdaContext(Protocol):
    """The one thing that is asked of the Lambda context."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the runtime is killed."""
        ...


@dataclass(frozen=True)
class Deadline:
    """The moment by which an invocation must have stopped in order, on this process's monotonic clock.

    ``hard_seconds`` is when the runtime itself is killed; ``buffer_seconds`` before that, work stops.
    """

    hard_seconds: float
    buffer_seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic
    given_seconds: float = 0.0
    """How long the invocation had when it was told of its end."""

    @classmethod
    def after(
        cls, seconds: float, *, buffer_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> "Deadline":
        """A deadline that many seconds from now."""
        return cls(clock() + seconds, buffer_seconds, clock, given_seconds=seconds)

    @classmethod
    def of_invocation(cls, context: LambdaContext) -> "Deadline":
        """The deadline AWS Lambda set for this invocation."""
        return cls.after(context.get_remaining_time_in_millis() / 1000)

    def with_buffer(self, buffer_seconds: float) -> "Deadline":
        """The same end, with that much kept back for an orderly exit."""
        return replace(self, buffer_seconds=buffer_seconds)

    def lifetime_seconds(self) -> float:
        """Seconds until the runtime is killed; what a lease lasts."""
        return self.hard_seconds - self.clock()

    def is_shorter_than(self, seconds: float) -> bool:
        """Whether the invocation never had that much time for its work, however early it is asked."""
        return 0 < self.given_seconds < self.buffer_seconds + seconds

    def remaining_seconds(self) -> float:
        """Seconds of work left, never negative."""
        return max(0.0, self.lifetime_seconds() - self.buffer_seconds)

    def allows(self, seconds: float) -> bool:
        """Whether work that takes that long can be finished in order."""
        return self.remaining_seconds() > seconds
